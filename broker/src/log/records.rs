//! Records inside a batch: decoding for plugins and coordinators, encoding of the batches the broker makes itself.
//!
//! A **record** is a row of varints and bytes behind the batch's header, often compressed as a whole. Layout: Kafka
//! protocol guide, "Record"; KIP-98. Numbers are zigzag varints; lengths of −1 stand for null.

use std::io;

use bytes::Bytes;

use super::AppendError;
use super::batch::{
    ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL, Batch, BatchHeader, Compression, HEADER_SIZE,
    checksum,
};
use super::compression::{compress, decompress};
use super::walk::{RecordPlace, Walk};
use crate::types::{Offset, TimestampMs};

/// Shortest record, and shortest header of a record.
const MIN_RECORD_BYTES: usize = 7;
const MIN_HEADER_BYTES: usize = 2;

/// One decoded record. Slices share the decompressed buffer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    pub offset_delta: i32,
    pub timestamp: TimestampMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// Name and value.
type Header = (Bytes, Option<Bytes>);

/// How far a batch is taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Bytes behind the header, decompressed.
    pub decompressed: usize,
    /// Bytes of memory: those, and what holds each record and each header. The shortest header has two bytes and is held by
    /// sixty-four.
    pub memory: usize,
    /// The setting behind both, for the message of a refusal.
    pub setting: &'static str,
}

/// What is left of the memory that a batch's records may take.
struct Room {
    left: usize,
    /// What did not fit.
    refused: Option<usize>,
}

impl Room {
    fn take(&mut self, count: usize, each: usize) -> Option<()> {
        match self.left.checked_sub(count.saturating_mul(each)) {
            Some(left) => {
                self.left = left;
                Some(())
            }
            None => {
                self.refused = Some(count);
                None
            }
        }
    }
}

/// Reads varints and slices off the front of a shared buffer.
struct Cursor {
    rest: Bytes,
}

impl Cursor {
    fn varint(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte has room for one bit.
            if index == 9 && *byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let _ = self.rest.split_to(index + 1);
                // Zigzag: the lowest bit is the sign.
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    fn slice(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.rest.len()).then(|| self.rest.split_to(length))
    }

    fn nullable(&mut self) -> Option<Option<Bytes>> {
        match self.varint()? {
            -1 => Some(None),
            length => Some(Some(self.slice(usize::try_from(length).ok()?)?)),
        }
    }

    /// The body of the next record.
    fn record(&mut self) -> Option<Cursor> {
        let length = self.length()?;
        self.slice(length).map(|rest| Cursor { rest })
    }

    fn headers(&mut self, room: &mut Room) -> Option<Vec<Header>> {
        let count = self.length()?;
        if count > self.rest.len() / MIN_HEADER_BYTES {
            return None;
        }
        room.take(count, size_of::<Header>())?;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let length = self.length()?;
            headers.push((self.slice(length)?, self.nullable()?));
        }
        Some(headers)
    }
}

/// Attributes, time and offset at the front of a record's body.
fn read_place(record: &mut Cursor, header: &BatchHeader) -> Option<(i32, TimestampMs)> {
    // The attributes of a record are reserved; nobody has given them a meaning.
    record.slice(1)?;
    let timestamp_delta = record.varint()?;
    let offset_delta = i32::try_from(record.varint()?).ok()?;
    let timestamp = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(timestamp_delta)
    };
    Some((offset_delta, timestamp))
}

/// The decompressed records of a batch, and how many its header promises.
fn open(batch: &Batch, max_decompressed: usize) -> Result<(Cursor, usize), AppendError> {
    let header = &batch.header;
    let compression = codec(header)?;
    if batch.bytes.len() < HEADER_SIZE {
        return Err(AppendError::Corrupt("the batch is cut short".into()));
    }
    let body = batch.bytes.slice(HEADER_SIZE..);
    // An empty batch has no body, compressed or not.
    let rest = if header.record_count == 0 && body.is_empty() {
        body
    } else {
        decompress(compression, &body, max_decompressed)?
    };
    let count = usize::try_from(header.record_count).unwrap_or(usize::MAX);
    if count > rest.len() / MIN_RECORD_BYTES {
        return Err(AppendError::Corrupt(format!(
            "{} records cannot fit {} bytes",
            header.record_count,
            rest.len()
        )));
    }
    Ok((Cursor { rest }, count))
}

