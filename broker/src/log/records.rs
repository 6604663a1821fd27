//! Records inside a batch: decoding for plugins and coordinators, encoding of the batches the broker makes itself.

use bytes::Bytes;

use super::AppendError;
use super::batch::{Batch, BatchHeader, Compression};
use crate::types::TimestampMs;

/// One decoded record. Slices share the decompressed buffer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    pub offset_delta: i32,
    pub timestamp: TimestampMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The records of a batch, decompressed to at most `max_decompressed` bytes, with counts and lengths checked.
pub fn decode(batch: &Batch, max_decompressed: usize) -> Result<Vec<Record>, AppendError> {
    let _ = (batch, max_decompressed);
    todo!()
}

/// What a batch made by the broker carries besides its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchTemplate {
    pub compression: Compression,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// `None`: the last record's delta. `Some`: kept as it was, so that dropped records leave a gap.
    pub last_offset_delta: Option<i32>,
}

impl BatchTemplate {
    /// No producer, no compression.
    pub const PLAIN: Self = Self {
        compression: Compression::None,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        last_offset_delta: None,
    };

    /// The identity of the batch that `header` heads: same producer, sequence, compression and offset span.
    pub fn like(header: &BatchHeader) -> Self {
        let _ = header;
        todo!()
    }
}

/// Encodes records (deltas as given, ascending) into one checked batch.
pub fn encode(template: BatchTemplate, records: &[Record]) -> Result<Batch, AppendError> {
    let _ = (template, records);
    todo!()
}
