//! What gives transactional ids time and a log: looks an id up, runs a step of its machine under its lock, and stores what comes
//! of it before anybody sees it.
//!
//! A **cell** is one transactional id behind its lock, which is never held across an await. A step's result is appended to
//! `__transaction_state` first and takes effect in memory then; whether it must be durable is the caller's question.
//!
//! Lock order: a cell, then the directory of cells, then the ledger; a cell, then a group's cell, then the logs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::machine::{
    ClientVersion, Partitions, Producer, Refusal, State, TRANSACTION_BYTES, Transaction,
};
use super::surroundings::Surroundings;
use super::{TransactionError, record};
use crate::config::TransactionConfig;
use crate::coordinator::codec::RecordError;
use crate::coordinator::directory::{Directory, Turn};
use crate::coordinator::shares::{Bound, Bounds, Holder, Ledger, Refusal as Full, Standing};
use crate::coordinator::storage::{KeyValue, NewRecords, RecordLog, Stored, partition_for};
use crate::coordinator::timers::Timers;
use crate::env::defects::{self, Defect};
use crate::env::{self, Clock};
use crate::types::{Offset, TimestampMs};

/// Between two looks for ids that have expired.
const SWEEPS_APART: Duration = Duration::from_secs(3600);
/// When a transaction that is out of time could not be ended: how long until the next try.
const RETRY: Duration = Duration::from_secs(5);
/// How long an id that never completed a transaction keeps its place when somebody else would have it.
const STRANGER_KEPT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Driver {
    pub config: TransactionConfig,
    pub clock: Clock,
    pub surroundings: Box<dyn Surroundings>,
    log: Box<dyn RecordLog>,
    started: Instant,
    pub cells: Directory<Cell>,
    /// Whose the ids are.
    pub ledger: Mutex<Ledger>,
    timers: Timers,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub id: Arc<str>,
    /// Of `__transaction_state`.
    partition: usize,
    contents: Mutex<Contents>,
}

#[derive(Debug)]
pub(super) struct Contents {
    pub transaction: Transaction,
    /// Where its record is in the log.
    pub stored: Offset,
    /// No longer in the map.
    is_forgotten: bool,
    /// The id's entry among the timers.
    scheduled: Option<Duration>,
    /// A transaction was completed.
    has_completed: bool,
    pub standing: Standing,
}

impl Contents {
    /// No producer would miss more than its id: it never completed a transaction, and none is open.
    fn is_stranger(&self) -> bool {
        !self.has_completed && self.transaction.state == State::Empty
    }
}

fn bounds(config: &TransactionConfig) -> Bounds {
    let bound = |setting, value| Bound { setting, value };
    Bounds {
        total: bound("transactions.max-ids", config.max_ids),
        share: bound(
            "transactions.max-ids-per-principal",
            config.max_ids_per_principal,
        ),
        pace: bound(
            "transactions.max-new-ids-per-second",
            config.max_new_ids_per_second,
        ),
        total_bytes: bound("transactions.max-bytes", config.max_bytes),
        share_bytes: bound(
            "transactions.max-bytes-per-principal",
            config.max_bytes_per_principal,
        ),
    }
}

