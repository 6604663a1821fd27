//! Record batches of format 2, written and read without the broker's code.
//!
//! Layout (KIP-98): base offset i64, length i32, leader epoch i32, magic i8, CRC-32C u32 of all that follows it, attributes
//! i16, last offset delta i32, first and last timestamp i64, producer id i64, producer epoch i16, base sequence i32, record
//! count i32, records.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Where the CRC stands; it covers everything from [`ATTRIBUTES_AT`] on.
pub const CRC_AT: usize = 17;
pub const ATTRIBUTES_AT: usize = 21;
pub const LAST_OFFSET_DELTA_AT: usize = 23;
pub const COUNT_AT: usize = 57;
/// Bits of the attributes.
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The time now, in ms since 1970: retention leaves what was just written alone.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}

/// Who sends a batch. The default is a producer that is not idempotent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
}

impl Default for Producer {
    fn default() -> Self {
        Self {
            id: -1,
            epoch: -1,
            base_sequence: -1,
        }
    }
}

/// One record as it was read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub offset: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
}

/// What a batch's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub base_offset: i64,
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub codec: u8,
    pub last_offset_delta: i32,
    pub count: i32,
    pub producer: Producer,
    /// Belongs to a transaction, or ends one (KIP-98).
    pub transactional: bool,
    /// Holds no data: its one record says how a transaction ended.
    pub control: bool,
}

impl Header {
    /// The offset behind the batch.
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }
}

/// A batch as it was read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub header: Header,
    pub records: Vec<Record>,
}

/// A batch of uncompressed records without keys, ready to be sent.
pub fn of_values(values: &[impl AsRef<[u8]>]) -> Bytes {
    let records: Vec<_> = values.iter().map(|value| (None, value.as_ref())).collect();
    build(&records, Producer::default())
}

/// A batch of uncompressed records, ready to be sent.
pub fn build(records: &[(Option<&[u8]>, &[u8])], producer: Producer) -> Bytes {
    let mut body = BytesMut::new();
    for (delta, (key, value)) in records.iter().enumerate() {
        put_record(&mut body, delta as i64, *key, value);
    }
    with_header(&body, 0, records.len() as i32, producer)
}

/// A batch that belongs to a transaction of its producer.
pub fn transactional(records: &[(Option<&[u8]>, &[u8])], producer: Producer) -> Bytes {
    let mut batch = build(records, producer).to_vec();
    batch[ATTRIBUTES_AT + 1] |= TRANSACTIONAL as u8;
    seal(&mut batch);
    batch.into()
}

/// A batch around `body`, which is already compressed by `codec` or made wrong on purpose; the checksum is right.
pub fn with_header(body: &[u8], codec: u8, count: i32, producer: Producer) -> Bytes {
    let mut batch = BytesMut::with_capacity(HEADER_BYTES + body.len());
    batch.put_i64(0);
    batch.put_i32((HEADER_BYTES - 12 + body.len()) as i32);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(i16::from(codec));
    batch.put_i32(count - 1);
    let time = now();
    batch.put_i64(time);
    batch.put_i64(time);
    batch.put_i64(producer.id);
    batch.put_i16(producer.epoch);
    batch.put_i32(producer.base_sequence);
    batch.put_i32(count);
    batch.put_slice(body);
    let mut batch = batch.to_vec();
    seal(&mut batch);
    batch.into()
}

/// Writes the right checksum into a batch that was changed.
pub fn seal(batch: &mut [u8]) {
    let checksum = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&checksum.to_be_bytes());
}

/// One record in its own encoding, for batches that are compressed by the caller.
pub fn put_record(out: &mut BytesMut, offset_delta: i64, key: Option<&[u8]>, value: &[u8]) {
    let mut record = BytesMut::with_capacity(value.len() + 24);
    record.put_i8(0);
    put_varint(&mut record, 0);
    put_varint(&mut record, offset_delta);
    match key {
        Some(key) => {
            put_varint(&mut record, key.len() as i64);
            record.put_slice(key);
        }
        None => put_varint(&mut record, -1),
    }
    put_varint(&mut record, value.len() as i64);
    record.put_slice(value);
    put_varint(&mut record, 0);
    put_varint(out, record.len() as i64);
    out.put_slice(&record);
}

