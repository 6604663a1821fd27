//! The committed offsets of one group, in memory.
//!
//! An offset is shown only when its record is durable, and records become durable out of step with the calls that wrote
//! them. Each **slot** therefore remembers the log offset of the last record that changed it, and how many commits are still
//! on their way: a commit that became durable late never brings back what a later record has overtaken.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CommittedOffset, OffsetToCommit};
use crate::types::{Offset, PartitionIndex, TimestampMs};

#[derive(Debug, Default)]
pub struct GroupOffsets {
    topics: BTreeMap<String, BTreeMap<PartitionIndex, Slot>>,
}

#[derive(Debug)]
struct Slot {
    committed: Option<CommittedOffset>,
    /// Of the last record that was applied here, tombstones included.
    log_offset: Offset,
    /// Commits that are appended and not durable yet.
    in_flight: usize,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            committed: None,
            log_offset: -1,
            in_flight: 0,
        }
    }
}

/// Since when offsets of an empty group are no longer used (KIP-211).
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// `None`: the group never had members, and each offset counts from its commit.
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

    /// Nothing is committed, and no commit is on its way.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Everything that is committed or on its way, of one topic or of all.
    pub fn keys(&self, only: Option<&str>) -> Vec<(String, PartitionIndex)> {
        self.slots()
            .filter(|(topic, _, _)| only.is_none_or(|only| only == *topic))
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect()
    }

    /// Takes over an offset that was read from the log.
    pub fn restore(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
    ) {
        self.change(topic, partition, |slot| slot.committed = value);
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
            self.change(topic, *partition, |slot| {
                slot.log_offset = log_offset;
                slot.committed = None;
            });
        }
    }

    /// What has expired at `now_ms`; a partition with a commit on its way has not.
    pub fn expired(
        &self,
        now_ms: TimestampMs,
        retention: Retention,
    ) -> Vec<(String, PartitionIndex)> {
        let is_expired = |slot: &Slot| {
            let committed = slot.committed.as_ref();
            slot.in_flight == 0
                && committed.is_some_and(|committed| retention.expires_ms(committed) <= now_ms)
        };
        self.slots()
            .filter(|(_, _, slot)| is_expired(slot))
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect()
    }

    pub fn next_expiry_ms(&self, retention: Retention) -> Option<TimestampMs> {
        self.iter()
            .map(|(_, _, committed)| retention.expires_ms(committed))
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
        }
        let Some(slots) = self.topics.get_mut(topic) else {
            return;
        };
        let slot = slots.entry(partition).or_default();
        change(slot);
        if slot.committed.is_none() && slot.in_flight == 0 {
            slots.remove(&partition);
        }
        if slots.is_empty() {
            self.topics.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(partition: PartitionIndex, offset: Offset) -> OffsetToCommit {
        OffsetToCommit {
            topic: "orders".into(),
            partition,
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }
    }

    fn key(partition: PartitionIndex) -> Vec<(String, PartitionIndex)> {
        vec![("orders".into(), partition)]
    }

    fn found(offsets: &GroupOffsets, partition: PartitionIndex) -> Option<Offset> {
        offsets.get("orders", partition).map(|found| found.offset)
    }

    #[test]
    fn an_offset_is_shown_when_it_is_durable() {
        let mut offsets = GroupOffsets::default();
        offsets.begin(&[offset(0, 5)]);
        assert_eq!(found(&offsets, 0), None);
        assert!(!offsets.is_empty(), "a commit is on its way");
        offsets.finish(vec![offset(0, 5)], 10, Some(1));
        assert_eq!(found(&offsets, 0), Some(5));
    }

    #[test]
    fn an_offset_that_could_not_be_stored_leaves_the_earlier_one() {
        let mut offsets = GroupOffsets::default();
        offsets.begin(&[offset(0, 5)]);
        offsets.finish(vec![offset(0, 5)], 10, Some(1));
        offsets.begin(&[offset(0, 6)]);
        offsets.finish(vec![offset(0, 6)], 11, None);
        assert_eq!(found(&offsets, 0), Some(5));
        offsets.begin(&[offset(1, 6)]);
        offsets.finish(vec![offset(1, 6)], 12, None);
        assert_eq!(offsets.keys(None), key(0));
    }

    #[test]
    fn commits_that_become_durable_out_of_order_end_with_the_last_record() {
        let mut offsets = GroupOffsets::default();
        offsets.begin(&[offset(0, 5)]);
        offsets.begin(&[offset(0, 6)]);
        offsets.finish(vec![offset(0, 6)], 11, Some(1));
        offsets.finish(vec![offset(0, 5)], 10, Some(1));
        assert_eq!(found(&offsets, 0), Some(6));
    }

    #[test]
    fn a_tombstone_overtakes_the_commits_before_it() {
        let mut offsets = GroupOffsets::default();
        offsets.begin(&[offset(0, 5)]);
        offsets.forget(&offsets.keys(Some("orders")), 11);
        offsets.finish(vec![offset(0, 5)], 10, Some(1));
        assert_eq!(found(&offsets, 0), None);
        assert!(offsets.is_empty(), "nothing is kept for it");
        offsets.begin(&[offset(0, 7)]);
        offsets.finish(vec![offset(0, 7)], 12, Some(1));
        assert_eq!(found(&offsets, 0), Some(7));
    }

    #[test]
    fn keys_are_those_of_the_topic() {
        let mut offsets = GroupOffsets::default();
        offsets.begin(&[offset(0, 5), offset(3, 5)]);
        assert_eq!(offsets.keys(Some("orders")).len(), 2);
        assert_eq!(offsets.keys(Some("other")), []);
    }

    #[test]
    fn offsets_expire_from_the_later_of_emptiness_and_commit() {
        let of = |empty_since_ms| Retention {
            empty_since_ms,
            retention: Duration::from_millis(100),
        };
        let mut offsets = GroupOffsets::default();
        offsets.begin(&[offset(0, 5)]);
        offsets.finish(vec![offset(0, 5)], 10, Some(1_000));
        for (empty_since_ms, expires_ms) in
            [(None, 1_100), (Some(500), 1_100), (Some(3_000), 3_100)]
        {
            let retention = of(empty_since_ms);
            assert_eq!(offsets.next_expiry_ms(retention), Some(expires_ms));
            assert_eq!(offsets.expired(expires_ms - 1, retention), []);
            assert_eq!(offsets.expired(expires_ms, retention), key(0));
        }
        offsets.begin(&[offset(0, 6)]);
        assert_eq!(offsets.expired(i64::MAX, of(None)), [], "one is on its way");
    }

    #[test]
    fn an_explicit_expiry_is_kept_to() {
        let mut offsets = GroupOffsets::default();
        let committed = CommittedOffset {
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
            committed_ms: 1_000,
            expires_ms: Some(1_001),
        };
        offsets.restore("orders", 0, Some(committed));
        let retention = Retention {
            empty_since_ms: Some(9_000),
            retention: Duration::from_secs(9),
        };
        assert_eq!(offsets.expired(1_001, retention), key(0));
    }
}
