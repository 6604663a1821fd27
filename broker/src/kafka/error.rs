//! From a domain's outcome to Kafka's error code, in one place.

use kafka_protocol::ResponseError;

use crate::log::{AppendError, ReadError};

/// The protocol's code for a refused append. Retriable codes are given only where the same bytes may succeed later.
pub fn append_code(error: &AppendError) -> ResponseError {
    match error {
        AppendError::Corrupt(_) => ResponseError::CorruptMessage,
        AppendError::Invalid(_) => ResponseError::InvalidRecord,
        AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
        AppendError::InvalidTimestamp(_) => ResponseError::InvalidTimestamp,
        AppendError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        AppendError::DuplicateSequence { .. } => ResponseError::DuplicateSequenceNumber,
        AppendError::FencedEpoch { .. } => ResponseError::InvalidProducerEpoch,
        AppendError::Storage(_) | AppendError::Stopped(_) => ResponseError::KafkaStorageError,
        AppendError::Deleted => ResponseError::UnknownTopicOrPartition,
    }
}

pub fn read_code(error: &ReadError) -> ResponseError {
    match error {
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::Corrupt { .. } => ResponseError::CorruptMessage,
        ReadError::Storage(_) => ResponseError::KafkaStorageError,
        ReadError::Deleted => ResponseError::UnknownTopicOrPartition,
    }
}

/// The protocol's name of an error code for metric labels; `None` for success.
pub fn code_name(code: i16) -> Option<&'static str> {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    // The crate's names are not to be had as static strings: each is made once. Codes come from the broker alone, so the
    // table cannot grow past the protocol's list.
    static NAMES: Mutex<BTreeMap<i16, &'static str>> = Mutex::new(BTreeMap::new());
    let error = ResponseError::try_from_code(code)?;
    Some(
        NAMES
            .lock()
            .entry(code)
            .or_insert_with(|| Box::leak(error.to_string().into_boxed_str())),
    )
}
