//! What a consumer reads and how far it is: shared between the application's side, which takes records, and the
//! fetching task, which brings them.
//!
//! A partition's *position* is the offset of the next record that the application gets; its *fetch offset* lies ahead of
//! that by what is queued. A *term* is counted up whenever the position is set from outside (assigned, sought): answers
//! to requests of an earlier term are dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Error;
use crate::net::transport::lock;

pub(crate) type PartitionKey = (Arc<str>, i32);

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    /// The oldest record there is.
    Earliest,
    /// Behind the newest record: what comes from now on.
    Latest,
    Offset(i64),
    /// The first record with this time or a later one (milliseconds since 1970).
    Timestamp(i64),
}

impl StartAt {
    /// How ListOffsets asks for it; an offset needs no asking.
    pub(crate) fn query(self) -> Option<i64> {
        match self {
            Self::Latest => Some(-1),
            Self::Earliest => Some(-2),
            Self::Timestamp(milliseconds) => Some(milliseconds),
            Self::Offset(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub term: u64,
    pub fetch_from: StartAt,
    /// `None` until `fetch_from` was turned into an offset.
    pub position: Option<i64>,
    /// A request for it is in flight.
    pub asked: bool,
    /// Not asked for before.
    pub rest_until: Option<Instant>,
}

/// What one fetch brought of one partition.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub key: PartitionKey,
    pub term: u64,
    pub bytes: Bytes,
    /// Transactions that were given up: producer and first offset, by offset.
    pub aborted: Vec<(i64, i64)>,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<PartitionKey, Partition>,
    queue: VecDeque<Fetched>,
    queued_bytes: usize,
    errors: VecDeque<Error>,
    terms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Partitions {
    state: Mutex<State>,
    /// The application's side has something new.
    pub ready: Notify,
    /// The fetching side has something new.
    pub wanted: Notify,
}

impl Partitions {
    /// Replaces everything that is read.
    pub fn assign(&self, partitions: impl IntoIterator<Item = (PartitionKey, StartAt)>) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.partitions.clear();
        state.queue.clear();
        state.queued_bytes = 0;
        for (key, start) in partitions {
            state.terms += 1;
            state
                .partitions
                .insert(key, Partition::new(state.terms, start));
        }
        self.wanted.notify_one();
    }

    /// Sets a position; false when the partition is not read here.
    pub fn seek(&self, key: &PartitionKey, start: StartAt) -> bool {
        self.restart(key, start, None)
    }

    /// Sets a position, and fetches from there after a rest.
    pub fn restart(&self, key: &PartitionKey, start: StartAt, rest_until: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let Some(partition) = state.partitions.get_mut(key) else {
            return false;
        };
        state.terms += 1;
        *partition = Partition {
            rest_until,
            ..Partition::new(state.terms, start)
        };
        state.queue.retain(|fetched| fetched.key != *key);
        state.queued_bytes = state.queue.iter().map(|fetched| fetched.bytes.len()).sum();
        self.wanted.notify_one();
        true
    }

    pub fn keys(&self) -> Vec<PartitionKey> {
        lock(&self.state).partitions.keys().cloned().collect()
    }

    /// Positions that are known.
    pub fn positions(&self) -> BTreeMap<PartitionKey, i64> {
        let state = lock(&self.state);
        let known = state.partitions.iter();
        known
            .filter_map(|(key, partition)| Some((key.clone(), partition.position?)))
            .collect()
    }

    /// The position, while the term lasts.
    pub fn position_in_term(&self, key: &PartitionKey, term: u64) -> Option<i64> {
        let state = lock(&self.state);
        let partition = state.partitions.get(key)?;
        partition.position.filter(|_| partition.term == term)
    }

    /// Moves the position on; false when the term is over.
    pub fn advance(&self, key: &PartitionKey, term: u64, position: i64) -> bool {
        let mut state = lock(&self.state);
        match state.partitions.get_mut(key) {
            Some(partition) if partition.term == term => {
                partition.position =
                    Some(partition.position.map_or(position, |old| old.max(position)));
                true
            }
            _ => false,
        }
    }

    /// The next thing fetched, oldest first.
    pub fn take(&self) -> Option<Fetched> {
        let mut state = lock(&self.state);
        let fetched = state.queue.pop_front()?;
        state.queued_bytes -= fetched.bytes.len();
        self.wanted.notify_one();
        Some(fetched)
    }

    pub fn take_error(&self) -> Option<Error> {
        lock(&self.state).errors.pop_front()
    }

    pub fn report(&self, error: Error) {
        let mut state = lock(&self.state);
        // The application gets to hear of trouble; it need not hear of the same trouble without end.
        if state.errors.len() < 16 {
            state.errors.push_back(error);
        }
        self.ready.notify_one();
    }

    /// Partitions that may be asked for now, and when the next rest ends. None while `queue_limit` bytes are queued.
    pub fn to_ask(
        &self,
        now: Instant,
        queue_limit: usize,
    ) -> (Vec<(PartitionKey, Partition)>, Option<Instant>) {
        let state = lock(&self.state);
        if state.queued_bytes >= queue_limit {
            return (Vec::new(), None);
        }
        let idle = state
            .partitions
            .iter()
            .filter(|(_, partition)| !partition.asked);
        let (ready, resting): (Vec<_>, Vec<_>) =
            idle.partition(|(_, partition)| partition.rest_until.is_none_or(|until| until <= now));
        let next = resting
            .iter()
            .filter_map(|(_, partition)| partition.rest_until)
            .min();
        let ready = ready
            .into_iter()
            .map(|(key, partition)| (key.clone(), partition.clone()));
        (ready.collect(), next)
    }

    pub fn asked(&self, key: &PartitionKey, term: u64) {
        self.in_term(key, term, |partition| partition.asked = true);
    }

    /// A request failed or brought nothing to keep: ask again, after a rest.
    pub fn ask_again(&self, key: &PartitionKey, term: u64, rest_until: Option<Instant>) {
        self.in_term(key, term, |partition| {
            partition.asked = false;
            partition.rest_until = rest_until;
        });
    }

    /// The offset behind Earliest, Latest or a time is known.
    pub fn resolved(&self, key: &PartitionKey, term: u64, offset: i64) {
        self.in_term(key, term, |partition| {
            partition.asked = false;
            partition.fetch_from = StartAt::Offset(offset);
            partition.position = Some(offset);
        });
    }

    /// The offset is gone or does not exist yet: begin at `start`.
    pub fn reset(&self, key: &PartitionKey, term: u64, start: StartAt) {
        self.in_term(key, term, |partition| {
            partition.asked = false;
            partition.fetch_from = start;
        });
    }

    /// Queues what was fetched; the next fetch begins at `next`.
    pub fn fetched(&self, fetched: Fetched, next: i64) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let Some(partition) = state.partitions.get_mut(&fetched.key) else {
            return;
        };
        if partition.term != fetched.term {
            return;
        }
        partition.asked = false;
        partition.rest_until = None;
        partition.fetch_from = StartAt::Offset(next);
        state.queued_bytes += fetched.bytes.len();
        state.queue.push_back(fetched);
        self.ready.notify_one();
    }

    fn in_term(&self, key: &PartitionKey, term: u64, change: impl FnOnce(&mut Partition)) {
        if let Some(partition) = lock(&self.state).partitions.get_mut(key)
            && partition.term == term
        {
            change(partition);
        }
    }
}

impl Partition {
    fn new(term: u64, start: StartAt) -> Self {
        let position = match start {
            StartAt::Offset(offset) => Some(offset),
            _ => None,
        };
        Self {
            term,
            fetch_from: start,
            position,
            asked: false,
            rest_until: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PartitionKey {
        ("t".into(), 0)
    }

    fn fetched(term: u64) -> Fetched {
        Fetched {
            key: key(),
            term,
            bytes: Bytes::from_static(b"12345"),
            aborted: Vec::new(),
        }
    }

    fn term(partitions: &Partitions) -> u64 {
        partitions.to_ask(Instant::now(), 1 << 20).0[0].1.term
    }

    #[test]
    fn answers_of_an_earlier_term_are_dropped() {
        let partitions = Partitions::default();
        partitions.assign([(key(), StartAt::Offset(5))]);
        let old = term(&partitions);
        partitions.asked(&key(), old);
        assert!(partitions.seek(&key(), StartAt::Offset(100)));
        partitions.fetched(fetched(old), 9);
        assert!(partitions.take().is_none());
        assert!(!partitions.advance(&key(), old, 9));
        assert_eq!(partitions.positions()[&key()], 100);
    }

    #[test]
    fn a_full_queue_stops_the_asking_until_it_is_taken() {
        let partitions = Partitions::default();
        partitions.assign([(key(), StartAt::Offset(0))]);
        partitions.fetched(fetched(term(&partitions)), 3);
        assert!(partitions.to_ask(Instant::now(), 5).0.is_empty());
        assert!(partitions.take().is_some());
        let (ready, _) = partitions.to_ask(Instant::now(), 5);
        assert_eq!(ready[0].1.fetch_from, StartAt::Offset(3));
    }

    #[test]
    fn positions_never_fall_within_a_term() {
        let partitions = Partitions::default();
        partitions.assign([(key(), StartAt::Offset(5))]);
        let term = term(&partitions);
        partitions.advance(&key(), term, 9);
        partitions.advance(&key(), term, 7);
        assert_eq!(partitions.positions()[&key()], 9);
    }

    #[test]
    fn a_new_assignment_forgets_what_was_queued() {
        let partitions = Partitions::default();
        partitions.assign([(key(), StartAt::Offset(0))]);
        partitions.fetched(fetched(term(&partitions)), 3);
        partitions.assign([(("u".into(), 1), StartAt::Latest)]);
        assert!(partitions.take().is_none());
        assert!(partitions.positions().is_empty(), "not resolved yet");
        assert!(!partitions.seek(&key(), StartAt::Earliest));
    }
}
