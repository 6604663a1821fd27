use kafka_protocol::messages::JoinGroupRequest;
use tidegate::kafka::handlers::join_group::VERSIONS;

use crate::support::{ask, broker_with_orders, join_request, text};

#[test]
fn the_first_member_leads_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let group = format!("joined-in-{version}");
        let mut request = join_request(&group, "");
        if version == 0 {
            request.rebalance_timeout_ms = -1;
        }
        let mut joined = ask(&mut client, version, &request);
        if version >= 4 {
            assert_eq!(
                joined.error_code, 79,
                "the member must come back with its id"
            );
            assert!(!joined.member_id.is_empty());
            request.member_id = joined.member_id.clone();
            joined = ask(&mut client, version, &request);
        }
        assert_eq!(joined.error_code, 0, "version {version}");
        assert_eq!(
            (&joined.leader, joined.generation_id),
            (&joined.member_id, 1)
        );
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(&joined.members[0].metadata[..], b"subscription");
        let kind = joined.protocol_type.as_deref();
        assert_eq!(kind, (version >= 7).then_some("consumer"));
    }
}

#[test]
fn a_member_that_cannot_join_is_told_why() {
    let (_broker, mut client) = broker_with_orders();
    let mut code = |request: JoinGroupRequest| ask(&mut client, 5, &request).error_code;
    assert_eq!(code(join_request("", "")), 24);
    assert_eq!(code(join_request("g", "nobody")), 25);
    assert_eq!(code(join_request("g", "").with_session_timeout_ms(1)), 26);
    assert_eq!(code(join_request("g", "").with_session_timeout_ms(-5)), 26);
    assert_eq!(code(join_request("g", "").with_protocols(Vec::new())), 23);
}

#[test]
fn a_static_member_keeps_its_place() {
    let (_broker, mut client) = broker_with_orders();
    let request = join_request("static", "").with_group_instance_id(Some(text("one")));
    let joined = ask(&mut client, 5, &request);
    assert_eq!(
        joined.error_code, 0,
        "a static member needs no second round"
    );
    assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("one"));
}
