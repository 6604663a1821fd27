//! One partition's commit log: appends under one lock, reads beside it, and the high watermark between them.
//!
//! The **log end** moves when a batch has been written, **synced** when it is on stable storage; the **high watermark** follows
//! one or the other, as the topic's durability says; the **last stable offset** follows it up to the first transaction that
//! is open. Invariants: log start and last stable offset ≤ high watermark ≤ log end; the list of
//! segments changes only under the writer lock and always ends with the active one; a log that stopped accepts again only after
//! it was recovered anew.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::batch::{Batch, BatchHeader};
use super::checkpoint::Cleaning;
use super::commit::Commit;
use super::damage::Damage;
use super::file::lacks_descriptor;
use super::flush::Queued;
use super::handles::{Closing, Handle};
use super::marks::{self, Mark, Marks, Parts};
use super::read::Cursors;
use super::recover::{Recovered, mark_suspect};
use super::segment::Segment;
use super::set::Shared;
use super::transactions::Transactions;
use super::waiters::Waiters;
use super::writer::{WriteError, Writer};
use super::{
    AppendError, Appended, LogStats, Offsets, OpenTransaction, ProducerState, Sequence,
    TransactionMarker, control,
};
use crate::config::{Durability, TimestampType, TopicConfig};
use crate::env::defects::{self, Defect};
use crate::types::{Offset, PartitionId, PartitionIndex, TimestampMs};

/// Who sees to it that a batch becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Durable {
    /// The log, at its own time.
    Later,
    /// The caller, who waits for it.
    Awaited,
}

/// One partition's commit log.
#[derive(Debug)]
pub struct PartitionLog {
    id: PartitionId,
    pub(super) me: Weak<Self>,
    pub(super) shared: Arc<Shared>,
    pub(super) folder: Arc<Path>,
    pub(super) config: ArcSwap<TopicConfig>,
    pub(super) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(super) log_start: AtomicI64,
    pub(super) log_end: AtomicI64,
    pub(super) high_watermark: AtomicI64,
    pub(super) synced: AtomicI64,
    /// Follows high watermark and log start through `settle`.
    last_stable: AtomicI64,
    /// Reads from here on are near the end.
    pub(super) hot_from: AtomicI64,
    pub(super) writer: Mutex<Writer>,
    /// Taken under the writer lock or alone.
    pub(super) transactions: Mutex<Transactions>,
    /// As `transactions`.
    pub(super) marks: Mutex<Marks>,
    pub(super) cursors: Mutex<Cursors>,
    pub(super) cleaning: Mutex<Cleaning>,
    pub(super) waiters: Waiters,
    pub(super) queued: Queued,
    /// A segment was created whose name may not be durable yet.
    pub(super) folder_changed: AtomicBool,
    /// As `folder_changed`, of the folder itself.
    pub(super) folder_created: AtomicBool,
    pub(super) stopped: ArcSwapOption<String>,
    /// Recovery is why it stopped.
    pub(super) is_damaged: AtomicBool,
    pub(super) damage: Mutex<Damage>,
    deleted: AtomicBool,
    pub(super) checkpoint_queued: AtomicBool,
    /// There is one on the disk.
    pub(super) has_checkpoint: AtomicBool,
    /// Serialises syncs; the order of locks is checkpointing, flushing, writer.
    pub(super) flushing: Mutex<()>,
    pub(super) checkpointing: Mutex<()>,
    /// Segments taken out of the log whose files are still to be given away, under `checkpointing`.
    pub(super) doomed: Mutex<Vec<Arc<Segment>>>,
}

