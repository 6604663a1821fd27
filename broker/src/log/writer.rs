//! The end of a partition's log: where the next batch goes, and how it gets there.
//!
//! All of it lives under the partition's writer lock. A batch is written with one call into blocks that exist or were
//! reserved; its header is patched in a copy on the stack, its body is never copied.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::{ATTRIBUTE_LOG_APPEND_TIME, Batch, HEADER_SIZE, at, checksum};
use super::control::Control;
use super::file::{Access, File, is_full};
use super::handles::{Closing, Handle};
use super::marks::{Landed, Mark};
use super::partition::PartitionLog;
use super::producers::Producers;
use super::seal::{self, HEADER_BLOCK, SegmentHeader};
use super::segment::{Extent, Segment, SegmentError, log_path};
use super::{AppendError, Appended, control};
use crate::config::{TimestampType, TopicConfig};
use crate::env::random_bytes;
use crate::types::{Offset, TimestampMs};

/// Longest segment: positions in an index have 32 bits, and a batch may reach over the bound by its own size.
const MAX_SEGMENT_BYTES: u64 = 1 << 31;
/// Reservation of blocks in a fresh file begins with this and doubles up to `LAST_STEP`.
const FIRST_STEP: u64 = 1 << 20;
const LAST_STEP: u64 = 32 << 20;
/// Fresh pages are written in pieces that end at multiples of this: larger ones can cost up to ten times as much
/// where the host takes free memory back, and smaller ones cost calls.
const FRESH_PIECE: u64 = 64 << 10;
/// A clean point is recorded after so many bytes, which bounds what recovery has to check.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Reads within the last `RECENT_MARKS` marks of so many bytes each are near the end.
const RECENT_BYTES: u64 = 8 << 20;
const RECENT_MARKS: usize = 8;

/// Why nothing was appended.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing is half kept; it may be tried again.
    Refused(AppendError),
    /// The file may hold anything from here on: the partition has to stop.
    Failed(String),
    /// A second segment would begin, and there is no checkpoint yet. Without one, recovery takes a hole in front of a
    /// later segment for damage: the caller writes it, and tries again.
    Uncheckpointed,
}

impl From<SegmentError> for WriteError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Retired => Self::Refused(AppendError::Deleted),
            SegmentError::Damaged(message) => Self::Failed(message),
            SegmentError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::Failed(format!("the active segment is missing: {error}"))
            }
            SegmentError::Io(error) => refused("opening the active segment", &error),
        }
    }
}

fn refused(doing: &str, error: &io::Error) -> WriteError {
    WriteError::Refused(AppendError::Storage(format!("{doing}: {error}")))
}

fn refuse_short() -> WriteError {
    WriteError::Refused(AppendError::Corrupt(
        "the batch is shorter than its header".into(),
    ))
}

/// Takes away what there is of a segment that could not be begun: a smaller batch may still fit the last one and be given the
/// offset in the file's name, and recovery would take what comes after for missing. Gone for good it is with the next sync.
fn withdraw(log: &PartitionLog, path: &Path) -> Result<(), WriteError> {
    log.shared
        .disk
        .remove(path)
        .map_err(|error| WriteError::Failed(format!("removing {}: {error}", path.display())))?;
    log.folder_changed.store(true, Ordering::SeqCst);
    Ok(())
}

/// What is to be written at once: bytes and offsets.
#[derive(Clone, Copy)]
struct Need {
    size: u64,
    span: i64,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    /// `None` after it was closed for others.
    file: Option<Arc<File>>,
    header: SegmentHeader,
    extent: Extent,
    /// The file's length: blocks exist or are reserved up to here.
    allocated: u64,
    /// Pages before this position had been written by the file's earlier use.
    recycled: u64,
    step: u64,
}

