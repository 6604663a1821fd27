use super::*;
use crate::log::Sequence;

/// Ends a run with or without a clean stop and begins the next.
fn restart(
    fixture: &Fixture,
    logs: Arc<LogSet>,
    log: Arc<PartitionLog>,
    clean: bool,
) -> (Arc<LogSet>, Arc<PartitionLog>) {
    if clean {
        logs.shutdown();
    }
    drop((log, logs));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    (logs, log)
}

#[test]
fn records_offsets_and_figures_are_the_same_after_a_restart() {
    for clean in [true, false] {
        let mut fixture = Fixture::new();
        fixture.topic.segment_bytes = 10_000;
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        for number in 0..50_u8 {
            append(&log, &[&[number; 700], b"x"]);
        }
        commit(&log);
        let (records, stats) = (read_all(&log), log.stats());
        let (logs, log) = restart(&fixture, logs, log, clean);
        assert_eq!(read_all(&log), records);
        assert_eq!(log.offsets(), stats.offsets);
        assert_eq!(log.stats().size_bytes, stats.size_bytes);
        assert_eq!(log.stats().segments, stats.segments);
        append(&log, &[b"more"]);
        commit(&log);
        let (_logs, log) = restart(&fixture, logs, log, !clean);
        assert_eq!(read_all(&log).len(), records.len() + 1);
    }
}

#[test]
fn producers_are_remembered_exactly() {
    for (clean, checkpoint) in [(true, false), (false, true), (false, false)] {
        let fixture = Fixture::new();
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        let first = log.append(numbered(1, 0, 0, 3)).expect("appended");
        log.append(numbered(2, 4, 0, 1)).expect("appended");
        if checkpoint {
            log.checkpoint().expect("a clean point");
        }
        let second = log.append(numbered(1, 0, 3, 2)).expect("appended");
        commit(&log);
        let (_logs, log) = restart(&fixture, logs, log, clean);
        for (batch, answer) in [
            (numbered(1, 0, 0, 3), first),
            (numbered(1, 0, 3, 2), second),
        ] {
            let again = log.append(batch.clone()).expect("answered");
            assert!(again.duplicate);
            assert_eq!(again.base_offset, answer.base_offset);
            assert_eq!(again.last_offset, answer.last_offset);
            assert_eq!(log.check_sequence(&batch), Ok(Sequence::Duplicate(again)));
        }
        let error = log.append(numbered(1, 0, 7, 1)).expect_err("a gap");
        let expected = AppendError::OutOfOrderSequence {
            producer_id: 1,
            expected: 5,
            found: 7,
        };
        assert_eq!(error, expected);
        let error = log.append(numbered(2, 3, 1, 1)).expect_err("an old epoch");
        assert!(matches!(error, AppendError::FencedEpoch { current: 4, .. }));
        assert!(!log.append(numbered(1, 0, 5, 1)).expect("goes on").duplicate);
        assert_eq!(read_all(&log).len(), 6);
    }
}

#[test]
fn a_batch_that_was_torn_off_is_not_a_duplicate_when_it_comes_again() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    log.append(numbered(1, 0, 0, 1)).expect("appended");
    log.append(numbered(1, 0, 1, 1)).expect("appended");
    drop((log, logs));
    let file = segment_file(fixture.directory.path(), 1, 0);
    let size = numbered(1, 0, 0, 1).header.size as u64;
    let handle = std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .expect("file");
    handle.set_len(4096 + 2 * size - 1).expect("torn");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let again = log.append(numbered(1, 0, 1, 1)).expect("appended");
    assert_eq!((again.duplicate, again.base_offset), (false, 1));
}

#[test]
fn nothing_is_appended_after_a_clean_stop() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    logs.shutdown();
    let error = log.append(batch_of(&[b"b"])).expect_err("stopping");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    assert_eq!(log.offsets().high_watermark, 1, "everything was synced");
    assert!(log.stats().stopped.is_none(), "a clean stop is no fault");
    assert_eq!(read_all(&log).len(), 1);
}

#[test]
fn a_clean_stop_leaves_a_file_that_ends_with_its_last_batch() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    logs.shutdown();
    let file = segment_file(fixture.directory.path(), 1, 0);
    let size = batch_of(&[b"a"]).header.size as u64;
    assert_eq!(std::fs::metadata(&file).expect("file").len(), 4096 + size);
    let written = std::fs::metadata(&file)
        .expect("file")
        .modified()
        .expect("time");
    drop((log, logs));
    let logs = fixture.open();
    let syncs = fixture.disk.faults.syncs();
    fixture.partition(&logs, 1);
    assert_eq!(
        fixture.disk.faults.syncs(),
        syncs,
        "a clean log opens without a sync"
    );
    let after = std::fs::metadata(&file)
        .expect("file")
        .modified()
        .expect("time");
    assert_eq!(written, after);
}

