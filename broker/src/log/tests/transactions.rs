//! Transactions in one partition: what a committed reader sees, now and after any restart.

use super::*;
use crate::log::{
    AbortedTransaction, MarkerOutcome, OpenTransaction, ProducerState, Records, TransactionMarker,
};

/// A transactional batch of `count` records.
fn part(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Batch {
    let template = BatchTemplate {
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        is_transactional: true,
        ..BatchTemplate::PLAIN
    };
    let records: Vec<_> = (0..count)
        .map(|delta| {
            record(
                delta,
                NOW,
                format!("{producer_id}/{}", sequence + delta).as_bytes(),
            )
        })
        .collect();
    encode(template, &records)
}

fn marker(producer_id: i64, epoch: i16, outcome: MarkerOutcome) -> TransactionMarker {
    TransactionMarker {
        producer_id,
        producer_epoch: epoch,
        outcome,
        coordinator_epoch: 0,
    }
}

fn end(log: &PartitionLog, producer_id: i64, epoch: i16, outcome: MarkerOutcome) -> Offset {
    let marker = marker(producer_id, epoch, outcome);
    log.append_marker(&marker).expect("appended").base_offset
}

fn read_committed(log: &PartitionLog, from: Offset, max_bytes: usize) -> Records {
    log.read(from, max_bytes, true, Isolation::ReadCommitted)
        .expect("reads")
}

/// What a committed consumer shows: as Kafka's clients filter what a Fetch answer gave them.
fn consume(log: &PartitionLog, from: Offset, max_bytes: usize) -> Vec<(Offset, Vec<u8>)> {
    let mut shown = Vec::new();
    let mut next = from;
    loop {
        let read = read_committed(log, next, max_bytes);
        if read.bytes.is_empty() {
            assert_eq!(
                next, read.last_stable_offset,
                "ends at the last stable offset"
            );
            return shown;
        }
        let mut listed = read.aborted.clone();
        listed.sort_unstable_by_key(|one| one.first_offset);
        let mut listed = listed.into_iter().peekable();
        let mut aborting = std::collections::HashSet::new();
        for batch in batch::split(read.bytes, usize::MAX).expect("whole batches") {
            let header = batch.header;
            let known = |one: &AbortedTransaction| one.first_offset <= header.last_offset();
            while let Some(one) = listed.next_if(known) {
                aborting.insert(one.producer_id);
            }
            next = header.last_offset() + 1;
            if header.is_control() {
                aborting.remove(&header.producer_id);
                continue;
            }
            if header.is_transactional() && aborting.contains(&header.producer_id) {
                continue;
            }
            for record in records::decode(&batch, 1 << 24).expect("decodes") {
                let offset = header.base_offset + i64::from(record.offset_delta);
                if offset >= from {
                    shown.push((offset, record.value.expect("a value").to_vec()));
                }
            }
        }
    }
}

/// Everything that a restart has to bring back.
#[derive(Clone, PartialEq, Debug)]
struct State {
    producers: Vec<ProducerState>,
    open: Vec<OpenTransaction>,
    last_stable_offset: Offset,
    shown: Vec<(Offset, Vec<u8>)>,
}

fn state(log: &PartitionLog) -> State {
    State {
        producers: log.producers(),
        open: log.open_transactions(),
        last_stable_offset: log.offsets().last_stable_offset,
        shown: consume(log, log.offsets().log_start, 1 << 20),
    }
}

/// A history in which transactions overlap, one after another step.
const STEPS: usize = 14;

fn step(log: &PartitionLog, step: usize) {
    use MarkerOutcome::{Abort, Commit};
    let append = |batch: Batch| {
        log.append(batch).expect("appended");
    };
    match step {
        0 => append(part(1, 0, 0, 2)),
        1 => append(part(2, 3, 0, 1)),
        2 => append(batch_of(&[b"plain"])),
        3 => append(part(1, 0, 2, 1)),
        4 => drop(end(log, 2, 4, Abort)),
        5 => append(part(2, 4, 0, 2)),
        6 => drop(end(log, 1, 0, Commit)),
        7 => append(part(1, 0, 3, 1)),
        8 => drop(end(log, 1, 0, Abort)),
        9 => append(part(3, 0, 0, 1)),
        10 => drop(end(log, 2, 5, Commit)),
        11 => append(batch_of(&[b"plain again"])),
        12 => drop(end(log, 3, 1, Abort)),
        _ => drop(end(log, 9, 0, Abort)),
    }
}

#[test]
fn every_restart_brings_transactions_back() {
    // A clean point before every step, and the whole walk without one.
    for checkpoint_at in (0..=STEPS).map(Some).chain([None]) {
        let mut fixture = Fixture::new();
        fixture.topic.segment_bytes = 4096 + 600;
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        for number in 0..STEPS {
            if checkpoint_at == Some(number) {
                log.checkpoint().expect("a clean point");
            }
            step(&log, number);
            commit(&log);
            let copy = fixture.copy();
            if checkpoint_at.is_none() {
                let _ = std::fs::remove_file(folder(copy.path(), 1).join("checkpoint"));
            }
            let other = fixture.open_at(copy.path());
            let again = fixture.partition(&other, 1);
            assert_eq!(again.stats().stopped, None);
            let what = format!("clean point at {checkpoint_at:?}, step {number}");
            assert_eq!(state(&again), state(&log), "{what}");
        }
        let shown: Vec<_> = state(&log)
            .shown
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        let expected: [&[u8]; 7] = [
            b"1/0",
            b"1/1",
            b"plain",
            b"1/2",
            b"2/0",
            b"2/1",
            b"plain again",
        ];
        assert_eq!(shown, expected);
        logs.shutdown();
        let before = state(&log);
        drop((log, logs));
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        assert_eq!(state(&log), before, "a clean stop");
    }
}

#[test]
fn a_torn_marker_leaves_its_transaction_open() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    log.append(part(1, 0, 0, 1)).expect("appended");
    let before = log.stats().size_bytes;
    end(&log, 1, 0, MarkerOutcome::Abort);
    commit(&log);
    let size = log.stats().size_bytes;
    for cut in [before, before + 1, before + 61, size - 1] {
        let copy = fixture.copy();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(segment_file(copy.path(), 1, 0))
            .expect("file");
        file.set_len(cut).expect("torn");
        let logs = fixture.open_at(copy.path());
        let log = fixture.partition(&logs, 1);
        assert_eq!(log.offsets().last_stable_offset, 0);
        assert_eq!(log.open_transactions().len(), 1);
        assert_eq!(end(&log, 1, 1, MarkerOutcome::Commit), 1);
        commit(&log);
        assert_eq!(consume(&log, 0, 1000), [(0, b"1/0".to_vec())]);
    }
}

