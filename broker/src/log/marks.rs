//! What a partition knows of records that a partitioner placed in it.
//!
//! A **lane** is the partition that a client chose for a batch; a **slice** is the records of one batch that go to one
//! partition. In front of each slice, in the same write, stands its **mark**: a control batch that says of which lane,
//! producer and sequence the records are and which **indexes** of the client's batch they account for. A record that a
//! transform dropped is accounted for by one of the slices, or by a mark alone. So the identity of a batch travels
//! with its slices and lives and dies with them: whatever a crash leaves of a topic's partitions, the marks that are left tell
//! exactly which records are there ([`super::lane`]). A mark whose slice does not follow whole counts as nothing.
//!
//! Of each lane's producer the latest five batches that have a slice here are remembered. Their indexes are let go
//! once every slice of the batch is synced. Pure: time is an argument.

use std::collections::HashMap;

use super::batch::BatchHeader;
use super::producers::{HALF, Limits, REMEMBERED, distance, silent_longest};
use super::{AppendError, Appended};
use crate::types::{Offset, PartitionIndex, TimestampMs};

mod indexes;
mod snapshot;

pub use indexes::Indexes;

/// Whose records a slice holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The partition that the client chose.
    pub lane: PartitionIndex,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// Records in the client's batch, at least 1.
    pub record_count: u32,
    /// Which of them are accounted for here.
    pub indexes: Indexes,
}

impl Mark {
    /// For records of the batch that `header` heads, which an idempotent producer sent to `lane`.
    pub fn new(lane: PartitionIndex, header: &BatchHeader, indexes: Indexes) -> Self {
        Self {
            lane,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            record_count: u32::try_from(header.last_offset_delta).map_or(1, |last| last + 1),
            indexes,
        }
    }
}

/// What a partition holds of one batch of a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub base_sequence: i32,
    pub record_count: u32,
    /// `None`: every slice of the batch, here and elsewhere, was seen and synced.
    pub indexes: Option<Indexes>,
    /// Of its last slice here.
    pub last_offset: Offset,
    /// Base offset and append time, when the whole batch stayed in its lane as it was.
    pub in_place: Option<(Offset, Option<TimestampMs>)>,
}

/// What a partition holds of a lane's producer: the latest batches, the oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    pub producer_epoch: i16,
    pub batches: Vec<Part>,
}

/// Where a slice, or a mark alone, came to stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landed {
    last_offset: Offset,
    in_place: Option<(Offset, Option<TimestampMs>)>,
}

impl Landed {
    /// A mark alone.
    pub fn alone(offset: Offset) -> Self {
        Self {
            last_offset: offset,
            in_place: None,
        }
    }

    /// A slice that was answered so, in this partition.
    pub fn slice(mark: &Mark, slice: &Appended, partition: PartitionIndex) -> Self {
        let span = slice.last_offset - slice.base_offset + 1;
        let is_whole = mark.lane == partition
            && span == i64::from(mark.record_count)
            && mark.indexes.is_all(mark.record_count);
        Self {
            last_offset: slice.last_offset,
            in_place: is_whole.then_some((slice.base_offset, slice.log_append_time)),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: i16,
    last_used: TimestampMs,
    batches: Vec<Part>,
}

impl Producer {
    /// Forgets the batch that is farthest in front of `newest`; they need not have come in order.
    fn forget_oldest(&mut self, newest: i32) {
        let age =
            |part: &Part| Some(distance(part.base_sequence, newest)).filter(|age| *age < HALF);
        let ages = self.batches.iter().enumerate();
        if let Some((oldest, _)) = ages.max_by_key(|(_, part)| age(part)) {
            self.batches.remove(oldest);
        }
    }
}

/// The marks of one partition, by lane and producer id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Marks {
    by_lane: HashMap<(PartitionIndex, i64), Producer>,
    /// Lanes and producers of which a failed write may have left something.
    doubtful: Vec<(PartitionIndex, i64)>,
}

impl Marks {
    pub fn is_empty(&self) -> bool {
        self.by_lane.is_empty()
    }

