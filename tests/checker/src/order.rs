//! Every value was sent, stands once, at the offset that was promised, and behind what was written before it.

use std::collections::{BTreeMap, BTreeSet};

use crate::anomaly::Anomaly;
use crate::history::{Offset, Partition, Time, TransactionId, Value};
use crate::index::{Epoch, Index, Log, Write};

pub fn check(index: &Index<'_>) -> Vec<Anomaly> {
    let mut anomalies: Vec<_> = index.unwritten.iter().map(never_sent).collect();
    let mut orders = Vec::new();
    for (partition, log) in &index.logs {
        for write in log.writes.values() {
            anomalies.extend(check_write(partition, write));
        }
        for epoch in 0..index.epochs() {
            anomalies.extend(check_offsets(partition, log, epoch));
            let order = order_of(log, epoch);
            orders.push((*partition, order));
        }
    }
    for (partition, order) in &orders {
        for (earlier, later) in contradictions(index, order) {
            anomalies.push(Anomaly::WriteCycle {
                partition: (*partition).clone(),
                earlier: earlier.1.value,
                earlier_offset: earlier.0,
                later: later.1.value,
                later_offset: later.0,
                also: right_elsewhere(&orders, earlier.1, later.1),
            });
        }
    }
    anomalies
}

fn never_sent(found: &(&Partition, Offset, Value, u32, Time)) -> Anomaly {
    let (partition, offset, value, reader, at) = *found;
    Anomaly::NeverSent {
        partition: partition.clone(),
        value,
        offset,
        reader,
        at,
    }
}

/// One value, by itself: read only if it was not refused, in one place in each epoch, and in the same in the next.
fn check_write(partition: &Partition, write: &Write) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    if let Some((_, offset)) = write.seen.first()
        && write.refused
    {
        anomalies.push(Anomaly::RefusedRead {
            partition: partition.clone(),
            value: write.value,
            offset: *offset,
        });
    }
    let allowed = if write.idempotent { 1 } else { write.attempts };
    let mut before: Option<(Epoch, Offset)> = None;
    let epochs: BTreeSet<_> = write
        .promised
        .iter()
        .chain(&write.seen)
        .map(|at| at.0)
        .collect();
    for epoch in epochs {
        let (seen, all) = (of_epoch(&write.seen, epoch), write.offsets(epoch));
        if seen.len() > allowed {
            anomalies.push(Anomaly::Duplicate {
                partition: partition.clone(),
                value: write.value,
                offsets: seen,
            });
            return anomalies;
        }
        let mut expected = all.first().copied();
        if all.len() > allowed {
            expected = of_epoch(&write.promised, epoch).first().copied();
        } else if let Some((_, earlier)) = before
            && write.last_epoch < epoch
        {
            expected = Some(earlier);
        }
        let found = seen.iter().find(|offset| Some(**offset) != expected);
        if let (Some(expected), Some(found)) = (expected, found)
            && allowed == 1
        {
            anomalies.push(Anomaly::Misplaced {
                partition: partition.clone(),
                value: write.value,
                expected,
                found: *found,
            });
        }
        before = all.last().map(|offset| (epoch, *offset));
    }
    anomalies
}

fn of_epoch(places: &BTreeSet<(Epoch, Offset)>, epoch: Epoch) -> Vec<Offset> {
    let found = places.iter().filter(|(of, _)| *of == epoch);
    found.map(|(_, offset)| *offset).collect()
}

/// One offset has one value.
fn check_offsets(partition: &Partition, log: &Log<'_>, epoch: Epoch) -> Vec<Anomaly> {
    let mut values: BTreeMap<Offset, BTreeSet<Value>> = BTreeMap::new();
    for write in log.writes.values() {
        for offset in write.offsets(epoch) {
            values.entry(offset).or_default().insert(write.value);
        }
    }
    let several = values.into_iter().filter(|(_, values)| values.len() > 1);
    several
        .map(|(offset, values)| Anomaly::InconsistentOffset {
            partition: partition.clone(),
            offset,
            values: values.into_iter().collect(),
        })
        .collect()
}

/// A write that stands in one place.
type Placed<'i> = (Offset, &'i Write);
/// The writes of one epoch that stand in one place, by their offsets.
type Order<'i> = Vec<Placed<'i>>;

fn order_of<'i>(log: &'i Log<'_>, epoch: Epoch) -> Order<'i> {
    let placed = log.writes.values().filter_map(|write| {
        let offsets = write.offsets(epoch);
        let one = offsets.first().filter(|_| offsets.len() == 1);
        one.map(|offset| (*offset, write))
    });
    let mut order: Order<'i> = placed.collect();
    order.sort_by_key(|(offset, _)| *offset);
    order
}

/// Pairs whose first was written before the second, yet stands behind it.
fn contradictions<'i>(index: &Index<'_>, order: &[Placed<'i>]) -> Vec<(Placed<'i>, Placed<'i>)> {
    let mut found = Vec::new();
    // Of all writes so far: the one that was sent last, and that of each idempotent producer.
    let mut latest: Option<(Offset, &Write)> = None;
    let mut latest_of: BTreeMap<u32, (Offset, &Write)> = BTreeMap::new();
    for (offset, write) in order {
        let here = (*offset, *write);
        let done = finished(index, write);
        let own = latest_of.get(&write.process).copied();
        if let Some(later) = latest.filter(|(_, later)| done < later.first_sent) {
            found.push((here, later));
        } else if let Some(later) = own.filter(|(_, later)| write.first_sent < later.first_sent) {
            found.push((here, later));
        }
        if latest.is_none_or(|(_, latest)| latest.first_sent < write.first_sent) {
            latest = Some(here);
        }
        if write.idempotent && own.is_none_or(|(_, own)| own.first_sent < write.first_sent) {
            latest_of.insert(write.process, here);
        }
    }
    found
}

/// From when on a write was surely done: its acknowledgement, or that of its transaction.
fn finished(index: &Index<'_>, write: &Write) -> Time {
    let own = write.acknowledged.map(|(time, _)| time);
    let committed = write
        .transaction
        .and_then(|id| index.transaction(id).committed);
    own.into_iter().chain(committed).min().unwrap_or(Time::MAX)
}

/// A partition in which all that the two transactions wrote stands in the order in which they did it.
fn right_elsewhere(
    orders: &[(&Partition, Order<'_>)],
    earlier: &Write,
    later: &Write,
) -> Option<Partition> {
    let (first, second) = (earlier.transaction?, later.transaction?);
    let of = |order: &Order<'_>, id: TransactionId| -> Vec<Offset> {
        let own = order
            .iter()
            .filter(|(_, write)| write.transaction == Some(id));
        own.map(|(offset, _)| *offset).collect()
    };
    let right = orders.iter().find(|(_, order)| {
        let (first, second) = (of(order, first), of(order, second));
        matches!((first.last(), second.first()), (Some(last), Some(next)) if last < next)
    });
    right.map(|(partition, _)| (*partition).clone())
}
