//! Marks as a checkpoint holds them.

use std::collections::HashMap;

use super::{Indexes, Marks, Part, Producer};
use crate::log::codec::Reader;
use crate::log::producers::REMEMBERED;

/// Fewest bytes of a producer and of a batch.
const PRODUCER_BYTES: usize = 4 + 8 + 2 + 8 + 4;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8 + 8 + 4;
/// Stands for a batch whose indexes need not be known any more.
const SETTLED: u32 = u32::MAX;

impl Marks {
    /// Appends a snapshot to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut all: Vec<_> = self.by_lane.iter().collect();
        all.sort_unstable_by_key(|(key, _)| **key);
        put_count(out, all.len());
        for ((lane, producer_id), producer) in all {
            out.extend_from_slice(&lane.to_be_bytes());
            out.extend_from_slice(&producer_id.to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(&producer.last_used.to_be_bytes());
            put_count(out, producer.batches.len());
            for part in &producer.batches {
                encode_part(part, out);
            }
        }
    }

    /// Reads a snapshot back; `None` when it is malformed.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let count = reader.count(PRODUCER_BYTES)?;
        let mut by_lane = HashMap::with_capacity(count);
        for _ in 0..count {
            let key = (reader.i32()?, reader.i64()?);
            let (epoch, last_used) = (reader.i16()?, reader.i64()?);
            let batch_count = reader.count(BATCH_BYTES)?;
            if batch_count > REMEMBERED {
                return None;
            }
            let mut batches = Vec::with_capacity(batch_count);
            for _ in 0..batch_count {
                batches.push(decode_part(reader)?);
            }
            let producer = Producer {
                epoch,
                last_used,
                batches,
            };
            by_lane.insert(key, producer);
        }
        Some(Self {
            by_lane,
            doubtful: Vec::new(),
        })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn encode_part(part: &Part, out: &mut Vec<u8>) {
    out.extend_from_slice(&part.base_sequence.to_be_bytes());
    out.extend_from_slice(&part.record_count.to_be_bytes());
    out.extend_from_slice(&part.last_offset.to_be_bytes());
    let (base_offset, time) = part.in_place.unwrap_or((-1, None));
    out.extend_from_slice(&base_offset.to_be_bytes());
    out.extend_from_slice(&time.unwrap_or(-1).to_be_bytes());
    match &part.indexes {
        None => out.extend_from_slice(&SETTLED.to_be_bytes()),
        Some(indexes) => {
            let mut runs = Vec::new();
            indexes.encode(&mut runs);
            put_count(out, runs.len());
            out.extend_from_slice(&runs);
        }
    }
}

fn decode_part(reader: &mut Reader<'_>) -> Option<Part> {
    let base_sequence = reader.i32()?;
    let record_count = reader.u32()?;
    let last_offset = reader.i64()?;
    let (base_offset, time) = (reader.i64()?, reader.i64()?);
    let indexes = match reader.u32()? {
        SETTLED => None,
        length => {
            let runs = reader.slice(usize::try_from(length).ok()?)?;
            Some(Indexes::decode(runs, record_count)?)
        }
    };
    Some(Part {
        base_sequence,
        record_count,
        indexes,
        last_offset,
        in_place: (base_offset >= 0).then_some((base_offset, Some(time).filter(|time| *time >= 0))),
    })
}
