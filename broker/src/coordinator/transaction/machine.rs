//! One transactional id as a pure state machine: each step takes what is known and gives what is to be stored next, or a refusal.
//!
//! A **producer** is an id with an epoch; only the newest epoch of a transactional id may act, all older ones are *fenced*.
//! A transaction is **Ongoing** from its first partition, is decided by **PrepareCommit** or **PrepareAbort**, and is over with
//! **CompleteCommit** or **CompleteAbort**, when every partition has its marker. Nothing is added to a decided transaction.
//!
//! - Transaction version 2 (KIP-890) raises the epoch with every end, so that no late batch can slip into the next
//!   transaction; a client that asks again is known by `last_epoch`. Version 1 keeps the epoch.
//! - When the broker ends a transaction (its time is up, or a new instance of its producer came), the epoch goes up by two:
//!   the one in between was never given to anybody, so that no client's retry can be taken for the one that was fenced.
//!
//! Semantics as in Apache Kafka's `TransactionMetadata` and `TransactionCoordinator`; KIP-98, KIP-360, KIP-890.

use std::collections::{BTreeMap, BTreeSet};

use crate::env::defects::{self, Defect};
use crate::types::{PartitionIndex, TimestampMs};

/// An id and an epoch under which a producer writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// "None" for ids and epochs, as Kafka writes it.
pub const NO_PRODUCER: i64 = -1;
pub const NO_EPOCH: i16 = -1;
/// No client gets a higher epoch: two more are needed to fence it.
const LAST_EPOCH: i16 = i16::MAX - 2;
/// Partitions of one transaction at most: its state is one record.
pub const MAX_PARTITIONS: usize = 10_000;
/// What a transactional id takes in memory, and what each topic and partition of its transaction adds.
pub const TRANSACTION_BYTES: usize = 512;
const TOPIC_BYTES: usize = 96;
const PARTITION_BYTES: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
    /// Never stored; Kafka's name for an id that is being forgotten.
    Dead,
    /// Never stored; Kafka's name for an end that is being decided by the broker.
    PrepareEpochFence,
}

impl State {
    /// Every state, by the code that records carry.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    pub fn code(self) -> i8 {
        self as i8
    }

    pub fn from_code(code: i8) -> Option<Self> {
        let index = usize::try_from(code).ok()?;
        Self::ALL.get(index).copied()
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// The outcome is decided and its markers are being written.
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    pub fn is_complete(self) -> bool {
        matches!(self, Self::CompleteCommit | Self::CompleteAbort)
    }

    fn is_commit(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::CompleteCommit)
    }
}

/// How the client ends transactions (KIP-890): with the epoch that it had, or with a new one each time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ClientVersion {
    KeepsEpoch = 0,
    BumpsEpoch = 2,
}

/// Partitions by topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Partitions {
    by_topic: BTreeMap<String, BTreeSet<PartitionIndex>>,
}

impl Partitions {
    pub fn add(&mut self, topic: &str, partition: PartitionIndex) {
        if let Some(partitions) = self.by_topic.get_mut(topic) {
            partitions.insert(partition);
        } else {
            let partitions = BTreeSet::from([partition]);
            self.by_topic.insert(topic.to_owned(), partitions);
        }
    }

    pub fn contains(&self, topic: &str, partition: PartitionIndex) -> bool {
        let partitions = self.by_topic.get(topic);
        partitions.is_some_and(|partitions| partitions.contains(&partition))
    }

    pub fn len(&self) -> usize {
        self.by_topic.values().map(BTreeSet::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub fn topics(&self) -> impl ExactSizeIterator<Item = (&str, &BTreeSet<PartitionIndex>)> {
        let topics = self.by_topic.iter();
        topics.map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, PartitionIndex)> {
        let topics = self.topics();
        topics.flat_map(|(topic, all)| all.iter().map(move |partition| (topic, *partition)))
    }

    /// What they take in memory, about.
    fn size_bytes(&self) -> usize {
        let topics = self.by_topic.iter();
        let topics =
            topics.map(|(topic, all)| TOPIC_BYTES + topic.len() + PARTITION_BYTES * all.len());
        topics.sum()
    }

    fn holds(&self, other: &Self) -> bool {
        other
            .iter()
            .all(|(topic, index)| self.contains(topic, index))
    }
}

impl<'a> FromIterator<(&'a str, PartitionIndex)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (&'a str, PartitionIndex)>>(partitions: I) -> Self {
        let mut all = Self::default();
        for (topic, partition) in partitions {
            all.add(topic, partition);
        }
        all
    }
}

