//! What a running log makes of damage: the ranges it tells, what is read around them, and how it is let go on.

use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::*;
use crate::config::DamagedRecords;
use crate::log::file::Operation;
use crate::log::{Isolation, OffsetQuery, ReadError};

/// Nine batches of three records in three segments, stopped cleanly.
fn nine_batches(damaged_records: DamagedRecords) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.topic.damaged_records = damaged_records;
    let size = batch_of(&[&[0; 50][..]; 3]).header.size as u64;
    fixture.topic.segment_bytes = 4096 + 3 * size;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for number in 0..9 {
        append(&log, &[&[number; 50][..]; 3]);
    }
    commit(&log);
    logs.shutdown();
    fixture
}

fn size() -> u64 {
    batch_of(&[&[0; 50][..]; 3]).header.size as u64
}

fn flip(path: &Path, position: u64) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], position)
        .expect("written");
}

fn ranges(log: &PartitionLog) -> Vec<(Offset, Offset)> {
    let damaged = log.stats().damaged;
    damaged
        .iter()
        .map(|range| (range.first, range.until))
        .collect()
}

#[test]
fn a_reader_that_meets_damage_is_told_the_range_and_reads_around_it() {
    let fixture = nine_batches(DamagedRecords::Stop);
    // Body, header and length of the batch in the middle of each segment.
    for (segment, at) in [(0, 100), (9, 16), (18, 9)] {
        flip(
            &segment_file(fixture.directory.path(), 1, segment),
            4096 + size() + at,
        );
    }
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for segment in [0, 9, 18] {
        for offset in segment + 3..segment + 6 {
            let error = log
                .read(offset, 10_000, true, Isolation::ReadUncommitted)
                .expect_err("damaged");
            let ReadError::Corrupt { offset, message } = error else {
                panic!("{error}");
            };
            assert_eq!(offset, segment + 3);
            assert!(message.contains("offsets"), "{message}");
        }
        for whole in [segment, segment + 6] {
            let read = log
                .read(whole, 10, true, Isolation::ReadUncommitted)
                .expect("whole");
            assert_eq!(read.bytes.len() as u64, size(), "offset {whole}");
        }
    }
    assert_eq!(ranges(&log), [(3, 6), (12, 15), (21, 24)]);
    assert!(log.stats().stopped.is_none());
    assert_eq!(append(&log, &[b"on"]).base_offset, 27);
}

#[test]
fn where_the_topic_says_so_reads_go_on_behind_damage() {
    let fixture = nine_batches(DamagedRecords::Skip);
    let path = |base| segment_file(fixture.directory.path(), 1, base);
    flip(&path(0), 4096 + 2 * size() + 70);
    flip(&path(9), 4096 + 20);
    flip(&path(18), 4096 + 2 * size() + 70);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"behind"]);
    commit(&log);
    let records = read_all(&log);
    let offsets: Vec<_> = records.iter().map(|(offset, _)| *offset).collect();
    let expected: Vec<_> = (0..6).chain(12..24).chain([27]).collect();
    assert_eq!(offsets, expected);
    assert_eq!(ranges(&log), [(6, 12), (24, 27)]);
    assert_eq!(log.stats().damage_skips, 3);
    // Searches pass over it, too.
    let latest = log
        .find_offset(OffsetQuery::MaxTimestamp, Isolation::ReadUncommitted)
        .expect("found");
    assert!(latest.is_some());
    let at = log
        .find_offset(OffsetQuery::AtTime(NOW), Isolation::ReadUncommitted)
        .expect("found");
    assert_eq!(at, Some((0, NOW)));
}

#[test]
fn what_was_deleted_out_of_a_damaged_range_is_out_of_range() {
    let fixture = nine_batches(DamagedRecords::Skip);
    flip(
        &segment_file(fixture.directory.path(), 1, 0),
        4096 + size() + 100,
    );
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(read_all(&log).len(), 24);
    assert_eq!(ranges(&log), [(3, 6)]);
    log.delete_records(Some(5)).expect("deleted");
    for deleted in [0, 3, 4] {
        let error = log
            .read(deleted, 10_000, true, Isolation::ReadUncommitted)
            .expect_err("deleted");
        assert!(
            matches!(error, ReadError::OutOfRange { start: 5, .. }),
            "{error}"
        );
    }
    let read = log
        .read(5, 10, true, Isolation::ReadUncommitted)
        .expect("behind the damage");
    assert_eq!(read.bytes.len() as u64, size());
}