impl From<RecordError> for TransactionError {
    fn from(error: RecordError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl Driver {
    /// Reads every transactional id back. Blocking.
    pub fn open(
        config: TransactionConfig,
        log: Box<dyn RecordLog>,
        surroundings: Box<dyn Surroundings>,
        clock: Clock,
    ) -> Arc<Self> {
        let driver = Self {
            ledger: Mutex::new(Ledger::new(bounds(&config))),
            config,
            clock,
            surroundings,
            log,
            started: Instant::now(),
            cells: Directory::default(),
            timers: Timers::default(),
        };
        for (id, (stored, transaction)) in driver.replay() {
            let made = driver.cells.get_or_insert(&id, |id| {
                driver.ledger.lock().restore(&Holder::default());
                let cell = driver.cell(id, transaction, stored);
                let mut contents = cell.contents.lock();
                driver.account(id, &mut contents);
                driver.schedule(id, &mut contents);
                drop(contents);
                Ok::<_, Infallible>(cell)
            });
            debug_assert!(made.is_ok());
        }
        Arc::new(driver)
    }

    fn replay(&self) -> HashMap<String, (Offset, Transaction)> {
        let mut all = HashMap::new();
        for partition in 0..self.log.partitions() {
            let mut apply = |stored: Stored| {
                let Stored::Record {
                    offset, key, value, ..
                } = stored
                else {
                    return;
                };
                match record::decode(key, value) {
                    Ok(Some((id, Some(transaction)))) => {
                        all.insert(id, (offset, transaction));
                    }
                    Ok(Some((id, None))) => {
                        all.remove(&id);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, "a record of the transactions' topic is passed over");
                    }
                }
            };
            for damage in self.log.replay(partition, &mut apply) {
                tracing::error!(damage, "the transactions' topic is damaged");
            }
        }
        all
    }

    fn cell(&self, id: &Arc<str>, transaction: Transaction, stored: Offset) -> Arc<Cell> {
        // Of an id that was read back, an epoch above the first says that it has been in use.
        let has_completed = transaction.state.is_complete()
            || (transaction.state == State::Empty && transaction.producer.epoch > 0);
        Arc::new(Cell {
            id: Arc::clone(id),
            partition: partition_for(id, self.log.partitions()),
            contents: Mutex::new(Contents {
                transaction,
                stored,
                is_forgotten: false,
                scheduled: None,
                has_completed,
                standing: Standing::default(),
            }),
        })
    }

    /// Sorted by transactional id.
    pub async fn list(&self) -> Vec<(Arc<str>, Transaction)> {
        let mut all = Vec::new();
        self.cells
            .for_each(|cell| {
                let transaction = cell.contents.lock().transaction.clone();
                all.push((Arc::clone(&cell.id), transaction));
            })
            .await;
        all
    }

    pub fn states(&self) -> Vec<State> {
        let cells = self.cells.walk();
        cells
            .map(|cell| cell.contents.lock().transaction.state)
            .collect()
    }

    /// `None` when the id is new and `spare` holds no producer id for it. A new one counts for the holder.
    pub fn find_or_create(
        &self,
        id: &str,
        holder: &Holder,
        spare: &mut Option<i64>,
    ) -> Result<Option<Arc<Cell>>, TransactionError> {
        if let Some(cell) = self.cells.get(id) {
            return Ok(Some(cell));
        }
        self.check_bytes(holder, id.len() + TRANSACTION_BYTES)?;
        loop {
            let made = match *spare {
                Some(producer_id) => self.create(id, holder, producer_id).map(Some),
                None => {
                    let now = self.started.elapsed();
                    let checked = self.ledger.lock().check(holder, now);
                    checked.map(|()| None)
                }
            };
            match made {
                Ok(made) => {
                    *spare = spare.filter(|_| made.is_none());
                    return Ok(made);
                }
                Err(full) if self.make_room(holder, full) => {}
                Err(full) => return Err(self.refused(holder, full)),
            }
        }
    }

    fn create(&self, id: &str, holder: &Holder, producer_id: i64) -> Result<Arc<Cell>, Full> {
        self.cells.get_or_insert(id, |id| {
            self.ledger.lock().admit(holder, self.started.elapsed())?;
            let transaction = Transaction::new(producer_id, self.clock.now_ms());
            let cell = self.cell(id, transaction, -1);
            let mut contents = cell.contents.lock();
            contents.standing = Standing::of(holder.clone());
            self.account(id, &mut contents);
            drop(contents);
            Ok(cell)
        })
    }

    /// Forgets an id that never completed a transaction, for a newcomer. False when there is none that is old enough: its producer
    /// may be about to begin.
    fn make_room(&self, holder: &Holder, full: Full) -> bool {
        let strangers = self.ledger.lock().strangers(holder, full);
        strangers.into_iter().any(|(id, since)| {
            let Some(cell) = self.cells.get(&id) else {
                return true;
            };
            let mut contents = cell.contents.lock();
            let is_old = self.started.elapsed().saturating_sub(since) >= STRANGER_KEPT;
            is_old && contents.is_stranger() && self.forget(&cell, &mut contents).is_ok()
        })
    }

    fn refused(&self, holder: &Holder, full: Full) -> TransactionError {
        self.report(holder, full.bound());
        let setting = full.bound().setting;
        match full {
            Full::Pace(_) => TransactionError::Busy(setting),
            Full::Share(_) | Full::Total(_) => TransactionError::TooManyIds(setting),
        }
    }

    /// Counts a refusal, and logs some.
    fn report(&self, holder: &Holder, bound: Bound) {
        let line = self.ledger.lock().refuse(bound, self.started.elapsed());
        if let Some(left_out) = line {
            let Bound { setting, value } = bound;
            tracing::warn!(%holder, setting, value, left_out, "refused, because a bound on transactional ids was reached");
        }
    }

    /// A producer id is given that is not kept.
    pub fn pace(&self, holder: &Holder) -> Result<(), TransactionError> {
        let paced = self.ledger.lock().pace(holder, self.started.elapsed());
        paced.map_err(|full| self.refused(holder, full))
    }

    fn account(&self, id: &Arc<str>, contents: &mut Contents) {
        let bytes = id.len() + contents.transaction.size_bytes();
        let is_stranger = contents.is_stranger();
        let now = self.started.elapsed();
        contents
            .standing
            .update(&self.ledger, id, (bytes, is_stranger), now);
    }

    /// May the id's state grow to this? It counts for whoever has made it.
    fn check_growth(
        &self,
        contents: &Contents,
        next: &Transaction,
    ) -> Result<(), TransactionError> {
        let growth = next
            .size_bytes()
            .saturating_sub(contents.transaction.size_bytes());
        self.check_bytes(contents.standing.holder(), growth)
    }

    fn check_bytes(&self, holder: &Holder, growth: usize) -> Result<(), TransactionError> {
        let checked = self.ledger.lock().check_bytes(holder, growth);
        checked.map_err(|bound| {
            self.report(holder, bound);
            TransactionError::Busy(bound.setting)
        })
    }

    /// Runs `step` on a transactional id under its lock.
    ///
    /// # Errors
    /// `ProducerIdMapping` when there is no such id, and whatever the step refuses.
    pub fn with<R>(
        &self,
        id: &str,
        step: impl FnOnce(&Arc<Cell>, &mut Contents) -> Result<R, TransactionError>,
    ) -> Result<R, TransactionError> {
        let cell = self.cells.get(id).ok_or(Refusal::ProducerIdMapping)?;
        self.with_cell(&cell, step)
    }

    pub fn with_cell<R>(
        &self,
        cell: &Arc<Cell>,
        step: impl FnOnce(&Arc<Cell>, &mut Contents) -> Result<R, TransactionError>,
    ) -> Result<R, TransactionError> {
        let mut contents = cell.contents.lock();
        if contents.is_forgotten {
            return Err(Refusal::ProducerIdMapping.into());
        }
        step(cell, &mut contents)
    }

    /// Appends `next` and makes it the id's state; the offset of its record.
    pub fn store(
        &self,
        cell: &Cell,
        contents: &mut Contents,
        next: &Transaction,
    ) -> Result<Offset, TransactionError> {
        let entry = (record::key(&cell.id)?, Some(record::value(next)?));
        contents.stored = self.append(cell, entry)?;
        contents.transaction = next.clone();
        contents.has_completed |= next.state.is_complete();
        self.account(&cell.id, contents);
        self.schedule(&cell.id, contents);
        Ok(contents.stored)
    }

    fn append(&self, cell: &Cell, entry: KeyValue) -> Result<Offset, TransactionError> {
        let new = NewRecords {
            timestamp: self.clock.now_ms(),
            records: vec![entry],
            producer: None,
        };
        self.log
            .append(cell.partition, new)
            .map_err(TransactionError::Storage)
    }

    pub async fn durable(&self, cell: &Cell, offset: Offset) -> Result<(), TransactionError> {
        let committed = self.log.committed(cell.partition, offset);
        committed.await.map_err(TransactionError::Storage)
    }

    pub fn add(
        &self,
        cell: &Cell,
        contents: &mut Contents,
        producer: Producer,
        (partitions, version): (&Partitions, ClientVersion),
    ) -> Result<(), TransactionError> {
        let now_ms = self.clock.now_ms();
        match contents
            .transaction
            .add(producer, partitions, version, now_ms)?
        {
            Some(next) => {
                self.check_growth(contents, &next)?;
                self.store(cell, contents, &next).map(drop)
            }
            None => Ok(()),
        }
    }

    pub async fn new_producer_id(self: &Arc<Self>) -> Result<i64, TransactionError> {
        let driver = Arc::clone(self);
        let given = env::blocking(move || driver.surroundings.new_producer_id());
        let given = given.await.unwrap_or_else(|error| Err(error.to_string()));
        given.map_err(TransactionError::Storage)
    }

    fn schedule(&self, id: &Arc<str>, contents: &mut Contents) {
        let Some(deadline) = contents.transaction.deadline_ms() else {
            return;
        };
        let left = deadline.saturating_sub(self.clock.now_ms());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        self.schedule_in(id, contents, left);
    }

    /// An entry that is earlier stays: it finds out what is left then.
    fn schedule_in(&self, id: &Arc<str>, contents: &mut Contents, left: Duration) {
        let at = self.started.elapsed() + left;
        if contents.scheduled.is_none_or(|scheduled| at < scheduled) {
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
                // Many may be due at once; requests are served between them.
                tokio::task::yield_now().await;
            }
            if next_sweep <= self.started.elapsed() {
                self.sweep().await;
                next_sweep = self.started.elapsed() + SWEEPS_APART.min(self.config.id_expiration);
            }
            let next = self.timers.next();
            let wake_at = next.map_or(next_sweep, |at| at.min(next_sweep));
            tokio::select! {
                // In this order always, so that a simulated run is the same each time.
                biased;
                () = tokio::time::sleep_until(self.started + wake_at) => {}
                () = self.timers.earlier() => {}
            }
        }
    }

