//! What `tidegate log repair` makes of damaged files: every whole batch is kept at its offset, and the log goes on.

use std::os::unix::fs::FileExt;

use super::*;
use crate::config::DamagedRecords;
use crate::log::repair::repair;
use crate::log::{Isolation, inspect};

/// Twelve batches of an idempotent producer in four segments, stopped cleanly.
fn four_segments() -> Fixture {
    let mut fixture = Fixture::new();
    let size = numbered(5, 0, 0, 3).header.size as u64;
    fixture.topic.segment_bytes = 4096 + 3 * size;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for number in 0..12 {
        log.append(numbered(5, 0, number * 3, 3)).expect("appended");
    }
    commit(&log);
    logs.shutdown();
    fixture
}

fn size() -> u64 {
    numbered(5, 0, 0, 3).header.size as u64
}

fn change(path: &Path, position: u64) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("read");
    file.write_all_at(&[byte[0] ^ 0x21], position)
        .expect("written");
}

/// The offsets of all records; a gap at the end is no end.
fn offsets(log: &PartitionLog) -> Vec<Offset> {
    let mut offsets = Vec::new();
    let mut next = 0;
    loop {
        let read = log.read(next, 1 << 20, true, Isolation::ReadUncommitted);
        let bytes = read.expect("reads").bytes;
        if bytes.is_empty() {
            return offsets;
        }
        for batch in batch::split(bytes, usize::MAX).expect("whole batches") {
            next = batch.header.last_offset() + 1;
            offsets.extend(batch.header.base_offset..next);
        }
    }
}

/// Damages, repairs, and checks that the offsets but `lost` are served and that the log goes on at 36.
fn check(what: &str, damage: &dyn Fn(&Path), lost: std::ops::Range<Offset>) {
    let mut fixture = four_segments();
    let root = fixture.directory.path();
    damage(root);
    let found = inspect::verify(root).expect("report").findings;
    assert!(!found.is_empty(), "{what}: detected");
    let planned = repair(root, id(1), true).expect("planned");
    assert_eq!(
        inspect::verify(root).expect("report").findings,
        found,
        "{what}: a dry run changes nothing"
    );
    let done = repair(root, id(1), false).expect("repaired");
    assert_eq!(
        done.len(),
        planned.len() + 1,
        "{what}: {planned:#?} {done:#?}"
    );
    let report = inspect::verify(root).expect("report");
    assert_eq!(report.findings, [], "{what}: clean afterwards");
    assert_eq!(
        repair(root, id(1), false),
        Ok(Vec::new()),
        "{what}: nothing is left to do"
    );
    fixture.topic.damaged_records = DamagedRecords::Stop;
    for restart in 0..2 {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        assert_eq!(log.stats().stopped, None, "{what}");
        let end = 36 + restart * 3;
        assert_eq!(log.offsets().log_end, end, "{what}");
        let offsets = offsets(&log);
        let expected: Vec<_> = (0..end).filter(|offset| !lost.contains(offset)).collect();
        assert_eq!(offsets, expected, "{what}");
        // A producer whose last batch is lost is told so by its sequence; another goes on.
        let (producer, first) = match lost.end {
            36 => (6, end - 36),
            _ => (5, end),
        };
        let sequence = i32::try_from(first).expect("small");
        let next = numbered(producer, 0, sequence, 3);
        let appended = log.append(next).expect("appended");
        assert_eq!(
            (appended.base_offset, appended.duplicate),
            (end, false),
            "{what}"
        );
        commit(&log);
        logs.shutdown();
    }
}

#[test]
fn a_damaged_batch_is_taken_out_and_nothing_else() {
    let body = |root: &Path| change(&segment_file(root, 1, 9), 4096 + size() + 80);
    check("body", &body, 12..15);
    let header = |root: &Path| change(&segment_file(root, 1, 9), 4096 + size() + 9);
    check("length", &header, 12..15);
    let first = |root: &Path| change(&segment_file(root, 1, 0), 4096 + 17);
    check("first of the log", &first, 0..3);
    let active = |root: &Path| change(&segment_file(root, 1, 27), 4096 + size() + 80);
    check("middle of the active segment", &active, 30..33);
    let both = |root: &Path| {
        change(&segment_file(root, 1, 9), 4096 + 2);
        change(&segment_file(root, 1, 9), 4096 + size() + 2);
    };
    check("two batches", &both, 9..15);
}

