//! Control records: what the broker writes into a log for brokers and clients, and no consumer is shown.
//!
//! A **marker** ends a producer's transaction in one partition. It is a batch of its own with one record (Kafka's
//! `EndTxnMarker`): the key is a version and a type (0 abort, 1 commit), the value a version and the coordinator's epoch. A
//! **mark** says whose records the slice behind it holds (`marks.rs`); clients pass over types that they do not know, as
//! Kafka's rule is for control records.

use bytes::Bytes;

use super::batch::{Batch, BatchHeader, HEADER_SIZE};
use super::codec::Reader;
use super::marks::{Indexes, Mark};
use super::records::{self, BatchTemplate, Record};
use super::{AppendError, MarkerOutcome, TransactionMarker};
use crate::types::TimestampMs;

/// The newest version of key and value that is known. A newer one may only add fields at the end.
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// "TG": far from the numbers that Kafka gives out one by one.
const MARK: i16 = 0x5447;

/// A control record that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Control {
    Marker(TransactionMarker),
    /// With the slice that has to follow.
    Mark(Mark, Option<SliceId>),
}

/// By what a mark knows its slice: neither an offset nor a stamp changes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SliceId {
    size: u32,
    body_crc: u32,
}

impl SliceId {
    /// Of a whole batch's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            size: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            body_crc: crc32c::crc32c(bytes.get(HEADER_SIZE..).unwrap_or_default()),
        }
    }
}

fn key(kind: i16) -> Option<Bytes> {
    Some([VERSION.to_be_bytes(), kind.to_be_bytes()].concat().into())
}

/// The batch of a marker, stamped with `now`.
pub(super) fn encode_marker(
    marker: &TransactionMarker,
    now: TimestampMs,
) -> Result<Batch, AppendError> {
    let kind = match marker.outcome {
        MarkerOutcome::Abort => ABORT,
        MarkerOutcome::Commit => COMMIT,
    };
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
        key: key(kind),
        value: Some(value.into()),
        ..Record::default()
    };
    records::encode(template, &[record])
}

/// The batch of a mark for the slice that is to follow it; without one it stands alone. It carries no time and no producer
/// of its own, so that it changes nothing for those who look by either.
pub(super) fn encode_mark(mark: &Mark, slice: Option<&Batch>) -> Result<Batch, AppendError> {
    let id = slice.map(|slice| SliceId::of(&slice.bytes));
    let mut value = VERSION.to_be_bytes().to_vec();
    value.extend_from_slice(&mark.lane.to_be_bytes());
    value.extend_from_slice(&mark.producer_id.to_be_bytes());
    value.extend_from_slice(&mark.producer_epoch.to_be_bytes());
    value.extend_from_slice(&mark.base_sequence.to_be_bytes());
    value.extend_from_slice(&mark.record_count.to_be_bytes());
    value.extend_from_slice(&id.map_or(0, |id| id.size).to_be_bytes());
    value.extend_from_slice(&id.map_or(0, |id| id.body_crc).to_be_bytes());
    mark.indexes.encode(&mut value);
    let template = BatchTemplate {
        is_control: true,
        ..BatchTemplate::PLAIN
    };
    let record = Record {
        timestamp: -1,
        key: key(MARK),
        value: Some(value.into()),
        ..Record::default()
    };
    records::encode(template, &[record])
}

/// What a batch says; `None` when it is no control batch, or a kind that is not known. `bytes` are the whole batch's.
pub(super) fn decode(header: &BatchHeader, bytes: &[u8]) -> Option<Control> {
    if !header.is_control() {
        return None;
    }
    let batch = Batch {
        header: *header,
        bytes: Bytes::copy_from_slice(bytes),
    };
    let records = records::decode(&batch, header.size).ok()?;
    let record = records.first()?;
    let mut key = Reader::new(record.key.as_deref()?);
    let mut value = Reader::new(record.value.as_deref()?);
    if key.i16()? < VERSION || value.i16()? < VERSION {
        return None;
    }
    match (key.i16()?, header.is_transactional()) {
        (ABORT, true) => marker_of(header, MarkerOutcome::Abort, &mut value),
        (COMMIT, true) => marker_of(header, MarkerOutcome::Commit, &mut value),
        (MARK, false) => mark_of(&mut value),
        _ => None,
    }
}

/// The marker that a batch holds; `None` when it is another kind of batch.
pub fn decode_marker(header: &BatchHeader, bytes: &[u8]) -> Option<TransactionMarker> {
    match decode(header, bytes) {
        Some(Control::Marker(marker)) => Some(marker),
        _ => None,
    }
}

fn marker_of(
    header: &BatchHeader,
    outcome: MarkerOutcome,
    value: &mut Reader<'_>,
) -> Option<Control> {
    Some(Control::Marker(TransactionMarker {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        outcome,
        coordinator_epoch: value.i32()?,
    }))
}

fn mark_of(value: &mut Reader<'_>) -> Option<Control> {
    let (lane, producer_id) = (value.i32()?, value.i64()?);
    let (producer_epoch, base_sequence) = (value.i16()?, value.i32()?);
    let record_count = value.u32()?;
    let id = SliceId {
        size: value.u32()?,
        body_crc: value.u32()?,
    };
    let mark = Mark {
        lane,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count,
        indexes: Indexes::decode(value.rest(), record_count)?,
    };
    Some(Control::Mark(mark, (id.size > 0).then_some(id)))
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
