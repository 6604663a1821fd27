//! Fuzzing of the records of `__transaction_state`. Input: flags (1 byte; bit 0: forgotten, without a value), length of the
//! key (1), key, value.

use bytes::Bytes;

use super::{decode, key, value};
use crate::coordinator::codec::RecordError;

/// The target: a state that was read is the same after it was written, in today's version, and read again.
pub fn transaction_record(input: &[u8]) {
    let [flags, key_length, rest @ ..] = input else {
        return;
    };
    let (id, state) = rest.split_at(usize::from(*key_length).min(rest.len()));
    let state = (flags & 1 == 0).then(|| Bytes::copy_from_slice(state));
    let Some(read) = written_again(Bytes::copy_from_slice(id), state) else {
        return;
    };
    // What a state has no use for is lost the first time: partitions of an empty transaction.
    let (id, state) = &read;
    let written = state.as_ref().map(value).transpose();
    let written = written.expect("what was written before can be written");
    let again = written_again(key(id).expect("so can its id"), written);
    assert_eq!(again, Some(read));
}

type Read = (String, Option<super::Transaction>);

/// Reads, writes and reads again; `None` when it is no record that this version knows.
fn written_again(id: Bytes, state: Option<Bytes>) -> Option<Read> {
    let (id, state) = decode(id, state).ok()??;
    let written = state.as_ref().map(value).transpose();
    match (key(&id), written) {
        (Ok(id), Ok(state)) => {
            let read = decode(id, state).expect("what was written can be read");
            Some(read.expect("its kind is known"))
        }
        // Newer versions have longer lengths than the one that is written.
        (Err(RecordError::TooLong(..)), _) | (_, Err(RecordError::TooLong(..))) => None,
        (id, state) => panic!("{id:?} {state:?} cannot be written"),
    }
}
