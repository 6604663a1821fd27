use super::*;
use crate::log::batch::BatchHeader;
use crate::log::codec::Reader;

const LIMITS: Limits = Limits {
    max_producers: 100,
    expiry_ms: 1000,
};

fn header(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        size: 100,
        leader_epoch: 0,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: count,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Next,
    Duplicate(Offset),
    Older,
    OutOfOrder(i32),
    Fenced(i16),
}

/// Feeds batches `(epoch, sequence, count)` of one producer; each must get its verdict, and is recorded when next.
fn check(what: &str, steps: &[(i16, i32, i32, Verdict)]) {
    let mut producers = Producers::default();
    let mut next_offset = 0;
    for (step, (epoch, sequence, count, expected)) in steps.iter().enumerate() {
        let header = header(7, *epoch, *sequence, *count);
        let verdict = match producers.check(&header, 0) {
            Ok(None) => Verdict::Next,
            Ok(Some(first)) => Verdict::Duplicate(first.base_offset),
            Err(AppendError::DuplicateSequence { .. }) => Verdict::Older,
            Err(AppendError::OutOfOrderSequence { expected, .. }) => Verdict::OutOfOrder(expected),
            Err(AppendError::FencedEpoch { current, .. }) => Verdict::Fenced(current),
            Err(error) => panic!("{what}, step {step}: {error}"),
        };
        assert_eq!(verdict, *expected, "{what}, step {step}");
        if verdict == Verdict::Next {
            let answer = Appended {
                base_offset: next_offset,
                last_offset: next_offset + i64::from(*count) - 1,
                log_append_time: None,
                log_start_offset: 0,
                duplicate: false,
            };
            producers.record(&header, &answer, 0, &LIMITS);
            next_offset += i64::from(*count);
        }
    }
}

#[test]
fn sequences_are_judged_as_kafka_does() {
    use Verdict::{Duplicate, Fenced, Next, Older, OutOfOrder};
    check(
        "in order",
        &[(0, 0, 3, Next), (0, 3, 1, Next), (0, 4, 9, Next)],
    );
    check(
        "a gap",
        &[(0, 0, 3, Next), (0, 4, 1, OutOfOrder(3)), (0, 3, 1, Next)],
    );
    check(
        "again",
        &[
            (0, 0, 3, Next),
            (0, 3, 2, Next),
            (0, 0, 3, Duplicate(0)),
            (0, 3, 2, Duplicate(3)),
        ],
    );
    let mut six: Vec<_> = (0..6).map(|n| (0, n * 2, 2, Next)).collect();
    six.extend([(0, 2, 2, Duplicate(2)), (0, 0, 2, Older), (0, 12, 1, Next)]);
    check("the sixth last is too old to be answered", &six);
    check(
        "other boundaries than at first",
        &[
            (0, 0, 4, Next),
            (0, 4, 4, Next),
            (0, 2, 4, OutOfOrder(8)),
            (0, 4, 2, OutOfOrder(8)),
        ],
    );
    check(
        "an unknown producer begins anywhere",
        &[(0, 500, 2, Next), (0, 502, 1, Next)],
    );
    check(
        "what an unknown producer sent before is not known to have come",
        &[
            (0, 500, 2, Next),
            (0, 498, 2, OutOfOrder(502)),
            (0, 0, 1, OutOfOrder(502)),
        ],
    );
    check(
        "an unknown producer with any epoch",
        &[(9, 3, 1, Next), (8, 4, 1, Fenced(9))],
    );
    check(
        "a new epoch begins at 0",
        &[
            (0, 0, 5, Next),
            (1, 5, 1, OutOfOrder(0)),
            (1, 0, 1, Next),
            (1, 1, 1, Next),
        ],
    );
    check(
        "an old epoch is fenced, even for a duplicate",
        &[
            (0, 0, 5, Next),
            (1, 0, 1, Next),
            (0, 0, 5, Fenced(1)),
            (0, 5, 1, Fenced(1)),
        ],
    );
    check(
        "sequences go round",
        &[
            (0, i32::MAX - 1, 2, Next),
            (0, 0, 3, Next),
            (0, i32::MAX - 1, 2, Duplicate(0)),
            (0, 3, 1, Next),
            (0, 5, 1, OutOfOrder(4)),
        ],
    );
    check(
        "a batch goes over the round",
        &[
            (0, i32::MAX, 3, Next),
            (0, 2, 1, Next),
            (0, i32::MAX, 3, Duplicate(0)),
        ],
    );
    let mut round: Vec<_> = vec![(0, i32::MAX - 2, 2, Next), (0, i32::MAX, 1, Next)];
    round.extend((0..5).map(|n| (0, n, 1, Next)));
    round.extend([
        (0, i32::MAX - 2, 2, Older),
        (0, i32::MAX, 1, Older),
        (0, 0, 1, Duplicate(3)),
    ]);
    check("older ones beyond the round", &round);
}

