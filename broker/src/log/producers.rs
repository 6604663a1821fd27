//! What a partition remembers of idempotent producers: epochs, sequences and the last five batches of each.
//!
//! A **sequence** numbers a producer's records within one partition and epoch, from 0 to `i32::MAX` and round again.
//! Semantics as in Kafka's producer state (KIP-98, KIP-360): an unknown producer may begin anywhere, a new epoch begins
//! at 0, an older epoch is fenced, one of the last five batches sent again is answered as at first. Pure: time is an argument.

use std::collections::HashMap;

use super::batch::BatchHeader;
use super::codec::Reader;
use super::{AppendError, Appended};
use crate::env::defects::{self, Defect};
use crate::types::{Offset, TimestampMs};

/// Batches remembered of each producer: as many as a client may have in flight (KIP-98).
const REMEMBERED: usize = 5;
/// Sequences run modulo this.
const MODULUS: i64 = 1 << 31;
/// A sequence that lies behind by more than half the ring is ahead.
const HALF: i64 = MODULUS / 2;
/// Fewest bytes of a producer and of a batch in a snapshot.
const PRODUCER_BYTES: usize = 8 + 2 + 8 + 8 + 4;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8 + 8;

/// A batch that was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answered {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    last_offset: Offset,
    log_append_time: Option<TimestampMs>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: i16,
    /// How many sequences, up to the last one, are known to have come without a gap. Only what lies within may be
    /// called a duplicate: a client takes that answer for success.
    covered: i64,
    last_used: TimestampMs,
    /// Some of its batches were placed elsewhere: the log alone cannot tell its sequence, so no snapshot names it.
    placed: bool,
    /// The oldest first, never empty.
    batches: Vec<Answered>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Producers {
    by_id: HashMap<i64, Producer>,
}

/// The bounds on what is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub max_producers: usize,
    pub expiry_ms: i64,
}

/// The sequence that is `steps` after `sequence`.
fn after(sequence: i32, steps: i64) -> i32 {
    i32::try_from((i64::from(sequence) + steps).rem_euclid(MODULUS)).unwrap_or(0)
}

/// How far `to` lies after `from` on the ring.
fn distance(from: i32, to: i32) -> i64 {
    (i64::from(to) - i64::from(from)).rem_euclid(MODULUS)
}

fn last_sequence(header: &BatchHeader) -> i32 {
    after(header.base_sequence, i64::from(header.last_offset_delta))
}

impl Producer {
    fn expected(&self) -> i32 {
        self.batches
            .last()
            .map_or(0, |last| after(last.last_sequence, 1))
    }

    fn find(&self, header: &BatchHeader) -> Option<&Answered> {
        let last = last_sequence(header);
        self.batches.iter().find(|batch| {
            batch.base_sequence == header.base_sequence && batch.last_sequence == last
        })
    }

    /// Whether the whole batch came before the oldest that is remembered, for certain.
    fn is_older(&self, header: &BatchHeader) -> bool {
        let behind = distance(header.base_sequence, self.expected());
        let oldest = self
            .batches
            .first()
            .map_or(0, |oldest| distance(oldest.base_sequence, self.expected()));
        let length = i64::from(header.last_offset_delta) + 1;
        behind <= self.covered && behind < HALF && behind - length >= oldest
    }
}

impl Producers {
    /// What becomes of a batch: `None` when it is to be appended, the first answer when it had been appended before.
    pub fn check(
        &self,
        header: &BatchHeader,
        log_start_offset: Offset,
    ) -> Result<Option<Appended>, AppendError> {
        if !header.is_idempotent() || defects::has(Defect::SkipSequenceCheck) {
            return Ok(None);
        }
        let producer_id = header.producer_id;
        let Some(producer) = self.by_id.get(&producer_id) else {
            return Ok(None);
        };
        if header.producer_epoch < producer.epoch {
            return Err(AppendError::FencedEpoch {
                producer_id,
                current: producer.epoch,
                found: header.producer_epoch,
            });
        }
        let is_new_epoch = header.producer_epoch > producer.epoch;
        let expected = if is_new_epoch { 0 } else { producer.expected() };
        if header.base_sequence == expected {
            return Ok(None);
        }
        if !is_new_epoch {
            if let Some(batch) = producer.find(header) {
                return Ok(Some(Appended {
                    base_offset: batch.base_offset,
                    last_offset: batch.last_offset,
                    log_append_time: batch.log_append_time,
                    log_start_offset,
                    duplicate: true,
                }));
            }
            if producer.is_older(header) {
                return Err(AppendError::DuplicateSequence { producer_id });
            }
        }
        Err(AppendError::OutOfOrderSequence {
            producer_id,
            expected,
            found: header.base_sequence,
        })
    }