#[test]
fn a_segment_that_cannot_be_read_at_all_is_one_range() {
    let fixture = nine_batches(DamagedRecords::Skip);
    std::fs::remove_file(segment_file(fixture.directory.path(), 1, 9)).expect("removed");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(log.stats().stopped.is_none());
    assert_eq!(ranges(&log), [(9, 18)]);
    assert_eq!(read_all(&log).len(), 18);
    assert_eq!(append(&log, &[b"on"]).base_offset, 27);
}

#[test]
fn damage_behind_the_clean_point_is_given_up_by_choice_and_stays_given_up() {
    let mut fixture = Fixture::new();
    {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        append(&log, &[b"one"]);
        log.checkpoint().expect("a clean point");
        for value in [b"two", b"ddd", b"fff"] {
            append(&log, &[value]);
        }
        commit(&log);
    }
    let size = batch_of(&[b"two"]).header.size as u64;
    flip(
        &segment_file(fixture.directory.path(), 1, 0),
        4096 + 2 * size + 66,
    );
    let expected = [
        (0, b"one".to_vec()),
        (1, b"two".to_vec()),
        (3, b"fff".to_vec()),
    ];
    {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        assert_eq!(ranges(&log), [(2, 3)]);
        log.append(batch_of(&[b"x"])).expect_err("stopped");
        log.recover_again(false)
            .expect_err("an operator's word is needed");
        assert!(log.stats().stopped.is_some());
        assert_eq!(log.recover_again(true), Ok(true));
        assert_eq!(log.recover_again(true), Ok(false));
        assert_eq!(append(&log, &[b"on"]).base_offset, 4);
        log.read(2, 100, true, Isolation::ReadUncommitted)
            .expect_err("it stays unreadable");
        assert_eq!(read_from(&log, 3).len(), 1);
    }
    fixture.topic.damaged_records = DamagedRecords::Skip;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(log.stats().stopped.is_none());
    assert_eq!(read_all(&log)[..3], expected);
    assert_eq!(read_all(&log).len(), 4);
}

#[test]
fn no_loss_of_power_takes_what_was_answered_behind_damage_given_up_at_a_start() {
    let mut fixture = Fixture::new();
    fixture.topic.damaged_records = DamagedRecords::Skip;
    fixture.disk.faults.set_boot_id([1; 16]);
    {
        let logs = fixture.open_manually();
        let log = fixture.partition(&logs, 1);
        for value in [b"one", b"ddd", b"two"] {
            append(&log, &[value]);
            if value == b"one" {
                log.checkpoint().expect("a clean point");
            }
        }
    }
    let size = batch_of(&[b"one"]).header.size as u64;
    let path = segment_file(fixture.directory.path(), 1, 0);
    flip(&path, 4096 + size + 66);
    {
        let logs = fixture.open_manually();
        let log = fixture.partition(&logs, 1);
        assert_eq!(ranges(&log), [(1, 2)]);
        assert_eq!(append(&log, &[b"on"]).base_offset, 3);
        log.flush();
        assert_eq!(log.offsets().high_watermark, 4);
    }
    fixture.disk.faults.set_boot_id([2; 16]);
    let logs = fixture.open();
    let records = read_all(&fixture.partition(&logs, 1));
    let offsets: Vec<_> = records.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 2, 3]);
}

#[test]
fn where_no_clean_point_can_be_written_damage_is_not_given_up() {
    let mut fixture = Fixture::new();
    fixture.topic.damaged_records = DamagedRecords::Skip;
    {
        let logs = fixture.open_manually();
        let log = fixture.partition(&logs, 1);
        for value in [b"one", b"ddd", b"two"] {
            append(&log, &[value]);
            if value == b"one" {
                log.checkpoint().expect("a clean point");
            }
        }
    }
    let size = batch_of(&[b"one"]).header.size as u64;
    flip(
        &segment_file(fixture.directory.path(), 1, 0),
        4096 + size + 66,
    );
    fixture.disk.faults.fail(Operation::Rename, 0, Errno::IO);
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    log.append(batch_of(&[b"x"])).expect_err("stopped");
    assert_eq!(read_all(&log).len(), 2);
}