    fn tick(self: &Arc<Self>, id: &str, at: Duration) {
        let now_ms = self.clock.now_ms();
        let fenced = self.with(id, |cell, contents| {
            if contents.scheduled == Some(at) {
                contents.scheduled = None;
            }
            let deadline = contents.transaction.deadline_ms();
            if defects::has(Defect::IgnoreTimeouts) {
                return Ok(None);
            }
            if deadline.is_none_or(|deadline| now_ms < deadline) {
                self.schedule(&cell.id, contents);
                return Ok(None);
            }
            let next = contents.transaction.fence(now_ms);
            match self.store(cell, contents, &next) {
                Ok(stored) => Ok(Some((Arc::clone(cell), stored))),
                Err(error) => {
                    self.schedule_in(&cell.id, contents, RETRY);
                    Err(error)
                }
            }
        });
        match fenced {
            Ok(Some((cell, stored))) => {
                tracing::info!(id, "a transaction ran out of time and is aborted");
                tokio::spawn(Arc::clone(self).finish(cell, stored));
            }
            Ok(None) | Err(TransactionError::Refused(_)) => {}
            Err(error) => {
                tracing::warn!(id, %error, "a transaction out of time could not be aborted");
            }
        }
    }

    /// Forgets the ids that were unused for `id_expiration`.
    pub async fn sweep(&self) {
        let mut turn = Turn::new();
        for cell in self.cells.walk() {
            self.expire(&cell, self.clock.now_ms());
            turn.pass().await;
        }
        self.ledger.lock().forget_idle(self.started.elapsed());
    }

    fn expire(&self, cell: &Arc<Cell>, now_ms: TimestampMs) {
        let mut contents = cell.contents.lock();
        let expiration = i64::try_from(self.config.id_expiration.as_millis()).unwrap_or(i64::MAX);
        if contents.is_forgotten || !contents.transaction.is_expired(now_ms, expiration) {
            return;
        }
        if let Err(error) = self.forget(cell, &mut contents) {
            tracing::warn!(id = %cell.id, %error, "an unused transactional id could not be forgotten");
        }
    }

    /// The id is unknown from now on.
    fn forget(&self, cell: &Arc<Cell>, contents: &mut Contents) -> Result<(), TransactionError> {
        if contents.is_forgotten {
            return Ok(());
        }
        self.append(cell, (record::key(&cell.id)?, None))?;
        contents.is_forgotten = true;
        self.cells.remove(&cell.id);
        contents
            .standing
            .close(&self.ledger, self.started.elapsed());
        if let Some(at) = contents.scheduled.take() {
            self.timers.cancel(&cell.id, at);
        }
        Ok(())
    }
}
