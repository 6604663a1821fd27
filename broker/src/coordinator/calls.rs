//! The coordinator's calls: each checks its input, runs the machine once, and waits for the answer without a lock.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use uuid::Builder;

use super::driver::{Cell, Contents, Driver};
use super::group::Now;
use super::storage::{InternalTopic, KeyValue};
use super::{
    CommitRequest, CommittedOffset, Coordinator, GroupDescription, GroupError, GroupListing,
    JoinOutcome, JoinRequest, OffsetToCommit, SyncOutcome, SyncRequest, record,
};
use crate::catalog::Catalog;
use crate::config::GroupConfig;
use crate::env::{Clock, random_bytes};
use crate::log::LogSet;
use crate::types::{CONSUMER_OFFSETS, Offset, PartitionIndex, TimestampMs};

/// The longest group id, in bytes of UTF-8.
pub const MAX_GROUP_ID_BYTES: usize = 1024;
/// How much of a client or instance id goes into the member ids that are made from it.
const MAX_MEMBER_ID_PREFIX: usize = 255;

/// Topic, partition and what is committed.
type Committed = (String, PartitionIndex, Option<CommittedOffset>);

/// Tombstones on their way: where the last is, by the partition that keeps it.
#[derive(Debug, Default)]
#[must_use]
pub struct Forgotten {
    last: BTreeMap<usize, Offset>,
    has_failed: bool,
}

impl Coordinator {
    /// Creates the offsets topic when it is missing and loads every group from it. Blocking. Damaged records are logged and
    /// passed over.
    ///
    /// # Errors
    /// When the topic cannot be created or its logs cannot be opened.
    pub fn open(
        config: GroupConfig,
        catalog: Arc<Catalog>,
        logs: Arc<LogSet>,
        clock: Clock,
    ) -> Result<Arc<Self>, String> {
        let partitions = config.offsets_partitions;
        let log = InternalTopic::open(CONSUMER_OFFSETS, partitions, &catalog, &logs, &clock)?;
        let driver = Driver::open(config, Box::new(log), clock);
        Ok(Arc::new(Self { driver }))
    }

    /// Runs timers (rebalances, sessions, offset expiry) until the future is dropped.
    pub async fn run_timers(self: Arc<Self>) {
        Arc::clone(&self.driver).run_timers().await;
    }

    /// Resolves when the rebalance has ended. Dropping the future leaves the group sound: the member is there until its
    /// session ends.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinOutcome, GroupError> {
        check_used_group_id(&request.group)?;
        let config = &self.driver.config;
        let sessions = config.min_session_timeout..=config.max_session_timeout;
        if !sessions.contains(&request.session_timeout) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let waiter = self.driver.new_waiter();
        let join = |_: &Arc<Cell>, contents: &mut Contents, now: Now| {
            let growth = contents.group.growth_by_join(&request);
            self.driver.check_growth(contents, growth)?;
            let receiver = contents.wait_for_join(waiter);
            let new_id = || new_member_id(&request);
            contents.group.join(now, &request, waiter, new_id);
            Ok::<_, GroupError>(receiver)
        };
        let (group, holder) = (&request.group, &request.holder);
        // Only a member without an id may bring a group into being.
        let receiver = match request.member_id.is_empty() {
            true => self.driver.with_or_create(group, holder, join)?,
            false => self
                .driver
                .with_used(group, holder, join)
                .ok_or(GroupError::UnknownMember)?,
        }?;
        receiver.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Resolves when the leader's assignments are durable.
    pub async fn sync(&self, request: SyncRequest) -> Result<SyncOutcome, GroupError> {
        check_used_group_id(&request.group)?;
        let waiter = self.driver.new_waiter();
        let receiver = self
            .driver
            .with(&request.group, |_, contents, now| {
                let growth = contents.group.growth_by_sync(&request);
                self.driver.check_growth(contents, growth)?;
                let receiver = contents.wait_for_sync(waiter);
                contents.group.sync(now, &request, waiter);
                Ok::<_, GroupError>(receiver)
            })
            .ok_or(GroupError::UnknownMember)??;
        receiver.await.unwrap_or_else(|_| Err(stopped()))
    }

    pub fn heartbeat(
        &self,
        group: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        check_used_group_id(group)?;
        self.driver
            .with(group, |_, contents, now| {
                contents
                    .group
                    .heartbeat(now, member_id, instance_id, generation)
            })
            .unwrap_or(Err(GroupError::UnknownMember))
    }