#[test]
fn a_marker_counts_once_it_is_below_the_high_watermark() {
    let mut fixture = Fixture::new();
    fixture.config.flush_max_delay = std::time::Duration::from_secs(3600);
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    log.append(part(1, 0, 0, 2)).expect("appended");
    commit(&log);
    let offsets = log.offsets();
    assert_eq!((offsets.last_stable_offset, offsets.high_watermark), (0, 2));
    fixture.disk.faults.hold_syncs();
    end(&log, 1, 0, MarkerOutcome::Commit);
    assert_eq!(log.open_transactions(), []);
    assert_eq!(log.offsets().last_stable_offset, 0, "not synced");
    assert!(read_committed(&log, 0, 1000).bytes.is_empty());
    let waiter = Arc::new(tokio::sync::Notify::new());
    log.wake_on_progress(&waiter);
    fixture.disk.faults.release_syncs();
    wait(waiter.notified());
    assert_eq!(log.offsets().last_stable_offset, 3);
    assert_eq!(consume(&log, 0, 1000).len(), 2);
    // What consumers see ends there, too, when offsets are asked for.
    log.append(part(1, 0, 2, 1)).expect("appended");
    commit(&log);
    let ask = |query, isolation| log.find_offset(query, isolation).expect("answers");
    use crate::log::OffsetQuery::{AtTime, Latest, MaxTimestamp};
    assert_eq!(ask(Latest, Isolation::ReadUncommitted), Some((4, -1)));
    assert_eq!(ask(Latest, Isolation::ReadCommitted), Some((3, -1)));
    fixture.clock.advance(5);
    log.append(batch_at(NOW + 5, &[b"late"])).expect("appended");
    commit(&log);
    let late = Some((4, NOW + 5));
    assert_eq!(ask(AtTime(NOW + 1), Isolation::ReadUncommitted), late);
    assert_eq!(ask(AtTime(NOW + 1), Isolation::ReadCommitted), None);
    assert_eq!(ask(MaxTimestamp, Isolation::ReadUncommitted), late);
    assert_eq!(ask(MaxTimestamp, Isolation::ReadCommitted), Some((0, NOW)));
}

