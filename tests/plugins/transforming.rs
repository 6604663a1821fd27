//! What transforms answer, and what of it the host takes.

use tidegate::log::records::Record;
use tidegate::plugin::{FailureKind, Transformed};

use crate::support::{Fixture, pair, record};

fn replaced(answer: Transformed) -> Vec<(u32, Record)> {
    match answer {
        Transformed::Replaced(records) => records,
        other => panic!("{other:?}"),
    }
}

#[test]
fn identity_changes_nothing() {
    let fixture = Fixture::new();
    fixture.deploy("id", "identity", &[]);
    for records in [pair(), vec![record(None, None); 1000], Vec::new()] {
        assert_eq!(
            fixture.transform("id", &records),
            Ok(Transformed::Unchanged)
        );
    }
}

#[test]
fn mask_fields_rewrites_values_and_leaves_the_rest_of_a_record_alone() {
    let fixture = Fixture::new();
    fixture.deploy(
        "mask",
        "mask-fields",
        &[("mask", "email"), ("drop-record-when", "kind=test")],
    );
    let mut records = pair();
    records[0].value = record(None, Some("{\"email\":\"a@b.c\", \"n\":1}")).value;
    records[1].value = record(None, Some("{\"kind\":\"test\"}")).value;
    records.push(record(Some("tombstone"), None));
    let mut masked = records[0].clone();
    masked.value = record(None, Some("{\"email\":\"***\", \"n\":1}")).value;
    let answer = replaced(fixture.transform("mask", &records).unwrap());
    assert_eq!(answer, [(0, masked), (2, records[2].clone())]);

    let dropped = fixture.transform("mask", &records[1..]);
    assert_eq!(dropped, Ok(Transformed::Keep(vec![false, true])));
    let Ok(Transformed::Rejected(rejects)) = fixture.transform("mask", &pair()) else {
        panic!("an empty value is not JSON");
    };
    assert_eq!(
        (rejects.len(), rejects[0].index, rejects[0].code),
        (1, 1, "malformed")
    );
}

/// Long strings are read sixteen bytes at a time, which only guests do.
#[test]
fn strings_are_read_to_their_end_whatever_their_length() {
    let fixture = Fixture::new();
    fixture.deploy("mask", "mask-fields", &[("mask", "card")]);
    let of = |card: &str, end: &str| -> Vec<Record> {
        (0..80)
            .map(|length| {
                let plain = "a#!]é~".chars().cycle().take(length).collect::<String>();
                let value = format!("{{\"note\":\"{plain}{end}{plain}\",\"card\":{card}}}");
                record(None, Some(&value))
            })
            .collect()
    };
    for end in ["", "\\\"", "\\\\", "\\u00e9"] {
        let answer = replaced(fixture.transform("mask", &of("1", end)).unwrap());
        let expected: Vec<_> = (0..).zip(of("\"***\"", end)).collect();
        assert_eq!(answer, expected, "{end}");
    }
    for end in ["\u{1f}", "\0", "\\x", "\""] {
        let Ok(Transformed::Rejected(rejects)) = fixture.transform("mask", &of("1", end)) else {
            panic!("{end:?} in a string was taken");
        };
        assert_eq!(rejects.len(), 80, "{end:?}");
    }
}

#[test]
fn records_cross_to_the_guest_and_back_without_loss() {
    let fixture = Fixture::new();
    fixture.deploy("copy", "hostile", &[("mode", "copy")]);
    let mut records = pair();
    records.push(record(None, None));
    records.push(record(Some(""), Some(&"x".repeat(300_000))));
    let answer = replaced(fixture.transform("copy", &records).unwrap());
    let expected: Vec<_> = (0..).zip(records).collect();
    assert_eq!(answer, expected);
}

#[test]
fn columns_that_are_not_asked_for_are_neither_sent_nor_overwritten() {
    let fixture = Fixture::new();
    fixture.deploy("blind", "hostile", &[("mode", "see-nothing")]);
    let answer = replaced(fixture.transform("blind", &pair()).unwrap());
    let expected: Vec<_> = (0..).zip(pair()).collect();
    assert_eq!(answer, expected);
}

#[test]
fn a_guests_errors_reach_the_caller_as_what_they_are() {
    let fixture = Fixture::new();
    for (mode, told) in [
        ("refuse", FailureKind::Refused("not today".into())),
        (
            "retry",
            FailureKind::CallError("try again after 250 ms".into()),
        ),
    ] {
        fixture.deploy(mode, "hostile", &[("mode", mode)]);
        assert_eq!(fixture.transform(mode, &pair()), Err(told));
    }
    fixture.deploy("book", "hostile", &[("mode", "reject-with-a-book")]);
    let Ok(Transformed::Rejected(rejects)) = fixture.transform("book", &pair()) else {
        panic!("it rejects");
    };
    assert_eq!(
        (rejects[0].index, rejects[0].code, rejects[0].message.len()),
        (1, "policy-denied", 1024)
    );
}

#[test]
fn a_batch_over_the_bound_is_refused_before_the_guest_sees_it() {
    let fixture = Fixture::new();
    fixture.deploy("id", "identity", &[]);
    let half = record(None, Some(&"x".repeat(5 << 20)));
    let refused = fixture.transform("id", &[half.clone(), half]);
    assert_eq!(
        refused,
        Err(FailureKind::Input(
            "its records come to more than 8388608 bytes (plugins.max_decompressed_bytes)".into()
        ))
    );
}

#[test]
fn a_standard_library_finds_the_same_world_everywhere() {
    let fixture = Fixture::new();
    fixture.deploy("std", "hostile", &[("mode", "standard-library")]);
    let told = |fixture: &Fixture| {
        let answer = replaced(fixture.transform("std", &pair()).unwrap());
        String::from_utf8(answer[0].1.value.clone().unwrap().to_vec()).unwrap()
    };
    let first = told(&fixture);
    assert!(
        first.starts_with("arguments 0 variables 0 seconds 0 order "),
        "{first}"
    );
    fixture.deploy(
        "std",
        "hostile",
        &[("mode", "standard-library"), ("again", "")],
    );
    assert_eq!(told(&fixture), first, "its randomness is always the same");
}

#[test]
fn guests_keep_metrics_within_a_bound() {
    let fixture = Fixture::new();
    fixture.deploy("flood", "hostile", &[("mode", "flood-metrics")]);
    assert_eq!(
        fixture.transform("flood", &pair()),
        Ok(Transformed::Unchanged)
    );
    assert_eq!(fixture.host.guest_series().len(), 64);
    let status = fixture.host.status();
    assert_eq!(status[0].metric_updates_dropped, 936);
}
