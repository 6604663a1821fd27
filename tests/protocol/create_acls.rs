use harness::{Broker, RawClient};
use kafka_protocol::messages::CreateAclsRequest;
use kafka_protocol::messages::create_acls_request::AclCreation;
use tidegate::kafka::handlers::create_acls::VERSIONS;

use crate::support::{ask, text};

/// Authorization is on, and whoever connects may do everything.
const OPEN: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[security]
authorization = true
super-users = ["User:ANONYMOUS"]
"#;

pub fn broker_with_authorization() -> (Broker, RawClient) {
    let broker = Broker::builder()
        .config(OPEN)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let client = broker.connect();
    (broker, client)
}

/// Allows `User:alice` to read a topic.
pub fn allow_read(topic: &str, pattern_type: i8) -> AclCreation {
    AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_resource_pattern_type(pattern_type)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3)
}

#[test]
fn right_acls_are_added_and_wrong_ones_named_in_every_version() {
    let (_broker, mut client) = broker_with_authorization();
    for version in VERSIONS {
        let creations = vec![
            allow_read("orders", 3),
            allow_read("orders", 2),
            allow_read("orders", 3).with_principal(text("alice")),
            allow_read("orders", 3).with_resource_type(4),
            allow_read(".", 4),
            allow_read(".", 3),
        ];
        let request = CreateAclsRequest::default().with_creations(creations);
        let results = ask(&mut client, version, &request).results;
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 42, 42, 42, 0, 17], "version {version}");
        assert!(
            results[2]
                .error_message
                .as_ref()
                .is_some_and(|m| m.contains("User:"))
        );
    }
}

#[test]
fn where_nothing_is_enforced_no_rule_is_taken() {
    let broker = Broker::start();
    let mut client = broker.connect();
    for version in VERSIONS {
        let creations = vec![allow_read("orders", 3)];
        let request = CreateAclsRequest::default().with_creations(creations);
        let result = ask(&mut client, version, &request).results.remove(0);
        assert_eq!(result.error_code, 54, "version {version}");
        let message = result.error_message.unwrap_or_default();
        assert!(message.contains("security.authorization"), "{message:?}");
    }
}
