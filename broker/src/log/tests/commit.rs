use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

use super::*;
use crate::config::Durability;
use crate::log::catch_up;

#[test]
fn records_are_shown_and_acknowledged_only_when_synced() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    commit(&log);
    fixture.disk.faults.hold_syncs();
    append(&log, &[b"b"]);
    let mut committed = pin!(log.committed(1));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(committed.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(log.offsets().high_watermark, 1);
    assert_eq!(log.offsets().log_end, 2);
    assert!(
        log.read(1, 1000, true, Isolation::ReadUncommitted)
            .expect("reads")
            .bytes
            .is_empty()
    );
    fixture.disk.faults.release_syncs();
    wait(committed).expect("committed");
    assert_eq!(read_all(&log).len(), 2);
}

#[test]
fn os_durability_shows_and_acknowledges_at_append() {
    let mut fixture = Fixture::new();
    fixture.topic.durability = Durability::Os;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    fixture.disk.faults.hold_syncs();
    append(&log, &[b"a"]);
    wait(log.committed(0)).expect("at once");
    assert_eq!(read_all(&log).len(), 1);
    fixture.disk.faults.release_syncs();
    eventually("it is synced in the background all the same", || {
        fixture.disk.faults.syncs() > 0
    });
}

#[test]
fn nobody_hurries_the_sync_of_what_may_be_lost_with_the_power() {
    let mut fixture = Fixture::new();
    fixture.topic.durability = Durability::Os;
    let logs = LogSet::open_with(
        crate::env::files::machine(),
        fixture.directory.path(),
        fixture.config.clone(),
        fixture.clock.clone(),
        Background::Manual,
    )
    .expect("opens");
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    // As a consumer does that waits for more.
    log.wake_on_progress(&Arc::new(Notify::new()));
    append(&log, &[b"b"]);
    assert!(!logs.step(Work::Flush));
    assert!(logs.step(Work::LazyFlush));
    assert!(!logs.step(Work::LazyFlush), "one sync is for both");
}

#[test]
fn changing_to_os_durability_shows_what_was_waiting() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    fixture.disk.faults.hold_syncs();
    append(&log, &[b"a"]);
    let mut topic = fixture.topic.clone();
    topic.durability = Durability::Os;
    log.set_config(Arc::new(topic));
    assert_eq!(log.offsets().high_watermark, 1);
    fixture.disk.faults.release_syncs();
}

#[test]
fn one_sync_commits_all_that_arrived_during_the_last() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"first"]);
    commit(&log);
    let faults = &fixture.disk.faults;
    faults.hold_syncs();
    let before = faults.syncs();
    append(&log, &[b"second"]);
    eventually("the second batch is being synced", || {
        faults.syncs() > before
    });
    let writers: Vec<_> = (0..32)
        .map(|_| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                let offset = append(&log, &[b"x"]).last_offset;
                wait(log.committed(offset))
            })
        })
        .collect();
    eventually("all have appended", || log.offsets().log_end == 34);
    faults.release_syncs();
    for writer in writers {
        writer.join().expect("no panic").expect("committed");
    }
    let syncs = faults.syncs() - before;
    assert!(syncs <= 3, "{syncs} syncs for 33 batches");
}

#[test]
fn nobody_waiting_means_a_sync_after_the_delay_and_not_before() {
    let mut fixture = Fixture::new();
    fixture.config.flush_max_delay = Duration::from_secs(3600);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let syncs = fixture.disk.faults.syncs();
    for _ in 0..10 {
        append(&log, &[b"a"]);
    }
    assert_eq!(fixture.disk.faults.syncs(), syncs);
    wait(log.committed(9)).expect("a waiter brings the sync forward");
    assert_eq!(log.offsets().high_watermark, 10);
}

#[test]
fn a_commit_covers_every_segment_in_front() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 10_000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[&[1; 3000]]);
    log.checkpoint().expect("the first");
    fixture.disk.faults.hold_syncs();
    for _ in 0..10 {
        append(&log, &[&[1; 3000]]);
    }
    fixture.disk.faults.release_syncs();
    commit(&log);
    let segments = log.segments.load();
    assert!(segments.len() > 3);
    assert!(segments.iter().all(|segment| segment.is_synced()));
}

#[test]
fn a_waiting_consumer_brings_the_sync_forward() {
    let mut fixture = Fixture::new();
    fixture.config.flush_max_delay = Duration::from_secs(3600);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let waiter = Arc::new(Notify::new());
    log.wake_on_progress(&waiter);
    append(&log, &[b"a"]);
    wait(waiter.notified());
    assert_eq!(log.offsets().high_watermark, 1);
    append(&log, &[b"b"]);
    let late = Arc::new(Notify::new());
    log.wake_on_progress(&late);
    wait(late.notified());
    assert_eq!(log.offsets().high_watermark, 2);
}

#[test]
fn a_waiter_that_gives_up_disturbs_nobody() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    fixture.disk.faults.hold_syncs();
    append(&log, &[b"a"]);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    {
        let mut gone = pin!(log.committed(0));
        assert!(gone.as_mut().poll(&mut context).is_pending());
    }
    fixture.disk.faults.release_syncs();
    wait(log.committed(0)).expect("committed");
}

