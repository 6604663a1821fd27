//! Hostile guests: each fault has its name, and nothing of it outlives its own call.

use std::process::Command;
use std::time::{Duration, Instant};

use tidegate::config::PluginConfig;
use tidegate::log::records::Record;
use tidegate::plugin::{FailureKind, OnPoison, Transformed};

use crate::support::{Fixture, pair, record};

/// Whether a failure is the expected one; texts of the runtime's own are matched by a part.
fn check(fixture: &Fixture, mode: &str, expected: &FailureKind) {
    fixture.deploy("good", "identity", &[]);
    // Told apart by a setting, so that this revision comes right before the hostile one.
    fixture.deploy("bad", "hostile", &[("mode", "copy"), ("before", mode)]);
    fixture.deploy("bad", "hostile", &[("mode", mode)]);
    let failure = fixture.transform("bad", &pair()).unwrap_err();
    assert_eq!(failure.name(), expected.name(), "{mode}: {failure}");
    let (told, part) = (failure.to_string(), expected.to_string());
    assert!(told.starts_with(&part), "{mode}: {told:?} is not {part:?}");

    let unchanged = Ok(Transformed::Unchanged);
    assert_eq!(fixture.transform("good", &pair()), unchanged, "{mode}");
    assert_eq!(
        fixture.transform_on("other", "bad", &pair()),
        unchanged,
        "{mode}: a fresh instance of the same plugin serves"
    );
    fixture.host.rollback("bad", None).unwrap();
    assert!(
        matches!(
            fixture.transform("bad", &pair()),
            Ok(Transformed::Replaced(_))
        ),
        "{mode}: the revision before it serves"
    );
}

#[test]
fn running_wild_is_named_and_contained() {
    let fixture = Fixture::new();
    let trap = |text: &str| FailureKind::Trap(text.into());
    for (mode, expected) in [
        ("loop", FailureKind::Deadline(20)),
        ("trap", trap("wasm `unreachable` instruction executed")),
        ("exit", trap("the plugin called exit")),
        ("recurse", trap("")),
        ("read-file", trap("unknown import: `wasi:filesystem/")),
        ("sleep", trap("unknown import: `wasi:")),
        ("allocate", FailureKind::Memory(16 << 20)),
        ("allocate-at-once", FailureKind::Memory(16 << 20)),
    ] {
        check(&fixture, mode, &expected);
    }
}

#[test]
fn wrong_answers_are_named_and_contained() {
    let fixture = Fixture::patient();
    for (mode, text) in [
        ("huge-output", "too much data is being copied"),
        ("large-output", "1572864 bytes of records, of at most "),
        ("huge-index", "300000 lengths, of at most "),
        (
            "length-beyond-data",
            "record 0: a value of 100 bytes, where 2 are left",
        ),
        (
            "negative-length",
            "record 0: a key of -2 bytes, where 3 are left",
        ),
        ("data-left-over", "1 bytes left over after 1 records"),
        ("lengths-left-over", "1 lengths left over after 1 records"),
        (
            "lengths-missing",
            "record 0: no header count length is left",
        ),
        ("negative-header-count", "record 0: -1 headers"),
        ("absurd-header-count", "record 0: 2147483647 headers"),
        ("null-header-name", "record 0: a null header name"),
        (
            "header-name-not-utf8",
            "record 0: a header name that is not UTF-8",
        ),
        ("timestamps-missing", "0 timestamps for 1 records"),
        ("timestamp-negative", "record 0: the timestamp -7"),
        (
            "source-out-of-range",
            "records made from record 2, of 2 records",
        ),
        (
            "sources-descending",
            "records made from record 0 out of order",
        ),
        (
            "sources-repeated",
            "records made from record 1 out of order",
        ),
        ("bitmap-short", "a bitmap of 0 bytes for 2 records"),
        ("bitmap-long", "a bitmap of 2 bytes for 2 records"),
        (
            "bitmap-spare-bits",
            "a bitmap with bits beyond its 2 records",
        ),
        ("reject-nothing", "a rejection of no record"),
        (
            "reject-out-of-range",
            "a rejection of record 2, of 2 records",
        ),
    ] {
        check(&fixture, mode, &FailureKind::BadOutput(text.into()));
    }
}

