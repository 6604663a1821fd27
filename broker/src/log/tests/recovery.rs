use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::env::memory::MemoryDisk;
use crate::log::ReadError;

/// Opens a copy of a log folder after `damage` was done to its partition 1, as a broker would after a crash.
fn reopen(fixture: &Fixture, damage: impl Fn(&Path), check: impl Fn(&PartitionLog)) {
    let copy = fixture.copy();
    damage(copy.path());
    let logs = fixture.open_at(copy.path());
    check(&fixture.partition(&logs, 1));
}

fn truncate(path: &Path, length: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("file");
    file.set_len(length).expect("truncated");
}

fn flip(path: &Path, position: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("read");
    file.write_all_at(&[byte[0] ^ 0x40], position)
        .expect("written");
}

/// Three committed batches and the position where the last begins and ends.
fn three_batches(fixture: &Fixture) -> (u64, u64) {
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let size = batch_of(&[&[9; 60]]).header.size as u64;
    for number in 1..=3 {
        append(&log, &[&[number; 60]]);
    }
    commit(&log);
    (4096 + 2 * size, 4096 + 3 * size)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let fixture = Fixture::new();
    let (last, end) = three_batches(&fixture);
    for length in last..=end {
        let whole = if length == end { 3 } else { 2 };
        reopen(
            &fixture,
            |root| truncate(&segment_file(root, 1, 0), length),
            |log| {
                assert_eq!(read_all(log).len(), whole, "length {length}");
                assert!(log.stats().stopped.is_none());
                assert_eq!(
                    append(log, &[b"next"]).base_offset,
                    i64::try_from(whole).expect("small")
                );
                commit(log);
                assert_eq!(read_all(log).len(), whole + 1);
            },
        );
    }
}

#[test]
fn a_last_batch_with_any_changed_byte_is_cut_off() {
    let fixture = Fixture::new();
    let (last, end) = three_batches(&fixture);
    for position in last..end {
        reopen(
            &fixture,
            |root| flip(&segment_file(root, 1, 0), position),
            |log| {
                assert_eq!(read_all(log).len(), 2, "position {position}");
                assert!(log.stats().stopped.is_none());
                let file = segment_file(log_root(log), 1, 0);
                assert_eq!(fs::metadata(file).expect("file").len(), last, "cut");
            },
        );
    }
}

fn log_root(log: &PartitionLog) -> &Path {
    log.folder.ancestors().nth(2).expect("a root")
}

#[test]
fn a_batch_that_was_cut_off_never_comes_back() {
    let fixture = Fixture::new();
    let (last, _) = three_batches(&fixture);
    let copy = fixture.copy();
    flip(&segment_file(copy.path(), 1, 0), last);
    let logs = fixture.open_at(copy.path());
    drop(fixture.partition(&logs, 1));
    drop(logs);
    // The byte that had made the batch bad is what it should be again; the batch is not there.
    let file = segment_file(copy.path(), 1, 0);
    if fs::metadata(&file).expect("file").len() > last {
        flip(&file, last);
    }
    let logs = fixture.open_at(copy.path());
    assert_eq!(read_all(&fixture.partition(&logs, 1)).len(), 2);
}

#[test]
fn space_reserved_ahead_is_no_record() {
    let fixture = Fixture::new();
    three_batches(&fixture);
    let length = fs::metadata(segment_file(fixture.directory.path(), 1, 0))
        .expect("file")
        .len();
    assert!(length > 500_000, "space was reserved: {length}");
    reopen(&fixture, |_| {}, |log| assert_eq!(read_all(log).len(), 3));
}

#[test]
fn damage_in_front_of_whole_batches_stops_the_log_and_loses_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.topic.index_interval_bytes = 1;
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
    for at in [0, 12, 16, 20, 40, size - 1] {
        reopen(
            &fixture,
            |root| flip(&segment_file(root, 1, 0), 4096 + 2 * size + at),
            |log| {
                let stopped = log.stats().stopped.expect("stopped");
                assert!(stopped.contains("00000000000000000000.log"), "{stopped}");
                let error = log.append(batch_of(&[b"x"])).expect_err("refused");
                assert!(matches!(error, AppendError::Stopped(_)));
                assert_eq!(log.offsets().log_end, 4, "byte {at}");
                let error = log
                    .read(2, 1000, true, Isolation::ReadUncommitted)
                    .expect_err("the damaged one");
                assert!(
                    matches!(error, ReadError::Corrupt { offset: 2, .. }),
                    "{error}"
                );
                assert_eq!(read_from(log, 3), [(3, b"fff".to_vec())], "byte {at}");
                assert_eq!(
                    log.read(0, 1000, true, Isolation::ReadUncommitted)
                        .expect("reads")
                        .bytes
                        .len() as u64,
                    2 * size
                );
            },
        );
    }
}

