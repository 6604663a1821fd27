use rustix::io::Errno;

use super::*;
use crate::log::file::Operation;

#[test]
fn a_full_disk_refuses_and_works_again_when_space_returns() {
    for (operation, allowed) in [
        (Operation::Allocate, 0),
        (Operation::Write, 0),
        (Operation::Write, 1),
        (Operation::Write, 3),
    ] {
        let mut fixture = Fixture::new();
        fixture.topic.segment_bytes = 1_000_000;
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        append(&log, &[b"before"]);
        commit(&log);
        let large = [5; 400_000];
        append(&log, &[&large]);
        fixture.disk.faults.fail(operation, allowed, Errno::NOSPC);
        let mut refused = 0;
        for _ in 0..6 {
            match log.append(batch_of(&[&large])) {
                Ok(_) => assert_eq!(refused, 0, "{operation:?}"),
                Err(AppendError::Storage(_)) => refused += 1,
                Err(error) => panic!("{operation:?}: {error}"),
            }
        }
        assert!(refused > 0, "{operation:?}");
        let count = usize::try_from(log.offsets().log_end).expect("small");
        assert!(log.stats().stopped.is_none());
        fixture.disk.faults.heal();
        let appended = append(&log, &[b"after"]);
        assert_eq!(appended.base_offset, log.offsets().log_end - 1);
        commit(&log);
        assert_eq!(read_all(&log).len(), count + 1, "{operation:?}");
        drop((log, logs));
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        let records = read_all(&log);
        assert_eq!(records.len(), count + 1, "{operation:?} {allowed}");
        assert_eq!(records[count].1, b"after");
    }
}

#[test]
fn a_full_disk_at_the_first_append_leaves_nothing_behind() {
    for operation in [Operation::Open, Operation::Write, Operation::Allocate] {
        let fixture = Fixture::new();
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        fixture.disk.faults.fail(operation, 0, Errno::NOSPC);
        let error = log.append(batch_of(&[b"a"])).expect_err("full");
        assert!(matches!(error, AppendError::Storage(_)), "{error}");
        fixture.disk.faults.heal();
        assert_eq!(append(&log, &[b"a"]).base_offset, 0);
        commit(&log);
        assert_eq!(read_all(&log), [(0, b"a".to_vec())]);
    }
}

#[test]
fn a_refused_batch_may_be_sent_again_by_its_producer() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    log.append(numbered(1, 0, 0, 2)).expect("appended");
    fixture.disk.faults.fail(Operation::Write, 0, Errno::NOSPC);
    log.append(numbered(1, 0, 2, 2)).expect_err("full");
    fixture.disk.faults.heal();
    let again = log.append(numbered(1, 0, 2, 2)).expect("appended");
    assert!(!again.duplicate);
    assert_eq!(again.base_offset, 2);
}

#[test]
fn a_full_disk_takes_the_spare_files_back() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 100_000;
    let logs = fixture.open();
    let other = fixture.partition(&logs, 2);
    append(&other, &[&[1; 50_000]]);
    commit(&other);
    logs.delete_topic(topic_id(2)).expect("deleted");
    assert!(logs.pool_bytes() > 0);
    let log = fixture.partition(&logs, 1);
    fixture
        .disk
        .faults
        .fail(Operation::Allocate, 0, Errno::NOSPC);
    let _ = log.append(batch_of(&[b"a"]));
    assert_eq!(logs.pool_bytes(), 0);
}

#[test]
fn a_failed_write_stops_the_partition_and_no_other() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let other = fixture.partition(&logs, 2);
    append(&log, &[b"a"]);
    commit(&log);
    fixture.disk.faults.fail(Operation::Write, 0, Errno::IO);
    let error = log.append(batch_of(&[b"b"])).expect_err("stopped");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    fixture.disk.faults.heal();
    let error = log.append(batch_of(&[b"c"])).expect_err("stays stopped");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    assert!(log.stats().stopped.is_some());
    assert_eq!(read_all(&log).len(), 1, "reads go on");
    append(&other, &[b"x"]);
    commit(&other);
    drop((log, other, logs));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(log.stats().stopped.is_none(), "a restart has verified it");
    assert_eq!(append(&log, &[b"b"]).base_offset, 1);
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_stops() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    commit(&log);
    fixture.disk.faults.fail(Operation::Sync, 0, Errno::IO);
    append(&log, &[b"b"]);
    let error = wait(log.committed(1)).expect_err("not durable");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    assert_eq!(log.offsets().high_watermark, 1);
    fixture.disk.faults.heal();
    // A later sync could succeed without having written the pages that the first one lost.
    let error = wait(log.committed(1)).expect_err("stays so");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    let error = log.append(batch_of(&[b"c"])).expect_err("stopped");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    assert_eq!(read_all(&log).len(), 1);
    // The page cache may hold what the disk does not: recovery is told to look at the disk.
    let mark = fixture.folder(1).join("suspect");
    assert!(mark.exists());
    drop((log, logs));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(!mark.exists());
    assert!(log.stats().stopped.is_none());
    assert!(log.offsets().log_end >= 1);
}

