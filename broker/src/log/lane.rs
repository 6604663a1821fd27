//! What becomes of a batch that a client sent to a lane, when its records may be in any partition of the topic.
//!
//! The answer is found anew for each batch from what all partitions hold: the marks of the lane ([`super::marks`]), and
//! what the lane's own producers are known to have sent without one. A batch is **complete** when its slices account
//! for each of its records. Batches come in the order of their sequences, each when the one before is complete: so the
//! records of a lane keep their order in every partition. Only a loss of power can leave something **missing** in front
//! of what is there: part of a batch, or a whole batch. It is accepted first, and only what is missing of it.
//!
//! That each partition remembers the latest five batches of the lane's producer it has a slice of is enough to know the
//! latest five of all exactly, which is as many as a client has in flight (KIP-98).

use std::sync::Arc;

use super::batch::BatchHeader;
use super::marks::{Indexes, Part, Parts};
use super::partition::PartitionLog;
use super::producers::{HALF, REMEMBERED, after, distance};
use super::{AppendError, Appended};
use crate::types::{Offset, PartitionIndex};

/// A partition, by its place in the topic, and an offset in it that `acks=all` waits for.
pub type Wait = (usize, Offset);

/// What is there of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing; it comes next.
    Next,
    /// Some of its records. The others are to be placed now.
    Partly { there: Indexes, waits: Vec<Wait> },
    /// All of it, and what it is answered: as at first when it had stayed in its lane, otherwise with offsets of −1.
    Duplicate { answer: Appended, waits: Vec<Wait> },
}

/// One batch, put together from the partitions that hold parts of it.
#[derive(Debug)]
struct Known {
    base_sequence: i32,
    record_count: u32,
    there: Indexes,
    /// Every slice of it, and of those before, was seen and synced.
    is_settled: bool,
    in_place: Option<(Offset, Option<crate::types::TimestampMs>)>,
    waits: Vec<Wait>,
}

impl Known {
    fn new(part: &Part) -> Self {
        Self {
            base_sequence: part.base_sequence,
            record_count: part.record_count,
            there: Indexes::default(),
            is_settled: false,
            in_place: None,
            waits: Vec::new(),
        }
    }

    fn add(&mut self, partition: usize, part: &Part) {
        match &part.indexes {
            Some(indexes) => self.there = self.there.union(indexes),
            None => self.is_settled = true,
        }
        self.in_place = self.in_place.or(part.in_place);
        self.waits.push((partition, part.last_offset));
    }

    fn is_complete(&self) -> bool {
        self.is_settled || self.there.is_all(self.record_count)
    }

    fn next(&self) -> i32 {
        after(self.base_sequence, i64::from(self.record_count))
    }
}

/// What the partitions of a topic hold of one lane's producer in its latest epoch.
#[derive(Debug, Default)]
struct History {
    epoch: Option<i16>,
    /// The latest five, in the order of their sequences.
    batches: Vec<Known>,
}

impl History {
    fn gather(parts: &[(usize, Parts)]) -> Self {
        let epoch = parts.iter().map(|(_, parts)| parts.producer_epoch).max();
        let mut batches: Vec<Known> = Vec::new();
        for (partition, parts) in parts {
            if Some(parts.producer_epoch) != epoch {
                continue;
            }
            for part in &parts.batches {
                let known = batches.iter_mut().find(|known| {
                    known.base_sequence == part.base_sequence
                        && known.record_count == part.record_count
                });
                match known {
                    Some(known) => known.add(*partition, part),
                    None => {
                        let mut known = Known::new(part);
                        known.add(*partition, part);
                        batches.push(known);
                    }
                }
            }
        }
        if let Some(origin) = batches.first().map(|known| known.base_sequence) {
            // Sequences go round: near ones are compared by how far they lie from one of them.
            batches.sort_unstable_by_key(|known| {
                let ahead = distance(origin, known.base_sequence);
                if ahead >= HALF {
                    ahead - 2 * HALF
                } else {
                    ahead
                }
            });
        }
        let older = batches.len().saturating_sub(REMEMBERED);
        Self {
            epoch,
            batches: batches.split_off(older),
        }
    }

    /// The place behind the last settled batch.
    fn first_unsettled(&self) -> usize {
        let last = self.batches.iter().rposition(|known| known.is_settled);
        last.map_or(0, |last| last + 1)
    }

    /// Where something is missing: the first incomplete batch, or the first gap; otherwise what follows the last.
    /// In front of a settled batch nothing is.
    fn expected(&self) -> i32 {
        let from = self.first_unsettled().saturating_sub(1);
        for pair in self.batches[from..].windows(2) {
            if !pair[0].is_complete() {
                return pair[0].base_sequence;
            }
            if pair[0].next() != pair[1].base_sequence {
                return pair[0].next();
            }
        }
        match self.batches.last() {
            Some(last) if !last.is_complete() => last.base_sequence,
            Some(last) => last.next(),
            None => 0,
        }
    }

    /// Whether a batch reaches into those that are known.
    fn overlaps(&self, header: &BatchHeader) -> bool {
        let length = i64::from(header.last_offset_delta) + 1;
        self.batches.iter().any(|known| {
            distance(header.base_sequence, known.base_sequence) < length
                || distance(known.base_sequence, header.base_sequence)
                    < i64::from(known.record_count)
        })
    }