#[test]
fn producers_are_apart_and_batches_without_one_are_free() {
    let mut producers = Producers::default();
    let answer = Appended {
        base_offset: 0,
        last_offset: 0,
        log_append_time: None,
        log_start_offset: 0,
        duplicate: false,
    };
    producers.record(&header(1, 0, 0, 1), &answer, 0, &LIMITS);
    assert_eq!(producers.check(&header(2, 0, 9, 1), 0), Ok(None));
    assert_eq!(producers.check(&header(-1, -1, -1, 1), 0), Ok(None));
    producers.record(&header(-1, -1, -1, 1), &answer, 0, &LIMITS);
    assert_eq!(producers.len(), 1);
}

#[test]
fn the_number_of_producers_is_bounded_and_the_silent_go_first() {
    let mut producers = Producers::default();
    let answer = Appended {
        base_offset: 0,
        last_offset: 0,
        log_append_time: None,
        log_start_offset: 0,
        duplicate: false,
    };
    for id in 0..10_000 {
        producers.record(&header(id, 0, 0, 1), &answer, id, &LIMITS);
        // One that never falls silent.
        let sequence = i32::try_from(id).expect("small");
        producers.record(&header(1 << 40, 0, sequence, 1), &answer, id, &LIMITS);
        assert!(producers.len() <= 101, "{}", producers.len());
    }
    assert_eq!(producers.check(&header(1 << 40, 0, 10_000, 1), 0), Ok(None));
    assert!(producers.check(&header(1 << 40, 0, 10_002, 1), 0).is_err());
}

#[test]
fn silence_forgets() {
    let mut producers = Producers::default();
    let answer = Appended {
        base_offset: 0,
        last_offset: 0,
        log_append_time: None,
        log_start_offset: 0,
        duplicate: false,
    };
    producers.record(&header(1, 0, 0, 1), &answer, 0, &LIMITS);
    producers.record(&header(2, 0, 0, 1), &answer, 500, &LIMITS);
    producers.expire(1000, &LIMITS);
    assert_eq!(producers.len(), 2);
    producers.expire(1001, &LIMITS);
    assert_eq!(producers.len(), 1);
    assert_eq!(producers.check(&header(1, 0, 77, 1), 0), Ok(None));
}

#[test]
fn a_snapshot_is_exact() {
    let mut producers = Producers::default();
    let mut answer = Appended {
        base_offset: 10,
        last_offset: 12,
        log_append_time: Some(99),
        log_start_offset: 0,
        duplicate: false,
    };
    for sequence in 0..7 {
        producers.record(&header(1, 2, sequence, 1), &answer, 5, &LIMITS);
        answer.base_offset += 10;
    }
    let expected = producers.clone();
    let mut bytes = Vec::new();
    producers.encode(&mut bytes);
    let decoded = Producers::decode(&mut Reader::new(&bytes));
    assert_eq!(decoded.as_ref(), Some(&expected));
    for cut in 0..bytes.len() {
        assert_eq!(Producers::decode(&mut Reader::new(&bytes[..cut])), None);
    }
}

fn part(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        attributes: crate::log::batch::ATTRIBUTE_TRANSACTIONAL,
        ..header(producer_id, epoch, sequence, count)
    }
}

fn answer(base_offset: Offset, count: i64) -> Appended {
    Appended {
        base_offset,
        last_offset: base_offset + count - 1,
        log_append_time: None,
        log_start_offset: 0,
        duplicate: false,
    }
}

