//! Compaction against a model, with restarts and crashes at every call to the disk in between.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::log::batch::Compression;
use crate::log::{MarkerOutcome, TransactionMarker, Work, inspect};

const RETENTION: i64 = 1_000;
const KEYS: u64 = 12;

type Entry = (u8, Option<Vec<u8>>);

fn keyed(delta: i32, key: u8, value: Option<&[u8]>) -> Record {
    Record {
        offset_delta: delta,
        timestamp: NOW,
        key: Some(Bytes::copy_from_slice(&[key])),
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
    }
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.topic.cleanup_compact = true;
    fixture.topic.cleanup_delete = false;
    fixture.topic.min_cleanable_dirty_ratio = 0.0;
    fixture.topic.delete_retention_ms = RETENTION;
    fixture.topic.segment_bytes = 4096 + 700;
    fixture
}

/// Everything in the log: offset, key and value, read batch by batch up to the high watermark.
fn dump_from(log: &PartitionLog, from: Offset) -> Vec<(Offset, Entry)> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let read = log
            .read(next, 700, true, Isolation::ReadUncommitted)
            .expect("reads");
        if read.bytes.is_empty() {
            assert_eq!(next, read.high_watermark);
            return found;
        }
        for batch in batch::split(read.bytes, usize::MAX).expect("whole batches") {
            let base = batch.header.base_offset;
            assert!(batch.header.last_offset() >= next, "it goes on");
            next = batch.header.last_offset() + 1;
            if batch.header.attributes & 0x20 != 0 {
                continue;
            }
            for record in records::decode(&batch, 1 << 24).expect("decodes") {
                let offset = base + i64::from(record.offset_delta);
                let key = record.key.expect("a key")[0];
                if offset >= from {
                    found.push((offset, (key, record.value.map(|value| value.to_vec()))));
                }
            }
        }
    }
}

/// A partition and all that was ever written to it.
struct World {
    fixture: Fixture,
    logs: Arc<LogSet>,
    log: Arc<PartitionLog>,
    appended: BTreeMap<Offset, Entry>,
    /// By producer: its next sequence, and its last batches as they were answered.
    producers: HashMap<i64, (i32, Vec<(Batch, Offset)>)>,
    random: Random,
}

impl World {
    fn new(random: Random) -> Self {
        let fixture = fixture();
        let logs = fixture.open_manually();
        let log = fixture.partition(&logs, 1);
        Self {
            fixture,
            logs,
            log,
            appended: BTreeMap::new(),
            producers: HashMap::new(),
            random,
        }
    }

    fn append(&mut self) {
        let count = 1 + self.random.below(4);
        let mut records = Vec::new();
        for delta in 0..i32::try_from(count).expect("small") {
            let key = u8::try_from(self.random.below(KEYS)).expect("small");
            let value = vec![key; self.random.size(100)];
            let value = (self.random.below(4) > 0).then_some(&value[..]);
            records.push(keyed(delta, key, value));
        }
        let codec = i16::try_from(self.random.below(5)).expect("small");
        let mut template = BatchTemplate {
            compression: Compression::from_code(codec).expect("known"),
            ..BatchTemplate::PLAIN
        };
        let producer = i64::try_from(self.random.below(6)).expect("small");
        if producer < 3 {
            template.producer_id = producer;
            template.producer_epoch = 0;
            template.base_sequence = self.producers.entry(producer).or_default().0;
        }
        let batch = encode(template, &records);
        let appended = self.log.append(batch.clone()).expect("appended");
        for record in &records {
            let offset = appended.base_offset + i64::from(record.offset_delta);
            let key = record.key.as_ref().expect("a key")[0];
            let value = record.value.as_ref().map(|value| value.to_vec());
            self.appended.insert(offset, (key, value));
        }
        if producer < 3 {
            let state = self.producers.entry(producer).or_default();
            state.0 += i32::try_from(records.len()).expect("small");
            state.1.push((batch, appended.base_offset));
        }
        self.log.flush();
    }

