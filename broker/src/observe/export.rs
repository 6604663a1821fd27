//! A scrape: which label sets get series of their own, and the text that Prometheus reads (text format 0.0.4).
//!
//! A label set that is folded adds to `_other` what its counters grew by since the last scrape, and its own series, when it
//! has some again, go on from where they were. So no series of a counter ever falls, nothing is counted twice, and sums of
//! rates stay true while label sets gain and lose series of their own.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

use super::budget::{Demand, allocate};
use super::store::{Entry, Store};
use super::table::{MetricKind, MetricRow};

/// How much of its activity a label set keeps from one scrape to the next.
const ACTIVITY_KEPT: f64 = 0.8;

/// A label set that has series of its own yields them only to one that is this much busier.
const STAYING: f64 = 1.5;

/// Scrapes after which a label set is forgotten that nothing reads (a topic that was deleted) and nothing moves.
const IDLE_SCRAPES: u32 = 20;

/// The label sets of one group in one scrape.
struct Selection<'s> {
    store: &'s Store,
    /// With series of their own, by label values.
    own: Vec<Arc<Entry>>,
    /// `_other` holds something.
    folds: bool,
}

/// Chooses and writes. Values that are read at scrapes have been read; the caller excludes other scrapes.
/// `set_folded` is told the number of folded label sets before anything is written.
pub(super) fn export(
    stores: &[Store],
    max_series: usize,
    set_folded: impl FnOnce(usize),
) -> String {
    let mut candidates: Vec<Vec<(Rank, Arc<Entry>)>> = stores.iter().map(rank).collect();
    let unlabelled = |store: &&Store| store.row.labels.is_empty();
    let fixed: usize = stores
        .iter()
        .filter(unlabelled)
        .map(|store| store.row.series())
        .sum();
    let demands: Vec<Demand> = stores
        .iter()
        .zip(&candidates)
        .filter(|(store, _)| !store.row.labels.is_empty())
        .map(|(store, candidates)| Demand {
            class: store.row.class,
            label_sets: candidates.len(),
            series: store.row.series(),
        })
        .collect();
    let mut granted = allocate(max_series.saturating_sub(fixed), &demands).into_iter();
    let mut folded = 0;
    let mut selections = Vec::with_capacity(stores.len());
    for (store, candidates) in stores.iter().zip(&mut candidates) {
        let granted = if store.row.labels.is_empty() {
            candidates.len()
        } else {
            granted.next().unwrap_or(0)
        };
        let (selection, left_out) = select(store, std::mem::take(candidates), granted);
        folded += left_out;
        selections.push(selection);
    }
    set_folded(folded);
    let mut text = String::with_capacity(64 << 10);
    for selection in &selections {
        for (slot, row) in selection.store.row.places() {
            write_metric(&mut text, selection, slot, row);
        }
    }
    text
}

/// How much a label set deserves series of its own.
#[derive(Clone, Copy, PartialEq)]
struct Rank {
    activity: f64,
    size: f64,
}

/// Follows every label set's counters and ranks it; forgets those that are gone.
fn rank(store: &Store) -> Vec<(Rank, Arc<Entry>)> {
    let entries = store.entries();
    // A group that no collector speaks of is not read at all: nothing follows from a label set's absence.
    let collected = entries.iter().any(|entry| entry.was_read(store.row));
    let mut ranked = Vec::with_capacity(entries.len());
    let mut any_gone = false;
    for entry in entries {
        let moved = growth(store, &entry);
        let size = size(store, &entry);
        let was_read = entry.was_read(store.row);
        let mut export = entry.export.lock();
        export.activity = export.activity * ACTIVITY_KEPT + moved;
        let idle = collected && !was_read && moved == 0.0 && size == 0.0;
        export.idle_scrapes = if idle { export.idle_scrapes + 1 } else { 0 };
        let staying = if export.exported { STAYING } else { 1.0 };
        let rank = Rank {
            activity: export.activity * staying,
            size: size * staying,
        };
        drop(export);
        if is_gone(store, &entry) {
            any_gone = true;
        } else {
            ranked.push((rank, entry));
        }
    }
    if any_gone {
        store.retain(|entry| !is_gone(store, entry));
    }
    ranked
}

/// True for a label set that is only read and was not, and for one that has been idle for long.
fn is_gone(store: &Store, entry: &Entry) -> bool {
    if store.is_only_read() {
        return !entry.was_read(store.row);
    }
    entry.export.lock().idle_scrapes > IDLE_SCRAPES && growth(store, entry) == 0.0
}

/// Events that a label set counted since the last scrape. Time does not count: what is slow is not busy.
fn growth(store: &Store, entry: &Entry) -> f64 {
    let export = entry.export.lock();
    let mut moved = 0.0;
    for (first, row) in store.row.places() {
        let slots = match row.kind {
            MetricKind::Counter => first..first + 1,
            MetricKind::Histogram(bounds) => first..first + bounds.len() + 1,
            _ => continue,
        };
        for slot in slots {
            moved += entry.get(slot).wrapping_sub(export.seen[slot]) as f64;
        }
    }
    moved
}

/// What a label set's levels and gauges stand at.
fn size(store: &Store, entry: &Entry) -> f64 {
    let values = store.row.places().map(|(slot, row)| match row.kind {
        MetricKind::Level => entry.get(slot).cast_signed() as f64,
        MetricKind::Gauge | MetricKind::ReadCounter => entry.read_value(slot).unwrap_or(0.0),
        _ => 0.0,
    });
    values.sum()
}

