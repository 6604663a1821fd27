//! Where the values of one group are kept: an entry for each label set, found without allocation and added to without a
//! lock that excludes others.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::table::GroupRow;

/// The label value under which label sets without series of their own are added up.
pub(super) const OTHER: &str = "_other";

/// Label sets that one group keeps at most; what comes after is recorded under `_other` at once.
const MAX_LABEL_SETS: usize = 1 << 16;

/// The longest label value that is exported, in bytes: as long as Kafka's longest topic name.
const MAX_LABEL_BYTES: usize = 249;

/// Locks that the label sets of a group are spread over.
const SHARDS: usize = 8;

/// What a slot that is read at scrapes holds while nothing was read.
pub(super) const ABSENT: u64 = u64::MAX;

/// The values of one label set, slot by slot (`GroupRow::places`). Slots that are read at scrapes hold the bits of an
/// `f64`, the others whole numbers.
pub(super) struct Entry {
    pub labels: Box<[Box<str>]>,
    values: Box<[AtomicU64]>,
    pub export: Mutex<Export>,
}

/// What the exporter remembers of a label set from one scrape to the next.
#[derive(Default)]
pub(super) struct Export {
    /// Counters as of the last scrape, slot by slot.
    pub seen: Box<[u64]>,
    /// The part of each counter that was added to `_other` while the label set was folded; of a level, what `_other`
    /// holds of it now.
    pub in_other: Box<[u64]>,
    /// How much its counters moved, older scrapes counting less and less.
    pub activity: f64,
    /// It had series of its own at the last scrape.
    pub exported: bool,
    /// Scrapes in a row in which a collector named others and not this one, and nothing moved it.
    pub idle_scrapes: u32,
}

impl Entry {
    fn new(labels: Box<[Box<str>]>, row: &GroupRow) -> Self {
        let entry = Self {
            labels,
            values: (0..row.slots()).map(|_| AtomicU64::new(0)).collect(),
            export: Mutex::new(Export {
                seen: vec![0; row.slots()].into(),
                in_other: vec![0; row.slots()].into(),
                ..Export::default()
            }),
        };
        entry.forget_read_values(row);
        entry
    }

    pub fn get(&self, slot: usize) -> u64 {
        self.values[slot].load(Ordering::Relaxed)
    }

    /// What the label set exports in series of its own.
    pub fn own(&self, slot: usize) -> u64 {
        self.get(slot)
            .wrapping_sub(self.export.lock().in_other[slot])
    }

    pub fn add(&self, slot: usize, by: u64) {
        self.values[slot].fetch_add(by, Ordering::Relaxed);
    }

    /// Levels wrap through zero: a fall that is seen before its rise is made good by it.
    pub fn subtract(&self, slot: usize, by: u64) {
        self.values[slot].fetch_sub(by, Ordering::Relaxed);
    }

    pub fn set(&self, slot: usize, value: u64) {
        self.values[slot].store(value, Ordering::Relaxed);
    }

    pub fn observe(&self, first_slot: usize, bounds: &[u64], nanoseconds: u64) {
        let bucket = bounds.partition_point(|bound| *bound < nanoseconds);
        self.add(first_slot + bucket, 1);
        self.add(first_slot + bounds.len() + 1, nanoseconds);
    }

    /// A value that was read at this scrape.
    pub fn read_value(&self, slot: usize) -> Option<f64> {
        let bits = self.get(slot);
        (bits != ABSENT).then(|| f64::from_bits(bits))
    }

    /// Adds to a value that is read at this scrape. The exporter is the only one to do so.
    pub fn add_read_value(&self, slot: usize, by: f64) {
        let value = self.read_value(slot).unwrap_or(0.0) + by;
        self.set(slot, value.to_bits());
    }

    /// Makes the entry ready for a scrape.
    pub fn forget_read_values(&self, row: &GroupRow) {
        for (slot, _) in row.places().filter(|(_, metric)| metric.kind.is_read()) {
            self.set(slot, ABSENT);
        }
    }