/// Offsets some way back from the end, by which reads near it are known.
#[derive(Debug)]
struct Recent {
    marks: VecDeque<Offset>,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Writer {
    pub next_offset: Offset,
    pub producers: Producers,
    /// Bytes appended since the last clean point.
    pub uncheckpointed: u64,
    /// No more appends: the broker is stopping.
    pub closed: bool,
    active: Option<Active>,
    /// Taken before the active segment's file is opened.
    handle: Option<Handle>,
    /// Something was written since the last time that the file was to be closed for others.
    was_used: bool,
    recent: Recent,
}

impl Writer {
    pub fn new(next_offset: Offset, producers: Producers) -> Self {
        Self {
            next_offset,
            producers,
            uncheckpointed: 0,
            closed: false,
            active: None,
            handle: None,
            was_used: false,
            recent: Recent {
                marks: VecDeque::from([next_offset]),
                bytes: 0,
            },
        }
    }

    /// Writes one batch whose sequence has been checked. The caller holds the writer lock.
    pub fn append(
        &mut self,
        log: &PartitionLog,
        config: &TopicConfig,
        batch: &Batch,
        now: TimestampMs,
    ) -> Result<Appended, WriteError> {
        let appended = self.write(log, config, &[batch], now)?;
        let limits = log.shared.producer_limits();
        let change = match control::decode(&batch.header, &batch.bytes) {
            Some(Control::Marker(marker)) => {
                self.producers
                    .record_marker(&marker, appended.base_offset, now, &limits)
            }
            _ => self
                .producers
                .record(&batch.header, &appended, now, &limits),
        };
        if let Some(change) = change {
            log.transactions.lock().apply(change);
        }
        self.advance(log, batch.header.size as u64, appended.last_offset + 1);
        Ok(appended)
    }

    /// Writes a slice with its mark in front, or a mark alone. Its identity is the mark's, even where the slice's header
    /// names a producer too. The caller holds the writer lock.
    pub fn append_marked(
        &mut self,
        log: &PartitionLog,
        config: &TopicConfig,
        marked: (&Mark, Option<&Batch>),
        now: TimestampMs,
    ) -> Result<Appended, WriteError> {
        let (mark, slice) = marked;
        let front = control::encode_mark(mark, slice).map_err(WriteError::Refused)?;
        let limits = log.shared.producer_limits();
        let batches: Vec<&Batch> = std::iter::once(&front).chain(slice).collect();
        let appended = self.write(log, config, &batches, now)?;
        let landed = match slice {
            Some(_) => Landed::slice(mark, &appended, log.id().index),
            None => Landed::alone(appended.last_offset),
        };
        log.marks.lock().note(mark, landed, now, &limits);
        let size = batches.iter().map(|batch| batch.header.size as u64).sum();
        self.advance(log, size, appended.last_offset + 1);
        Ok(appended)
    }

