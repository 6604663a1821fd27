//! The record batch header (magic 2) and the checks on the way in.
//!
//! A **batch** is the unit of everything in the log: clients compress it, the broker stores it and gives it back as one
//! piece. Its first 61 bytes are the **header**; Kafka's checksum covers the header from `attributes` on and the body.
//! Layout: Kafka protocol guide, "Record Batch"; KIP-98.

use bytes::Bytes;

use super::AppendError;
use crate::types::{Offset, TimestampMs};

/// Bytes of a batch's header.
pub const HEADER_SIZE: usize = 61;
/// Bytes of the header that come before what `batch length` counts.
const LENGTH_PREFIX: usize = 12;
const MAGIC: u8 = 2;
/// Shortest record: length, attributes, two deltas, key length, value length, header count, each of one byte.
pub(super) const MIN_RECORD_SIZE: usize = 7;

/// Where each field of the header begins.
pub(super) mod at {
    pub const BASE_OFFSET: usize = 0;
    pub const LENGTH: usize = 8;
    pub const LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
}

pub(super) const ATTRIBUTE_COMPRESSION: i16 = 0b111;
pub(super) const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
pub(super) const ATTRIBUTE_CONTROL: i16 = 1 << 5;
/// The base timestamp is the time at which tombstones may go (KIP-534).
pub(super) const ATTRIBUTE_DELETE_HORIZON: i16 = 1 << 6;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// The code that a batch's attributes carry in their lowest three bits.
    pub fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    pub fn from_code(code: i16) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }
}

/// The fields of a batch header that the broker reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes of the whole batch with its header.
    pub size: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// One batch whose header, size and CRC-32C have been checked.
#[derive(Clone, Debug)]
pub struct Batch {
    pub header: BatchHeader,
    /// The batch as the client sent it.
    pub bytes: Bytes,
}

