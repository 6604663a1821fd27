//! The end of a transaction, from its durable outcome to its completion: markers for every partition, again and again until each
//! has one; and the same for what a crash has left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::TransactionError;
use super::driver::{Cell, Driver};
use super::machine::{ClientVersion, Partitions, State, Transaction};
use crate::log::{AppendError, MarkerOutcome, OpenTransaction, TransactionMarker};
use crate::types::{Offset, PartitionIndex};

/// Between two tries for a partition whose log refuses: doubles from the first to the second.
const RETRIES_APART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// There is one coordinator, and it is never replaced.
const COORDINATOR_EPOCH: i32 = 0;

impl Transaction {
    /// Whether a batch of this epoch was written after the prepared end: the end had raised the epoch to it.
    fn began(&self, epoch: i16) -> bool {
        self.client_version == ClientVersion::BumpsEpoch && epoch == self.producer.epoch
    }

    fn marker(&self) -> TransactionMarker {
        TransactionMarker {
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            outcome: match self.state {
                State::PrepareCommit => MarkerOutcome::Commit,
                _ => MarkerOutcome::Abort,
            },
            coordinator_epoch: COORDINATOR_EPOCH,
        }
    }
}

/// Pauses that grow.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(RETRIES_APART.0)
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(RETRIES_APART.1);
    }
}

impl Driver {
    /// Ends a transaction whose outcome was stored at `stored`: waits until that is durable, writes the markers, and completes
    /// it when all of them are durable. Gives up only when the outcome cannot become durable: a restart decides then.
    pub async fn finish(self: Arc<Self>, cell: Arc<Cell>, stored: Offset) {
        if let Err(error) = self.durable(&cell, stored).await {
            tracing::error!(id = %cell.id, %error, "the end of a transaction stays undecided until the broker starts again");
            return;
        }
        let prepared = self.with_cell(&cell, |_, contents| Ok(contents.transaction.clone()));
        let Ok(prepared) = prepared else { return };
        self.mark_all(&cell.id, &prepared).await;
        let mut backoff = Backoff::new();
        while let Err(error) = self.complete(&cell) {
            tracing::warn!(id = %cell.id, %error, "the completion of a transaction could not be stored yet");
            backoff.pause().await;
        }
    }

    fn complete(&self, cell: &Arc<Cell>) -> Result<(), TransactionError> {
        self.with_cell(cell, |cell, contents| {
            if !contents.transaction.state.is_prepared() {
                return Ok(());
            }
            let next = contents.transaction.complete(self.clock.now_ms());
            self.store(cell, contents, &next).map(drop)
        })
    }

    async fn mark_all(&self, id: &str, prepared: &Transaction) {
        let marker = prepared.marker();
        let mut left: Vec<(String, PartitionIndex)> = prepared
            .partitions
            .iter()
            .map(|(topic, partition)| (topic.to_owned(), partition))
            .collect();
        let mut backoff = Backoff::new();
        loop {
            left = self.mark_some(id, left, marker).await;
            if left.is_empty() {
                return;
            }
            backoff.pause().await;
        }
    }

    /// Writes markers and waits for them; the partitions that have none yet.
    async fn mark_some(
        &self,
        id: &str,
        partitions: Vec<(String, PartitionIndex)>,
        marker: TransactionMarker,
    ) -> Vec<(String, PartitionIndex)> {
        let mut failed = Vec::new();
        let mut written = Vec::new();
        for (topic, partition) in partitions {
            match self.surroundings.mark(&topic, partition, marker) {
                Ok(Some(durable)) => written.push((topic, partition, durable)),
                Ok(None) | Err(AppendError::Deleted) => {}
                // The producer has gone on there: nothing of this transaction can be open.
                Err(
                    error @ (AppendError::FencedEpoch { .. }
                    | AppendError::FencedCoordinator { .. }),
                ) => {
                    tracing::warn!(id, topic, partition, %error, "a marker came too late and is left out");
                }
                Err(error) => {
                    tracing::warn!(id, topic, partition, %error, "a marker could not be written yet");
                    failed.push((topic, partition));
                }
            }
        }
        for (topic, partition, durable) in written {
            if let Err(error) = durable.await {
                tracing::warn!(id, topic, partition, %error, "a marker is not durable yet");
                failed.push((topic, partition));
            }
        }
        failed
    }

