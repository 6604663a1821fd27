//! Fuzzing of recovery: a partition is written, its files are changed in any way, and it is opened again.
//!
//! Whatever was done: opening returns, what is served is whole and is what was written at that offset, and a log that says it
//! accepts does, keeps what it took, and is the same after the next opening. Input: see [`Script`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::super::batch::{self, BatchHeader, HEADER_SIZE, at, checksum};
use super::super::codec;
use super::super::records::{self, BatchTemplate, Record};
use super::super::seal::{self, HEADER_BLOCK, SegmentHeader};
use super::super::{
    Background, Isolation, LogSet, MarkerOutcome, OffsetQuery, PartitionLog, ReadError,
    TransactionMarker, Work,
};
use crate::config::{LogConfig, TopicConfig};
use crate::env::Clock;
use crate::env::memory::MemoryDisk;
use crate::env::simulated::Simulated;
use crate::types::{Offset, PartitionId, TimestampMs, TopicId};

const NOW: TimestampMs = 1_700_000_000_000;
/// The producer whose batches belong to transactions.
const TRANSACTIONAL: u8 = 2;
const BOOT: [u8; 16] = [1; 16];
/// Steps of each part of a script, at most.
const MAX_STEPS: usize = 24;
/// Reads of one pass over a log, at most.
const MAX_READS: usize = 10_000;
/// The longest that a file is made.
const MAX_FILE: usize = 1 << 20;

/// What to do, byte by byte: one for how it is written and opened ([`Script::is`]), one for the number of steps that write,
/// those steps, and then changes to the files until the input ends. An input that is used up reads as zeros.
struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(count);
        self.rest = rest;
        bytes
    }
}

/// How the log is closed before its files change, and opened after.
#[derive(Clone, Copy)]
struct Manner(u8);

impl Manner {
    fn stops_cleanly(self) -> bool {
        self.0 & 1 == 1
    }

    fn boot_id_after(self) -> Option<[u8; 16]> {
        match self.0 >> 1 & 3 {
            0 | 1 => Some(BOOT),
            2 => Some([2; 16]),
            _ => None,
        }
    }

    fn large_segments(self) -> bool {
        self.0 >> 3 & 1 == 1
    }

    fn is_compacted(self) -> bool {
        self.0 >> 4 & 1 == 1
    }
}

/// A partition's log on a disk in memory.
struct World {
    disk: MemoryDisk,
    config: Arc<TopicConfig>,
    /// Sequences given out, by producer.
    sequences: [i32; 3],
}

/// What was read, by offset: each batch without the bytes that belong to its place on disk.
type Content = BTreeMap<Offset, Bytes>;

impl World {
    fn new(manner: Manner) -> Self {
        let disk = MemoryDisk::default();
        disk.set_boot_id(Some(BOOT));
        let config = TopicConfig {
            segment_bytes: if manner.large_segments() {
                16 << 10
            } else {
                2 << 10
            },
            index_interval_bytes: 200,
            cleanup_compact: manner.is_compacted(),
            min_cleanable_dirty_ratio: 0.0,
            delete_retention_ms: 0,
            ..TopicConfig::default()
        };
        Self {
            disk,
            config: Arc::new(config),
            sequences: [0; 3],
        }
    }

    fn open(&self) -> (Arc<LogSet>, Result<Arc<PartitionLog>, String>) {
        let logs = LogSet::open_with(
            Arc::new(self.disk.clone()),
            Path::new("/log"),
            LogConfig {
                disk_reserve: 0,
                ..LogConfig::default()
            },
            Clock::manual(NOW),
            Background::Manual,
        )
        .expect("the folder opens, whatever became of a partition's files");
        let id = PartitionId {
            topic: TopicId(uuid::Uuid::from_bytes([7; 16])),
            index: 0,
        };
        let log = logs.open_partition(id, Arc::clone(&self.config));
        (logs, log)
    }

    /// The next batch that the script wants.
    fn batch(&mut self, script: &mut Script<'_>) -> batch::Batch {
        let (count, size, producer) = (1 + script.byte() % 4, script.byte(), script.byte() % 4);
        let records: Vec<_> = (0..i32::from(count))
            .map(|delta| Record {
                offset_delta: delta,
                timestamp: NOW + i64::from(delta),
                key: Some(vec![size % 8].into()),
                // Of a compacted log: a tombstone.
                value: (size % 16 > 0).then(|| vec![size; usize::from(size) * 4].into()),
                ..Record::default()
            })
            .collect();
        let mut template = BatchTemplate::PLAIN;
        if let Some(sequence) = self.sequences.get_mut(usize::from(producer)) {
            template.producer_id = i64::from(producer);
            template.producer_epoch = 0;
            template.base_sequence = *sequence;
            template.is_transactional = producer == TRANSACTIONAL;
            *sequence += i32::from(count);
        }
        let made = records::encode(template, &records).expect("encodes");
        let mut parsed = batch::parse(made.bytes, usize::MAX).expect("parses");
        parsed.remove(0)
    }

