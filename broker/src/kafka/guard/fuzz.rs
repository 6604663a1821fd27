//! Fuzzing of request decoding. Input: API key (1 byte), version (1), the request's bytes; key 255: a request header.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Request};

/// The key under which request headers are decoded.
const HEADER: u8 = u8::MAX;

/// The requests that the broker decodes; a test compares them with the table of APIs.
macro_rules! requests {
    ($($request:ident)*) => {
        /// Their API keys.
        #[cfg(test)]
        pub const KEYS: &[i16] = &[$(<$request as Request>::KEY),*];

        fn decode_any(key: i16, version: i16, body: Bytes) {
            $(if key == <$request as Request>::KEY {
                return check::<$request>(version, body);
            })*
        }
    };
}

requests! {
    ApiVersionsRequest MetadataRequest ProduceRequest FetchRequest ListOffsetsRequest CreateTopicsRequest
    DeleteTopicsRequest DeleteRecordsRequest CreatePartitionsRequest DescribeConfigsRequest IncrementalAlterConfigsRequest
    AlterConfigsRequest DescribeClusterRequest FindCoordinatorRequest JoinGroupRequest SyncGroupRequest
    HeartbeatRequest LeaveGroupRequest OffsetCommitRequest OffsetFetchRequest DescribeGroupsRequest ListGroupsRequest
    DeleteGroupsRequest OffsetDeleteRequest InitProducerIdRequest SaslHandshakeRequest SaslAuthenticateRequest CreateAclsRequest
    DescribeAclsRequest DeleteAclsRequest DescribeLogDirsRequest AddPartitionsToTxnRequest AddOffsetsToTxnRequest
    EndTxnRequest WriteTxnMarkersRequest TxnOffsetCommitRequest DescribeProducersRequest DescribeTransactionsRequest
    ListTransactionsRequest DeleteRecordsRequest
}

/// The target: what is decoded equals what the plain decoder reads, and survives being written and read again.
pub fn request(input: &[u8]) {
    let [key, version, body @ ..] = input else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    if *key == HEADER {
        let mut rest = body;
        let _ = super::decode_prefix(&mut rest, i16::from(version % 3));
    } else {
        decode_any(i16::from(*key), i16::from(*version), body);
    }
}

fn check<T: Request + PartialEq + Debug>(version: i16, body: Bytes) {
    if !(T::VERSIONS.min..=T::VERSIONS.max).contains(&version) {
        return;
    }
    let Ok(request) = super::decode::<T>(body.clone(), version) else {
        return;
    };
    // Only now that the guard has found its announcements true.
    let plain = <T as Decodable>::decode(&mut body.clone(), version);
    assert_eq!(plain.as_ref().ok(), Some(&request), "the plain decoder");
    let mut written = BytesMut::new();
    request
        .encode(&mut written, version)
        .expect("what was decoded can be encoded in the same version");
    let written = written.freeze();
    let plain = <T as Decodable>::decode(&mut written.clone(), version);
    assert_eq!(
        plain.as_ref().ok(),
        Some(&request),
        "written and read again"
    );
    match super::decode::<T>(written, version) {
        Ok(again) => assert_eq!(again, request, "written and read again under guard"),
        Err(error) => panic!("written and refused: {error}"),
    }
}
