//! What is sent: batches made before the clock starts, and records that carry their time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use tidegate_client::Compression;
use tidegate_client::records::{BatchBuilder, ProducerStamp};

use crate::options::Values;

/// Different batches that are sent in turn, so that neither side works on one batch that never leaves its cache.
const DIFFERENT_BATCHES: u64 = 8;

/// As many have orders, whose numbers differ among those that are sent in turn.
const CUSTOMERS: u64 = 1000;

/// A batch ready for the wire.
#[derive(Clone, Debug)]
pub struct ReadyBatch {
    pub chunks: [Bytes; 2],
    pub records: u64,
}

/// Values that are sent in turn.
pub fn values(kind: Values, size: u32, seed: u64) -> Vec<Bytes> {
    match kind {
        Values::Random => vec![value(size, seed)],
        Values::Json => (0..CUSTOMERS)
            .map(|number| order(size, seed + number))
            .collect(),
    }
}

/// Batches of about `batch_bytes`, of records of `size` bytes.
pub fn batches(kind: Values, size: u32, batch_bytes: u64) -> Result<Vec<ReadyBatch>> {
    (0..DIFFERENT_BATCHES)
        .map(|seed| {
            let mut builder = BatchBuilder::new();
            let values = values(kind, size, seed);
            for value in values.iter().cycle() {
                let bytes = builder.bytes() as u64 + u64::from(size);
                if !builder.is_empty() && bytes >= batch_bytes {
                    break;
                }
                builder.push(1_700_000_000_000, None, Some(value), &[]);
            }
            ready(builder)
        })
        .collect()
}

/// A JSON object of `size` bytes, or of as many as its fields take.
fn order(size: u32, number: u64) -> Bytes {
    let customer = number % CUSTOMERS;
    let number = 10_000_000 + number;
    let mut text = format!(
        r#"{{"order":{number},"customer":{{"id":"customer-{customer:04}","since":2019}},"note":""#
    );
    let end = "\"}";
    let missing = (size as usize).saturating_sub(text.len() + end.len());
    text.extend(std::iter::repeat_n('n', missing));
    text.push_str(end);
    text.into()
}

/// A batch of one record that carries a time, in nanoseconds since the run began.
pub fn timed_batch(size: u32, nanoseconds: u64) -> Result<ReadyBatch> {
    let mut builder = BatchBuilder::new();
    builder.push(
        1_700_000_000_000,
        None,
        Some(&timed_value(size, nanoseconds)),
        &[],
    );
    ready(builder)
}

fn ready(builder: BatchBuilder) -> Result<ReadyBatch> {
    let records = builder.count() as u64;
    let sealed = builder.seal(Compression::None)?;
    Ok(ReadyBatch {
        chunks: sealed.stamped(ProducerStamp::NONE),
        records,
    })
}

/// Bytes that do not compress to nothing, the same for the same seed.
pub fn value(size: u32, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(size as usize).collect()
}

pub fn timed_value(size: u32, nanoseconds: u64) -> Bytes {
    let mut value = vec![b'x'; size.max(8) as usize];
    value[..8].copy_from_slice(&nanoseconds.to_be_bytes());
    value.into()
}

pub fn read_time(value: Option<&Bytes>) -> Result<u64> {
    time_of(value.map(|value| &value[..]))
}

/// As [`read_time`], of borrowed bytes.
pub fn time_of(value: Option<&[u8]>) -> Result<u64> {
    match value.and_then(<[u8]>::first_chunk::<8>) {
        Some(bytes) => Ok(u64::from_be_bytes(*bytes)),
        None => bail!("a record came back without its time"),
    }
}

pub fn nanoseconds_since(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A number that no other topic of this process has.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_client::records::Batches;

    #[test]
    fn batches_fill_their_size_and_hold_what_they_say() {
        for (size, batch_bytes) in [(100, 1_000_000), (1024, 1_000_000), (5_000, 1_000)] {
            let of = |values| batches(values, size, batch_bytes).unwrap();
            for ready in [of(Values::Random), of(Values::Json)].concat() {
                let bytes = Bytes::from(ready.chunks.concat());
                assert!(bytes.len() as u64 <= batch_bytes.max(u64::from(size) + 100));
                let batch = Batches::new(bytes).next().unwrap().unwrap();
                assert_eq!(batch.count() as u64, ready.records);
            }
        }
    }

    #[test]
    fn a_time_comes_back_as_it_went() {
        assert_eq!(read_time(Some(&timed_value(100, 12_345))).unwrap(), 12_345);
        assert!(read_time(None).is_err());
    }
}