#[test]
fn a_loop_is_stopped_near_its_deadline() {
    let fixture = Fixture::new();
    fixture.deploy("bad", "hostile", &[("mode", "loop")]);
    // The bound is loose because other tests share the processor; the deadline itself counts this thread's time alone.
    let started = Instant::now();
    fixture.transform("bad", &pair()).unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(19));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn printing_without_end_is_cut_short_by_its_deadline_or_goes_on_unharmed() {
    let fixture = Fixture::new();
    fixture.deploy("flood", "hostile", &[("mode", "flood-log")]);
    let answer = fixture.transform("flood", &pair());
    assert!(
        matches!(
            answer,
            Ok(Transformed::Unchanged) | Err(FailureKind::Deadline(_))
        ),
        "{answer:?}"
    );
}

#[test]
fn faults_are_found_in_the_dry_run() {
    let fixture = Fixture::new();
    for (mode, text) in [
        ("loop", "in its dry run it ran past its deadline of 20 ms"),
        (
            "allocate",
            "in its dry run it asked for more than its memory limit",
        ),
        (
            "sources-repeated",
            "in its dry run it returned a wrong answer",
        ),
        ("loop-in-init", "in its dry run it ran past its deadline"),
        (
            "refuse-init",
            "in its dry run it cannot be started: its init failed: it does not want to",
        ),
    ] {
        let config = [("mode", mode), ("always", "")];
        let refusal = fixture.try_deploy("bad", "hostile", &config).unwrap_err();
        assert!(refusal.to_string().contains(text), "{mode}: {refusal}");
    }
    assert!(fixture.host.list().is_empty());
}

#[test]
fn repeated_faults_suspend_a_plugin_for_their_topic_until_a_probe_succeeds() {
    let fixture = Fixture::new();
    fixture.deploy("bad", "hostile", &[("mode", "trap")]);
    let other = || fixture.transform_on("other", "bad", &pair());
    let bad = || fixture.transform("bad", &pair()).unwrap_err().name();
    let suspended = || fixture.host.status()[0].suspended_topics.clone();
    for _ in 0..5 {
        assert_eq!(bad(), "trap");
    }
    assert_eq!(suspended(), ["hostile"]);
    assert_eq!(bad(), "suspended");
    assert_eq!(other(), Ok(Transformed::Unchanged), "another topic");
    fixture.clock.advance(5000);
    assert_eq!(bad(), "trap", "the probe");
    assert_eq!(bad(), "suspended");
    assert_eq!(suspended(), ["hostile"]);
    fixture.deploy("bad", "hostile", &[("mode", "poison")]);
    assert_eq!(
        fixture.transform("bad", &pair()),
        Ok(Transformed::Unchanged),
        "a new revision starts afresh"
    );
}

/// Records whose values are these.
fn values(values: &[&str]) -> Vec<Record> {
    (0..)
        .zip(values)
        .map(|(offset_delta, value)| Record {
            offset_delta,
            ..record(None, Some(value))
        })
        .collect()
}

#[test]
fn poison_records_are_their_senders_and_never_suspend_a_plugin() {
    let fixture = Fixture::new();
    fixture.deploy("mask", "hostile", &[("mode", "poison")]);
    let mut batch = vec!["good"; 500];
    (batch[77], batch[400]) = ("trap", "loop");
    let batch = values(&batch);
    for _ in 0..7 {
        let Ok(Transformed::Rejected(rejects)) = fixture.transform("mask", &batch) else {
            panic!("poison is rejected");
        };
        let found: Vec<_> = rejects.iter().map(|reject| reject.index).collect();
        assert!(
            !found.is_empty() && [77, 400].starts_with(&found),
            "{found:?}"
        );
        assert_eq!(rejects[0].code, "poison");
        assert!(
            rejects[0].message.contains("trapped: wasm `unreachable`"),
            "{}",
            rejects[0].message
        );
        let alone = fixture.transform("mask", &values(&["trap"]));
        assert!(matches!(alone, Ok(Transformed::Rejected(_))), "{alone:?}");
    }
    assert!(fixture.host.status()[0].suspended_topics.is_empty());
    assert_eq!(
        fixture.transform("mask", &pair()),
        Ok(Transformed::Unchanged)
    );
    let with = |on_poison| {
        let batch = values(&["good", "trap", "good"]);
        fixture.transform_with(on_poison, "hostile", "mask", &batch)
    };
    assert_eq!(with(OnPoison::Keep), Ok(Transformed::Unchanged));
    let kept = Transformed::Keep(vec![true, false, true]);
    assert_eq!(with(OnPoison::Drop), Ok(kept));
}