/// The records of a batch, decompressed to at most `max_decompressed` bytes, with counts and lengths checked.
pub fn decode(batch: &Batch, max_decompressed: usize) -> Result<Vec<Record>, AppendError> {
    let (cursor, count) = open(batch, max_decompressed)?;
    let room = Room {
        left: usize::MAX,
        refused: None,
    };
    decode_all(batch, (cursor, count), room).map_err(|error| match error {
        DecodeError::Wrong(error) => error,
        DecodeError::NoRoom(what) => AppendError::Invalid(what),
    })
}

/// As `decode`, for a batch that anybody may have made: nothing is allocated for records and headers that the bounds have no
/// room for. Over them the batch is invalid, and the message names the setting.
pub fn decode_within(batch: &Batch, bounds: Bounds) -> Result<Vec<Record>, AppendError> {
    let Bounds {
        decompressed,
        memory,
        setting,
    } = bounds;
    let (cursor, count) = open(batch, decompressed).map_err(|error| match error {
        AppendError::Invalid(what) => AppendError::Invalid(format!("{what} ({setting})")),
        error => error,
    })?;
    let room = Room {
        left: memory.saturating_sub(cursor.rest.len()),
        refused: None,
    };
    decode_all(batch, (cursor, count), room).map_err(|error| match error {
        DecodeError::Wrong(error) => error,
        DecodeError::NoRoom(what) => AppendError::Invalid(format!(
            "{what}: taken apart, the batch would need more than {memory} bytes of memory ({setting})"
        )),
    })
}

enum DecodeError {
    Wrong(AppendError),
    NoRoom(String),
}

fn decode_all(
    batch: &Batch,
    (mut cursor, count): (Cursor, usize),
    mut room: Room,
) -> Result<Vec<Record>, DecodeError> {
    let malformed = |index: usize, what: &str| {
        let message = format!("record {index} of {count}: {what}");
        Err(DecodeError::Wrong(AppendError::Corrupt(message)))
    };
    if room.take(count, size_of::<Record>()).is_none() {
        return Err(DecodeError::NoRoom(format!("it has {count} records")));
    }
    let mut records = Vec::with_capacity(count);
    let mut last_delta = -1;
    for index in 0..count {
        let Some(record) = decode_record(&mut cursor, &batch.header, &mut room) else {
            return match room.refused {
                Some(headers) => Err(DecodeError::NoRoom(format!(
                    "record {index} of {count} has {headers} headers"
                ))),
                None => malformed(index, "lengths do not add up"),
            };
        };
        if record.offset_delta <= last_delta || record.offset_delta > batch.header.last_offset_delta
        {
            return malformed(index, "offset delta is out of order");
        }
        last_delta = record.offset_delta;
        records.push(record);
    }
    if !cursor.rest.is_empty() {
        return malformed(count, &format!("{} bytes are left over", cursor.rest.len()));
    }
    Ok(records)
}

fn decode_record(cursor: &mut Cursor, header: &BatchHeader, room: &mut Room) -> Option<Record> {
    let mut body = cursor.record()?;
    let (offset_delta, timestamp) = read_place(&mut body, header)?;
    let record = Record {
        offset_delta,
        timestamp,
        key: body.nullable()?,
        value: body.nullable()?,
        headers: body.headers(room)?,
    };
    body.rest.is_empty().then_some(record)
}

/// Offset and timestamp of the first record at or after `time` and at or after `from`; `None` when the batch has none.
/// Keys, values and headers are passed over, and no more than a piece of what comes out of the batch is in memory at a time.
pub fn offset_of_time(
    batch: &Batch,
    time: TimestampMs,
    from: Offset,
    max_decompressed: usize,
) -> Result<Option<(Offset, TimestampMs)>, AppendError> {
    let header = &batch.header;
    let compression = codec(header)?;
    let body = batch.bytes.slice(HEADER_SIZE.min(batch.bytes.len())..);
    let malformed = |error: io::Error| {
        AppendError::Corrupt(format!("the batch at {}: {error}", header.base_offset))
    };
    let mut walk = Walk::new(compression, &body, max_decompressed).map_err(malformed)?;
    for _ in 0..header.record_count {
        let RecordPlace {
            offset_delta,
            timestamp,
        } = walk.next(header).map_err(malformed)?;
        let offset = header.base_offset.saturating_add(i64::from(offset_delta));
        if timestamp >= time && offset >= from {
            return Ok(Some((offset, timestamp)));
        }
    }
    Ok(None)
}

fn codec(header: &BatchHeader) -> Result<Compression, AppendError> {
    header.compression().ok_or_else(|| {
        AppendError::Invalid(format!(
            "attributes {:#06x}: unknown codec",
            header.attributes
        ))
    })
}