impl PartitionLog {
    pub(super) fn new(
        id: PartitionId,
        shared: &Arc<Shared>,
        config: Arc<TopicConfig>,
        folder: Arc<Path>,
        recovered: Recovered,
    ) -> Arc<Self> {
        let end = recovered.next_offset;
        let log = Arc::new_cyclic(|me| Self {
            id,
            me: Weak::clone(me),
            shared: Arc::clone(shared),
            folder,
            config: ArcSwap::new(config),
            segments: ArcSwap::from_pointee(recovered.segments),
            log_start: AtomicI64::new(recovered.log_start),
            log_end: AtomicI64::new(end),
            high_watermark: AtomicI64::new(end),
            synced: AtomicI64::new(end),
            last_stable: AtomicI64::new(recovered.log_start),
            hot_from: AtomicI64::new(end),
            writer: Mutex::new(Writer::new(end, recovered.producers)),
            transactions: Mutex::new(recovered.transactions),
            marks: Mutex::new(recovered.marks),
            cursors: Mutex::default(),
            cleaning: Mutex::new(recovered.cleaning),
            waiters: Waiters::default(),
            queued: Queued::default(),
            folder_changed: AtomicBool::new(false),
            folder_created: AtomicBool::new(false),
            stopped: ArcSwapOption::empty(),
            is_damaged: AtomicBool::new(recovered.damage.is_some()),
            damage: Mutex::new(Damage::new(recovered.damaged)),
            deleted: AtomicBool::new(false),
            checkpoint_queued: AtomicBool::new(false),
            has_checkpoint: AtomicBool::new(recovered.has_checkpoint),
            flushing: Mutex::new(()),
            checkpointing: Mutex::new(()),
            doomed: Mutex::default(),
        });
        log.writer.lock().uncheckpointed = recovered.unchecked;
        log.settle();
        shared.add_unchecked(recovered.unchecked);
        if let Some(reason) = recovered.damage {
            log.stop(reason);
        }
        log
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn set_config(&self, config: Arc<TopicConfig>) {
        let durability = config.durability;
        self.config.store(config);
        if durability == Durability::Os {
            self.raise_watermark(self.log_end.load(Ordering::SeqCst));
        }
    }

    /// Appends one batch that was admitted ([`PartitionLog::admit`]) or made by the broker. Checks and records the producer's sequence under the same lock. The write is in the
    /// page cache when this returns (survives the end of the process); `committed` waits for durability.
    pub fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.append_for(batch, Durable::Later)
    }

    /// As `append`, of a batch whose durability the caller awaits, and asks for with [`PartitionLog::commit`] before it
    /// does anything else: a sync is not asked for here.
    pub fn append_awaited(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.append_for(batch, Durable::Awaited)
    }

    fn append_for(&self, batch: Batch, durable: Durable) -> Result<Appended, AppendError> {
        let config = self.config.load();
        check_shape(&batch, &config)?;
        let now = self.shared.clock.now_ms();
        check_time(&batch.header, &config, now)?;
        loop {
            let writer = self.writer.lock();
            self.accepts(&writer)?;
            let log_start = self.log_start.load(Ordering::Acquire);
            if let Some(first) = writer.producers.check(&batch.header, log_start)? {
                return Ok(first);
            }
            if let Some(appended) = self.write(writer, &config, (&batch, durable), now)? {
                return Ok(appended);
            }
            self.checkpoint_first()?;
        }
    }

    /// Ends a producer's transaction in this partition: appends the marker, after which its records are committed or
    /// aborted as soon as the marker is below the high watermark. The marker's epoch becomes the producer's. A marker
    /// without an open transaction is written all the same and ends nothing, so that it may be written again.
    pub fn append_marker(&self, marker: &TransactionMarker) -> Result<Appended, AppendError> {
        let config = self.config.load();
        let now = self.shared.clock.now_ms();
        let batch = control::encode_marker(marker, now)?;
        loop {
            let writer = self.writer.lock();
            self.accepts(&writer)?;
            writer.producers.check_marker(marker)?;
            if let Some(appended) = self.write(writer, &config, (&batch, Durable::Later), now)? {
                if config.durability == Durability::Os {
                    // Its coordinator will not write it again: were it lost with the power, the transaction would stay open here.
                    self.request_flush(true);
                }
                return Ok(appended);
            }
            self.checkpoint_first()?;
        }
    }

    /// Writes a batch that was checked under the lock which is handed over. `None`: nothing was written, the first
    /// checkpoint has to come before.
    fn write(
        &self,
        mut writer: MutexGuard<'_, Writer>,
        config: &TopicConfig,
        (batch, durable): (&Batch, Durable),
        now: TimestampMs,
    ) -> Result<Option<Appended>, AppendError> {
        let outcome = writer.append(self, config, batch, now);
        drop(writer);
        self.appended(outcome, config, durable)
    }

