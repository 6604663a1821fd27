//! Histories that a broken broker would make.

use super::*;
use crate::wire::Content;

fn target() -> Target {
    Target {
        topic: "topic".into(),
        incarnation: 1,
        partition: 0,
    }
}

fn reads(found: &[(i64, u64)]) -> Vec<Read> {
    let of = |(offset, number): &(i64, u64)| Read {
        offset: *offset,
        content: Content::Record(*number),
        transaction: None,
    };
    found.iter().map(of).collect()
}

fn judge(recording: &mut Recording) -> Vec<Anomaly> {
    recording.judge(&BTreeMap::from([(partition_of(&target()), 0)]), true)
}

/// Two records at 0 and 1, of a client whose `acks` are these; then the end of the broker.
fn begun(acks: i16, has_lost: bool) -> Recording {
    let mut recording = Recording::default();
    let id = recording.send(Sender::Plain { acks }, &target(), &[10, 11]);
    recording.acknowledge(id, 0);
    recording.crash(has_lost);
    recording
}

#[test]
fn what_every_reader_is_given_is_right() {
    let mut recording = begun(-1, true);
    recording.look(&target(), (0, 2), (&reads(&[(0, 10), (1, 11)]), None));
    assert_eq!(judge(&mut recording), []);
}

#[test]
fn what_is_below_the_start_may_be_gone() {
    let mut recording = begun(-1, true);
    recording.look(&target(), (1, 2), (&reads(&[(1, 11)]), None));
    let starts = BTreeMap::from([(partition_of(&target()), 1)]);
    assert_eq!(recording.judge(&starts, true), []);
}

#[test]
fn a_lost_record_is_found() {
    let mut recording = begun(-1, true);
    recording.look(&target(), (0, 2), (&reads(&[(0, 10)]), None));
    let found = judge(&mut recording);
    assert!(
        matches!(found[..], [Anomaly::Lost { value: 11, .. }]),
        "{found:?}"
    );
}

#[test]
fn a_loss_of_power_may_take_what_was_not_synced_and_the_end_of_a_process_may_not() {
    let mut recording = begun(1, true);
    recording.look(&target(), (0, 1), (&reads(&[(0, 10)]), None));
    assert_eq!(judge(&mut recording), []);
    let mut recording = begun(1, false);
    recording.look(&target(), (0, 1), (&reads(&[(0, 10)]), None));
    let found = judge(&mut recording);
    assert!(
        matches!(found[..], [Anomaly::Unseen { value: 11, .. }]),
        "{found:?}"
    );
}

#[test]
fn what_nobody_has_read_yet_is_not_missed_before_the_end() {
    let mut recording = begun(-1, false);
    let starts = BTreeMap::from([(partition_of(&target()), 0)]);
    assert_eq!(recording.judge(&starts, false), []);
}

#[test]
fn a_doubled_record_is_found() {
    let mut recording = Recording::default();
    recording.send(Sender::Idempotent(0), &target(), &[10]);
    let id = recording.send(Sender::Idempotent(0), &target(), &[10]);
    recording.acknowledge(id, 1);
    recording.look(&target(), (0, 2), (&reads(&[(0, 10), (1, 10)]), None));
    let found = judge(&mut recording);
    let is_doubled = |found: &Anomaly| matches!(found, Anomaly::Duplicate { value: 10, .. });
    assert!(found.iter().any(is_doubled), "{found:?}");
}

#[test]
fn a_record_of_an_aborted_transaction_is_found_when_it_is_shown() {
    for (is_shown, expected) in [(false, 0), (true, 1)] {
        let mut recording = Recording::default();
        let id = recording.send(Sender::Transactional(0, 7), &target(), &[10]);
        recording.acknowledge(id, 0);
        let end = recording.end(0, 7, false);
        recording.ended(end, true);
        let mut seen = Committed::default();
        let side = match is_shown {
            true => &mut seen.shown,
            false => &mut seen.spared,
        };
        side.insert(10);
        recording.look(&target(), (0, 2), (&reads(&[(0, 10)]), Some(&seen)));
        let found = judge(&mut recording);
        let is_aborted = |found: &&Anomaly| matches!(found, Anomaly::AbortedRead { .. });
        assert_eq!(found.iter().filter(is_aborted).count(), expected);
        assert_eq!(found.len(), expected, "{found:?}");
    }
}

#[test]
fn a_fenced_instance_that_is_obeyed_is_found() {
    let mut recording = Recording::default();
    recording.send(Sender::Fenced(0), &target(), &[10]);
    recording.look(&target(), (0, 1), (&reads(&[(0, 10)]), None));
    let found = judge(&mut recording);
    assert!(
        matches!(found[..], [Anomaly::RefusedRead { .. }]),
        "{found:?}"
    );
}

#[test]
fn a_stopped_partition_is_not_judged_until_it_goes_on() {
    let mut recording = begun(-1, true);
    recording.look(&target(), (0, 2), (&reads(&[(0, 10)]), None));
    recording.note_stopped(&target(), true);
    assert_eq!(judge(&mut recording), []);
    let mut recording = begun(-1, true);
    recording.note_stopped(&target(), true);
    recording.note_stopped(&target(), false);
    assert_eq!(judge(&mut recording).len(), 2);
}
