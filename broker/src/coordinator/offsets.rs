//! The committed offsets of one group, in memory.
//!
//! An offset is shown only when its record is durable, and records become durable out of step with the calls that wrote
//! them. Each **slot** therefore remembers the log offset of the last record that changed it, and how many commits are still
//! on their way: a commit that became durable late never brings back what a later record has overtaken.
//!
//! What was committed in a transaction is **pending**: it becomes the committed offset when the producer's transaction
//! commits, unless a later record has overtaken it by then, and is dropped when it aborts.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{CommittedOffset, OffsetToCommit};
use crate::env::defects::{self, Defect};
use crate::types::{Offset, PartitionIndex, TimestampMs};

/// What a topic, a slot and a pending offset take in memory besides their texts.
const TOPIC_BYTES: usize = 128;
const SLOT_BYTES: usize = 160;
const PENDING_BYTES: usize = 128;

#[derive(Debug, Default)]
pub struct GroupOffsets {
    topics: BTreeMap<String, BTreeMap<PartitionIndex, Slot>>,
    size_bytes: usize,
}

/// An offset of a transaction whose outcome is not known yet.
#[derive(Debug)]
struct Pending {
    log_offset: Offset,
    value: CommittedOffset,
}

#[derive(Debug)]
struct Slot {
    committed: Option<CommittedOffset>,
    /// Of the last record that was applied here, tombstones included.
    log_offset: Offset,
    /// Commits that are appended and not durable yet.
    in_flight: usize,
    /// By producer id.
    pending: HashMap<i64, Pending>,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            committed: None,
            log_offset: -1,
            in_flight: 0,
            pending: HashMap::new(),
        }
    }
}

impl Slot {
    fn is_unused(&self) -> bool {
        self.committed.is_none() && self.in_flight == 0 && self.pending.is_empty()
    }

    fn metadata_bytes(&self) -> usize {
        let committed = self.committed.as_ref();
        committed.map_or(0, |committed| committed.metadata.len())
    }

    fn size_bytes(&self) -> usize {
        let pending = self.pending.values();
        let pending = pending.map(|pending| PENDING_BYTES + pending.value.metadata.len());
        SLOT_BYTES + self.metadata_bytes() + pending.sum::<usize>()
    }

    /// A record without a value was appended.
    fn clear(&mut self, log_offset: Offset) {
        self.log_offset = log_offset;
        self.committed = None;
        self.pending.clear();
    }
}

/// Since when offsets are no longer used (KIP-211).
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// `None`: the group never had members, or has some that do not read these topics, and each offset counts from its commit.
    pub empty_since_ms: Option<TimestampMs>,
    pub retention: Duration,
}

impl Retention {
    fn expires_ms(&self, committed: &CommittedOffset) -> TimestampMs {
        let retention = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        let unused_since = committed
            .committed_ms
            .max(self.empty_since_ms.unwrap_or(i64::MIN));
        committed
            .expires_ms
            .unwrap_or_else(|| unused_since.saturating_add(retention))
    }
}

