use kafka_protocol::messages::HeartbeatRequest;
use tidegate::kafka::handlers::heartbeat::VERSIONS;

use crate::support::{ask, broker_with_orders, group, settle, text};

#[test]
fn a_member_of_the_current_generation_is_alive_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    let joined = settle(&mut client, "alive");
    for version in VERSIONS {
        let beat = HeartbeatRequest::default()
            .with_group_id(group("alive"))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone());
        let mut code = |request: HeartbeatRequest| ask(&mut client, version, &request).error_code;
        assert_eq!(code(beat.clone()), 0);
        assert_eq!(code(beat.clone().with_generation_id(99)), 22);
        assert_eq!(code(beat.clone().with_member_id(text("nobody"))), 25);
        assert_eq!(code(beat.with_group_id(group("missing"))), 25);
    }
}
