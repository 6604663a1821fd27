//! The log's behaviour through its public face, on real files in temporary folders.

mod append;
mod commit;
mod compaction;
mod crash;
mod damage;
mod descriptors;
mod faulty;
mod formats;
mod inspection;
mod parsing;
mod placement;
mod reading;
mod recovery;
mod recycling;
mod removed;
mod repair;
mod reserve;
mod restart;
mod retention;
mod transactions;
mod validation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

use super::batch::{self, Batch};
use super::file::Disk;
use super::records::{self, BatchTemplate, Record};
use super::{AppendError, Appended, Background, Isolation, LogSet, PartitionLog, Work};
use crate::config::{LogConfig, TopicConfig};
use crate::env::Clock;
use crate::types::{Offset, PartitionId, TimestampMs, TopicId};

const NOW: TimestampMs = 1_700_000_000_000;

/// A log folder with its surroundings; the set is opened, dropped and opened again by the test.
struct Fixture {
    directory: TempDir,
    disk: Disk,
    clock: Clock,
    config: LogConfig,
    topic: TopicConfig,
}

impl Fixture {
    fn new() -> Self {
        Self {
            directory: TempDir::new().expect("temporary folder"),
            disk: Disk::default(),
            clock: Clock::manual(NOW),
            config: LogConfig {
                disk_reserve: 0,
                ..LogConfig::default()
            },
            topic: TopicConfig::default(),
        }
    }

    fn open(&self) -> Arc<LogSet> {
        self.open_at(self.directory.path())
    }

    fn open_at(&self, path: &Path) -> Arc<LogSet> {
        LogSet::open_on(
            self.disk.clone(),
            path,
            self.config.clone(),
            self.clock.clone(),
            Background::Threads,
        )
        .expect("the log folder opens")
    }

    /// Without threads: nothing happens behind unless the test does it.
    fn open_manually(&self) -> Arc<LogSet> {
        LogSet::open_on(
            self.disk.clone(),
            self.directory.path(),
            self.config.clone(),
            self.clock.clone(),
            Background::Manual,
        )
        .expect("the log folder opens")
    }

    fn partition(&self, logs: &LogSet, number: u8) -> Arc<PartitionLog> {
        logs.open_partition(id(number), Arc::new(self.topic.clone()))
            .expect("the partition opens")
    }

    fn folder(&self, number: u8) -> PathBuf {
        folder(self.directory.path(), number)
    }

    /// A copy of the whole log folder as it is now: what a crash of the machine would leave, had everything been synced.
    fn copy(&self) -> TempDir {
        let copy = TempDir::new().expect("temporary folder");
        copy_folder(self.directory.path(), copy.path());
        copy
    }
}

fn topic_id(number: u8) -> TopicId {
    TopicId(Uuid::from_bytes([number; 16]))
}

fn id(number: u8) -> PartitionId {
    PartitionId {
        topic: topic_id(number),
        index: 0,
    }
}

fn folder(root: &Path, number: u8) -> PathBuf {
    root.join(topic_id(number).to_string()).join("0")
}

fn segment_file(root: &Path, number: u8, base: Offset) -> PathBuf {
    folder(root, number).join(format!("{base:020}.log"))
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            std::fs::create_dir_all(&target).expect("folder");
            copy_folder(&entry.path(), &target);
        } else {
            // The keeper may rename its new checkpoint at this very moment.
            let _ = std::fs::copy(entry.path(), &target);
        }
    }
}

fn record(delta: i32, timestamp: TimestampMs, value: &[u8]) -> Record {
    Record {
        offset_delta: delta,
        timestamp,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Vec::new(),
    }
}

/// A batch with a record for each value.
fn batch_of(values: &[&[u8]]) -> Batch {
    batch_at(NOW, values)
}

fn batch_at(timestamp: TimestampMs, values: &[&[u8]]) -> Batch {
    let records: Vec<_> = values
        .iter()
        .zip(0..)
        .map(|(value, delta)| record(delta, timestamp, value))
        .collect();
    encode(BatchTemplate::PLAIN, &records)
}

/// A batch of an idempotent producer with `count` records.
fn numbered(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Batch {
    let template = BatchTemplate {
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        ..BatchTemplate::PLAIN
    };
    let records: Vec<_> = (0..count).map(|delta| record(delta, NOW, b"v")).collect();
    encode(template, &records)
}

/// Encodes as the broker does and parses as it does what a client sent.
fn encode(template: BatchTemplate, records: &[Record]) -> Batch {
    let made = records::encode(template, records).expect("encodes");
    let mut batches = batch::parse(made.bytes, usize::MAX).expect("parses");
    batches.remove(0)
}

fn append(log: &PartitionLog, values: &[&[u8]]) -> Appended {
    log.append(batch_of(values)).expect("appended")
}

/// Every record from an offset up to the high watermark, with its offset.
fn read_from(log: &PartitionLog, from: Offset) -> Vec<(Offset, Vec<u8>)> {
    let mut records = Vec::new();
    let mut next = from;
    loop {
        let read = log
            .read(next, 1 << 20, true, Isolation::ReadUncommitted)
            .expect("reads");
        if read.bytes.is_empty() {
            assert_eq!(
                next, read.high_watermark,
                "a read ends at the high watermark"
            );
            return records;
        }
        for batch in batch::split(read.bytes, usize::MAX).expect("whole batches") {
            let base = batch.header.base_offset;
            for record in records::decode(&batch, 1 << 24).expect("decodes") {
                let offset = base + i64::from(record.offset_delta);
                if offset >= from {
                    records.push((offset, record.value.expect("a value").to_vec()));
                }
            }
            next = batch.header.last_offset() + 1;
        }
    }
}

fn read_all(log: &PartitionLog) -> Vec<(Offset, Vec<u8>)> {
    read_from(log, log.offsets().log_start)
}

/// Waits until everything is below the high watermark.
fn commit(log: &PartitionLog) {
    let end = log.offsets().log_end;
    if end > 0 {
        wait(log.committed(end - 1)).expect("committed");
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("runtime")
        .block_on(async {
            tokio::time::timeout(std::time::Duration::from_secs(30), future)
                .await
                .expect("in time")
        })
}

/// Waits for something that another thread brings about and that nothing announces.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never came: {what}");
        std::thread::yield_now();
    }
}

/// A small generator whose seed is printed, so that a failing run can be repeated.
struct Random(u64);

impl Random {
    fn seeded(name: &str) -> Self {
        let seed = std::env::var("TIDEGATE_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| u64::from_be_bytes(crate::env::random_bytes()));
        println!("{name}: TIDEGATE_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        // Marsaglia's xorshift64* (2003, 2014).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound.max(1)
    }

    fn size(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a usize")
    }
}