    /// Opens the log again; `tidy` after a clean stop.
    fn restart(&mut self, tidy: bool, forget_checkpoint: bool) {
        if tidy {
            self.logs.shutdown();
        }
        if forget_checkpoint {
            let path = self.fixture.folder(1).join("checkpoint");
            let _ = std::fs::remove_file(path);
        }
        // The folder is locked until both are gone.
        let placeholder = Fixture::new();
        let logs = placeholder.open_manually();
        self.log = placeholder.partition(&logs, 9);
        self.logs = logs;
        let report = inspect::verify(self.fixture.directory.path()).expect("report");
        assert_eq!(report.findings, []);
        self.logs = self.fixture.open_manually();
        self.log = self.fixture.partition(&self.logs, 1);
        assert_eq!(self.log.stats().stopped, None);
        let end = self.appended.keys().next_back().map_or(0, |last| last + 1);
        assert_eq!(self.log.offsets().log_end, end);
        // Of what the checkpoint knew the log itself tells only the last.
        let remembered = if forget_checkpoint { 1 } else { 5 };
        for (_, batches) in self.producers.values_mut() {
            batches.drain(..batches.len().saturating_sub(remembered));
            for (batch, offset) in batches {
                let again = self.log.append(batch.clone()).expect("answered");
                assert!(again.duplicate, "sequence {}", batch.header.base_sequence);
                assert_eq!(again.base_offset, *offset);
            }
        }
    }

    fn crash_while_cleaning(&mut self) {
        let calls = self.random.size(40);
        self.fixture.disk.faults.end_after(calls);
        self.logs.step(Work::Clean);
        self.restart_after_crash();
    }

    fn restart_after_crash(&mut self) {
        self.fixture.disk.faults.heal();
        self.restart(false, false);
    }

    /// Nothing that should be there is missing, and nothing is there that was not written.
    fn check(&mut self) {
        let found = dump_from(&self.log, 0);
        let mut newest: HashMap<u8, Offset> = HashMap::new();
        for (offset, entry) in &found {
            assert_eq!(self.appended.get(offset), Some(entry), "offset {offset}");
            newest.insert(entry.0, *offset);
        }
        let mut last: HashMap<u8, (Offset, bool)> = HashMap::new();
        for (offset, (key, value)) in &self.appended {
            last.insert(*key, (*offset, value.is_some()));
        }
        for (key, (offset, has_value)) in last {
            match newest.get(&key) {
                Some(newest) => assert_eq!(*newest, offset, "the latest of key {key}"),
                None => assert!(!has_value, "the latest of key {key} is gone"),
            }
        }
        let end = self.log.offsets().high_watermark;
        let from = i64::try_from(self.random.below(u64::try_from(end).expect("positive") + 1));
        let from = from.expect("small");
        let expected: Vec<_> = found
            .iter()
            .filter(|(at, _)| *at >= from)
            .cloned()
            .collect();
        assert_eq!(dump_from(&self.log, from), expected, "from {from}");
    }

    /// After a whole round each key is there once among all but the newest segment.
    fn clean_all(&mut self) {
        while self.logs.step(Work::Clean) {}
        let active = self
            .log
            .segments
            .load()
            .last()
            .map_or(0, |one| one.base_offset);
        let mut keys = Vec::new();
        for (offset, (key, _)) in dump_from(&self.log, 0) {
            if offset < active {
                assert!(!keys.contains(&key), "key {key} twice");
                keys.push(key);
            }
        }
    }
}

#[test]
fn the_latest_value_of_every_key_survives_whatever_happens() {
    for round in 0..6 {
        let mut world = World::new(Random::seeded(&format!("compaction {round}")));
        for _ in 0..150 {
            match world.random.below(40) {
                0..=23 => world.append(),
                24..=29 => {
                    world.logs.step(Work::Clean);
                }
                30 => world.clean_all(),
                31..=32 => world.fixture.clock.advance(RETENTION / 2),
                33 => world.log.checkpoint().expect("a checkpoint"),
                34 => world.restart(true, false),
                35 => world.restart(false, false),
                36 => world.restart(false, true),
                _ => world.crash_while_cleaning(),
            }
            world.check();
        }
        world.clean_all();
        world.check();
    }
}

