//! Control records: what the broker writes into a log for brokers and clients, and no consumer is shown.
//!
//! A **marker** ends a producer's transaction in one partition. It is a batch of its own with one record (Kafka's
//! `EndTxnMarker`): the key is a version and a type (0 abort, 1 commit), the value a version and the coordinator's epoch.

use bytes::Bytes;

use super::batch::{Batch, BatchHeader, HEADER_SIZE};
use super::codec::Reader;
use super::records::{self, BatchTemplate, Record};
use super::{AppendError, MarkerOutcome, TransactionMarker};
use crate::types::TimestampMs;

/// The newest version of key and value that is known. A newer one may only add fields at the end.
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// More than any control record takes.
const MAX_BYTES: usize = 4096;

/// The batch of a marker, stamped with `now`.
pub(super) fn encode_marker(
    marker: &TransactionMarker,
    now: TimestampMs,
) -> Result<Batch, AppendError> {
    let kind = match marker.outcome {
        MarkerOutcome::Abort => ABORT,
        MarkerOutcome::Commit => COMMIT,
    };
    let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
    let mut value = VERSION.to_be_bytes().to_vec();
    value.extend_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let template = BatchTemplate {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        is_transactional: true,
        is_control: true,
        ..BatchTemplate::PLAIN
    };
    let record = Record {
        timestamp: now,
        key: Some(key.into()),
        value: Some(value.into()),
        ..Record::default()
    };
    records::encode(template, &[record])
}

/// The marker that a batch holds; `None` when it is another kind of batch, or a control record that is not known.
pub fn decode_marker(header: &BatchHeader, bytes: &[u8]) -> Option<TransactionMarker> {
    if !header.is_control() || !header.is_transactional() || header.size > HEADER_SIZE + MAX_BYTES {
        return None;
    }
    let batch = Batch {
        header: *header,
        bytes: Bytes::copy_from_slice(bytes),
    };
    let records = records::decode(&batch, MAX_BYTES).ok()?;
    let record = records.first()?;
    let mut key = Reader::new(record.key.as_deref()?);
    let mut value = Reader::new(record.value.as_deref()?);
    if key.i16()? < VERSION || value.i16()? < VERSION {
        return None;
    }
    let outcome = match key.i16()? {
        ABORT => MarkerOutcome::Abort,
        COMMIT => MarkerOutcome::Commit,
        _ => return None,
    };
    Some(TransactionMarker {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        outcome,
        coordinator_epoch: value.i32()?,
    })
}