#[test]
fn a_hole_after_the_clean_point_is_a_torn_tail_when_power_was_lost() {
    let fixture = Fixture::new();
    fixture.disk.faults.set_boot_id([1; 16]);
    {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        append(&log, &[b"one"]);
        log.checkpoint().expect("a clean point");
        append(&log, &[b"two"]);
        append(&log, &[b"ddd"]);
    }
    let size = batch_of(&[b"two"]).header.size as u64;
    fixture.disk.faults.set_boot_id([2; 16]);
    reopen(
        &fixture,
        |root| flip(&segment_file(root, 1, 0), 4096 + size + 70),
        |log| {
            assert!(log.stats().stopped.is_none());
            assert_eq!(read_all(log), [(0, b"one".to_vec())]);
        },
    );
}

#[test]
fn losing_synced_bytes_stops_the_log() {
    let fixture = Fixture::new();
    {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        append(&log, &[b"one"]);
        append(&log, &[b"two"]);
        logs.shutdown();
    }
    let size = batch_of(&[b"two"]).header.size as u64;
    let file = |root: &Path| segment_file(root, 1, 0);
    reopen(
        &fixture,
        |root| truncate(&file(root), 4096 + size),
        |log| {
            assert!(
                log.stats()
                    .stopped
                    .expect("stopped")
                    .contains("were synced")
            );
            assert!(log.read(1, 1000, true, Isolation::ReadUncommitted).is_err());
        },
    );
    reopen(
        &fixture,
        |root| fs::remove_file(file(root)).expect("removed"),
        |log| {
            assert!(log.stats().stopped.expect("stopped").contains("missing"));
        },
    );
    reopen(
        &fixture,
        |root| {
            flip(&file(root), 30);
            flip(&file(root), 2048 + 30);
        },
        |log| {
            assert!(
                log.stats()
                    .stopped
                    .expect("stopped")
                    .contains("segment header")
            );
            assert!(matches!(
                log.read(0, 1000, true, Isolation::ReadUncommitted),
                Err(ReadError::Corrupt { .. })
            ));
        },
    );
}

#[test]
fn a_changed_byte_in_a_segment_header_loses_nothing() {
    let fixture = Fixture::new();
    {
        let logs = fixture.open();
        append(&fixture.partition(&logs, 1), &[b"one"]);
        logs.shutdown();
    }
    for position in [0, 9, 30, 63, 91, 92, 500, 2048, 2100, 4095] {
        reopen(
            &fixture,
            |root| flip(&segment_file(root, 1, 0), position),
            |log| {
                assert_eq!(log.stats().stopped, None, "byte {position}");
                assert_eq!(read_all(log), [(0, b"one".to_vec())]);
                assert_eq!(append(log, &[b"two"]).base_offset, 1);
            },
        );
    }
}

#[test]
fn a_header_of_which_a_loss_of_power_left_one_copy_is_written_again() {
    let fixture = Fixture::new();
    {
        let logs = fixture.open();
        append(&fixture.partition(&logs, 1), &[b"one"]);
        logs.shutdown();
    }
    let path = segment_file(fixture.directory.path(), 1, 0);
    let whole = fs::read(&path).expect("segment");
    for lost in [0..512, 2048..2560] {
        let mut torn = whole.clone();
        torn[lost].fill(0);
        fs::write(&path, torn).expect("written");
        let logs = fixture.open();
        assert_eq!(fixture.partition(&logs, 1).stats().stopped, None);
        logs.shutdown();
        let mended = fs::read(&path).expect("segment");
        assert_eq!(mended[..4096], whole[..4096]);
    }
}