    /// Whether nothing can be missing in front of the first: a client has five batches in flight, and five are known.
    fn is_filled(&self) -> bool {
        self.batches.len() == REMEMBERED
    }

    /// Whether a batch lies in front of everything that is known and may have been lost while later ones were not. With
    /// fewer than five known, nothing that is there has been forgotten.
    fn is_lost_first(&self, header: &BatchHeader) -> bool {
        let Some(first) = self.batches.first().filter(|_| !self.is_filled()) else {
            return false;
        };
        let ahead = distance(header.base_sequence, first.base_sequence);
        !first.is_settled && (i64::from(header.last_offset_delta) + 1..HALF).contains(&ahead)
    }

    fn judge(&self, header: &BatchHeader, log_start: Offset) -> Result<Verdict, AppendError> {
        let producer_id = header.producer_id;
        let out_of_order = |expected| AppendError::OutOfOrderSequence {
            producer_id,
            expected,
            found: header.base_sequence,
        };
        let Some(epoch) = self.epoch else {
            return Ok(Verdict::Next);
        };
        if header.producer_epoch < epoch {
            return Err(AppendError::FencedEpoch {
                producer_id,
                current: epoch,
                found: header.producer_epoch,
            });
        }
        if header.producer_epoch > epoch {
            return match header.base_sequence {
                0 => Ok(Verdict::Next),
                _ => Err(out_of_order(0)),
            };
        }
        let known = self.batches.iter().find(|known| {
            known.base_sequence == header.base_sequence
                && i64::from(known.record_count) == i64::from(header.last_offset_delta) + 1
        });
        if let Some(known) = known.filter(|known| known.is_complete()) {
            let (base_offset, log_append_time) = known.in_place.unwrap_or((-1, None));
            let span = i64::from(header.last_offset_delta);
            return Ok(Verdict::Duplicate {
                answer: Appended {
                    base_offset,
                    last_offset: if base_offset < 0 {
                        -1
                    } else {
                        base_offset + span
                    },
                    log_append_time,
                    log_start_offset: log_start,
                    duplicate: true,
                },
                waits: known.waits.clone(),
            });
        }
        let expected = self.expected();
        match known {
            Some(known) if header.base_sequence == expected => Ok(Verdict::Partly {
                there: known.there.clone(),
                waits: known.waits.clone(),
            }),
            None if header.base_sequence == expected && !self.overlaps(header) => Ok(Verdict::Next),
            None if self.is_lost_first(header) => Ok(Verdict::Next),
            _ => Err(out_of_order(expected)),
        }
    }
}

/// Judges a numbered batch that a client sent to partition `lane` of the topic whose partitions `logs` are, in order.
/// The caller holds the lane, so that no other try of the batch is under way.
pub fn judge(
    logs: &[Arc<PartitionLog>],
    lane: PartitionIndex,
    header: &BatchHeader,
) -> Result<Verdict, AppendError> {
    let own = usize::try_from(lane)
        .ok()
        .and_then(|index| Some((index, logs.get(index)?)));
    let Some((index, own)) = own else {
        return Err(AppendError::Deleted);
    };
    let numbered = own.numbered(header.producer_id)?;
    let mut parts: Vec<(usize, Parts)> = Vec::new();
    for (index, log) in logs.iter().enumerate() {
        parts.extend(
            log.parts(lane, header.producer_id)?
                .map(|parts| (index, parts)),
        );
    }
    parts.extend(numbered.map(|numbered| (index, numbered)));
    let mut history = History::gather(&parts);
    if history.epoch == Some(header.producer_epoch) {
        settle(logs, lane, header, &mut history);
    }
    let verdict = history.judge(header, own.offsets().log_start)?;
    if let Verdict::Duplicate { waits, .. } | Verdict::Partly { waits, .. } = &verdict {
        // What has stopped before it was synced is there or not: the next start will know.
        for (partition, offset) in waits {
            logs.get(*partition)
                .map_or(Ok(()), |log| log.check_kept(*offset))?;
        }
    }
    Ok(verdict)
}

/// Settles batches, in their order: each is settled when all slices of it and of those before are synced. Nothing in
/// front of a settled batch can be missing, whatever is forgotten of it; and its indexes can be let go.
fn settle(
    logs: &[Arc<PartitionLog>],
    lane: PartitionIndex,
    header: &BatchHeader,
    history: &mut History,
) {
    let first = history.first_unsettled();
    let before = first
        .checked_sub(1)
        .map(|before| history.batches[before].next());
    if before.is_none() && !history.is_filled() {
        return;
    }
    let mut next = before;
    for known in &mut history.batches[first..] {
        let is_synced = |wait: &Wait| logs.get(wait.0).is_some_and(|log| log.is_synced(wait.1));
        let follows = next.is_none_or(|next| next == known.base_sequence);
        if !follows || !known.is_complete() || !known.waits.iter().all(is_synced) {
            return;
        }
        for log in known.waits.iter().filter_map(|wait| logs.get(wait.0)) {
            log.settle_placed(lane, header, known.base_sequence);
        }
        known.is_settled = true;
        next = Some(known.next());
    }
}

#[cfg(test)]
mod tests;
