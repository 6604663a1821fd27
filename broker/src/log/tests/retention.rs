use super::*;
use crate::log::file::Operation;
use crate::log::{DeleteRecordsError, OffsetQuery};

/// Ten batches of 1,000 bytes and a bit, three to a segment, one second of record time apart.
fn filled(fixture: &mut Fixture) -> (Arc<LogSet>, Arc<PartitionLog>) {
    fixture.topic.segment_bytes = 4096 + 3500;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for number in 0..10 {
        let time = NOW + i64::from(number) * 1000;
        log.append(batch_at(time, &[&[number; 1000]]))
            .expect("appended");
    }
    commit(&log);
    assert_eq!(log.stats().segments, 4);
    (logs, log)
}

fn set(log: &PartitionLog, fixture: &Fixture, change: impl Fn(&mut TopicConfig)) {
    let mut topic = fixture.topic.clone();
    change(&mut topic);
    log.set_config(Arc::new(topic));
}

#[test]
fn old_segments_go_by_time() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    set(&log, &fixture, |topic| topic.retention_ms = 10_000);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 0);
    // The first segment's latest record is of second 2.
    fixture.clock.advance(12_000);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 0);
    fixture.clock.advance(1);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 3);
    assert_eq!(log.stats().segments, 3);
    let error = log
        .read(2, 1000, true, Isolation::ReadUncommitted)
        .expect_err("gone");
    assert!(matches!(
        error,
        crate::log::ReadError::OutOfRange { start: 3, .. }
    ));
    assert_eq!(read_all(&log).len(), 7);
}

#[test]
fn the_active_segment_goes_too_and_offsets_go_on() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    set(&log, &fixture, |topic| topic.retention_ms = 1000);
    fixture.clock.advance(1_000_000);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 10);
    assert_eq!(read_all(&log), []);
    assert_eq!(append(&log, &[b"next"]).base_offset, 10);
    commit(&log);
    drop((log, logs));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(log.offsets().log_start, 10);
    assert_eq!(read_all(&log), [(10, b"next".to_vec())]);
}

#[test]
fn an_emptied_log_keeps_its_offsets_over_a_restart() {
    for clean in [true, false] {
        let mut fixture = Fixture::new();
        let (logs, log) = filled(&mut fixture);
        set(&log, &fixture, |topic| topic.retention_ms = 1000);
        fixture.clock.advance(1_000_000);
        logs.enforce_retention();
        if clean {
            logs.shutdown();
        }
        drop((log, logs));
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        assert_eq!(log.offsets().log_start, 10);
        assert_eq!(append(&log, &[b"next"]).base_offset, 10, "clean: {clean}");
    }
}

#[test]
fn old_segments_go_by_size() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    let size = log.stats().size_bytes;
    let first = log.segments.load()[0].end();
    let keep = i64::try_from(size - first).expect("small");
    set(&log, &fixture, |topic| topic.retention_bytes = keep + 1);
    logs.enforce_retention();
    assert_eq!(
        log.offsets().log_start,
        0,
        "without the first there would be too little"
    );
    set(&log, &fixture, |topic| topic.retention_bytes = keep);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 3);
}

#[test]
fn nothing_goes_where_retention_is_off() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    fixture.clock.advance(i64::MAX / 2);
    set(&log, &fixture, |topic| topic.retention_ms = -1);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 0);
    set(&log, &fixture, |topic| {
        topic.retention_bytes = 0;
        topic.cleanup_delete = false;
    });
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 0);
}

#[test]
fn records_without_a_time_go_by_their_files_age() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 500;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for _ in 0..3 {
        log.append(batch_at(-1, &[&[0; 400]])).expect("appended");
    }
    commit(&log);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 0);
    let far = 100 * 365 * 24 * 3_600_000;
    fixture.clock.advance(far);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 3);
}

#[test]
fn a_log_start_is_kept_over_a_crash() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    set(&log, &fixture, |topic| topic.retention_bytes = 6000);
    logs.enforce_retention();
    let start = log.offsets().log_start;
    assert!(start > 0);
    let records = read_all(&log);
    drop((log, logs));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(log.offsets().log_start, start);
    assert_eq!(read_all(&log), records);
}

#[test]
fn a_file_that_retention_had_let_go_of_is_removed_at_the_next_start() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    let copy = fixture.copy();
    set(&log, &fixture, |topic| topic.retention_bytes = 6000);
    logs.enforce_retention();
    let start = log.offsets().log_start;
    drop((log, logs));
    let old = segment_file(fixture.directory.path(), 1, 0);
    std::fs::copy(segment_file(copy.path(), 1, 0), &old).expect("back again");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(log.offsets().log_start, start);
    assert!(log.stats().stopped.is_none());
    assert!(!old.exists());
}

#[test]
fn leftover_topics_are_listed_and_removed() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    append(&fixture.partition(&logs, 1), &[b"a"]);
    append(&fixture.partition(&logs, 2), &[b"b"]);
    logs.shutdown();
    drop(logs);
    std::fs::create_dir(fixture.directory.path().join("not-a-topic")).expect("folder");
    let logs = fixture.open();
    let mut topics = logs.topics_on_disk().expect("lists");
    topics.sort();
    assert_eq!(topics, [topic_id(1), topic_id(2)]);
    logs.delete_topic(topic_id(2)).expect("deleted unopened");
    assert_eq!(logs.topics_on_disk().expect("lists"), [topic_id(1)]);
    logs.delete_topic(topic_id(2)).expect("again is no error");
}

