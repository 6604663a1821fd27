//! `__consumer_offsets`: its partitions, and reading it back.
//!
//! A group's records all go to one partition, chosen by its id as Kafka chooses it. They are appended under the group's lock,
//! so that the log has them in the order in which they happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::group::MAX_GROUP_BYTES;
use crate::catalog::{Catalog, Topic};
use crate::config::TopicConfig;
use crate::env::defects::{self, Defect};
use crate::env::{Clock, random_bytes};
use crate::log::batch::{self, Batch};
use crate::log::records::{self, BatchTemplate, Record};
use crate::log::{Isolation, LogSet, PartitionLog};
use crate::types::{CONSUMER_OFFSETS, Offset, PartitionId, TimestampMs, TopicId};

/// Records of one commit are cut into batches of about this many bytes.
const BATCH_BYTES: usize = 512 << 10;
/// As Kafka's `offsets.topic.segment.bytes`: small, so that loading a partition reads little that is outdated.
const SEGMENT_BYTES: u64 = 100 << 20;
/// The largest group record: metadata and assignments at their bound, and the members' names.
const MAX_BATCH_BYTES: u32 = 4 * MAX_GROUP_BYTES as u32;
/// What one read asks for when the topic is read back.
const READ_BYTES: usize = 1 << 20;
/// Bit of a batch's attributes: its records are the log's own marks, not keys and values.
const CONTROL_BATCH: i16 = 1 << 5;
/// Offsets that are tried one by one past a damaged batch before the rest of a partition is given up.
const MAX_PROBES: i64 = 100_000;

/// A key and its value; without a value, a tombstone.
pub type KeyValue = (Bytes, Option<Bytes>);

/// Where offsets and generations are kept: the seam between the driver and the log.
pub trait OffsetsLog: Send + Sync + std::fmt::Debug {
    fn partitions(&self) -> usize;

    /// Appends in order and returns the offset of the last record. Records outlive the process when this returns, and a
    /// loss of power when `committed` does.
    fn append(
        &self,
        partition: usize,
        timestamp: TimestampMs,
        records: Vec<KeyValue>,
    ) -> Result<Offset, String>;

    fn committed(&self, partition: usize, offset: Offset)
    -> BoxFuture<'static, Result<(), String>>;

    /// Hands every readable record to `apply`, oldest first, and returns what could not be read.
    fn replay(&self, partition: usize, apply: &mut dyn FnMut(KeyValue)) -> Vec<String>;
}

/// The partition of `__consumer_offsets` that keeps a group, as Kafka computes it: Java's `String.hashCode` over UTF-16.
pub fn partition_for(group: &str, partitions: usize) -> usize {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka takes the one number without a positive counterpart for 0.
    let hash = hash.checked_abs().unwrap_or(0);
    usize::try_from(hash).unwrap_or(0) % partitions.max(1)
}

/// The topic in the commit log.
#[derive(Debug)]
pub struct OffsetsTopic {
    logs: Vec<Arc<PartitionLog>>,
}

impl OffsetsTopic {
    /// Creates the topic when it is missing and opens its partitions. A topic that exists keeps its partition count,
    /// whatever is configured: another count would look for groups where they are not.
    pub fn open(
        catalog: &Catalog,
        logs: &LogSet,
        partitions: i32,
        clock: &Clock,
    ) -> Result<Self, String> {
        let topic = match catalog.topic(CONSUMER_OFFSETS) {
            Some(topic) => topic,
            None => catalog
                .create_topic(new_topic(partitions, clock))
                .map_err(|error| format!("{CONSUMER_OFFSETS}: {error}"))?,
        };
        let config = Arc::new(TopicConfig {
            cleanup_compact: true,
            cleanup_delete: false,
            segment_bytes: SEGMENT_BYTES,
            max_message_bytes: MAX_BATCH_BYTES,
            ..TopicConfig::default()
        });
        let logs = (0..topic.partitions)
            .map(|index| {
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                match logs.get(id) {
                    Some(log) => Ok(log),
                    None => logs.open_partition(id, Arc::clone(&config)),
                }
            })
            .collect::<Result<Vec<_>, String>>()?;
        if logs.is_empty() {
            return Err(format!("{CONSUMER_OFFSETS} has no partitions"));
        }
        Ok(Self { logs })
    }

    fn log(&self, partition: usize) -> Result<&Arc<PartitionLog>, String> {
        self.logs
            .get(partition)
            .ok_or_else(|| format!("{CONSUMER_OFFSETS} has no partition {partition}"))
    }
}

fn new_topic(partitions: i32, clock: &Clock) -> Topic {
    let id = uuid::Builder::from_random_bytes(random_bytes()).into_uuid();
    Topic {
        id: TopicId(id),
        name: CONSUMER_OFFSETS.into(),
        partitions: partitions.max(1),
        internal: true,
        configs: BTreeMap::from([
            ("cleanup.policy".into(), "compact".into()),
            ("segment.bytes".into(), SEGMENT_BYTES.to_string()),
            ("max.message.bytes".into(), MAX_BATCH_BYTES.to_string()),
        ]),
        created_ms: clock.now_ms(),
    }
}

impl OffsetsLog for OffsetsTopic {
    fn partitions(&self) -> usize {
        self.logs.len()
    }

    fn append(
        &self,
        partition: usize,
        timestamp: TimestampMs,
        records: Vec<KeyValue>,
    ) -> Result<Offset, String> {
        let log = self.log(partition)?;
        let mut last = -1;
        for records in into_batches(records, timestamp) {
            let batch = records::encode(BatchTemplate::PLAIN, &records)
                .map_err(|error| error.to_string())?;
            let appended = log.append(batch).map_err(|error| error.to_string())?;
            last = appended.last_offset;
        }
        Ok(last)
    }

