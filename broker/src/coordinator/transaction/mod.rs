//! Transactions: who may write under a transactional id, which partitions it has written to, and how it ends.
//!
//! From a call inwards: this file has the calls, `driver` holds the ids and gives them time and a log, `ending` writes markers and
//! what a crash has left, `machine` decides, `record` is Kafka's format of `__transaction_state`, `surroundings` is the rest of the
//! broker as seen from here. Wire structs and sockets are not known.
//!
//! - A transaction's state is in the log before anything that depends on it: a partition before the first record in it, the
//!   outcome before the first marker, and every marker before the completion.
//! - Whatever is written for a transactional id is written under its lock (`write`), so that nothing follows its outcome.
//! - Only what a client may rely on is awaited: new identities and outcomes. That a partition was added may be lost with the
//!   power; then its open transaction is found at start, and the whole transaction is aborted and its producer fenced.

mod driver;
mod ending;
pub mod machine;
pub mod record;
pub mod surroundings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::config::TransactionConfig;
use crate::env::Clock;
use crate::env::defects::{self, Defect};
use crate::log::{AppendError, TransactionMarker};
use crate::types::{PartitionIndex, TRANSACTION_STATE};

use self::driver::{Cell, Contents, Driver};
pub use self::machine::{
    ClientVersion, EndRequest, Partitions, Producer, Refusal, State, Transaction,
};
use self::machine::{End, Init};
use self::surroundings::Surroundings;
use super::pending::Durable;
use super::shares::Holder;
use super::storage::{InternalTopic, RecordLog};
use crate::catalog::Catalog;
use crate::log::LogSet;

/// How long an answer waits for the markers of an end that is durable. The outcome is certain before; a client that goes on
/// sooner is told to come again.
const MARKERS_AWAITED: Duration = Duration::from_secs(5);
/// Rounds of one InitProducerId: a producer id may have to be fetched, and a transaction to be ended.
const MAX_ROUNDS: usize = 4;

/// Every transactional id of this broker.
#[derive(Debug)]
pub struct Transactions {
    driver: Arc<Driver>,
}

/// What the caller can do about it; the handler maps these to Kafka's codes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransactionError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the transactional id is empty")]
    InvalidId,
    #[error("the transaction timeout is not between 1 ms and transactions.max-timeout")]
    InvalidTimeout,
    /// By the setting that bounds them.
    #[error("there are as many transactional ids as {0} allows")]
    TooManyIds(&'static str),
    /// By the setting that holds the bound; it may pass.
    #[error("{0} allows no more at present")]
    Busy(&'static str),
    #[error("the transaction's state could not be stored: {0}")]
    Storage(String),
}

/// One partition that is written to under a transactional id.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub transactional_id: &'a str,
    pub producer: Producer,
    pub topic: &'a str,
    pub partition: PartitionIndex,
    /// `BumpsEpoch`: writing adds the partition. `KeepsEpoch`: it must have been added before.
    pub version: ClientVersion,
}

/// The topic that keeps transactions, opened.
#[derive(Debug)]
pub struct TransactionLog(Box<dyn RecordLog>);

impl TransactionLog {
    /// Creates `__transaction_state` when it is missing and opens it. Blocking.
    ///
    /// # Errors
    /// When the topic cannot be created or its logs cannot be opened.
    pub fn open(
        config: &TransactionConfig,
        catalog: &Catalog,
        logs: &LogSet,
        clock: &Clock,
    ) -> Result<Self, String> {
        let partitions = config.state_partitions;
        let topic = InternalTopic::open(TRANSACTION_STATE, partitions, catalog, logs, clock)?;
        Ok(Self(Box::new(topic)))
    }
}

impl Transactions {
    /// Loads every transactional id. Blocking. Damaged records are logged and passed over. `recover` follows.
    pub fn open(
        config: TransactionConfig,
        log: TransactionLog,
        surroundings: Box<dyn Surroundings>,
        clock: Clock,
    ) -> Arc<Self> {
        let driver = Driver::open(config, log.0, surroundings, clock);
        Arc::new(Self { driver })
    }

