//! Letting go of old segments, whole ones only: by age, by size, and when the topic is deleted.
//!
//! A segment's age is that of its latest record, as in Kafka. Batches that were taken before their records were looked at
//! (by an earlier version, or with `tidegate.validation=frames`) may say anything of it in their headers: before a segment goes
//! for an age that its file does not have, its records are looked at themselves; and a time that is still to come counts as
//! that of the file, so that it does not keep a segment for ever.
//!
//! The new log start is durable before a file goes, so that a crash in between leaves files that recovery gives away,
//! never a log that begins with a hole.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::clean_point::Purpose;
use super::compact::MAX_DECOMPRESSED;
use super::file::Disk;
use super::partition::PartitionLog;
use super::scan::{BODIES, Scanner, Step};
use super::segment::{Seen, Segment, SegmentError, base_of};
use super::writer::{WriteError, Writer};
use super::{AppendError, DeleteRecordsError, validate};
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

/// How many of the oldest segments go. With `may_read` records are read where headers cannot be believed; without, such a
/// segment stays, if it was not looked at before.
fn expired(disk: &Disk, segments: &[Arc<Segment>], limits: &Limits<'_>, may_read: bool) -> usize {
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
            let is_old = oldest.is_some_and(|oldest| {
                segment.latest_time(disk, limits.now) < oldest
                    && !holds_since(segment, disk, oldest, may_read)
            });
            let is_over = bound.is_some_and(|bound| after >= bound);
            if is_old || is_over {
                size = after;
                return true;
            }
            false
        })
        .count()
}

/// Whether a segment whose headers say that all of it is older holds records from `oldest` on. What was written before cannot:
/// nothing is read then.
fn holds_since(segment: &Segment, disk: &Disk, oldest: TimestampMs, may_read: bool) -> bool {
    let written = segment.written(disk);
    if written < oldest {
        return false;
    }
    let mut seen = *segment.seen.lock();
    if may_read && seen.latest < oldest && seen.up_to < segment.end() {
        match look(segment, disk, seen, oldest, written) {
            Ok(found) => seen = found,
            Err(error) => {
                tracing::warn!(path = %segment.path().display(), ?error, "a segment whose records cannot be looked at stays");
                return true;
            }
        }
        *segment.seen.lock() = seen;
    }
    seen.latest >= oldest || seen.up_to < segment.end()
}

/// Goes on looking at a segment's records, up to the first from `oldest` on. Records that cannot be read may be as young as
/// their file; what stands behind damage nobody reads.
fn look(
    segment: &Segment,
    disk: &Disk,
    mut seen: Seen,
    oldest: TimestampMs,
    written: TimestampMs,
) -> Result<Seen, SegmentError> {
    let (file, header) = segment.reader(disk)?;
    let end = segment.end();
    let mut walk = Scanner::new(&file, header.salt, seen.up_to, end, BODIES);
    while seen.latest < oldest && seen.up_to < end {
        let Step::Batch(found) = walk.step()? else {
            seen.up_to = end;
            break;
        };
        let bytes = walk.bytes(found.position, found.header.size)?;
        let latest = validate::examine(&found.header, bytes, MAX_DECOMPRESSED).unwrap_or(written);
        seen.latest = seen.latest.max(latest);
        seen.up_to = walk.position();
    }
    Ok(seen)
}

impl PartitionLog {
    /// Moves the log start up to `before` (the high watermark when `None`); never back. Answers the log start, which is
    /// durable then. Segments that lie wholly below go. Blocking. (Kafka's DeleteRecords, KIP-107.)
    pub fn delete_records(&self, before: Option<Offset>) -> Result<Offset, DeleteRecordsError> {
        let config = self.config.load();
        if config.cleanup_compact && !config.cleanup_delete {
            return Err(DeleteRecordsError::NotAllowed);
        }
        drop(config);
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
        self.let_go(Purpose::ToGiveSpace)
            .map_err(|error| match self.is_deleted() {
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
        let purpose = match moved || has_doomed {
            true => Purpose::ToGiveSpace,
            false => Purpose::Other,
        };
        if let Err(error) = self.let_go(purpose)
            && !self.is_deleted()
        {
            tracing::warn!(partition = %self.id(), error, "checkpoint not written; expired segments stay until it is");
        }
    }

    /// Makes the log start durable, and then gives away what had been taken out below it.
    fn let_go(&self, purpose: Purpose) -> Result<(), String> {
        let doomed = std::mem::take(&mut *self.doomed.lock());
        if defects::has(Defect::RemoveBeforeCheckpoint) {
            self.give_away(doomed.clone());
        }
        if let Err(error) = self.checkpoint_for(purpose) {
            self.doomed.lock().extend(doomed);
            return Err(error);
        }
        {
            let _one = self.checkpointing.lock();
            self.give_away(doomed);
        }
        self.shared.refill_reserve();
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
        if expired(disk, &self.segments.load(), &limits, true) == 0 {
            return false;
        }
        if !self.has_checkpoint()
            && let Err(error) = self.checkpoint_for(Purpose::ToGiveSpace)
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
        let count = expired(disk, &segments, &limits, false);
        if count == segments.len()
            && let Err(error) = self.roll_to_give_space(&mut writer, &config, now)
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

    /// Begins a segment behind those that expired. The few bytes of it may be of the disk's reserve.
    fn roll_to_give_space(
        &self,
        writer: &mut Writer,
        config: &TopicConfig,
        now: TimestampMs,
    ) -> Result<(), WriteError> {
        match writer.roll(self, config, now, false) {
            Err(WriteError::Refused(_)) if self.shared.make_room() => {
                writer.roll(self, config, now, false)
            }
            rolled => rolled,
        }
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

impl PartitionLog {
    /// Looks whether the files of the log are still there, which somebody may have removed: what is written to them
    /// is lost then, so that the log stops.
    pub(super) fn check_files(&self) {
        if self.is_deleted() || self.stopped.load().is_some() {
            return;
        }
        let segments = self.segments.load_full();
        let disk = &self.shared.disk;
        let Ok(entries) = disk.list(&self.folder) else {
            return;
        };
        let there: HashSet<Offset> = entries
            .iter()
            .filter_map(|entry| base_of(&entry.name))
            .collect();
        let missing = segments
            .iter()
            .find(|segment| !there.contains(&segment.base_offset));
        let Some(missing) = missing else {
            return;
        };
        // Nothing is given away by the log itself meanwhile.
        let _one = self.checkpointing.lock();
        let is_wanted = !missing.is_retired() && !self.is_deleted();
        if is_wanted && matches!(disk.exists(&missing.path()), Ok(false)) {
            self.fail(missing.removed().to_string());
        }
    }
}
