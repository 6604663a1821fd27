//! The commit log: partitions, their segments, and everything about bytes on disk.

pub mod batch;
pub mod records;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::config::{LogConfig, TopicConfig};
use crate::env::Clock;
use crate::types::{Offset, PartitionId, TimestampMs, TopicId};
use batch::Batch;

/// All partition logs of this broker. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct LogSet {}

/// One partition's commit log.
#[derive(Debug)]
pub struct PartitionLog {}

/// What an append did, or what the first append of a duplicate had done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// Set when the topic stamps records at append.
    pub log_append_time: Option<TimestampMs>,
    pub log_start_offset: Offset,
    /// The batch had been appended before; nothing was written now.
    pub duplicate: bool,
}

/// What the producer state says of a batch before it is appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequence {
    /// Not idempotent, or the next in order.
    Next,
    /// Seen before; this is what it was answered.
    Duplicate(Appended),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("batch is damaged: {0}")]
    Corrupt(String),
    #[error("batch is invalid: {0}")]
    Invalid(String),
    #[error("batch of {size} bytes is larger than max.message.bytes ({limit})")]
    TooLarge { size: usize, limit: usize },
    #[error("timestamp is out of range: {0}")]
    InvalidTimestamp(String),
    #[error("sequence {found} of producer {producer_id} is out of order (expected {expected})")]
    OutOfOrderSequence {
        producer_id: i64,
        expected: i32,
        found: i32,
    },
    #[error(
        "producer {producer_id} sent a sequence older than the five batches that are remembered"
    )]
    DuplicateSequence { producer_id: i64 },
    #[error("producer {producer_id} has epoch {current}; the batch carries {found}")]
    FencedEpoch {
        producer_id: i64,
        current: i16,
        found: i16,
    },
    /// The disk refused. The partition may accept again when space returns; until then reads go on.
    #[error("storage: {0}")]
    Storage(String),
    /// A write or sync failed: the log has stopped accepting until a restart has verified it.
    #[error("the log stopped accepting after a failed write or sync: {0}")]
    Stopped(String),
    #[error("the partition was deleted")]
    Deleted,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside {start}..={end}")]
    OutOfRange {
        offset: Offset,
        start: Offset,
        end: Offset,
    },
    #[error("damaged batch at offset {offset}: {message}")]
    Corrupt { offset: Offset, message: String },
    #[error("storage: {0}")]
    Storage(String),
    #[error("the partition was deleted")]
    Deleted,
}

/// Whole record batches, byte for byte as a Fetch response carries them (base offset and leader epoch restored).
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub bytes: Bytes,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
}

/// The end points of a partition at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offsets {
    pub log_start: Offset,
    pub high_watermark: Offset,
    pub log_end: Offset,
}

/// What ListOffsets asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetQuery {
    Earliest,
    Latest,
    /// The largest timestamp and its offset.
    MaxTimestamp,
    /// The first record at or after this time.
    AtTime(TimestampMs),
}

/// Figures of one partition for metrics and for DescribeLogDirs.
#[derive(Clone, Debug, Default)]
pub struct LogStats {
    pub size_bytes: u64,
    pub segments: usize,
    pub offsets: Offsets,
    /// Why the log stopped accepting, when it did.
    pub stopped: Option<String>,
}

impl LogSet {
    /// Opens the folder, prepares recycling and starts the flush lanes. Partitions are opened one by one after it.
    pub fn open(directory: &Path, config: LogConfig, clock: Clock) -> Result<Arc<Self>, String> {
        let _ = (directory, config, clock);
        todo!()
    }

    /// Opens a partition's log, creating or recovering it. Blocking.
    pub fn open_partition(
        &self,
        id: PartitionId,
        config: Arc<TopicConfig>,
    ) -> Result<Arc<PartitionLog>, String> {
        let _ = (id, config);
        todo!()
    }

    pub fn get(&self, id: PartitionId) -> Option<Arc<PartitionLog>> {
        let _ = id;
        todo!()
    }

    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        todo!()
    }

    /// Removes every partition of a topic: its waiters are woken, its files go to be recycled. Blocking.
    pub fn delete_topic(&self, topic: TopicId) -> Result<(), String> {
        let _ = topic;
        todo!()
    }

    /// Folders of topics that are on disk, so that the caller can remove those which the catalog no longer names.
    pub fn topics_on_disk(&self) -> Result<Vec<TopicId>, String> {
        todo!()
    }

    /// Applies retention to every partition. Blocking; called from a background thread at the configured interval.
    pub fn enforce_retention(&self) {
        todo!()
    }

    /// Syncs everything and writes the clean-stop markers. Blocking.
    pub fn shutdown(&self) {
        todo!()
    }
}

impl PartitionLog {
    pub fn id(&self) -> PartitionId {
        todo!()
    }

    pub fn set_config(&self, config: Arc<TopicConfig>) {
        let _ = config;
        todo!()
    }

    /// Appends one validated batch. Checks and records the producer's sequence under the same lock. The write is in the
    /// page cache when this returns (survives the end of the process); `committed` waits for durability.
    pub fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        let _ = batch;
        todo!()
    }

    /// Asks the producer state about a batch without appending it, so that a plugin is not called for a duplicate.
    pub fn check_sequence(&self, batch: &Batch) -> Result<Sequence, AppendError> {
        let _ = batch;
        todo!()
    }

    /// Records in this partition's producer state that a batch sent to it was placed (by a partitioner) elsewhere, so that a
    /// retry is answered as `placed` said. Kept in memory while the broker stays up.
    pub fn record_placed(&self, batch: &Batch, placed: Appended) -> Result<(), AppendError> {
        let _ = (batch, placed);
        todo!()
    }

    /// The lock that serialises check, placement and `record_placed` of batches sent to this partition when its topic has
    /// a partitioner. Never held together with another partition's.
    pub fn lane(&self) -> parking_lot::MutexGuard<'_, ()> {
        todo!()
    }

    /// Resolves when every record up to and including `offset` is below the high watermark.
    pub async fn committed(&self, offset: Offset) -> Result<(), AppendError> {
        let _ = offset;
        todo!()
    }

    /// Reads whole batches from the one that holds `from`, up to `max_bytes`, never past the high watermark. With
    /// `at_least_one` the first batch comes even when it is larger. Empty when `from` is the high watermark. Blocking when
    /// `is_hot` says false.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Records, ReadError> {
        let _ = (from, max_bytes, at_least_one);
        todo!()
    }

    /// True when a read from this offset is near the end of the log and all but surely in the page cache, so that it may
    /// run on an async thread.
    pub fn is_hot(&self, from: Offset) -> bool {
        let _ = from;
        todo!()
    }

    /// Notifies `waiter` once (`Notify::notify_one`), when the high watermark next moves or the partition goes away.
    pub fn wake_on_progress(&self, waiter: &Arc<Notify>) {
        let _ = waiter;
        todo!()
    }

    /// Offset and timestamp for ListOffsets; `None` when no record answers the query. Blocking for `AtTime`.
    pub fn find_offset(
        &self,
        query: OffsetQuery,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        let _ = query;
        todo!()
    }

    pub fn offsets(&self) -> Offsets {
        todo!()
    }

    pub fn stats(&self) -> LogStats {
        todo!()
    }
}