    fn write(&mut self, script: &mut Script<'_>, manner: Manner) -> Content {
        let (logs, log) = self.open();
        let log = log.expect("an empty folder opens");
        for _ in 0..usize::from(script.byte()) % MAX_STEPS {
            match script.byte() % 8 {
                0 => while logs.step(Work::Flush) || logs.step(Work::LazyFlush) {},
                1 => while logs.step(Work::Checkpoint) {},
                2 => {
                    let marker = marker(script.byte() & 1 == 1);
                    log.append_marker(&marker).expect("a healthy log takes it");
                }
                3 if manner.is_compacted() => while logs.step(Work::Clean) {},
                _ => {
                    let batch = self.batch(script);
                    log.append(batch).expect("a healthy log takes it");
                }
            }
        }
        while logs.step(Work::Flush) || logs.step(Work::LazyFlush) {}
        let content = read_all(&log).0;
        if manner.stops_cleanly() {
            logs.shutdown();
        }
        content
    }

    /// One change to the files. True when it made bytes pass for written that were not.
    fn change(&self, script: &mut Script<'_>) -> bool {
        let files = self.disk.files();
        let Some(path) = files.get(usize::from(script.byte()) % files.len().max(1)) else {
            return false;
        };
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        let base = if is_segment { HEADER_BLOCK as usize } else { 0 };
        match script.byte() % 9 {
            0 => self.overwrite(path, base + script.number(), script.bytes()),
            1 => self.overwrite(path, script.number() % 256, script.bytes()),
            2 => {
                let length = script.number();
                self.disk.change(path, |bytes| bytes.truncate(length));
            }
            3 => {
                let more = script.number();
                self.disk.change(path, |bytes| {
                    bytes.resize((bytes.len() + more).min(MAX_FILE), 0)
                });
            }
            4 => drop(crate::env::files::Disk::remove(&self.disk, path)),
            5 => self.copy(path, &files, script),
            6 => {
                let (at, bit) = (base + script.number(), script.byte() % 8);
                self.disk.change(path, |bytes| {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                });
            }
            7 => {
                self.disk.change(path, close_again);
                return true;
            }
            _ => {
                let at = base + script.number();
                self.disk.change(path, |bytes| seal_again(bytes, at));
                return true;
            }
        }
        false
    }

    fn overwrite(&self, path: &Path, at: usize, with: &[u8]) {
        self.disk.change(path, |bytes| {
            if bytes.len() < at + with.len() {
                bytes.resize((at + with.len()).min(MAX_FILE), 0);
            }
            if let Some(place) = bytes.get_mut(at..at + with.len()) {
                place.copy_from_slice(with);
            }
        });
    }

    /// Gives a file's content to another, or to a segment of another base offset.
    fn copy(&self, from: &Path, files: &[PathBuf], script: &mut Script<'_>) {
        let to = match script.byte() {
            base @ 0..128 => from.with_file_name(format!("{base:020}.log")),
            other => files[usize::from(other) % files.len()].clone(),
        };
        let mut content = Vec::new();
        self.disk.change(from, |bytes| content.clone_from(bytes));
        self.disk.change(&to, |bytes| *bytes = content);
    }
}

fn marker(commits: bool) -> TransactionMarker {
    TransactionMarker {
        producer_id: i64::from(TRANSACTIONAL),
        producer_epoch: 0,
        outcome: if commits {
            MarkerOutcome::Commit
        } else {
            MarkerOutcome::Abort
        },
        coordinator_epoch: 0,
    }
}

/// The files of a partition after it was written and cleanly closed.
#[cfg(test)]
pub fn sample() -> MemoryDisk {
    let mut world = World::new(Manner(1));
    let write = [20, 3, 2, 9, 2, 2, 0, 3, 1, 30, 1, 4, 3, 9, 2, 0, 1];
    world.write(&mut Script { rest: &write }, Manner(1));
    world.disk
}

/// Puts the checksum at the end of a checkpoint or an index right.
fn close_again(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len().saturating_sub(4));
    *bytes = codec::close(std::mem::take(bytes));
}

