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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(outcome: MarkerOutcome) -> TransactionMarker {
        TransactionMarker {
            producer_id: 77,
            producer_epoch: 3,
            outcome,
            coordinator_epoch: 9,
        }
    }

    #[test]
    fn a_marker_is_the_bytes_that_kafka_writes() {
        for (outcome, kind) in [(MarkerOutcome::Abort, 0), (MarkerOutcome::Commit, 1)] {
            let batch = encode_marker(&sample(outcome), 5).expect("encodes");
            assert_eq!(batch.header.attributes, 0x30);
            assert_eq!(
                (batch.header.base_sequence, batch.header.record_count),
                (-1, 1)
            );
            // Length, attributes, deltas; key: version 0 and type; value: version 0 and epoch 9; no headers.
            let body = [32, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, 0, 0, 0, 9, 0];
            assert_eq!(batch.bytes[HEADER_SIZE..], body);
            let read = decode_marker(&batch.header, &batch.bytes);
            assert_eq!(read, Some(sample(outcome)));
        }
    }

    #[test]
    fn other_batches_are_no_markers() {
        let batch = encode_marker(&sample(MarkerOutcome::Abort), 5).expect("encodes");
        let mut unknown = batch.bytes.to_vec();
        unknown[HEADER_SIZE + 8] = 6;
        assert_eq!(decode_marker(&batch.header, &unknown), None);
        for cut in 0..batch.bytes.len() {
            assert_eq!(decode_marker(&batch.header, &batch.bytes[..cut]), None);
        }
        let plain = BatchTemplate {
            producer_id: 77,
            producer_epoch: 3,
            is_transactional: true,
            ..BatchTemplate::PLAIN
        };
        let record = Record {
            key: Some(vec![0, 0, 0, 1].into()),
            value: Some(vec![0; 6].into()),
            ..Record::default()
        };
        let plain = records::encode(plain, &[record]).expect("encodes");
        assert_eq!(decode_marker(&plain.header, &plain.bytes), None);
    }
}
