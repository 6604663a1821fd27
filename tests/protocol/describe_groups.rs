use kafka_protocol::messages::DescribeGroupsRequest;
use tidegate::kafka::handlers::describe_groups::VERSIONS;

use crate::support::{ask, broker_with_orders, group, settle};

#[test]
fn a_stable_group_and_a_missing_one_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    let joined = settle(&mut client, "known");
    for version in VERSIONS {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![group("known"), group("missing")])
            .with_include_authorized_operations(version >= 3);
        let groups = ask(&mut client, version, &request).groups;
        let (known, missing) = (&groups[0], &groups[1]);
        assert_eq!(
            (&*known.group_state, &*known.protocol_data),
            ("Stable", "range")
        );
        assert_eq!(known.members[0].member_id, joined.member_id);
        assert_eq!(&known.members[0].member_assignment[..], b"everything");
        assert_eq!(known.authorized_operations > 0, version >= 3);
        let code = if version >= 6 { 69 } else { 0 };
        assert_eq!((&*missing.group_state, missing.error_code), ("Dead", code));
    }
}