    /// Each member (id, instance id) is answered by itself.
    pub fn leave(
        &self,
        group: &str,
        members: &[(String, Option<String>)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        check_used_group_id(group)?;
        let answers = self
            .driver
            .with(group, |_, contents, now| contents.group.leave(now, members));
        Ok(answers.unwrap_or_else(|| vec![Err(GroupError::UnknownMember); members.len()]))
    }

    /// Resolves when the offsets are durable. They are stored all or none, unless the disk fails between.
    ///
    /// # Errors
    /// `GroupIdNotFound` when the group does not exist and the caller claims a generation of it; `OffsetMetadataTooLarge`
    /// when any metadata is above `max_metadata_bytes`.
    pub async fn commit_offsets(&self, request: CommitRequest) -> Result<(), GroupError> {
        check_offsets(&self.driver.config, &request)?;
        let (group, holder) = (request.group.clone(), request.holder.clone());
        let generation = request.generation;
        let driver = Arc::clone(&self.driver);
        let commit = move |cell: &Arc<Cell>, contents: &mut Contents, now: Now| {
            begin_commit(&driver, cell, contents, now, request)
        };
        let begun = match generation < 0 {
            true => self.driver.with_or_create(&group, &holder, commit)?,
            false => self
                .driver
                .with_used(&group, &holder, commit)
                .ok_or(GroupError::GroupIdNotFound)?,
        }?;
        // A task of its own, so that a cancelled request does not leave offsets in the log that memory never shows.
        let finishing = tokio::spawn(begun.finish(Arc::clone(&self.driver)));
        finishing.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// `partitions`: `None` asks for every offset of the group.
    pub fn fetch_offsets(
        &self,
        group: &str,
        partitions: Option<&[(String, PartitionIndex)]>,
    ) -> Result<Vec<Committed>, GroupError> {
        check_group_id(group)?;
        let found = self
            .driver
            .with(group, |_, contents, _| match partitions {
                Some(partitions) => partitions
                    .iter()
                    .map(|(topic, partition)| {
                        let committed = contents.offsets.get(topic, *partition).cloned();
                        (topic.clone(), *partition, committed)
                    })
                    .collect(),
                None => contents
                    .offsets
                    .iter()
                    .map(|(topic, partition, committed)| {
                        (topic.to_owned(), partition, Some(committed.clone()))
                    })
                    .collect(),
            })
            .unwrap_or_else(|| {
                let none = |key: &(String, PartitionIndex)| (key.0.clone(), key.1, None);
                partitions.unwrap_or_default().iter().map(none).collect()
            });
        Ok(found)
    }

    /// Which of these partitions have offsets in transactions that are open, so that what is committed may change (KIP-447).
    /// `None` asks for every partition of the group.
    pub fn unstable_offsets(
        &self,
        group: &str,
        partitions: Option<&[(String, PartitionIndex)]>,
    ) -> HashSet<(String, PartitionIndex)> {
        let unstable = self.driver.with(group, |_, contents, _| {
            let keys = match partitions {
                Some(partitions) => partitions.to_vec(),
                None => contents.offsets.keys(|_| true),
            };
            let keys = keys.into_iter();
            keys.filter(|(topic, partition)| contents.offsets.is_unstable(topic, *partition))
                .collect()
        });
        unstable.unwrap_or_default()
    }

    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        self.driver
            .with(group, |_, contents, _| contents.group.describe())
    }

    /// Sorted by group id.
    pub async fn list(&self) -> Vec<GroupListing> {
        let mut groups = Vec::new();
        let all = &self.driver.groups;
        all.for_each(|cell| {
            groups.extend(
                self.driver
                    .with_cell(&cell, |_, contents, _| contents.group.listing()),
            );
        })
        .await;
        groups
    }

    /// Kafka's name of each group's state. For a thread that may block.
    pub fn states(&self) -> Vec<&'static str> {
        let cells = self.driver.groups.walk();
        let state = |cell: Arc<Cell>| {
            self.driver
                .with_cell(&cell, |_, contents, _| contents.group.state_name())
        };
        cells.filter_map(state).collect()
    }