    /// Goes on with ends that were prepared, and aborts what is open without its transaction knowing of it.
    pub fn recover(self: &Arc<Self>) -> Result<(), TransactionError> {
        let mut owners = Vec::new();
        for cell in self.cells() {
            let id = self.with_cell(&cell, |_, contents| Ok(contents.transaction.producer.id))?;
            owners.push((id, cell));
        }
        let by_producer: HashMap<i64, &Arc<Cell>> =
            owners.iter().map(|(id, cell)| (*id, cell)).collect();
        let mut orphans: HashMap<i64, Partitions> = HashMap::new();
        for (topic, partition, open) in self.surroundings.open_transactions() {
            let owner = by_producer.get(&open.producer_id).copied();
            match self.judge(owner, (&topic, partition), &open) {
                Judgement::Known => {}
                Judgement::Unknown => {
                    let partitions = orphans.entry(open.producer_id).or_default();
                    partitions.add(&topic, partition);
                }
                Judgement::Stale { epoch } => {
                    self.abort_alone(&topic, partition, (open.producer_id, epoch));
                }
            }
        }
        for (producer_id, cell) in &owners {
            let ended = self.with_cell(cell, |cell, contents| {
                if let Some(partitions) = orphans.get(producer_id) {
                    tracing::warn!(id = %cell.id, "a loss of power took part of a transaction; all of it is aborted");
                    let mut next = contents.transaction.fence(self.clock.now_ms());
                    for (topic, partition) in partitions.iter() {
                        next.partitions.add(topic, partition);
                    }
                    self.store(cell, contents, &next)?;
                }
                let is_prepared = contents.transaction.state.is_prepared();
                Ok(is_prepared.then_some(contents.stored))
            })?;
            if let Some(stored) = ended {
                tokio::spawn(Arc::clone(self).finish(Arc::clone(cell), stored));
            }
        }
        Ok(())
    }

    /// What an open transaction of a partition is to the transactional id that has its producer.
    fn judge(
        &self,
        owner: Option<&Arc<Cell>>,
        (topic, partition): (&str, PartitionIndex),
        open: &OpenTransaction,
    ) -> Judgement {
        let stale = Judgement::Stale {
            epoch: open.producer_epoch,
        };
        let Some(owner) = owner else { return stale };
        let judged = self.with_cell(owner, |_, contents| {
            let transaction = &contents.transaction;
            let is_listed = transaction.partitions.contains(topic, partition);
            let epoch = transaction.producer.epoch;
            Ok(match transaction.state {
                // Of the prepared end's own epoch is what came after its marker: the next transaction, which must not
                // share its outcome.
                state
                    if state.is_prepared()
                        && is_listed
                        && !transaction.began(open.producer_epoch) =>
                {
                    Judgement::Known
                }
                State::Ongoing if is_listed && epoch == open.producer_epoch => Judgement::Known,
                state if !state.is_prepared() && epoch == open.producer_epoch => Judgement::Unknown,
                _ => Judgement::Stale {
                    epoch: epoch.max(open.producer_epoch),
                },
            })
        });
        judged.unwrap_or(stale)
    }

    /// Nobody can go on with it: the marker is all that is missing.
    fn abort_alone(&self, topic: &str, partition: PartitionIndex, (id, epoch): (i64, i16)) {
        let marker = TransactionMarker {
            producer_id: id,
            producer_epoch: epoch,
            outcome: MarkerOutcome::Abort,
            coordinator_epoch: COORDINATOR_EPOCH,
        };
        match self.surroundings.mark(topic, partition, marker) {
            Ok(_) => {
                tracing::warn!(
                    topic,
                    partition,
                    producer_id = id,
                    "an open transaction that nobody knows is aborted"
                );
            }
            Err(error) => {
                tracing::error!(topic, partition, producer_id = id, %error, "an open transaction that nobody knows could not be aborted");
            }
        }
    }
}

enum Judgement {
    /// Its transaction ends it in time.
    Known,
    /// Its transaction does not know it, and its producer could go on.
    Unknown,
    /// Of an earlier epoch, or of a producer that nobody has.
    Stale { epoch: i16 },
}
