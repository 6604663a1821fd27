//! Reads record batches as they come in a fetch answer. Nothing here trusts its bytes.

use bytes::{Buf, Bytes};

use super::{CRC_FROM, Compression, HEADER_BYTES, Header, LENGTH_OVERHEAD, varint};

/// The most header fields that a record may carry before it is taken for damage.
const MAX_HEADERS: usize = 1 << 20;

/// What is wrong with a batch.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("batch at offset {offset}: {reason}")]
pub struct DecodeError {
    /// The batch's base offset, as far as it could be read.
    pub offset: i64,
    pub reason: String,
}

/// The fixed part of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BatchHeader {
    pub base_offset: i64,
    pub length: usize,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub count: i32,
}

/// One whole batch, its checksum verified, its records still compressed.
#[derive(Clone, Debug)]
pub struct Batch {
    pub(crate) header: BatchHeader,
    body: Bytes,
}

/// The batches of a fetch answer, one after the other. A batch that was cut off at the end is left out: the next fetch
/// brings it whole.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    verify: bool,
}

impl Batches {
    pub fn new(bytes: Bytes) -> Self {
        Self {
            rest: bytes,
            verify: true,
        }
    }

    /// Leaves out the CRC-32C check, for a reader that only counts.
    pub fn unverified(bytes: Bytes) -> Self {
        Self {
            rest: bytes,
            verify: false,
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = match BatchHeader::read(&self.rest)? {
            Ok(header) => header,
            Err(error) => {
                self.rest.clear();
                return Some(Err(error));
            }
        };
        if self.rest.len() < header.length {
            return None;
        }
        let bytes = self.rest.split_to(header.length);
        if self.verify && crc32c::crc32c(&bytes[CRC_FROM..]) != header.crc {
            self.rest.clear();
            return Some(Err(header.error("its checksum does not match its bytes")));
        }
        let body = bytes.slice(HEADER_BYTES..);
        Some(Ok(Batch { header, body }))
    }
}

impl BatchHeader {
    /// The header at the front; `None` when there are fewer bytes than a header has.
    pub fn read(bytes: &Bytes) -> Option<Result<Self, DecodeError>> {
        // The format's version stands at byte 16 in every version of it.
        let magic = *bytes.get(16)?;
        let mut fields = bytes.clone();
        let base_offset = fields.get_i64();
        let length = fields.get_i32();
        let error = |reason: String| {
            Some(Err(DecodeError {
                offset: base_offset,
                reason,
            }))
        };
        if magic != 2 {
            return error(format!(
                "format version {magic} is not read; brokers have written version 2 since 2017"
            ));
        }
        let length = match usize::try_from(length) {
            Ok(length) if length >= HEADER_BYTES - LENGTH_OVERHEAD => length + LENGTH_OVERHEAD,
            _ => return error(format!("its length {length} is impossible")),
        };
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        fields.advance(5);
        let header = Self {
            base_offset,
            length,
            crc: fields.get_u32(),
            attributes: fields.get_i16(),
            last_offset_delta: fields.get_i32(),
            base_timestamp: fields.get_i64(),
            max_timestamp: fields.get_i64(),
            producer_id: fields.get_i64(),
            count: {
                fields.advance(6);
                fields.get_i32()
            },
        };
        if header.count < 0 || header.last_offset_delta < 0 || base_offset < 0 {
            return error("a count or an offset is negative".into());
        }
        Some(Ok(header))
    }

    /// The offset behind the batch. Batches keep it when records were removed from them.
    pub fn next_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
            .saturating_add(1)
    }

    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    fn error(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError {
            offset: self.base_offset,
            reason: reason.into(),
        }
    }
}

/// One record of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodedRecord {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// The records of one batch, decoded one at a time.
#[derive(Debug)]
pub struct Records {
    header: BatchHeader,
    rest: Bytes,
    left: i32,
}

impl Batch {
    pub fn base_offset(&self) -> i64 {
        self.header.base_offset
    }

    /// The offset behind the batch.
    pub fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// Records in the batch; fewer than its offsets span when some were removed.
    pub fn count(&self) -> i32 {
        self.header.count
    }

    /// Decompresses the batch (at most `limit` bytes) and gives its records.
    pub fn records(&self, limit: usize) -> Result<Records, DecodeError> {
        let code = (self.header.attributes & 0x07) as u8;
        let compression = Compression::from_code(code)
            .ok_or_else(|| self.header.error(format!("compression {code} is unknown")))?;
        let rest = compression
            .decompress(self.body.clone(), limit)
            .map_err(|error| self.header.error(format!("{compression} data: {error}")))?;
        Ok(Records {
            header: self.header.clone(),
            rest,
            left: self.header.count,
        })
    }
}

impl Iterator for Records {
    type Item = Result<DecodedRecord, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let record = varint::take_nullable(&mut self.rest)
            .flatten()
            .and_then(|bytes| record(&self.header, bytes));
        match record {
            Some(record) => Some(Ok(record)),
            None => {
                let index = self.header.count - self.left - 1;
                self.left = 0;
                Some(Err(self
                    .header
                    .error(format!("record {index} is malformed"))))
            }
        }
    }
}

fn record(batch: &BatchHeader, mut bytes: Bytes) -> Option<DecodedRecord> {
    let bytes = &mut bytes;
    bytes.first()?;
    bytes.advance(1);
    let timestamp_delta = varint::take(bytes)?;
    let offset_delta =
        varint::take(bytes).filter(|delta| (0..=i64::from(i32::MAX)).contains(delta))?;
    let key = varint::take_nullable(bytes)?;
    let value = varint::take_nullable(bytes)?;
    let headers = usize::try_from(varint::take(bytes)?)
        .ok()
        // Each header takes two bytes at least: a count beyond that is damage, and must not size an allocation.
        .filter(|count| *count <= MAX_HEADERS && *count <= bytes.len() / 2)?;
    let headers = (0..headers).map(|_| header(bytes)).collect::<Option<_>>()?;
    let timestamp = if batch.is_log_append_time() {
        batch.max_timestamp
    } else {
        batch.base_timestamp.wrapping_add(timestamp_delta)
    };
    bytes.is_empty().then_some(DecodedRecord {
        offset: batch.base_offset.saturating_add(offset_delta),
        timestamp,
        key,
        value,
        headers,
    })
}

fn header(bytes: &mut Bytes) -> Option<Header> {
    let name = varint::take_nullable(bytes)??;
    Some(Header {
        name: String::from_utf8_lossy(&name).into_owned(),
        value: varint::take_nullable(bytes)?,
    })
}