#[test]
fn a_log_that_stopped_is_verified_from_the_disk_and_accepts_again() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    log.append(numbered(7, 0, 0, 2)).expect("appended");
    commit(&log);
    fixture.disk.faults.fail(Operation::Sync, 0, Errno::IO);
    log.append(numbered(7, 0, 2, 2)).expect("appended");
    wait(log.committed(3)).expect_err("not durable");
    log.recover_again(false).expect_err("the disk still errs");
    assert!(log.stats().stopped.is_some());
    fixture.disk.faults.heal();
    let reader = log
        .read(0, 100, true, Isolation::ReadUncommitted)
        .expect("reads go on");
    assert_eq!(reader.high_watermark, 2);
    assert_eq!(log.recover_again(false), Ok(true));
    assert!(log.stats().stopped.is_none());
    assert!(!fixture.folder(1).join("suspect").exists());
    let end = log.offsets().log_end;
    assert!(end >= 2, "what was committed is there");
    // What its producer sends again is a duplicate or new, as the disk has it.
    let again = log.append(numbered(7, 0, 2, 2)).expect("appended");
    assert_eq!(again.duplicate, end == 4);
    wait(log.committed(3)).expect("durable");
    assert_eq!(read_all(&log).len(), 4);
    drop((log, logs));
    let logs = fixture.open();
    assert_eq!(read_all(&fixture.partition(&logs, 1)).len(), 4);
}

#[test]
fn readers_that_are_under_way_survive_a_recovery() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for number in 0..50 {
        append(&log, &[&[number; 1000]]);
    }
    commit(&log);
    let reading = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while reading.load(std::sync::atomic::Ordering::SeqCst) {
                assert_eq!(read_all(&log).len(), 50);
            }
        });
        for _ in 0..20 {
            fixture.disk.faults.fail(Operation::Write, 0, Errno::IO);
            log.append(batch_of(&[b"x"])).expect_err("stopped");
            fixture.disk.faults.heal();
            assert_eq!(log.recover_again(false), Ok(true));
        }
        reading.store(false, std::sync::atomic::Ordering::SeqCst);
    });
}

#[test]
fn a_last_segment_whose_end_nobody_knows_is_not_given_up() {
    let fixture = nine_batches(DamagedRecords::Skip);
    let path = segment_file(fixture.directory.path(), 1, 18);
    flip(&path, 20);
    flip(&path, 2048 + 20);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(log.stats().stopped.is_some());
    log.recover_again(true).expect_err("where would it go on?");
    assert_eq!(ranges(&log), [(18, 27)]);
    let rest = log
        .read(15, 10_000, true, Isolation::ReadUncommitted)
        .expect("the rest is served");
    assert_eq!(rest.bytes.len() as u64, size());
}

#[test]
fn a_segment_cut_within_its_header_block_is_damage_to_its_readers() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"one"]);
    append(&log, &[b"two"]);
    logs.shutdown();
    drop((log, logs));
    let path = segment_file(fixture.directory.path(), 1, 0);
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_len(1000)).expect("cut");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for offset in 0..2 {
        let read = log.read(offset, 1000, true, Isolation::ReadUncommitted);
        assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    }
}

#[test]
fn a_loss_of_power_makes_no_torn_tail_of_damage_that_was_found_before() {
    let fixture = Fixture::new();
    fixture.disk.faults.set_boot_id([1; 16]);
    {
        let logs = fixture.open_manually();
        let log = fixture.partition(&logs, 1);
        append(&log, &[b"one"]);
        log.checkpoint().expect("a clean point");
        append(&log, &[b"ddd"]);
        append(&log, &[b"two"]);
    }
    let size = batch_of(&[b"one"]).header.size as u64;
    let path = segment_file(fixture.directory.path(), 1, 0);
    flip(&path, 4096 + size + 66);
    for boot in [1, 2, 3] {
        fixture.disk.faults.set_boot_id([boot; 16]);
        let logs = fixture.open_manually();
        let log = fixture.partition(&logs, 1);
        assert!(log.stats().stopped.is_some(), "run {boot}");
        assert_eq!(ranges(&log), [(1, 2)], "run {boot}");
        let behind = log.read(2, 1000, true, Isolation::ReadUncommitted);
        assert!(!behind.expect("whole").bytes.is_empty(), "run {boot}");
    }
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    assert_eq!(log.recover_again(true), Ok(true));
    assert!(!fixture.folder(1).join("damaged").exists());
    assert_eq!(append(&log, &[b"on"]).base_offset, 3);
}
