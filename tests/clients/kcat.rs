//! `kcat`, as Debian ships it with librdkafka 2.0: old enough to send uncompressed batches, whatever it was told, to a
//! broker that does not advertise Produce from version 0 on.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

use harness::{Broker, Suite, suite};

use crate::stored::{check_stored_codecs, stored_codecs};

const LIMIT: Duration = Duration::from_secs(60);

fn kcat(broker: &Broker, arguments: &[&str]) -> String {
    let mut command = Command::new("kcat");
    command
        .args(["-b", &broker.tcp().to_string()])
        .args(arguments);
    suite::run(&mut command, LIMIT)
        .unwrap_or_else(|error| panic!("{error:#}\nthe broker's log ends:\n{}", broker.log_tail()))
}

fn found() -> bool {
    let suite = Suite { name: "kcat" };
    suite.need(suite::program("kcat", "-V")).is_some()
}

/// Lines of `key:value` that every codec makes smaller.
fn lines(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        let filler = "x".repeat(200);
        writeln!(text, "key-{}:value-{index}-{filler}", index % 7)
            .expect("a string can be written");
        text
    })
}

fn sorted(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

/// Sends `text` and reads it back from the start.
fn check_round_trip(broker: &Broker, topic: &str, text: &str, settings: &[&str]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(&file, text).expect("a temporary file can be written");
    let path = file.path().display().to_string();
    let send = [&["-P", "-t", topic, "-K", ":", "-l", &path], settings].concat();
    kcat(broker, &send);
    let read = kcat(
        broker,
        &[
            "-C",
            "-t",
            topic,
            "-o",
            "beginning",
            "-e",
            "-q",
            "-f",
            "%k:%s\n",
        ],
    );
    assert_eq!(sorted(&read), sorted(text), "{topic}");
}

#[test]
fn kcat_compresses_with_every_codec() {
    if !found() {
        return;
    }
    let broker = Broker::start();
    let codecs = ["gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let topic = format!("codec-{codec}");
        // A topic that exists: its creation is not what is tested here.
        broker
            .connect()
            .create_topic(&topic, 4, &[])
            .expect("the topic is created");
        check_round_trip(&broker, &topic, &lines(100), &["-z", codec]);
    }
    check_stored_codecs(&broker, &codecs);
}

#[test]
fn kcat_produces_idempotently_and_reads_by_group_and_time() {
    if !found() {
        return;
    }
    let broker = Broker::start();
    let text = lines(500);
    check_round_trip(
        &broker,
        "created-on-first-use",
        &text,
        &["-X", "enable.idempotence=true"],
    );
    assert_eq!(
        stored_codecs(&broker, "created-on-first-use"),
        BTreeSet::from([0])
    );
    let read = kcat(
        &broker,
        &[
            "-G",
            "readers",
            "created-on-first-use",
            "-e",
            "-q",
            "-f",
            "%k:%s\n",
        ]
        .into_iter()
        .chain(["-X", "auto.offset.reset=earliest"])
        .collect::<Vec<_>>(),
    );
    assert_eq!(sorted(&read), sorted(&text), "by group");
    // No record has a time before 1970, and −1 asks for the end.
    for (time, expected) in [("1", "offset 0"), ("-2", "offset 0")] {
        let answer = kcat(
            &broker,
            &["-Q", "-t", &format!("created-on-first-use:0:{time}")],
        );
        assert!(answer.contains(expected), "time {time}: {answer}");
    }
    let listed = kcat(&broker, &["-L"]);
    assert!(
        listed.contains("topic \"created-on-first-use\" with 4 partitions"),
        "{listed}"
    );
}
