//! Files that somebody takes away while the log is running: what is written to them is lost, so nothing more is accepted.

use super::*;

#[track_caller]
fn assert_stopped(log: &PartitionLog) {
    let reason = log.stats().stopped.expect("stopped");
    assert!(reason.contains("was removed"), "{reason}");
    let error = log.append(batch_of(&[b"more"])).expect_err("refused");
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
}

/// Three segments, all synced.
fn filled(fixture: &mut Fixture, logs: &LogSet) -> Arc<PartitionLog> {
    fixture.topic.segment_bytes = 4096 + 400;
    let log = fixture.partition(logs, 1);
    for number in 0..5 {
        append(&log, &[&[number; 100]]);
    }
    while logs.step(Work::Flush) || logs.step(Work::LazyFlush) {}
    assert_eq!(log.stats().segments, 3);
    log
}

#[test]
fn an_active_segment_that_was_removed_is_noticed_by_the_next_sync() {
    let mut fixture = Fixture::new();
    let logs = fixture.open_manually();
    let log = filled(&mut fixture, &logs);
    std::fs::remove_file(segment_file(fixture.directory.path(), 1, 4)).expect("removed");
    let last = append(&log, &[&[7; 10]]).last_offset;
    let mut commit = log.commit(last).expect("registered");
    commit.hurry();
    assert!(logs.step(Work::Flush));
    assert!(wait(commit.wait()).is_err(), "acks=all is not answered");
    assert_stopped(&log);
}

#[test]
fn whatever_was_removed_is_noticed_by_the_check() {
    for what in ["0", "2", "4", "folder", "topic"] {
        let mut fixture = Fixture::new();
        let logs = fixture.open_manually();
        let log = filled(&mut fixture, &logs);
        logs.check_files();
        assert_eq!(log.stats().stopped, None, "everything is there");
        let folder = fixture.folder(1);
        let removed = match what {
            "folder" => std::fs::remove_dir_all(folder),
            "topic" => std::fs::rename(
                folder.parent().expect("a topic"),
                fixture.directory.path().join("elsewhere"),
            ),
            base => {
                let base = base.parse().expect("an offset");
                std::fs::remove_file(segment_file(fixture.directory.path(), 1, base))
            }
        };
        removed.expect("removed");
        logs.check_files();
        assert_stopped(&log);
    }
}

#[test]
fn what_the_log_gives_away_itself_is_not_missed() {
    let mut fixture = Fixture::new();
    let logs = fixture.open_manually();
    let log = filled(&mut fixture, &logs);
    log.delete_records(Some(5)).expect("deleted");
    logs.check_files();
    let empty = fixture.partition(&logs, 2);
    logs.check_files();
    logs.delete_topic(topic_id(2)).expect("deleted");
    logs.check_files();
    assert_eq!(log.stats().stopped, None);
    assert_eq!(empty.stats().stopped, None);
    append(&log, &[b"more"]);
}
