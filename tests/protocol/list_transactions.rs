use kafka_protocol::messages::{ListTransactionsRequest, ProducerId};
use tidegate::kafka::handlers::list_transactions::VERSIONS;

use crate::support::{ask, broker_with_orders, text};
use crate::transactions::{add, init};

const INVALID_REGULAR_EXPRESSION: i16 = 128;

#[test]
fn ids_are_listed_and_filtered_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    let open = init(&mut client, "open");
    assert_eq!(add(&mut client, "open", open, 0), 0);
    init(&mut client, "idle");
    for version in VERSIONS {
        let mut list = |states: &[&str], producers: &[i64], duration| {
            let request = ListTransactionsRequest::default()
                .with_state_filters(states.iter().map(|name| text(name)).collect())
                .with_producer_id_filters(producers.iter().map(|id| ProducerId(*id)).collect())
                .with_duration_filter(duration);
            let response = ask(&mut client, version, &request);
            let states = response.transaction_states.iter();
            let ids: Vec<_> = states.map(|s| s.transactional_id.to_string()).collect();
            (ids, response.unknown_state_filters.len())
        };
        assert_eq!(list(&[], &[], -1).0, ["idle", "open"], "version {version}");
        assert_eq!(list(&["Ongoing"], &[], -1).0, ["open"]);
        assert_eq!(list(&["Nonsense"], &[], -1), (vec![], 1));
        assert_eq!(list(&[], &[open.0], -1).0, ["open"]);
        if version >= 1 {
            assert!(list(&[], &[], 3_600_000).0.is_empty());
        }
    }
}

#[test]
fn ids_are_filtered_by_a_regular_expression() {
    let (_broker, mut client) = broker_with_orders();
    for id in ["billing-1", "billing-2", "shipping"] {
        init(&mut client, id);
    }
    let mut list = |pattern: Option<&str>| {
        let request = ListTransactionsRequest::default()
            .with_duration_filter(-1)
            .with_transactional_id_pattern(pattern.map(text));
        let response = ask(&mut client, 2, &request);
        let states = response.transaction_states.iter();
        let ids: Vec<_> = states.map(|s| s.transactional_id.to_string()).collect();
        (response.error_code, ids)
    };
    let all = ["billing-1", "billing-2", "shipping"];
    assert_eq!(list(None), (0, all.map(String::from).into()));
    assert_eq!(list(Some("")), (0, all.map(String::from).into()));
    assert_eq!(
        list(Some("bill.*|ship")),
        (0, all[..2].iter().map(ToString::to_string).collect())
    );
    assert_eq!(list(Some("(")), (INVALID_REGULAR_EXPRESSION, vec![]));
}
