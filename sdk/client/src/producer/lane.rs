//! One partition's batches between the buffer and their acknowledgement: order and exactness across retries.
//!
//! Batches of a *lane* (a partition as its producer sees it) are numbered by their records: a batch's *sequence* is the
//! number of its first. The broker stores a batch only when its sequence follows the last one stored, answers a repeat
//! as it did at first, and refuses a gap. From that:
//!
//! - A batch that must be sent again waits until nothing of its lane is in flight; then all that wait go out again in
//!   their order, with their sequences. Nothing new goes out before them.
//! - A gap that is reported while an earlier batch is unsettled only says that the earlier one is missing: send again.
//! - A batch that the broker refuses for its content leaves a hole: later batches move down by its count.
//! - A gap that is reported when nothing earlier is unsettled means that the broker lost what it had: the lane's batches
//!   fail, and the producer asks for a new id (KIP-360, the part without transactions). So does a batch that ran out of
//!   time after it was sent, because nobody knows whether it was stored.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::delivery::{Failure, Outcome, Placed};
use crate::error::{Error, Result};
use crate::records::SealedBatch;

/// Batches of one lane in flight at once; brokers remember as many for telling repeats.
pub(crate) const MAX_IN_FLIGHT: usize = 5;

#[derive(Debug)]
pub(crate) struct LaneBatch {
    /// Rises with each batch of the producer.
    pub id: u64,
    pub sealed: SealedBatch,
    pub outcome: Arc<Outcome>,
    pub deadline: Instant,
    /// Bytes of the producer's buffer that it holds.
    pub reserved: usize,
    pub sequence: i32,
    /// The sequence that went out last, until a refusal of an earlier batch moved `sequence`.
    sent_sequence: Option<i32>,
}

impl LaneBatch {
    pub fn new(
        id: u64,
        sealed: SealedBatch,
        outcome: Arc<Outcome>,
        deadline: Instant,
        reserved: usize,
    ) -> Self {
        Self {
            id,
            sealed,
            outcome,
            deadline,
            reserved,
            sequence: -1,
            sent_sequence: None,
        }
    }
}

/// What the broker said of one batch.
#[derive(Debug)]
pub(crate) enum BatchAnswer {
    Stored(Placed),
    /// It may succeed later. Whether it was stored may be unknown.
    Again(Failure),
    /// Not stored, and never will be.
    Refused(Failure),
    /// Its sequence does not follow the last one stored, or the broker does not know the producer.
    SequenceGap(Failure),
}

/// What settling changed outside the lane.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub finished: Vec<(LaneBatch, Result<Placed, Failure>)>,
    /// The producer's id can no longer be used once all lanes are quiet.
    pub needs_new_id: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    next_sequence: i32,
    again: VecDeque<LaneBatch>,
    in_flight: VecDeque<LaneBatch>,
    again_at: Option<Instant>,
    /// Why the last batch had to go out again; a batch that runs out of time tells.
    last_trouble: Option<Error>,
    resending: bool,
}

impl Lane {
    /// Nothing unsettled.
    pub fn is_quiet(&self) -> bool {
        self.again.is_empty() && self.in_flight.is_empty()
    }

