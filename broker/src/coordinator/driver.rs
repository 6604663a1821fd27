//! What gives groups time and a log: looks a group up, calls its machine under its lock, and carries the effects out.
//!
//! - A **cell** is a group with its offsets and the requests that wait for it, behind one lock. The lock is never held across
//!   an await. Records are appended under it, and waited for without it.
//! - Whatever must happen after a record is durable runs in a task of its own: the request that began it may be cancelled,
//!   the group must go on.
//! - A request that is cancelled leaves its waiter behind. The machine answers it in time as if it were there, and the answer
//!   is dropped.
//!
//! Lock order: a cell, then the directory of groups, then the ledger.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::directory::{Directory, Turn};
use super::group::{Effect, Group, Limits, MAX_GROUP_BYTES, Now, Ticket, Waiter};
use super::offsets::{GroupOffsets, Retention};
use super::pending::{OpenTransactions, Replaying};
use super::record::{self, GroupRecord, RecordError};
use super::shares::{Bound, Bounds, Holder, Ledger, Refusal, Standing};
use super::storage::{KeyValue, NewRecords, RecordLog, partition_for};
use super::timers::Timers;
use super::{GroupError, JoinOutcome, SyncOutcome};
use crate::config::GroupConfig;
use crate::env::Clock;
use crate::types::{Offset, PartitionIndex, TimestampMs};

/// How long an empty group without offsets stays visible.
const VACANT_GROUP_KEPT: Duration = Duration::from_secs(600);
/// Bounds on the time between two looks for expired offsets.
const SWEEPS_APART: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// How long members that were told an id keep a group that somebody else would have the place of.
const PENDING_KEPT: Duration = Duration::from_secs(60);
/// What a group takes in memory besides what is in it.
const GROUP_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Driver {
    pub config: GroupConfig,
    pub log: Box<dyn RecordLog>,
    pub clock: Clock,
    started: Instant,
    pub groups: Directory<Cell>,
    /// Whose the groups are.
    pub ledger: Mutex<Ledger>,
    timers: Timers,
    next_waiter: AtomicU64,
    /// Groups with offsets of transactions that are open.
    pub open: OpenTransactions,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub id: Arc<str>,
    /// Of the offsets topic.
    pub partition: usize,
    contents: Mutex<Contents>,
}

#[derive(Debug)]
pub(super) struct Contents {
    pub group: Group,
    pub offsets: GroupOffsets,
    joins: HashMap<Waiter, oneshot::Sender<Result<JoinOutcome, GroupError>>>,
    syncs: HashMap<Waiter, oneshot::Sender<Result<SyncOutcome, GroupError>>>,
    /// The group's entry among the timers.
    scheduled: Option<Duration>,
    standing: Standing,
}

impl Contents {
    fn new(group: Group) -> Self {
        Self {
            group,
            offsets: GroupOffsets::default(),
            joins: HashMap::new(),
            syncs: HashMap::new(),
            scheduled: None,
            standing: Standing::default(),
        }
    }

    /// Neither members nor offsets: nothing would be lost with it.
    fn is_stranger(&self) -> bool {
        self.group.is_empty() && self.offsets.is_empty()
    }

    pub fn wait_for_join(
        &mut self,
        waiter: Waiter,
    ) -> oneshot::Receiver<Result<JoinOutcome, GroupError>> {
        let (sender, receiver) = oneshot::channel();
        self.joins.insert(waiter, sender);
        receiver
    }

    pub fn wait_for_sync(
        &mut self,
        waiter: Waiter,
    ) -> oneshot::Receiver<Result<SyncOutcome, GroupError>> {
        let (sender, receiver) = oneshot::channel();
        self.syncs.insert(waiter, sender);
        receiver
    }

    fn retention(&self, config: &GroupConfig) -> Retention {
        Retention {
            empty_since_ms: self.group.empty_since_ms(),
            retention: config.offsets_retention,
        }
    }
}

fn bounds(config: &GroupConfig) -> Bounds {
    let bound = |setting, value| Bound { setting, value };
    Bounds {
        total: bound("groups.max-groups", config.max_groups),
        share: bound(
            "groups.max-groups-per-principal",
            config.max_groups_per_principal,
        ),
        pace: bound(
            "groups.max-new-groups-per-second",
            config.max_new_groups_per_second,
        ),
        total_bytes: bound("groups.max-bytes", config.max_bytes),
        share_bytes: bound(
            "groups.max-bytes-per-principal",
            config.max_bytes_per_principal,
        ),
    }
}