#[test]
fn a_crash_at_any_call_of_a_round_leaves_the_old_or_the_new() {
    let fill = || {
        let mut world = World::new(Random(7));
        for _ in 0..24 {
            world.append();
        }
        world.log.checkpoint().expect("a checkpoint");
        world
    };
    let mut spare = 12;
    for calls in 0.. {
        let mut world = fill();
        world.fixture.disk.faults.end_after(calls);
        let is_done = world.logs.step(Work::Clean) && world.log.stats().stopped.is_none();
        world.restart_after_crash();
        world.check();
        world.clean_all();
        world.check();
        world.append();
        world.restart(false, true);
        world.check();
        // The last calls of a round may fail without making it fail.
        spare -= i32::from(is_done);
        if spare == 0 {
            break;
        }
        assert!(calls < 2_000, "the round never ends");
    }
}

#[test]
fn replaced_files_go_after_a_crash_although_the_newest_segment_is_empty() {
    let mut is_done = false;
    for calls in 0..60 {
        let mut world = World::new(Random(7));
        let mut topic = world.fixture.topic.clone();
        topic.segment_bytes = 4096 + 300;
        world.log.set_config(Arc::new(topic.clone()));
        for _ in 0..12 {
            world.append();
        }
        assert!(world.log.stats().segments > 2);
        // All that is sealed fits one segment, and the round begins another behind it.
        topic.segment_bytes = 1 << 20;
        topic.max_compaction_lag_ms = 1;
        world.log.set_config(Arc::new(topic));
        world.fixture.clock.advance(1);
        world.fixture.disk.faults.end_after(calls);
        is_done = world.logs.step(Work::Clean);
        world.restart_after_crash();
        world.check();
    }
    assert!(is_done, "the last round came to its end");
}

/// What a committed reader makes of the log, as Kafka's clients do it.
fn committed(log: &PartitionLog, from: Offset) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let read = log
            .read(next, 500, true, Isolation::ReadCommitted)
            .expect("reads");
        if read.bytes.is_empty() {
            return found;
        }
        let mut aborted = read.aborted;
        aborted.sort_by_key(|one| one.first_offset);
        let mut aborting = Vec::new();
        for batch in batch::split(read.bytes, usize::MAX).expect("whole batches") {
            let header = batch.header;
            next = header.last_offset() + 1;
            while aborted
                .first()
                .is_some_and(|one| one.first_offset <= header.last_offset())
            {
                aborting.push(aborted.remove(0).producer_id);
            }
            let records = records::decode(&batch, 1 << 20).expect("decodes");
            if header.attributes & 0x20 != 0 {
                let is_abort = records
                    .first()
                    .is_some_and(|record| record.key.as_ref().expect("a key").ends_with(&[0, 0]));
                aborting.retain(|id| !is_abort || *id != header.producer_id);
            } else if header.attributes & 0x10 == 0 || !aborting.contains(&header.producer_id) {
                for record in records {
                    let key = record.key.expect("a key")[0];
                    found.push((key, record.value.map(|value| value.to_vec())));
                }
            }
        }
    }
}

/// Writes one record in a transaction and ends it.
fn transaction(log: &PartitionLog, producer_id: i64, sequence: i32, key: u8, commits: bool) {
    let template = BatchTemplate {
        producer_id,
        producer_epoch: 0,
        base_sequence: sequence,
        is_transactional: true,
        ..BatchTemplate::PLAIN
    };
    log.append(encode(
        template,
        &[keyed(0, key, Some(b"in a transaction"))],
    ))
    .expect("appended");
    let outcome = if commits {
        MarkerOutcome::Commit
    } else {
        MarkerOutcome::Abort
    };
    log.append_marker(&TransactionMarker {
        producer_id,
        producer_epoch: 0,
        outcome,
        coordinator_epoch: 0,
    })
    .expect("appended");
    log.flush();
}

fn plain(log: &PartitionLog, key: u8, value: &[u8]) {
    log.append(encode(BatchTemplate::PLAIN, &[keyed(0, key, Some(value))]))
        .expect("appended");
    log.flush();
}

