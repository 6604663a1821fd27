//! A transaction is seen whole or not at all, and only after somebody asked to commit it.

use std::collections::{BTreeMap, BTreeSet};

use crate::anomaly::Anomaly;
use crate::group_offsets;
use crate::history::{Isolation, Offset, Partition, TransactionId, Value};
use crate::index::{Ending, Index, Log, Read, Write};

/// The first sign that a transaction was seen as committed, and the first that it was not.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    pub seen: Option<String>,
    pub missing: Option<String>,
}

pub fn check(index: &Index<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for (transaction, known) in index.transactions() {
        if known.has_two_outcomes() {
            anomalies.push(Anomaly::TwoOutcomes { transaction });
        }
    }
    let mut signs: BTreeMap<TransactionId, Signs> = BTreeMap::new();
    for (partition, log) in &index.logs {
        let placed = placed(log);
        for read in log.reads.iter().filter(|read| read.committed_only()) {
            for (offset, value) in &read.poll.records {
                let write = log.writes.get(value);
                let Some((write, id)) = write.and_then(|write| Some((write, write.transaction?)))
                else {
                    continue;
                };
                anomalies.extend(too_early(index, partition, *offset, write, read));
                let sign = &mut signs.entry(id).or_default().seen;
                sign.get_or_insert_with(|| describe(partition, *offset, write));
            }
            note_missing(partition, log, &placed, read, &mut signs);
        }
    }
    group_offsets::add_signs(index, &mut signs);
    for (transaction, signs) in signs {
        let aborted = index.transaction(transaction).ending() == Ending::Aborted;
        // Of an aborted one nothing may be seen at all, which was said already.
        if let (Some(seen), Some(missing), false) = (signs.seen, signs.missing, aborted) {
            anomalies.push(Anomaly::PartialTransaction {
                transaction,
                seen,
                missing,
            });
        }
    }
    // Each reader may have seen the same; one report is enough.
    let mut reported = BTreeSet::new();
    anomalies.retain(|anomaly| match anomaly {
        Anomaly::AbortedRead {
            partition, value, ..
        }
        | Anomaly::IntermediateRead {
            partition, value, ..
        } => reported.insert((partition.clone(), *value)),
        _ => true,
    });
    anomalies
}

fn describe(partition: &Partition, offset: Offset, write: &Write) -> String {
    format!("{partition} value {} at offset {offset}", write.value)
}

/// Transactional writes by each offset at which they were promised or seen.
fn placed<'i>(log: &'i Log<'_>) -> BTreeMap<Offset, Vec<(usize, &'i Write)>> {
    let mut placed: BTreeMap<Offset, Vec<(usize, &Write)>> = BTreeMap::new();
    for write in log
        .writes
        .values()
        .filter(|write| write.transaction.is_some())
    {
        for (epoch, offset) in write.promised.union(&write.seen) {
            placed.entry(*offset).or_default().push((*epoch, write));
        }
    }
    placed
}

fn note_missing(
    partition: &Partition,
    log: &Log<'_>,
    placed: &BTreeMap<Offset, Vec<(usize, &Write)>>,
    read: &Read<'_>,
    signs: &mut BTreeMap<TransactionId, Signs>,
) {
    if read.poll.from >= read.poll.next {
        return;
    }
    let brought: BTreeSet<(Offset, Value)> = read.poll.records.iter().copied().collect();
    for (offset, writes) in placed.range(read.poll.from..read.poll.next) {
        let of_epoch = writes.iter().filter(|(epoch, _)| *epoch == read.epoch);
        for (_, write) in of_epoch {
            let Some(id) = write.transaction else {
                continue;
            };
            if !brought.contains(&(*offset, write.value)) && !log.trimmed(*offset, read.completed) {
                let sign = &mut signs.entry(id).or_default().missing;
                sign.get_or_insert_with(|| describe(partition, *offset, write));
            }
        }
    }
}

fn too_early(
    index: &Index<'_>,
    partition: &Partition,
    offset: Offset,
    write: &Write,
    read: &Read<'_>,
) -> Option<Anomaly> {
    debug_assert_eq!(read.poll.isolation, Isolation::ReadCommitted);
    let transaction = write.transaction?;
    let known = index.transaction(transaction);
    let (partition, value, reader) = (partition.clone(), write.value, read.process);
    if known.ending() == Ending::Aborted {
        return Some(Anomaly::AbortedRead {
            partition,
            value,
            offset,
            transaction,
            reader,
        });
    }
    let early = !known.commit_asked_by(read.completed);
    early.then_some(Anomaly::IntermediateRead {
        partition,
        value,
        offset,
        transaction,
        reader,
    })
}
