//! Tagged fields that nobody knows yet are passed over (KIP-482): every API, in every flexible version, answers a request that
//! has some behind its end and in its header.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, DescribeClusterRequest, ListGroupsRequest, SaslAuthenticateRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use tidegate::kafka::apis::{APIS, Api};

use crate::existence::requests::{Named, generator};
use crate::existence::{broker_with_users, connect};

/// Small, above what is left of the frame, and the largest.
const UNKNOWN: [u32; 4] = [60, 300, 10_000, i32::MAX as u32];

fn put_varint(frame: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        frame.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    frame.put_u8(value as u8);
}

fn plain<R: Request>(version: i16, request: R) -> Vec<BytesMut> {
    let frame = harness::encode(1, version, &request);
    vec![frame.unwrap_or_else(|error| panic!("{error:#}"))]
}

/// Requests of one API that every version of it knows.
fn requests(key: ApiKey, version: i16) -> Vec<BytesMut> {
    match (generator(key), key) {
        (Some(generate), _) => generate(version, &Named::nothing()),
        (None, ApiKey::ListGroups) => plain(version, ListGroupsRequest::default()),
        (None, ApiKey::SaslAuthenticate) => plain(version, SaslAuthenticateRequest::default()),
        (None, ApiKey::DescribeCluster) => plain(version, DescribeClusterRequest::default()),
        (None, ApiKey::ApiVersions) => plain(
            version,
            ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("tests"))
                .with_client_software_version(StrBytes::from_static_str("1")),
        ),
        (None, _) => Vec::new(),
    }
}

/// The same request with unknown fields in place of the empty list at its end.
fn with_unknown(frame: &BytesMut) -> BytesMut {
    let (last, before) = frame.split_last().expect("a frame has bytes");
    assert_eq!(*last, 0, "no tagged fields yet");
    let mut longer = BytesMut::from(before);
    longer.put_u8(UNKNOWN.len() as u8);
    for tag in UNKNOWN {
        put_varint(&mut longer, tag);
        put_varint(&mut longer, 5);
        longer.put_slice(b"newer");
    }
    let length = longer.len() as u32 - 4;
    longer[..4].copy_from_slice(&length.to_be_bytes());
    longer
}

fn flexible_versions(api: &Api) -> impl Iterator<Item = i16> {
    let key = api.key;
    let versions = api.versions.clone();
    versions.filter(move |version| key.request_header_version(*version) >= 2)
}

#[test]
fn unknown_tagged_fields_are_passed_over_by_every_api() {
    let broker = broker_with_users();
    let mut client = connect(&broker, "stranger");
    let mut complaints = Vec::new();
    for api in APIS {
        for version in flexible_versions(api) {
            let requests = requests(api.key, version);
            if requests.is_empty() && api.key != ApiKey::ListTransactions {
                complaints.push(format!("{}: no request is made here", api.name));
            }
            for request in requests {
                let sent = client.send_raw(&with_unknown(&request));
                if sent.and_then(|()| client.receive_raw()).is_err() {
                    complaints.push(format!("{} version {version}: closed", api.name));
                    client = connect(&broker, "stranger");
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