#[test]
fn committed_readers_see_the_same_before_and_after() {
    let fixture = fixture();
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    plain(&log, 1, b"plain");
    transaction(&log, 10, 0, 2, true);
    transaction(&log, 11, 0, 1, false);
    transaction(&log, 11, 1, 3, false);
    transaction(&log, 11, 2, 4, true);
    for number in 0..20 {
        plain(&log, 9, &[number; 100]);
    }
    let expected: Vec<u8> = vec![1, 2, 4, 9];
    let check = |log: &PartitionLog| {
        let mut seen: Vec<u8> = committed(log, 0).iter().map(|(key, _)| *key).collect();
        seen.dedup();
        assert_eq!(seen, expected);
        for from in 0..log.offsets().high_watermark {
            let late = committed(log, from);
            assert!(!late.iter().any(|(key, _)| *key == 3), "from {from}");
            assert_eq!(late.last(), committed(log, 0).last());
        }
    };
    check(&log);
    let markers = |log: &PartitionLog| {
        let read = log
            .read(0, 1 << 20, true, Isolation::ReadUncommitted)
            .expect("reads");
        let batches = batch::split(read.bytes, usize::MAX).expect("batches");
        let is_marker = |batch: &&Batch| batch.header.attributes & 0x20 != 0;
        batches.iter().filter(is_marker).count()
    };
    // Data goes in the first round, its markers get their horizon in the second and go in a third.
    for round in 0..4_u8 {
        while logs.step(Work::Clean) {}
        check(&log);
        for number in 0..20 {
            plain(&log, 9, &[number + round; 100]);
        }
        fixture.clock.advance(RETENTION + 1);
    }
    assert!(markers(&log) <= 2, "{}", markers(&log));
    let data = dump_from(&log, 0);
    assert!(!data.iter().any(|(_, (key, _))| *key == 3));
    transaction(&log, 11, 3, 5, true);
    let keys: Vec<u8> = committed(&log, 0).iter().map(|(key, _)| *key).collect();
    assert!(keys.contains(&5) && keys.contains(&4));
    drop((log, logs));
    let _ = std::fs::remove_file(fixture.folder(1).join("checkpoint"));
    let logs = fixture.open_manually();
    let again = committed(&fixture.partition(&logs, 1), 0);
    assert_eq!(again.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys);
}

#[test]
fn nothing_above_the_last_stable_offset_is_touched() {
    let fixture = fixture();
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    let template = BatchTemplate {
        producer_id: 3,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        ..BatchTemplate::PLAIN
    };
    log.append(encode(template, &[keyed(0, 1, Some(b"open"))]))
        .expect("appended");
    for number in 0..20 {
        plain(&log, 9, &[number; 100]);
    }
    assert!(!logs.step(Work::Clean), "everything is behind an open one");
    assert_eq!(dump_from(&log, 0).len(), 21);
}

#[test]
fn an_inspection_tells_compacted_segments_and_markers() {
    let fixture = fixture();
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    for number in 0..20 {
        plain(&log, 9, &[number; 100]);
    }
    while logs.step(Work::Clean) {}
    transaction(&log, 10, 0, 2, true);
    let segments = inspect::segments(&fixture.folder(1)).expect("segments");
    let [compacted, .., active] = &segments[..] else {
        panic!("two segments: {segments:?}");
    };
    assert_eq!(compacted.base_offset, 0);
    let until = compacted.compacted_until.expect("it was compacted");
    assert_eq!(until, segments[1].base_offset);
    assert_eq!(active.compacted_until, None);
    let mut kinds = Vec::new();
    inspect::batches(&active.path, |batch| {
        kinds.push((batch.is_transactional, batch.is_control));
        true
    })
    .expect("batches");
    assert!(kinds.ends_with(&[(true, false), (true, true)]), "{kinds:?}");
}

#[test]
fn a_record_without_a_key_is_refused() {
    let fixture = fixture();
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    let error = log.admit(batch_of(&[b"no key"]).bytes);
    let AppendError::Records(refused) = error.expect_err("refused") else {
        panic!("the record is named");
    };
    assert_eq!(refused.records[0].index, 0);
    assert!(refused.to_string().contains("no key"), "{refused}");
}

#[test]
fn young_records_wait_and_overdue_ones_do_not() {
    let mut fixture = fixture();
    fixture.topic.min_compaction_lag_ms = 1_000;
    fixture.topic.min_cleanable_dirty_ratio = 1.0;
    fixture.topic.max_compaction_lag_ms = 5_000;
    fixture.topic.segment_bytes = 1 << 20;
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    plain(&log, 1, b"old");
    plain(&log, 1, b"new");
    assert!(!logs.step(Work::Clean));
    fixture.clock.advance(4_999);
    assert!(!logs.step(Work::Clean), "nothing is overdue");
    assert_eq!(log.stats().segments, 1);
    fixture.clock.advance(2);
    assert!(logs.step(Work::Clean), "rolled and compacted");
    assert_eq!(log.stats().segments, 2);
    assert_eq!(dump_from(&log, 0), [(1, (1, Some(b"new".to_vec())))]);
    assert!(!logs.step(Work::Clean));
    let stats = logs.cleaner_stats();
    assert_eq!((stats.rounds, stats.impossible), (1, 0));
    assert!(stats.bytes_read > stats.bytes_written && stats.bytes_written > 0);
}

