//! One byte is changed anywhere in a log: it is found, and costs at most the batch that it hit.
//!
//! Each round changes one byte of a segment, an index or the checkpoint of a log that was closed cleanly, and changes it back.
//! `tidegate log verify`'s check must find it; a reader with `tidegate.damaged-records=skip` must be given every other batch as it
//! was, and nothing of the one that was hit. Every fiftieth round works on a copy, and repairs it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harness::{Seed, say, setting};
use tidegate::config::{DamagedRecords, Durability, LogConfig, TopicConfig};
use tidegate::env::{Clock, files};
use tidegate::log::inspect::{self, FindingKind, Report};
use tidegate::log::{Background, Isolation, LogSet, PartitionLog, batch, repair::repair};
use tidegate::types::{Offset, PartitionId, TopicId};

const HEADER_BLOCK: u64 = 4096;
/// Bytes of records in a batch, about.
const BATCH_BYTES: u64 = 10_000;
/// Rounds that end with a repair.
const REPAIR_EVERY: u64 = 50;
/// The log that is copied and repaired each time.
const REPAIRED_LOG_BYTES: u64 = 1 << 20;

fn id() -> PartitionId {
    PartitionId {
        topic: TopicId(uuid_of(7)),
        index: 0,
    }
}

fn uuid_of(byte: u8) -> uuid::Uuid {
    uuid::Uuid::from_bytes([byte; 16])
}

/// A batch as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Written {
    segment: Offset,
    position: u64,
    size: u64,
    /// CRC-32C of what a fetch gives of it.
    fetched: u32,
}

/// A closed log and what it holds, by base offset.
struct Sample {
    folder: tempfile::TempDir,
    config: Arc<TopicConfig>,
    batches: BTreeMap<Offset, Written>,
    end: Offset,
}

/// Tries again while the folder seems to be in use: a process that another test is starting holds every file that is open
/// in this one, for a moment.
fn retried<T>(mut work: impl FnMut() -> Result<T, String>) -> T {
    let mut tries = 0;
    loop {
        match work() {
            Err(error) if error.contains("in use") && tries < 200 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome.expect("the log folder opens"),
        }
    }
}

fn open(root: &Path, config: &Arc<TopicConfig>) -> (Arc<LogSet>, Arc<PartitionLog>) {
    let logs = retried(|| {
        LogSet::open_with(
            files::machine(),
            root,
            LogConfig {
                disk_reserve: 0,
                ..LogConfig::default()
            },
            Clock::system(),
            Background::Manual,
        )
    });
    let log = logs
        .open_partition(id(), Arc::clone(config))
        .expect("the partition opens");
    (logs, log)
}

impl Sample {
    fn new(bytes: u64, seed: &mut Seed) -> Self {
        let config = TopicConfig {
            segment_bytes: (bytes / 64).clamp(64 << 10, 1 << 20),
            max_message_bytes: 1 << 20,
            durability: Durability::Os,
            damaged_records: DamagedRecords::Skip,
            retention_ms: -1,
            ..TopicConfig::default()
        };
        let mut sample = Self {
            folder: tempfile::tempdir().expect("temporary folder"),
            config: Arc::new(config),
            batches: BTreeMap::new(),
            end: 0,
        };
        let (logs, log) = open(sample.root(), &sample.config);
        while log.stats().size_bytes < bytes {
            let count = seed.between(1, 20) as usize;
            let size = seed.between(1, 2 * BATCH_BYTES) as usize / count;
            let values: Vec<_> = (0..count).map(|_| seed.bytes(size)).collect();
            let batch = batch::parse(harness::batch::of_values(&values), usize::MAX)
                .expect("a batch")
                .remove(0);
            log.append(batch).expect("appended");
        }
        sample.end = log.offsets().log_end;
        let fetched = read(&log, 0, sample.end);
        logs.shutdown();
        for segment in inspect::segments(&sample.partition()).expect("segments") {
            inspect::batches(&segment.path, |found| {
                let written = Written {
                    segment: segment.base_offset,
                    position: found.position,
                    size: found.size as u64,
                    fetched: fetched[&found.base_offset],
                };
                sample.batches.insert(found.base_offset, written);
                true
            })
            .expect("batches");
        }
        assert_eq!(sample.batches.len(), fetched.len());
        sample
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn partition(&self) -> PathBuf {
        inspect::partition_folder(self.root(), id())
    }

    /// Files of the partition with their lengths.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        let entries = fs::read_dir(self.partition()).expect("folder");
        let mut files: Vec<_> = entries
            .map(|entry| {
                let entry = entry.expect("entry");
                (entry.path(), entry.metadata().expect("metadata").len())
            })
            .collect();
        files.sort();
        files
    }