    /// True when the collector named this label set in this scrape.
    pub fn was_read(&self, row: &GroupRow) -> bool {
        row.places()
            .any(|(slot, metric)| metric.kind.is_read() && self.get(slot) != ABSENT)
    }

    /// True for a label set that looks like the one in which others are added up: it must be added there too.
    pub fn looks_like_other(&self) -> bool {
        self.labels.iter().all(|label| &**label == OTHER)
    }
}

type Shard = RwLock<HashMap<Box<[u8]>, Arc<Entry>>>;

/// One group's entries.
pub(super) struct Store {
    pub row: &'static GroupRow,
    shards: [Shard; SHARDS],
    label_sets: AtomicUsize,
    /// Entries that were refused in favour of `other` since the exporter last asked.
    overflowed: AtomicUsize,
    /// Where label sets without series of their own are added up.
    pub other: Entry,
}

thread_local! {
    /// The key of the label set that is being looked up: each value after its length.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Store {
    pub fn new(row: &'static GroupRow) -> Self {
        let others = row.labels.iter().map(|_| Box::from(OTHER)).collect();
        Self {
            row,
            shards: Default::default(),
            label_sets: AtomicUsize::new(0),
            overflowed: AtomicUsize::new(0),
            other: Entry::new(others, row),
        }
    }

    /// Calls `record` with the entry of a label set, which is made when it is not there yet.
    pub fn with(&self, labels: &[&str], record: impl FnOnce(&Entry)) {
        KEY.with_borrow_mut(|key| {
            key.clear();
            for label in labels {
                key.extend_from_slice(&label.len().to_le_bytes());
                key.extend_from_slice(label.as_bytes());
            }
            // The last byte tells apart names that are numbered, as names that come in masses are.
            let shard = key.last().map_or(0, |last| usize::from(*last) ^ key.len()) % SHARDS;
            let shard = &self.shards[shard];
            if let Some(entry) = shard.read().get(key.as_slice()) {
                record(entry);
                return;
            }
            if self.label_sets.load(Ordering::Relaxed) >= MAX_LABEL_SETS {
                self.overflowed.fetch_add(1, Ordering::Relaxed);
                record(&self.other);
                return;
            }
            let mut entries = shard.write();
            let entry = entries.entry(key.as_slice().into()).or_insert_with(|| {
                self.label_sets.fetch_add(1, Ordering::Relaxed);
                let labels = labels.iter().map(|label| bounded(label)).collect();
                Arc::new(Entry::new(labels, self.row))
            });
            record(entry);
        });
    }

    /// Every entry, in no order.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// Forgets the entries of which `keep` says no.
    pub fn retain(&self, keep: impl Fn(&Entry) -> bool) {
        for shard in &self.shards {
            let mut entries = shard.write();
            let before = entries.len();
            entries.retain(|_, entry| keep(entry));
            self.label_sets
                .fetch_sub(before - entries.len(), Ordering::Relaxed);
        }
    }

    /// Records that went to `_other` for want of room since this was last asked.
    pub fn take_overflowed(&self) -> usize {
        self.overflowed.swap(0, Ordering::Relaxed)
    }

    /// True when the group has values that are read at scrapes.
    pub fn is_read(&self) -> bool {
        self.row.metrics.iter().any(|metric| metric.kind.is_read())
    }

    /// True when every value is read at scrapes, so that a label set which was not read is gone.
    pub fn is_only_read(&self) -> bool {
        self.row.metrics.iter().all(|metric| metric.kind.is_read())
    }
}

/// The label value as it is exported: one that is too long is cut, and ends in a digest that keeps it apart from others.
fn bounded(label: &str) -> Box<str> {
    if label.len() <= MAX_LABEL_BYTES {
        return label.into();
    }
    // The digest need only be stable within this process.
    static DIGEST: std::sync::LazyLock<RandomState> = std::sync::LazyLock::new(RandomState::new);
    let end = label.floor_char_boundary(MAX_LABEL_BYTES - 20);
    format!("{}...{:016x}", &label[..end], DIGEST.hash_one(label)).into()
}
