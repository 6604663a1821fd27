//! What was acknowledged, or shown to somebody, is there for everybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::anomaly::Anomaly;
use crate::history::{Offset, Partition, Survives, Value};
use crate::index::{Ending, Epoch, Index, Log, Read, Write};

pub fn check(index: &Index<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for (partition, log) in &index.logs {
        let survivors = survivors(index, log);
        let mut missed = BTreeSet::new();
        for epoch in 0..index.epochs() {
            let expected = expected(index, log, &survivors, epoch);
            for read in log.reads.iter().filter(|read| read.epoch == epoch) {
                for (offset, write) in missing(index, log, &expected, read) {
                    if let Some(anomaly) = judge(partition, offset, write, read, &mut missed) {
                        anomalies.push(anomaly);
                    }
                }
            }
        }
        let unseen = log.writes.values().filter(|write| {
            !missed.contains(&write.value) && is_unseen(index, log, &survivors, write)
        });
        anomalies.extend(unseen.map(|write| Anomaly::Unseen {
            partition: (*partition).clone(),
            value: write.value,
            offset: write.promised.first().map(|(_, offset)| *offset),
            writer: write.process,
        }));
    }
    anomalies
}

/// For each loss of power the highest offset of a record that came through it: nothing below it may be missing, whatever
/// it was promised, as a loss of power takes only the end of a log.
fn survivors(index: &Index<'_>, log: &Log<'_>) -> Vec<Option<Offset>> {
    let boundaries = 1..index.epochs();
    boundaries
        .map(|epoch| {
            let came_through = log.writes.values().filter(|write| write.last_epoch < epoch);
            let seen = came_through.flat_map(|write| write.seen.iter());
            let after = seen.filter(|(of, _)| *of >= epoch);
            after.map(|(_, offset)| *offset).max()
        })
        .collect()
}

/// What must stand at which offset in this epoch: what was placed in it, and what came through from earlier ones.
fn expected<'i>(
    index: &Index<'_>,
    log: &'i Log<'_>,
    survivors: &[Option<Offset>],
    epoch: Epoch,
) -> BTreeMap<Offset, Vec<&'i Write>> {
    let mut expected: BTreeMap<Offset, Vec<&Write>> = BTreeMap::new();
    for write in log.writes.values() {
        let mut offsets = write.offsets(epoch);
        if offsets.is_empty() {
            let earlier = write.promised.iter().chain(&write.seen);
            let last = earlier.filter(|(of, _)| *of < epoch).max();
            let kept = last.filter(|(of, offset)| {
                (*of..epoch).all(|loss| {
                    came_through(index, write, loss)
                        || survivors[loss].is_some_and(|highest| *offset < highest)
                })
            });
            offsets.extend(kept.map(|(_, offset)| *offset));
        }
        for offset in offsets {
            expected.entry(offset).or_default().push(write);
        }
    }
    expected
}

/// Whether a promise or a reader says that the write outlives the loss of power at the end of epoch `loss`.
fn came_through(index: &Index<'_>, write: &Write, loss: Epoch) -> bool {
    let promised = write.acknowledged.is_some_and(|(_, epoch)| epoch <= loss)
        && write.survives == Survives::PowerLoss;
    let shown = write.seen.first().is_some_and(|(epoch, _)| *epoch <= loss)
        && index.history.shown_survives == Survives::PowerLoss;
    promised || shown
}

/// What this read went past without bringing it, although it is shown to such readers.
fn missing<'i>(
    index: &Index<'_>,
    log: &Log<'_>,
    expected: &BTreeMap<Offset, Vec<&'i Write>>,
    read: &Read<'_>,
) -> Vec<(Offset, &'i Write)> {
    if read.poll.from >= read.poll.next {
        return Vec::new();
    }
    let brought: BTreeSet<(Offset, Value)> = read.poll.records.iter().copied().collect();
    let covered = expected.range(read.poll.from..read.poll.next);
    let writes = covered.flat_map(|(offset, writes)| writes.iter().map(|write| (*offset, *write)));
    writes
        .filter(|(offset, write)| {
            !brought.contains(&(*offset, write.value))
                && (!read.committed_only() || is_committed(index, write))
                && !log.trimmed(*offset, read.completed)
        })
        .collect()
}

/// Whether a `read_committed` consumer must see it. What nobody knows the end of is judged by [`crate::isolation`].
fn is_committed(index: &Index<'_>, write: &Write) -> bool {
    let ending = write.transaction.map(|id| index.transaction(id).ending());
    ending.is_none_or(|ending| ending == Ending::Committed)
}

/// Lost if nobody has seen it since; that is said once for each value.
fn judge(
    partition: &Partition,
    offset: Offset,
    write: &Write,
    read: &Read<'_>,
    missed: &mut BTreeSet<Value>,
) -> Option<Anomaly> {
    let (partition, value) = (partition.clone(), write.value);
    let (reader, at) = (read.process, read.completed);
    let seen_since = write.seen.iter().any(|(epoch, _)| *epoch >= read.epoch);
    let first = missed.insert(value);
    if seen_since {
        return Some(Anomaly::Skipped {
            partition,
            value,
            offset,
            reader,
            at,
        });
    }
    first.then_some(Anomaly::Lost {
        partition,
        value,
        offset,
        reader,
        at,
    })
}

fn is_unseen(
    index: &Index<'_>,
    log: &Log<'_>,
    survivors: &[Option<Offset>],
    write: &Write,
) -> bool {
    let Some((time, epoch)) = write.acknowledged else {
        return false;
    };
    let offset = write.promised.first().map(|(_, offset)| *offset);
    let mut losses = epoch..index.epochs() - 1;
    let may_be_gone = losses.any(|loss| {
        let below = offset
            .zip(survivors[loss])
            .is_some_and(|(own, highest)| own < highest);
        !below && !came_through(index, write, loss)
    });
    let trimmed = offset.is_some_and(|offset| log.trimmed(offset, time.max(index.end())));
    write.seen.is_empty() && is_committed(index, write) && !may_be_gone && !trimmed
}