    /// A byte of any file, or, one time in ten, of what is small: header blocks, indexes, the checkpoint.
    fn place(&self, seed: &mut Seed) -> (PathBuf, u64) {
        let only_small = seed.between(0, 9) == 0;
        let weight = |path: &Path, length: u64| match (only_small, is_segment(path)) {
            (true, true) => length.min(HEADER_BLOCK),
            _ => length,
        };
        let files = self.files();
        let total: u64 = files
            .iter()
            .map(|(path, length)| weight(path, *length))
            .sum();
        let mut at = seed.between(0, total - 1);
        for (path, length) in files {
            let weight = weight(&path, length);
            if at < weight {
                return (path, at);
            }
            at -= weight;
        }
        unreachable!("the place lies within the sum of all lengths")
    }

    /// The batch that a byte of a segment belongs to.
    fn hit(&self, segment: Offset, position: u64) -> Option<Offset> {
        let holds = |written: &Written| {
            written.segment == segment
                && (written.position..written.position + written.size).contains(&position)
        };
        let mut batches = self.batches.iter();
        batches
            .find(|(_, written)| holds(written))
            .map(|(base, _)| *base)
    }

    /// What a reader is given of `from..until`, but for the batch that was hit.
    fn expected(&self, from: Offset, until: Offset, hit: Option<Offset>) -> BTreeMap<Offset, u32> {
        let batches = self.batches.range(from..until);
        batches
            .filter(|(base, _)| Some(**base) != hit)
            .map(|(base, written)| (*base, written.fetched))
            .collect()
    }

