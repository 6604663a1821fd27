//! Frames that lie about themselves, and bytes that are no frames.

use std::time::Duration;

use harness::{RawClient, Seed, encode};
use kafka_protocol::messages::ApiVersionsRequest;

use crate::Victim;

const CLOSED_WITHIN: Duration = Duration::from_secs(10);

fn metadata_frame() -> Vec<u8> {
    let request = kafka_protocol::messages::MetadataRequest::default();
    encode(1, 9, &request)
        .expect("the request can be encoded")
        .to_vec()
}

#[test]
fn a_frame_cut_by_the_end_of_its_connection() {
    let mut victim = Victim::start();
    let whole = metadata_frame();
    for length in 0..whole.len() {
        let mut client = victim.connect();
        client
            .send_raw(&whole[..length])
            .expect("bytes can be sent");
    }
    victim.check("cut frames");
}

#[test]
fn a_request_that_ends_inside_its_frame() {
    let mut victim = Victim::start();
    let whole = metadata_frame();
    for length in 4..whole.len() {
        let mut frame = whole[..length].to_vec();
        let announced = (length - 4) as u32;
        frame[..4].copy_from_slice(&announced.to_be_bytes());
        let mut client = victim.connect();
        client.send_raw(&frame).expect("bytes can be sent");
        answered_or_closed(&mut client, "a cut request");
    }
    victim.check("cut requests");
}

#[test]
fn lengths_that_no_frame_can_have_close_the_connection() {
    let mut victim = Victim::start();
    for length in [i32::MAX, 1 << 30, -1, i32::MIN, 0] {
        let mut client = victim.connect();
        client
            .send_raw(&length.to_be_bytes())
            .expect("bytes can be sent");
        // The broker may close, and so break the connection, before it has read these.
        let _ = client.send_raw(&[0; 1024]);
        assert!(
            client.closed_by_broker(CLOSED_WITHIN),
            "a frame of {length} bytes is waited for"
        );
    }
    victim.check("impossible lengths");
}

#[test]
fn garbage_and_other_protocols() {
    let mut victim = Victim::start();
    let mut seed = Seed::from_env("hostile garbage");
    let mut samples: Vec<Vec<u8>> = (0..100)
        .map(|_| {
            let length = seed.between(1, 4096) as usize;
            seed.bytes(length)
        })
        .collect();
    samples.push(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec());
    samples.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20));
    samples.push(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec());
    for sample in samples {
        let mut client = victim.connect();
        // The broker may close before it has read everything.
        let _ = client.send_raw(&sample);
    }
    victim.check("garbage");
}

#[test]
fn an_api_that_does_not_exist() {
    let mut victim = Victim::start();
    for key in [999_i16, -1, i16::MAX] {
        let request = ApiVersionsRequest::default();
        let mut frame = encode(7, 0, &request)
            .expect("the request can be encoded")
            .to_vec();
        frame[4..6].copy_from_slice(&key.to_be_bytes());
        let mut client = victim.connect();
        client.send_raw(&frame).expect("bytes can be sent");
        answered_or_closed(&mut client, "an unknown API");
    }
    victim.check("unknown APIs");
}

#[test]
fn a_version_that_does_not_exist() {
    const UNSUPPORTED_VERSION: [u8; 2] = [0, 35];
    let mut victim = Victim::start();
    // A client that is newer than the broker asks in its own version and is answered in version 0 (KIP-35).
    let request = ApiVersionsRequest::default();
    let mut frame = encode(7, 3, &request)
        .expect("the request can be encoded")
        .to_vec();
    frame[6..8].copy_from_slice(&99_i16.to_be_bytes());
    let mut client = victim.connect();
    client.send_raw(&frame).expect("bytes can be sent");
    let answer = client
        .receive_raw()
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(answer[..4], 7_i32.to_be_bytes(), "correlation id");
    assert_eq!(answer[4..6], UNSUPPORTED_VERSION, "error code");

    let mut frame = metadata_frame();
    frame[6..8].copy_from_slice(&99_i16.to_be_bytes());
    let mut client = victim.connect();
    client.send_raw(&frame).expect("bytes can be sent");
    answered_or_closed(&mut client, "Metadata of version 99");
    victim.check("unknown versions");
}

/// The broker must not leave a client waiting for ever.
pub fn answered_or_closed(client: &mut RawClient, what: &str) {
    client
        .set_answer_limit(CLOSED_WITHIN)
        .expect("the limit is not zero");
    if let Err(error) = client.receive_raw() {
        let waited = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!waited, "{what}: neither answered nor closed");
    }
}
