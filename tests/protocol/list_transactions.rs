use std::process::Command;

use harness::tidegate_binary;
use kafka_protocol::messages::{ListTransactionsRequest, ProducerId};
use tidegate::kafka::handlers::list_transactions::VERSIONS;

use crate::support::{ask, broker_with_orders, text};
use crate::transactions::{add, init};

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
fn the_command_line_shows_what_is_open() {
    let (broker, mut client) = broker_with_orders();
    let open = init(&mut client, "open");
    assert_eq!(add(&mut client, "open", open, 2), 0);
    init(&mut client, "idle");
    let command = |arguments: &[&str]| {
        let output = Command::new(tidegate_binary())
            .args(arguments)
            .args(["--bootstrap", &broker.tcp().to_string()])
            .output()
            .expect("the command runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = command(&["transaction", "list"]);
    assert!(all.contains("open") && all.contains("idle"), "{all}");
    let ongoing = command(&["transaction", "list", "--state", "ongoing"]);
    assert!(
        ongoing.contains("Ongoing") && !ongoing.contains("idle"),
        "{ongoing}"
    );
    let described = command(&["transaction", "describe", "open", "--json"]);
    assert!(described.contains("orders"), "{described}");
}