/// Reads a fixed number of bytes of a header; the position is one of [`at`]'s.
fn field<const N: usize>(header: &[u8; HEADER_SIZE], position: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[position..position + N]);
    field
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`. `None` when the bytes are too few for one, or its magic or its length
    /// cannot be those of a batch. Nothing else is checked.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_SIZE] = bytes.first_chunk()?;
        let length = i32::from_be_bytes(field(header, at::LENGTH));
        let size = usize::try_from(length)
            .ok()?
            .checked_add(LENGTH_PREFIX)
            .filter(|size| *size >= HEADER_SIZE)?;
        if header[at::MAGIC] != MAGIC {
            return None;
        }
        Some(Self {
            base_offset: i64::from_be_bytes(field(header, at::BASE_OFFSET)),
            size,
            leader_epoch: i32::from_be_bytes(field(header, at::LEADER_EPOCH)),
            crc: u32::from_be_bytes(field(header, at::CRC)),
            attributes: i16::from_be_bytes(field(header, at::ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(field(header, at::LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(header, at::BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(header, at::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(header, at::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(header, at::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(header, at::BASE_SEQUENCE)),
            record_count: i32::from_be_bytes(field(header, at::RECORD_COUNT)),
        })
    }

    /// The header's bytes, the reverse of [`BatchHeader::read`].
    pub fn write(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let length = i32::try_from(self.size.saturating_sub(LENGTH_PREFIX)).unwrap_or(i32::MAX);
        let mut put = |position: usize, field: &[u8]| {
            bytes[position..position + field.len()].copy_from_slice(field);
        };
        put(at::BASE_OFFSET, &self.base_offset.to_be_bytes());
        put(at::LENGTH, &length.to_be_bytes());
        put(at::LEADER_EPOCH, &self.leader_epoch.to_be_bytes());
        put(at::MAGIC, &[MAGIC]);
        put(at::CRC, &self.crc.to_be_bytes());
        put(at::ATTRIBUTES, &self.attributes.to_be_bytes());
        put(at::LAST_OFFSET_DELTA, &self.last_offset_delta.to_be_bytes());
        put(at::BASE_TIMESTAMP, &self.base_timestamp.to_be_bytes());
        put(at::MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(at::PRODUCER_ID, &self.producer_id.to_be_bytes());
        put(at::PRODUCER_EPOCH, &self.producer_epoch.to_be_bytes());
        put(at::BASE_SEQUENCE, &self.base_sequence.to_be_bytes());
        put(at::RECORD_COUNT, &self.record_count.to_be_bytes());
        bytes
    }

    /// `None` for a code that no version of the protocol has given out.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_code(self.attributes & ATTRIBUTE_COMPRESSION)
    }

    /// Every record's time is the batch's largest: the broker stamped it.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0
    }

    /// When tombstones in this batch, or its marker, may go: set when it was first compacted.
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        (self.attributes & ATTRIBUTE_DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// The offset of the last record, or of the last place that a dropped record left.
    pub fn last_offset(&self) -> Offset {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Part of a transaction of its producer (KIP-98).
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Written by the broker for brokers and clients: its records are never a consumer's.
    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// Numbered by an idempotent producer.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }
}

/// CRC-32C of a batch given in two parts, as the header's `crc` field holds it.
pub(super) fn checksum(header: &[u8; HEADER_SIZE], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[at::ATTRIBUTES..]), body)
}

/// Splits what a Produce request carries for a partition into checked batches. Zero copies.
pub fn parse(records: Bytes, max_message_bytes: usize) -> Result<Vec<Batch>, AppendError> {
    let batches = split(records, max_message_bytes)?;
    if batches.is_empty() {
        return Err(AppendError::Invalid("the request holds no batch".into()));
    }
    for batch in &batches {
        check_client_header(&batch.header)?;
    }
    Ok(batches)
}

/// Splits records that this log gave out (`Records::bytes`) into batches, with size and checksum checked. Unlike
/// [`parse`] it takes what only a broker may write: append times, gaps where records were dropped, empty batches.
pub fn split(records: Bytes, max_message_bytes: usize) -> Result<Vec<Batch>, AppendError> {
    let mut batches = Vec::with_capacity(1);
    let mut rest = records;
    while !rest.is_empty() {
        let header = check_frame(&rest, max_message_bytes)?;
        let bytes = rest.split_to(header.size);
        batches.push(Batch { header, bytes });
    }
    Ok(batches)
}

/// Checks size, magic and checksum of the batch at the front of `bytes`.
fn check_frame(bytes: &[u8], max_message_bytes: usize) -> Result<BatchHeader, AppendError> {
    let header = check_front(bytes, max_message_bytes)?;
    if let Some((head, body)) = bytes[..header.size].split_first_chunk::<HEADER_SIZE>() {
        check_crc(&header, checksum(head, body))?;
    }
    Ok(header)
}

/// Checks size and magic of the batch at the front of `bytes`, all of which is there.
pub(super) fn check_front(
    bytes: &[u8],
    max_message_bytes: usize,
) -> Result<BatchHeader, AppendError> {
    let corrupt = |message: String| Err(AppendError::Corrupt(message));
    match bytes.get(at::MAGIC) {
        Some(&MAGIC) => {}
        Some(magic @ 0..=1) => {
            return Err(AppendError::Invalid(format!(
                "message format {magic} is not supported: produce with Produce v3 or newer (librdkafka 0.11.4, Java client \
                 0.11, or any later client)"
            )));
        }
        Some(magic) => return corrupt(format!("magic is {magic}; this broker knows 2")),
        None => return corrupt(format!("{} bytes are too few for a batch", bytes.len())),
    }
    let Some(header) = BatchHeader::read(bytes) else {
        return corrupt(format!(
            "{} bytes with an impossible batch length",
            bytes.len()
        ));
    };
    if header.size > max_message_bytes {
        return Err(AppendError::TooLarge {
            size: header.size,
            limit: max_message_bytes,
        });
    }
    if bytes.len() < header.size {
        return corrupt(format!(
            "the batch says {} bytes and {} came",
            header.size,
            bytes.len()
        ));
    }
    Ok(header)
}

/// Holds the checksum that was found against the header's.
pub(super) fn check_crc(header: &BatchHeader, found: u32) -> Result<(), AppendError> {
    if found == header.crc {
        return Ok(());
    }
    Err(AppendError::Corrupt(format!(
        "CRC-32C is {found:08x}; the header says {:08x}",
        header.crc
    )))
}

/// What a client may write into a header. The record count of a compressed batch is believed here: who reads the records
/// checks it.
pub(super) fn check_client_header(header: &BatchHeader) -> Result<(), AppendError> {
    let invalid = |message: String| Err(AppendError::Invalid(message));
    let Some(compression) = header.compression() else {
        return invalid(format!(
            "compression code {} is unknown",
            header.attributes & ATTRIBUTE_COMPRESSION
        ));
    };
    if header.is_log_append_time() {
        return Err(AppendError::InvalidTimestamp(
            "a client may not mark a batch as stamped by the broker".into(),
        ));
    }
    if header.is_transactional() && !header.is_idempotent() {
        return invalid("a transactional batch needs a producer id".into());
    }
    if header.is_control() {
        return invalid("a client may not write control batches".into());
    }
    if header.attributes & !(ATTRIBUTE_COMPRESSION | ATTRIBUTE_TRANSACTIONAL) != 0 {
        return invalid(format!(
            "attributes {:#06x} have unknown bits",
            header.attributes
        ));
    }
    if header.base_offset != 0 {
        return invalid(format!(
            "base offset {}: a client counts from 0, and the broker gives the offsets",
            header.base_offset
        ));
    }
    let count = header.record_count;
    if count < 1 || header.last_offset_delta != count - 1 {
        return invalid(format!(
            "{count} records with a last offset delta of {}",
            header.last_offset_delta
        ));
    }
    let room = (header.size - HEADER_SIZE) / MIN_RECORD_SIZE;
    if compression == Compression::None && usize::try_from(count).is_ok_and(|count| count > room) {
        return invalid(format!("{count} records cannot fit {} bytes", header.size));
    }
    // −1 is Kafka's "no timestamp".
    if header.base_timestamp < -1 || header.max_timestamp < -1 {
        return Err(AppendError::InvalidTimestamp(format!(
            "base {} and maximum {} must not be below -1",
            header.base_timestamp, header.max_timestamp
        )));
    }
    if header.is_idempotent() && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return invalid(format!(
            "producer {} without an epoch ({}) or a sequence ({})",
            header.producer_id, header.producer_epoch, header.base_sequence
        ));
    }
    Ok(())
}
