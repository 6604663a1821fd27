//! What binds bytes to the one file and place where they were written.
//!
//! A **segment header** is the first block of a segment file: whose partition it is, from which offset on, and a
//! **salt** drawn for this use of the file. The **seal** of a batch is a CRC-32C over the salt, the batch's position and
//! every byte of its header; on disk it stands in the header's leader epoch field, which Kafka's checksum leaves out. So
//! the bytes that an earlier use of the file left behind are never taken for records, wherever they lie, and
//! header bytes that Kafka's checksum does not cover are protected too. `FORMAT.md` gives the tables.

use super::batch::{BatchHeader, HEADER_SIZE, at};
use super::codec::Reader;
use crate::types::{Offset, PartitionId, TimestampMs, TopicId};

/// Bytes of the block in front of the first batch.
pub(super) const HEADER_BLOCK: u64 = 4096;
/// Bytes of the block that mean something; within one disk sector, so that they are written whole or not at all.
pub(super) const HEADER_BYTES: usize = 64;
/// The rest of the block.
pub(super) const HEADER_PADDING: [u8; HEADER_BLOCK as usize - HEADER_BYTES] =
    [0; HEADER_BLOCK as usize - HEADER_BYTES];
pub(super) const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"TGSEGMNT";
const _: () = assert!(HEADER_BYTES <= 512 && HEADER_BYTES as u64 <= HEADER_BLOCK);

/// The first block of a segment file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub leader_epoch: i32,
    pub base_offset: Offset,
    pub salt: u64,
    pub created: TimestampMs,
    pub partition: PartitionId,
}

/// Why a block is no segment header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum BadHeader {
    /// Zeros or nothing: the file was made and its header never became durable, so no batch in it was ever answered.
    Blank,
    Damaged(String),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.leader_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.base_offset.to_be_bytes());
        bytes.extend_from_slice(&self.salt.to_be_bytes());
        bytes.extend_from_slice(&self.created.to_be_bytes());
        bytes.extend_from_slice(self.partition.topic.0.as_bytes());
        bytes.extend_from_slice(&self.partition.index.to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        let mut block = [0; HEADER_BYTES];
        block.copy_from_slice(&bytes);
        block
    }

    /// Reads a header back; the caller compares partition and base offset with the file's place.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(BadHeader::Blank);
        }
        let damaged = |message: &str| BadHeader::Damaged(format!("segment header: {message}"));
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or_else(|| damaged("cut short"))?;
        let (covered, crc) = bytes.split_at(HEADER_BYTES - 4);
        if !covered.starts_with(&MAGIC) {
            return Err(damaged("magic is wrong"));
        }
        if crc32c::crc32c(covered).to_be_bytes() != crc {
            return Err(damaged("checksum is wrong"));
        }
        let mut reader = Reader::new(&covered[MAGIC.len()..]);
        let mut read = || -> Option<(u32, Self)> {
            let version = reader.u32()?;
            let header = Self {
                leader_epoch: reader.i32()?,
                base_offset: reader.i64()?,
                salt: reader.u64()?,
                created: reader.i64()?,
                partition: PartitionId {
                    topic: TopicId(uuid::Uuid::from_bytes(reader.array()?)),
                    index: reader.i32()?,
                },
            };
            Some((version, header))
        };
        match read() {
            Some((FORMAT_VERSION, header)) => Ok(header),
            Some((version, _)) => Err(damaged(&format!(
                "format version {version}; this broker reads {FORMAT_VERSION}"
            ))),
            None => Err(damaged("cut short")),
        }
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