    /// What the groups take in memory, and what was refused because of a bound, by its setting.
    pub fn usage(&self) -> (usize, Vec<(&'static str, u64)>) {
        let ledger = self.driver.ledger.lock();
        (ledger.bytes(), ledger.refused().collect())
    }

    /// Ends an empty group and forgets its offsets. Resolves when that is durable.
    pub async fn delete(&self, group: &str) -> Result<(), GroupError> {
        check_group_id(group)?;
        let deleted = self.driver.with(group, |cell, contents, _| {
            if !contents.group.is_empty() {
                return Err(GroupError::NonEmptyGroup);
            }
            let keys = contents.offsets.keys(|_| true);
            let last = self.driver.bury(cell, contents, &keys, true)?;
            contents.group.delete()?;
            Ok(last.map(|last| (cell.partition, last)))
        });
        match deleted.ok_or(GroupError::GroupIdNotFound)?? {
            Some((partition, last)) => self.durable(partition, last).await,
            None => Ok(()),
        }
    }

    /// OffsetDelete (KIP-496): forgets these offsets, but for topics that a member reads, which are given back. Resolves when that
    /// is durable.
    ///
    /// # Errors
    /// `GroupIdNotFound`, or `NonEmptyGroup` where members do not say what they read.
    pub async fn delete_offsets(
        &self,
        group: &str,
        keys: &HashSet<(String, PartitionIndex)>,
    ) -> Result<BTreeSet<String>, GroupError> {
        check_used_group_id(group)?;
        let deleted = self.driver.with(group, |cell, contents, _| {
            contents.group.check_deletion_of_offsets()?;
            let named: BTreeSet<String> = keys.iter().map(|(topic, _)| topic.clone()).collect();
            let mut left = named.clone();
            // Members that cannot be understood read nothing, as in Kafka.
            let _ = contents.group.take_subscribed(&mut left);
            let mut present = contents.offsets.keys(|topic| left.contains(topic));
            present.retain(|key| keys.contains(key));
            let last = self.driver.bury(cell, contents, &present, false)?;
            let read: BTreeSet<String> = named.difference(&left).cloned().collect();
            Ok::<_, GroupError>((cell.partition, last, read))
        });
        let (partition, last, read) = deleted.ok_or(GroupError::GroupIdNotFound)??;
        if let Some(last) = last {
            self.durable(partition, last).await?;
        }
        Ok(read)
    }

    /// Forgets the offsets of a deleted topic. False: not all of that is durable, which is logged, and they would come back
    /// with a restart.
    pub async fn topic_deleted(&self, topic: &str) -> bool {
        let mut forgotten = Forgotten::default();
        let all = &self.driver.groups;
        all.for_each(|cell| self.forget_in(&cell, |name| name == topic, &mut forgotten))
            .await;
        self.are_forgotten(forgotten).await
    }

    /// Forgets the offsets of some topics, at once; `are_forgotten` waits until that is durable.
    pub fn forget_topics(&self, is_gone: impl Fn(&str) -> bool) -> Forgotten {
        let mut forgotten = Forgotten::default();
        for cell in self.driver.groups.walk() {
            self.forget_in(&cell, &is_gone, &mut forgotten);
        }
        forgotten
    }

    fn forget_in(
        &self,
        cell: &Arc<Cell>,
        is_gone: impl Fn(&str) -> bool,
        forgotten: &mut Forgotten,
    ) {
        let buried = self.driver.with_cell(cell, |cell, contents, _| {
            let keys = contents.offsets.keys(is_gone);
            self.driver.bury(cell, contents, &keys, false)
        });
        match buried {
            Some(Ok(Some(last))) => {
                forgotten.last.insert(cell.partition, last);
            }
            Some(Err(error)) => {
                report(&error);
                forgotten.has_failed = true;
            }
            Some(Ok(None)) | None => {}
        }
    }

    /// Whether all offsets that were forgotten stay so, whatever happens.
    pub async fn are_forgotten(&self, forgotten: Forgotten) -> bool {
        let mut are_all = !forgotten.has_failed;
        for (partition, last) in forgotten.last {
            if let Err(error) = self.durable(partition, last).await {
                report(&error);
                are_all = false;
            }
        }
        are_all
    }

    /// Every (group, topic, partition, committed offset), for the lag metric.
    pub fn committed(&self) -> Vec<(String, String, PartitionIndex, Offset)> {
        let mut all = Vec::new();
        for cell in self.driver.groups.walk() {
            self.driver.with_cell(&cell, |cell, contents, _| {
                let of_group = contents.offsets.iter();
                all.extend(of_group.map(|(topic, partition, committed)| {
                    let (group, topic) = (cell.id.to_string(), topic.to_owned());
                    (group, topic, partition, committed.offset)
                }));
            });
        }
        all
    }

    async fn durable(&self, partition: usize, offset: Offset) -> Result<(), GroupError> {
        let committed = self.driver.log.committed(partition, offset);
        committed.await.map_err(GroupError::Storage)
    }
}

/// Offsets that are in the log and not durable yet.
struct BegunCommit {
    cell: Arc<Cell>,
    /// The log offset of the last one's record; `None` when there was nothing to commit.
    last: Option<Offset>,
    committed_ms: i64,
    offsets: Vec<OffsetToCommit>,
}

fn begin_commit(
    driver: &Driver,
    cell: &Arc<Cell>,
    contents: &mut Contents,
    now: Now,
    request: CommitRequest,
) -> Result<BegunCommit, GroupError> {
    let instance_id = request.instance_id.as_deref();
    contents
        .group
        .check_commit(now, &request.member_id, instance_id, request.generation)?;
    driver.check_growth(contents, contents.offsets.growth(&request.offsets))?;
    let records = offset_records(&cell.id, &request.offsets, now.wall_ms)?;
    let last = match records.is_empty() {
        true => None,
        false => Some(driver.append(cell, now.wall_ms, records)?),
    };
    contents.offsets.begin(&request.offsets);
    Ok(BegunCommit {
        cell: Arc::clone(cell),
        last,
        committed_ms: now.wall_ms,
        offsets: request.offsets,
    })
}

/// The records of offsets that are committed at `now_ms`.
pub(super) fn offset_records(
    group: &str,
    offsets: &[OffsetToCommit],
    now_ms: TimestampMs,
) -> Result<Vec<KeyValue>, GroupError> {
    let mut records = Vec::with_capacity(offsets.len());
    for offset in offsets {
        let key = record::offset_key(group, &offset.topic, offset.partition)?;
        let value = record::offset_value(&CommittedOffset {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata.clone(),
            committed_ms: now_ms,
            expires_ms: None,
        })?;
        records.push((key, Some(value)));
    }
    Ok(records)
}

/// What can be said of a commit without its group.
pub(super) fn check_offsets(
    config: &GroupConfig,
    request: &CommitRequest,
) -> Result<(), GroupError> {
    check_group_id(&request.group)?;
    let max = config.max_metadata_bytes;
    let is_too_large = |offset: &OffsetToCommit| offset.metadata.len() > max;
    match request.offsets.iter().any(is_too_large) {
        true => Err(GroupError::OffsetMetadataTooLarge),
        false => Ok(()),
    }
}

impl BegunCommit {
    async fn finish(self, driver: Arc<Driver>) -> Result<(), GroupError> {
        let Some(last) = self.last else {
            return Ok(());
        };
        let committed = driver.log.committed(self.cell.partition, last);
        let result = committed.await.map_err(GroupError::Storage);
        let committed_ms = result.is_ok().then_some(self.committed_ms);
        driver.with_cell(&self.cell, |_, contents, _| {
            contents.offsets.finish(self.offsets, last, committed_ms);
        });
        result
    }
}

/// Where a group must have a name. Offsets alone can be kept for the group without one, as old tools do.
fn check_used_group_id(group: &str) -> Result<(), GroupError> {
    match group.is_empty() {
        true => Err(GroupError::InvalidGroupId),
        false => check_group_id(group),
    }
}

fn check_group_id(group: &str) -> Result<(), GroupError> {
    match group.len() <= MAX_GROUP_ID_BYTES {
        true => Ok(()),
        false => Err(GroupError::InvalidGroupId),
    }
}

fn new_member_id(request: &JoinRequest) -> String {
    let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
    let prefix = &prefix[..prefix.floor_char_boundary(MAX_MEMBER_ID_PREFIX)];
    let unique = Builder::from_random_bytes(random_bytes()).into_uuid();
    format!("{prefix}-{unique}")
}

fn stopped() -> GroupError {
    GroupError::Storage("the coordinator has stopped".into())
}

fn report(error: &GroupError) {
    tracing::warn!(%error, "offsets of a deleted topic could not be forgotten");
}
