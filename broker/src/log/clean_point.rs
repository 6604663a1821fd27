//! When a partition's checkpoint is written, and of what: the log up to its end at that moment, synced before.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::atomic::Ordering;

use super::AppendError;
use super::checkpoint::Checkpoint;
use super::flush::Chore;
use super::partition::PartitionLog;
use super::recover::unmark_damaged;
use crate::env::defects::{self, Defect};

/// What a checkpoint is written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Files go after it: on a full disk it is given the room that is kept for that.
    ToGiveSpace,
    Other,
}

impl PartitionLog {
    pub(super) fn has_checkpoint(&self) -> bool {
        self.has_checkpoint.load(Ordering::SeqCst)
    }

    /// Writes the first checkpoint of a partition that is about to begin its second segment.
    pub(super) fn checkpoint_first(&self) -> Result<(), AppendError> {
        self.checkpoint()
            .map_err(|error| AppendError::Storage(format!("writing the first checkpoint: {error}")))
    }

    pub(super) fn request_checkpoint(&self) {
        if !self.checkpoint_queued.swap(true, Ordering::SeqCst)
            && let Some(me) = self.me.upgrade()
        {
            // A keeper that has ended means that the set of logs is being dropped.
            let _ = self.shared.chores.send(Chore::Checkpoint(me));
        }
    }

    /// Bytes behind the clean point.
    pub(super) fn unchecked(&self) -> u64 {
        self.writer.lock().uncheckpointed
    }

    /// The keeper's turn; false when no checkpoint could be written.
    pub(super) fn keep_checkpoint(&self) -> bool {
        self.checkpoint_queued.store(false, Ordering::SeqCst);
        let Err(error) = self.checkpoint() else {
            return true;
        };
        if !self.is_deleted() {
            tracing::warn!(partition = %self.id(), error, "checkpoint not written; recovery would take longer");
        }
        false
    }

    /// Lets nobody append behind damage that recovery gave up until a clean point lies behind it: after a loss of power
    /// the next recovery would take a hole that is not behind one for a torn tail, and cut off all that follows.
    pub(super) fn settle_given_up(&self) {
        let has_given_up = self.stopped.load().is_none() && !self.damage.lock().ranges().is_empty();
        if has_given_up && let Err(error) = self.checkpoint_given_up() {
            self.stop(format!("giving up what is damaged: {error}"));
        }
    }

    /// A checkpoint behind damage that was given up, after which its mark has done its work.
    pub(super) fn checkpoint_given_up(&self) -> Result<(), String> {
        self.checkpoint()?;
        unmark_damaged(&self.shared.disk, &self.folder).map_err(|error| error.to_string())
    }

    /// Syncs the log and records its end as a clean point.
    pub(super) fn checkpoint(&self) -> Result<(), String> {
        self.checkpoint_for(Purpose::Other)
    }

    pub(super) fn checkpoint_for(&self, purpose: Purpose) -> Result<(), String> {
        let _one = self.checkpointing.lock();
        self.write_checkpoint_for(purpose)
    }

    /// As `checkpoint`; the caller holds the checkpointing lock.
    pub(super) fn write_checkpoint(&self) -> Result<(), String> {
        self.write_checkpoint_for(Purpose::Other)
    }

    fn write_checkpoint_for(&self, purpose: Purpose) -> Result<(), String> {
        let disk = &self.shared.disk;
        let (checkpoint, pending) = {
            let mut writer = self.writer.lock();
            let pending = std::mem::take(&mut writer.uncheckpointed);
            self.shared.unchecked.remove(pending);
            let log_start = self.log_start.load(Ordering::SeqCst);
            let segments = self.segments.load();
            let checkpoint = Checkpoint {
                boot_id: self.shared.boot_id,
                log_start,
                segments: segments.iter().map(|segment| segment.extent()).collect(),
                producers: writer.producers.clone(),
                aborted: self.transactions.lock().snapshot(),
                marks: self.marks.lock().clone(),
                cleaning: *self.cleaning.lock(),
            };
            (checkpoint, pending)
        };
        let Some(active) = checkpoint.segments.last() else {
            return Ok(());
        };
        let is_synced = defects::has(Defect::CheckpointBeforeSync) || self.flush();
        if self.is_deleted() {
            return Ok(());
        }
        let outcome = match self.stopped.load().as_deref() {
            Some(reason) => Err(format!("the log has stopped: {reason}")),
            None if !is_synced => Err("no file could be opened to sync the log".to_owned()),
            None => {
                for segment in self.segments.load().iter() {
                    match segment.base_offset.cmp(&active.base_offset) {
                        Less => segment.save_index(disk, segment.end(), false),
                        Equal => segment.save_index(disk, active.end, true),
                        Greater => {}
                    }
                }
                let save = || checkpoint.save(disk, &self.folder);
                let saved = match purpose {
                    Purpose::ToGiveSpace => self.shared.with_room(save),
                    Purpose::Other => save(),
                };
                saved.map_err(|error| error.to_string())
            }
        };
        match &outcome {
            Ok(()) => self.has_checkpoint.store(true, Ordering::SeqCst),
            Err(_) => {
                self.writer.lock().uncheckpointed += pending;
                self.shared.add_unchecked(pending);
            }
        }
        outcome
    }
}
