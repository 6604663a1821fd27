//! What a connection may do before it has said who it is: next to nothing.

use std::time::Duration;

use harness::{Broker, encode};
use kafka_protocol::messages::MetadataRequest;

const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"
sasl-mechanisms = ["SCRAM-SHA-256"]

[admin]
bind = "127.0.0.1:0"
"#;

const CLOSED_WITHIN: Duration = Duration::from_secs(15);

fn broker() -> Broker {
    Broker::builder()
        .config(CONFIG)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_request_before_authentication_tells_nothing_and_ends_the_connection() {
    let broker = broker();
    let mut client = broker.connect();
    client
        .api_versions()
        .unwrap_or_else(|error| panic!("ApiVersions comes before authentication: {error:#}"));
    let frame = encode(2, 9, &MetadataRequest::default()).expect("the request can be encoded");
    client.send_raw(&frame).expect("bytes can be sent");
    assert!(client.closed_by_broker(CLOSED_WITHIN));
}

#[test]
fn a_large_frame_before_authentication_is_not_waited_for() {
    let broker = broker();
    let before = broker.memory_rss();
    let mut clients: Vec<_> = (0..20).map(|_| broker.connect()).collect();
    for client in &mut clients {
        let announced = (64_u32 << 20).to_be_bytes();
        client.send_raw(&announced).expect("bytes can be sent");
    }
    for client in &mut clients {
        assert!(
            client.closed_by_broker(CLOSED_WITHIN),
            "64 MiB are waited for"
        );
    }
    if let (Some(before), Some(after)) = (before, broker.memory_rss()) {
        assert!(after < before + (16 << 20), "{before} bytes became {after}");
    }
}

#[test]
fn a_client_that_never_authenticates_is_let_go() {
    let broker = broker();
    let mut client = broker.connect();
    client
        .api_versions()
        .unwrap_or_else(|error| panic!("{error:#}"));
    // The handshake's time is ten seconds unless configured.
    assert!(client.closed_by_broker(Duration::from_secs(30)));
}