impl GroupOffsets {
    pub fn get(&self, topic: &str, partition: PartitionIndex) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)?.committed.as_ref()
    }

    /// Every committed offset, by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, PartitionIndex, &CommittedOffset)> {
        self.slots().filter_map(|(topic, partition, slot)| {
            let committed = slot.committed.as_ref()?;
            Some((topic, partition, committed))
        })
    }

    /// Whether the partition's offset may still change by a transaction that is open (KIP-447).
    pub fn is_unstable(&self, topic: &str, partition: PartitionIndex) -> bool {
        let slot = self.topics.get(topic).and_then(|all| all.get(&partition));
        slot.is_some_and(|slot| !slot.pending.is_empty())
    }

    /// Nothing is committed, and no commit is on its way or pending.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// What the offsets take in memory.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The bytes by which they would grow, at most, with these.
    pub fn growth(&self, offsets: &[OffsetToCommit]) -> usize {
        let growth = |offset: &OffsetToCommit| {
            let told = offset.metadata.len();
            let Some(slots) = self.topics.get(&offset.topic) else {
                return TOPIC_BYTES + offset.topic.len() + SLOT_BYTES + told;
            };
            slots
                .get(&offset.partition)
                .map_or(SLOT_BYTES + told, |slot| {
                    told.saturating_sub(slot.metadata_bytes())
                })
        };
        offsets.iter().map(growth).sum()
    }

    /// As `growth`, with these as part of a transaction: what is committed stays meanwhile.
    pub fn growth_by_pending(&self, offsets: &[OffsetToCommit]) -> usize {
        let pending = offsets
            .iter()
            .map(|offset| PENDING_BYTES + offset.metadata.len());
        self.growth(offsets) + pending.sum::<usize>()
    }

    /// Everything that is committed, on its way or pending, of the topics that are wanted.
    pub fn keys(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, PartitionIndex)> {
        self.slots()
            .filter(|(topic, _, _)| is_wanted(topic))
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect()
    }

    /// Takes over an offset that was read from the log at `log_offset`; `None` is a tombstone.
    pub fn restore(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        log_offset: Offset,
        value: Option<CommittedOffset>,
    ) {
        self.change(topic, partition, |slot| match value {
            Some(value) => {
                slot.log_offset = log_offset;
                slot.committed = Some(value);
            }
            None => slot.clear(log_offset),
        });
    }

    /// An offset was appended, or read from the log, as part of a producer's transaction.
    pub fn pend(
        &mut self,
        producer_id: i64,
        (topic, partition): (&str, PartitionIndex),
        log_offset: Offset,
        value: CommittedOffset,
    ) {
        if defects::has(Defect::ShowPendingOffsets) {
            return self.restore(topic, partition, log_offset, Some(value));
        }
        self.change(topic, partition, |slot| {
            let pending = Pending { log_offset, value };
            slot.pending.insert(producer_id, pending);
        });
    }

    /// The producer's transaction has ended.
    pub fn end_transaction(&mut self, producer_id: i64, is_commit: bool) {
        for (topic, partition) in self.keys(|_| true) {
            self.change(&topic, partition, |slot| {
                if let Some(pending) = slot.pending.remove(&producer_id)
                    && is_commit
                    && pending.log_offset >= slot.log_offset
                {
                    slot.log_offset = pending.log_offset;
                    slot.committed = Some(pending.value);
                }
            });
        }
    }

    /// These offsets were appended.
    pub fn begin(&mut self, offsets: &[OffsetToCommit]) {
        for offset in offsets {
            self.change(&offset.topic, offset.partition, |slot| slot.in_flight += 1);
        }
    }

    /// These offsets, whose last record is at `log_offset`, are durable and were committed at `committed_ms`; `None` says
    /// that they could not be stored.
    pub fn finish(
        &mut self,
        offsets: Vec<OffsetToCommit>,
        log_offset: Offset,
        committed_ms: Option<TimestampMs>,
    ) {
        for offset in offsets {
            self.change(&offset.topic, offset.partition, |slot| {
                slot.in_flight = slot.in_flight.saturating_sub(1);
                if let Some(committed_ms) = committed_ms
                    && log_offset >= slot.log_offset
                {
                    slot.log_offset = log_offset;
                    slot.committed = Some(CommittedOffset {
                        offset: offset.offset,
                        leader_epoch: offset.leader_epoch,
                        metadata: offset.metadata.clone(),
                        committed_ms,
                        expires_ms: None,
                    });
                }
            });
        }
    }

    /// Tombstones of these were appended, the last one at `log_offset`.
    pub fn forget(&mut self, keys: &[(String, PartitionIndex)], log_offset: Offset) {
        for (topic, partition) in keys {
            self.change(topic, *partition, |slot| slot.clear(log_offset));
        }
    }

    /// What has expired at `now_ms`; a partition with a commit on its way or pending has not.
    pub fn expired(
        &self,
        now_ms: TimestampMs,
        retention: Retention,
    ) -> Vec<(String, PartitionIndex)> {
        let is_expired = |slot: &Slot| {
            let committed = slot.committed.as_ref();
            slot.in_flight == 0
                && slot.pending.is_empty()
                && committed.is_some_and(|committed| retention.expires_ms(committed) <= now_ms)
        };
        self.slots()
            .filter(|(_, _, slot)| is_expired(slot))
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect()
    }

    /// When the first of those expires that have not at `now_ms`.
    pub fn next_expiry_ms(&self, now_ms: TimestampMs, retention: Retention) -> Option<TimestampMs> {
        self.iter()
            .map(|(_, _, committed)| retention.expires_ms(committed))
            .filter(|at| *at > now_ms)
            .min()
    }

    fn slots(&self) -> impl Iterator<Item = (&str, PartitionIndex, &Slot)> {
        self.topics.iter().flat_map(|(topic, slots)| {
            slots
                .iter()
                .map(move |(partition, slot)| (topic.as_str(), *partition, slot))
        })
    }

    /// Changes a slot, making it when it is missing and dropping it when it holds nothing afterwards.
    fn change(&mut self, topic: &str, partition: PartitionIndex, change: impl FnOnce(&mut Slot)) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
            self.size_bytes += TOPIC_BYTES + topic.len();
        }
        let Some(slots) = self.topics.get_mut(topic) else {
            return;
        };
        let before = slots.get(&partition).map_or(0, Slot::size_bytes);
        let slot = slots.entry(partition).or_default();
        change(slot);
        let mut after = slot.size_bytes();
        if slot.is_unused() {
            slots.remove(&partition);
            after = 0;
        }
        self.size_bytes = self.size_bytes + after - before;
        if slots.is_empty() {
            self.topics.remove(topic);
            self.size_bytes -= TOPIC_BYTES + topic.len();
        }
    }
}

#[cfg(test)]
mod tests;
