use super::*;

fn offset(partition: PartitionIndex, offset: Offset) -> OffsetToCommit {
    OffsetToCommit {
        topic: "orders".into(),
        partition,
        offset,
        leader_epoch: -1,
        metadata: String::new(),
    }
}

fn key(partition: PartitionIndex) -> Vec<(String, PartitionIndex)> {
    vec![("orders".into(), partition)]
}

fn found(offsets: &GroupOffsets, partition: PartitionIndex) -> Option<Offset> {
    offsets.get("orders", partition).map(|found| found.offset)
}

#[test]
fn an_offset_is_shown_when_it_is_durable() {
    let mut offsets = GroupOffsets::default();
    offsets.begin(&[offset(0, 5)]);
    assert_eq!(found(&offsets, 0), None);
    assert!(!offsets.is_empty(), "a commit is on its way");
    offsets.finish(vec![offset(0, 5)], 10, Some(1));
    assert_eq!(found(&offsets, 0), Some(5));
}

#[test]
fn an_offset_that_could_not_be_stored_leaves_the_earlier_one() {
    let mut offsets = GroupOffsets::default();
    offsets.begin(&[offset(0, 5)]);
    offsets.finish(vec![offset(0, 5)], 10, Some(1));
    offsets.begin(&[offset(0, 6)]);
    offsets.finish(vec![offset(0, 6)], 11, None);
    assert_eq!(found(&offsets, 0), Some(5));
    offsets.begin(&[offset(1, 6)]);
    offsets.finish(vec![offset(1, 6)], 12, None);
    assert_eq!(offsets.keys(|_| true), key(0));
}

#[test]
fn commits_that_become_durable_out_of_order_end_with_the_last_record() {
    let mut offsets = GroupOffsets::default();
    offsets.begin(&[offset(0, 5)]);
    offsets.begin(&[offset(0, 6)]);
    offsets.finish(vec![offset(0, 6)], 11, Some(1));
    offsets.finish(vec![offset(0, 5)], 10, Some(1));
    assert_eq!(found(&offsets, 0), Some(6));
}

#[test]
fn a_tombstone_overtakes_the_commits_before_it() {
    let mut offsets = GroupOffsets::default();
    offsets.begin(&[offset(0, 5)]);
    offsets.forget(&offsets.keys(|topic| topic == "orders"), 11);
    offsets.finish(vec![offset(0, 5)], 10, Some(1));
    assert_eq!(found(&offsets, 0), None);
    assert!(offsets.is_empty(), "nothing is kept for it");
    offsets.begin(&[offset(0, 7)]);
    offsets.finish(vec![offset(0, 7)], 12, Some(1));
    assert_eq!(found(&offsets, 0), Some(7));
}

#[test]
fn keys_are_those_of_the_topic() {
    let mut offsets = GroupOffsets::default();
    offsets.begin(&[offset(0, 5), offset(3, 5)]);
    assert_eq!(offsets.keys(|topic| topic == "orders").len(), 2);
    assert_eq!(offsets.keys(|topic| topic == "other"), []);
}

#[test]
fn offsets_expire_from_the_later_of_emptiness_and_commit() {
    let of = |empty_since_ms| Retention {
        empty_since_ms,
        retention: Duration::from_millis(100),
    };
    let mut offsets = GroupOffsets::default();
    offsets.begin(&[offset(0, 5)]);
    offsets.finish(vec![offset(0, 5)], 10, Some(1_000));
    for (empty_since_ms, expires_ms) in [(None, 1_100), (Some(500), 1_100), (Some(3_000), 3_100)] {
        let retention = of(empty_since_ms);
        assert_eq!(
            offsets.next_expiry_ms(expires_ms - 1, retention),
            Some(expires_ms)
        );
        assert_eq!(offsets.next_expiry_ms(expires_ms, retention), None);
        assert_eq!(offsets.expired(expires_ms - 1, retention), []);
        assert_eq!(offsets.expired(expires_ms, retention), key(0));
    }
    offsets.begin(&[offset(0, 6)]);
    assert_eq!(offsets.expired(i64::MAX, of(None)), [], "one is on its way");
}

