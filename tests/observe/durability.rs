//! What is promised, and whether it is kept, is seen from outside: in the metrics and in what the commands print.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Broker, batch, tidegate_binary};

/// Runs `tidegate topic ARGUMENTS…` and answers what it prints.
fn topic(broker: &Broker, arguments: &[&str]) -> String {
    let output = Command::new(tidegate_binary())
        .arg("topic")
        .args(arguments)
        .args(["--bootstrap", &broker.tcp().to_string()])
        .output()
        .expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}{errors}");
    printed
}

fn partitions(broker: &Broker, durability: &str, state: &str) -> f64 {
    let labels = format!("durability=\"{durability}\",state=\"{state}\"");
    broker
        .metric("tidegate_log_partitions", &labels)
        .expect("every combination is exported")
}

/// Every file below a folder whose name ends so.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.to_string_lossy().ends_with(extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn partitions_are_counted_by_policy_and_by_state() {
    let mut broker = Broker::start();
    let before = partitions(&broker, "fsync", "accepting");
    topic(&broker, &["create", "synced", "--partitions", "2"]);
    let policy = "tidegate.durability=os";
    topic(
        &broker,
        &["create", "cached", "--partitions", "2", "--config", policy],
    );
    assert_eq!(partitions(&broker, "fsync", "accepting"), before + 2.0);
    assert_eq!(partitions(&broker, "os", "accepting"), 2.0);
    let said = topic(&broker, &["describe", "synced"]);
    assert!(said.contains("durability fsync: acks=all is answered after fdatasync"));
    let said = topic(&broker, &["describe", "cached"]);
    assert!(said.contains("durability os: acks=all is answered from the page cache"));

    let records = batch::of_values(&["kept"]);
    broker
        .connect()
        .produce("cached", 1, -1, records)
        .expect("acknowledged");
    broker.stop().expect("a clean stop");
    // What was synced is missing: no crash does that.
    for segment in files(&broker.data().join("log"), ".log") {
        let file = OpenOptions::new().write(true).open(segment);
        file.and_then(|file| file.set_len(4096)).expect("cut");
    }
    broker
        .restart()
        .expect("a damaged partition stops no broker");
    assert_eq!(partitions(&broker, "os", "damaged"), 1.0);
    assert_eq!(partitions(&broker, "os", "accepting"), 1.0);
    assert_eq!(partitions(&broker, "fsync", "damaged"), 0.0);
    assert_eq!(
        broker
            .metric("tidegate_partitions_stopped", "")
            .expect("exported"),
        1.0
    );
}
