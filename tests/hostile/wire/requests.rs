//! Well-formed requests of every API that the broker serves, in any version.
//!
//! The protocol crate's decoders are turned into generators: they read from a buffer without end in which every length and
//! count is small and every string is short text. Names have at most three characters, so that no request names what an
//! honest client uses.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut, TryGetError};
use harness::{Seed, batch};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::buf::ByteBuf;
use kafka_protocol::protocol::{Decodable, Encodable, Message};

/// The bytes that a request of any kind can be decoded from.
struct Dream<'a>(&'a mut Seed);

impl Dream<'_> {
    fn small(&mut self) -> u8 {
        self.0.between(0, 3) as u8
    }
}

impl Buf for Dream<'_> {
    fn remaining(&self) -> usize {
        usize::MAX
    }
    fn chunk(&self) -> &[u8] {
        &[0; 16]
    }
    fn advance(&mut self, _count: usize) {}
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        // A length or count of 0 is null, which not every field may be.
        let is_null = self.0.between(0, 31) == 0;
        Ok(if is_null { 0 } else { 1 + self.small() })
    }
    fn try_get_i8(&mut self) -> Result<i8, TryGetError> {
        Ok(self.small() as i8)
    }
    fn try_get_i16(&mut self) -> Result<i16, TryGetError> {
        Ok(self.small().into())
    }
    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        Ok(self.small().into())
    }
    fn try_get_i64(&mut self) -> Result<i64, TryGetError> {
        Ok(match self.0.between(0, 3) {
            0 => -1,
            1 => self.0.between(0, 8) as i64,
            _ => self.0.number() as i64,
        })
    }
}

impl ByteBuf for Dream<'_> {
    fn peek_bytes(&mut self, range: Range<usize>) -> Bytes {
        vec![b'p'; range.len()].into()
    }
    fn get_bytes(&mut self, size: usize) -> Bytes {
        // Few names, so that requests meet what others made.
        vec![b'a' + self.small(); size].into()
    }
}

/// Makes requests.
pub struct Generator<'a>(pub &'a mut Seed);

impl Generator<'_> {
    /// A request's bytes behind its header; `None` for an API that is not known here.
    pub fn body(&mut self, key: i16, version: i16) -> Option<Vec<u8>> {
        let made = body_of(self.0, key, version)?;
        // Random bytes are no records: half of what is produced is a batch.
        let is_produce = key == ApiKey::Produce as i16;
        if is_produce && self.0.between(0, 1) == 0 {
            return Some(self.produce(version));
        }
        Some(made)
    }

    fn produce(&mut self, version: i16) -> Vec<u8> {
        let value = self.0.bytes(8);
        let data = produce_request::PartitionProduceData::default()
            .with_index(self.0.between(0, 2) as i32)
            .with_records(Some(batch::of_values(&[value])));
        let name = String::from_utf8_lossy(&[b'a' + self.0.between(0, 3) as u8]).into_owned();
        let topic = produce_request::TopicProduceData::default()
            .with_name(TopicName(name.into()))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(self.0.between(0, 2) as i16 - 1)
            .with_topic_data(vec![topic]);
        encoded(&request, version).unwrap_or_default()
    }
}

fn encoded<T: Encodable>(request: &T, version: i16) -> Option<Vec<u8>> {
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes, version).ok()?;
    Some(bytes.to_vec())
}

/// A request, or noise in a version that is advertised for old clients' sake and not served.
fn sample<T: Message + Decodable + Encodable>(seed: &mut Seed, version: i16) -> Vec<u8> {
    if !(T::VERSIONS.min..=T::VERSIONS.max).contains(&version) {
        return seed.bytes(16);
    }
    loop {
        let made = T::decode(&mut Dream(seed), version).ok();
        if let Some(bytes) = made.and_then(|request| encoded(&request, version)) {
            return bytes;
        }
    }
}

macro_rules! bodies {
    ($($name:ident $request:ident,)*) => {
        fn body_of(seed: &mut Seed, key: i16, version: i16) -> Option<Vec<u8>> {
            match ApiKey::try_from(key).ok()? {
                $(ApiKey::$name => Some(sample::<$request>(seed, version)),)*
                _ => None,
            }
        }
    };
}

bodies! {
    Produce ProduceRequest, Fetch FetchRequest, ListOffsets ListOffsetsRequest, Metadata MetadataRequest,
    OffsetCommit OffsetCommitRequest, OffsetFetch OffsetFetchRequest, FindCoordinator FindCoordinatorRequest,
    JoinGroup JoinGroupRequest, Heartbeat HeartbeatRequest, LeaveGroup LeaveGroupRequest, SyncGroup SyncGroupRequest,
    DescribeGroups DescribeGroupsRequest, ListGroups ListGroupsRequest, SaslHandshake SaslHandshakeRequest,
    ApiVersions ApiVersionsRequest, CreateTopics CreateTopicsRequest, DeleteTopics DeleteTopicsRequest,
    DeleteRecords DeleteRecordsRequest, InitProducerId InitProducerIdRequest,
    AddPartitionsToTxn AddPartitionsToTxnRequest, AddOffsetsToTxn AddOffsetsToTxnRequest, EndTxn EndTxnRequest,
    WriteTxnMarkers WriteTxnMarkersRequest, TxnOffsetCommit TxnOffsetCommitRequest, DescribeAcls DescribeAclsRequest,
    CreateAcls CreateAclsRequest, DeleteAcls DeleteAclsRequest, DescribeConfigs DescribeConfigsRequest,
    AlterConfigs AlterConfigsRequest, DescribeLogDirs DescribeLogDirsRequest, SaslAuthenticate SaslAuthenticateRequest,
    CreatePartitions CreatePartitionsRequest, DeleteGroups DeleteGroupsRequest, OffsetDelete OffsetDeleteRequest,
    IncrementalAlterConfigs IncrementalAlterConfigsRequest, DescribeCluster DescribeClusterRequest,
    DescribeProducers DescribeProducersRequest, DescribeTransactions DescribeTransactionsRequest,
    ListTransactions ListTransactionsRequest,
}