#[test]
fn the_aborted_list_goes_with_the_records() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 300;
    fixture.topic.retention_bytes = 5 * 4400;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for round in 0..40 {
        let outcome = [MarkerOutcome::Commit, MarkerOutcome::Abort][round % 2];
        let sequence = i32::try_from(round).expect("small");
        log.append(part(1, 0, sequence, 1)).expect("appended");
        end(&log, 1, 0, outcome);
    }
    log.append(part(2, 0, 0, 1)).expect("appended");
    let open = log.offsets().log_end - 1;
    commit(&log);
    logs.enforce_retention();
    let start = log.offsets().log_start;
    assert!(start >= 50, "{start}");
    let kept = log.transactions.lock().snapshot();
    assert!(kept.iter().all(|one| one.last_offset >= start), "{kept:?}");
    assert!(kept.len() <= 15 && !kept.is_empty(), "{kept:?}");
    let before = state(&log);
    drop((log, logs));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(state(&log), before);
    assert_eq!(log.offsets().last_stable_offset, open);
    // A transaction that was left open is held open by its producer alone, not by records that have gone.
    for round in 0..20 {
        append(&log, &[format!("{round}").as_bytes(), &[7; 200]]);
    }
    commit(&log);
    logs.enforce_retention();
    let offsets = log.offsets();
    assert!(offsets.log_start > open, "{offsets:?}");
    assert_eq!(offsets.last_stable_offset, offsets.log_start);
    end(&log, 2, 0, MarkerOutcome::Abort);
    commit(&log);
    assert_eq!(log.offsets().last_stable_offset, log.offsets().log_end);
}

#[test]
fn a_coordinators_batches_are_not_numbered() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let template = BatchTemplate {
        producer_id: 4,
        producer_epoch: 2,
        is_transactional: true,
        ..BatchTemplate::PLAIN
    };
    let made = records::encode(template, &[record(0, NOW, b"offset")]).expect("encodes");
    for _ in 0..3 {
        assert!(!log.append(made.clone()).expect("appended").duplicate);
    }
    assert_eq!(log.open_transactions()[0].first_offset, 0);
    assert_eq!(log.producers()[0].last_sequence, -1);
    end(&log, 4, 3, MarkerOutcome::Commit);
    let error = log.append(made).expect_err("the epoch is over");
    assert!(
        matches!(error, AppendError::FencedEpoch { current: 3, .. }),
        "{error}"
    );
}

/// What the model knows of one offset.
#[derive(Clone)]
struct Slot {
    value: Option<Vec<u8>>,
    /// Its transaction's number.
    transaction: Option<usize>,
}

#[derive(Clone)]
struct Txn {
    producer: i64,
    first: Offset,
    end: Option<(Offset, MarkerOutcome)>,
}

#[derive(Default)]
struct Model {
    slots: Vec<Slot>,
    transactions: Vec<Txn>,
    /// Epoch, next sequence and open transaction of each producer.
    producers: [(i16, i32, Option<usize>); 4],
}

impl Model {
    fn last_stable(&self, high_watermark: Offset, start: Offset) -> Offset {
        let open = |one: &&Txn| one.end.is_none_or(|(marker, _)| marker >= high_watermark);
        let first = self
            .transactions
            .iter()
            .filter(open)
            .map(|one| one.first)
            .min();
        first.map_or(high_watermark, |first| first.max(start).min(high_watermark))
    }

    fn shown(&self, from: Offset, below: Offset) -> Vec<(Offset, Vec<u8>)> {
        let is_shown = |slot: &Slot| match slot.transaction {
            Some(number) => matches!(
                self.transactions[number].end,
                Some((_, MarkerOutcome::Commit))
            ),
            None => true,
        };
        (0..)
            .zip(&self.slots)
            .filter(|(offset, slot)| (from..below).contains(offset) && is_shown(slot))
            .filter_map(|(offset, slot)| Some((offset, slot.value.clone()?)))
            .collect()
    }

    fn aborted(&self, from: Offset, below: Offset) -> Vec<AbortedTransaction> {
        let mut found: Vec<_> = self
            .transactions
            .iter()
            .filter_map(|one| match one.end {
                Some((marker, MarkerOutcome::Abort)) if marker >= from && one.first < below => {
                    Some((marker, one))
                }
                _ => None,
            })
            .collect();
        found.sort_unstable_by_key(|(marker, _)| *marker);
        found
            .into_iter()
            .map(|(_, one)| AbortedTransaction {
                producer_id: one.producer,
                first_offset: one.first,
            })
            .collect()
    }