    fn committed(
        &self,
        partition: usize,
        offset: Offset,
    ) -> BoxFuture<'static, Result<(), String>> {
        if defects::has(Defect::AnswerOffsetCommitBeforeSync) {
            return async { Ok(()) }.boxed();
        }
        let log = self.log(partition).cloned();
        async move {
            log?.committed(offset)
                .await
                .map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn replay(&self, partition: usize, apply: &mut dyn FnMut(KeyValue)) -> Vec<String> {
        match self.log(partition) {
            Ok(log) => Replay::new(log).run(apply),
            Err(error) => vec![error],
        }
    }
}

/// Batches of records in their order, each about `BATCH_BYTES` long or one record.
fn into_batches(records: Vec<KeyValue>, timestamp: TimestampMs) -> Vec<Vec<Record>> {
    let mut batches: Vec<Vec<Record>> = Vec::new();
    let mut size = usize::MAX;
    for (key, value) in records {
        let own = key.len() + value.as_ref().map_or(0, Bytes::len);
        if size.saturating_add(own) > BATCH_BYTES {
            batches.push(Vec::new());
            size = 0;
        }
        size += own;
        if let Some(batch) = batches.last_mut() {
            batch.push(Record {
                offset_delta: i32::try_from(batch.len()).unwrap_or(i32::MAX),
                timestamp,
                key: Some(key),
                value,
                headers: Vec::new(),
            });
        }
    }
    batches
}

/// Reads a partition from its first record to its last. What is damaged is reported and passed over: a group that goes back
/// to an older offset reads some records twice, which is better than no group at all.
struct Replay<'a> {
    log: &'a PartitionLog,
    damage: Vec<String>,
}

impl<'a> Replay<'a> {
    fn new(log: &'a PartitionLog) -> Self {
        Self {
            log,
            damage: Vec::new(),
        }
    }

    fn run(mut self, apply: &mut dyn FnMut(KeyValue)) -> Vec<String> {
        let bounds = self.log.offsets();
        let mut from = bounds.log_start;
        while from < bounds.high_watermark {
            // One batch alone, when the many could not be taken apart, to lose no more than that one.
            let read = self
                .batches(from, READ_BYTES)
                .or_else(|_| self.batches(from, 1));
            match read {
                Ok(batches) => {
                    for batch in &batches {
                        self.apply(batch, apply);
                    }
                    let ends = batches.iter().map(|batch| batch.header.last_offset() + 1);
                    from = ends.fold(from + 1, Offset::max);
                }
                Err(error) => {
                    self.report(from, &error);
                    match self.next_readable(from, bounds.high_watermark) {
                        Some(next) => from = next,
                        None => break,
                    }
                }
            }
        }
        self.damage
    }

    fn batches(&self, from: Offset, max_bytes: usize) -> Result<Vec<Batch>, String> {
        let read = self
            .log
            .read(from, max_bytes, true, Isolation::ReadUncommitted);
        let read = read.map_err(|error| error.to_string())?;
        let batches = batch::split(read.bytes, usize::MAX).map_err(|error| error.to_string())?;
        match batches.is_empty() {
            true => Err("the log gave nothing".into()),
            false => Ok(batches),
        }
    }

    fn apply(&mut self, batch: &Batch, apply: &mut dyn FnMut(KeyValue)) {
        if batch.header.attributes & CONTROL_BATCH != 0 {
            return;
        }
        match records::decode(batch, MAX_BATCH_BYTES as usize) {
            Ok(records) => {
                for record in records {
                    if let Some(key) = record.key {
                        apply((key, record.value));
                    }
                }
            }
            Err(error) => self.report(batch.header.base_offset, &error.to_string()),
        }
    }

    /// The length of a damaged batch is not to be trusted, so the next sound one is looked for offset by offset.
    fn next_readable(&mut self, damaged: Offset, end: Offset) -> Option<Offset> {
        let last = end.min(damaged.saturating_add(MAX_PROBES));
        let next = (damaged + 1..last).find(|&from| self.batches(from, 1).is_ok());
        if next.is_none() && last < end {
            self.report(last, "nothing readable was found, the rest is given up");
        }
        next
    }

    fn report(&mut self, offset: Offset, message: &str) {
        self.damage
            .push(format!("{} at offset {offset}: {message}", self.log.id()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_placed_where_kafka_places_them() {
        // Java: Math.abs("…".hashCode()) % 50; "polygenelubricants" is the text whose hash has no positive counterpart.
        for (group, partition) in [
            ("", 0),
            ("a", 47),
            ("example_group", 28),
            ("polygenelubricants", 0),
            ("grüße", 23),
        ] {
            assert_eq!(partition_for(group, 50), partition, "{group}");
        }
        assert_eq!(partition_for("a", 0), 0);
    }

    #[test]
    fn many_records_are_cut_into_batches_without_losing_order() {
        let record = |index: usize, size: usize| {
            let key = Bytes::from(index.to_string());
            (key, Some(Bytes::from(vec![0; size])))
        };
        let sizes = [100_000, 400_000, 100_000, 2_000_000, 1];
        let records = sizes
            .iter()
            .enumerate()
            .map(|(index, &size)| record(index, size));
        let batches = into_batches(records.collect(), 7);
        let lengths: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 1]);
        let keys: Vec<&[u8]> = batches
            .iter()
            .flatten()
            .filter_map(|record| record.key.as_deref())
            .collect();
        assert_eq!(keys, [b"0", b"1", b"2", b"3", b"4"]);
        assert_eq!(batches[0][1].offset_delta, 1);
        assert_eq!(batches[1][0].offset_delta, 0);
    }
}