    /// Remembers a batch that `check` let through, or that recovery read back.
    pub fn record(
        &mut self,
        header: &BatchHeader,
        answer: &Appended,
        now: TimestampMs,
        limits: &Limits,
    ) {
        if !header.is_idempotent() {
            return;
        }
        if !self.by_id.contains_key(&header.producer_id) {
            self.make_room(now, limits);
        }
        let producer = self
            .by_id
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                epoch: header.producer_epoch,
                covered: 0,
                last_used: now,
                placed: false,
                batches: Vec::new(),
            });
        if header.producer_epoch < producer.epoch {
            return;
        }
        if header.producer_epoch > producer.epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.is_empty() || header.base_sequence != producer.expected() {
            producer.covered = 0;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.remove(0);
        }
        producer.last_used = now;
        producer.covered = (producer.covered + i64::from(header.last_offset_delta) + 1).min(HALF);
        producer.batches.push(Answered {
            base_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            base_offset: answer.base_offset,
            last_offset: answer.last_offset,
            log_append_time: answer.log_append_time,
        });
    }

    /// Remembers a batch that was placed elsewhere. True when what a snapshot may have said of this producer has
    /// become wrong by it.
    pub fn record_placed(
        &mut self,
        header: &BatchHeader,
        answer: &Appended,
        now: TimestampMs,
        limits: &Limits,
    ) -> bool {
        let known = self.by_id.get(&header.producer_id);
        let outdates = known.is_some_and(|producer| !producer.placed);
        self.record(header, answer, now, limits);
        if let Some(producer) = self.by_id.get_mut(&header.producer_id) {
            producer.placed = true;
        }
        outdates
    }

    /// Forgets producers that have been silent for too long.
    pub fn expire(&mut self, now: TimestampMs, limits: &Limits) {
        let oldest = now.saturating_sub(limits.expiry_ms);
        self.by_id
            .retain(|_, producer| producer.last_used >= oldest);
        if self.by_id.is_empty() {
            self.by_id = HashMap::new();
        }
    }

    /// Makes room for one more producer: first those that expired go, then the sixteenth part that was silent
    /// longest, so that the cost is shared by the many that may now come.
    fn make_room(&mut self, now: TimestampMs, limits: &Limits) {
        let bound = limits.max_producers.max(1);
        if self.by_id.len() < bound {
            return;
        }
        self.expire(now, limits);
        if self.by_id.len() < bound {
            return;
        }
        let mut ages: Vec<(TimestampMs, i64)> = self
            .by_id
            .iter()
            .map(|(id, producer)| (producer.last_used, *id))
            .collect();
        let excess = self.by_id.len() - bound + 1 + bound / 16;
        let count = excess.min(ages.len());
        ages.select_nth_unstable(count - 1);
        for (_, id) in &ages[..count] {
            self.by_id.remove(id);
        }
    }

    /// Appends a snapshot to `out`: everything but what was placed elsewhere.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut kept: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, producer)| !producer.placed)
            .collect();
        kept.sort_unstable_by_key(|(id, _)| **id);
        out.extend_from_slice(&u32::try_from(kept.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (id, producer) in kept {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(&producer.covered.to_be_bytes());
            out.extend_from_slice(&producer.last_used.to_be_bytes());
            let count = u32::try_from(producer.batches.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&count.to_be_bytes());
            for batch in &producer.batches {
                out.extend_from_slice(&batch.base_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.base_offset.to_be_bytes());
                out.extend_from_slice(&batch.last_offset.to_be_bytes());
                let time = batch.log_append_time.unwrap_or(-1);
                out.extend_from_slice(&time.to_be_bytes());
            }
        }
    }

    /// Reads a snapshot back; `None` when it is malformed.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let count = reader.count(PRODUCER_BYTES)?;
        let mut by_id = HashMap::with_capacity(count);
        for _ in 0..count {
            let id = reader.i64()?;
            let epoch = reader.i16()?;
            let covered = reader.i64()?;
            let last_used = reader.i64()?;
            let batch_count = reader.count(BATCH_BYTES)?;
            if batch_count == 0 || batch_count > REMEMBERED {
                return None;
            }
            let mut batches = Vec::with_capacity(batch_count);
            for _ in 0..batch_count {
                batches.push(Answered {
                    base_sequence: reader.i32()?,
                    last_sequence: reader.i32()?,
                    base_offset: reader.i64()?,
                    last_offset: reader.i64()?,
                    log_append_time: Some(reader.i64()?).filter(|time| *time >= 0),
                });
            }
            by_id.insert(
                id,
                Producer {
                    epoch,
                    covered,
                    last_used,
                    placed: false,
                    batches,
                },
            );
        }
        Some(Self { by_id })
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests;