/// Why a step was refused; each variant is one of Kafka's codes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the transactional id belongs to another producer id")]
    ProducerIdMapping,
    #[error("a newer instance of the producer has taken over, or its transaction ran out of time")]
    Fenced,
    #[error("the last transaction is still being ended")]
    Concurrent,
    #[error("a transaction that is {} cannot be ended so", .0.name())]
    State(State),
    #[error("the partition was not added to the transaction")]
    NotInTransaction,
    #[error("a transaction can have {MAX_PARTITIONS} partitions at most")]
    TooManyPartitions,
}

/// What InitProducerId comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Init {
    Ready(Transaction),
    /// A transaction is open: store this, end it, and come again.
    Fence(Transaction),
    /// Come again with a producer id that nobody has.
    NeedsProducerId,
}

/// What EndTxn comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    Prepared(Transaction),
    /// It had been ended so before: the producer's present identity.
    Done(Producer),
    NeedsProducerId,
}

/// What a client asks of EndTxn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndRequest {
    pub producer: Producer,
    pub is_commit: bool,
    pub version: ClientVersion,
}

/// What is known of one transactional id; all but `last_epoch` is in its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    pub producer: Producer,
    /// The id before the present one, whose epochs ran out.
    pub previous_producer_id: i64,
    /// While an end is prepared: the id that follows, when the epochs have run out.
    pub next_producer_id: i64,
    /// The epoch that a client who did not hear of the last change still has.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: Partitions,
    /// −1 when there was none.
    pub started_ms: TimestampMs,
    pub updated_ms: TimestampMs,
    pub client_version: ClientVersion,
}

impl Transaction {
    /// What it takes in memory, about.
    pub fn size_bytes(&self) -> usize {
        TRANSACTION_BYTES + self.partitions.size_bytes()
    }

    /// Of a transactional id that was never heard of; `init` gives it its first epoch.
    pub fn new(producer_id: i64, now_ms: TimestampMs) -> Self {
        Self {
            producer: Producer {
                id: producer_id,
                epoch: NO_EPOCH,
            },
            previous_producer_id: NO_PRODUCER,
            next_producer_id: NO_PRODUCER,
            last_epoch: NO_EPOCH,
            timeout_ms: 0,
            state: State::Empty,
            partitions: Partitions::default(),
            started_ms: -1,
            updated_ms: now_ms,
            client_version: ClientVersion::KeepsEpoch,
        }
    }

    /// `last_epoch` is not stored: what a record says of it. After an end by the broker it is one that nobody has.
    pub fn restored(mut self) -> Self {
        let is_ended = self.state.is_prepared() || self.state.is_complete();
        let bumped = is_ended && self.client_version == ClientVersion::BumpsEpoch;
        self.last_epoch = match self.producer.epoch {
            _ if !bumped => NO_EPOCH,
            0 if self.previous_producer_id != NO_PRODUCER => LAST_EPOCH,
            epoch => epoch.saturating_sub(1).max(NO_EPOCH),
        };
        self
    }

