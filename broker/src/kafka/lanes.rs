//! When and where a batch goes through its topic's plugins: in its lane's turn, and never for long on a serving thread.
//!
//! A **lane** is the batches that must keep their order: where a partitioner places records all of a partition, else those of
//! one connection for one partition. A batch enters its lane in the first poll of Produce, which is in the order of arrival, and the
//! lane does one batch at a time. A batch whose lane is idle, that is small, and whose plugins are likely to be quick is done at
//! once, on the serving thread, with two milliseconds for each call: a hand-over would cost more than the call. Whatever takes
//! longer, fails or has to wait goes to the plugins' own threads ([`crate::plugin::Workers`]).
//!
//! A batch of a transaction is put to the plugins before the lock of its transactional id is taken, and appended under it: so no
//! plugin holds up whoever ends the transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::context::Services;
use super::placement::{self, Placed, PlacementError, Prepared};
use super::topics::TopicHandle;
use crate::coordinator::transaction::{ClientVersion, Producer, Target};
use crate::env;
use crate::log::batch::{Batch, Compression};
use crate::plugin::{Effort, FailureKind, Job, LaneKey, Turn};
use crate::types::PartitionIndex;

/// Records and bytes of a batch that may be done on a serving thread.
const QUICK_RECORDS: i32 = 5_000;
const QUICK_BYTES: usize = 1 << 20;
/// Of one that is compressed, which costs more to read and to make, and what it may become.
const QUICK_COMPRESSED_BYTES: usize = 64 << 10;
const QUICK_DECOMPRESSED_BYTES: usize = 256 << 10;

/// One partition as its producers see it.
#[derive(Debug, Default)]
pub struct Lane {
    /// Batches that have entered and are not appended or refused yet.
    pending: AtomicUsize,
}

impl Lane {
    /// Whether a batch that is not for plugins has to follow others that were.
    pub fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }
}

/// A batch has entered its lane, and leaves it when this is dropped.
struct Entered(Arc<Lane>);

impl Entered {
    fn new(lane: &Arc<Lane>) -> Self {
        lane.pending.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(lane))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The transaction that a batch belongs to.
pub struct Membership {
    pub transactional_id: String,
    pub version: ClientVersion,
}

/// A batch on its way through its topic's plugins.
pub struct Passage {
    pub services: Arc<Services>,
    pub topic: Arc<TopicHandle>,
    pub partition: PartitionIndex,
    pub batch: Batch,
    pub transaction: Option<Membership>,
}

pub type Outcome = Result<Placed, PlacementError>;

/// A batch that has entered its lane.
#[derive(Debug)]
pub enum Passing {
    Done(Outcome),
    /// Resolves when its turn has come and gone.
    Later(Later),
}

#[derive(Debug)]
pub struct Later {
    outcome: oneshot::Receiver<Outcome>,
    services: Arc<Services>,
    /// The plugin that is named if there is no outcome.
    plugin: String,
}

impl Later {
    pub async fn outcome(self) -> Outcome {
        let interrupted = |_| {
            let failure = self.services.plugins.interrupted(&self.plugin);
            Err(PlacementError::Plugin(failure))
        };
        self.outcome.await.unwrap_or_else(interrupted)
    }
}

impl Passage {
    /// Enters the lane of `connection`, any number that is one connection's alone. To be called in the order of arrival.
    pub fn start(self, lane: &Arc<Lane>, connection: u64) -> Passing {
        if !env::has_threads() {
            return Passing::Done(self.run(Effort::Full));
        }
        let entered = Entered::new(lane);
        let key = LaneKey {
            topic: self.topic.topic.name.as_str().into(),
            number: match self.topic.is_placed {
                true => (self.partition, 0),
                false => (self.partition, connection),
            },
        };
        let services = Arc::clone(&self.services);
        match services.plugins.workers().hold(key) {
            Ok(turn) => self.take_turn(turn, entered),
            Err(key) => {
                let (later, bytes, job) = self.later(entered);
                let queued = services.plugins.workers().queue(&key, bytes, job);
                settle(later, queued)
            }
        }
    }