    /// Takes up what the last run left: ends that were prepared go on, and what is open in a partition without its transaction
    /// knowing is aborted, with its transaction. Before anything is produced.
    ///
    /// # Errors
    /// When what is to be aborted could not be stored.
    pub fn recover(&self) -> Result<(), TransactionError> {
        self.driver.recover()
    }

    /// Runs timers (time-outs of transactions, expiry of ids) until the future is dropped.
    pub async fn run_timers(self: Arc<Self>) {
        Arc::clone(&self.driver).run_timers().await;
    }

    /// A producer id that nobody has, with epoch 0 for a producer without a transactional id.
    pub async fn new_producer_id(&self, holder: &Holder) -> Result<i64, TransactionError> {
        self.driver.pace(holder)?;
        self.driver.new_producer_id().await
    }

    /// InitProducerId: the identity under which the newest instance of a producer writes, durable. A transaction of the instance
    /// before is aborted. `expected` is what the caller believes it is (KIP-360). A new id counts for the `holder`.
    pub async fn init(
        &self,
        id: &str,
        holder: &Holder,
        expected: Option<Producer>,
        timeout_ms: i32,
    ) -> Result<Producer, TransactionError> {
        check_id(id)?;
        let max = i32::try_from(self.driver.config.max_timeout.as_millis()).unwrap_or(i32::MAX);
        if !(1..=max).contains(&timeout_ms) {
            return Err(TransactionError::InvalidTimeout);
        }
        let driver = &self.driver;
        let mut spare = None;
        for _ in 0..MAX_ROUNDS {
            let Some(cell) = driver.find_or_create(id, holder, &mut spare)? else {
                spare = Some(driver.new_producer_id().await?);
                continue;
            };
            let init = |cell: &Arc<Cell>, contents: &mut Contents| {
                let now_ms = driver.clock.now_ms();
                contents.standing.adopt(&driver.ledger, holder);
                let step = contents
                    .transaction
                    .init(expected, timeout_ms, now_ms, spare)?;
                let stored = match &step {
                    Init::Ready(next) | Init::Fence(next) => driver.store(cell, contents, next)?,
                    Init::NeedsProducerId => -1,
                };
                Ok((step, stored))
            };
            match driver.with_cell(&cell, init)? {
                (Init::Ready(next), stored) => {
                    if !defects::has(Defect::AnswerIdentityBeforeSync) {
                        driver.durable(&cell, stored).await?;
                    }
                    return Ok(next.producer);
                }
                (Init::Fence(_), stored) => self.await_end(&cell, stored).await?,
                (Init::NeedsProducerId, _) => spare = Some(driver.new_producer_id().await?),
            }
        }
        Err(Refusal::Concurrent.into())
    }

    /// AddPartitionsToTxn, and AddOffsetsToTxn with the partition of `__consumer_offsets`. Durable when this returns: where
    /// the epoch stays the same from one transaction to the next, nothing else would tell after a loss of power that what is
    /// open in a partition is not of the transaction before, whose markers may have to be written again.
    pub async fn add(
        &self,
        id: &str,
        producer: Producer,
        partitions: &Partitions,
    ) -> Result<(), TransactionError> {
        check_id(id)?;
        let (cell, stored) = self.driver.with(id, |cell, contents| {
            let version = ClientVersion::KeepsEpoch;
            self.driver
                .add(cell, contents, producer, (partitions, version))?;
            Ok((Arc::clone(cell), contents.stored))
        })?;
        self.driver.durable(&cell, stored).await
    }

    /// Which of these partitions are in the transaction; the others are refused with `NotInTransaction`.
    pub fn verify(
        &self,
        id: &str,
        producer: Producer,
        (topic, partition): (&str, PartitionIndex),
    ) -> Result<(), TransactionError> {
        check_id(id)?;
        self.driver.with(id, |_, contents| {
            Ok(contents.transaction.verify(producer, topic, partition)?)
        })
    }

