//! What binds bytes to the one file and place where they were written.
//!
//! A **segment header** is the first block of a segment file: whose partition it is, from which offset on, and a
//! **salt** drawn for this use of the file. It stands there twice, because all that follows hangs on it. The **seal** of a batch is a CRC-32C over the salt, the batch's position and
//! every byte of its header; on disk it stands in the header's leader epoch field, which Kafka's checksum leaves out. So
//! the bytes that an earlier use of the file left behind are never taken for records, wherever they lie, and
//! header bytes that Kafka's checksum does not cover are protected too. `FORMAT.md` gives the tables.

use super::batch::{BatchHeader, HEADER_SIZE, at};
use super::codec::{self, Reader};
use super::segment::Extent;
use crate::types::{Offset, PartitionId, TimestampMs, TopicId};

/// Bytes of the block in front of the first batch.
pub(super) const HEADER_BLOCK: u64 = 4096;
const BLOCK: usize = HEADER_BLOCK as usize;
/// Where the second copy of the header stands: in another disk sector, whatever the sector's size below the block's.
const SECOND_COPY: usize = BLOCK / 2;
/// Bytes of one copy; within one disk sector, so that it is written whole or not at all.
pub(super) const COPY_BYTES: usize = 92;
/// Bytes of the only copy in format version 1.
const FIRST_VERSION_BYTES: usize = 64;
const FORMAT_VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"TGSEGMNT";
/// Bit 0 of the flags: compaction wrote the file.
const FLAG_COMPACTED: u32 = 1;
const _: () = assert!(COPY_BYTES <= 512 && SECOND_COPY.is_multiple_of(512));

/// What the first block of a segment file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub leader_epoch: i32,
    pub base_offset: Offset,
    pub salt: u64,
    pub created: TimestampMs,
    pub partition: PartitionId,
    /// What the whole file holds, when compaction wrote it: such a file is complete before it has its name. Its
    /// batches leave gaps between their offsets.
    pub compacted: Option<Extent>,
}

/// A segment header that could be read, and whether its whole block is as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HeaderBlock {
    pub header: SegmentHeader,
    /// The first byte of the block that has changed since it was written; nothing is lost by it.
    pub flaw: Option<usize>,
}

/// Why a block is no segment header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum BadHeader {
    /// Zeros or nothing: the file was made and its header never became durable, so no batch in it was ever answered.
    Blank,
    Damaged(String),
}

impl SegmentHeader {
    /// The whole block, with both copies.
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let copy = self.encode_copy();
        block[..COPY_BYTES].copy_from_slice(&copy);
        block[SECOND_COPY..SECOND_COPY + COPY_BYTES].copy_from_slice(&copy);
        block
    }

    fn encode_copy(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(COPY_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.leader_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.base_offset.to_be_bytes());
        bytes.extend_from_slice(&self.salt.to_be_bytes());
        bytes.extend_from_slice(&self.created.to_be_bytes());
        bytes.extend_from_slice(self.partition.topic.0.as_bytes());
        bytes.extend_from_slice(&self.partition.index.to_be_bytes());
        let flags = self.compacted.map_or(0, |_| FLAG_COMPACTED);
        bytes.extend_from_slice(&flags.to_be_bytes());
        let (end, next_offset, max_timestamp) = self.compacted.map_or((0, 0, 0), |extent| {
            (extent.end, extent.next_offset, extent.max_timestamp)
        });
        bytes.extend_from_slice(&end.to_be_bytes());
        bytes.extend_from_slice(&next_offset.to_be_bytes());
        bytes.extend_from_slice(&max_timestamp.to_be_bytes());
        codec::close(bytes)
    }

    /// Reads one copy, of any version, and says how long it is.
    fn decode_copy(bytes: &[u8]) -> Result<(Self, usize), String> {
        if !bytes.starts_with(&MAGIC) {
            return Err("magic is wrong".into());
        }
        let version = Reader::new(&bytes[MAGIC.len()..]).u32();
        let length = match version {
            Some(1) => FIRST_VERSION_BYTES,
            _ => COPY_BYTES,
        };
        let copy = bytes.get(..length).ok_or("cut short")?;
        let covered = codec::open(copy, &MAGIC).ok_or("checksum is wrong")?;
        match version {
            Some(1..=FORMAT_VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "format version {version}; this broker reads 1 to {FORMAT_VERSION}"
                ));
            }
            None => return Err("cut short".into()),
        }
        let header = Self::decode_fields(&mut Reader::new(covered)).ok_or("a field is invalid")?;
        Ok((header, length))
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Option<Self> {
        let version = reader.u32()?;
        let mut header = Self {
            leader_epoch: reader.i32()?,
            base_offset: reader.i64()?,
            salt: reader.u64()?,
            created: reader.i64()?,
            partition: PartitionId {
                topic: TopicId(uuid::Uuid::from_bytes(reader.array()?)),
                index: reader.i32()?,
            },
            compacted: None,
        };
        if version == 1 {
            return Some(header);
        }
        let flags = reader.u32()?;
        let extent = Extent {
            base_offset: header.base_offset,
            end: reader.u64()?,
            next_offset: reader.i64()?,
            max_timestamp: reader.i64()?,
        };
        let is_possible = extent.end >= HEADER_BLOCK && extent.next_offset >= extent.base_offset;
        header.compacted = match flags {
            0 => None,
            FLAG_COMPACTED if is_possible => Some(extent),
            _ => return None,
        };
        Some(header)
    }

    /// Reads a header back from the first block of a file (which may be shorter): from its first copy or else from its
    /// second. The caller compares partition and base offset with the file's place.
    pub fn decode(block: &[u8]) -> Result<HeaderBlock, BadHeader> {
        let block = &block[..block.len().min(BLOCK)];
        if block.iter().all(|byte| *byte == 0) {
            return Err(BadHeader::Blank);
        }
        let second = || Self::decode_copy(block.get(SECOND_COPY..).unwrap_or_default());
        let (header, length) = match Self::decode_copy(block) {
            Ok(found) => found,
            Err(message) => {
                second().map_err(|_| BadHeader::Damaged(format!("segment header: {message}")))?
            }
        };
        let mut written = header.encode();
        if length == FIRST_VERSION_BYTES {
            written.fill(0);
            written[..length].copy_from_slice(&block[..length]);
        }
        let flaw = block.iter().zip(&written).position(|(a, b)| a != b);
        Ok(HeaderBlock { header, flaw })
    }

    /// The block to write in place of one that is not as it was written although a copy is whole. `None` where there is
    /// nothing to mend or to mend it from: format version 1 has one copy.
    pub fn mended(block: &[u8]) -> Option<[u8; BLOCK]> {
        let found = Self::decode(block).ok()?;
        found.flaw?;
        let first = Self::decode_copy(block);
        let is_first_version = first.is_ok_and(|(_, length)| length == FIRST_VERSION_BYTES);
        (!is_first_version).then(|| found.header.encode())
    }
}

