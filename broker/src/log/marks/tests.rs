use std::collections::BTreeSet;

use super::*;
use crate::log::codec::Reader;

const LIMITS: Limits = Limits {
    max_producers: 100,
    expiry_ms: 1000,
};

fn set(indexes: &[u32]) -> Indexes {
    indexes.iter().copied().collect()
}

fn mark(lane: PartitionIndex, epoch: i16, sequence: i32, indexes: &[u32]) -> Mark {
    Mark {
        lane,
        producer_id: 7,
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: 10,
        indexes: set(indexes),
    }
}

fn bases(marks: &Marks, lane: PartitionIndex) -> Vec<i32> {
    let parts = marks.parts(lane, 7).expect("known");
    parts
        .batches
        .iter()
        .map(|part| part.base_sequence)
        .collect()
}

#[test]
fn sets_are_what_sets_are() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state >> 40).expect("24 bits")
    };
    for _ in 0..2000 {
        let count = 1 + next() % 300;
        let mut pick = |sparse: u32| -> BTreeSet<u32> {
            (0..count).filter(|_| next() % sparse == 0).collect()
        };
        let (one, two) = (pick(1 + count % 7), pick(3));
        let (a, b): (Indexes, Indexes) =
            (one.iter().copied().collect(), two.iter().copied().collect());
        let both: Indexes = one.union(&two).copied().collect();
        assert_eq!(a.union(&b), both);
        assert_eq!(
            both.is_all(count),
            one.union(&two).count() == count as usize
        );
        assert!((0..count).all(|index| a.contains(index) == one.contains(&index)));
        let mut bytes = Vec::new();
        a.encode(&mut bytes);
        assert_eq!(Indexes::decode(&bytes, count), Some(a.clone()));
        if let Some(last) = one.last() {
            assert_eq!(Indexes::decode(&bytes, *last), None, "beyond the batch");
            assert!(!a.is_below(*last) && a.is_below(*last + 1));
        }
    }
    assert!(Indexes::below(5).is_all(5) && !Indexes::below(5).is_all(6));
    for hostile in [
        &[0][..],
        &[0, 0, 0, 0],
        &[0xff; 12],
        &[0, 0xff, 0xff, 0xff, 0xff, 0x0f],
    ] {
        assert_eq!(Indexes::decode(hostile, u32::MAX), None, "{hostile:?}");
    }
}

#[test]
fn the_latest_five_batches_are_remembered_whatever_their_order() {
    let mut marks = Marks::default();
    for sequence in [0, 20, 30, 10, 40] {
        marks.note(&mark(1, 0, sequence, &[1]), Landed::alone(0), 5, &LIMITS);
    }
    marks.note(&mark(1, 0, 40, &[2, 3]), Landed::alone(9), 5, &LIMITS);
    marks.note(&mark(2, 0, 40, &[0]), Landed::alone(1), 5, &LIMITS);
    assert_eq!(bases(&marks, 1), [0, 20, 30, 10, 40]);
    let parts = marks.parts(1, 7).expect("known");
    assert_eq!(parts.batches[4].indexes, Some(set(&[1, 2, 3])));
    assert_eq!(parts.batches[4].last_offset, 9);
    marks.note(&mark(1, 0, 50, &[1]), Landed::alone(0), 5, &LIMITS);
    marks.note(&mark(1, 0, 60, &[1]), Landed::alone(0), 5, &LIMITS);
    assert_eq!(bases(&marks, 1), [20, 30, 40, 50, 60]);
    marks.note(&mark(1, 1, 0, &[1]), Landed::alone(0), 5, &LIMITS);
    assert_eq!(bases(&marks, 1), [0], "a new epoch");
    marks.note(&mark(1, 0, 70, &[1]), Landed::alone(0), 5, &LIMITS);
    assert_eq!(bases(&marks, 1), [0], "an old one");
}

#[test]
fn a_snapshot_is_exact_and_silence_forgets() {
    let mut marks = Marks::default();
    let answer = Appended {
        base_offset: 100,
        last_offset: 109,
        log_append_time: Some(3),
        log_start_offset: 0,
        duplicate: false,
    };
    let whole = mark(1, 0, 0, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    marks.note(&whole, Landed::slice(&whole, &answer, 1), 5, &LIMITS);
    marks.note(&mark(1, 0, 10, &[1, 5]), Landed::alone(0), 5, &LIMITS);
    marks.note(&mark(4, 3, 10, &[0]), Landed::alone(0), 900, &LIMITS);
    let parts = marks.parts(1, 7).expect("known");
    assert_eq!(parts.batches[0].in_place, Some((100, Some(3))));
    let mut bytes = Vec::new();
    marks.encode(&mut bytes);
    assert_eq!(Marks::decode(&mut Reader::new(&bytes)), Some(marks.clone()));
    for cut in 0..bytes.len() {
        assert_eq!(
            Marks::decode(&mut Reader::new(&bytes[..cut])),
            None,
            "{cut}"
        );
    }
    marks.expire(1006, &LIMITS);
    assert_eq!(marks.parts(1, 7), None);
    marks.expire(2000, &LIMITS);
    assert!(marks.is_empty());
}

#[test]
fn the_number_of_producers_is_bounded() {
    let mut marks = Marks::default();
    for id in 0..1000 {
        let mark = Mark {
            producer_id: id,
            ..mark(0, 0, 0, &[0])
        };
        marks.note(&mark, Landed::alone(id), id, &LIMITS);
        assert!(marks.by_lane.len() <= 100);
    }
    assert!(marks.parts(0, 999).is_some());
}