    /// Whether batches wait to be sent again; new ones must not overtake them.
    pub fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.in_flight.len() < MAX_IN_FLIGHT
    }

    /// Whether a batch can be sent again now.
    pub fn can_resend(&self, now: Instant) -> bool {
        let rested = self.again_at.is_none_or(|at| at <= now);
        self.has_again()
            && self.has_room()
            && (self.resending || (self.in_flight.is_empty() && rested))
    }

    /// When something is due without an answer: a batch to send again, or one out of time.
    pub fn due(&self) -> Option<Instant> {
        let first = self.again.front()?;
        let resend = self.again_at.filter(|_| self.in_flight.is_empty());
        Some(resend.map_or(first.deadline, |at| at.min(first.deadline)))
    }

    /// Takes a new batch in and gives it its sequence.
    pub fn send(&mut self, mut batch: LaneBatch) -> &LaneBatch {
        batch.sequence = self.next_sequence;
        self.next_sequence = advance(self.next_sequence, batch.sealed.count());
        self.launch(batch)
    }

    /// The next batch that is sent again; only after [`can_resend`](Self::can_resend).
    pub fn resend(&mut self) -> Option<&LaneBatch> {
        let batch = self.again.pop_front()?;
        self.resending = !self.again.is_empty();
        Some(self.launch(batch))
    }

    fn launch(&mut self, mut batch: LaneBatch) -> &LaneBatch {
        batch.sent_sequence = Some(batch.sequence);
        self.in_flight.push_back(batch);
        // A batch was just pushed.
        &self.in_flight[self.in_flight.len() - 1]
    }

    /// Takes the broker's word on a batch. Words on batches that are settled already are ignored.
    pub fn settle(&mut self, id: u64, answer: BatchAnswer, retry_at: Instant) -> Settled {
        let mut settled = Settled::default();
        let position = self.in_flight.iter().position(|batch| batch.id == id);
        let Some(batch) = position.and_then(|position| self.in_flight.remove(position)) else {
            return settled;
        };
        match answer {
            BatchAnswer::Stored(placed) => settled.finished.push((batch, Ok(placed))),
            BatchAnswer::Again(failure) => {
                self.last_trouble = Some(failure.error);
                self.put_again(batch, retry_at);
            }
            BatchAnswer::Refused(failure) => {
                self.close_hole(&batch);
                settled.finished.push((batch, Err(failure)));
            }
            BatchAnswer::SequenceGap(failure) => {
                let moved = batch.sent_sequence != Some(batch.sequence);
                let first = self.earliest().is_none_or(|earliest| earliest > batch.id);
                if first && !moved {
                    settled.finished.push((batch, Err(failure.clone())));
                    self.fail_all(&failure, &mut settled);
                } else {
                    self.put_again(batch, retry_at);
                }
            }
        }
        settled
    }

    /// Fails the lane when its oldest waiting batch is out of time.
    pub fn expire(
        &mut self,
        now: Instant,
        timeout: Duration,
        what: impl FnOnce() -> String,
    ) -> Settled {
        let mut settled = Settled::default();
        if self
            .again
            .front()
            .is_some_and(|batch| batch.deadline <= now)
        {
            let trouble = self.last_trouble.take();
            let trouble = trouble.map_or(String::new(), |error| format!(" (last: {error})"));
            let failure = Failure::from(Error::Timeout {
                what: format!("delivery to {}{trouble}", what()),
                after: timeout,
            });
            self.fail_all(&failure, &mut settled);
        }
        settled
    }

    /// Gives up on everything unsettled, as the producer ends.
    pub fn abandon(&mut self, failure: &Failure) -> Settled {
        let mut settled = Settled::default();
        self.fail_all(failure, &mut settled);
        settled
    }

    /// Starts over under a new producer id.
    pub fn restart(&mut self) {
        self.next_sequence = 0;
    }

    fn fail_all(&mut self, failure: &Failure, settled: &mut Settled) {
        settled.needs_new_id = true;
        let unsettled = self.again.drain(..).chain(self.in_flight.drain(..));
        settled
            .finished
            .extend(unsettled.map(|batch| (batch, Err(failure.clone()))));
        self.resending = false;
    }

    fn earliest(&self) -> Option<u64> {
        let fronts = [self.again.front(), self.in_flight.front()];
        fronts.into_iter().flatten().map(|batch| batch.id).min()
    }

    fn put_again(&mut self, batch: LaneBatch, retry_at: Instant) {
        let position = self.again.partition_point(|waiting| waiting.id < batch.id);
        self.again.insert(position, batch);
        self.again_at = Some(retry_at);
        self.resending = false;
    }

    fn close_hole(&mut self, refused: &LaneBatch) {
        let count = refused.sealed.count();
        for later in self.again.iter_mut().chain(&mut self.in_flight) {
            if later.id > refused.id {
                later.sequence = retreat(later.sequence, count);
            }
        }
        self.next_sequence = retreat(self.next_sequence, count);
    }
}

/// Sequences run from 0 to `i32::MAX` and begin again at 0.
fn advance(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (1 << 31)) as i32
}

fn retreat(sequence: i32, count: i32) -> i32 {
    (i64::from(sequence) - i64::from(count)).rem_euclid(1 << 31) as i32
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