#[test]
fn many_partitions_and_threads_commit_everything() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 30_000;
    let logs = fixture.open();
    let partitions: Vec<_> = (1..=6)
        .map(|number| fixture.partition(&logs, number))
        .collect();
    std::thread::scope(|scope| {
        for worker in 0..4_usize {
            let partitions = &partitions;
            scope.spawn(move || {
                for round in 0..60_usize {
                    let log = &partitions[(worker + round) % partitions.len()];
                    let value = vec![u8::try_from(worker).expect("small"); 500];
                    let offset = append(log, &[&value]).last_offset;
                    if round % 3 == 0 {
                        wait(log.committed(offset)).expect("committed");
                    }
                    let start = log.offsets().log_start;
                    log.read(start, 10_000, true, Isolation::ReadUncommitted)
                        .expect("reads beside appends");
                }
            });
        }
    });
    let mut total = 0;
    for log in &partitions {
        commit(log);
        let records = read_all(log);
        assert!(
            records
                .iter()
                .zip(0..)
                .all(|((offset, _), index)| *offset == index)
        );
        total += records.len();
    }
    assert_eq!(total, 240);
}

#[test]
fn the_flush_observer_hears_of_every_byte() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let fixture = Fixture::new();
    let logs = fixture.open();
    let bytes = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&bytes);
    logs.on_flush(Arc::new(move |_, bytes| {
        heard.fetch_add(bytes, Ordering::SeqCst);
    }));
    let log = fixture.partition(&logs, 1);
    let size = batch_of(&[b"a"]).header.size as u64;
    for _ in 0..3 {
        append(&log, &[b"a"]);
        commit(&log);
    }
    assert_eq!(bytes.load(Ordering::SeqCst), 4096 + 3 * size);
}

#[test]
fn deletion_wakes_everyone_with_the_reason() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    commit(&log);
    let beyond = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || wait(log.committed(1)))
    };
    let waiter = Arc::new(Notify::new());
    log.wake_on_progress(&waiter);
    logs.delete_topic(topic_id(1)).expect("deleted");
    wait(waiter.notified());
    assert_eq!(beyond.join().expect("no panic"), Err(AppendError::Deleted));
    assert_eq!(log.append(batch_of(&[b"b"])), Err(AppendError::Deleted));
    assert_eq!(
        log.read(0, 1000, true, Isolation::ReadUncommitted)
            .expect_err("deleted"),
        crate::log::ReadError::Deleted
    );
    assert!(logs.get(id(1)).is_none());
    assert!(!fixture.folder(1).exists());
    assert_eq!(logs.topics_on_disk().expect("lists"), []);
}

#[test]
fn without_threads_the_work_behind_is_done_step_by_step() {
    let fixture = Fixture::new();
    let logs = LogSet::open_with(
        crate::env::files::machine(),
        fixture.directory.path(),
        fixture.config.clone(),
        fixture.clock.clone(),
        Background::Manual,
    )
    .expect("opens");
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    assert!(!logs.step(Work::Flush), "nobody waits yet");
    let mut committed = pin!(log.committed(0));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(committed.as_mut().poll(&mut context), Poll::Pending);
    assert!(logs.step(Work::Flush));
    assert!(committed.as_mut().poll(&mut context).is_ready());
    append(&log, &[b"b"]);
    while logs.step(Work::LazyFlush) {}
    assert_eq!(log.offsets().high_watermark, 2);
    log.request_checkpoint();
    assert!(logs.step(Work::Checkpoint));
    assert!(Work::ALL.iter().all(|work| !logs.step(*work)));
}

#[test]
fn catching_up_syncs_all_that_is_asked_for_and_nothing_that_is_synced() {
    let fixture = Fixture::new();
    let logs = fixture.open_manually();
    let synced = fixture.partition(&logs, 1);
    append(&synced, &[b"a"]);
    while logs.step(Work::LazyFlush) {}
    let behind = [fixture.partition(&logs, 2), fixture.partition(&logs, 3)];
    for log in &behind {
        append(log, &[b"a"]);
    }
    wait(async {
        let all = behind.iter().chain([&synced]);
        let mut catching_up = pin!(catch_up(all, Duration::from_secs(20)));
        assert!(futures_util::poll!(catching_up.as_mut()).is_pending());
        assert!(logs.step(Work::Flush) && logs.step(Work::Flush));
        assert!(!logs.step(Work::Flush), "one is synced already");
        assert!(catching_up.await);
    });
    for log in &behind {
        assert_eq!(log.offsets().high_watermark, 1);
    }
}

#[test]
fn catching_up_ends_with_its_time_and_does_not_wait_for_what_has_stopped() {
    let fixture = Fixture::new();
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    let caught_up = wait(catch_up([&log], Duration::from_millis(1)));
    assert!(!caught_up, "nobody syncs it");
    log.fail("a failed sync".into());
    assert!(wait(catch_up([&log], Duration::from_secs(20))));
    assert_eq!(log.offsets().high_watermark, 0);
}
