//! What gives transactional ids time and a log: looks an id up, runs a step of its machine under its lock, and stores what comes
//! of it before anybody sees it.
//!
//! A **cell** is one transactional id behind its lock, which is never held across an await. A step's result is appended to
//! `__transaction_state` first and takes effect in memory then; whether it must be durable is the caller's question.
//!
//! Lock order: a cell, then the map of cells; a cell, then a group's cell, then the logs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::machine::{ClientVersion, Partitions, Producer, Refusal, State, Transaction};
use super::surroundings::Surroundings;
use super::{TransactionError, record};
use crate::config::TransactionConfig;
use crate::coordinator::codec::RecordError;
use crate::coordinator::storage::{KeyValue, NewRecords, RecordLog, Stored, partition_for};
use crate::coordinator::timers::Timers;
use crate::env::defects::{self, Defect};
use crate::env::{self, Clock};
use crate::types::{Offset, TimestampMs};

/// Between two looks for ids that have expired.
const SWEEPS_APART: Duration = Duration::from_secs(3600);
/// When a transaction that is out of time could not be ended: how long until the next try.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Driver {
    pub config: TransactionConfig,
    pub clock: Clock,
    pub surroundings: Box<dyn Surroundings>,
    log: Box<dyn RecordLog>,
    started: Instant,
    cells: RwLock<HashMap<Arc<str>, Arc<Cell>>>,
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
            config,
            clock,
            surroundings,
            log,
            started: Instant::now(),
            cells: RwLock::default(),
            timers: Timers::default(),
        };
        for (id, (stored, transaction)) in driver.replay() {
            let cell = driver.cell(&id, transaction, stored);
            driver.schedule(&cell.id, &mut cell.contents.lock());
            driver.cells.write().insert(Arc::clone(&cell.id), cell);
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

    fn cell(&self, id: &str, transaction: Transaction, stored: Offset) -> Arc<Cell> {
        Arc::new(Cell {
            id: id.into(),
            partition: partition_for(id, self.log.partitions()),
            contents: Mutex::new(Contents {
                transaction,
                stored,
                is_forgotten: false,
                scheduled: None,
            }),
        })
    }

    /// Sorted by transactional id.
    pub fn cells(&self) -> Vec<Arc<Cell>> {
        let mut cells: Vec<_> = self.cells.read().values().cloned().collect();
        cells.sort_by(|one, other| one.id.cmp(&other.id));
        cells
    }

    pub fn list(&self) -> Vec<(Arc<str>, Transaction)> {
        let cells = self.cells().into_iter();
        cells
            .map(|cell| {
                (
                    Arc::clone(&cell.id),
                    cell.contents.lock().transaction.clone(),
                )
            })
            .collect()
    }

    pub fn states(&self) -> Vec<State> {
        let cells = self.cells().into_iter();
        cells
            .map(|cell| cell.contents.lock().transaction.state)
            .collect()
    }

    /// `None` when the id is new and `spare` holds no producer id for it.
    pub fn find_or_create(
        &self,
        id: &str,
        spare: &mut Option<i64>,
    ) -> Result<Option<Arc<Cell>>, TransactionError> {
        if let Some(cell) = self.cells.read().get(id) {
            return Ok(Some(Arc::clone(cell)));
        }
        let Some(producer_id) = spare.take() else {
            return Ok(None);
        };
        let mut cells = self.cells.write();
        if let Some(cell) = cells.get(id) {
            return Ok(Some(Arc::clone(cell)));
        }
        if cells.len() >= self.config.max_ids {
            return Err(TransactionError::TooManyIds(cells.len()));
        }
        let transaction = Transaction::new(producer_id, self.clock.now_ms());
        let cell = self.cell(id, transaction, -1);
        cells.insert(Arc::clone(&cell.id), Arc::clone(&cell));
        Ok(Some(cell))
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
        let cell = self.cells.read().get(id).cloned();
        let cell = cell.ok_or(Refusal::ProducerIdMapping)?;
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
            Some(next) => self.store(cell, contents, &next).map(drop),
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
        for cell in self.cells() {
            self.expire(&cell, self.clock.now_ms());
            tokio::task::yield_now().await;
        }
    }

    fn expire(&self, cell: &Arc<Cell>, now_ms: TimestampMs) {
        let mut contents = cell.contents.lock();
        let expiration = i64::try_from(self.config.id_expiration.as_millis()).unwrap_or(i64::MAX);
        if contents.is_forgotten || !contents.transaction.is_expired(now_ms, expiration) {
            return;
        }
        let tombstone = record::key(&cell.id).map_err(TransactionError::from);
        match tombstone.and_then(|key| self.append(cell, (key, None))) {
            Ok(_) => {
                contents.is_forgotten = true;
                self.cells.write().remove(&cell.id);
                if let Some(at) = contents.scheduled.take() {
                    self.timers.cancel(&cell.id, at);
                }
            }
            Err(error) => {
                tracing::warn!(id = %cell.id, %error, "an unused transactional id could not be forgotten");
            }
        }
    }
}
