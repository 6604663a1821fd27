//! Requests and answers as bytes, and batches of records that carry their own identity.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tidegate::log::batch;
use tidegate::log::records::{self, BatchTemplate, Record};

/// Every record's value begins with its number.
const NUMBER_BYTES: usize = 8;
/// A number with this bit is a tombstone's, which carries the number in a header.
pub const TOMBSTONE: u64 = 1 << 63;
/// Where the part of a batch begins that its checksum covers.
const CHECKED_FROM: usize = 21;
/// Keys of all records.
pub const KEYS: u64 = 5;

/// A frame without its length prefix.
pub fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text("simulation")));
    let mut frame = BytesMut::new();
    header
        .encode(&mut frame, R::header_version(version))
        .and_then(|()| request.encode(&mut frame, version))
        .expect("the simulator asks in versions that exist");
    frame.freeze()
}

/// Reads an answer; what is wrong with it is the broker's fault.
pub fn answer<R: Request>(version: i16, mut bytes: Bytes) -> Result<R::Response, String> {
    let read = |bytes: &mut Bytes| {
        ResponseHeader::decode(bytes, R::Response::header_version(version))?;
        R::Response::decode(bytes, version)
    };
    read(&mut bytes).map_err(|error| format!("an answer that cannot be read: {error}"))
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// What a record with this number carries: the number, and bytes that follow from it.
fn value_of(number: u64) -> Bytes {
    let length = NUMBER_BYTES + usize::try_from(number.wrapping_mul(7919) % 300).unwrap_or(0);
    let mut value = number.to_be_bytes().to_vec();
    value.resize(length, number.to_le_bytes()[0]);
    value.into()
}

/// Which of the keys a record with this number has.
pub fn key_of(number: u64) -> u64 {
    (number & !TOMBSTONE) % KEYS
}

fn record(number: u64, offset_delta: i32, timestamp: i64) -> Record {
    let is_tombstone = number & TOMBSTONE != 0;
    let header = |number: u64| {
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        (Bytes::from_static(b"number"), Some(number))
    };
    Record {
        offset_delta,
        timestamp,
        key: Some(Bytes::from(format!("k{}", key_of(number)))),
        value: (!is_tombstone).then(|| value_of(number)),
        headers: is_tombstone.then(|| header(number)).into_iter().collect(),
    }
}

/// The number of a record, when all of it is as it was sent.
fn number_of(found: &Record) -> Option<u64> {
    let header = found.headers.first().and_then(|(_, value)| value.clone());
    let bytes = found.value.clone().or(header)?;
    let number = u64::from_be_bytes(*bytes.first_chunk::<NUMBER_BYTES>()?);
    let sent = record(number, found.offset_delta, found.timestamp);
    (*found == sent).then_some(number)
}

/// A batch with one record for each number.
pub fn batch(template: BatchTemplate, timestamp: i64, numbers: &[u64]) -> Bytes {
    let records: Vec<_> = numbers
        .iter()
        .zip(0..)
        .map(|(number, offset_delta)| record(*number, offset_delta, timestamp))
        .collect();
    records::encode(template, &records)
        .expect("the simulator makes legal batches")
        .bytes
}

/// A record that was read, or a marker between records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    pub offset: i64,
    pub content: Content,
    /// The producer in whose transaction it is.
    pub transaction: Option<i64>,
}

/// What is at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A record with this number.
    Record(u64),
    /// The end of its producer's transaction.
    Marker { is_commit: bool },
}

impl Read {
    /// The number, of a record.
    pub fn number(&self) -> Option<u64> {
        match self.content {
            Content::Record(number) => Some(number),
            Content::Marker { .. } => None,
        }
    }
}

/// What an answer holds, in its order.
///
/// # Errors
/// When a batch or a record is not what anybody sent.
pub fn read(bytes: Bytes) -> Result<Vec<Read>, String> {
    let mut found = Vec::new();
    let batches = batch::split(bytes, usize::MAX).map_err(|error| format!("served: {error}"))?;
    for batch in batches {
        let header = batch.header;
        if crc32c::crc32c(&batch.bytes[CHECKED_FROM..]) != header.crc {
            return Err(format!("served a damaged batch at {}", header.base_offset));
        }
        let transaction = header.is_transactional().then_some(header.producer_id);
        let records = records::decode(&batch, usize::MAX)
            .map_err(|error| format!("served a batch that cannot be decoded: {error}"))?;
        for record in records {
            let offset = header.base_offset + i64::from(record.offset_delta);
            let content = match header.is_control() {
                true => marker_of(&record.key.unwrap_or_default()),
                false => number_of(&record).map(Content::Record),
            };
            found.push(Read {
                offset,
                content: content
                    .ok_or_else(|| format!("the record at offset {offset} is nobody's"))?,
                transaction,
            });
        }
    }
    Ok(found)
}

/// As `read`, of what a client takes that asked from an offset on: a batch may begin in front of it.
pub fn read_from(bytes: Bytes, from: i64) -> Result<Vec<Read>, String> {
    let mut found = read(bytes)?;
    found.retain(|read| read.offset >= from);
    Ok(found)
}

/// The offset after the last batch, of which nothing may be left.
pub fn next_offset(bytes: &Bytes) -> Option<i64> {
    let batches = batch::split(bytes.clone(), usize::MAX).ok()?;
    Some(batches.last()?.header.last_offset() + 1)
}

/// The marker that a control record's key tells of: version 0, then 0 for an abort and 1 for a commit.
fn marker_of(key: &Bytes) -> Option<Content> {
    match key[..] {
        [0, 0, 0, kind @ (0 | 1)] => Some(Content::Marker {
            is_commit: kind == 1,
        }),
        _ => None,
    }
}