    fn next_segment(&self, segment: Offset) -> Offset {
        let later = self.batches.values().map(|written| written.segment);
        later
            .filter(|base| *base > segment)
            .min()
            .unwrap_or(self.end)
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// The base offset that a file is named by; the checkpoint has none.
fn base_of(path: &Path) -> Option<Offset> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Every batch that reads of `from..until` give, with the checksum of its bytes.
fn read(log: &PartitionLog, from: Offset, until: Offset) -> BTreeMap<Offset, u32> {
    let mut batches = BTreeMap::new();
    let mut next = from;
    while next < until {
        let read = log
            .read(next, 1 << 20, true, Isolation::ReadUncommitted)
            .expect("a read goes on behind damage");
        if read.bytes.is_empty() {
            break;
        }
        for found in batch::split(read.bytes, usize::MAX).expect("whole batches") {
            let base = found.header.base_offset;
            if base < until {
                batches.insert(base, crc32c::crc32c(&found.bytes));
            }
            next = found.header.last_offset() + 1;
        }
    }
    batches
}

fn flip(path: &Path, position: u64, change: u8) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("read");
    file.write_all_at(&[byte[0] ^ change], position)
        .expect("written");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

#[derive(Default)]
struct Tally {
    damage: u64,
    flaws: u64,
    derivable: u64,
    lost: u64,
    repaired: u64,
}

impl Tally {
    /// Exactly the kinds of findings that the changed byte can make.
    fn count(&mut self, report: &Report, place: &str) {
        assert!(!report.findings.is_empty(), "{place}: not found");
        match report.findings[0].kind {
            FindingKind::Damage => self.damage += 1,
            FindingKind::Flaw => self.flaws += 1,
            FindingKind::Derivable => self.derivable += 1,
            kind @ (FindingKind::Contents | FindingKind::Times) => {
                panic!("{place}: {kind:?}, which is what a client does, not a disk")
            }
        }
    }
}

/// Changes a byte, looks, reads, and changes it back.
fn round(sample: &Sample, seed: &mut Seed, tally: &mut Tally) {
    let (path, position) = sample.place(seed);
    let change = seed.between(1, 255) as u8;
    let place = format!("{} at {position} by {change}", path.display());
    // A reader makes a damaged index anew.
    let derived = (!is_segment(&path)).then(|| fs::read(&path).expect("read"));
    let change_back = || match &derived {
        Some(before) => fs::write(&path, before).expect("written"),
        None => flip(&path, position, change),
    };
    flip(&path, position, change);
    let base = base_of(&path);
    let report = inspect::verify_segments(sample.root(), id(), |one| Some(one) == base);
    tally.count(&report.expect("a report"), &place);
    let Some(base) = base else {
        // A start without a checkpoint reads the whole log: once in a while is enough.
        if tally.derivable < 3 {
            let (_logs, log) = open(sample.root(), &sample.config);
            let all = sample.expected(0, sample.end, None);
            assert_eq!(read(&log, 0, sample.end), all, "{place}");
        }
        change_back();
        return;
    };
    let hit = is_segment(&path)
        .then(|| sample.hit(base, position))
        .flatten();
    let until = sample.next_segment(base);
    {
        let (_logs, log) = open(sample.root(), &sample.config);
        assert_eq!(log.stats().stopped, None, "{place}");
        let expected = sample.expected(base, until, hit);
        assert_eq!(read(&log, base, until), expected, "{place}");
        // A read that begins in the segment's middle finds its place, too.
        if let Some(middle) = expected.keys().nth(expected.len() / 2) {
            let behind = sample.expected(*middle, until, hit);
            assert_eq!(read(&log, *middle, until), behind, "{place}");
        }
    }
    tally.lost += u64::from(hit.is_some());
    change_back();
}

/// As `round`, on a copy that is repaired: it verifies clean, and serves everything but the batch that was hit.
fn repaired(sample: &Sample, seed: &mut Seed, tally: &mut Tally) {
    let (path, position) = sample.place(seed);
    let change = seed.between(1, 255) as u8;
    let place = format!("{} at {position} by {change}", path.display());
    let copy = tempfile::tempdir().expect("temporary folder");
    copy_folder(sample.root(), copy.path());
    let relative = path
        .strip_prefix(sample.root())
        .expect("a file of the sample");
    flip(&copy.path().join(relative), position, change);
    let actions = retried(|| repair(copy.path(), id(), false));
    assert!(!actions.is_empty(), "{place}");
    let report = inspect::verify(copy.path()).expect("a report");
    assert_eq!(report.findings, [], "{place}: {actions:#?}");
    let hit = base_of(&path)
        .filter(|_| is_segment(&path))
        .and_then(|base| sample.hit(base, position));
    let stops = TopicConfig {
        damaged_records: DamagedRecords::Stop,
        ..(*sample.config).clone()
    };
    let (logs, log) = open(copy.path(), &Arc::new(stops));
    assert_eq!(log.stats().stopped, None, "{place}");
    assert_eq!(log.offsets().log_end, sample.end, "{place}");
    let expected = sample.expected(0, sample.end, hit);
    assert_eq!(read(&log, 0, sample.end), expected, "{place}: {actions:#?}");
    let more = batch::parse(harness::batch::of_values(&[b"more"]), usize::MAX)
        .expect("a batch")
        .remove(0);
    let appended = log.append(more).expect("appended");
    assert_eq!(appended.base_offset, sample.end, "{place}");
    logs.shutdown();
    tally.repaired += 1;
}

#[test]
fn one_changed_byte_is_found_and_costs_at_most_its_batch() {
    let rounds = setting("TIDEGATE_FLIPS", 200);
    let bytes = setting("TIDEGATE_FLIP_LOG_BYTES", 4 << 20);
    let mut seed = Seed::from_env("changed bytes");
    let sample = Sample::new(bytes, &mut seed);
    let small = Sample::new(bytes.min(REPAIRED_LOG_BYTES), &mut seed);
    let mut tally = Tally::default();
    for number in 1..=rounds {
        round(&sample, &mut seed, &mut tally);
        if number % REPAIR_EVERY == 0 {
            repaired(&small, &mut seed, &mut tally);
        }
    }
    assert_eq!(
        inspect::verify(sample.root()).expect("a report").findings,
        []
    );
    let Tally {
        damage,
        flaws,
        derivable,
        lost,
        repaired,
    } = tally;
    say(&format!(
        "changed bytes: {rounds} in a log of {bytes} bytes, all found ({damage} in batches, {flaws} in header blocks, {derivable} in \
         indexes and checkpoints), {lost} batches lost of the {lost} that were hit, {repaired} logs repaired"
    ));
}
