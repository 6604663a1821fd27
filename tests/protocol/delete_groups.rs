use kafka_protocol::messages::DeleteGroupsRequest;
use tidegate::kafka::handlers::delete_groups::VERSIONS;

use crate::support::{ask, broker_with_orders, commit, group, settle};

#[test]
fn a_group_without_members_is_forgotten_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    settle(&mut client, "busy");
    for version in VERSIONS {
        commit(&mut client, "idle", 0, 1);
        let names = ["idle", "busy", "missing", "idle"];
        let request = DeleteGroupsRequest::default().with_groups_names(names.map(group).to_vec());
        let results = ask(&mut client, version, &request).results;
        let codes: Vec<_> = results
            .iter()
            .map(|r| (r.group_id.to_string(), r.error_code))
            .collect();
        let expected = [("idle", 0), ("busy", 68), ("missing", 69)];
        assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code)));
    }
}
