//! What a partition remembers of idempotent producers: epochs, sequences, the last five batches and the open transaction.
//!
//! A **sequence** numbers a producer's records within one partition and epoch, from 0 to `i32::MAX` and round again.
//! Semantics as in Kafka's producer state (KIP-98, KIP-360, KIP-890): an unknown producer may begin anywhere, a new epoch
//! begins at 0, an older epoch is fenced, one of the last five batches sent again is answered as at first. A batch without
//! a sequence comes from a coordinator that writes into a transaction for its producer. A marker may carry a higher epoch, which
//! is then the producer's. While a transaction is open its producer is never forgotten. Pure: time is an argument.

use std::collections::HashMap;

use super::batch::BatchHeader;
use super::compact::LastBatch;
use super::marks::{Indexes, Part, Parts};
use super::transactions::Change;
use super::{AppendError, Appended, OpenTransaction, ProducerState, TransactionMarker};
use crate::env::defects::{self, Defect};
use crate::types::{Offset, TimestampMs};

mod snapshot;

/// Batches remembered of each producer: as many as a client may have in flight (KIP-98).
pub(super) const REMEMBERED: usize = 5;
/// Sequences run modulo this.
const MODULUS: i64 = 1 << 31;
/// A sequence that lies behind by more than half the ring is ahead.
pub(super) const HALF: i64 = MODULUS / 2;
/// A batch that was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answered {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    last_offset: Offset,
    log_append_time: Option<TimestampMs>,
}

/// A transaction without a marker yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Open {
    first_offset: Offset,
    since: TimestampMs,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: i16,
    /// Of the latest marker; −1 before the first.
    coordinator_epoch: i32,
    open: Option<Open>,
    /// How many sequences, up to the last one, are known to have come without a gap. Only what lies within may be
    /// called a duplicate: a client takes that answer for success.
    covered: i64,
    last_used: TimestampMs,
    /// The oldest first; empty when nothing was numbered in this epoch.
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
pub(super) fn after(sequence: i32, steps: i64) -> i32 {
    i32::try_from((i64::from(sequence) + steps).rem_euclid(MODULUS)).unwrap_or(0)
}

/// How far `to` lies after `from` on the ring.
pub(super) fn distance(from: i32, to: i32) -> i64 {
    (i64::from(to) - i64::from(from)).rem_euclid(MODULUS)
}

/// Of those that may be forgotten, as (last used, key), the ones to forget when `bound` is reached: the sixteenth part that
/// was silent longest, so that the cost is shared by the many that may now come.
pub(super) fn silent_longest<K: Copy + Ord>(
    mut ages: Vec<(TimestampMs, K)>,
    bound: usize,
) -> Vec<(TimestampMs, K)> {
    let count = ages.len().min(1 + bound / 16);
    if count > 0 {
        ages.select_nth_unstable(count - 1);
    }
    ages.truncate(count);
    ages
}

fn last_sequence(header: &BatchHeader) -> i32 {
    after(header.base_sequence, i64::from(header.last_offset_delta))
}