    /// What follows a write, after the lock: the watermark, or a sync, or the end. `None`: as `write`.
    fn appended(
        &self,
        outcome: Result<Appended, WriteError>,
        config: &TopicConfig,
        durable: Durable,
    ) -> Result<Option<Appended>, AppendError> {
        let appended = match outcome {
            Ok(appended) => appended,
            Err(WriteError::Refused(error)) => return Err(error),
            Err(WriteError::Failed(reason)) => return Err(self.fail(reason)),
            Err(WriteError::Uncheckpointed) => return Ok(None),
        };
        if config.durability == Durability::Os {
            self.raise_watermark(appended.last_offset + 1);
            if self.has_unsynced() {
                self.queue_flush(Durability::Os, false);
            }
        } else if durable == Durable::Later && self.has_unsynced() {
            self.queue_flush(Durability::Fsync, self.waiters.is_watched());
        }
        Ok(Some(appended))
    }

    /// Appends a slice with its mark, in one write: after a crash either both are there or the mark says nothing. Without a
    /// slice the mark stands alone. What is checked of sequences is [`super::lane::judge`]'s to check, before and under
    /// the lane.
    pub fn append_placed(
        &self,
        mark: &Mark,
        slice: Option<&Batch>,
    ) -> Result<Appended, AppendError> {
        let config = self.config.load();
        if let Some(slice) = slice {
            check_shape(slice, &config)?;
        }
        marks::check_mark(mark)?;
        let now = self.shared.clock.now_ms();
        loop {
            let mut writer = self.writer.lock();
            self.accepts(&writer)?;
            let outcome = writer.append_marked(self, &config, (mark, slice), now);
            if matches!(outcome, Err(WriteError::Failed(_))) {
                // The file may hold it or not.
                self.marks.lock().doubt(mark);
            }
            drop(writer);
            if let Some(appended) = self.appended(outcome, &config, Durable::Later)? {
                return Ok(appended);
            }
            self.checkpoint_first()?;
        }
    }

    /// What this partition holds of a lane's producer. `Err` when a write failed that may have left more, which the next
    /// start will know.
    pub(super) fn parts(
        &self,
        lane: PartitionIndex,
        producer_id: i64,
    ) -> Result<Option<Parts>, AppendError> {
        let marks = self.marks.lock();
        if marks.is_doubtful(lane, producer_id) {
            let reason = "a failed write may have left part of the batch".to_owned();
            return Err(AppendError::Stopped(reason));
        }
        Ok(marks.parts(lane, producer_id))
    }

    /// What its own producer is known to have sent here, without marks. `Err` when nothing can be appended.
    pub(super) fn numbered(&self, producer_id: i64) -> Result<Option<Parts>, AppendError> {
        let writer = self.writer.lock();
        self.accepts(&writer)?;
        Ok(writer.producers.parts(producer_id))
    }

    /// Notes that all slices of a batch of this lane and producer are synced.
    pub(super) fn settle_placed(
        &self,
        lane: PartitionIndex,
        header: &BatchHeader,
        base_sequence: i32,
    ) {
        self.marks.lock().settle(lane, header, base_sequence);
    }

    /// Whether the record at `offset` is on stable storage.
    pub(super) fn is_synced(&self, offset: Offset) -> bool {
        offset < self.synced.load(Ordering::SeqCst)
    }

    /// Refuses when the log has stopped before the record at `offset` was synced.
    pub(super) fn check_kept(&self, offset: Offset) -> Result<(), AppendError> {
        match self.stopped.load().as_ref() {
            Some(reason) if !self.is_synced(offset) => {
                Err(AppendError::Stopped(reason.as_ref().clone()))
            }
            _ => Ok(()),
        }
    }

    /// Whether anything here was placed by a partitioner, as far as is remembered.
    pub fn has_marks(&self) -> bool {
        !self.marks.lock().is_empty()
    }

    /// The producers that this partition remembers, by id.
    pub fn producers(&self) -> Vec<ProducerState> {
        self.writer.lock().producers.states()
    }