    /// InitProducerId. `expected` is what the client believes it is (KIP-360), `spare` an id that nobody has, if one is at hand.
    pub fn init(
        &self,
        expected: Option<Producer>,
        timeout_ms: i32,
        now_ms: TimestampMs,
        spare: Option<i64>,
    ) -> Result<Init, Refusal> {
        if expected.is_some_and(|expected| !self.may_be(expected)) {
            return Err(Refusal::Fenced);
        }
        if self.state.is_prepared() {
            return Err(Refusal::Concurrent);
        }
        let expected = expected.map(|expected| expected.epoch);
        let is_current = expected.is_none_or(|epoch| epoch == self.producer.epoch);
        if self.state == State::Ongoing {
            return match is_current {
                true => Ok(Init::Fence(self.fence(now_ms))),
                false => Err(Refusal::Fenced),
            };
        }
        let mut next = Self {
            state: State::Empty,
            partitions: Partitions::default(),
            started_ms: -1,
            updated_ms: now_ms,
            timeout_ms,
            ..self.clone()
        };
        if is_current || self.producer.epoch == NO_EPOCH {
            next.last_epoch = expected.map_or(NO_EPOCH, |_| self.producer.epoch);
            if defects::has(Defect::KeepEpoch) && self.producer.epoch != NO_EPOCH {
                next.producer.epoch = self.producer.epoch;
            } else if self.producer.epoch < LAST_EPOCH {
                next.producer.epoch += 1;
            } else {
                let Some(spare) = spare else {
                    return Ok(Init::NeedsProducerId);
                };
                next.previous_producer_id = self.producer.id;
                next.producer = Producer {
                    id: spare,
                    epoch: 0,
                };
            }
        } else if expected != Some(self.last_epoch) {
            return Err(Refusal::Fenced);
        }
        Ok(Init::Ready(next))
    }

    /// Whether a client with this identity may be the present producer, or may not have heard of the last change.
    fn may_be(&self, expected: Producer) -> bool {
        let Producer { id, epoch } = self.producer;
        epoch == NO_EPOCH
            || expected.id == id
            || (expected.id == self.previous_producer_id && expected.epoch >= LAST_EPOCH)
    }

    pub fn check(&self, producer: Producer) -> Result<(), Refusal> {
        if producer.id != self.producer.id {
            return Err(Refusal::ProducerIdMapping);
        }
        match producer.epoch == self.producer.epoch {
            true => Ok(()),
            false => Err(Refusal::Fenced),
        }
    }

    /// Adds partitions; `None` when the transaction has them all.
    pub fn add(
        &self,
        producer: Producer,
        partitions: &Partitions,
        version: ClientVersion,
        now_ms: TimestampMs,
    ) -> Result<Option<Self>, Refusal> {
        self.check(producer)?;
        if self.state.is_prepared() {
            return Err(Refusal::Concurrent);
        }
        let is_ongoing = self.state == State::Ongoing;
        if is_ongoing && self.partitions.holds(partitions) {
            return Ok(None);
        }
        let mut next = self.clone();
        if !is_ongoing {
            next.state = State::Ongoing;
            next.started_ms = now_ms;
            next.partitions = Partitions::default();
        }
        for (topic, partition) in partitions.iter() {
            next.partitions.add(topic, partition);
        }
        if next.partitions.len() > MAX_PARTITIONS {
            return Err(Refusal::TooManyPartitions);
        }
        next.updated_ms = now_ms;
        next.client_version = version;
        Ok(Some(next))
    }