#[test]
fn opening_twice_answers_the_same_log() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let one = fixture.partition(&logs, 1);
    let two = fixture.partition(&logs, 1);
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(logs.partitions().len(), 1);
    assert_eq!(one.id(), id(1));
}

#[test]
fn partitions_are_recovered_together_and_come_in_the_order_of_the_question() {
    let fixture = Fixture::new();
    {
        let logs = fixture.open();
        for number in 1..=20 {
            append(&fixture.partition(&logs, number), &[&[number; 10]]);
        }
    }
    let logs = fixture.open();
    let syncs = fixture.disk.faults.syncs();
    let config = Arc::new(fixture.topic.clone());
    let wanted = (1..=20)
        .rev()
        .map(|number| (id(number), Arc::clone(&config)));
    let opened = logs.open_partitions(wanted.collect()).expect("opened");
    for (log, number) in opened.iter().zip((1..=20_u8).rev()) {
        assert_eq!(log.id(), id(number));
        assert_eq!(read_all(log), [(0, vec![number; 10])]);
    }
    // Each has its file, its folder and its topic's folder synced, and the log folder is synced once.
    assert_eq!(fixture.disk.faults.syncs() - syncs, 20 * 3 + 1);
    let again = fixture.partition(&logs, 7);
    assert!(opened.iter().any(|log| Arc::ptr_eq(log, &again)));
}

#[test]
fn what_lies_behind_all_checkpoints_together_is_bounded() {
    let mut fixture = Fixture::new();
    fixture.config.unchecked_bytes = 1 << 20;
    let logs = fixture.open();
    let opened: Vec<_> = (1..=5)
        .map(|number| fixture.partition(&logs, number))
        .collect();
    for log in opened.iter().cycle().take(50) {
        append(log, &[&[7; 100_000]]);
    }
    let behind = || opened.iter().map(|log| log.unchecked()).sum::<u64>();
    eventually("checkpoints", || behind() < 1 << 20);
    // A partition without any records, and one that is deleted, stand in nobody's way.
    logs.delete_topic(topic_id(1)).expect("deleted");
    for log in opened[1..].iter().cycle().take(50) {
        append(log, &[&[7; 100_000]]);
    }
    eventually("checkpoints", || behind() < 1 << 20);
}

#[test]
fn a_deletion_that_is_cut_short_anywhere_is_finished_by_the_next_run() {
    use crate::log::file::Operation;
    for operation in [
        Operation::Open,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::Remove,
    ] {
        for allowed in 0..6 {
            let mut fixture = Fixture::new();
            fixture.topic.segment_bytes = 4096 + 2000;
            let logs = fixture.open();
            let log = fixture.partition(&logs, 1);
            for number in 0..5 {
                append(&log, &[&[number; 1000]]);
            }
            commit(&log);
            drop(log);
            fixture
                .disk
                .faults
                .fail(operation, allowed, rustix::io::Errno::IO);
            let outcome = logs.delete_topic(topic_id(1));
            fixture.disk.faults.heal();
            drop(logs);
            let logs = fixture.open();
            let left = logs.topics_on_disk().expect("listed");
            if outcome.is_ok() && left.is_empty() {
                continue;
            }
            // As a start does with topics that the catalog no longer names.
            logs.delete_topic(topic_id(1)).expect("deleted");
            assert_eq!(
                logs.topics_on_disk(),
                Ok(Vec::new()),
                "{operation:?} {allowed}"
            );
            assert!(!fixture.folder(1).exists());
            append(&fixture.partition(&logs, 1), &[b"anew"]);
        }
    }
}

#[test]
fn producers_are_found_again_without_a_checkpoint() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 500;
    let last = {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        let mut last = None;
        for round in 0..10 {
            last = Some(log.append(numbered(4, 1, round * 2, 2)).expect("appended"));
        }
        logs.shutdown();
        last.expect("ten batches")
    };
    std::fs::remove_file(fixture.folder(1).join("checkpoint")).expect("removed");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let again = log.append(numbered(4, 1, 18, 2)).expect("answered");
    assert!(again.duplicate);
    assert_eq!(again.base_offset, last.base_offset);
    let skipped = log.append(numbered(4, 1, 22, 2)).expect_err("out of order");
    assert!(matches!(skipped, AppendError::OutOfOrderSequence { .. }));
    log.append(numbered(4, 1, 20, 2))
        .expect("the next in order");
}
