use harness::Broker;
use kafka_protocol::messages::{CreateAclsRequest, DescribeAclsRequest};
use tidegate::kafka::handlers::describe_acls::VERSIONS;

use crate::create_acls::{allow_read, broker_with_authorization};
use crate::support::{ask, text};

const ANY: i8 = 1;
const MATCH: i8 = 2;

/// A filter that every ACL passes.
fn everything() -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(ANY)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY)
}

#[test]
fn acls_are_found_by_every_filter_in_every_version() {
    let (_broker, mut client) = broker_with_authorization();
    let creations = vec![
        allow_read("orders", 3),
        allow_read("ord", 4),
        allow_read("*", 3),
    ];
    let create = CreateAclsRequest::default().with_creations(creations);
    ask(&mut client, 3, &create);
    for version in VERSIONS {
        let mut names = |request: DescribeAclsRequest| {
            let found = ask(&mut client, version, &request);
            assert_eq!(found.error_code, 0);
            let mut names: Vec<_> = found
                .resources
                .iter()
                .map(|r| r.resource_name.to_string())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(everything()), ["*", "ord", "orders"]);
        let named = everything().with_resource_name_filter(Some(text("orders")));
        assert_eq!(names(named.clone()), ["orders"]);
        assert_eq!(
            names(named.with_pattern_type_filter(MATCH)),
            ["*", "ord", "orders"]
        );
        let bob = everything().with_principal_filter(Some(text("User:bob")));
        assert!(names(bob).is_empty());
    }
    let unknown = everything().with_operation(0);
    assert_eq!(ask(&mut client, 3, &unknown).error_code, 42);
}

#[test]
fn where_nothing_is_enforced_no_rule_is_told() {
    let broker = Broker::start();
    for version in VERSIONS {
        let answer = ask(&mut broker.connect(), version, &everything());
        assert_eq!(answer.error_code, 54, "version {version}");
    }
}
