//! Fewer files than partitions: whoever cannot have one waits or is refused, and nobody stops.

use rustix::io::Errno;

use super::*;
use crate::log::file::Operation;

fn fixture(max_open_segments: usize) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.config.max_open_segments = max_open_segments;
    fixture
}

fn flush_all(logs: &LogSet) {
    while logs.step(Work::Flush) || logs.step(Work::LazyFlush) {}
}

#[test]
fn the_partition_that_was_idle_longest_gives_its_file_to_another() {
    let fixture = fixture(3);
    let logs = fixture.open_manually();
    let partitions: Vec<_> = (0..10)
        .map(|number| fixture.partition(&logs, number))
        .collect();
    for round in 0..4_u8 {
        for log in &partitions {
            append(log, &[&[round]]);
            flush_all(&logs);
            assert!(logs.handle_stats().open <= 3);
        }
    }
    let stats = logs.handle_stats();
    assert_eq!((stats.bound, stats.refused), (3, 0));
    assert_eq!(stats.closed, 37, "of 40 openings only the last 3 are open");
    let expected: Vec<_> = (0..4)
        .map(|round| (i64::from(round), vec![round]))
        .collect();
    for log in &partitions {
        assert_eq!(read_all(log), expected);
    }
    logs.shutdown();
    assert_eq!(logs.handle_stats().open, 0);
    drop((partitions, logs));
    let logs = fixture.open_manually();
    for number in 0..10 {
        assert_eq!(read_all(&fixture.partition(&logs, number)), expected);
    }
}

#[test]
fn a_file_that_is_not_synced_stays_open_and_the_append_is_refused_until_it_is() {
    let fixture = fixture(2);
    let logs = fixture.open_manually();
    let partitions: Vec<_> = (0..3)
        .map(|number| fixture.partition(&logs, number))
        .collect();
    append(&partitions[0], &[b"a"]);
    append(&partitions[1], &[b"a"]);
    let refused = partitions[2].append(batch_of(&[b"a"]));
    let Err(AppendError::Storage(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("log.max-open-segments"), "{reason}");
    assert_eq!(logs.handle_stats().refused, 1);
    assert!(logs.step(Work::Flush), "the oldest are synced out of turn");
    append(&partitions[2], &[b"a"]);
    flush_all(&logs);
    for log in &partitions {
        assert_eq!(read_all(log).len(), 1);
        assert_eq!(log.stats().stopped, None);
    }
}

#[test]
fn many_writers_get_by_with_few_files() {
    let mut fixture = fixture(4);
    fixture.topic.segment_bytes = 4096 + 600;
    let logs = fixture.open();
    let partitions: Vec<_> = (0..24)
        .map(|number| fixture.partition(&logs, number))
        .collect();
    std::thread::scope(|scope| {
        for part in partitions.chunks(6) {
            scope.spawn(move || {
                for round in 0..20_u8 {
                    for log in part {
                        eventually("a file", || match log.append(batch_of(&[&[round; 100]])) {
                            Ok(_) => true,
                            Err(AppendError::Storage(_)) => false,
                            Err(error) => panic!("{error}"),
                        });
                    }
                }
            });
        }
    });
    for log in &partitions {
        commit(log);
        let values: Vec<_> = read_all(log).iter().map(|(_, value)| value[0]).collect();
        assert_eq!(values, (0..20).collect::<Vec<_>>());
        assert_eq!(log.stats().stopped, None);
    }
    assert!(logs.handle_stats().closed > 0);
}

/// Whatever finds no descriptor, at whichever call: what is refused may be tried again, what was acknowledged stays.
#[test]
fn no_call_that_finds_no_descriptor_stops_a_partition() {
    for errno in [Errno::MFILE, Errno::NFILE] {
        for allowed in 0..24 {
            for operation in [Operation::Open, Operation::Sync] {
                let mut fixture = Fixture::new();
                fixture.topic.segment_bytes = 4096 + 400;
                let logs = fixture.open_manually();
                let log = fixture.partition(&logs, 1);
                fixture.disk.faults.fail(operation, allowed, errno);
                let mut kept = Vec::new();
                for number in 0..12_u8 {
                    match log.append(batch_of(&[&[number; 100]])) {
                        Ok(appended) => kept.push((appended.base_offset, vec![number; 100])),
                        Err(AppendError::Storage(_)) => {}
                        Err(error) => panic!("{operation:?} {allowed}: {error}"),
                    }
                    logs.step(Work::Flush);
                    logs.step(Work::LazyFlush);
                    logs.step(Work::Checkpoint);
                }
                logs.enforce_retention();
                logs.check_files();
                let _ = log.delete_records(Some(1));
                assert_eq!(log.stats().stopped, None, "{operation:?} {allowed}");
                fixture.disk.faults.heal();
                kept.push((append(&log, &[&[99; 100]]).base_offset, vec![99; 100]));
                flush_all(&logs);
                let start = log.offsets().log_start;
                kept.retain(|(offset, _)| *offset >= start);
                assert_eq!(read_all(&log), kept, "{operation:?} {allowed}");
                drop((log, logs));
                let logs = fixture.open_manually();
                let log = fixture.partition(&logs, 1);
                assert_eq!(read_from(&log, start), kept, "{operation:?} {allowed}");
            }
        }
    }
}

#[test]
fn another_file_in_the_place_of_one_that_was_closed_is_not_written_to() {
    let fixture = fixture(1);
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    let other = fixture.partition(&logs, 2);
    append(&log, &[b"a"]);
    flush_all(&logs);
    append(&other, &[b"a"]);
    flush_all(&logs);
    let root = fixture.directory.path();
    std::fs::copy(segment_file(root, 2, 0), segment_file(root, 1, 0)).expect("copied");
    let error = log.append(batch_of(&[b"b"])).expect_err("not its file");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    assert!(error.to_string().contains("another file"), "{error}");
}