#[test]
fn a_file_of_another_partition_is_not_read() {
    let fixture = Fixture::new();
    {
        let logs = fixture.open();
        append(&fixture.partition(&logs, 1), &[b"mine"]);
        append(&fixture.partition(&logs, 2), &[b"other"]);
        logs.shutdown();
    }
    let swap = |root: &Path| {
        fs::copy(segment_file(root, 2, 0), segment_file(root, 1, 0)).expect("copied");
    };
    reopen(&fixture, swap, |log| {
        assert!(
            log.stats()
                .stopped
                .expect("stopped")
                .contains("was written for")
        );
        assert!(matches!(
            log.read(0, 1000, true, Isolation::ReadUncommitted),
            Err(ReadError::Corrupt { .. })
        ));
    });
}

/// Several small segments, some of them after the clean point.
fn several_segments() -> (Fixture, usize) {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 1000;
    fixture.disk.faults.set_boot_id([1; 16]);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for number in 0..10 {
        append(&log, &[&[number; 200]]);
    }
    log.checkpoint().expect("a clean point");
    let checkpoint = fixture.folder(1).join("checkpoint");
    let clean = fs::read(&checkpoint).expect("checkpoint");
    for number in 10..30 {
        append(&log, &[&[number; 200]]);
    }
    commit(&log);
    drop((log, logs));
    // The keeper may have recorded a later one behind a roll.
    fs::write(&checkpoint, clean).expect("written");
    (fixture, 30)
}

#[test]
fn segments_after_the_clean_point_are_recovered() {
    let (fixture, count) = several_segments();
    reopen(
        &fixture,
        |_| {},
        |log| assert_eq!(read_all(log).len(), count),
    );
}

#[test]
fn a_lost_or_damaged_checkpoint_means_a_longer_check_and_no_loss() {
    let (fixture, count) = several_segments();
    let checkpoint = |root: &Path| folder(root, 1).join("checkpoint");
    reopen(
        &fixture,
        |root| fs::remove_file(checkpoint(root)).expect("removed"),
        |log| {
            assert!(log.stats().stopped.is_none());
            assert_eq!(read_all(log).len(), count);
        },
    );
    reopen(
        &fixture,
        |root| flip(&checkpoint(root), 40),
        |log| {
            assert!(log.stats().stopped.is_none());
            assert_eq!(read_all(log).len(), count);
        },
    );
    // Without a clean point a hole might be anywhere: it is never taken for a torn tail.
    let hole = |root: &Path| {
        fs::remove_file(checkpoint(root)).expect("removed");
        flip(&segment_file(root, 1, 0), 4096 + 100);
    };
    reopen(&fixture, hole, |log| assert!(log.stats().stopped.is_some()));
}

#[test]
fn a_missing_segment_in_the_middle_is_damage() {
    let (fixture, _) = several_segments();
    let mut bases: Vec<_> = fs::read_dir(fixture.folder(1))
        .expect("folder")
        .filter_map(|entry| crate::log::segment::base_of(entry.ok()?.file_name().to_str()?))
        .collect();
    bases.sort_unstable();
    let remove = |base: Offset| {
        move |root: &Path| fs::remove_file(segment_file(root, 1, base)).expect("removed")
    };
    let (early, late) = (bases[1], bases[bases.len() - 2]);
    for base in [early, late] {
        reopen(&fixture, remove(base), |log| {
            assert!(log.stats().stopped.is_some(), "segment {base}");
            let error = log
                .read(base, 1000, true, Isolation::ReadUncommitted)
                .expect_err("nothing there");
            assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
        });
    }
}

