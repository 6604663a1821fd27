//! The sparse index of one segment: from offset or time to a position at or before it.
//!
//! An index is a hint, bounded at 512 entries however long the segment grows: when it is full every other entry
//! goes and the interval doubles. Readers walk batch headers from the position it gives and believe only those. It is
//! derivable: a missing or damaged index file is rebuilt from the segment.

use super::codec::{self, Reader};
use super::seal::HEADER_BLOCK;
use crate::types::{Offset, TimestampMs};

const MAGIC: &[u8; 8] = b"TGINDEX1";
const MAX_ENTRIES: usize = 512;
const ENTRY_BYTES: usize = 16;
/// More bytes than any index file has.
pub(super) const MAX_FILE_BYTES: usize = 128 + MAX_ENTRIES * ENTRY_BYTES;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    relative_offset: u32,
    position: u32,
    /// The largest timestamp of the batches before `position` in this segment.
    max_timestamp_before: TimestampMs,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Index {
    base_offset: Offset,
    /// Bytes between two entries at least.
    interval: u32,
    entries: Vec<Entry>,
}

impl Index {
    pub fn new(base_offset: Offset, interval: u32) -> Self {
        Self {
            base_offset,
            interval: interval.max(1),
            entries: Vec::new(),
        }
    }

    /// Notes the batch at `position` when the last entry lies far enough behind it.
    pub fn note(&mut self, offset: Offset, position: u64, max_timestamp_before: TimestampMs) {
        let last = self
            .entries
            .last()
            .map_or(HEADER_BLOCK, |entry| u64::from(entry.position));
        if position < last + u64::from(self.interval) {
            return;
        }
        let (Ok(relative_offset), Ok(position)) = (
            u32::try_from(offset.saturating_sub(self.base_offset)),
            u32::try_from(position),
        ) else {
            return;
        };
        if self.entries.len() == MAX_ENTRIES {
            let mut index = 0;
            self.entries.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.interval = self.interval.saturating_mul(2);
        }
        self.entries.push(Entry {
            relative_offset,
            position,
            max_timestamp_before,
        });
    }

    /// The position of a batch at or before `offset`.
    pub fn position_of(&self, offset: Offset) -> u64 {
        // A file may say any base offset: where it lies, any position will do.
        let relative = offset.saturating_sub(self.base_offset);
        self.before(|entry| i64::from(entry.relative_offset) <= relative)
    }

    /// A position before which no batch reaches `timestamp`.
    pub fn position_of_time(&self, timestamp: TimestampMs) -> u64 {
        self.before(|entry| entry.max_timestamp_before < timestamp)
    }

    fn before(&self, holds: impl Fn(&Entry) -> bool) -> u64 {
        let count = self.entries.partition_point(holds);
        count
            .checked_sub(1)
            .map_or(HEADER_BLOCK, |last| u64::from(self.entries[last].position))
    }

    /// Forgets everything at or after `position`.
    pub fn truncate(&mut self, position: u64) {
        self.entries
            .retain(|entry| u64::from(entry.position) < position);
    }

    /// The index file of a segment with this salt, which tells the content up to `covered`.
    pub fn encode(&self, salt: u64, covered: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.entries.len() * ENTRY_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&salt.to_be_bytes());
        bytes.extend_from_slice(&covered.to_be_bytes());
        bytes.extend_from_slice(&self.base_offset.to_be_bytes());
        bytes.extend_from_slice(&self.interval.to_be_bytes());
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.relative_offset.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
            bytes.extend_from_slice(&entry.max_timestamp_before.to_be_bytes());
        }
        codec::close(bytes)
    }

    /// Whether an index file is as it was written, for whatever segment.
    pub fn is_intact(bytes: &[u8]) -> bool {
        let salt = bytes.get(MAGIC.len()..).and_then(<[u8]>::first_chunk);
        salt.is_some_and(|salt| Self::decode(bytes, u64::from_be_bytes(*salt)).is_some())
    }

    /// Reads an index file back with the position up to which it tells. `None` when it is damaged or belongs to an
    /// earlier use of the segment file.
    pub fn decode(bytes: &[u8], salt: u64) -> Option<(Self, u64)> {
        let mut reader = Reader::new(codec::open(bytes, MAGIC)?);
        if reader.u64()? != salt {
            return None;
        }
        let covered = reader.u64()?;
        let base_offset = reader.i64()?;
        let interval = reader.u32()?.max(1);
        let count = reader.count(ENTRY_BYTES)?;
        let mut entries = Vec::with_capacity(count.min(MAX_ENTRIES));
        for _ in 0..count.min(MAX_ENTRIES) {
            entries.push(Entry {
                relative_offset: reader.u32()?,
                position: reader.u32()?,
                max_timestamp_before: reader.i64()?,
            });
        }
        let index = Self {
            base_offset,
            interval,
            entries,
        };
        reader.is_empty().then_some((index, covered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_bounded_and_finds_a_position_at_or_before_any_offset() {
        let mut index = Index::new(1_000, 100);
        for batch in 0..20_000_u32 {
            let position = HEADER_BLOCK + u64::from(batch) * 100;
            index.note(1_000 + i64::from(batch) * 3, position, i64::from(batch));
        }
        assert!(
            index.entries.len() <= MAX_ENTRIES,
            "{}",
            index.entries.len()
        );
        for offset in [1_000, 1_001, 30_000, 60_999, 1 << 40] {
            let position = index.position_of(offset);
            let batch = i64::try_from((position - HEADER_BLOCK) / 100).expect("small");
            assert!(1_000 + batch * 3 <= offset, "offset {offset}");
        }
        let far = index.position_of(60_999);
        assert!(far > HEADER_BLOCK + 1_900_000, "close to the end: {far}");
    }

    #[test]
    fn time_lookup_never_passes_a_batch_that_reaches_the_time() {
        let mut index = Index::new(0, 1);
        for (number, before) in [(1_u32, 10), (2, 10), (3, 50), (4, 70)] {
            index.note(i64::from(number), HEADER_BLOCK + u64::from(number), before);
        }
        for (time, position) in [(5, 0), (10, 0), (11, 2), (50, 2), (51, 3), (1_000, 4)] {
            assert_eq!(
                index.position_of_time(time),
                HEADER_BLOCK + position,
                "time {time}"
            );
        }
    }

    #[test]
    fn file_is_refused_when_a_byte_changed_or_the_salt_is_another() {
        let mut index = Index::new(7, 1);
        index.note(8, HEADER_BLOCK + 10, 5);
        index.note(9, HEADER_BLOCK + 20, 6);
        let bytes = index.encode(42, 5_000);
        assert_eq!(Index::decode(&bytes, 42), Some((index, 5_000)));
        assert_eq!(Index::decode(&bytes, 43), None);
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert_eq!(Index::decode(&damaged, 42), None, "byte {position}");
            assert_eq!(Index::decode(&bytes[..position], 42), None);
        }
    }
}