#[test]
fn small_segments_are_merged_and_many_keys_take_several_rounds() {
    let mut fixture = fixture();
    fixture.config.cleaner_buffer_bytes = 24 * 40;
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    for round in 0..3_u8 {
        for key in 0..100 {
            plain(&log, key, &[round; 20]);
        }
    }
    let before = log.stats().segments;
    while logs.step(Work::Clean) {}
    assert!(logs.cleaner_stats().rounds > 3);
    let after = log.stats().segments;
    assert!(after * 2 < before, "{after} of {before}");
    let found = dump_from(&log, 0);
    assert!(found.len() < 120, "{}", found.len());
    for key in 0..100 {
        let last = found.iter().rev().find(|(_, (k, _))| *k == key);
        assert_eq!(last.expect("there").1.1, Some(vec![2; 20]));
    }
}

#[test]
fn a_damaged_partition_is_passed_over() {
    let fixture = fixture();
    {
        let logs = fixture.open_manually();
        let log = fixture.partition(&logs, 1);
        for number in 0..20 {
            plain(&log, 9, &[number; 100]);
        }
        logs.shutdown();
    }
    let path = segment_file(fixture.directory.path(), 1, 0);
    let mut bytes = std::fs::read(&path).expect("file");
    bytes[4096 + 100] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let logs = fixture.open_manually();
    let log = fixture.partition(&logs, 1);
    assert!(logs.step(Work::Clean), "found out");
    assert!(!logs.step(Work::Clean), "and not tried again");
    assert_eq!(logs.cleaner_stats().impossible, 1);
    assert!(log.stats().segments > 3, "nothing was replaced");
}

#[test]
fn readers_go_on_while_their_segments_are_replaced() {
    let mut fixture = fixture();
    fixture.config.cleaner_interval = std::time::Duration::from_millis(1);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < 400 {
                        let found = dump_from_live(&log);
                        last = found.last().map_or(0, |(offset, _)| *offset);
                    }
                })
            })
            .collect();
        let mut number = 0_u32;
        while number <= 400 || logs.cleaner_stats().rounds == 0 {
            let key = u8::try_from(number % 7).expect("small");
            plain(&log, key, &number.to_be_bytes());
            number += 1;
        }
        for reader in readers {
            reader.join().expect("no error was met");
        }
    });
}

/// As `dump_from` the beginning, while the log changes.
fn dump_from_live(log: &PartitionLog) -> Vec<(Offset, u32)> {
    let mut found = Vec::new();
    let mut next = 0;
    loop {
        let read = log
            .read(next, 700, true, Isolation::ReadUncommitted)
            .expect("reads");
        if read.bytes.is_empty() {
            return found;
        }
        for batch in batch::split(read.bytes, usize::MAX).expect("whole batches") {
            next = batch.header.last_offset() + 1;
            for record in records::decode(&batch, 1 << 20).expect("decodes") {
                let offset = batch.header.base_offset + i64::from(record.offset_delta);
                let value = record.value.expect("a value");
                let number = u32::from_be_bytes(value[..].try_into().expect("four bytes"));
                assert_eq!(i64::from(number), offset, "each value is its own offset");
                found.push((offset, number));
            }
        }
    }
}

#[test]
fn a_topic_is_deleted_while_it_is_compacted() {
    let mut fixture = fixture();
    fixture.config.cleaner_interval = std::time::Duration::from_millis(1);
    let logs = fixture.open();
    for round in 0..10_u8 {
        let log = fixture.partition(&logs, 1);
        for value in 0..30_u8 {
            plain(&log, 9, &[value.wrapping_add(round); 100]);
        }
        drop(log);
        logs.delete_topic(topic_id(1)).expect("deleted");
        assert!(!fixture.folder(1).exists());
    }
}
