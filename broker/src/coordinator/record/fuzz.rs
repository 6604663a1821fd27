//! Fuzzing of the records of `__consumer_offsets`. Input: flags (1 byte; bit 0: a tombstone), length of the key (1), key,
//! value.

use bytes::Bytes;

use super::{Entry, RecordError, decode, group_key, group_value, offset_key, offset_value};

/// The target: an entry that was read is the same after it was written, in today's version, and read again.
pub fn offsets_record(input: &[u8]) {
    let [flags, key_length, rest @ ..] = input else {
        return;
    };
    let (key, value) = rest.split_at(usize::from(*key_length).min(rest.len()));
    let value = (flags & 1 == 0).then(|| Bytes::copy_from_slice(value));
    let Ok(Some(entry)) = decode(Bytes::copy_from_slice(key), value) else {
        return;
    };
    let (key, value) = match encode(&entry) {
        Ok(written) => written,
        // Newer versions have longer lengths than the one that is written.
        Err(RecordError::TooLong(..)) => return,
        Err(error) => panic!("{entry:?} cannot be written: {error}"),
    };
    assert_eq!(decode(key, value), Ok(Some(as_written(entry))));
}

fn encode(entry: &Entry) -> Result<(Bytes, Option<Bytes>), RecordError> {
    Ok(match entry {
        Entry::Offset {
            group,
            topic,
            partition,
            value,
        } => (
            offset_key(group, topic, *partition)?,
            value.as_ref().map(offset_value).transpose()?,
        ),
        Entry::Group { group, value } => (
            group_key(group)?,
            value.as_ref().map(group_value).transpose()?,
        ),
    })
}

/// Value version 3 has no place for an explicit expiry.
fn as_written(mut entry: Entry) -> Entry {
    if let Entry::Offset {
        value: Some(committed),
        ..
    } = &mut entry
    {
        committed.expires_ms = None;
    }
    entry
}
