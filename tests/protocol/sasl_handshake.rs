use harness::Broker;
use kafka_protocol::messages::SaslHandshakeRequest;

use crate::support::{ask, text};

/// One listener that asks for a password, and authorization.
pub const SCRAM: &str = r#"
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

pub fn broker_with_scram() -> Broker {
    Broker::builder()
        .config(SCRAM)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_mechanism_must_be_one_of_the_listeners() {
    let broker = broker_with_scram();
    let mut client = broker.connect();
    for (name, code) in [("GSSAPI", 33), ("SCRAM-SHA-512", 33), ("SCRAM-SHA-256", 0)] {
        let request = SaslHandshakeRequest::default().with_mechanism(text(name));
        let answer = ask(&mut client, 1, &request);
        assert_eq!(answer.error_code, code, "{name}");
        assert_eq!(answer.mechanisms, [text("SCRAM-SHA-256")]);
    }
}

#[test]
fn a_listener_without_sasl_says_so() {
    let broker = Broker::start();
    let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    assert_eq!(ask(&mut broker.connect(), 1, &request).error_code, 34);
}
