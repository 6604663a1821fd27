//! What is written and read: the same bytes in every run.

use anyhow::{Result, bail};
use bytes::Bytes;
use tidegate::log::batch::{self, Batch};
use tidegate_client::Compression;
use tidegate_client::records::{BatchBuilder, ProducerStamp};

use crate::bed::NOW;

/// More than any batch here has.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// A batch on the wire, of values without keys, uncompressed and without a producer's numbers.
pub fn wire_batch(values: impl IntoIterator<Item = Bytes>, timestamp: i64) -> Result<Bytes> {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(timestamp, None, Some(&value), &[]);
    }
    let sealed = builder.seal(Compression::None)?;
    Ok(sealed.stamped(ProducerStamp::NONE).concat().into())
}

/// A batch of `count` values of `size` bytes.
pub fn batch_of(count: usize, size: usize) -> Result<Bytes> {
    wire_batch((0..count).map(|seed| value(size, seed as u64)), NOW)
}

/// A batch as the broker holds it when it was checked.
pub fn checked(bytes: Bytes) -> Result<Batch> {
    match <[Batch; 1]>::try_from(batch::parse(bytes, MAX_BATCH_BYTES)?) {
        Ok([batch]) => Ok(batch),
        Err(batches) => bail!("{} batches where one was made", batches.len()),
    }
}

/// Bytes that do not compress to nothing, the same for the same seed.
fn value(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}