/// Makes a batch of whatever stands at a position of a segment: seal and checksum are put right.
fn seal_again(bytes: &mut [u8], at: usize) {
    let Ok(block) = SegmentHeader::decode(bytes) else {
        return;
    };
    let Some(rest) = bytes.get_mut(at..) else {
        return;
    };
    let size = BatchHeader::read(rest).map_or(0, |header| header.size);
    let Some((head, body)) = rest
        .get_mut(..size)
        .and_then(|batch| batch.split_first_chunk_mut::<HEADER_SIZE>())
    else {
        return;
    };
    let crc = checksum(head, body);
    head[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    seal::apply(block.header.salt, at as u64, head);
}

/// Whether a segment says that compaction wrote it; nothing here compacts.
fn has_compacted(log: &PartitionLog) -> bool {
    let segments = log.segments.load();
    segments.iter().any(|segment| {
        let reader = segment.reader(&log.shared.disk);
        reader.is_ok_and(|(_, header)| header.compacted.is_some())
    })
}

/// Everything that the log serves, and whether it served everything.
fn read_all(log: &PartitionLog) -> (Content, bool) {
    let mut content = Content::new();
    let mut is_whole = true;
    let mut next = log.offsets().log_start;
    for _ in 0..MAX_READS {
        match log.read(next, 1 << 12, true, Isolation::ReadUncommitted) {
            Ok(read) if read.bytes.is_empty() => {
                // A header that was forged into a compacted segment's promises offsets that its file does not hold.
                let is_at_end = next >= read.high_watermark || has_compacted(log);
                assert!(is_at_end, "nothing is served at {next}");
                return (content, is_whole);
            }
            Ok(read) => {
                let batches = batch::split(read.bytes, usize::MAX);
                for batch in batches.expect("what is served passes its checksum") {
                    let header = batch.header;
                    assert!(header.last_offset() >= next, "served again");
                    content.insert(header.base_offset, batch.bytes);
                    next = header.last_offset() + 1;
                }
            }
            Err(ReadError::OutOfRange { .. }) if next > log.offsets().log_end => break,
            Err(_) => {
                is_whole = false;
                next += 1;
            }
        }
    }
    (content, false)
}

/// A committed reader is served nothing at or above the last stable offset.
fn check_committed(log: &PartitionLog) {
    let offsets = log.offsets();
    assert!(offsets.log_start <= offsets.last_stable_offset);
    assert!(offsets.last_stable_offset <= offsets.high_watermark);
    let read = log.read(offsets.log_start, 1 << 20, true, Isolation::ReadCommitted);
    let Ok(read) = read else {
        return;
    };
    for batch in batch::split(read.bytes, usize::MAX).expect("what is served is whole") {
        assert!(batch.header.base_offset < offsets.last_stable_offset);
    }
}

/// The target.
pub fn recovery(input: &[u8]) {
    // Salts come from the whole input, so that it replays, and no mutation learns to write seals.
    let _seeded = Simulated::begin(u64::from(crc32c::crc32c(input)));
    let mut script = Script { rest: input };
    let manner = Manner(script.byte());
    let mut world = World::new(manner);
    let written = world.write(&mut script, manner);
    let mut is_forged = false;
    for _ in 0..MAX_STEPS {
        if script.rest.is_empty() {
            break;
        }
        is_forged |= world.change(&mut script);
    }
    world.disk.set_boot_id(manner.boot_id_after());
    let (logs, log) = world.open();
    let Ok(log) = log else {
        return;
    };
    let (served, _) = read_all(&log);
    if !is_forged {
        for (offset, bytes) in &served {
            assert_eq!(written.get(offset), Some(bytes), "offset {offset}");
        }
    }
    for query in [
        OffsetQuery::MaxTimestamp,
        OffsetQuery::AtTime(NOW),
        OffsetQuery::AtTime(NOW + 2),
    ] {
        for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
            let _ = log.find_offset(query, isolation);
        }
    }
    check_committed(&log);
    logs.enforce_retention();
    let accepts = log.stats().stopped.is_none();
    let end = log.offsets().log_end;
    let mut appended = world.batch(&mut Script { rest: &[0, 1, 3] });
    appended = batch::parse(appended.bytes, usize::MAX)
        .expect("parses")
        .remove(0);
    let outcome = log.append(appended);
    assert_eq!(outcome.is_ok(), accepts, "{outcome:?}");
    if accepts {
        assert_eq!(outcome.map(|appended| appended.base_offset), Ok(end));
        check_next_opening(&world, &logs, &log);
    }
}

/// A log that accepts is the same after a clean stop.
fn check_next_opening(world: &World, logs: &LogSet, log: &PartitionLog) {
    while logs.step(Work::Flush) || logs.step(Work::LazyFlush) {}
    let (offsets, content) = (log.offsets(), read_all(log));
    logs.shutdown();
    let (_logs, again) = world.open();
    let again = again.expect("what was closed cleanly opens");
    assert_eq!(again.stats().stopped, None);
    assert_eq!(again.offsets(), offsets);
    assert_eq!(read_all(&again), content);
}