    /// Writes batches behind one another with one call, so that none comes between. Answers for the last.
    fn write(
        &mut self,
        log: &PartitionLog,
        config: &TopicConfig,
        batches: &[&Batch],
        now: TimestampMs,
    ) -> Result<Appended, WriteError> {
        let need = self.need(batches)?;
        self.make_room(log, config, need, now)?;
        self.was_used = true;
        let Some(active) = &mut self.active else {
            return Err(refuse_short());
        };
        let Some(file) = &active.file else {
            return Err(refuse_short());
        };
        let position = active.extent.end;
        let mut extent = active.extent;
        let (mut offset, mut last_base, mut stamped) = (self.next_offset, self.next_offset, None);
        let mut front: Option<([u8; HEADER_SIZE], Cow<'_, [u8]>)> = None;
        for batch in batches {
            let (head, body) = batch
                .bytes
                .split_first_chunk::<HEADER_SIZE>()
                .ok_or_else(refuse_short)?;
            let mut head = *head;
            last_base = offset;
            stamped = stamp(&mut head, body, offset, config, now);
            seal::apply(active.header.salt, extent.end, &mut head);
            offset += i64::from(batch.header.last_offset_delta) + 1;
            let max_timestamp = stamped.unwrap_or(batch.header.max_timestamp);
            extent.extend(extent.end + batch.header.size as u64, offset, max_timestamp);
            match &mut front {
                None => front = Some((head, Cow::Borrowed(body))),
                Some((_, rest)) => {
                    rest.to_mut().extend_from_slice(&head);
                    rest.to_mut().extend_from_slice(body);
                }
            }
        }
        let (head, body) = front.ok_or_else(refuse_short)?;
        let piece = if extent.end <= active.recycled {
            u64::MAX
        } else {
            FRESH_PIECE
        };
        if let Err(error) = file.write_at(&head, &body, position, piece) {
            return Err(if is_full(&error) {
                refused("writing a batch", &error)
            } else {
                WriteError::Failed(format!("writing a batch: {error}"))
            });
        }
        active.extent = extent;
        active
            .segment
            .publish(position, &active.extent, self.next_offset);
        Ok(Appended {
            base_offset: last_base,
            last_offset: offset - 1,
            log_append_time: stamped,
            log_start_offset: log.log_start.load(Ordering::Acquire),
            duplicate: false,
        })
    }

    fn need(&self, batches: &[&Batch]) -> Result<Need, WriteError> {
        let span = |batch: &&Batch| i64::from(batch.header.last_offset_delta) + 1;
        let need = Need {
            size: batches.iter().map(|batch| batch.header.size as u64).sum(),
            span: batches.iter().map(span).sum(),
        };
        match self.next_offset.checked_add(need.span) {
            Some(_) => Ok(need),
            None => Err(WriteError::Refused(AppendError::Invalid(
                "the partition has no offsets left".into(),
            ))),
        }
    }

    fn advance(&mut self, log: &PartitionLog, size: u64, next_offset: Offset) {
        self.recent.bytes += size;
        if self.recent.bytes >= RECENT_BYTES {
            self.recent.bytes = 0;
            self.recent.marks.push_back(self.next_offset);
            if self.recent.marks.len() > RECENT_MARKS {
                self.recent.marks.pop_front();
            }
            if let Some(oldest) = self.recent.marks.front() {
                log.hot_from.store(*oldest, Ordering::Relaxed);
            }
        }
        self.next_offset = next_offset;
        log.log_end.store(next_offset, Ordering::SeqCst);
        self.uncheckpointed += size;
        log.shared.add_unchecked(size);
        if self.uncheckpointed >= CHECKPOINT_BYTES {
            log.request_checkpoint();
        }
    }

    /// Makes the active segment one that takes the batch, with blocks for it.
    fn make_room(
        &mut self,
        log: &PartitionLog,
        config: &TopicConfig,
        need: Need,
        now: TimestampMs,
    ) -> Result<(), WriteError> {
        self.hold_file(log)?;
        let bound = config.segment_bytes.min(MAX_SEGMENT_BYTES);
        let (is_full, is_due) = self.active.as_ref().map_or((false, true), |active| {
            let last = self.next_offset + need.span - 1;
            let is_empty = active.extent.end == HEADER_BLOCK;
            let is_full = active.extent.end + need.size > bound
                || last - active.extent.base_offset > i64::from(i32::MAX);
            let is_old = now.saturating_sub(active.header.created) >= config.roll_ms();
            // What compaction has written is complete.
            let is_sealed = active.header.compacted.is_some();
            (is_full && !is_empty, is_sealed || (is_old && !is_empty))
        });
        if is_full || is_due {
            if !log.has_checkpoint() && !log.segments.load().is_empty() {
                return Err(WriteError::Uncheckpointed);
            }
            check_reserve(log, "beginning a segment")?;
            self.roll(log, config, now, is_full)?;
        }
        match &mut self.active {
            Some(active) => active.reserve(log, bound, need.size),
            None => Ok(()),
        }
    }

    /// Sees to it that the active segment, where there is one, is open.
    fn hold_file(&mut self, log: &PartitionLog) -> Result<(), WriteError> {
        if self.handle.is_none() {
            self.handle = Some(log.take_handle().map_err(WriteError::Refused)?);
        }
        match &mut self.active {
            Some(active) => active.reopen(log),
            None => self.open_last(log),
        }
    }

    /// Closes the active segment's file for others, unless it was used since the last time.
    pub fn close_file(&mut self) -> Closing {
        if self.handle.is_none() {
            return Closing::NotOpen;
        }
        if std::mem::take(&mut self.was_used) {
            return Closing::InUse;
        }
        if let Some(active) = &mut self.active {
            active.file = None;
            active.segment.close();
        }
        self.handle = None;
        Closing::Closed
    }

    /// Opens the last segment after a restart.
    fn open_last(&mut self, log: &PartitionLog) -> Result<(), WriteError> {
        let Some(segment) = log.segments.load().last().cloned() else {
            return Ok(());
        };
        let (file, header) = segment.activate(&log.shared.disk)?;
        // A segment with gaps between its offsets takes nothing: the next begins.
        if header.compacted.is_some() {
            return Ok(());
        }
        let allocated = file
            .len()
            .map_err(|error| refused("opening the active segment", &error))?;
        if allocated < segment.end() {
            return Err(WriteError::Failed(format!(
                "{} has become shorter",
                segment.path().display()
            )));
        }
        self.active = Some(Active {
            extent: segment.extent(),
            segment,
            file: Some(file),
            header,
            allocated,
            recycled: 0,
            step: FIRST_STEP,
        });
        Ok(())
    }

    /// Begins a new active segment and seals the last. `eager` when the partition fills segments, so that a spare
    /// file is well spent on it.
    pub fn roll(
        &mut self,
        log: &PartitionLog,
        config: &TopicConfig,
        now: TimestampMs,
        eager: bool,
    ) -> Result<(), WriteError> {
        let disk = &log.shared.disk;
        let mut segments = log.segments.load().as_ref().clone();
        let header = SegmentHeader {
            leader_epoch: 0,
            base_offset: self.next_offset,
            salt: u64::from_be_bytes(random_bytes()),
            created: now,
            partition: log.id(),
            compacted: None,
        };
        let path = log_path(&log.folder, self.next_offset);
        let begin = || -> io::Result<(File, u64)> {
            if segments.is_empty() {
                disk.create_folders(&log.folder)?;
                log.folder_created.store(true, Ordering::SeqCst);
            }
            let length = config.segment_bytes.min(MAX_SEGMENT_BYTES);
            let recycled = log.shared.pool.take(disk, &path, length, eager);
            let access = recycled.map_or(Access::Replace, |_| Access::Write);
            let file = disk.open(&path, access)?;
            file.write_at(&header.encode(), &[], 0, u64::MAX)?;
            Ok((file, recycled.unwrap_or(0)))
        };
        let begun = match begin() {
            Err(error) if is_full(&error) && log.shared.pool.release(disk) => begin(),
            begun => begun,
        };
        let (file, recycled) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                if !segments.is_empty() {
                    withdraw(log, &path)?;
                }
                return Err(refused("beginning a segment", &error));
            }
        };
        let file = Arc::new(file);
        let interval = config.index_interval_bytes;
        let segment = Arc::new(Segment::begun(
            &log.folder,
            header,
            Arc::clone(&file),
            interval,
        ));
        if let Some(sealed) = self.active.take() {
            sealed.cut(log);
            log.request_checkpoint();
        }
        segments.push(Arc::clone(&segment));
        log.segments.store(Arc::new(segments));
        log.folder_changed.store(true, Ordering::SeqCst);
        self.active = Some(Active {
            extent: Extent::empty(self.next_offset),
            segment,
            file: Some(file),
            header,
            allocated: recycled.max(HEADER_BLOCK),
            recycled,
            step: FIRST_STEP,
        });
        Ok(())
    }