impl From<RecordError> for GroupError {
    fn from(error: RecordError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl Driver {
    /// Reads every group back. Blocking.
    pub fn open(config: GroupConfig, log: Box<dyn RecordLog>, clock: Clock) -> Arc<Self> {
        let driver = Self {
            ledger: Mutex::new(Ledger::new(bounds(&config))),
            config,
            log,
            clock,
            started: Instant::now(),
            groups: Directory::default(),
            timers: Timers::default(),
            next_waiter: AtomicU64::new(0),
            open: OpenTransactions::default(),
        };
        let (records, offsets) = driver.replay();
        driver.restore(records, offsets);
        Arc::new(driver)
    }

    fn replay(&self) -> (HashMap<String, GroupRecord>, HashMap<String, GroupOffsets>) {
        let mut replaying = Replaying::default();
        for partition in 0..self.log.partitions() {
            let mut apply = |stored| replaying.apply(stored);
            for damage in self.log.replay(partition, &mut apply) {
                tracing::error!(
                    damage,
                    "the offsets topic is damaged; some offsets are older"
                );
            }
            self.open.restore(partition, replaying.take_open());
        }
        replaying.finish()
    }

    fn restore(
        &self,
        records: HashMap<String, GroupRecord>,
        mut offsets: HashMap<String, GroupOffsets>,
    ) {
        let now = self.now();
        let restored: Vec<(String, Contents)> = records
            .into_iter()
            .map(|(id, record)| {
                let group = Group::restore(&id, self.limits(), record, now);
                let mut contents = Contents::new(group);
                contents.offsets = offsets.remove(&id).unwrap_or_default();
                (id, contents)
            })
            .collect();
        let without_record = offsets.into_iter().map(|(id, offsets)| {
            let mut contents = Contents::new(Group::new(&id, self.limits()));
            contents.offsets = offsets;
            (id, contents)
        });
        for (id, mut contents) in restored.into_iter().chain(without_record) {
            let made = self.groups.get_or_insert(&id, |id| {
                self.ledger.lock().restore(&Holder::default());
                self.account(id, &mut contents, now);
                self.schedule(id, &mut contents);
                Ok::<_, Infallible>(Arc::new(self.cell(Arc::clone(id), contents)))
            });
            debug_assert!(made.is_ok());
        }
    }

    fn cell(&self, id: Arc<str>, contents: Contents) -> Cell {
        Cell {
            partition: partition_for(&id, self.log.partitions()),
            id,
            contents: Mutex::new(contents),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            initial_rebalance_delay: self.config.initial_rebalance_delay,
            max_members: self.config.max_members,
            max_member_bytes: self.config.max_member_bytes,
            max_group_bytes: self.config.max_group_bytes.min(MAX_GROUP_BYTES),
        }
    }

    pub fn now(&self) -> Now {
        Now {
            elapsed: self.started.elapsed(),
            wall_ms: self.clock.now_ms(),
        }
    }

    pub fn new_waiter(&self) -> Waiter {
        Waiter(self.next_waiter.fetch_add(1, Ordering::Relaxed))
    }

    /// The group, which is made for the holder when it is missing and nothing stands in the way.
    fn find_or_create(&self, id: &str, holder: &Holder) -> Result<Arc<Cell>, Refusal> {
        self.groups.get_or_insert(id, |id| {
            let now = self.started.elapsed();
            self.ledger.lock().admit(holder, now)?;
            let mut contents = Contents::new(Group::new(id, self.limits()));
            contents.standing = Standing::of(holder.clone());
            Ok(Arc::new(self.cell(Arc::clone(id), contents)))
        })
    }

    /// Runs `call` on a group under its lock and carries out what it caused. `None` when there is no such group.
    pub fn with<R>(
        self: &Arc<Self>,
        id: &str,
        call: impl FnOnce(&Arc<Cell>, &mut Contents, Now) -> R,
    ) -> Option<R> {
        let cell = self.groups.get(id)?;
        self.with_cell(&cell, call)
    }

    /// As `with`, for one who uses the group: it is the holder's when it was nobody's.
    pub fn with_used<R>(
        self: &Arc<Self>,
        id: &str,
        holder: &Holder,
        call: impl FnOnce(&Arc<Cell>, &mut Contents, Now) -> R,
    ) -> Option<R> {
        self.with(id, |cell, contents, now| {
            contents.standing.adopt(&self.ledger, holder);
            call(cell, contents, now)
        })
    }

    /// As `with_used`, on a group that is created when it is missing.
    pub fn with_or_create<R>(
        self: &Arc<Self>,
        id: &str,
        holder: &Holder,
        call: impl FnOnce(&Arc<Cell>, &mut Contents, Now) -> R,
    ) -> Result<R, GroupError> {
        let mut call = Some(call);
        loop {
            let cell = match self.find_or_create(id, holder) {
                Ok(cell) => cell,
                Err(refusal) if self.make_room(holder, refusal) => continue,
                Err(refusal) => return Err(self.refused(holder, refusal)),
            };
            // A group that ended between the two steps is no longer in the map: the next round makes a new one.
            let done = self.with_cell(&cell, |cell, contents, now| {
                contents.standing.adopt(&self.ledger, holder);
                call.take().map(|call| call(cell, contents, now))
            });
            if let Some(Some(result)) = done {
                return Ok(result);
            }
        }
    }

    /// Forgets a group that nothing would be lost with, for a newcomer. False when there is none.
    fn make_room(self: &Arc<Self>, holder: &Holder, refusal: Refusal) -> bool {
        let strangers = self.ledger.lock().strangers(holder, refusal);
        strangers.into_iter().any(|(id, since)| {
            let forgotten = self.with(&id, |cell, contents, now| {
                let is_old = now.elapsed.saturating_sub(since) >= PENDING_KEPT;
                let may_go = contents.group.is_vacant() || is_old;
                if !contents.is_stranger() || !may_go {
                    return false;
                }
                let buried = self.bury(cell, contents, &[], true);
                buried.is_ok() && contents.group.delete().is_ok()
            });
            forgotten.unwrap_or(true)
        })
    }

    fn refused(&self, holder: &Holder, refusal: Refusal) -> GroupError {
        self.report(holder, refusal.bound());
        let setting = refusal.bound().setting;
        match refusal {
            Refusal::Pace(_) => GroupError::Busy(setting),
            Refusal::Share(_) | Refusal::Total(_) => GroupError::TooManyGroups(setting),
        }
    }

    /// Counts a refusal, and logs some.
    fn report(&self, holder: &Holder, bound: Bound) {
        let line = self.ledger.lock().refuse(bound, self.started.elapsed());
        if let Some(left_out) = line {
            let Bound { setting, value } = bound;
            tracing::warn!(%holder, setting, value, left_out, "refused, because a bound on groups was reached");
        }
    }

    /// May the group grow by so many bytes? It counts for whoever has made it.
    pub fn check_growth(&self, contents: &Contents, growth: usize) -> Result<(), GroupError> {
        let holder = contents.standing.holder();
        let checked = self.ledger.lock().check_bytes(holder, growth);
        checked.map_err(|bound| {
            self.report(holder, bound);
            GroupError::Busy(bound.setting)
        })
    }

    fn account(&self, id: &Arc<str>, contents: &mut Contents, now: Now) {
        let bytes =
            GROUP_BYTES + id.len() + contents.group.size_bytes() + contents.offsets.size_bytes();
        let is_stranger = contents.is_stranger();
        contents
            .standing
            .update(&self.ledger, id, (bytes, is_stranger), now.elapsed);
    }

    /// `None` when the group has ended.
    pub fn with_cell<R>(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        call: impl FnOnce(&Arc<Cell>, &mut Contents, Now) -> R,
    ) -> Option<R> {
        let mut contents = cell.contents.lock();
        if contents.group.is_dead() {
            return None;
        }
        let now = self.now();
        let result = call(cell, &mut contents, now);
        self.settle(cell, &mut contents, now);
        Some(result)
    }

    fn settle(self: &Arc<Self>, cell: &Arc<Cell>, contents: &mut Contents, now: Now) {
        loop {
            let effects = contents.group.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(cell, contents, now, effect);
            }
        }
        // Nobody joined it in the end, and the log does not know it.
        let is_unused = contents.group.is_vacant() && contents.offsets.is_empty();
        if is_unused && !contents.group.is_stored() {
            let _ = contents.group.delete();
        }
        if contents.group.is_dead() {
            self.groups.remove(&cell.id);
            contents.standing.close(&self.ledger, now.elapsed);
            if let Some(at) = contents.scheduled.take() {
                self.timers.cancel(&cell.id, at);
            }
        } else {
            self.account(&cell.id, contents, now);
            self.schedule(&cell.id, contents);
        }
    }

    fn carry_out(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        contents: &mut Contents,
        now: Now,
        effect: Effect,
    ) {
        // A receiver that is gone belonged to a cancelled request.
        match effect {
            Effect::Joined(waiter, answer) => {
                if let Some(sender) = contents.joins.remove(&waiter)
                    && let Err(Ok(outcome)) = sender.send(answer)
                {
                    contents.group.undelivered(now, &outcome.member_id);
                }
            }
            Effect::Synced(waiter, answer) => {
                if let Some(sender) = contents.syncs.remove(&waiter) {
                    let _ = sender.send(answer);
                }
            }
            Effect::Store(record, ticket) => {
                match (self.append_group(cell, now, &record), ticket) {
                    (Ok(offset), Some(ticket)) => self.finish_later(cell, offset, ticket),
                    (Err(error), Some(ticket)) => contents.group.stored(now, ticket, Err(error)),
                    (Ok(_), None) => {}
                    (Err(error), None) => {
                        tracing::warn!(group = %cell.id, %error, "an empty group could not be stored");
                    }
                }
            }
        }
    }

    fn append_group(
        &self,
        cell: &Cell,
        now: Now,
        group: &GroupRecord,
    ) -> Result<Offset, GroupError> {
        let key = record::group_key(&cell.id)?;
        let value = record::group_value(group)?;
        self.append(cell, now.wall_ms, vec![(key, Some(value))])
    }

    pub fn append(
        &self,
        cell: &Cell,
        timestamp: TimestampMs,
        records: Vec<KeyValue>,
    ) -> Result<Offset, GroupError> {
        let new = NewRecords {
            timestamp,
            records,
            producer: None,
        };
        self.log
            .append(cell.partition, new)
            .map_err(GroupError::Storage)
    }

    /// Hands the ticket back when the record at `offset` is durable.
    fn finish_later(self: &Arc<Self>, cell: &Arc<Cell>, offset: Offset, ticket: Ticket) {
        let committed = self.log.committed(cell.partition, offset);
        let (driver, cell) = (Arc::clone(self), Arc::clone(cell));
        tokio::spawn(async move {
            let result = committed.await.map_err(GroupError::Storage);
            driver.with_cell(&cell, |_, contents, now| {
                contents.group.stored(now, ticket, result);
            });
        });
    }

    /// Tombstones for these offsets, and for the group when it ends; the log offset of the last one.
    pub fn bury(
        &self,
        cell: &Cell,
        contents: &mut Contents,
        keys: &[(String, PartitionIndex)],
        ends_group: bool,
    ) -> Result<Option<Offset>, GroupError> {
        let mut tombstones = Vec::with_capacity(keys.len() + 1);
        for (topic, partition) in keys {
            let key = record::offset_key(&cell.id, topic, *partition)?;
            tombstones.push((key, None));
        }
        if ends_group && contents.group.is_stored() {
            tombstones.push((record::group_key(&cell.id)?, None));
        }
        if tombstones.is_empty() {
            return Ok(None);
        }
        let last = self.append(cell, self.clock.now_ms(), tombstones)?;
        contents.offsets.forget(keys, last);
        Ok(Some(last))
    }

    fn schedule(&self, id: &Arc<str>, contents: &mut Contents) {
        if let Some(at) = contents.group.wake_at()
            && contents.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            self.timers.schedule(id, contents.scheduled, at);
            contents.scheduled = Some(at);
        }
    }

