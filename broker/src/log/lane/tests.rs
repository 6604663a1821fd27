use super::*;

fn header(epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        size: 100,
        leader_epoch: 0,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: 7,
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: count,
    }
}

/// A part: base sequence, count, and the indexes that are there; none for a settled batch.
fn part(sequence: i32, count: u32, indexes: Option<&[u32]>) -> Part {
    Part {
        base_sequence: sequence,
        record_count: count,
        indexes: indexes.map(|indexes| indexes.iter().copied().collect()),
        last_offset: 5,
        in_place: None,
    }
}

fn whole(sequence: i32) -> Part {
    part(sequence, 2, Some(&[0, 1]))
}

fn history(partitions: &[&[Part]]) -> History {
    let parts = |batches: &&[Part]| Parts {
        producer_epoch: 1,
        batches: batches.to_vec(),
    };
    let all: Vec<_> = partitions.iter().map(parts).enumerate().collect();
    History::gather(&all)
}

/// What becomes of batches `(sequence, count)` of epoch 1.
fn check(what: &str, partitions: &[&[Part]], cases: &[(i32, i32, &str)]) {
    let history = history(partitions);
    for (sequence, count, expected) in cases {
        let verdict = match history.judge(&header(1, *sequence, *count), 0) {
            Ok(Verdict::Next) => "next".to_owned(),
            Ok(Verdict::Duplicate { .. }) => "duplicate".to_owned(),
            Ok(Verdict::Partly { there, .. }) => {
                let there: Vec<_> = (0..10).filter(|index| there.contains(*index)).collect();
                format!("has {there:?}")
            }
            Err(AppendError::OutOfOrderSequence { expected, .. }) => format!("not {expected}"),
            Err(error) => panic!("{what}: {error}"),
        };
        assert_eq!(verdict, *expected, "{what}: {sequence}");
    }
}

#[test]
fn a_batch_is_judged_by_what_is_there() {
    check("nothing", &[], &[(0, 2, "next"), (77, 2, "next")]);
    check(
        "in order",
        &[
            &[whole(0), part(2, 3, Some(&[0, 2]))],
            &[part(2, 3, Some(&[1]))],
        ],
        &[
            (0, 2, "duplicate"),
            (2, 3, "duplicate"),
            (5, 1, "next"),
            (6, 1, "not 5"),
            (2, 2, "not 5"),
        ],
    );
    check(
        "an incomplete batch comes first, and only what is missing",
        &[&[whole(0), part(2, 3, Some(&[0, 2]))]],
        &[(2, 3, "has [0, 2]"), (5, 1, "not 2"), (0, 2, "duplicate")],
    );
    check(
        "a batch that was lost between others",
        &[&[whole(0)], &[whole(4)]],
        &[
            (2, 2, "next"),
            (2, 3, "not 2"),
            (6, 2, "not 2"),
            (4, 2, "duplicate"),
            (0, 1, "not 2"),
        ],
    );
    check(
        "the first batch was lost",
        &[&[whole(4)]],
        &[
            (0, 4, "next"),
            (0, 2, "next"),
            (0, 5, "not 6"),
            (2, 2, "next"),
            (6, 1, "next"),
        ],
    );
    check(
        "incomplete, and one lost in front of it",
        &[&[whole(0)], &[part(4, 2, Some(&[1]))]],
        &[(2, 2, "next"), (4, 2, "not 2"), (6, 1, "not 2")],
    );
    check(
        "in front of a settled batch nothing is missing",
        &[&[whole(0)], &[part(4, 2, None)], &[part(6, 2, Some(&[0]))]],
        &[(2, 2, "not 6"), (4, 2, "duplicate"), (6, 2, "has [0]")],
    );
    check(
        "round the end of the sequences",
        &[&[part(i32::MAX - 1, 3, Some(&[0, 1, 2])), whole(1)]],
        &[
            (i32::MAX - 1, 3, "duplicate"),
            (1, 2, "duplicate"),
            (3, 1, "next"),
        ],
    );
    let many: Vec<Part> = (0..7).map(|n| whole(n * 2)).collect();
    check(
        "older than the latest five",
        &[&many[..5], &many[2..]],
        &[(2, 2, "not 14"), (4, 2, "duplicate"), (14, 2, "next")],
    );
}

#[test]
fn epochs_are_fenced_over_all_partitions() {
    let history = history(&[&[whole(0)]]);
    let old = history.judge(&header(0, 2, 1), 0).expect_err("fenced");
    assert!(matches!(old, AppendError::FencedEpoch { current: 1, .. }));
    assert_eq!(history.judge(&header(2, 0, 1), 0), Ok(Verdict::Next));
    let skipped = history.judge(&header(2, 2, 1), 0).expect_err("begins at 0");
    assert!(matches!(
        skipped,
        AppendError::OutOfOrderSequence { expected: 0, .. }
    ));
}

#[test]
fn a_batch_that_stayed_in_its_lane_is_answered_with_its_offsets() {
    let mut stayed = whole(0);
    stayed.in_place = Some((40, Some(9)));
    let Ok(Verdict::Duplicate { answer, waits }) =
        history(&[&[], &[stayed]]).judge(&header(1, 0, 2), 3)
    else {
        panic!("a duplicate");
    };
    assert_eq!((answer.base_offset, answer.last_offset), (40, 41));
    assert_eq!(
        (answer.log_append_time, answer.log_start_offset),
        (Some(9), 3)
    );
    assert_eq!(waits, [(1, 5)]);
}