/// The seal of a batch header at a position: whatever stands in its leader epoch field is left out.
pub(super) fn seal(salt: u64, position: u64, header: &[u8; HEADER_SIZE]) -> [u8; 4] {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&salt.to_be_bytes());
    place[8..].copy_from_slice(&position.to_be_bytes());
    let before = crc32c::crc32c_append(crc32c::crc32c(&place), &header[..at::LEADER_EPOCH]);
    crc32c::crc32c_append(before, &header[at::MAGIC..]).to_be_bytes()
}

/// Writes the seal into a header that is about to be written at `position`.
pub(super) fn apply(salt: u64, position: u64, header: &mut [u8; HEADER_SIZE]) {
    let seal = seal(salt, position, header);
    header[at::LEADER_EPOCH..at::MAGIC].copy_from_slice(&seal);
}

/// The header at the front of `bytes` when its seal is that of this file and position.
pub(super) fn open(salt: u64, position: u64, bytes: &[u8]) -> Option<BatchHeader> {
    let header: &[u8; HEADER_SIZE] = bytes.first_chunk()?;
    if header[at::LEADER_EPOCH..at::MAGIC] != seal(salt, position, header) {
        return None;
    }
    let header = BatchHeader::read(bytes)?;
    (header.base_offset >= 0 && header.last_offset_delta >= 0).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(compacted: Option<Extent>) -> SegmentHeader {
        SegmentHeader {
            leader_epoch: 3,
            base_offset: 700,
            salt: 0x0123_4567_89ab_cdef,
            created: 1_700_000_000_000,
            partition: PartitionId {
                topic: TopicId(uuid::Uuid::from_bytes([9; 16])),
                index: 4,
            },
            compacted,
        }
    }

    fn compacted() -> SegmentHeader {
        header(Some(Extent {
            base_offset: 700,
            end: 1 << 20,
            next_offset: 9_000,
            max_timestamp: -1,
        }))
    }

    #[test]
    fn one_changed_byte_anywhere_in_the_block_loses_nothing_and_is_seen() {
        for header in [header(None), compacted()] {
            let block = header.encode();
            let whole = HeaderBlock { header, flaw: None };
            assert_eq!(SegmentHeader::decode(&block), Ok(whole));
            assert_eq!(SegmentHeader::mended(&block), None);
            for position in 0..BLOCK {
                let mut changed = block;
                changed[position] ^= 0x10;
                let flaw = Some(position);
                let expected = HeaderBlock { header, flaw };
                assert_eq!(SegmentHeader::decode(&changed), Ok(expected));
                assert_eq!(SegmentHeader::mended(&changed), Some(block));
            }
        }
    }

    #[test]
    fn both_copies_damaged_is_damage_and_zeros_are_blank() {
        let mut block = compacted().encode();
        block[20] ^= 1;
        block[SECOND_COPY + 30] ^= 1;
        let bad = SegmentHeader::decode(&block);
        assert!(matches!(bad, Err(BadHeader::Damaged(_))), "{bad:?}");
        for length in [0, 10, BLOCK] {
            let zeros = vec![0; length];
            assert_eq!(SegmentHeader::decode(&zeros), Err(BadHeader::Blank));
        }
    }

    #[test]
    fn a_header_of_version_1_is_read_and_its_padding_checked() {
        let mut copy = header(None).encode_copy();
        copy.truncate(FIRST_VERSION_BYTES - 4);
        copy[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&1_u32.to_be_bytes());
        let mut block = codec::close(copy);
        block.resize(BLOCK, 0);
        let (header, flaw) = (header(None), None);
        let whole = HeaderBlock { header, flaw };
        assert_eq!(SegmentHeader::decode(&block), Ok(whole));
        block[FIRST_VERSION_BYTES + 7] = 1;
        let flaw = Some(FIRST_VERSION_BYTES + 7);
        assert_eq!(
            SegmentHeader::decode(&block),
            Ok(HeaderBlock { header, flaw })
        );
        assert_eq!(SegmentHeader::mended(&block), None);
        block[40] ^= 1;
        assert!(SegmentHeader::decode(&block).is_err());
    }
}
