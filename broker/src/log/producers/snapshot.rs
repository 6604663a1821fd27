//! Producers as a checkpoint holds them.

use std::collections::HashMap;

use super::{Answered, Open, Producer, Producers, REMEMBERED};
use crate::log::codec::Reader;

/// Fewest bytes of a producer and of a batch.
const PRODUCER_BYTES: usize = 8 + 2 + 4 + 8 + 8 + 8 + 8 + 4;
const PRODUCER_BYTES_1: usize = 8 + 2 + 8 + 8 + 4;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8 + 8;

impl Producers {
    /// Appends a snapshot to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut kept: Vec<_> = self.by_id.iter().collect();
        kept.sort_unstable_by_key(|(id, _)| **id);
        out.extend_from_slice(&u32::try_from(kept.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (id, producer) in kept {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            let (first_offset, since) = producer
                .open
                .map_or((-1, -1), |open| (open.first_offset, open.since));
            out.extend_from_slice(&first_offset.to_be_bytes());
            out.extend_from_slice(&since.to_be_bytes());
            out.extend_from_slice(&producer.covered.to_be_bytes());
            out.extend_from_slice(&producer.last_used.to_be_bytes());
            encode_batches(&producer.batches, out);
        }
    }

    /// Reads a snapshot back; `None` when it is malformed.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Self::decode_each(reader, PRODUCER_BYTES, |reader| {
            let epoch = reader.i16()?;
            let coordinator_epoch = reader.i32()?;
            let (first_offset, since) = (reader.i64()?, reader.i64()?);
            let open = (first_offset >= 0).then_some(Open {
                first_offset,
                since,
            });
            Some(Producer {
                coordinator_epoch,
                open,
                covered: reader.i64()?,
                last_used: reader.i64()?,
                batches: decode_batches(reader)?,
                ..Producer::new(epoch, 0)
            })
        })
    }

    /// As `decode`, of a checkpoint of format 1: without transactions.
    pub fn decode_1(reader: &mut Reader<'_>) -> Option<Self> {
        Self::decode_each(reader, PRODUCER_BYTES_1, |reader| {
            let epoch = reader.i16()?;
            Some(Producer {
                covered: reader.i64()?,
                last_used: reader.i64()?,
                batches: decode_batches(reader)?,
                ..Producer::new(epoch, 0)
            })
        })
    }

    fn decode_each(
        reader: &mut Reader<'_>,
        least_bytes: usize,
        decode: impl Fn(&mut Reader<'_>) -> Option<Producer>,
    ) -> Option<Self> {
        let count = reader.count(least_bytes)?;
        let mut by_id = HashMap::with_capacity(count);
        for _ in 0..count {
            let id = reader.i64()?;
            by_id.insert(id, decode(reader)?);
        }
        Some(Self { by_id })
    }
}

fn encode_batches(batches: &[Answered], out: &mut Vec<u8>) {
    let count = u32::try_from(batches.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for batch in batches {
        out.extend_from_slice(&batch.base_sequence.to_be_bytes());
        out.extend_from_slice(&batch.last_sequence.to_be_bytes());
        out.extend_from_slice(&batch.base_offset.to_be_bytes());
        out.extend_from_slice(&batch.last_offset.to_be_bytes());
        let time = batch.log_append_time.unwrap_or(-1);
        out.extend_from_slice(&time.to_be_bytes());
    }
}

fn decode_batches(reader: &mut Reader<'_>) -> Option<Vec<Answered>> {
    let count = reader.count(BATCH_BYTES)?;
    if count > REMEMBERED {
        return None;
    }
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        batches.push(Answered {
            base_sequence: reader.i32()?,
            last_sequence: reader.i32()?,
            base_offset: reader.i64()?,
            last_offset: reader.i64()?,
            log_append_time: Some(reader.i64()?).filter(|time| *time >= 0),
        });
    }
    Some(batches)
}
