//! Transactional producers as clients keep them: who they are, and the transaction that they are in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::transaction::Key;
use super::{Position, Target};
use crate::ops::transaction::EXPIRY_MS;

/// An id and an epoch.
pub type Identity = (i64, i16);

/// How a client goes about its transactions (KIP-890).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Style {
    /// Version 1: partitions are added by requests of their own, and an end keeps the epoch.
    #[default]
    Explicit,
    /// Version 2: writing adds, and an end raises the epoch.
    Implicit,
}

/// One transactional id.
#[derive(Debug, Default)]
pub struct Client {
    pub live: Instance,
    /// An instance that another has taken the place of, and that goes on without knowing.
    pub zombie: Option<Zombie>,
    /// The latest identity that was answered.
    pub newest: Option<Identity>,
    /// A second instance asks to take over.
    pub is_being_replaced: bool,
    pub next_generation: u64,
}

/// What a fenced producer still believes.
#[derive(Clone, Debug)]
pub struct Zombie {
    pub identity: Identity,
    pub style: Style,
    /// It raised its epoch itself: who asks so again is taken for its retry (KIP-360).
    pub was_raised: bool,
}

/// A running producer.
#[derive(Debug, Default)]
pub struct Instance {
    /// Tells it from earlier ones.
    pub generation: u64,
    pub identity: Option<Identity>,
    pub style: Style,
    pub timeout_ms: i64,
    /// It has to ask who it is before it goes on.
    pub must_ask: Option<Asking>,
    /// By partition, in the present epoch.
    pub sequences: BTreeMap<Target, i32>,
    pub open: Option<Open>,
    /// When it was last given an identity, or began a transaction that has ended.
    pub idle_since_ms: i64,
    /// Something happened for which the broker may fence it.
    pub may_be_fenced: bool,
}

/// An InitProducerId that is due or on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asking {
    /// With its identity, to raise the epoch (KIP-360).
    pub tells_identity: bool,
    pub is_in_flight: bool,
}

/// A batch without an answer.
#[derive(Clone, Debug)]
pub struct Batch {
    pub target: Target,
    pub base_sequence: i32,
    pub numbers: Vec<u64>,
    pub bytes: Bytes,
    pub is_in_flight: bool,
}

/// What a client commits of a group in a transaction.
#[derive(Clone, Debug)]
pub struct Offsets {
    pub position: Position,
    pub target: Target,
    pub offset: i64,
    pub is_added: bool,
    pub is_acknowledged: bool,
    pub is_in_flight: bool,
}

/// An EndTxn that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    pub is_commit: bool,
    pub is_in_flight: bool,
}

/// The transaction that a client is in.
#[derive(Clone, Debug)]
pub struct Open {
    pub key: Key,
    /// When its first request was made.
    pub since_ms: i64,
    pub added: BTreeSet<Target>,
    /// Partitions that records were acknowledged in.
    pub written: BTreeSet<Target>,
    pub is_adding: bool,
    pub batches: Vec<Batch>,
    pub offsets: Option<Offsets>,
    /// It can only be aborted.
    pub has_failed: bool,
    /// Power was lost while it was open.
    pub may_be_lost: bool,
    pub ending: Option<Ending>,
}

impl Open {
    pub fn new(key: Key, since_ms: i64) -> Self {
        Self {
            key,
            since_ms,
            added: BTreeSet::new(),
            written: BTreeSet::new(),
            is_adding: false,
            batches: Vec::new(),
            offsets: None,
            has_failed: false,
            may_be_lost: false,
            ending: None,
        }
    }

    /// Requests of it are on their way.
    pub fn is_waiting(&self) -> bool {
        let offsets = self.offsets.as_ref();
        self.is_adding
            || self.batches.iter().any(|batch| batch.is_in_flight)
            || offsets.is_some_and(|offsets| offsets.is_in_flight)
            || self.ending.is_some_and(|ending| ending.is_in_flight)
    }

    /// Something was written, and everything was answered.
    pub fn may_commit(&self) -> bool {
        let offsets = self.offsets.as_ref();
        let has_offsets = offsets.is_some_and(|offsets| offsets.is_acknowledged);
        !self.has_failed
            && self.batches.is_empty()
            && !self.is_waiting()
            && (has_offsets || offsets.is_none())
            && (has_offsets || !self.written.is_empty())
    }

    /// The broker knows of it for certain.
    pub fn is_known(&self) -> bool {
        let offsets = self.offsets.as_ref();
        !self.written.is_empty()
            || !self.added.is_empty()
            || offsets.is_some_and(|offsets| offsets.is_acknowledged || offsets.is_added)
    }
}

impl Instance {
    /// Its transactional id may be unused for too long.
    pub fn may_be_forgotten(&self, now_ms: i64) -> bool {
        let expiry_ms = i64::try_from(EXPIRY_MS).unwrap_or(i64::MAX);
        let known = self.open.as_ref().filter(|open| open.is_known());
        // From then on somebody may have ended it.
        let since_ms = known.map_or(self.idle_since_ms, |open| open.since_ms);
        now_ms.saturating_sub(since_ms) >= expiry_ms
    }

    /// Its transaction's time may be up.
    pub fn may_be_late(&self, now_ms: i64) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| now_ms >= open.since_ms.saturating_add(self.timeout_ms))
    }
}