#[test]
fn an_explicit_expiry_is_kept_to() {
    let mut offsets = GroupOffsets::default();
    let committed = CommittedOffset {
        offset: 1,
        leader_epoch: -1,
        metadata: String::new(),
        committed_ms: 1_000,
        expires_ms: Some(1_001),
    };
    offsets.restore("orders", 0, 1, Some(committed));
    let retention = Retention {
        empty_since_ms: Some(9_000),
        retention: Duration::from_secs(9),
    };
    assert_eq!(offsets.expired(1_001, retention), key(0));
}

fn pending(offset: Offset) -> CommittedOffset {
    CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: String::new(),
        committed_ms: 1_000,
        expires_ms: None,
    }
}

#[test]
fn a_transactions_offset_counts_when_it_commits() {
    let mut offsets = GroupOffsets::default();
    offsets.restore("orders", 0, 1, Some(pending(5)));
    offsets.pend(7, ("orders", 0), 2, pending(6));
    offsets.pend(8, ("orders", 0), 3, pending(9));
    assert_eq!(found(&offsets, 0), Some(5));
    assert!(offsets.is_unstable("orders", 0) && !offsets.is_unstable("orders", 1));
    offsets.end_transaction(8, false);
    assert_eq!(found(&offsets, 0), Some(5));
    offsets.end_transaction(7, true);
    assert_eq!(found(&offsets, 0), Some(6));
    assert!(!offsets.is_unstable("orders", 0));
}

#[test]
fn a_pending_offset_is_overtaken_by_later_records() {
    let mut offsets = GroupOffsets::default();
    offsets.pend(7, ("orders", 0), 2, pending(6));
    offsets.begin(&[offset(0, 8)]);
    offsets.finish(vec![offset(0, 8)], 3, Some(1));
    offsets.end_transaction(7, true);
    assert_eq!(found(&offsets, 0), Some(8));
    offsets.pend(7, ("orders", 0), 4, pending(9));
    offsets.forget(&key(0), 5);
    offsets.end_transaction(7, true);
    assert!(offsets.is_empty(), "it was deleted in between");
}

#[test]
fn what_is_pending_keeps_a_group_and_its_offsets() {
    let mut offsets = GroupOffsets::default();
    offsets.restore("orders", 0, 1, Some(pending(5)));
    offsets.pend(7, ("orders", 0), 2, pending(6));
    offsets.pend(7, ("orders", 1), 2, pending(6));
    let retention = Retention {
        empty_since_ms: None,
        retention: Duration::ZERO,
    };
    assert_eq!(offsets.expired(i64::MAX, retention), []);
    assert_eq!(offsets.keys(|_| true).len(), 2);
    offsets.end_transaction(7, false);
    assert_eq!(offsets.keys(|_| true), key(0));
    assert_eq!(offsets.expired(i64::MAX, retention), key(0));
}

#[test]
fn what_offsets_take_is_known_before_and_given_back_after() {
    let noted = |partition: i32, metadata: &str| OffsetToCommit {
        metadata: metadata.into(),
        ..offset(partition, 1)
    };
    let mut offsets = GroupOffsets::default();
    let commit = |offsets: &mut GroupOffsets, some: Vec<OffsetToCommit>, at| {
        let (before, growth) = (offsets.size_bytes(), offsets.growth(&some));
        offsets.begin(&some);
        offsets.finish(some, at, Some(0));
        assert!(offsets.size_bytes() <= before + growth);
        growth
    };
    assert!(commit(&mut offsets, vec![noted(0, "four"), noted(1, "")], 1) > 0);
    assert_eq!(commit(&mut offsets, vec![noted(0, "less")], 2), 0);
    assert_eq!(commit(&mut offsets, vec![noted(0, "longer")], 3), 2);
    let full = offsets.size_bytes();
    let pending = vec![noted(0, "pending")];
    let growth = offsets.growth_by_pending(&pending);
    let value = CommittedOffset {
        offset: 5,
        leader_epoch: -1,
        metadata: "pending".into(),
        committed_ms: 0,
        expires_ms: None,
    };
    offsets.pend(7, ("orders", 0), 4, value);
    assert!(offsets.size_bytes() > full && offsets.size_bytes() <= full + growth);
    offsets.end_transaction(7, false);
    assert_eq!(offsets.size_bytes(), full);
    let keys = offsets.keys(|_| true);
    offsets.forget(&keys, 9);
    assert_eq!((offsets.size_bytes(), offsets.is_empty()), (0, true));
}
