//! The commit log: partitions, their segments, and everything about bytes on disk.
//!
//! A **partition** is a folder of **segments**; a segment is a file of record **batches**, byte for byte as clients
//! compressed them, under a **seal** that binds each to its file and place. A batch is *appended* when it is in the page
//! cache (it survives the end of the process) and *committed* when it is below the **high watermark**, which follows
//! what the topic calls durable. `FORMAT.md` beside this file specifies the bytes and the rules of recovery.
//!
//! The log knows no topic names, owners, groups or plugins; nothing above it sees a file or a sync.

pub mod batch;
mod checkpoint;
mod clean_point;
mod cleaner;
mod codec;
mod commit;
mod compact;
mod compression;
pub mod control;
mod damage;
#[cfg(test)]
mod faults;
mod file;
mod flush;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handles;
mod index;
pub mod inspect;
pub mod lane;
pub mod marks;
mod partition;
mod pool;
mod producers;
mod read;
mod recompress;
pub mod records;
mod recover;
pub mod repair;
mod reserve;
mod retain;
mod reverify;
mod scan;
mod seal;
mod segment;
mod set;
#[cfg(test)]
mod tests;
mod transactions;
mod validate;
mod waiters;
mod walk;
mod writer;

use bytes::Bytes;

use crate::types::{Offset, TimestampMs};

pub use cleaner::CleanerStats;
pub use commit::{Commit, catch_up};
pub use damage::DamagedRange;
pub use handles::HandleStats;
pub use partition::PartitionLog;
pub use set::{Background, FlushObserver, LogSet, ReserveStats, Work};
pub use validate::{RecordError, RecordErrors};

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
    #[error(
        "batch decompresses to more than {limit} bytes (log.max-decompressed-batch-bytes, and the topic's max.decompressed.message.bytes): send smaller batches"
    )]
    InflatedTooFar { limit: usize },
    /// Records that the topic does not take, or that are none.
    #[error("{0}")]
    Records(RecordErrors),
    /// Passes: too many large batches were being decompressed.
    #[error("too many batches that decompress to much are being checked; it may be sent again")]
    Busy,
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
    #[error(
        "producer {producer_id} has a transaction open; end it before sending what is not part of it"
    )]
    InvalidTransactionState { producer_id: i64 },
    /// A marker of a coordinator that another has taken over from.
    #[error(
        "the marker of producer {producer_id} is of coordinator epoch {found}; {current} came before it"
    )]
    FencedCoordinator {
        producer_id: i64,
        current: i32,
        found: i32,
    },
    /// The disk refused. The partition may accept again when space returns; until then reads go on.
    #[error("storage: {0}")]
    Storage(String),
    /// A write or sync failed, or there is damage: the log has stopped accepting until a restart or an operator has verified it.
    #[error("the log stopped accepting after a failed write or sync, or because of damage: {0}")]
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
    #[error("the first batch has {size} bytes, more than the reader has room for")]
    Larger { size: usize },
}

/// Up to where a reader sees (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// Up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset, with the list of transactions that were aborted.
    ReadCommitted,
}

impl Isolation {
    /// The level that a request's code asks for; an unknown one means the first, as in Kafka.
    pub fn from_code(code: i8) -> Self {
        match code {
            1 => Self::ReadCommitted,
            _ => Self::ReadUncommitted,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MarkerOutcome {
    Commit,
    Abort,
}

/// The end of a producer's transaction in one partition, written by the transaction coordinator (KIP-98; with the epoch
/// already bumped, KIP-890).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub outcome: MarkerOutcome,
    /// Fences an earlier coordinator.
    pub coordinator_epoch: i32,
}

/// A transaction whose records a committed reader has to pass over: those of the producer from `first_offset` up to its
/// abort marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: Offset,
}

/// What a partition knows of one producer (DescribeProducers, KIP-664).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerState {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// −1 when nothing was numbered in this epoch.
    pub last_sequence: i32,
    /// When it last appended, by the broker's clock.
    pub last_timestamp: TimestampMs,
    /// −1 before its first marker.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// A transaction without a marker yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenTransaction {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub first_offset: Offset,
    /// When its first batch was appended, by the broker's clock; after an unclean stop perhaps when it was read back.
    pub since: TimestampMs,
}

/// Why records were not deleted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("the topic's cleanup.policy has no delete in it")]
    NotAllowed,
    #[error("offset {offset} is not between 0 and the high watermark {end}")]
    OutOfRange { offset: Offset, end: Offset },
    /// The disk refused, or the log has stopped. What readers see has moved all the same.
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
    /// For a committed reader, in the order of their markers; empty otherwise.
    pub aborted: Vec<AbortedTransaction>,
    /// There are bytes, and the reader sees more in a later segment, which no read reaches over: waiting adds nothing to these.
    pub is_behind: bool,
}

/// The end points of a partition at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offsets {
    pub log_start: Offset,
    /// Everything below belongs to no transaction, or to one whose end is below the high watermark.
    pub last_stable_offset: Offset,
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
    /// Why the log does not accept, when it does not.
    pub stopped: Option<String>,
    /// It does not accept because recovery found damage in it.
    pub is_damaged: bool,
    /// What is known to be damaged, in the order of offsets. No read gives out a byte of it.
    pub damaged: Vec<DamagedRange>,
    /// Times that a read went on behind damage, where the topic says so.
    pub damage_skips: u64,
}