    fn append(&mut self, log: &PartitionLog, random: &mut Random) {
        let id = random.size(4);
        let producer = i64::try_from(id).expect("small");
        let count = 1 + i32::try_from(random.below(3)).expect("small");
        let (epoch, sequence, open) = self.producers[id];
        let batch = part(producer, epoch, sequence, count);
        let base = log.append(batch).expect("appended").base_offset;
        assert_eq!(usize::try_from(base).expect("small"), self.slots.len());
        let number = open.unwrap_or_else(|| {
            self.transactions.push(Txn {
                producer,
                first: base,
                end: None,
            });
            self.transactions.len() - 1
        });
        for delta in 0..count {
            self.slots.push(Slot {
                value: Some(format!("{producer}/{}", sequence + delta).into_bytes()),
                transaction: Some(number),
            });
        }
        self.producers[id] = (epoch, sequence + count, Some(number));
    }

    fn end(&mut self, log: &PartitionLog, random: &mut Random) {
        let id = random.size(4);
        let producer = i64::try_from(id).expect("small");
        let (epoch, sequence, open) = self.producers[id];
        let outcome = [MarkerOutcome::Commit, MarkerOutcome::Abort][random.size(2)];
        // With transactions version 2 the marker carries the next epoch (KIP-890).
        let bump = i16::try_from(random.below(2)).expect("small");
        let offset = end(log, producer, epoch + bump, outcome);
        if let Some(number) = open {
            self.transactions[number].end = Some((offset, outcome));
        }
        self.slots.push(Slot {
            value: None,
            transaction: None,
        });
        let sequence = if bump == 0 { sequence } else { 0 };
        self.producers[id] = (epoch + bump, sequence, None);
    }

    fn plain(&mut self, log: &PartitionLog) {
        append(log, &[b"plain"]);
        self.slots.push(Slot {
            value: Some(b"plain".to_vec()),
            transaction: None,
        });
    }

    fn check(&self, log: &PartitionLog, random: &mut Random, what: &str) {
        let offsets = log.offsets();
        let below = self.last_stable(offsets.high_watermark, offsets.log_start);
        let span = offsets.high_watermark - offsets.log_start + 1;
        let ahead = random.below(u64::try_from(span).expect("a length"));
        let from = offsets.log_start + i64::try_from(ahead).expect("small");
        let size = 1 + random.size(2000);
        let from = from.min(below);
        let shown = consume(log, from, size);
        let read = read_committed(log, from, size);
        assert_eq!(offsets.last_stable_offset, below, "{what}");
        assert_eq!(shown, self.shown(from, below), "{what}");
        let batches = batch::split(read.bytes, usize::MAX).expect("whole batches");
        if let Some(last) = batches.last() {
            let next = last.header.last_offset() + 1;
            assert_eq!(read.aborted, self.aborted(from, next), "{what}");
        }
        let end = usize::try_from(offsets.log_end).expect("small");
        assert_eq!(end, self.slots.len(), "{what}");
    }
}

fn history(seed: u64) {
    let mut random = Random(seed);
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 500 + random.below(4000);
    fixture.config.flush_max_delay = std::time::Duration::from_secs(3600);
    let keeps_all = random.below(2) == 0;
    if !keeps_all {
        fixture.topic.retention_bytes = 6000;
    }
    let mut model = Model::default();
    let mut logs = fixture.open_manually();
    let mut log = fixture.partition(&logs, 1);
    for number in 0..60 + random.size(60) {
        match random.below(20) {
            0..=8 => model.append(&log, &mut random),
            9..=13 => model.end(&log, &mut random),
            14 => model.plain(&log),
            15..=16 => assert!(log.flush()),
            17 => log.checkpoint().expect("a clean point"),
            18 if !keeps_all => logs.enforce_retention(),
            _ => {
                if random.below(2) == 0 {
                    logs.shutdown();
                }
                drop((log, logs));
                if keeps_all && random.below(2) == 0 {
                    let _ = std::fs::remove_file(fixture.folder(1).join("checkpoint"));
                }
                logs = fixture.open_manually();
                log = fixture.partition(&logs, 1);
            }
        }
        for _ in 0..3 {
            model.check(&log, &mut random, &format!("seed {seed}, step {number}"));
        }
    }
}

#[test]
fn random_transactions_are_shown_as_a_model_says() {
    let mut random = Random::seeded("random_transactions");
    for _ in 0..25 {
        history(random.next() | 1);
    }
}