    /// Transactions without a marker yet, the earliest first.
    pub fn open_transactions(&self) -> Vec<OpenTransaction> {
        self.writer.lock().producers.open_transactions()
    }

    /// Asks the producer state about a batch without appending it, so that a plugin is not called for a duplicate.
    pub fn check_sequence(&self, batch: &Batch) -> Result<Sequence, AppendError> {
        let writer = self.writer.lock();
        self.accepts(&writer)?;
        let log_start = self.log_start.load(Ordering::Acquire);
        let first = writer.producers.check(&batch.header, log_start)?;
        Ok(first.map_or(Sequence::Next, Sequence::Duplicate))
    }

    /// Resolves when every record up to and including `offset` is below the high watermark.
    pub async fn committed(&self, offset: Offset) -> Result<(), AppendError> {
        let mut commit = self.commit(offset)?;
        commit.hurry();
        commit.wait().await
    }

    /// Registers for the moment from which every record up to and including `offset` is below the high watermark.
    pub fn commit(&self, offset: Offset) -> Result<Commit, AppendError> {
        let me = self.me.upgrade().ok_or(AppendError::Deleted)?;
        let watermark = || self.high_watermark.load(Ordering::SeqCst);
        if offset < watermark() || defects::has(Defect::AcknowledgeBeforeSync) {
            return Ok(Commit::known(me, Ok(())));
        }
        Ok(match self.waiters.commit(offset, watermark) {
            Ok(answer) => Commit::registered(me, answer),
            Err(answer) => Commit::known(me, answer),
        })
    }

    /// The wait for everything that has been appended, where there is something to wait for.
    pub(super) fn behind(&self) -> Option<Commit> {
        let held = self.log_end.load(Ordering::SeqCst);
        if self.high_watermark.load(Ordering::SeqCst) >= held {
            return None;
        }
        self.commit(held - 1).ok().filter(Commit::is_pending)
    }

    /// Notifies `waiter` once (`Notify::notify_one`), when the high watermark next moves or the partition goes away or
    /// stops (but not of one that has stopped before). Register first and read after: then no progress is missed.
    pub fn wake_on_progress(&self, waiter: &Arc<Notify>) {
        self.waiters.watch(waiter);
        // Without it the watermark moves with each append.
        if self.has_unsynced() && self.config.load().durability == Durability::Fsync {
            self.queue_flush(Durability::Fsync, true);
        }
    }

    pub fn offsets(&self) -> Offsets {
        // Read in this order each can only be at or below the next.
        let log_start = self.log_start.load(Ordering::SeqCst);
        let last_stable_offset = self.last_stable.load(Ordering::SeqCst);
        let high_watermark = self.high_watermark.load(Ordering::SeqCst);
        let log_end = self.log_end.load(Ordering::SeqCst);
        Offsets {
            log_start,
            last_stable_offset,
            high_watermark,
            log_end,
        }
    }

    /// What moves the high watermark, and so what `committed` waits for.
    pub fn durability(&self) -> Durability {
        self.config.load().durability
    }

    pub fn stats(&self) -> LogStats {
        let segments = self.segments.load();
        let (damaged, damage_skips) = {
            let damage = self.damage.lock();
            (damage.ranges().to_vec(), damage.skips())
        };
        LogStats {
            size_bytes: segments.iter().map(|segment| segment.end()).sum(),
            segments: segments.len(),
            offsets: self.offsets(),
            stopped: self.stopped.load().as_deref().cloned(),
            is_damaged: self.is_damaged.load(Ordering::Relaxed),
            damaged,
            damage_skips,
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::SeqCst)
    }

    pub(super) fn accepts(&self, writer: &Writer) -> Result<(), AppendError> {
        if self.is_deleted() {
            return Err(AppendError::Deleted);
        }
        if let Some(reason) = self.stopped.load().as_deref() {
            return Err(AppendError::Stopped(reason.clone()));
        }
        if writer.closed {
            return Err(AppendError::Stopped("the broker is stopping".into()));
        }
        Ok(())
    }

