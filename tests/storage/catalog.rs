//! What is left when the catalog is not the one that belongs to the log: every record, until somebody says otherwise.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::{Broker, batch, fetch_all, tidegate_binary};
use std::time::Duration;
use tidegate::catalog::{Catalog, STORE_FILE};

/// Produces one record to a new topic.
fn fill(broker: &Broker, topic: &str) {
    let mut client = broker.connect();
    client.create_topic(topic, 1, &[]).expect("created");
    let answer = client.produce(topic, 0, -1, batch::of_values(&[topic]));
    assert_eq!(answer.expect("answered").error_code, 0);
}

fn is_there(broker: &Broker, topic: &str) -> bool {
    let wait = Duration::from_secs(1);
    let fetched = fetch_all(&mut broker.connect(), &[(topic, 0, 0)], false, wait);
    let fetched = fetched.expect("answered");
    fetched[0].error_code == 0 && fetched[0].records.len() == 1
}

fn start(data: &Path) -> Broker {
    let started = Broker::builder().data(data).start();
    started.unwrap_or_else(|error| panic!("{error:#}"))
}

fn stop(mut broker: Broker) {
    let status = broker.stop().expect("it stops");
    assert!(status.success(), "{status}");
}

fn folders(data: &Path) -> usize {
    let entries = fs::read_dir(data.join("log")).expect("listed");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.len() == 36).count()
}

#[test]
fn a_catalog_that_is_lost_or_old_costs_no_records() {
    let directory = tempfile::tempdir().expect("a folder");
    let data = directory.path();
    let (catalog, old, new) = (data.join(STORE_FILE), data.join("old"), data.join("new"));
    let broker = start(data);
    fill(&broker, "early");
    stop(broker);
    fs::copy(&catalog, &old).expect("copied");
    let broker = start(data);
    fill(&broker, "late");
    stop(broker);

    fs::rename(&catalog, &new).expect("moved away");
    let refused = Broker::builder().data(data).start();
    let told = format!("{:#}", refused.expect_err("it does not start"));
    assert!(told.contains("bring back the catalog.redb"), "{told}");

    fs::copy(&old, &catalog).expect("copied");
    let broker = start(data);
    assert!(is_there(&broker, "early") && !is_there(&broker, "late"));
    assert!(broker.log_tail().contains("does not know the topic"));
    stop(broker);

    fs::copy(&new, &catalog).expect("copied");
    let broker = start(data);
    assert!(is_there(&broker, "early") && is_there(&broker, "late"));
    stop(broker);
}

#[test]
fn a_deletion_that_was_cut_short_is_finished() {
    let directory = tempfile::tempdir().expect("a folder");
    let data = directory.path();
    let broker = start(data);
    fill(&broker, "gone");
    stop(broker);
    let before = folders(data);
    Catalog::open(data)
        .and_then(|catalog| catalog.delete_topic("gone"))
        .expect("deleted in the catalog alone");
    let broker = start(data);
    assert_eq!(folders(data), before - 1);
    assert!(!is_there(&broker, "gone"));
}

#[test]
fn offline_tools_keep_their_hands_off_a_running_broker_and_make_nothing() {
    let directory = tempfile::tempdir().expect("a folder");
    let data = directory.path();
    let broker = start(data);
    fill(&broker, "orders");
    let log = |arguments: &[&str]| {
        let output = Command::new(tidegate_binary())
            .arg("log")
            .args(arguments)
            .arg("--data")
            .arg(data)
            .output()
            .expect("the command runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.success(), said)
    };
    let repair = ["repair", "--topic", "orders", "--partition", "0"];
    for arguments in [&["verify"][..], &["inspect"], &repair] {
        let (succeeded, said) = log(arguments);
        assert!(
            !succeeded && said.contains("stop it first"),
            "{arguments:?}: {said}"
        );
    }
    stop(broker);
    let (succeeded, said) = log(&["inspect", "--topic", "orders", "--partition", "7"]);
    assert!(!succeeded && said.contains("with a partition 7"), "{said}");
    let (succeeded, said) = log(&["inspect"]);
    assert!(succeeded && said.contains("orders-0"), "{said}");
    fs::remove_file(data.join(STORE_FILE)).expect("removed");
    for (arguments, succeeds) in [
        (&["verify"][..], true),
        (&["inspect"], false),
        (&repair, false),
    ] {
        assert_eq!(log(arguments).0, succeeds, "{arguments:?}");
    }
    assert!(!data.join(STORE_FILE).exists(), "nobody makes a catalog");
}
