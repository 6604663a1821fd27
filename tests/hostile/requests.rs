//! Whole frames with a right header, whose body lies: counts of two thousand million, lengths past the end, random bytes.
//! Every API in every version that the broker advertises is asked.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use harness::{RawClient, Seed};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};

use crate::Victim;

/// An answer is not owed: a broker may close. It only must not hang, so this bounds a hang.
const LIMIT: Duration = Duration::from_secs(10);

/// Every advertised API with its lowest and highest version.
pub(crate) fn advertised(client: &mut RawClient) -> Vec<(i16, i16, i16)> {
    let response = client
        .request(0, &ApiVersionsRequest::default())
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(response.error_code, 0);
    let keys = response.api_keys.iter();
    keys.map(|api| (api.api_key, api.min_version, api.max_version))
        .collect()
}

pub(crate) fn frame(key: i16, version: i16, body: &[u8]) -> Option<Vec<u8>> {
    let api = ApiKey::try_from(key).ok()?;
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("hostile")));
    let mut frame = BytesMut::zeroed(4);
    header
        .encode(&mut frame, api.request_header_version(version))
        .ok()?;
    frame.put_slice(body);
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Some(frame.to_vec())
}

/// Sends `body` to every API in every version, each on a connection of its own.
fn check_everywhere(what: &str, mut body: impl FnMut() -> Vec<u8>) {
    let mut victim = Victim::start();
    let apis = advertised(&mut victim.connect());
    assert!(apis.len() > 10, "only {apis:?} are advertised");
    for (key, lowest, highest) in apis {
        for version in lowest..=highest {
            let Some(frame) = frame(key, version, &body()) else {
                continue;
            };
            let mut client = victim.connect();
            client
                .set_answer_limit(LIMIT)
                .expect("the limit is not zero");
            client.send_raw(&frame).expect("bytes can be sent");
            if let Err(error) = client.receive_raw() {
                let waited = error
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                assert!(
                    !waited,
                    "{what}: API {key} version {version}: neither answered nor closed"
                );
            }
        }
    }
    victim.check(what);
}

#[test]
fn counts_of_two_thousand_million() {
    // As a plain array count, and again and again for those behind other fields.
    check_everywhere("counts of 2^31 - 1", || [0x7f, 0xff, 0xff, 0xff].repeat(16));
}

#[test]
fn compact_counts_of_four_thousand_million() {
    check_everywhere("compact counts of 2^32 - 1", || {
        [0xff, 0xff, 0xff, 0xff, 0x0f].repeat(16)
    });
}

#[test]
fn integers_without_an_end() {
    check_everywhere("integers without an end", || vec![0xff; 64]);
}

#[test]
fn no_body_at_all() {
    check_everywhere("no body", Vec::new);
}

#[test]
fn random_bodies() {
    let mut seed = Seed::from_env("hostile random bodies");
    check_everywhere("random bodies", || {
        let length = seed.between(1, 300) as usize;
        seed.bytes(length)
    });
}
