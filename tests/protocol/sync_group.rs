use bytes::Bytes;
use kafka_protocol::messages::SyncGroupRequest;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use tidegate::kafka::handlers::sync_group::VERSIONS;

use crate::support::{ask, broker_with_orders, group, join_request, text};

#[test]
fn the_leaders_assignment_comes_back_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let name = format!("synced-in-{version}");
        let joined = ask(&mut client, 3, &join_request(&name, ""));
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(Bytes::from_static(b"mine"));
        let mut request = SyncGroupRequest::default()
            .with_group_id(group(&name))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id)
            .with_assignments(vec![assignment]);
        if version >= 5 {
            let unnamed = ask(&mut client, version, &request);
            assert_eq!(unnamed.error_code, 23, "the protocol must be named");
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = Some(text("range"));
        }
        let synced = ask(&mut client, version, &request);
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (0, &b"mine"[..])
        );
        request.generation_id += 1;
        assert_eq!(ask(&mut client, version, &request).error_code, 22);
    }
}
