use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ListGroupsRequest, SaslAuthenticateRequest, SaslHandshakeRequest};
use tidegate::kafka::handlers::sasl_authenticate::VERSIONS;

use crate::sasl_handshake::broker_with_scram;
use crate::support::{ask, text};

fn step(bytes: &'static [u8]) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(bytes))
}

#[test]
fn a_token_without_a_handshake_is_out_of_order_in_every_version() {
    let broker = broker_with_scram();
    for version in VERSIONS {
        let mut client = broker.connect();
        assert_eq!(
            ask(&mut client, version, &step(b"n,,n=a,r=b")).error_code,
            34
        );
    }
}

#[test]
fn a_wrong_proof_ends_the_connection_and_does_not_tell_name_from_password() {
    let broker = broker_with_scram();
    for version in VERSIONS {
        let mut client = broker.connect();
        let handshake = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
        assert_eq!(ask(&mut client, 1, &handshake).error_code, 0);
        let challenge = ask(&mut client, version, &step(b"n,,n=nobody,r=nonce"));
        assert_eq!(
            challenge.error_code, 0,
            "an unknown user gets a challenge like any other"
        );
        assert!(challenge.auth_bytes.starts_with(b"r=nonce"));
        let failed = ask(&mut client, version, &step(b"c=biws,r=nonce,p=AAAA"));
        assert_eq!(failed.error_code, 58);
        assert!(client.closed_by_broker(Duration::from_secs(5)));
    }
}

#[test]
fn nothing_else_is_answered_before_authentication() {
    let broker = broker_with_scram();
    let mut client = broker.connect();
    assert!(client.request(4, &ListGroupsRequest::default()).is_err());
}