    /// Runs `write`, which appends to a partition for the transaction, while nothing can end it.
    pub fn write<R>(
        &self,
        target: &Target<'_>,
        write: impl FnOnce() -> R,
    ) -> Result<R, TransactionError> {
        check_id(target.transactional_id)?;
        let &Target {
            producer,
            topic,
            partition,
            version,
            ..
        } = target;
        self.driver.with(target.transactional_id, |cell, contents| {
            if version == ClientVersion::BumpsEpoch {
                let partitions = Partitions::from_iter([(topic, partition)]);
                self.driver
                    .add(cell, contents, producer, (&partitions, version))?;
            }
            contents.transaction.verify(producer, topic, partition)?;
            Ok(write())
        })
    }

    /// EndTxn: who the producer is from now on. The outcome is durable, and as a rule every marker is too.
    pub async fn end(&self, id: &str, request: EndRequest) -> Result<Producer, TransactionError> {
        check_id(id)?;
        let driver = &self.driver;
        let mut spare = None;
        for _ in 0..MAX_ROUNDS {
            let end = |cell: &Arc<Cell>, contents: &mut Contents| {
                let now_ms = driver.clock.now_ms();
                let step = contents.transaction.end(request, now_ms, spare)?;
                let stored = match &step {
                    End::Prepared(next) => driver.store(cell, contents, next)?,
                    End::Done(_) | End::NeedsProducerId => -1,
                };
                Ok((Arc::clone(cell), step, stored))
            };
            match driver.with(id, end)? {
                (_, End::Done(producer), _) => return Ok(producer),
                (_, End::NeedsProducerId, _) => spare = Some(driver.new_producer_id().await?),
                (cell, End::Prepared(next), stored) => {
                    self.await_end(&cell, stored).await?;
                    return Ok(next.successor());
                }
            }
        }
        Err(Refusal::Concurrent.into())
    }

    /// Waits until an outcome that was stored at `stored` is durable, and a while for its markers.
    async fn await_end(
        &self,
        cell: &Arc<Cell>,
        stored: crate::types::Offset,
    ) -> Result<(), TransactionError> {
        // A task of its own: the request may be cancelled, the end goes on.
        let ending = tokio::spawn(Arc::clone(&self.driver).finish(Arc::clone(cell), stored));
        if defects::has(Defect::AnswerEndBeforeSync) {
            return Ok(());
        }
        self.driver.durable(cell, stored).await?;
        if tokio::time::timeout(MARKERS_AWAITED, ending).await.is_err() {
            tracing::warn!(id = %cell.id, "the markers of a transaction take long");
        }
        Ok(())
    }

    /// WriteTxnMarkers: `None` when the partition does not exist.
    ///
    /// # Errors
    /// When the log refused the marker.
    pub fn mark(
        &self,
        topic: &str,
        partition: PartitionIndex,
        marker: TransactionMarker,
    ) -> Result<Option<Durable<String>>, AppendError> {
        self.driver.surroundings.mark(topic, partition, marker)
    }

    pub fn describe(&self, id: &str) -> Option<Transaction> {
        let described = self
            .driver
            .with(id, |_, contents| Ok(contents.transaction.clone()));
        described.ok()
    }

    /// The state of each transactional id. For a thread that may block.
    pub fn states(&self) -> Vec<State> {
        self.driver.states()
    }

    /// Sorted by transactional id.
    pub async fn list(&self) -> Vec<(Arc<str>, Transaction)> {
        self.driver.list().await
    }

    /// What the ids take in memory, and what was refused because of a bound, by its setting.
    pub fn usage(&self) -> (usize, Vec<(&'static str, u64)>) {
        let ledger = self.driver.ledger.lock();
        (ledger.bytes(), ledger.refused().collect())
    }
}

fn check_id(id: &str) -> Result<(), TransactionError> {
    match id.is_empty() {
        true => Err(TransactionError::InvalidId),
        false => Ok(()),
    }
}
