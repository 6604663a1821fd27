//! Offsets that were committed in transactions: which groups wait for which producer's marker, now and while reading back.
//!
//! A marker in a partition of `__consumer_offsets` ends the producer's transaction for every group whose offsets it has in that
//! partition. TxnOffsetCommit: KIP-98, KIP-447.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::driver::{Cell, Contents, Driver};
use super::group::Now;
use super::offsets::GroupOffsets;
use super::record::{self, Entry, GroupRecord};
use super::storage::{NewRecords, Stored};
use super::transaction::Producer;
use super::{CommitRequest, CommittedOffset, Coordinator, GroupError, calls};
use crate::log::{AppendError, MarkerOutcome, TransactionMarker};

/// Resolves when something is durable.
pub type Durable<E> = BoxFuture<'static, Result<(), E>>;

/// Groups that wait for the same marker.
type Waiting = BTreeSet<Arc<str>>;

/// Groups by the partition that keeps them and the producer whose marker they wait for.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions {
    groups: Mutex<HashMap<(usize, i64), Waiting>>,
}

impl OpenTransactions {
    fn add(&self, partition: usize, producer_id: i64, group: &Arc<str>) {
        let mut groups = self.groups.lock();
        let waiting = groups.entry((partition, producer_id)).or_default();
        waiting.insert(Arc::clone(group));
    }

    fn take(&self, partition: usize, producer_id: i64) -> Waiting {
        let mut groups = self.groups.lock();
        groups.remove(&(partition, producer_id)).unwrap_or_default()
    }

    pub fn restore(&self, partition: usize, open: HashMap<i64, BTreeSet<String>>) {
        for (producer_id, groups) in open {
            for group in groups {
                self.add(partition, producer_id, &group.into());
            }
        }
    }
}

/// What was read back so far.
#[derive(Default)]
pub(super) struct Replaying {
    records: HashMap<String, GroupRecord>,
    offsets: HashMap<String, GroupOffsets>,
    /// Of the partition that is being read: groups by the producer whose marker they wait for.
    open: HashMap<i64, BTreeSet<String>>,
}

impl Replaying {
    pub fn apply(&mut self, stored: Stored) {
        let (offset, key, value, producer_id) = match stored {
            Stored::Marker(marker) => return self.end_transaction(&marker),
            Stored::Record {
                offset,
                key,
                value,
                producer_id,
            } => (offset, key, value, producer_id),
        };
        match record::decode(key, value) {
            Ok(Some(Entry::Group { group, value })) => {
                match value {
                    Some(value) => self.records.insert(group, value),
                    None => self.records.remove(&group),
                };
            }
            Ok(Some(Entry::Offset {
                group,
                topic,
                partition,
                value,
            })) => {
                if let Some(producer_id) = producer_id {
                    self.open
                        .entry(producer_id)
                        .or_default()
                        .insert(group.clone());
                }
                let offsets = self.offsets.entry(group).or_default();
                match (producer_id, value) {
                    (Some(producer_id), Some(value)) => {
                        offsets.pend(producer_id, (&topic, partition), offset, value);
                    }
                    (_, value) => offsets.restore(&topic, partition, offset, value),
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a record of the offsets topic is passed over"),
        }
    }

    fn end_transaction(&mut self, marker: &TransactionMarker) {
        for group in self.open.remove(&marker.producer_id).unwrap_or_default() {
            if let Some(offsets) = self.offsets.get_mut(&group) {
                offsets.end_transaction(marker.producer_id, is_commit(marker));
            }
        }
    }

    /// What is still open in the partition that was read.
    pub fn take_open(&mut self) -> HashMap<i64, BTreeSet<String>> {
        std::mem::take(&mut self.open)
    }

    pub fn finish(mut self) -> (HashMap<String, GroupRecord>, HashMap<String, GroupOffsets>) {
        self.offsets.retain(|_, offsets| !offsets.is_empty());
        (self.records, self.offsets)
    }
}

fn is_commit(marker: &TransactionMarker) -> bool {
    marker.outcome == MarkerOutcome::Commit
}

impl Coordinator {
    /// The partition of `__consumer_offsets` that keeps the group.
    pub fn partition_of(&self, group: &str) -> i32 {
        let partition = super::storage::partition_for(group, self.driver.log.partitions());
        i32::try_from(partition).unwrap_or(0)
    }

    /// TxnOffsetCommit: appends offsets as part of a producer's transaction, and gives what resolves when they are durable.
    /// They count when the transaction commits. The caller holds the transaction open meanwhile.
    ///
    /// # Errors
    /// As `commit_offsets`, with `IllegalGeneration` for a group that does not exist.
    pub fn commit_in_transaction(
        &self,
        producer: Producer,
        request: CommitRequest,
    ) -> Result<Durable<GroupError>, GroupError> {
        calls::check_offsets(&self.driver.config, &request)?;
        let (group, generation) = (request.group.clone(), request.generation);
        let holder = request.holder.clone();
        let driver = Arc::clone(&self.driver);
        let commit = move |cell: &Arc<Cell>, contents: &mut Contents, now: Now| {
            append_pending(&driver, cell, contents, now, (producer, request))
        };
        match generation < 0 {
            true => self.driver.with_or_create(&group, &holder, commit)?,
            false => self
                .driver
                .with_used(&group, &holder, commit)
                .ok_or(GroupError::IllegalGeneration)?,
        }
    }

    /// Writes the end of a producer's transaction into a partition of `__consumer_offsets`; what is given resolves when that is
    /// durable and the groups show what it committed. Runs on if it is dropped.
    pub fn end_transaction(
        &self,
        partition: usize,
        marker: TransactionMarker,
    ) -> Result<Durable<String>, AppendError> {
        let offset = self.driver.log.mark(partition, &marker)?;
        let durable = self.driver.log.committed(partition, offset);
        let driver = Arc::clone(&self.driver);
        let ended = tokio::spawn(async move {
            durable.await?;
            for group in driver.open.take(partition, marker.producer_id) {
                driver.with(&group, |_, contents, _| {
                    let is_commit = is_commit(&marker);
                    contents
                        .offsets
                        .end_transaction(marker.producer_id, is_commit);
                });
            }
            Ok(())
        });
        Ok(async move { ended.await.unwrap_or_else(|error| Err(error.to_string())) }.boxed())
    }
}

fn append_pending(
    driver: &Driver,
    cell: &Arc<Cell>,
    contents: &mut Contents,
    now: Now,
    (producer, request): (Producer, CommitRequest),
) -> Result<Durable<GroupError>, GroupError> {
    contents.group.check_transactional_commit(
        &request.member_id,
        request.instance_id.as_deref(),
        request.generation,
    )?;
    driver.check_growth(
        contents,
        contents.offsets.growth_by_pending(&request.offsets),
    )?;
    let records = calls::offset_records(&cell.id, &request.offsets, now.wall_ms)?;
    if records.is_empty() {
        return Ok(async { Ok(()) }.boxed());
    }
    let new = NewRecords {
        timestamp: now.wall_ms,
        records,
        producer: Some(producer),
    };
    let last = driver
        .log
        .append(cell.partition, new)
        .map_err(GroupError::Storage)?;
    driver.open.add(cell.partition, producer.id, &cell.id);
    for offset in request.offsets {
        let value = CommittedOffset {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata,
            committed_ms: now.wall_ms,
            expires_ms: None,
        };
        let place = (offset.topic.as_str(), offset.partition);
        contents.offsets.pend(producer.id, place, last, value);
    }
    let durable = driver.log.committed(cell.partition, last);
    Ok(async move { durable.await.map_err(GroupError::Storage) }.boxed())
}