/// What a batch made by the broker carries besides its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchTemplate {
    pub compression: Compression,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// `None`: the last record's delta. `Some`: kept as it was, so that dropped records leave a gap.
    pub last_offset_delta: Option<i32>,
    /// Opens or goes on with the producer's transaction. With a base sequence of −1 it is a coordinator's: not numbered.
    pub is_transactional: bool,
    /// For the broker's own records, which no consumer is shown.
    pub is_control: bool,
}

impl BatchTemplate {
    /// No producer, no compression.
    pub const PLAIN: Self = Self {
        compression: Compression::None,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        last_offset_delta: None,
        is_transactional: false,
        is_control: false,
    };

    /// The identity of the batch that `header` heads: same producer, sequence, transaction, compression and offset span.
    pub fn like(header: &BatchHeader) -> Self {
        Self {
            compression: header.compression().unwrap_or_default(),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            last_offset_delta: Some(header.last_offset_delta),
            is_transactional: header.is_transactional(),
            is_control: header.is_control(),
        }
    }

    fn attributes(&self, compression: Compression) -> i16 {
        let mut attributes = compression.code();
        if self.is_transactional {
            attributes |= ATTRIBUTE_TRANSACTIONAL;
        }
        if self.is_control {
            attributes |= ATTRIBUTE_CONTROL;
        }
        attributes
    }
}

/// Encodes records (deltas as given, ascending) into one checked batch. Without records the template's
/// `last_offset_delta` says what the batch spans: an empty batch, which keeps offsets and sequences true.
pub fn encode(template: BatchTemplate, records: &[Record]) -> Result<Batch, AppendError> {
    let invalid = |message: String| Err(AppendError::Invalid(message));
    let mut last_delta = -1;
    for record in records {
        if record.offset_delta <= last_delta {
            return invalid(format!(
                "offset delta {} is out of order",
                record.offset_delta
            ));
        }
        last_delta = record.offset_delta;
    }
    let last_offset_delta = template.last_offset_delta.unwrap_or(last_delta);
    if last_offset_delta < last_delta.max(0) {
        return invalid(format!(
            "{} records do not fit a last offset delta of {last_offset_delta}",
            records.len()
        ));
    }
    let base_timestamp = records.first().map_or(-1, |record| record.timestamp);
    let max_timestamp = records
        .iter()
        .map(|record| record.timestamp)
        .max()
        .unwrap_or(-1);
    let compression = if records.is_empty() {
        Compression::None
    } else {
        template.compression
    };
    let body = encode_body(records, base_timestamp, compression)?;
    let size = HEADER_SIZE + body.len();
    if i32::try_from(size).is_err() {
        return Err(AppendError::TooLarge {
            size,
            limit: i32::MAX as usize,
        });
    }
    let mut header = BatchHeader {
        base_offset: 0,
        size,
        leader_epoch: -1,
        crc: 0,
        attributes: template.attributes(compression),
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id: template.producer_id,
        producer_epoch: template.producer_epoch,
        base_sequence: template.base_sequence,
        record_count: i32::try_from(records.len()).unwrap_or(i32::MAX),
    };
    header.crc = checksum(&header.write(), &body);
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&header.write());
    bytes.extend_from_slice(&body);
    Ok(Batch {
        header,
        bytes: bytes.into(),
    })
}

/// The body of a batch that holds these records.
pub(super) fn encode_body(
    records: &[Record],
    base_timestamp: TimestampMs,
    compression: Compression,
) -> Result<Vec<u8>, AppendError> {
    let mut body = Vec::new();
    let mut scratch = Vec::new();
    for record in records {
        scratch.clear();
        write_record(&mut scratch, record, base_timestamp);
        put_length(&mut body, scratch.len());
        body.extend_from_slice(&scratch);
    }
    compress(compression, body)
}

fn write_record(out: &mut Vec<u8>, record: &Record, base_timestamp: TimestampMs) {
    out.push(0);
    put_varint(out, record.timestamp.wrapping_sub(base_timestamp));
    put_varint(out, i64::from(record.offset_delta));
    put_nullable(out, record.key.as_deref());
    put_nullable(out, record.value.as_deref());
    put_length(out, record.headers.len());
    for (name, value) in &record.headers {
        put_length(out, name.len());
        out.extend_from_slice(name);
        put_nullable(out, value.as_deref());
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        // The cast keeps the low seven bits, which is what is wanted.
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, i64::try_from(length).unwrap_or(i64::MAX));
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
