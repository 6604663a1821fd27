//! The end of a transaction, from its durable outcome to its completion: markers for every partition, again and again until each
//! has one; and the same for what a crash has left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::TransactionError;
use super::driver::{Cell, Contents, Driver};
use super::machine::{ClientVersion, NO_PRODUCER, Partitions, Producer, State, Transaction};
use crate::env::defects::{self, Defect};
use crate::log::{AppendError, MarkerOutcome, OpenTransaction, TransactionMarker};
use crate::types::{Offset, PartitionIndex};

/// Between two tries for a partition whose log refuses: doubles from the first to the second.
const RETRIES_APART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// There is one coordinator, and it is never replaced.
const COORDINATOR_EPOCH: i32 = 0;

impl Transaction {
    /// Whether a batch of this producer was written after the prepared end, which had made the producer what it is.
    fn is_before(&self, producer: Producer) -> bool {
        self.client_version == ClientVersion::BumpsEpoch && producer == self.successor()
    }

    /// The producer's id, and the one that follows when an end is prepared that changes it.
    fn ids(&self) -> [Option<i64>; 2] {
        let next = self.next_producer_id;
        [
            Some(self.producer.id),
            (next != NO_PRODUCER).then_some(next),
        ]
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
        self.finish_both(cell, stored, Partitions::default()).await;
    }

    /// As `finish`. `behind`: where the transaction after it is open, of which a loss of power took something; that one is
    /// aborted next, and its producer fenced. There the markers of the first are in front of what is open.
    async fn finish_both(
        self: Arc<Self>,
        cell: Arc<Cell>,
        mut stored: Offset,
        mut behind: Partitions,
    ) {
        loop {
            if !defects::has(Defect::MarkBeforeDecision)
                && let Err(error) = self.durable(&cell, stored).await
            {
                tracing::error!(id = %cell.id, %error, "the end of a transaction stays undecided until the broker starts again");
                return;
            }
            let prepared = self.with_cell(&cell, |_, contents| Ok(contents.transaction.clone()));
            let Ok(prepared) = prepared else { return };
            self.mark_all(&cell.id, &prepared, &behind).await;
            let mut backoff = Backoff::new();
            let next = loop {
                match self.complete(&cell, &behind) {
                    Ok(next) => break next,
                    Err(error) => {
                        tracing::warn!(id = %cell.id, %error, "the completion of a transaction could not be stored yet");
                        backoff.pause().await;
                    }
                }
            };
            let Some(next) = next else { return };
            stored = next;
            behind = Partitions::default();
        }
    }

    /// Stores the completion, or with it the end of the transaction that is open `behind`: where that is stored.
    fn complete(
        &self,
        cell: &Arc<Cell>,
        behind: &Partitions,
    ) -> Result<Option<Offset>, TransactionError> {
        self.with_cell(cell, |cell, contents| {
            if !contents.transaction.state.is_prepared() {
                return Ok(None);
            }
            let now_ms = self.clock.now_ms();
            let next = contents.transaction.complete(now_ms);
            match behind.is_empty() {
                true => self.store(cell, contents, &next).map(|_| None),
                false => self.abort_lost(cell, contents, (&next, behind)).map(Some),
            }
        })
    }

    /// Aborts a transaction of which a loss of power took something, with the partitions in which something is left.
    fn abort_lost(
        &self,
        cell: &Cell,
        contents: &mut Contents,
        (transaction, partitions): (&Transaction, &Partitions),
    ) -> Result<Offset, TransactionError> {
        tracing::warn!(id = %cell.id, "a loss of power took part of a transaction; all of it is aborted");
        let mut next = transaction.fence(self.clock.now_ms());
        for (topic, partition) in partitions.iter() {
            next.partitions.add(topic, partition);
        }
        self.store(cell, contents, &next)
    }

    async fn mark_all(&self, id: &str, prepared: &Transaction, behind: &Partitions) {
        let marker = prepared.marker();
        let mut left: Vec<(String, PartitionIndex)> = prepared
            .partitions
            .iter()
            .filter(|(topic, partition)| !behind.contains(topic, *partition))
            .map(|(topic, partition)| (topic.to_owned(), partition))
            .collect();
        if defects::has(Defect::SkipMarker) && left.len() > 1 {
            left.pop();
        }
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
        if defects::has(Defect::CompleteBeforeMarkers) {
            written.clear();
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
        let cells: Vec<Arc<Cell>> = self.cells.walk().collect();
        let mut by_producer: HashMap<i64, &Arc<Cell>> = HashMap::new();
        for cell in &cells {
            let ids = self.with_cell(cell, |_, contents| Ok(contents.transaction.ids()))?;
            by_producer.extend(ids.into_iter().flatten().map(|id| (id, cell)));
        }
        let mut lost: HashMap<&str, Partitions> = HashMap::new();
        for (topic, partition, open) in self.surroundings.open_transactions() {
            let owner = by_producer.get(&open.producer_id).copied();
            match (self.judge(owner, (&topic, partition), &open), owner) {
                (Judgement::Known, _) => {}
                (Judgement::Unknown, _) if defects::has(Defect::KeepLostTransactions) => {}
                (Judgement::Unknown, Some(owner)) => {
                    let partitions = lost.entry(&owner.id).or_default();
                    partitions.add(&topic, partition);
                }
                (Judgement::Unknown, None) => {}
                (Judgement::Stale { epoch }, _) => {
                    self.abort_alone(&topic, partition, (open.producer_id, epoch));
                }
            }
        }
        for cell in &cells {
            let mut lost = lost.remove(&*cell.id).unwrap_or_default();
            let ended = self.with_cell(cell, |cell, contents| {
                if !lost.is_empty() && !contents.transaction.state.is_prepared() {
                    let transaction = contents.transaction.clone();
                    let partitions = std::mem::take(&mut lost);
                    self.abort_lost(cell, contents, (&transaction, &partitions))?;
                }
                let is_prepared = contents.transaction.state.is_prepared();
                Ok(is_prepared.then_some(contents.stored))
            })?;
            if let Some(stored) = ended {
                let cell = Arc::clone(cell);
                tokio::spawn(Arc::clone(self).finish_both(cell, stored, lost));
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
        let producer = Producer {
            id: open.producer_id,
            epoch: open.producer_epoch,
        };
        let judged = self.with_cell(owner, |_, contents| {
            let transaction = &contents.transaction;
            let is_listed = transaction.partitions.contains(topic, partition);
            let epoch = transaction.producer.epoch;
            Ok(match transaction.state {
                state if state.is_prepared() && transaction.is_before(producer) => {
                    Judgement::Unknown
                }
                state if state.is_prepared() && is_listed => Judgement::Known,
                State::Ongoing if is_listed && epoch == producer.epoch => Judgement::Known,
                state if !state.is_prepared() && epoch == producer.epoch => Judgement::Unknown,
                _ => Judgement::Stale {
                    epoch: epoch.max(producer.epoch),
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
    /// Its transaction does not know it, and its producer could go on. With an end prepared: it is the next transaction's.
    Unknown,
    /// Of an earlier epoch, or of a producer that nobody has.
    Stale { epoch: i16 },
}
