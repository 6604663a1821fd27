use kafka_protocol::messages::FindCoordinatorRequest;
use tidegate::kafka::handlers::find_coordinator::VERSIONS;

use crate::support::{ask, broker_with_orders, text};

#[test]
fn this_node_coordinates_groups_and_transactions_in_every_version() {
    let (broker, mut client) = broker_with_orders();
    let port = i32::from(broker.tcp().port());
    for version in VERSIONS {
        let kinds = if version >= 1 { 0..2 } else { 0..1 };
        for kind in kinds {
            let request = FindCoordinatorRequest::default().with_key_type(kind);
            if version < 4 {
                let found = ask(&mut client, version, &request.with_key(text("key")));
                assert_eq!((found.error_code, found.port), (0, port));
            } else {
                let request = request.with_coordinator_keys(vec![text("a"), text("b")]);
                let found = ask(&mut client, version, &request).coordinators;
                let keys: Vec<_> = found
                    .iter()
                    .map(|c| (&*c.key, c.error_code, c.port))
                    .collect();
                assert_eq!(keys, [("a", 0, port), ("b", 0, port)]);
            }
        }
    }
}

#[test]
fn a_type_of_key_that_nobody_coordinates_is_refused() {
    let (_broker, mut client) = broker_with_orders();
    let request = FindCoordinatorRequest::default()
        .with_key_type(2)
        .with_coordinator_keys(vec![text("share")]);
    let found = ask(&mut client, 6, &request).coordinators;
    assert_eq!((found[0].error_code, found[0].port), (42, -1));
}