    /// Takes in a mark with its slice.
    pub fn note(&mut self, mark: &Mark, landed: Landed, now: TimestampMs, limits: &Limits) {
        let key = (mark.lane, mark.producer_id);
        if !self.by_lane.contains_key(&key) {
            self.make_room(now, limits);
        }
        let producer = self.by_lane.entry(key).or_insert_with(|| Producer {
            epoch: mark.producer_epoch,
            last_used: now,
            batches: Vec::new(),
        });
        if mark.producer_epoch < producer.epoch {
            return;
        }
        if mark.producer_epoch > producer.epoch {
            producer.epoch = mark.producer_epoch;
            producer.batches.clear();
        }
        producer.last_used = now;
        let known = producer.batches.iter_mut().find(|part| {
            part.base_sequence == mark.base_sequence && part.record_count == mark.record_count
        });
        if let Some(part) = known {
            part.last_offset = landed.last_offset;
            part.in_place = None;
            if let Some(indexes) = &mut part.indexes {
                *indexes = indexes.union(&mark.indexes);
            }
            return;
        }
        if producer.batches.len() == REMEMBERED {
            producer.forget_oldest(mark.base_sequence);
        }
        producer.batches.push(Part {
            base_sequence: mark.base_sequence,
            record_count: mark.record_count,
            indexes: Some(mark.indexes.clone()),
            last_offset: landed.last_offset,
            in_place: landed.in_place,
        });
    }

    /// What is here of a lane's producer.
    pub fn parts(&self, lane: PartitionIndex, producer_id: i64) -> Option<Parts> {
        let producer = self.by_lane.get(&(lane, producer_id))?;
        Some(Parts {
            producer_epoch: producer.epoch,
            batches: producer.batches.clone(),
        })
    }

    /// Notes that a write failed: what it left is not known until the next start.
    pub fn doubt(&mut self, mark: &Mark) {
        self.doubtful.push((mark.lane, mark.producer_id));
    }

    pub fn is_doubtful(&self, lane: PartitionIndex, producer_id: i64) -> bool {
        self.doubtful.contains(&(lane, producer_id))
    }

    /// Notes that every slice of a batch, wherever it is, is synced.
    pub fn settle(&mut self, lane: PartitionIndex, header: &BatchHeader, base_sequence: i32) {
        if let Some(producer) = self.by_lane.get_mut(&(lane, header.producer_id))
            && producer.epoch == header.producer_epoch
        {
            for part in &mut producer.batches {
                if part.base_sequence == base_sequence {
                    part.indexes = None;
                }
            }
        }
    }

    /// Forgets producers that have been silent for too long.
    pub fn expire(&mut self, now: TimestampMs, limits: &Limits) {
        let oldest = now.saturating_sub(limits.expiry_ms);
        self.by_lane
            .retain(|_, producer| producer.last_used >= oldest);
    }

    fn make_room(&mut self, now: TimestampMs, limits: &Limits) {
        let bound = limits.max_producers.max(1);
        if self.by_lane.len() < bound {
            return;
        }
        self.expire(now, limits);
        let ages = self
            .by_lane
            .iter()
            .map(|(key, producer)| (producer.last_used, *key))
            .collect();
        for (_, key) in silent_longest(ages, bound) {
            self.by_lane.remove(&key);
        }
    }
}

/// The bounds of a slice that a mark may stand in front of, which `check_shape` has not seen.
pub(super) fn check_mark(mark: &Mark) -> Result<(), AppendError> {
    if mark.producer_id >= 0 && mark.base_sequence >= 0 && mark.indexes.is_below(mark.record_count)
    {
        return Ok(());
    }
    Err(AppendError::Invalid(format!(
        "a mark for producer {} with sequence {} and {} records",
        mark.producer_id, mark.base_sequence, mark.record_count
    )))
}

#[cfg(test)]
mod tests;
