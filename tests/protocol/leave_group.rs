use kafka_protocol::messages::LeaveGroupRequest;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use tidegate::kafka::handlers::leave_group::VERSIONS;

use crate::support::{ask, broker_with_orders, group, settle, text};

#[test]
fn a_member_leaves_once_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let name = format!("left-in-{version}");
        let joined = settle(&mut client, &name);
        let request = LeaveGroupRequest::default().with_group_id(group(&name));
        if version < 3 {
            let request = request.with_member_id(joined.member_id);
            assert_eq!(ask(&mut client, version, &request).error_code, 0);
            assert_eq!(ask(&mut client, version, &request).error_code, 25);
            continue;
        }
        let member = |id| MemberIdentity::default().with_member_id(id);
        let members = vec![member(joined.member_id), member(text("nobody"))];
        let left = ask(&mut client, version, &request.with_members(members));
        let codes: Vec<_> = left
            .members
            .iter()
            .map(|member| member.error_code)
            .collect();
        assert_eq!((left.error_code, codes), (0, vec![0, 25]));
    }
}
