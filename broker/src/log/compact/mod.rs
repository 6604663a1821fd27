//! What compaction keeps of a batch. Pure: time comes in, bytes go out.
//!
//! The **dirty** part of a log is what has come since it was last compacted; the **offset map** knows the latest offset of
//! each key in it. A record goes when the map knows a later one of its key, when its transaction was aborted, or when it is a
//! **tombstone** (no value) past its batch's **horizon**: the time, written into the batch when it is first compacted, until
//! which readers may still need it (`delete.retention.ms`, KIP-534). A marker goes by the same horizon once nothing of
//! its transaction is left. What is kept keeps its offset; a batch that has become empty stays when it is the last of
//! its producer, so that sequences survive. Semantics as in Kafka's `LogCleaner`.

mod map;
mod pass;
mod replace;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

pub(super) use map::OffsetMap;
pub(super) use pass::{CleanError, Dirty};
pub(super) use replace::NEW_FILE;

use super::batch::{
    ATTRIBUTE_COMPRESSION, ATTRIBUTE_DELETE_HORIZON, Batch, BatchHeader, HEADER_SIZE, checksum,
};
use super::records::{self, Record};
use super::transactions::Aborted;
use super::{AppendError, MarkerOutcome};
use crate::env::defects::{self, Defect};
use crate::types::{Offset, TimestampMs};

/// Decompression bound of a batch on a compacted topic: larger ones are refused at produce, and kept as they are when
/// they were written before the topic was compacted.
pub(super) const MAX_DECOMPRESSED: usize = 64 << 20;

/// The last batch that is known of a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LastBatch {
    pub producer_epoch: i16,
    /// `None`: no numbered batch in this epoch.
    pub last_offset: Option<Offset>,
}

/// What becomes of a batch.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Whole,
    Rewritten(Batch),
    Nothing,
}

/// The transactions that a walk over batches meets, from its beginning on.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Those that were aborted and have not been met yet, by their first offset.
    aborted: VecDeque<Aborted>,
    /// By producer: whether a batch of it was met.
    aborting: HashMap<i64, bool>,
    /// Producers of which a batch of a committed transaction was met, without its marker yet.
    committing: HashSet<i64>,
}

impl Transactions {
    /// For a walk that begins at `from`.
    pub fn new(mut aborted: Vec<Aborted>, from: Offset) -> Self {
        aborted.retain(|one| one.last_offset >= from);
        aborted.sort_unstable_by_key(|one| one.first_offset);
        Self {
            aborted: aborted.into(),
            ..Self::default()
        }
    }

    fn reach(&mut self, offset: Offset) {
        while let Some(one) = self.aborted.front()
            && one.first_offset <= offset
        {
            self.aborting.entry(one.producer_id).or_insert(false);
            self.aborted.pop_front();
        }
    }

