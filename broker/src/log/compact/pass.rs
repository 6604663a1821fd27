//! One round of compaction of one partition: how dirty it is, what its newest offsets are, and rewriting it by them.
//!
//! Nothing here holds the writer's lock: sealed segments do not change, and whoever takes one away meanwhile retires it,
//! which ends the round. A round that was ended has done no harm: each group of segments that it replaced is whole.

use std::io;
use std::sync::Arc;

use super::replace::{Output, Replacement};
use super::{Kept, OffsetMap, Rules, Transactions};
use crate::config::TopicConfig;
use crate::env::random_bytes;
use crate::log::batch::Batch;
use crate::log::cleaner::Control;
use crate::log::control;
use crate::log::partition::PartitionLog;
use crate::log::records;
use crate::log::scan::{BODIES, Scanner, Step};
use crate::log::seal::{HEADER_BLOCK, SegmentHeader};
use crate::log::segment::{Extent, Segment, SegmentError};
use crate::types::{Offset, TimestampMs};

use super::MAX_DECOMPRESSED;

/// How much of a log is new since it was last compacted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::log) struct Dirty {
    /// Everything below was compacted.
    from: Offset,
    /// Nothing from here on may be compacted yet.
    to: Offset,
    /// Bytes of the part from `from` to `to` among those and all before.
    pub ratio: f64,
    /// It is dirty enough, or has been for too long.
    pub is_due: bool,
}

/// Why a round ended early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::log) enum CleanError {
    /// It was told to, or the log changed under it. Another round begins anew.
    Interrupted,
    /// The disk refused; it may pass.
    Storage(String),
    /// This log cannot be compacted as it is.
    Impossible(String),
}

impl From<io::Error> for CleanError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<SegmentError> for CleanError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Retired => Self::Interrupted,
            SegmentError::Damaged(message) => Self::Impossible(message),
            SegmentError::Io(error) => error.into(),
        }
    }
}

impl PartitionLog {
    /// How dirty the log is; `None` when it is not compacted or nothing of it may be.
    pub(in crate::log) fn dirty(&self, now: TimestampMs) -> Option<Dirty> {
        let config = self.config.load();
        if !config.cleanup_compact || self.accepts(&self.writer.lock()).is_err() {
            return None;
        }
        let segments = self.segments.load_full();
        let (active, sealed) = segments.split_last()?;
        let offsets = self.offsets();
        let cleaned_to = self.cleaning.lock().cleaned_to;
        // A mark past the end is of a log that was cut: nothing is known of what stands there now.
        let from = Some(cleaned_to)
            .filter(|to| (offsets.log_start..=active.base_offset).contains(to))
            .unwrap_or(offsets.log_start);
        let stable = offsets.high_watermark.min(offsets.last_stable_offset);
        let newest = now.saturating_sub(config.min_compaction_lag_ms);
        let may_go = |segment: &&Arc<Segment>| {
            let is_new = config.min_compaction_lag_ms > 0
                && segment.latest_time(&self.shared.disk, now) > newest;
            segment.next_offset() <= stable && (segment.next_offset() <= from || !is_new)
        };
        let (mut clean, mut dirty, mut to, mut first) = (0, 0, from, None);
        for segment in sealed.iter().take_while(may_go) {
            let size = segment.end() - HEADER_BLOCK;
            to = segment.next_offset();
            if to <= from {
                clean += size;
            } else {
                dirty += size;
                first.get_or_insert(segment);
            }
        }
        let is_overdue = config.max_compaction_lag_ms < i64::MAX
            && self.created(first?) < now.saturating_sub(config.max_compaction_lag_ms);
        let total: u64 = clean + dirty;
        let ratio = if total == 0 {
            0.0
        } else {
            dirty as f64 / total as f64
        };
        Some(Dirty {
            from,
            to,
            ratio,
            is_due: is_overdue || ratio > config.min_cleanable_dirty_ratio,
        })
    }

    fn created(&self, segment: &Segment) -> TimestampMs {
        segment
            .reader(&self.shared.disk)
            .map_or(TimestampMs::MAX, |(_, header)| header.created)
    }