#[test]
fn power_lost_in_the_middle_of_a_roll_leaves_a_prefix() {
    let (fixture, _) = several_segments();
    fixture.disk.faults.set_boot_id([2; 16]);
    let mut bases: Vec<_> = fs::read_dir(fixture.folder(1))
        .expect("folder")
        .filter_map(|entry| crate::log::segment::base_of(entry.ok()?.file_name().to_str()?))
        .collect();
    bases.sort_unstable();
    let last = *bases.last().expect("segments");
    let before = bases[bases.len() - 2];
    let blank = |root: &Path| {
        fs::write(segment_file(root, 1, last), vec![0; 10_000]).expect("written");
    };
    reopen(&fixture, blank, |log| {
        assert!(log.stats().stopped.is_none());
        assert_eq!(read_all(log).len(), usize::try_from(last).expect("small"));
    });
    let torn = |root: &Path| {
        let file = segment_file(root, 1, before);
        let length = fs::metadata(&file).expect("file").len();
        truncate(&file, length - 10);
    };
    reopen(&fixture, torn, |log| {
        assert!(log.stats().stopped.is_none());
        let count = i64::try_from(read_all(log).len()).expect("small");
        assert!(count < last && count >= before);
        assert_eq!(append(log, &[b"on"]).base_offset, count);
        commit(log);
        assert_eq!(read_all(log).len() as i64, count + 1);
    });
    let hole = |root: &Path| fs::write(segment_file(root, 1, before), []).expect("written");
    reopen(&fixture, hole, |log| {
        assert!(log.stats().stopped.is_none());
        assert_eq!(read_all(log).len() as i64, before);
    });
}

#[test]
fn recovery_reads_only_what_came_after_the_clean_point() {
    let fixture = Fixture::new();
    {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        append(&log, &[b"one"]);
        append(&log, &[b"two"]);
        logs.shutdown();
    }
    // Damage that only a reader meets: a clean log opens without being read.
    reopen(
        &fixture,
        |root| flip(&segment_file(root, 1, 0), 4096 + 65),
        |log| {
            assert!(log.stats().stopped.is_none());
            assert!(matches!(
                log.read(0, 1000, true, Isolation::ReadUncommitted),
                Err(ReadError::Corrupt { .. })
            ));
            assert_eq!(read_from(log, 1), [(1, b"two".to_vec())]);
        },
    );
}

#[test]
fn a_partition_has_a_checkpoint_before_its_second_segment() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 400;
    let logs = LogSet::open_with(
        crate::env::files::machine(),
        fixture.directory.path(),
        fixture.config.clone(),
        fixture.clock.clone(),
        Background::Manual,
    )
    .expect("opens");
    let log = fixture.partition(&logs, 1);
    let checkpoint = fixture.folder(1).join("checkpoint");
    while log.stats().segments < 2 {
        assert!(log.stats().segments == 0 || !checkpoint.exists());
        append(&log, &[&[1; 100]]);
    }
    assert!(checkpoint.exists());
    // Nothing of the second segment is synced, and a loss of power may take a batch in front of it: no damage.
    drop(log);
    drop(logs);
    fixture.disk.faults.set_boot_id([9; 16]);
    reopen(
        &fixture,
        |root| flip(&segment_file(root, 1, 0), 4096 + 20),
        |log| assert!(log.stats().stopped.is_none()),
    );
}

#[test]
fn a_segment_whose_header_block_never_became_durable_is_given_away() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 400;
    {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        append(&log, &[&[1; 100]]);
        commit(&log);
        log.checkpoint().expect("checkpoint");
    }
    reopen(
        &fixture,
        |root| {
            let first = fs::read(segment_file(root, 1, 0)).expect("segment");
            fs::write(segment_file(root, 1, 1), &first[..512]).expect("written");
        },
        |log| {
            assert!(log.stats().stopped.is_none(), "{:?}", log.stats().stopped);
            assert_eq!(read_all(log).len(), 1);
        },
    );
}

#[test]
fn a_header_that_only_the_page_cache_holds_is_not_believed_after_a_failed_sync() {
    let fixture = Fixture::new();
    let memory = MemoryDisk::default();
    let open = || {
        let disk = Disk::new(Arc::new(memory.clone()));
        let (config, clock) = (fixture.config.clone(), fixture.clock.clone());
        LogSet::open_on(disk, Path::new("/log"), config, clock, Background::Manual)
            .expect("the log folder opens")
    };
    let logs = open();
    append(&fixture.partition(&logs, 1), &[b"a"]);
    std::mem::forget(logs);
    let folder = folder(Path::new("/log"), 1);
    let file = segment_file(Path::new("/log"), 1, 0);
    memory.change(&folder.join("suspect"), |_| {});
    memory.fail_sync(&file, |content| content[..4096].fill(0));
    // The batch is on the disk, but without the header nobody could tell that it is this segment's.
    let logs = open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(log.stats().stopped, None);
    assert_eq!(log.offsets().log_end, 0);
}
