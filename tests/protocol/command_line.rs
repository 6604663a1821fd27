//! `tidegate transaction`: what an operator sees of transactions, and how one is ended from outside. `tidegate group
//! delete-offsets`: how a topic that a group left is forgotten.

use std::process::Command;

use harness::{Broker, RawClient, tidegate_binary};

use crate::support::{broker_with_orders, commit};
use crate::transactions::{add, batch_of, committed_view, init, produce};

fn transaction(broker: &Broker, arguments: &[&str]) -> (bool, String) {
    run(broker, "transaction", arguments)
}

/// Runs a command against the broker: whether it succeeded, and what it said.
fn run(broker: &Broker, command: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(tidegate_binary())
        .arg(command)
        .args(arguments)
        .args(["--bootstrap", &broker.tcp().to_string()])
        .output()
        .expect("the command runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

#[track_caller]
fn said(broker: &Broker, arguments: &[&str]) -> String {
    let (succeeded, said) = transaction(broker, arguments);
    assert!(succeeded, "{said}");
    said
}

/// A broker with an open transaction that has written offset 0 of partition 0 of `orders`.
fn broker_with_open() -> (Broker, RawClient) {
    let (broker, mut client) = broker_with_orders();
    let open = init(&mut client, "open");
    let batch = batch_of(open, 0, "value");
    assert_eq!(produce(&mut client, 12, Some("open"), (0, batch)), 0);
    (broker, client)
}

#[test]
fn open_transactions_are_listed_and_described() {
    let (broker, mut client) = broker_with_orders();
    let open = init(&mut client, "open");
    assert_eq!(add(&mut client, "open", open, 2), 0);
    init(&mut client, "idle");
    let all = said(&broker, &["list"]);
    assert!(all.contains("open") && all.contains("idle"), "{all}");
    for filter in [
        ["--state", "ongoing"],
        ["--id-pattern", "o.*"],
        ["--producer-id", &open.0.to_string()],
    ] {
        let ongoing = said(&broker, &[&["list"], &filter[..]].concat());
        assert!(
            ongoing.contains("Ongoing") && !ongoing.contains("idle"),
            "{filter:?}: {ongoing}"
        );
    }
    let old = said(&broker, &["list", "--open-longer-than", "1h"]);
    assert!(old.contains("no transactional ids"), "{old}");
    let (succeeded, wrong) = transaction(&broker, &["list", "--id-pattern", "("]);
    assert!(
        !succeeded && wrong.contains("regular expression"),
        "{wrong}"
    );
    let described = said(&broker, &["describe", "open", "--json"]);
    assert!(described.contains("orders"), "{described}");
}

#[test]
fn a_transaction_is_terminated_as_a_whole() {
    let (broker, mut client) = broker_with_open();
    said(&broker, &["terminate", "open"]);
    assert!(said(&broker, &["list", "--state", "Ongoing"]).contains("no transactional ids"));
    let (end, aborted) = committed_view(&mut client, 0);
    assert_eq!((end, aborted.len()), (2, 1));
    let (succeeded, missing) = transaction(&broker, &["terminate", "missing"]);
    assert!(
        !succeeded && missing.contains("no transactional id missing"),
        "{missing}"
    );
    assert!(!said(&broker, &["list"]).contains("missing"));
}

#[test]
fn only_what_no_coordinator_knows_hangs() {
    let (broker, mut client) = broker_with_open();
    let producers = said(&broker, &["describe-producers", "orders", "--json"]);
    assert!(producers.contains("\"open-from\": 0"), "{producers}");
    let elsewhere = said(
        &broker,
        &["describe-producers", "orders", "--partition", "1"],
    );
    assert!(elsewhere.contains("no producers"), "{elsewhere}");
    let find = ["find-hanging", "--older-than", "0ms"];
    assert!(said(&broker, &find).contains("no hanging transactions"));
    let place = ["--topic", "orders", "--partition", "0", "--start-offset"];
    let abort = |more: &[&str]| transaction(&broker, &[&["abort"], &place[..], more].concat());
    let (succeeded, nowhere) = abort(&["77"]);
    assert!(
        !succeeded && nowhere.contains("starts at offset 77"),
        "{nowhere}"
    );
    let (succeeded, known) = abort(&["0"]);
    assert!(
        !succeeded && known.contains("tidegate transaction terminate open"),
        "{known}"
    );
    assert_eq!(committed_view(&mut client, 0).0, 0, "nothing was ended");
    let (succeeded, aborted) = abort(&["0", "--force"]);
    assert!(succeeded, "{aborted}");
    assert_eq!(committed_view(&mut client, 0).0, 2);
}

#[test]
fn offsets_of_a_group_are_deleted_by_topic_and_partition() {
    let (broker, mut client) = broker_with_orders();
    for partition in 0..4 {
        commit(&mut client, "billing", partition, 7);
    }
    let group = |arguments: &[&str]| run(&broker, "group", arguments);
    let left = || group(&["describe", "billing"]).1.matches("orders").count();
    let delete = ["delete-offsets", "billing", "--topic"];
    let (succeeded, said) = group(&[&delete[..], &["orders:1,3"]].concat());
    assert!(succeeded && said.contains("2 offsets"), "{said}");
    assert_eq!(left(), 2);
    let (succeeded, said) = group(&[&delete[..], &["orders"]].concat());
    assert!(succeeded && said.contains("2 offsets"), "{said}");
    assert_eq!(left(), 0);
    let (succeeded, said) = group(&[&delete[..], &["orders"]].concat());
    assert!(!succeeded && said.contains("committed nothing"), "{said}");
}