#[test]
fn deleted_records_stay_deleted_and_whole_segments_go() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    assert_eq!(log.delete_records(Some(2)), Ok(2));
    assert_eq!(log.stats().segments, 4);
    assert_eq!(log.delete_records(Some(7)), Ok(7));
    assert_eq!(log.stats().segments, 2, "the first two lie wholly below");
    assert!(!segment_file(fixture.directory.path(), 1, 0).exists());
    assert_eq!(log.delete_records(Some(1)), Ok(7), "never back");
    assert_eq!(read_all(&log)[0].0, 7);
    let first = log.find_offset(OffsetQuery::AtTime(NOW), Isolation::ReadUncommitted);
    assert_eq!(first, Ok(Some((7, NOW + 7_000))));
    drop((log, logs));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(log.offsets().log_start, 7);
    assert_eq!(log.delete_records(None), Ok(10));
    assert_eq!(read_all(&log), []);
    assert_eq!(append(&log, &[b"next"]).base_offset, 10);
    commit(&log);
    let (offset, end) = (12, 11);
    let above = Err(DeleteRecordsError::OutOfRange { offset, end });
    assert_eq!(log.delete_records(Some(12)), above);
    assert!(log.delete_records(Some(-1)).is_err());
}

#[test]
fn a_start_that_did_not_become_durable_is_not_answered() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    log.checkpoint().expect("a checkpoint");
    let faults = &fixture.disk.faults;
    faults.fail(Operation::Rename, 0, rustix::io::Errno::NOSPC);
    let outcome = log.delete_records(Some(7));
    assert!(
        matches!(outcome, Err(DeleteRecordsError::Storage(_))),
        "{outcome:?}"
    );
    assert!(segment_file(fixture.directory.path(), 1, 0).exists());
    faults.heal();
    assert_eq!(log.delete_records(Some(7)), Ok(7));
    assert!(!segment_file(fixture.directory.path(), 1, 0).exists());
    drop((log, logs));
    let logs = fixture.open();
    assert_eq!(fixture.partition(&logs, 1).offsets().log_start, 7);
}

#[test]
fn only_topics_that_delete_take_records_away() {
    let mut fixture = Fixture::new();
    let (_logs, log) = filled(&mut fixture);
    set(&log, &fixture, |topic| {
        topic.cleanup_delete = false;
        topic.cleanup_compact = true;
    });
    assert_eq!(
        log.delete_records(None),
        Err(DeleteRecordsError::NotAllowed)
    );
}

#[test]
fn what_a_start_gives_away_does_not_come_back_with_an_older_checkpoint() {
    let mut fixture = Fixture::new();
    let (logs, log) = filled(&mut fixture);
    let first = segment_file(fixture.directory.path(), 1, 0);
    let content = std::fs::read(&first).expect("a segment");
    assert_eq!(log.delete_records(Some(7)), Ok(7));
    // As after a crash behind the checkpoint's rename: its name may not be durable.
    let crashed = fixture.copy();
    let first = segment_file(crashed.path(), 1, 0);
    std::fs::write(&first, content).expect("written");
    drop((log, logs));
    let logs = fixture.open_at(crashed.path());
    fixture
        .disk
        .faults
        .fail(Operation::Sync, 0, rustix::io::Errno::IO);
    let topic = Arc::new(fixture.topic.clone());
    logs.open_partition(id(1), topic).expect_err("not opened");
    assert!(first.exists(), "nothing goes before the name is durable");
    fixture.disk.faults.heal();
    assert_eq!(fixture.partition(&logs, 1).offsets().log_start, 7);
    assert!(!first.exists());
}

/// As an earlier version took it: the header's largest time is whatever the client wrote.
fn taken_unseen(log: &PartitionLog, claimed: TimestampMs, time: TimestampMs) {
    use crate::log::batch::{HEADER_SIZE, checksum};
    let mut batch = batch_at(time, &[&[0; 400]]);
    batch.header.max_timestamp = claimed;
    let body = batch.bytes.slice(HEADER_SIZE..);
    batch.header.crc = checksum(&batch.header.write(), &body);
    batch.bytes = [&batch.header.write()[..], &body[..]].concat().into();
    log.append(batch).expect("appended");
}

/// Sets when the segments' files were last written.
fn age_files(fixture: &Fixture, time: TimestampMs) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(time.unsigned_abs());
    for entry in std::fs::read_dir(fixture.folder(1)).expect("folder") {
        let file = std::fs::File::options()
            .write(true)
            .open(entry.expect("entry").path())
            .expect("opens");
        file.set_modified(time).expect("set");
    }
}

#[test]
fn headers_that_lie_neither_delete_what_is_fresh_nor_keep_what_is_old() {
    const HOUR: i64 = 3_600_000;
    for (what, claimed, time, at_once, later) in [
        ("unset", -1, NOW, 0, 2),
        ("too low", NOW - 100 * HOUR, NOW, 0, 2),
        ("old in truth", NOW - 100 * HOUR, NOW - 100 * HOUR, 2, 2),
        ("too high", NOW + 1_000_000 * HOUR, NOW, 0, 2),
        (
            "to come in truth",
            NOW + 1_000_000 * HOUR,
            NOW + 1_000_000 * HOUR,
            0,
            2,
        ),
    ] {
        let mut fixture = Fixture::new();
        fixture.topic.segment_bytes = 4096 + 500;
        fixture.topic.retention_ms = 10 * HOUR;
        // As versions did that took whatever time a batch claimed.
        fixture.topic.timestamp_after_max_ms = i64::MAX;
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        taken_unseen(&log, claimed, time);
        taken_unseen(&log, claimed, time);
        commit(&log);
        age_files(&fixture, NOW);
        logs.enforce_retention();
        assert_eq!(log.offsets().log_start, at_once, "{what}: at once");
        fixture.clock.advance(11 * HOUR);
        logs.enforce_retention();
        assert_eq!(log.offsets().log_start, later, "{what}: later");
    }
}