    /// Refuses every append from now on and answers those who wait. What is below the high watermark stays readable.
    pub(super) fn stop(&self, reason: String) -> AppendError {
        if !self.is_deleted() && self.stopped.load().is_none() {
            tracing::error!(partition = %self.id, reason, "partition log stopped; once its cause is mended, a restart or `tidegate log recover` verifies it");
            self.stopped.store(Some(Arc::new(reason.clone())));
        }
        let error = AppendError::Stopped(reason);
        self.waiters.end(&error);
        error
    }

    /// Stops after a failed write or sync.
    pub(super) fn fail(&self, reason: String) -> AppendError {
        if !self.is_deleted() {
            mark_suspect(&self.shared.disk, &self.folder);
        }
        self.stop(reason)
    }

    pub(super) fn take_handle(&self) -> Result<Handle, AppendError> {
        self.shared.disk.handles().take(&self.me).ok_or_else(|| {
            AppendError::Storage("no more segment files can be open at once (log.max-open-segments), and those that are open are in use; it may be tried again".into())
        })
    }

    /// Closes the active segment's file, so that another partition's can be opened. The next append opens it again.
    pub(super) fn close_file(&self) -> Closing {
        let Some(mut writer) = self.writer.try_lock() else {
            return Closing::InUse;
        };
        // One that has stopped is synced no more.
        if self.stopped.load().is_none() && self.has_unsynced() {
            return Closing::InUse;
        }
        writer.close_file()
    }

    fn raise_watermark(&self, to: Offset) {
        if self.high_watermark.fetch_max(to, Ordering::SeqCst) < to {
            self.settle();
            self.waiters.advance(to);
        }
    }

    /// Moves the log start, which is in front of a whole batch and not above the high watermark.
    pub(super) fn raise_log_start(&self, to: Offset) {
        self.log_start.fetch_max(to, Ordering::SeqCst);
        self.transactions.lock().forget_before(to);
        self.settle();
    }

    /// Lets the last stable offset follow. Transactions are noted before the log end moves over their batches, so that
    /// the offset never passes one that is open.
    pub(super) fn settle(&self) {
        let mut transactions = self.transactions.lock();
        let high_watermark = self.high_watermark.load(Ordering::SeqCst);
        let log_start = self.log_start.load(Ordering::SeqCst);
        let last_stable = transactions.last_stable(high_watermark, log_start);
        self.last_stable.store(last_stable, Ordering::SeqCst);
    }

    pub(super) fn request_flush(&self, urgent: bool) {
        if self.has_unsynced() {
            self.queue_flush(self.config.load().durability, urgent);
        }
    }

    fn has_unsynced(&self) -> bool {
        self.synced.load(Ordering::SeqCst) < self.log_end.load(Ordering::SeqCst)
    }

    fn queue_flush(&self, durability: Durability, urgent: bool) {
        if let Some(me) = self.me.upgrade() {
            let lane = match durability {
                Durability::Fsync => self.shared.lane_of(self.id),
                Durability::Os => self.shared.late_lane(),
            };
            lane.request(&me, urgent);
        }
    }

    /// Syncs what has been appended and moves the high watermark. Called by the lanes, the keeper, and at the end. False when
    /// no file could be opened for it now: it is tried again, and nobody is told that it was done.
    pub(super) fn flush(&self) -> bool {
        let _one = self.flushing.lock();
        let end = self.log_end.load(Ordering::SeqCst);
        if self.is_deleted()
            || self.stopped.load().is_some()
            || (self.synced.load(Ordering::SeqCst) >= end
                && !self.folder_changed.load(Ordering::SeqCst))
        {
            return true;
        }
        let started = Instant::now();
        match self.sync_segments() {
            Ok(bytes) => {
                if let Some(observer) = self.shared.observer.get() {
                    observer.0(started.elapsed(), bytes);
                }
            }
            Err(_) if defects::has(Defect::IgnoreFailedSync) => {}
            Err(error) if lacks_descriptor(&error) => {
                tracing::debug!(partition = %self.id, %error, "not synced yet");
                // The lane with the longest delay.
                self.queue_flush(Durability::Os, false);
                return false;
            }
            Err(error) => {
                self.fail(format!("syncing: {error}"));
                return true;
            }
        }
        self.synced.fetch_max(end, Ordering::SeqCst);
        if self.config.load().durability == Durability::Fsync {
            self.raise_watermark(end);
        }
        true
    }

