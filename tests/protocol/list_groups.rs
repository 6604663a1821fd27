use kafka_protocol::messages::ListGroupsRequest;
use tidegate::kafka::handlers::list_groups::VERSIONS;

use crate::support::{ask, broker_with_orders, commit, settle, text};

#[test]
fn groups_are_listed_and_filtered_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    settle(&mut client, "members");
    commit(&mut client, "offsets-only", 0, 1);
    for version in VERSIONS {
        let mut list = |request: ListGroupsRequest| {
            let groups = ask(&mut client, version, &request).groups;
            let mut names: Vec<_> = groups.iter().map(|g| g.group_id.to_string()).collect();
            names.sort();
            names
        };
        let all = ListGroupsRequest::default();
        assert_eq!(list(all.clone()), ["members", "offsets-only"]);
        if version >= 4 {
            let stable = all.clone().with_states_filter(vec![text("stable")]);
            assert_eq!(list(stable), ["members"]);
        }
        if version >= 5 {
            let classic = all.clone().with_types_filter(vec![text("Classic")]);
            assert_eq!(list(classic).len(), 2);
            let consumer = all.with_types_filter(vec![text("consumer")]);
            assert!(list(consumer).is_empty());
        }
    }
}