#[test]
fn what_is_too_much_at_once_is_put_to_the_plugin_in_parts() {
    let fixture = Fixture::new();
    fixture.deploy("hungry", "hostile", &[("mode", "hungry")]);
    for _ in 0..7 {
        let answer = fixture.transform("hungry", &values(&["good"; 64]));
        assert_eq!(answer, Ok(Transformed::Unchanged));
    }
    assert!(fixture.host.status()[0].suspended_topics.is_empty());
}

/// A batch of nothing but poison costs what the bounds on bisecting say, and is refused.
#[test]
fn bisecting_is_bounded() {
    let fixture = Fixture::new();
    fixture.deploy("mask", "hostile", &[("mode", "poison")]);
    let Ok(Transformed::Rejected(rejects)) = fixture.transform("mask", &values(&["trap"; 5000]))
    else {
        panic!("poison is rejected");
    };
    assert!(rejects.len() < 64, "{}", rejects.len());
    let started = Instant::now();
    fixture.transform("mask", &values(&["loop"; 5000])).unwrap();
    // 16 deadlines of 20 ms of processor time; other tests share the processor.
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn instances_share_a_bound_on_memory_and_a_call_that_meets_it_is_no_fault() {
    let fixture = Fixture::with(PluginConfig {
        max_total_memory_bytes: 8 << 20,
        ..PluginConfig::default()
    });
    fixture.deploy("hungry", "hostile", &[("mode", "hungry")]);
    for _ in 0..7 {
        let failure = fixture
            .transform("hungry", &values(&["good"; 10]))
            .unwrap_err();
        assert_eq!(
            failure,
            FailureKind::Overloaded(
                "plugin instances hold 8388608 bytes of memory (plugins.max-total-memory-bytes)"
                    .into()
            )
        );
    }
    assert!(fixture.host.status()[0].suspended_topics.is_empty());
    assert_eq!(
        fixture.transform("hungry", &values(&["good"])),
        Ok(Transformed::Unchanged)
    );
}

#[test]
fn many_threads_with_hostile_and_good_calls_get_their_own_answers() {
    let fixture = Fixture::new();
    fixture.deploy("bad", "hostile", &[("mode", "bitmap-short")]);
    fixture.deploy("good", "mask-fields", &[("mask", "a")]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let bad = fixture.transform("bad", &pair()).unwrap_err();
                    assert!(["bad-output", "suspended"].contains(&bad.name()), "{bad}");
                    let good = fixture.transform("good", &pair()[..1]).unwrap();
                    assert!(matches!(good, Transformed::Replaced(_)), "{good:?}");
                }
            });
        }
    });
    let status = fixture.host.status();
    assert!(status.iter().all(|plugin| plugin.idle_instances <= 16));
}

const ALONE: &str = "TIDEGATE_TEST_ALONE";

/// Resident memory, in kilobytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// In a process of its own, because other tests' memory comes and goes.
#[test]
fn memory_returns_after_hostile_calls() {
    if std::env::var_os(ALONE).is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "containment::memory_returns_after_hostile_calls"])
            .env(ALONE, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let fixture = Fixture::new();
    let modes = ["allocate", "recurse", "huge-output", "loop", "trap"];
    for mode in modes {
        fixture.deploy(mode, "hostile", &[("mode", mode)]);
    }
    let round = || {
        for mode in modes {
            fixture.clock.advance(60_000);
            fixture.transform(mode, &pair()).unwrap_err();
        }
    };
    round();
    let before = resident();
    for _ in 0..20 {
        round();
    }
    let after = resident();
    assert!(
        after <= before + before / 10,
        "{before} kB before, {after} kB after"
    );
}
