//! The coordinators' own topics, `__consumer_offsets` and `__transaction_state`: their partitions, and reading them back.
//!
//! The records of a group or a transactional id all go to one partition, chosen by its id as Kafka chooses it. They are appended
//! under the lock of that id, so that the log has them in the order in which they happened.

mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::replay::Replay;
use super::group::MAX_GROUP_BYTES;
use super::transaction::Producer;
use crate::catalog::{Catalog, Topic};
use crate::config::TopicConfig;
use crate::env::defects::{self, Defect};
use crate::env::{Clock, random_bytes};
use crate::log::records::{self, BatchTemplate, Record};
use crate::log::{AppendError, LogSet, PartitionLog, TransactionMarker};
use crate::types::{CONSUMER_OFFSETS, Offset, PartitionId, TimestampMs, TopicId};

/// Records of one commit are cut into batches of about this many bytes.
const BATCH_BYTES: usize = 512 << 10;
/// As Kafka's `offsets.topic.segment.bytes`: small, so that loading a partition reads little that is outdated.
const SEGMENT_BYTES: u64 = 100 << 20;
/// The largest group record: metadata and assignments at their bound, and the members' names.
const MAX_BATCH_BYTES: u32 = 4 * MAX_GROUP_BYTES as u32;

/// A key and its value; without a value, a tombstone.
pub type KeyValue = (Bytes, Option<Bytes>);

/// Records to append together.
#[derive(Clone, Debug)]
pub struct NewRecords {
    pub timestamp: TimestampMs,
    pub records: Vec<KeyValue>,
    /// Whose transaction they are part of.
    pub producer: Option<Producer>,
}

/// What is read back.
#[derive(Clone, Debug)]
pub enum Stored {
    Record {
        offset: Offset,
        key: Bytes,
        value: Option<Bytes>,
        /// Of a record that is part of a transaction: it counts when the producer's next marker says so.
        producer_id: Option<i64>,
    },
    Marker(TransactionMarker),
}

/// Where a coordinator keeps its records: the seam between a driver and the log.
pub trait RecordLog: Send + Sync + std::fmt::Debug {
    fn partitions(&self) -> usize;

    /// Appends in order and returns the offset of the last record. Records outlive the process when this returns, and a
    /// loss of power when `committed` does.
    fn append(&self, partition: usize, new: NewRecords) -> Result<Offset, String>;

    /// Appends the end of a producer's transaction and returns its offset.
    fn mark(&self, partition: usize, marker: &TransactionMarker) -> Result<Offset, AppendError>;

    fn committed(&self, partition: usize, offset: Offset)
    -> BoxFuture<'static, Result<(), String>>;

    /// Hands everything readable to `apply`, oldest first, and returns what could not be read.
    fn replay(&self, partition: usize, apply: &mut dyn FnMut(Stored)) -> Vec<String>;
}

/// The partition that keeps a group or a transactional id, as Kafka computes it: Java's `String.hashCode` over UTF-16.
pub fn partition_for(id: &str, partitions: usize) -> usize {
    let hash = id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka takes the one number without a positive counterpart for 0.
    let hash = hash.checked_abs().unwrap_or(0);
    usize::try_from(hash).unwrap_or(0) % partitions.max(1)
}

/// A coordinator's topic in the commit log.
#[derive(Debug)]
pub struct InternalTopic {
    name: &'static str,
    logs: Vec<Arc<PartitionLog>>,
}

impl InternalTopic {
    /// Creates the topic when it is missing and opens its partitions. A topic that exists keeps its partition count,
    /// whatever is configured: another count would look for ids where they are not.
    pub fn open(
        name: &'static str,
        partitions: i32,
        catalog: &Catalog,
        logs: &LogSet,
        clock: &Clock,
    ) -> Result<Self, String> {
        let topic = match catalog.topic(name) {
            Some(topic) => topic,
            None => catalog
                .create_topic(new_topic(name, partitions, clock))
                .map_err(|error| format!("{name}: {error}"))?,
        };
        let config = Arc::new(TopicConfig {
            cleanup_compact: true,
            cleanup_delete: false,
            segment_bytes: SEGMENT_BYTES,
            max_message_bytes: MAX_BATCH_BYTES,
            ..TopicConfig::default()
        });
        let ids = (0..topic.partitions).map(|index| PartitionId {
            topic: topic.id,
            index,
        });
        let logs = logs.open_partitions(ids.map(|id| (id, Arc::clone(&config))).collect())?;
        if logs.is_empty() {
            return Err(format!("{name} has no partitions"));
        }
        Ok(Self { name, logs })
    }

    fn log(&self, partition: usize) -> Result<&Arc<PartitionLog>, String> {
        self.logs
            .get(partition)
            .ok_or_else(|| format!("{} has no partition {partition}", self.name))
    }
}

fn new_topic(name: &str, partitions: i32, clock: &Clock) -> Topic {
    let id = uuid::Builder::from_random_bytes(random_bytes()).into_uuid();
    Topic {
        id: TopicId(id),
        name: name.into(),
        partitions: partitions.max(1),
        internal: true,
        configs: BTreeMap::from([
            ("cleanup.policy".into(), "compact".into()),
            ("segment.bytes".into(), SEGMENT_BYTES.to_string()),
            ("max.message.bytes".into(), MAX_BATCH_BYTES.to_string()),
        ]),
        created_ms: clock.now_ms(),
        created_by: None,
    }
}

impl RecordLog for InternalTopic {
    fn partitions(&self) -> usize {
        self.logs.len()
    }

    fn append(&self, partition: usize, new: NewRecords) -> Result<Offset, String> {
        let log = self.log(partition)?;
        let template = match new.producer {
            None => BatchTemplate::PLAIN,
            Some(producer) => BatchTemplate {
                producer_id: producer.id,
                producer_epoch: producer.epoch,
                is_transactional: true,
                ..BatchTemplate::PLAIN
            },
        };
        let mut last = -1;
        for records in into_batches(new.records, new.timestamp) {
            let batch = records::encode(template, &records).map_err(|error| error.to_string())?;
            let appended = log.append(batch).map_err(|error| error.to_string())?;
            last = appended.last_offset;
        }
        Ok(last)
    }

    fn mark(&self, partition: usize, marker: &TransactionMarker) -> Result<Offset, AppendError> {
        let log = self.log(partition).map_err(AppendError::Storage)?;
        log.append_marker(marker)
            .map(|appended| appended.last_offset)
    }

    fn committed(
        &self,
        partition: usize,
        offset: Offset,
    ) -> BoxFuture<'static, Result<(), String>> {
        if self.name == CONSUMER_OFFSETS && defects::has(Defect::AnswerOffsetCommitBeforeSync) {
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

    fn replay(&self, partition: usize, apply: &mut dyn FnMut(Stored)) -> Vec<String> {
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