    /// Carries out deadlines when they come, until the future is dropped.
    pub async fn run_timers(self: Arc<Self>) {
        let mut next_sweep = Duration::ZERO;
        loop {
            while let Some((at, id)) = self.timers.pop_due(self.started.elapsed()) {
                self.tick(&id, at);
                // Thousands of groups may be due at once; requests are served between them.
                tokio::task::yield_now().await;
            }
            if next_sweep <= self.started.elapsed() {
                next_sweep = self.started.elapsed() + self.sweep().await;
            }
            let wake_at = self
                .timers
                .next()
                .map_or(next_sweep, |at| at.min(next_sweep));
            tokio::select! {
                // In this order always, so that a simulated run is the same each time.
                biased;
                () = tokio::time::sleep_until(self.started + wake_at) => {}
                () = self.timers.earlier() => {}
            }
        }
    }

    fn tick(self: &Arc<Self>, id: &str, at: Duration) {
        self.with(id, |_, contents, now| {
            if contents.scheduled == Some(at) {
                contents.scheduled = None;
            }
            contents.group.tick(now);
        });
    }

    /// Forgets the offsets that have expired, and the groups that nothing is left of. Returns when to come again.
    pub async fn sweep(self: &Arc<Self>) -> Duration {
        let mut next_ms: Option<TimestampMs> = None;
        let mut turn = Turn::new();
        for cell in self.groups.walk() {
            let expiry = self.with_cell(&cell, |cell, contents, now| {
                self.expire(cell, contents, now.wall_ms)
            });
            next_ms = next_ms.into_iter().chain(expiry.flatten()).min();
            turn.pass().await;
        }
        self.ledger.lock().forget_idle(self.started.elapsed());
        let (least, most) = SWEEPS_APART;
        let least = least.min(self.config.offsets_retention);
        // Whatever expires next has been unused for the whole retention by then.
        let most = most.min(self.config.offsets_retention).max(least);
        let until_next = next_ms.map_or(most, |at| {
            let milliseconds = at.saturating_sub(self.clock.now_ms());
            Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
        });
        until_next.clamp(least, most)
    }