/// Reads every whole batch of a Fetch answer, checks checksum, counts and offsets, and returns the headers.
///
/// # Errors
/// When anything is not as the format says. A cut batch at the end is no error: Fetch may cut there.
pub fn headers(records: &Bytes) -> Result<Vec<Header>> {
    let mut headers = Vec::new();
    walk(records, |header, _| {
        headers.push(header);
        Ok(())
    })?;
    Ok(headers)
}

/// Reads every record of a Fetch answer whose batches are not compressed.
///
/// # Errors
/// As [`headers`], and when a batch is compressed.
pub fn records(fetched: &Bytes) -> Result<Vec<Record>> {
    let batches = batches(fetched)?.into_iter();
    Ok(batches.flat_map(|batch| batch.records).collect())
}

/// Reads every batch of a Fetch answer whose batches are not compressed, control batches too.
///
/// # Errors
/// As [`records`].
pub fn batches(fetched: &Bytes) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    walk(fetched, |header, mut body| {
        ensure!(header.codec == 0, "a batch is compressed: {header:?}");
        let mut records = Vec::new();
        for _ in 0..header.count {
            records.push(take_record(&mut body, header.base_offset)?);
        }
        ensure!(body.is_empty(), "bytes left behind the last record");
        batches.push(Batch { header, records });
        Ok(())
    })?;
    Ok(batches)
}

fn walk(fetched: &Bytes, mut visit: impl FnMut(Header, Bytes) -> Result<()>) -> Result<()> {
    let mut rest = fetched.clone();
    while rest.len() >= 12 {
        let length = i32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]);
        ensure!(
            length as usize >= HEADER_BYTES - 12,
            "a batch of {length} bytes"
        );
        let whole = 12 + length as usize;
        if rest.len() < whole {
            break;
        }
        let batch = rest.split_to(whole);
        let header = read_header(&batch)?;
        visit(header, batch.slice(HEADER_BYTES..))?;
    }
    Ok(())
}

fn read_header(batch: &Bytes) -> Result<Header> {
    let mut fields = batch.clone();
    let base_offset = fields.get_i64();
    fields.advance(8);
    let magic = fields.get_i8();
    ensure!(magic == 2, "magic {magic} at offset {base_offset}");
    let stored = fields.get_u32();
    let computed = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    if stored != computed {
        bail!("checksum {stored:08x} at offset {base_offset}, computed {computed:08x}");
    }
    let attributes = fields.get_i16();
    let last_offset_delta = fields.get_i32();
    fields.advance(16);
    Ok(Header {
        base_offset,
        codec: (attributes & 7) as u8,
        last_offset_delta,
        producer: Producer {
            id: fields.get_i64(),
            epoch: fields.get_i16(),
            base_sequence: fields.get_i32(),
        },
        count: fields.get_i32(),
        transactional: attributes & TRANSACTIONAL != 0,
        control: attributes & CONTROL != 0,
    })
}

fn take_record(body: &mut Bytes, base_offset: i64) -> Result<Record> {
    let length = take_varint(body)?;
    ensure!(
        (0..=body.len() as i64).contains(&length),
        "a record of {length} bytes"
    );
    let mut record = body.split_to(length as usize);
    ensure!(!record.is_empty(), "an empty record");
    record.advance(1);
    let _timestamp_delta = take_varint(&mut record)?;
    let offset_delta = take_varint(&mut record)?;
    let key = take_bytes(&mut record)?;
    let value = take_bytes(&mut record)?;
    Ok(Record {
        offset: base_offset + offset_delta,
        key,
        value,
    })
}

fn take_bytes(record: &mut Bytes) -> Result<Option<Bytes>> {
    let length = take_varint(record)?;
    if length == -1 {
        return Ok(None);
    }
    ensure!(
        (0..=record.len() as i64).contains(&length),
        "a field of {length} bytes"
    );
    Ok(Some(record.split_to(length as usize)))
}

/// Kafka's signed variable-length integers: zigzag, seven bits a byte, lowest first.
pub fn put_varint(out: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}

fn take_varint(bytes: &mut Bytes) -> Result<i64> {
    let mut zigzag = 0u64;
    for shift in (0..64).step_by(7) {
        ensure!(bytes.has_remaining(), "an integer is cut");
        let byte = bytes.get_u8();
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
    }
    bail!("an integer has more than ten bytes")
}