    /// Lets go of the active segment: of what was reserved for it, too.
    pub fn release(&mut self, log: &PartitionLog) {
        if let Some(active) = self.active.take() {
            active.cut(log);
        }
        self.handle = None;
    }

    /// Lets go of the active segment, whose file is about to be given away as it is.
    pub fn abandon(&mut self) {
        self.active = None;
        self.handle = None;
    }
}

impl Active {
    /// Ends the file where its last batch ends. Failing is harmless: what is left there carries no seal of its place.
    fn cut(&self, log: &PartitionLog) {
        if self.allocated <= self.extent.end {
            return;
        }
        let cut = match &self.file {
            Some(file) => file.set_len(self.extent.end),
            None => {
                let opened = log.shared.disk.open(&self.segment.path(), Access::Existing);
                opened.and_then(|file| file.set_len(self.extent.end))
            }
        };
        if let Err(error) = cut {
            tracing::warn!(path = %self.segment.path().display(), %error, "unused end of a segment not cut off");
        }
    }

    /// Opens the file again where it was closed for others.
    fn reopen(&mut self, log: &PartitionLog) -> Result<(), WriteError> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = self.segment.reopen(&log.shared.disk, &self.header)?;
        let length = file
            .len()
            .map_err(|error| refused("opening the active segment", &error))?;
        if length < self.extent.end {
            let path = self.segment.path();
            return Err(WriteError::Failed(format!(
                "{} has become shorter",
                path.display()
            )));
        }
        self.allocated = self.allocated.min(length);
        self.file = Some(file);
        Ok(())
    }

    /// Reserves blocks for a batch: in growing steps, but not past the segment's bound.
    fn reserve(&mut self, log: &PartitionLog, bound: u64, size: u64) -> Result<(), WriteError> {
        let needed = self.extent.end + size;
        if needed <= self.allocated {
            return Ok(());
        }
        check_reserve(log, "reserving space")?;
        let disk = &log.shared.disk;
        let target = (self.allocated + self.step).min(bound).max(needed);
        let mut outcome = self.grow(target);
        if outcome.as_ref().is_err_and(is_full) {
            // A full disk takes back what was kept for speed, and gets only what is needed.
            log.shared.pool.release(disk);
            outcome = self.grow(needed);
        }
        self.step = (self.step * 2).min(LAST_STEP);
        outcome.map_err(|error| refused("reserving space", &error))
    }

    fn grow(&mut self, target: u64) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.allocate(self.allocated, target - self.allocated)?;
            self.allocated = target;
        }
        Ok(())
    }
}

