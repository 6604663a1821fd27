use harness::Broker;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest};
use tidegate::kafka::handlers::delete_acls::VERSIONS;

use crate::create_acls::{allow_read, broker_with_authorization};
use crate::support::{ask, text};

#[test]
fn what_a_filter_means_is_removed_and_told_in_every_version() {
    let (_broker, mut client) = broker_with_authorization();
    for version in VERSIONS {
        let creations = vec![allow_read("orders", 3), allow_read("others", 3)];
        ask(
            &mut client,
            3,
            &CreateAclsRequest::default().with_creations(creations),
        );
        let filter = |name: Option<&str>| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(2)
                .with_resource_name_filter(name.map(text))
                .with_pattern_type_filter(1)
                .with_principal_filter(None)
                .with_host_filter(None)
                .with_operation(1)
                .with_permission_type(1)
        };
        let filters = vec![
            filter(Some("orders")),
            filter(None),
            filter(None).with_permission_type(0),
        ];
        let request = DeleteAclsRequest::default().with_filters(filters);
        let results = ask(&mut client, version, &request).filter_results;
        let removed: Vec<Vec<_>> = results
            .iter()
            .map(|result| {
                result
                    .matching_acls
                    .iter()
                    .map(|acl| &*acl.resource_name)
                    .collect()
            })
            .collect();
        assert_eq!(removed, [vec!["orders"], vec!["others"], vec![]]);
        assert_eq!(results[2].error_code, 42);
    }
}

#[test]
fn where_nothing_is_enforced_no_rule_is_removed() {
    let broker = Broker::start();
    for version in VERSIONS {
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(1)
            .with_operation(1)
            .with_permission_type(1);
        let request = DeleteAclsRequest::default().with_filters(vec![filter]);
        let results = ask(&mut broker.connect(), version, &request).filter_results;
        assert_eq!(results[0].error_code, 54, "version {version}");
    }
}
