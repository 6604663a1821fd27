//! Letting go of old segments, whole ones only: by age, by size, and when the topic is deleted.
//!
//! The new log start is durable before a file goes, so that a crash in between leaves files that recovery gives away,
//! never a log that begins with a hole.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::file::Disk;
use super::partition::PartitionLog;
use super::segment::Segment;
use super::writer::WriteError;
use super::{AppendError, DeleteRecordsError};
use crate::config::TopicConfig;
use crate::env::defects::{self, Defect};
use crate::types::{Offset, TimestampMs};

/// A partition with so many bytes since its clean point gets a new one when the retention check comes by.
const WORTH_A_CHECKPOINT: u64 = 1 << 20;

struct Limits<'a> {
    config: &'a TopicConfig,
    /// Nothing goes before it was committed.
    high_watermark: Offset,
    now: TimestampMs,
}

/// How many of the oldest segments go. A segment's age is that of its latest timestamp, as in Kafka; where no batch
/// carries one, of its file.
fn expired(disk: &Disk, segments: &[Arc<Segment>], limits: &Limits<'_>) -> usize {
    let config = limits.config;
    let mut size: u64 = segments.iter().map(|segment| segment.end()).sum();
    let bound = u64::try_from(config.retention_bytes).ok();
    let oldest = (config.retention_ms >= 0).then(|| limits.now.saturating_sub(config.retention_ms));
    segments
        .iter()
        .take_while(|segment| {
            if segment.is_unused() || segment.next_offset() > limits.high_watermark {
                return false;
            }
            let after = size - segment.end();
            let is_old = oldest.is_some_and(|oldest| segment.latest_time(disk) < oldest);
            let is_over = bound.is_some_and(|bound| after >= bound);
            if is_old || is_over {
                size = after;
                return true;
            }
            false
        })
        .count()
}

impl PartitionLog {
    /// Moves the log start up to `before` (the high watermark when `None`); never back. Answers the log start, which is
    /// durable then. Segments that lie wholly below go. Blocking. (Kafka's DeleteRecords, KIP-107.)
    pub fn delete_records(&self, before: Option<Offset>) -> Result<Offset, DeleteRecordsError> {
        if !self.config.load().cleanup_delete {
            return Err(DeleteRecordsError::NotAllowed);
        }
        {
            let writer = self.writer.lock();
            self.accepts(&writer).map_err(|error| match error {
                AppendError::Deleted => DeleteRecordsError::Deleted,
                error => DeleteRecordsError::Storage(error.to_string()),
            })?;
            let end = self.high_watermark.load(Ordering::SeqCst);
            let before = before.unwrap_or(end);
            if !(0..=end).contains(&before) {
                return Err(DeleteRecordsError::OutOfRange {
                    offset: before,
                    end,
                });
            }
            self.take_out_below(before);
        }
        if defects::has(Defect::AnswerDeletionBeforeCheckpoint) {
            return Ok(self.log_start.load(Ordering::SeqCst));
        }
        // Also when it did not move now: an earlier call may have failed here.
        self.let_go().map_err(|error| match self.is_deleted() {
            true => DeleteRecordsError::Deleted,
            false => DeleteRecordsError::Storage(error),
        })?;
        Ok(self.log_start.load(Ordering::SeqCst))
    }

    /// Moves the log start and takes out the segments that lie wholly below it, but never the active one. The caller
    /// holds the writer's lock.
    fn take_out_below(&self, log_start: Offset) {
        self.raise_log_start(log_start);
        let segments = self.segments.load_full();
        let sealed = segments.len().saturating_sub(1);
        let gone = segments[..sealed].partition_point(|one| one.next_offset() <= log_start);
        if gone > 0 {
            let (gone, kept) = segments.split_at(gone);
            self.doomed.lock().extend(gone.iter().cloned());
            self.segments.store(Arc::new(kept.to_vec()));
        }
    }

    /// Applies retention and, on the way, shortens what recovery would have to check.
    pub(super) fn enforce_retention(&self) {
        let now = self.shared.clock.now_ms();
        let moved = self.take_out_expired(now);
        let is_behind = {
            let mut writer = self.writer.lock();
            let limits = self.shared.producer_limits();
            writer.producers.expire(now, &limits);
            self.marks.lock().expire(now, &limits);
            writer.uncheckpointed >= WORTH_A_CHECKPOINT
        };
        let has_doomed = !self.doomed.lock().is_empty();
        if !moved && !is_behind && !has_doomed {
            return;
        }
        if let Err(error) = self.let_go()
            && !self.is_deleted()
        {
            tracing::warn!(partition = %self.id(), error, "checkpoint not written; expired segments stay until it is");
        }
    }

    /// Makes the log start durable, and then gives away what had been taken out below it.
    fn let_go(&self) -> Result<(), String> {
        let doomed = std::mem::take(&mut *self.doomed.lock());
        if defects::has(Defect::RemoveBeforeCheckpoint) {
            self.give_away(doomed.clone());
        }
        if let Err(error) = self.checkpoint() {
            self.doomed.lock().extend(doomed);
            return Err(error);
        }
        let _one = self.checkpointing.lock();
        self.give_away(doomed);
        Ok(())
    }

    /// Moves the log start over the segments that have expired. The active one is rolled first when it is among them.
    fn take_out_expired(&self, now: TimestampMs) -> bool {
        let config = self.config.load();
        if !config.cleanup_delete {
            return false;
        }
        let disk = &self.shared.disk;
        let limits = Limits {
            config: &config,
            high_watermark: self.high_watermark.load(Ordering::SeqCst),
            now,
        };
        if expired(disk, &self.segments.load(), &limits) == 0 {
            return false;
        }
        if !self.has_checkpoint()
            && let Err(error) = self.checkpoint_first()
        {
            tracing::warn!(partition = %self.id(), %error, "expired segments stay");
            return false;
        }
        let mut writer = self.writer.lock();
        // A log that has stopped keeps everything: it may be what somebody repairs it from.
        if self.accepts(&writer).is_err() {
            return false;
        }
        let segments = self.segments.load_full();
        let count = expired(disk, &segments, &limits);
        if count == segments.len()
            && let Err(error) = writer.roll(self, &config, now, false)
        {
            let reason = match error {
                WriteError::Refused(error) => error.to_string(),
                WriteError::Failed(reason) => reason,
                WriteError::Uncheckpointed => "there is no checkpoint yet".to_owned(),
            };
            tracing::warn!(partition = %self.id(), reason, "expired segments stay: no new segment could be begun");
            return false;
        }
        let Some(first) = self.segments.load().get(count).cloned() else {
            return false;
        };
        self.take_out_below(first.base_offset);
        true
    }

    /// Gives away the files of segments that are in the log no more, durably. The caller holds the checkpointing lock.
    pub(super) fn give_away(&self, segments: Vec<Arc<Segment>>) {
        let disk = &self.shared.disk;
        for segment in segments {
            segment.retire();
            if self.is_deleted() {
                continue;
            }
            let outcome = self
                .shared
                .pool
                .retire(disk, &segment.path())
                .and_then(|()| disk.remove(&segment.index_path()));
            if let Err(error) = outcome {
                tracing::warn!(path = %segment.path().display(), %error, "segment not removed; the next check tries again");
                self.doomed.lock().push(segment);
            }
        }
    }

    /// Takes the log out of use for good and gives its files away.
    pub(super) fn delete(&self) -> std::io::Result<()> {
        let disk = &self.shared.disk;
        for segment in self.retire() {
            self.shared.pool.retire(disk, &segment.path())?;
        }
        disk.remove_folder(&self.folder)
    }
}
