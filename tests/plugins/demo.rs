//! `tidegate demo`, the first thing that most people run: it plays to its end, and again in the same folder.

use std::process::Command;
use std::time::Duration;

use harness::{repository_root, suite, target_directory, tidegate_binary};

/// The plugins are built by it, too.
const LIMIT: Duration = Duration::from_secs(420);

#[test]
fn the_demo_plays_to_its_end_twice() {
    let data = tempfile::tempdir().expect("a folder");
    for turn in 1..=2 {
        let mut demo = Command::new(tidegate_binary());
        demo.args(["demo", "--once", "--data"])
            .arg(data.path())
            .env("CARGO_TARGET_DIR", target_directory())
            .current_dir(repository_root());
        let report = suite::run(&mut demo, LIMIT).unwrap_or_else(|error| panic!("{error:#}"));
        for promised in [
            "9371 records out to a group of two",
            "no state is in two partitions",
            "none got through",
            "TopicAuthorizationFailed",
        ] {
            assert!(report.contains(promised), "turn {turn}: {report}");
        }
    }
}