    /// Begins a new segment when the active one has grown too old to stay out of compaction. Appends do so on their own;
    /// this is for partitions that nobody writes to.
    pub(in crate::log) fn roll_for_compaction(&self, now: TimestampMs) {
        let config = self.config.load();
        let is_old = |segment: &Segment| {
            segment.end() > HEADER_BLOCK
                && self.created(segment) <= now.saturating_sub(config.roll_ms())
        };
        let last = self.segments.load().last().cloned();
        let Some(last) = last.filter(|last| config.cleanup_compact && is_old(last)) else {
            return;
        };
        if !self.has_checkpoint()
            && let Err(error) = self.checkpoint_first()
        {
            tracing::warn!(partition = %self.id(), %error, "no new segment could be begun; the old one is not compacted");
            return;
        }
        let mut writer = self.writer.lock();
        let is_last = self
            .segments
            .load()
            .last()
            .is_some_and(|segment| Arc::ptr_eq(segment, &last));
        if self.accepts(&writer).is_err() || !is_last {
            return;
        }
        match writer.roll(self, &config, now, false) {
            Ok(()) => self.request_checkpoint(),
            Err(error) => {
                tracing::warn!(partition = %self.id(), ?error, "no new segment could be begun; the old one is not compacted");
            }
        }
    }

    /// Compacts what is dirty, as far as the offset map reaches.
    pub(in crate::log) fn clean(
        &self,
        dirty: &Dirty,
        now: TimestampMs,
        control: &Control,
    ) -> Result<(), CleanError> {
        let config = self.config.load_full();
        let sealed: Vec<Arc<Segment>> = self
            .segments
            .load()
            .iter()
            .take_while(|segment| segment.next_offset() <= dirty.to)
            .cloned()
            .collect();
        let mut round = Round {
            log: self,
            config: &config,
            control,
        };
        let map = round.map(&sealed, dirty.from)?;
        let end = map.latest() + 1;
        let first = sealed.first().map_or(0, |segment| segment.base_offset);
        let (producers, aborted) = {
            let writer = self.writer.lock();
            let aborted = self.transactions.lock().snapshot();
            (writer.producers.last_batches(), aborted)
        };
        let mut rules = Rules {
            map,
            transactions: Transactions::new(aborted, first),
            producers,
            now,
            delete_retention_ms: config.delete_retention_ms,
        };
        let below = sealed.partition_point(|segment| segment.base_offset < end);
        for group in groups(&sealed[..below], config.segment_bytes) {
            round.group(group, &mut rules)?;
        }
        self.cleaning.lock().cleaned_to = end;
        self.keep_checkpoint();
        Ok(())
    }
}

/// Neighbours that fit into one segment together.
fn groups(segments: &[Arc<Segment>], bound: u64) -> Vec<&[Arc<Segment>]> {
    let mut groups = Vec::new();
    let mut rest = segments;
    while let Some(first) = rest.first() {
        let mut size = HEADER_BLOCK;
        let fits = rest.iter().take_while(|segment| {
            size += segment.end() - HEADER_BLOCK;
            let span = segment.next_offset() - first.base_offset;
            size <= bound && span <= i64::from(i32::MAX)
        });
        let (group, after) = rest.split_at(fits.count().max(1));
        groups.push(group);
        rest = after;
    }
    groups
}

struct Round<'a> {
    log: &'a PartitionLog,
    config: &'a TopicConfig,
    control: &'a Control,
}