fn marker(producer_epoch: i16, coordinator_epoch: i32) -> TransactionMarker {
    TransactionMarker {
        producer_id: 7,
        producer_epoch,
        outcome: crate::log::MarkerOutcome::Abort,
        coordinator_epoch,
    }
}

#[test]
fn a_transaction_is_one_from_its_first_batch_to_its_marker() {
    let mut producers = Producers::default();
    let began = producers.record(&part(7, 1, 0, 2), &answer(10, 2), 5, &LIMITS);
    let expected = Change::Began {
        producer_id: 7,
        first_offset: 10,
    };
    assert_eq!(began, Some(expected));
    let more = producers.record(&part(7, 1, 2, 1), &answer(12, 1), 6, &LIMITS);
    assert_eq!(more, None);
    let state = producers.states()[0];
    assert_eq!(
        (state.last_sequence, state.transaction_start),
        (2, Some(10))
    );
    assert_eq!(
        producers.check(&header(7, 1, 3, 1), 0),
        Err(AppendError::InvalidTransactionState { producer_id: 7 })
    );
    assert!(
        producers
            .check(&part(7, 1, 0, 2), 0)
            .expect("a duplicate")
            .is_some()
    );
    producers.expire(1_000_000, &LIMITS);
    assert_eq!(producers.len(), 1, "not while it is open");
    let ended = producers.record_marker(&marker(1, 0), 13, 7, &LIMITS);
    assert!(
        matches!(
            ended,
            Some(Change::Ended {
                first_offset: 10,
                last_offset: 13,
                ..
            })
        ),
        "{ended:?}"
    );
    assert_eq!(producers.record_marker(&marker(1, 0), 14, 7, &LIMITS), None);
    assert_eq!(
        producers.check(&header(7, 1, 3, 1), 0),
        Ok(None),
        "sequences go on in the same epoch"
    );
    producers.expire(1_000_000, &LIMITS);
    assert_eq!(producers.len(), 0);
}

#[test]
fn markers_fence_old_epochs_and_old_coordinators() {
    let mut producers = Producers::default();
    producers.record(&part(7, 1, 0, 2), &answer(10, 2), 5, &LIMITS);
    let old = producers
        .check_marker(&marker(0, 0))
        .expect_err("an old epoch");
    assert!(matches!(old, AppendError::FencedEpoch { current: 1, .. }));
    producers
        .check_marker(&marker(2, 3))
        .expect("the next epoch");
    producers.record_marker(&marker(2, 3), 12, 7, &LIMITS);
    let fenced = AppendError::FencedCoordinator {
        producer_id: 7,
        current: 3,
        found: 2,
    };
    assert_eq!(producers.check_marker(&marker(2, 2)), Err(fenced));
    let late = producers
        .check(&part(7, 1, 2, 1), 0)
        .expect_err("the epoch is over");
    assert!(matches!(late, AppendError::FencedEpoch { current: 2, .. }));
    let skipped = producers
        .check(&part(7, 2, 2, 1), 0)
        .expect_err("begins at 0");
    assert!(matches!(
        skipped,
        AppendError::OutOfOrderSequence { expected: 0, .. }
    ));
    assert_eq!(producers.check(&part(7, 2, 0, 1), 0), Ok(None));
    let mut bytes = Vec::new();
    producers.record(&part(7, 2, 0, 1), &answer(13, 1), 5, &LIMITS);
    producers.encode(&mut bytes);
    let decoded = Producers::decode(&mut Reader::new(&bytes)).expect("whole");
    assert_eq!(decoded, producers);
    assert_eq!(decoded.open_transactions(), producers.open_transactions());
}

#[test]
fn producers_with_open_transactions_are_never_pushed_out() {
    let mut producers = Producers::default();
    producers.record(&part(0, 0, 0, 1), &answer(0, 1), 0, &LIMITS);
    for id in 1..500 {
        producers.record(&header(id, 0, 0, 1), &answer(id, 1), id, &LIMITS);
    }
    assert_eq!(producers.open_transactions().len(), 1);
    assert!(producers.len() <= 101);
}
