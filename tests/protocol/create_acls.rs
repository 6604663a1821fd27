use kafka_protocol::messages::CreateAclsRequest;
use kafka_protocol::messages::create_acls_request::AclCreation;
use tidegate::kafka::handlers::create_acls::VERSIONS;

use crate::support::{ask, broker_with_orders, text};

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
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let creations = vec![
            allow_read("orders", 3),
            allow_read("orders", 2),
            allow_read("orders", 3).with_principal(text("alice")),
            allow_read("orders", 3).with_resource_type(4),
        ];
        let request = CreateAclsRequest::default().with_creations(creations);
        let results = ask(&mut client, version, &request).results;
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 42, 42, 42], "version {version}");
        assert!(
            results[2]
                .error_message
                .as_ref()
                .is_some_and(|m| m.contains("User:"))
        );
    }
}