    /// At once when it is likely to be quick, else on another thread, before what comes behind it.
    fn take_turn(self, turn: Turn<'_>, entered: Entered) -> Passing {
        let plugins = &self.services.plugins;
        if self.topic.plugins().next().is_none() {
            // It has lost its partitioner: there is nothing to call, and retries of what that placed are rare.
            return Passing::Done(self.run(Effort::Full));
        }
        let is_quick = |bytes| plugins.are_quick(self.topic.plugins(), bytes);
        if self.quick_bytes().is_some_and(is_quick) {
            let outcome = self.run(Effort::Quick);
            let is_given_up = matches!(
                &outcome,
                Err(PlacementError::Plugin(failure)) if failure.kind == FailureKind::NotQuick
            );
            if !is_given_up {
                return Passing::Done(outcome);
            }
        }
        let (later, bytes, job) = self.later(entered);
        settle(later, turn.queue(bytes, job))
    }

    fn later(self, entered: Entered) -> (Later, usize, Job) {
        let (tell, outcome) = oneshot::channel();
        let later = Later {
            outcome,
            services: Arc::clone(&self.services),
            plugin: self.topic.plugins().next().unwrap_or_default().to_owned(),
        };
        let bytes = self.batch.bytes.len();
        let job = Box::new(move || {
            let outcome = self.run(Effort::Full);
            drop(entered);
            // The connection may be gone; what was started is done all the same.
            let _ = tell.send(outcome);
        });
        (later, bytes, job)
    }

    /// What the batch may become when it is done on a serving thread; `None` when it is not.
    fn quick_bytes(&self) -> Option<usize> {
        let header = &self.batch.header;
        if header.record_count > QUICK_RECORDS {
            return None;
        }
        let (most, becomes) = match header.compression()? {
            Compression::None => (QUICK_BYTES, self.batch.bytes.len()),
            // Made at some 30 MB/s.
            Compression::Gzip => return None,
            Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
                (QUICK_COMPRESSED_BYTES, QUICK_DECOMPRESSED_BYTES)
            }
        };
        (self.batch.bytes.len() <= most).then_some(becomes)
    }

    fn run(&self, effort: Effort) -> Outcome {
        let max_decompressed = match effort {
            Effort::Quick => self.quick_bytes().unwrap_or(0),
            Effort::Full => usize::try_from(self.services.config.plugins.max_decompressed_bytes)
                .unwrap_or(usize::MAX),
        };
        let (bytes, records) = (
            self.batch.bytes.len() as u64,
            u64::try_from(self.batch.header.record_count).unwrap_or(0),
        );
        let prepared = placement::prepare(
            &self.services.plugins,
            &self.topic,
            self.partition,
            self.batch.clone(),
            (max_decompressed, effort),
        )?;
        let placed = match &self.transaction {
            None => prepared.append()?,
            Some(membership) => self.append_in(membership, prepared)?,
        };
        if !placed.appended.duplicate {
            self.services
                .metrics
                .produced(self.topic.topic.name.as_str(), bytes, records);
        }
        Ok(placed)
    }

    /// Appends while the transaction cannot end.
    fn append_in(&self, membership: &Membership, prepared: Prepared<'_>) -> Outcome {
        let target = Target {
            transactional_id: &membership.transactional_id,
            producer: Producer {
                id: self.batch.header.producer_id,
                epoch: self.batch.header.producer_epoch,
            },
            topic: self.topic.topic.name.as_str(),
            partition: self.partition,
            version: membership.version,
        };
        let written = self
            .services
            .transactions
            .write(&target, || prepared.append());
        written.map_err(PlacementError::Transaction)?
    }
}

fn settle(later: Later, queued: Result<(), Job>) -> Passing {
    match queued {
        Ok(()) => Passing::Later(later),
        Err(_) => {
            let failure = later.services.plugins.overloaded(&later.plugin);
            Passing::Done(Err(PlacementError::Plugin(failure)))
        }
    }
}