    /// As KIP-211 has it. Returns when the group wants to be looked at again, if that is known.
    fn expire(
        &self,
        cell: &Cell,
        contents: &mut Contents,
        now_ms: TimestampMs,
    ) -> Option<TimestampMs> {
        if contents.group.is_empty() {
            self.expire_unused(cell, contents, now_ms)
        } else if contents.group.knows_its_topics() {
            self.expire_left(cell, contents, now_ms)
        } else {
            None
        }
    }

    /// A group without members: all of its offsets, and then the group.
    fn expire_unused(
        &self,
        cell: &Cell,
        contents: &mut Contents,
        now_ms: TimestampMs,
    ) -> Option<TimestampMs> {
        let retention = contents.retention(&self.config);
        let expired = contents.offsets.expired(now_ms, retention);
        let is_last = contents.offsets.keys(|_| true).len() == expired.len();
        let kept = VACANT_GROUP_KEPT.min(self.config.offsets_retention);
        let kept_until_ms = contents.group.empty_since_ms().map_or(now_ms, |since| {
            since.saturating_add(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX))
        });
        let ends_group = contents.group.is_vacant() && is_last && kept_until_ms <= now_ms;
        if self.bury_expired(cell, contents, &expired, ends_group) && ends_group {
            let _ = contents.group.delete();
            return None;
        }
        match contents.offsets.is_empty() {
            true => Some(kept_until_ms),
            false => contents.offsets.next_expiry_ms(now_ms, retention),
        }
    }

    /// A group with members: the offsets of topics that none of them reads any more, each by the time of its commit.
    fn expire_left(
        &self,
        cell: &Cell,
        contents: &mut Contents,
        now_ms: TimestampMs,
    ) -> Option<TimestampMs> {
        let retention = Retention {
            empty_since_ms: None,
            retention: self.config.offsets_retention,
        };
        let mut expired = contents.offsets.expired(now_ms, retention);
        let mut left: BTreeSet<String> = expired.iter().map(|(topic, _)| topic.clone()).collect();
        if !contents.group.take_subscribed(&mut left) {
            left.clear();
        }
        expired.retain(|(topic, _)| left.contains(topic));
        self.bury_expired(cell, contents, &expired, false);
        contents.offsets.next_expiry_ms(now_ms, retention)
    }

    fn bury_expired(
        &self,
        cell: &Cell,
        contents: &mut Contents,
        expired: &[(String, PartitionIndex)],
        ends_group: bool,
    ) -> bool {
        let buried = self.bury(cell, contents, expired, ends_group);
        if let Err(error) = &buried {
            tracing::warn!(group = %cell.id, %error, "expired offsets could not be forgotten");
        }
        buried.is_ok()
    }
}
