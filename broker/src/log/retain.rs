//! Letting go of old segments, whole ones only: by age, by size, and when the topic is deleted.
//!
//! The new log start is durable before a file goes, so that a crash in between leaves files that recovery gives away,
//! never a log that begins with a hole.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::file::Disk;
use super::partition::PartitionLog;
use super::seal::HEADER_BLOCK;
use super::segment::Segment;
use super::writer::WriteError;
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
            let is_empty = segment.end() <= HEADER_BLOCK;
            if is_empty || segment.next_offset() > limits.high_watermark {
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
    /// Applies retention and, on the way, shortens what recovery would have to check.
    pub(super) fn enforce_retention(&self) {
        let now = self.shared.clock.now_ms();
        let moved = self.take_out_expired(now);
        let is_behind = {
            let mut writer = self.writer.lock();
            writer.producers.expire(now, &self.shared.producer_limits());
            writer.uncheckpointed >= WORTH_A_CHECKPOINT
        };
        let has_doomed = !self.doomed.lock().is_empty();
        if !moved && !is_behind && !has_doomed {
            return;
        }
        if defects::has(Defect::RemoveBeforeCheckpoint) {
            self.give_away_doomed();
        }
        if let Err(error) = self.checkpoint() {
            if !self.is_deleted() {
                tracing::warn!(partition = %self.id(), error, "checkpoint not written; expired segments stay until it is");
            }
            return;
        }
        self.give_away_doomed();
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
            };
            tracing::warn!(partition = %self.id(), reason, "expired segments stay: no new segment could be begun");
            return false;
        }
        let segments = self.segments.load_full();
        let (gone, kept) = segments.split_at(count.min(segments.len()));
        let Some(first) = kept.first() else {
            return false;
        };
        self.raise_log_start(first.base_offset);
        self.doomed.lock().extend(gone.iter().cloned());
        self.segments.store(Arc::new(kept.to_vec()));
        true
    }

    fn give_away_doomed(&self) {
        let disk = &self.shared.disk;
        for segment in std::mem::take(&mut *self.doomed.lock()) {
            segment.retire();
            let outcome = self
                .shared
                .pool
                .retire(disk, &segment.path())
                .and_then(|()| disk.remove(&segment.index_path()));
            if let Err(error) = outcome {
                tracing::warn!(path = %segment.path().display(), %error, "expired segment not removed; the next check tries again");
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