/// The `granted` busiest label sets keep their own series, the rest are added to `_other`. Also how many the rest are.
fn select(
    store: &Store,
    mut candidates: Vec<(Rank, Arc<Entry>)>,
    granted: usize,
) -> (Selection<'_>, usize) {
    candidates.sort_by(|(a, left), (b, right)| {
        left.looks_like_other()
            .cmp(&right.looks_like_other())
            .then_with(|| b.activity.total_cmp(&a.activity))
            .then_with(|| b.size.total_cmp(&a.size))
            .then_with(|| by_labels(left, right))
    });
    let overflowed = store.take_overflowed();
    let named = candidates
        .iter()
        .filter(|(_, entry)| !store.row.labels.is_empty() && entry.looks_like_other())
        .count();
    let own = granted.min(candidates.len() - named);
    for (index, (_, entry)) in candidates.iter().enumerate() {
        follow(store, entry, index < own);
    }
    let folded = candidates.len() - own + overflowed;
    let mut own: Vec<_> = candidates
        .into_iter()
        .take(own)
        .map(|(_, entry)| entry)
        .collect();
    own.sort_by(|left, right| by_labels(left, right));
    let other_counted = store.row.places().any(|(first, row)| {
        let mut slots = first..first + row.kind.slots();
        !row.kind.is_read() && slots.any(|slot| store.other.get(slot) != 0)
    });
    let selection = Selection {
        store,
        own,
        folds: folded > 0 || other_counted,
    };
    (selection, folded)
}

fn by_labels(left: &Entry, right: &Entry) -> Ordering {
    left.labels.cmp(&right.labels)
}

/// Remembers where a label set's counters stand; a folded one's growth and present values go to `_other`.
fn follow(store: &Store, entry: &Entry, own: bool) {
    let mut export = entry.export.lock();
    export.exported = own;
    for (first, row) in store.row.places() {
        for slot in first..first + row.kind.slots() {
            if row.kind.is_read() {
                if let Some(value) = entry.read_value(slot)
                    && !own
                {
                    store.other.add_read_value(slot, value);
                }
                continue;
            }
            let value = entry.get(slot);
            let in_other = match row.kind {
                MetricKind::Level if own => 0,
                MetricKind::Level => value,
                _ if own => export.in_other[slot],
                _ => export.in_other[slot].wrapping_add(value.wrapping_sub(export.seen[slot])),
            };
            store
                .other
                .add(slot, in_other.wrapping_sub(export.in_other[slot]));
            export.in_other[slot] = in_other;
            export.seen[slot] = value;
        }
    }
}

fn write_metric(text: &mut String, selection: &Selection<'_>, slot: usize, row: &MetricRow) {
    let other = selection.folds.then_some(&selection.store.other);
    let mut described = false;
    for entry in selection.own.iter().map(Arc::as_ref).chain(other) {
        if row.kind.is_read() && entry.read_value(slot).is_none() {
            continue;
        }
        if !described {
            described = true;
            let _ = writeln!(
                text,
                "# HELP {} {}\n# TYPE {} {}",
                row.name,
                row.help,
                row.name,
                row.kind.type_name()
            );
        }
        let labels = label_text(selection.store.row.labels, entry);
        match row.kind {
            MetricKind::Counter => write_sample(text, row.name, "", &labels, entry.own(slot)),
            MetricKind::SecondsCounter => {
                write_sample(text, row.name, "", &labels, seconds(entry.own(slot)));
            }
            // A level that was read between a fall and the rise before it is nothing, not a wrapped number.
            MetricKind::Level => {
                write_sample(
                    text,
                    row.name,
                    "",
                    &labels,
                    entry.own(slot).cast_signed().max(0),
                );
            }
            MetricKind::Gauge | MetricKind::ReadCounter => {
                write_sample(
                    text,
                    row.name,
                    "",
                    &labels,
                    entry.read_value(slot).unwrap_or(0.0),
                );
            }
            MetricKind::Histogram(bounds) => {
                write_histogram(text, row.name, &labels, (slot, bounds), entry);
            }
        }
    }
}

fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    (slot, bounds): (usize, &[u64]),
    entry: &Entry,
) {
    let separator = if labels.is_empty() { "" } else { "," };
    let mut count = 0;
    for (bucket, bound) in bounds.iter().enumerate() {
        count += entry.own(slot + bucket);
        let labels = format!("{labels}{separator}le=\"{}\"", seconds(*bound));
        write_sample(text, name, "_bucket", &labels, count);
    }
    count += entry.own(slot + bounds.len());
    let unbounded = format!("{labels}{separator}le=\"+Inf\"");
    write_sample(text, name, "_bucket", &unbounded, count);
    let sum = seconds(entry.own(slot + bounds.len() + 1));
    write_sample(text, name, "_sum", labels, sum);
    write_sample(text, name, "_count", labels, count);
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn write_sample(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    value: impl std::fmt::Display,
) {
    let _ = if labels.is_empty() {
        writeln!(text, "{name}{suffix} {value}")
    } else {
        writeln!(text, "{name}{suffix}{{{labels}}} {value}")
    };
}

fn label_text(names: &[&str], entry: &Entry) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(&entry.labels) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}