#[test]
fn a_sync_that_fails_in_recovery_makes_the_next_one_read_from_the_disk() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    append(&fixture.partition(&logs, 1), &[b"a"]);
    let crashed = fixture.copy();
    drop(logs);
    let logs = fixture.open_at(crashed.path());
    fixture.disk.faults.fail(Operation::Sync, 0, Errno::IO);
    let topic = Arc::new(fixture.topic.clone());
    logs.open_partition(id(1), topic).expect_err("not opened");
    drop(logs);
    let mark = folder(crashed.path(), 1).join("suspect");
    assert!(mark.exists());
    fixture.disk.faults.heal();
    let logs = fixture.open_at(crashed.path());
    assert_eq!(read_all(&fixture.partition(&logs, 1)).len(), 1);
    assert!(!mark.exists());
}

#[test]
fn a_stopped_log_keeps_what_retention_would_take() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 7500;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for _ in 0..5 {
        append(&log, &[&[1; 3000]]);
    }
    commit(&log);
    fixture.disk.faults.fail(Operation::Write, 0, Errno::IO);
    let error = log.append(batch_of(&[b"b"])).expect_err("stopped");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    fixture.disk.faults.heal();
    fixture.clock.advance(i64::MAX / 2);
    logs.enforce_retention();
    assert_eq!(log.offsets().log_start, 0);
}

#[test]
fn a_roll_that_fills_the_disk_is_recovered_from_whatever_was_durable() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 4000;
    fixture.disk.faults.set_boot_id([1; 16]);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[&[1; 3000]]);
    commit(&log);
    fixture
        .disk
        .faults
        .fail(Operation::Allocate, 0, Errno::NOSPC);
    log.append(batch_of(&[&[2; 3000]])).expect_err("full");
    fixture.disk.faults.heal();
    log.checkpoint().expect("a clean point in an empty segment");
    drop((log, logs));
    // The empty segment's header is lost, and the log goes on in the one before.
    fixture.disk.faults.set_boot_id([2; 16]);
    std::fs::write(segment_file(fixture.directory.path(), 1, 1), []).expect("written");
    let checkpoint = fixture.folder(1).join("checkpoint");
    let old = std::fs::read(&checkpoint).expect("checkpoint");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"two"]);
    commit(&log);
    drop((log, logs));
    std::fs::write(&checkpoint, old).expect("written");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(log.stats().stopped.is_none());
    assert_eq!(read_from(&log, 1), [(1, b"two".to_vec())]);
}

#[test]
fn a_segment_that_could_not_be_begun_leaves_nothing_behind() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 4000;
    fixture.disk.faults.set_boot_id([1; 16]);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[&[1; 3000]]);
    commit(&log);
    log.checkpoint().expect("a clean point");
    fixture.disk.faults.fail(Operation::Write, 0, Errno::NOSPC);
    log.append(batch_of(&[&[2; 3000]])).expect_err("full");
    fixture.disk.faults.heal();
    // A smaller one still fits the old segment, and the next is begun behind it.
    append(&log, &[b"small"]);
    append(&log, &[&[3; 3000]]);
    commit(&log);
    let crashed = fixture.copy();
    drop((log, logs));
    for path in [fixture.directory.path(), crashed.path()] {
        for boot in [1, 2] {
            fixture.disk.faults.set_boot_id([boot; 16]);
            let logs = fixture.open_at(path);
            let log = fixture.partition(&logs, 1);
            assert_eq!(log.stats().stopped, None);
            assert_eq!(read_all(&log).len(), 3);
        }
    }
}

#[test]
fn retention_that_cannot_write_keeps_its_segments_until_it_can() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 10_000;
    fixture.topic.retention_bytes = 20_000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for _ in 0..20 {
        append(&log, &[&[1; 4000]]);
    }
    commit(&log);
    fixture.disk.faults.fail(Operation::Rename, 0, Errno::NOSPC);
    logs.enforce_retention();
    let start = log.offsets().log_start;
    assert!(start > 0);
    assert!(segment_file(fixture.directory.path(), 1, 0).exists());
    fixture.disk.faults.heal();
    logs.enforce_retention();
    assert!(!segment_file(fixture.directory.path(), 1, 0).exists());
    drop((log, logs));
    let logs = fixture.open();
    assert_eq!(fixture.partition(&logs, 1).offsets().log_start, start);
}
