//! Records and the record batches (v2, magic 2) that carry them on the wire.
//!
//! A *batch* is a 61-byte header followed by its records, compressed or not. The CRC-32C in the header covers everything
//! behind it, the producer's id, epoch and sequence included. Source: Kafka documentation, "Record Batch"; KIP-98.

mod compression;
mod decode;
mod encode;
pub(crate) mod varint;

use std::sync::Arc;

use bytes::Bytes;

pub use compression::Compression;
pub(crate) use decode::BatchHeader;
pub use decode::{Batch, Batches, DecodeError, DecodedRecord, Records};
pub(crate) use encode::record_size_bound;
pub use encode::{BatchBuilder, ProducerStamp, SealedBatch};

/// The length of a batch's header.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes of a batch before the part that its length counts.
pub(crate) const LENGTH_OVERHEAD: usize = 12;
/// Where the part that the CRC covers begins.
pub(crate) const CRC_FROM: usize = 21;

/// A named value that travels with a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub name: String,
    pub value: Option<Bytes>,
}

impl Header {
    pub fn new(name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            value: Some(value.into()),
        }
    }
}

/// A record to be sent.
///
/// ```
/// # use tidegate_client::Record;
/// let record = Record::to("orders").key("customer-7").value(r#"{"total": 12}"#).header("source", "web");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub topic: Arc<str>,
    /// `None`: the partitioner chooses.
    pub partition: Option<i32>,
    pub key: Option<Bytes>,
    /// `None` is a tombstone: compaction deletes the key.
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
    /// Milliseconds since 1970. `None`: the time of `send`.
    pub timestamp: Option<i64>,
}

impl Record {
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }
}

/// A record as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970; -1 when the record has none.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

#[cfg(test)]
mod tests;