    /// Syncs every segment that has something new, the oldest first, and the names of new ones.
    fn sync_segments(&self) -> std::io::Result<u64> {
        let disk = &self.shared.disk;
        let segments = self.segments.load();
        let dirty = segments
            .iter()
            .rposition(|segment| segment.is_synced())
            .map_or(0, |clean| clean + 1);
        let mut bytes = 0;
        for (index, segment) in segments.iter().enumerate().skip(dirty) {
            bytes += segment.sync(disk, index + 1 == segments.len())?;
        }
        once(&self.folder_changed, || {
            match defects::has(Defect::SkipSegmentNameSync) {
                true => Ok(()),
                false => disk.sync_folder(&self.folder),
            }
        })?;
        once(&self.folder_created, || {
            self.shared.sync_parents(&self.folder)
        })?;
        Ok(bytes)
    }

    /// Ends the log for this run of the broker: nothing is appended any more, and the next run finds a clean end.
    pub(super) fn close(&self) {
        let is_clean = {
            let mut writer = self.writer.lock();
            writer.closed = true;
            writer.release(self);
            writer.uncheckpointed == 0
        };
        if !is_clean {
            self.keep_checkpoint();
        }
    }

    /// Takes the log out of use: readers, waiters and appends get `Deleted`. Its files may be removed when this returns.
    pub(super) fn retire(&self) -> Vec<Arc<Segment>> {
        self.deleted.store(true, Ordering::SeqCst);
        self.waiters.end(&AppendError::Deleted);
        // Whoever is writing files at this moment finishes first; nobody begins after.
        let _checkpointing = self.checkpointing.lock();
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        writer.closed = true;
        writer.abandon();
        let unchecked = std::mem::take(&mut writer.uncheckpointed);
        self.shared.unchecked.remove(unchecked);
        let mut segments = std::mem::take(&mut *self.doomed.lock());
        segments.extend(self.segments.load().iter().cloned());
        for segment in &segments {
            segment.retire();
        }
        segments
    }
}

/// Does what a mark asks for, and takes the mark away; it stays when that failed.
fn once(mark: &AtomicBool, work: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
    if !mark.swap(false, Ordering::SeqCst) {
        return Ok(());
    }
    let outcome = work();
    if outcome.is_err() {
        mark.store(true, Ordering::SeqCst);
    }
    outcome
}

/// How far the times of a batch that a transform has changed may lie from the broker's; those of a client's were looked at
/// one by one. Batches without times (−1) have none to judge.
fn check_time(
    header: &BatchHeader,
    config: &TopicConfig,
    now: TimestampMs,
) -> Result<(), AppendError> {
    let time = header.max_timestamp;
    let oldest = now.saturating_sub(config.timestamp_before_max_ms);
    let newest = now.saturating_add(config.timestamp_after_max_ms);
    if config.timestamp_type != TimestampType::CreateTime
        || time < 0
        || (oldest..=newest).contains(&time)
    {
        return Ok(());
    }
    Err(AppendError::InvalidTimestamp(format!(
        "{time} is not between {oldest} and {newest} (message.timestamp.before.max.ms, message.timestamp.after.max.ms)"
    )))
}

/// What every batch must be, whoever made it. A batch that a transform has thinned out holds fewer records than it
/// spans offsets, down to none.
fn check_shape(batch: &Batch, config: &TopicConfig) -> Result<(), AppendError> {
    let header = &batch.header;
    let limit = usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX);
    if header.size > limit {
        return Err(AppendError::TooLarge {
            size: header.size,
            limit,
        });
    }
    let span = i64::from(header.last_offset_delta) + 1;
    let count = i64::from(header.record_count);
    if span < 1 || count < 0 || count > span || header.size != batch.bytes.len() {
        return Err(AppendError::Invalid(format!(
            "{count} records over {span} offsets in {} bytes",
            batch.bytes.len()
        )));
    }
    Ok(())
}