/// Refuses what needs new space while the disk's reserve is out for those who give space back.
fn check_reserve(log: &PartitionLog, doing: &str) -> Result<(), WriteError> {
    if log.shared.refill_reserve() {
        return Ok(());
    }
    let reason = "the disk was full, and its reserve (log.disk-reserve) has no room yet";
    Err(WriteError::Refused(AppendError::Storage(format!(
        "{doing}: {reason}"
    ))))
}

/// Writes base offset and, where the topic wants it, the time of append into a header. Answers that time.
fn stamp(
    head: &mut [u8; HEADER_SIZE],
    body: &[u8],
    base_offset: Offset,
    config: &TopicConfig,
    now: TimestampMs,
) -> Option<TimestampMs> {
    head[at::BASE_OFFSET..at::LENGTH].copy_from_slice(&base_offset.to_be_bytes());
    if config.timestamp_type != TimestampType::LogAppendTime {
        return None;
    }
    let [high, low] = ATTRIBUTE_LOG_APPEND_TIME.to_be_bytes();
    head[at::ATTRIBUTES] |= high;
    head[at::ATTRIBUTES + 1] |= low;
    head[at::MAX_TIMESTAMP..at::PRODUCER_ID].copy_from_slice(&now.to_be_bytes());
    let crc = checksum(head, body);
    head[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    Some(now)
}