impl Producer {
    fn new(epoch: i16, now: TimestampMs) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            open: None,
            covered: 0,
            last_used: now,
            batches: Vec::new(),
        }
    }

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

    /// The batch as it was answered before, or `None` when it comes next.
    fn check_sequence(&self, header: &BatchHeader) -> Result<Option<&Answered>, AppendError> {
        let producer_id = header.producer_id;
        let is_new_epoch = header.producer_epoch > self.epoch;
        let expected = if is_new_epoch { 0 } else { self.expected() };
        if header.base_sequence == expected {
            return Ok(None);
        }
        if !is_new_epoch {
            if let Some(batch) = self.find(header) {
                return Ok(Some(batch));
            }
            if self.is_older(header) {
                return Err(AppendError::DuplicateSequence { producer_id });
            }
        }
        Err(AppendError::OutOfOrderSequence {
            producer_id,
            expected,
            found: header.base_sequence,
        })
    }

    fn check_epoch(&self, producer_id: i64, found: i16) -> Result<(), AppendError> {
        if found >= self.epoch {
            return Ok(());
        }
        Err(AppendError::FencedEpoch {
            producer_id,
            current: self.epoch,
            found,
        })
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.covered = 0;
            self.batches.clear();
        }
    }

    fn remember(&mut self, header: &BatchHeader, answer: &Appended) {
        if self.batches.is_empty() || header.base_sequence != self.expected() {
            self.covered = 0;
            self.batches.clear();
        }
        if self.batches.len() == REMEMBERED {
            self.batches.remove(0);
        }
        self.covered = (self.covered + i64::from(header.last_offset_delta) + 1).min(HALF);
        self.batches.push(Answered {
            base_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            base_offset: answer.base_offset,
            last_offset: answer.last_offset,
            log_append_time: answer.log_append_time,
        });
    }
}

impl Producers {
    /// What becomes of a batch: `None` when it is to be appended, the first answer when it had been appended before.
    pub fn check(
        &self,
        header: &BatchHeader,
        log_start_offset: Offset,
    ) -> Result<Option<Appended>, AppendError> {
        let producer_id = header.producer_id;
        if defects::has(Defect::SkipSequenceCheck) {
            return Ok(None);
        }
        let Some(producer) = self.by_id.get(&producer_id) else {
            return Ok(None);
        };
        producer.check_epoch(producer_id, header.producer_epoch)?;
        if header.base_sequence >= 0
            && let Some(batch) = producer.check_sequence(header)?
        {
            return Ok(Some(Appended {
                base_offset: batch.base_offset,
                last_offset: batch.last_offset,
                log_append_time: batch.log_append_time,
                log_start_offset,
                duplicate: true,
            }));
        }
        if producer.open.is_some() && !header.is_transactional() {
            return Err(AppendError::InvalidTransactionState { producer_id });
        }
        Ok(None)
    }

    /// The last batch of each producer: compaction keeps it.
    pub fn last_batches(&self) -> HashMap<i64, LastBatch> {
        let of = |producer: &Producer| LastBatch {
            producer_epoch: producer.epoch,
            last_offset: producer.batches.last().map(|batch| batch.last_offset),
        };
        let all = self.by_id.iter();
        all.map(|(id, one)| (*id, of(one))).collect()
    }

