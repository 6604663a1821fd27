//! Builds record batches.

use bytes::{BufMut, Bytes, BytesMut};

use super::varint;
use super::{Compression, HEADER_BYTES, Header, LENGTH_OVERHEAD};

/// Collects the records of one batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    records: BytesMut,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// Who sent a batch, and which of its sender's it is; all -1 when the sender is not idempotent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerStamp {
    pub producer_id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
}

impl ProducerStamp {
    pub const NONE: Self = Self {
        producer_id: -1,
        epoch: -1,
        base_sequence: -1,
    };
}

/// A batch whose records are final. Its producer stamp is not: a batch that was never stored may be stamped anew.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    body: Bytes,
    attributes: i16,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// The most bytes that a record takes in a batch, without compression.
pub(crate) fn record_size_bound(
    key: Option<&Bytes>,
    value: Option<&Bytes>,
    headers: &[Header],
) -> usize {
    let headers: usize = headers
        .iter()
        .map(|header| 10 + header.name.len() + header.value.as_ref().map_or(0, Bytes::len))
        .sum();
    // Length 5, attributes 1, timestamp delta 10, offset delta 5, key and value length 5 each, header count 5.
    36 + key.map_or(0, Bytes::len) + value.map_or(0, Bytes::len) + headers
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes so far, header included, before compression.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Appends a record; its index in the batch is returned.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&Bytes>,
        value: Option<&Bytes>,
        headers: &[Header],
    ) -> i32 {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let index = self.count;
        let length = 1
            + varint::size(timestamp_delta)
            + varint::size(i64::from(index))
            + nullable_size(key.map(|key| &key[..]))
            + nullable_size(value.map(|value| &value[..]))
            + headers_size(headers);
        let out = &mut self.records;
        out.reserve(length + 5);
        varint::put(out, length as i64);
        out.put_i8(0);
        varint::put(out, timestamp_delta);
        varint::put(out, i64::from(index));
        put_nullable(out, key.map(|key| &key[..]));
        put_nullable(out, value.map(|value| &value[..]));
        varint::put(out, headers.len() as i64);
        for header in headers {
            put_nullable(out, Some(header.name.as_bytes()));
            put_nullable(out, header.value.as_deref());
        }
        self.count += 1;
        index
    }

    /// Compresses what was collected. A batch that compression would make larger stays uncompressed.
    pub fn seal(self, compression: Compression) -> std::io::Result<SealedBatch> {
        let plain = self.records.freeze();
        let compressed = compression.compress(plain.clone())?;
        let (body, code) = if compressed.len() < plain.len() {
            (compressed, compression.code())
        } else {
            (plain, Compression::None.code())
        };
        Ok(SealedBatch {
            body,
            attributes: i16::from(code),
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        })
    }
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => varint::size(-1),
        Some(bytes) => varint::size(bytes.len() as i64) + bytes.len(),
    }
}

fn headers_size(headers: &[Header]) -> usize {
    let each = headers.iter().map(|header| {
        nullable_size(Some(header.name.as_bytes())) + nullable_size(header.value.as_deref())
    });
    varint::size(headers.len() as i64) + each.sum::<usize>()
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}

impl SealedBatch {
    /// Records in the batch.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes on the wire.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// The batch on the wire, in two chunks: its header, and its records as they lie in memory.
    pub fn stamped(&self, stamp: ProducerStamp) -> [Bytes; 2] {
        let mut covered = BytesMut::with_capacity(HEADER_BYTES);
        covered.put_i16(self.attributes);
        covered.put_i32(self.count - 1);
        covered.put_i64(self.base_timestamp);
        covered.put_i64(self.max_timestamp);
        covered.put_i64(stamp.producer_id);
        covered.put_i16(stamp.epoch);
        covered.put_i32(stamp.base_sequence);
        covered.put_i32(self.count);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&covered), &self.body);
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        header.put_i64(0);
        header.put_i32((self.bytes() - LENGTH_OVERHEAD) as i32);
        header.put_i32(-1);
        header.put_i8(2);
        header.put_u32(crc);
        header.put_slice(&covered);
        [header.freeze(), self.body.clone()]
    }
}