    /// May this producer write to the partition in its transaction?
    pub fn verify(
        &self,
        producer: Producer,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<(), Refusal> {
        self.check(producer)?;
        let takes_late = self.state.is_prepared() && defects::has(Defect::WriteAfterDecision);
        if self.state.is_prepared() && !takes_late {
            return Err(Refusal::Concurrent);
        }
        match (self.state == State::Ongoing || takes_late)
            && self.partitions.contains(topic, partition)
        {
            true => Ok(()),
            false => Err(Refusal::NotInTransaction),
        }
    }

    /// EndTxn. `spare` as in `init`.
    pub fn end(
        &self,
        request: EndRequest,
        now_ms: TimestampMs,
        spare: Option<i64>,
    ) -> Result<End, Refusal> {
        match request.version {
            ClientVersion::KeepsEpoch => self.end_keeping_epoch(request, now_ms),
            ClientVersion::BumpsEpoch => self.end_bumping_epoch(request, now_ms, spare),
        }
    }

    fn end_keeping_epoch(&self, request: EndRequest, now_ms: TimestampMs) -> Result<End, Refusal> {
        self.check(request.producer)?;
        let is_same = self.state.is_commit() == request.is_commit;
        match self.state {
            State::Ongoing => Ok(End::Prepared(Self {
                state: prepared(request.is_commit),
                updated_ms: now_ms,
                client_version: ClientVersion::KeepsEpoch,
                ..self.clone()
            })),
            state if state.is_complete() && is_same => Ok(End::Done(self.producer)),
            state if state.is_prepared() && is_same => Err(Refusal::Concurrent),
            state => Err(Refusal::State(state)),
        }
    }

    fn end_bumping_epoch(
        &self,
        request: EndRequest,
        now_ms: TimestampMs,
        spare: Option<i64>,
    ) -> Result<End, Refusal> {
        let is_retry = self.is_retry(request.producer);
        if !is_retry {
            self.check(request.producer)?;
        }
        let is_same = self.state.is_commit() == request.is_commit;
        match self.state {
            state if is_retry && !is_same => Err(Refusal::State(state)),
            state if state.is_complete() && is_retry => Ok(End::Done(self.producer)),
            // The producer has its new epoch already: its next transaction is to wait.
            state if state.is_prepared() => Err(Refusal::Concurrent),
            // An empty transaction can be aborted, which a client does that cannot know what arrived.
            state if state != State::Ongoing && request.is_commit => Err(Refusal::State(state)),
            _ => Ok(self.prepare(request.is_commit, now_ms, spare)),
        }
    }

    /// Whether a client asks again for an end that raised the epoch, without having heard of it.
    fn is_retry(&self, producer: Producer) -> bool {
        // The end of a transaction of version 1 did not raise it; what did is another matter.
        let is_ended = self.client_version == ClientVersion::BumpsEpoch
            && (self.state.is_prepared() || self.state.is_complete());
        let is_last = self.last_epoch != NO_EPOCH && producer.epoch == self.last_epoch;
        let bumped = producer.id == self.producer.id && self.producer.epoch == producer.epoch + 1;
        let moved = producer.id == self.previous_producer_id && self.producer.epoch == 0;
        is_ended && is_last && (bumped || moved)
    }

    fn prepare(&self, is_commit: bool, now_ms: TimestampMs, spare: Option<i64>) -> End {
        let mut next = self.clone();
        if self.state != State::Ongoing {
            next.partitions = Partitions::default();
            next.started_ms = now_ms;
        }
        if self.producer.epoch >= LAST_EPOCH {
            let Some(spare) = spare else {
                return End::NeedsProducerId;
            };
            next.next_producer_id = spare;
        }
        next.last_epoch = self.producer.epoch;
        next.producer.epoch = self.producer.epoch.saturating_add(1);
        next.state = prepared(is_commit);
        next.updated_ms = now_ms;
        next.client_version = ClientVersion::BumpsEpoch;
        End::Prepared(next)
    }

    /// The broker aborts what is ongoing, and the producer with it.
    pub fn fence(&self, now_ms: TimestampMs) -> Self {
        let mut next = self.clone();
        next.producer.epoch = self.producer.epoch.saturating_add(2);
        next.last_epoch = NO_EPOCH;
        next.state = State::PrepareAbort;
        next.updated_ms = now_ms;
        next.client_version = ClientVersion::BumpsEpoch;
        next
    }

    /// Every partition has its marker.
    pub fn complete(&self, now_ms: TimestampMs) -> Self {
        let mut next = self.clone();
        next.state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        if self.next_producer_id != NO_PRODUCER {
            next.previous_producer_id = self.producer.id;
            next.next_producer_id = NO_PRODUCER;
            next.producer = self.successor();
        }
        next.partitions = Partitions::default();
        next.updated_ms = now_ms;
        next
    }

    /// Who the producer is once the prepared end is complete.
    pub fn successor(&self) -> Producer {
        match self.next_producer_id {
            NO_PRODUCER => self.producer,
            id => Producer { id, epoch: 0 },
        }
    }

    /// When the broker is to abort it, if it is open.
    pub fn deadline_ms(&self) -> Option<TimestampMs> {
        let timeout = i64::from(self.timeout_ms);
        (self.state == State::Ongoing).then(|| self.started_ms.saturating_add(timeout))
    }

    /// Unused for so long that it is to be forgotten.
    pub fn is_expired(&self, now_ms: TimestampMs, expiration_ms: i64) -> bool {
        let is_idle = self.state == State::Empty || self.state.is_complete();
        is_idle && self.updated_ms.saturating_add(expiration_ms) <= now_ms
    }
}

fn prepared(is_commit: bool) -> State {
    match is_commit {
        true => State::PrepareCommit,
        false => State::PrepareAbort,
    }
}

#[cfg(test)]
mod tests;