    /// Whether a marker may be written: by the coordinator in office, and not for an epoch that is over.
    pub fn check_marker(&self, marker: &TransactionMarker) -> Result<(), AppendError> {
        let producer_id = marker.producer_id;
        let Some(producer) = self.by_id.get(&producer_id) else {
            return Ok(());
        };
        producer.check_epoch(producer_id, marker.producer_epoch)?;
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(AppendError::FencedCoordinator {
                producer_id,
                current: producer.coordinator_epoch,
                found: marker.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Remembers a batch, no marker, that `check` let through, or that recovery read back.
    pub fn record(
        &mut self,
        header: &BatchHeader,
        answer: &Appended,
        now: TimestampMs,
        limits: &Limits,
    ) -> Option<Change> {
        if !header.is_idempotent() || header.is_control() {
            return None;
        }
        let producer = self.enter(header.producer_id, header.producer_epoch, now, limits)?;
        if header.base_sequence >= 0 {
            producer.remember(header, answer);
        }
        if !header.is_transactional() || producer.open.is_some() {
            return None;
        }
        let first_offset = answer.base_offset;
        producer.open = Some(Open {
            first_offset,
            since: now,
        });
        Some(Change::Began {
            producer_id: header.producer_id,
            first_offset,
        })
    }

    /// Remembers a marker at `offset` that `check_marker` let through, or that recovery read back. Without an open
    /// transaction it changes epochs alone.
    pub fn record_marker(
        &mut self,
        marker: &TransactionMarker,
        offset: Offset,
        now: TimestampMs,
        limits: &Limits,
    ) -> Option<Change> {
        let producer = self.enter(marker.producer_id, marker.producer_epoch, now, limits)?;
        producer.coordinator_epoch = producer.coordinator_epoch.max(marker.coordinator_epoch);
        let open = producer.open.take()?;
        Some(Change::Ended {
            producer_id: marker.producer_id,
            first_offset: open.first_offset,
            last_offset: offset,
            outcome: marker.outcome,
        })
    }

    /// The producer in this epoch; `None` when it is in a later one.
    fn enter(
        &mut self,
        producer_id: i64,
        epoch: i16,
        now: TimestampMs,
        limits: &Limits,
    ) -> Option<&mut Producer> {
        if !self.by_id.contains_key(&producer_id) {
            self.make_room(now, limits);
        }
        let producer = self
            .by_id
            .entry(producer_id)
            .or_insert_with(|| Producer::new(epoch, now));
        if epoch < producer.epoch {
            return None;
        }
        producer.enter_epoch(epoch);
        producer.last_used = now;
        Some(producer)
    }

    /// Forgets producers that have been silent for too long.
    pub fn expire(&mut self, now: TimestampMs, limits: &Limits) {
        let oldest = now.saturating_sub(limits.expiry_ms);
        self.by_id
            .retain(|_, producer| producer.last_used >= oldest || producer.open.is_some());
        if self.by_id.is_empty() {
            self.by_id = HashMap::new();
        }
    }

    /// Makes room for one more producer: first those that expired go.
    fn make_room(&mut self, now: TimestampMs, limits: &Limits) {
        let bound = limits.max_producers.max(1);
        if self.by_id.len() < bound {
            return;
        }
        self.expire(now, limits);
        if self.by_id.len() < bound {
            return;
        }
        let ages = self
            .by_id
            .iter()
            .filter(|(_, producer)| producer.open.is_none())
            .map(|(id, producer)| (producer.last_used, *id))
            .collect();
        for (_, id) in silent_longest(ages, bound) {
            self.by_id.remove(&id);
        }
    }

    /// The numbered batches of a producer, as parts of a lane's history.
    pub fn parts(&self, producer_id: i64) -> Option<Parts> {
        let producer = self.by_id.get(&producer_id)?;
        let part = |batch: &Answered| {
            let span = distance(batch.base_sequence, batch.last_sequence) + 1;
            let record_count = u32::try_from(span).unwrap_or(u32::MAX);
            Part {
                base_sequence: batch.base_sequence,
                record_count,
                indexes: Some(Indexes::below(record_count)),
                last_offset: batch.last_offset,
                in_place: Some((batch.base_offset, batch.log_append_time)),
            }
        };
        Some(Parts {
            producer_epoch: producer.epoch,
            batches: producer.batches.iter().map(part).collect(),
        })
    }

    /// Every producer, by id.
    pub fn states(&self) -> Vec<ProducerState> {
        let state = |(id, producer): (&i64, &Producer)| ProducerState {
            producer_id: *id,
            producer_epoch: producer.epoch,
            last_sequence: producer
                .batches
                .last()
                .map_or(-1, |last| last.last_sequence),
            last_timestamp: producer.last_used,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.open.map(|open| open.first_offset),
        };
        let mut states: Vec<_> = self.by_id.iter().map(state).collect();
        states.sort_unstable_by_key(|state| state.producer_id);
        states
    }

    /// Open transactions, the earliest first.
    pub fn open_transactions(&self) -> Vec<OpenTransaction> {
        let open = |(id, producer): (&i64, &Producer)| {
            producer.open.map(|open| OpenTransaction {
                producer_id: *id,
                producer_epoch: producer.epoch,
                first_offset: open.first_offset,
                since: open.since,
            })
        };
        let mut found: Vec<_> = self.by_id.iter().filter_map(open).collect();
        found.sort_unstable_by_key(|one| one.first_offset);
        found
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests;