    /// True when the batch belongs to an aborted transaction.
    pub fn meet_batch(&mut self, header: &BatchHeader) -> bool {
        self.reach(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        if let Some(was_met) = self.aborting.get_mut(&header.producer_id) {
            *was_met = true;
            return true;
        }
        self.committing.insert(header.producer_id);
        false
    }

    /// True when nothing of the marker's transaction was met. `None` stands for a control batch without a marker.
    pub fn meet_marker(&mut self, header: &BatchHeader, outcome: Option<MarkerOutcome>) -> bool {
        self.reach(header.last_offset());
        match outcome {
            Some(MarkerOutcome::Abort) => self.aborting.remove(&header.producer_id) != Some(true),
            Some(MarkerOutcome::Commit) => !self.committing.remove(&header.producer_id),
            None => true,
        }
    }
}

/// By what a round of compaction decides.
pub(super) struct Rules {
    pub map: OffsetMap,
    pub transactions: Transactions,
    pub producers: HashMap<i64, LastBatch>,
    pub now: TimestampMs,
    /// For how long tombstones and markers stay after they were first met (`delete.retention.ms`).
    pub delete_retention_ms: i64,
}

impl Rules {
    /// What becomes of the next batch. `marker` is what a control batch says.
    pub fn clean(&mut self, batch: &Batch, marker: Option<MarkerOutcome>) -> Kept {
        let header = &batch.header;
        let is_over = if header.is_control() {
            self.transactions.meet_marker(header, marker)
        } else {
            self.transactions.meet_batch(header)
        };
        let horizon = header.delete_horizon();
        let is_due = horizon.is_some_and(|horizon| horizon <= self.now);
        let goes = is_over && (!header.is_control() || is_due);
        let stays_empty = self.is_last_of_producer(header) || self.is_last_of_round(header);
        if goes && !stays_empty {
            return Kept::Nothing;
        }
        // What cannot be read is never taken away.
        let Ok(mut records) = records::decode(batch, MAX_DECOMPRESSED) else {
            return Kept::Whole;
        };
        let count = records.len();
        if goes {
            records.clear();
        }
        records.retain(|record| self.keeps(header, record, is_due));
        let has_tombstone = records.iter().any(|record| record.value.is_none());
        let gets_horizon = (has_tombstone || (header.is_control() && is_over)) && horizon.is_none();
        if records.is_empty() && !stays_empty {
            return Kept::Nothing;
        }
        if records.len() == count && (!gets_horizon || count == 0) {
            return Kept::Whole;
        }
        let horizon = gets_horizon.then(|| self.now.saturating_add(self.delete_retention_ms));
        rewrite(batch, &records, horizon).map_or(Kept::Whole, Kept::Rewritten)
    }

    fn keeps(&self, header: &BatchHeader, record: &Record, is_due: bool) -> bool {
        let offset = header.base_offset + i64::from(record.offset_delta);
        if header.is_control() || offset > self.map.latest() {
            return true;
        }
        let Some(key) = &record.key else {
            // Written before the topic was compacted: nothing tells when it is outdated.
            return false;
        };
        let is_latest = match self.map.get(key) {
            Some(latest) if defects::has(Defect::KeepOlderValue) => offset < latest,
            latest => latest.is_none_or(|latest| offset >= latest),
        };
        let is_due = is_due || defects::has(Defect::DropTombstonesEarly);
        is_latest && (record.value.is_some() || !is_due)
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let Some(last) = self.producers.get(&header.producer_id) else {
            return false;
        };
        match last.last_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.producer_epoch,
        }
    }

    /// The last batch below the end of the round stays, so that a reader before it finds where to go on.
    fn is_last_of_round(&self, header: &BatchHeader) -> bool {
        header.last_offset() == self.map.latest()
    }
}

/// The batch with these of its records. Offsets, producer, sequence and codec stay as they were.
fn rewrite(
    batch: &Batch,
    kept: &[Record],
    horizon: Option<TimestampMs>,
) -> Result<Batch, AppendError> {
    let mut header = batch.header;
    let mut body = Vec::new();
    if kept.is_empty() {
        header.attributes &= !(ATTRIBUTE_COMPRESSION | ATTRIBUTE_DELETE_HORIZON);
        header.base_timestamp = header.max_timestamp;
    } else {
        if let Some(horizon) = horizon {
            header.attributes |= ATTRIBUTE_DELETE_HORIZON;
            header.base_timestamp = horizon;
        }
        if !header.is_log_append_time() {
            let times = kept.iter().map(|record| record.timestamp);
            header.max_timestamp = times.max().unwrap_or(header.max_timestamp);
        }
        let codec = header.compression().unwrap_or_default();
        body = records::encode_body(kept, header.base_timestamp, codec)?;
    }
    header.size = HEADER_SIZE + body.len();
    header.record_count = i32::try_from(kept.len()).unwrap_or(i32::MAX);
    header.crc = checksum(&header.write(), &body);
    let mut bytes = header.write().to_vec();
    bytes.append(&mut body);
    Ok(Batch {
        header,
        bytes: bytes.into(),
    })
}