impl Round<'_> {
    /// Shows `each` the whole batches of a segment in order until it says false.
    fn visit(
        &mut self,
        segment: &Segment,
        mut each: impl FnMut(&mut Self, Batch) -> Result<bool, CleanError>,
    ) -> Result<(), CleanError> {
        let (file, header) = segment.reader(&self.log.shared.disk)?;
        let mut walk = Scanner::new(&file, header.salt, HEADER_BLOCK, segment.end(), BODIES);
        loop {
            let found = match walk.step()? {
                Step::End => return Ok(()),
                Step::Batch(found) => found,
                Step::Bad(message) => return Err(self.damaged(segment, &message)),
            };
            let size = found.header.size;
            if !walk.is_whole(&found)? {
                let message = format!("the batch at {} fails its checksum", found.position);
                return Err(self.damaged(segment, &message));
            }
            let batch = Batch {
                header: found.header,
                bytes: walk.bytes(found.position, size)?.to_vec().into(),
            };
            if self.control.read(size as u64) {
                return Err(CleanError::Interrupted);
            }
            if !each(self, batch)? {
                return Ok(());
            }
        }
    }

    fn damaged(&self, segment: &Segment, message: &str) -> CleanError {
        if segment.is_retired() {
            return CleanError::Interrupted;
        }
        CleanError::Impossible(format!("{}: {message}", segment.path().display()))
    }

    /// The latest offset of each key from `from` on, as far as memory goes.
    fn map(&mut self, sealed: &[Arc<Segment>], from: Offset) -> Result<OffsetMap, CleanError> {
        let clean = sealed.partition_point(|segment| segment.next_offset() <= from);
        let dirty = &sealed[clean..];
        let first = dirty.first().map_or(from, |segment| segment.base_offset);
        let spans = dirty.iter().map(|one| one.next_offset() - one.base_offset);
        let keys = u64::try_from(spans.sum::<i64>()).unwrap_or(0);
        let mut map = OffsetMap::new(self.log.shared.config.cleaner_buffer_bytes, keys);
        let aborted = self.log.transactions.lock().snapshot();
        let mut transactions = Transactions::new(aborted, first);
        let mut is_full = false;
        for segment in dirty {
            self.visit(segment, |_, batch| {
                is_full = !note(&mut map, &mut transactions, &batch, from);
                Ok(!is_full)
            })?;
            if is_full {
                break;
            }
            map.set_latest(segment.next_offset() - 1);
        }
        if map.latest() < from {
            return Err(CleanError::Impossible(format!(
                "the keys of one batch at offset {from} do not fit [log] cleaner-buffer-bytes: give it more"
            )));
        }
        Ok(map)
    }

    /// Rewrites neighbouring segments into one and puts it in their place.
    fn group(&mut self, group: &[Arc<Segment>], rules: &mut Rules) -> Result<(), CleanError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let (_, old) = first.reader(&self.log.shared.disk)?;
        let header = SegmentHeader {
            salt: u64::from_be_bytes(random_bytes()),
            ..old
        };
        let mut output = Output::begin(self.log, header, self.config.index_interval_bytes)?;
        let mut is_changed = group.len() > 1 || old.compacted.is_none();
        let mut forgotten = Vec::new();
        for segment in group {
            self.visit(segment, |round, batch| {
                let marker = control::decode_marker(&batch.header, &batch.bytes);
                let kept = rules.clean(&batch, marker.map(|marker| marker.outcome));
                let written = match &kept {
                    Kept::Whole => Some(&batch),
                    Kept::Rewritten(batch) => Some(batch),
                    Kept::Nothing => None,
                };
                is_changed |= !matches!(kept, Kept::Whole);
                if marker.is_some() && written.is_none_or(|batch| batch.header.record_count == 0) {
                    forgotten.push(batch.header.base_offset);
                }
                let Some(written) = written else {
                    return Ok(true);
                };
                output.put(written)?;
                match round.control.wrote(written.header.size as u64) {
                    true => Err(CleanError::Interrupted),
                    false => Ok(true),
                }
            })?;
        }
        if !is_changed {
            return Ok(());
        }
        let extent = Extent {
            next_offset: last.next_offset(),
            ..output.extent()
        };
        self.log.replace(Replacement {
            old: group,
            new: output.finish(extent)?,
            forgotten,
        })
    }
}

/// Puts the keys of a batch into the map. False: they did not all fit.
fn note(map: &mut OffsetMap, transactions: &mut Transactions, batch: &Batch, from: Offset) -> bool {
    let header = &batch.header;
    let is_aborted = if header.is_control() {
        let marker = control::decode_marker(header, &batch.bytes);
        transactions.meet_marker(header, marker.map(|marker| marker.outcome));
        true
    } else {
        transactions.meet_batch(header)
    };
    // A batch that cannot be read outdates nothing.
    let records = if is_aborted || header.last_offset() < from {
        Vec::new()
    } else {
        records::decode(batch, MAX_DECOMPRESSED).unwrap_or_default()
    };
    for record in &records {
        let offset = header.base_offset + i64::from(record.offset_delta);
        if let Some(key) = &record.key
            && offset >= from
            && !map.put(key, offset)
        {
            return false;
        }
    }
    map.set_latest(header.last_offset());
    true
}