#[test]
fn a_damaged_batch_at_the_end_of_a_segment_or_of_the_log_leaves_a_gap_there() {
    let last = |root: &Path| change(&segment_file(root, 1, 9), 4096 + 2 * size() + 80);
    check("last of a segment", &last, 15..18);
    let last = |root: &Path| change(&segment_file(root, 1, 27), 4096 + 2 * size() + 80);
    check("last of the log", &last, 33..36);
}

#[test]
fn a_segment_that_is_missing_or_unreadable_leaves_a_gap() {
    let missing = |root: &Path| std::fs::remove_file(segment_file(root, 1, 9)).expect("removed");
    check("missing", &missing, 9..18);
    let unreadable = |root: &Path| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(segment_file(root, 1, 18))
            .expect("file");
        file.write_all_at(&[9; 4096], 0).expect("written");
    };
    check("unreadable", &unreadable, 18..27);
    let active = |root: &Path| std::fs::remove_file(segment_file(root, 1, 27)).expect("removed");
    check("the active one is missing", &active, 27..36);
}

#[test]
fn what_stands_twice_or_is_derived_is_made_anew_without_loss() {
    let header = |root: &Path| change(&segment_file(root, 1, 9), 30);
    check("header", &header, 0..0);
    let second = |root: &Path| change(&segment_file(root, 1, 27), 2048 + 30);
    check("second copy", &second, 0..0);
    let padding = |root: &Path| change(&segment_file(root, 1, 27), 4000);
    check("padding", &padding, 0..0);
    let index = |root: &Path| {
        let index = segment_file(root, 1, 9).with_extension("index");
        change(&index, 20);
    };
    check("index", &index, 0..0);
    let checkpoint = |root: &Path| change(&folder(root, 1).join("checkpoint"), 40);
    check("checkpoint", &checkpoint, 0..0);
}

#[test]
fn what_is_taken_out_is_kept_aside() {
    let fixture = four_segments();
    let path = segment_file(fixture.directory.path(), 1, 9);
    change(&path, 4096 + size() + 80);
    let before = std::fs::read(&path).expect("read");
    repair(fixture.directory.path(), id(1), false).expect("repaired");
    let kept = path.with_extension("log.damaged");
    assert_eq!(std::fs::read(kept).expect("kept"), before);
}

#[test]
fn a_log_in_use_is_not_repaired_and_its_start_is_kept() {
    let fixture = four_segments();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    log.raise_log_start(4);
    log.checkpoint().expect("a clean point");
    let root = fixture.directory.path();
    change(&segment_file(root, 1, 9), 4096 + 70);
    let error = repair(root, id(1), false).expect_err("in use");
    assert!(error.contains("in use"), "{error}");
    drop((log, logs));
    repair(root, id(1), false).expect("repaired");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(log.offsets().log_start, 4);
}

#[test]
fn a_header_of_format_1_that_differs_in_one_byte_is_found_again() {
    for position in [0, 9, 20, 27, 35, 50, 61] {
        let fixture = four_segments();
        let root = fixture.directory.path();
        let path = segment_file(root, 1, 9);
        let mut file = std::fs::read(&path).expect("read");
        // As version 0.1.0 wrote it: one copy, no flags.
        file[8..12].copy_from_slice(&1_u32.to_be_bytes());
        let checksum = crc32c::crc32c(&file[..60]);
        file[60..64].copy_from_slice(&checksum.to_be_bytes());
        file[64..4096].fill(0);
        file[position] ^= 0x40;
        std::fs::write(&path, file).expect("written");
        assert!(!inspect::verify(root).expect("report").findings.is_empty());
        repair(root, id(1), false).expect("repaired");
        assert_eq!(inspect::verify(root).expect("report").findings, []);
        let logs = fixture.open();
        assert_eq!(
            read_all(&fixture.partition(&logs, 1)).len(),
            36,
            "byte {position}"
        );
    }
}
