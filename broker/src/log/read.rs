//! Reading: from an offset or a time to whole batches, each checked before it is given out.
//!
//! A reader takes no lock that an append holds for long. A **cursor** remembers where a read ended, so that the next
//! one of the same consumer finds its place without the index. What the list of segments promises may be taken away by
//! retention meanwhile: a read that meets foreign bytes asks whether its segment was retired, and then begins anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::batch::{Batch, HEADER_SIZE, at, checksum};
use super::file::File;
use super::partition::PartitionLog;
use super::scan::{Found, HEADERS, Scanner, Step};
use super::seal::{self, HEADER_BLOCK, SegmentHeader};
use super::segment::{Segment, SegmentError};
use super::{Isolation, OffsetQuery, ReadError, Records, records};
use crate::env::buffers::Buffer;
use crate::env::defects::{self, Defect};
use crate::types::{Offset, TimestampMs};

/// Consumers of one partition whose places are remembered.
const CURSORS: usize = 8;
/// A segment that retention takes away sends a read back to its start; twice in one read is a race lost twice.
const ATTEMPTS: usize = 4;
/// So much of a batch that is searched for a timestamp is decompressed, a piece at a time. A larger one answers with its first offset.
const MAX_SEARCHED_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    offset: Offset,
    segment: Offset,
    /// Of the file: compaction puts another in its place.
    salt: u64,
    position: u64,
}

/// Where the latest reads ended.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    places: Vec<Cursor>,
    replace_next: usize,
}

impl Cursors {
    /// The cursor at an offset; whoever reads on leaves a new one.
    fn take(&mut self, offset: Offset) -> Option<Cursor> {
        let index = self
            .places
            .iter()
            .position(|place| place.offset == offset)?;
        Some(self.places[index])
    }

    fn put(&mut self, from: Offset, cursor: Cursor) {
        let moved = self.places.iter().position(|place| place.offset == from);
        if let Some(index) = moved {
            self.places[index] = cursor;
        } else if self.places.len() < CURSORS {
            self.places.push(cursor);
        } else {
            self.places[self.replace_next % CURSORS] = cursor;
            self.replace_next = (self.replace_next + 1) % CURSORS;
        }
    }
}

/// An open segment and the place of a batch in it.
struct Place {
    segment: Arc<Segment>,
    file: Arc<File>,
    header: SegmentHeader,
    position: u64,
    /// The batch there may begin behind the offset that was looked for: compaction leaves gaps.
    after_gap: bool,
}

enum Fault {
    /// The segment was taken away during the read.
    Retired,
    Failed(ReadError),
}

impl Fault {
    fn corrupt(offset: Offset, message: impl Into<String>) -> Self {
        Self::Failed(ReadError::Corrupt {
            offset,
            message: message.into(),
        })
    }

    fn of(error: SegmentError, offset: Offset) -> Self {
        match error {
            SegmentError::Retired => Self::Retired,
            SegmentError::Damaged(message) => Self::corrupt(offset, message),
            SegmentError::Io(error) => Self::Failed(ReadError::Storage(error.to_string())),
        }
    }

    fn io(error: std::io::Error) -> Self {
        Self::Failed(ReadError::Storage(error.to_string()))
    }
}

/// What to give out of the bytes that were read.
#[derive(Clone, Copy)]
struct Wanted {
    from: Offset,
    below: Offset,
    max_bytes: usize,
    /// The first batch is given out even if it is larger than `max_bytes`, up to this size.
    first_up_to: usize,
}

/// The offsets that a query may answer.
struct Visible {
    from: Offset,
    below: Offset,
}

impl super::Offsets {
    /// Where reads end.
    fn end_for(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            _ if defects::has(Defect::ReadPastLastStable) => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable_offset,
        }
    }
}

impl PartitionLog {
    /// Reads whole batches from the one that holds `from`, up to `max_bytes`, never past the high watermark, or the last
    /// stable offset as `isolation` says. With `at_least_one` the first batch comes even when it is larger. Empty when
    /// `from` is that end, or between it and the log end. Never reaches over the end of a segment. Blocking when
    /// `is_hot` says false.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<Records, ReadError> {
        let first_up_to = if at_least_one { usize::MAX } else { 0 };
        self.read_within(from, max_bytes, first_up_to, isolation)
    }

    /// As `read`, with the first batch even if it is larger than `max_bytes`, unless it is larger than `first_up_to` as well:
    /// then `ReadError::Larger` tells its size, so that a reader can make room first. With 0 it is left out.
    pub fn read_within(
        &self,
        from: Offset,
        max_bytes: usize,
        first_up_to: usize,
        isolation: Isolation,
    ) -> Result<Records, ReadError> {
        let mut from = self.skip_known_damage(from);
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            let mut offsets = self.check_range(from)?;
            if defects::has(Defect::ServePastHighWatermark) {
                offsets.high_watermark = offsets.log_end;
            }
            let mut records = Records {
                bytes: Bytes::new(),
                high_watermark: offsets.high_watermark,
                last_stable_offset: offsets.last_stable_offset,
                log_start_offset: offsets.log_start,
                aborted: Vec::new(),
                is_behind: false,
            };
            let below = offsets.end_for(isolation);
            if from >= below {
                return Ok(records);
            }
            let wanted = Wanted {
                from,
                below,
                max_bytes,
                first_up_to,
            };
            match self.read_batches(wanted) {
                Ok((bytes, next_offset)) => {
                    records.bytes = match defects::has(Defect::FetchTwice) {
                        true => Bytes::from([&*bytes, &*bytes].concat()),
                        false => bytes,
                    };
                    records.is_behind = !records.bytes.is_empty() && self.goes_on(from, below);
                    if isolation == Isolation::ReadUncommitted {
                        return Ok(records);
                    }
                    records.aborted = self.transactions.lock().aborted(from, next_offset);
                    // What lies below the log start has been forgotten, perhaps before the list was made.
                    if self.log_start.load(Ordering::SeqCst) <= from {
                        return Ok(records);
                    }
                }
                Err(Fault::Retired) => attempts += 1,
                Err(Fault::Failed(met @ ReadError::Corrupt { .. })) => {
                    from = self.past_damage(from, met)?;
                }
                Err(Fault::Failed(error)) => return Err(error),
            }
        }
        Err(ReadError::Storage(
            "segments were taken away faster than they could be read".into(),
        ))
    }

    /// Whether what lies below `below` goes on in a later segment than the one that `from` is in.
    fn goes_on(&self, from: Offset, below: Offset) -> bool {
        let segments = self.segments.load();
        let later = segments.iter().rev();
        later
            .take_while(|segment| segment.base_offset > from)
            .any(|segment| segment.base_offset < below)
    }

    /// True when a read from this offset is near the end of the log and all but surely in the page cache, so that it may
    /// run on an async thread.
    pub fn is_hot(&self, from: Offset) -> bool {
        from >= self.hot_from.load(Ordering::Relaxed)
    }

    /// Bytes that a read from this offset could give at most, without looking into a file: an estimate from above, exact where the
    /// latest read of the same consumer ended.
    pub fn readable_bytes(&self, from: Offset, isolation: Isolation) -> usize {
        if from >= self.offsets().end_for(isolation) {
            return 0;
        }
        let segments = self.segments.load();
        let holding = segments.partition_point(|segment| segment.base_offset <= from);
        let Some(segment) = holding.checked_sub(1).map(|index| &segments[index]) else {
            return 0;
        };
        let cursor = self.cursors.lock().take(from);
        let position = match cursor {
            Some(cursor) if cursor.segment == segment.base_offset => cursor.position,
            _ => segment.known_position(from).unwrap_or(HEADER_BLOCK),
        };
        let left = usize::try_from(segment.end().saturating_sub(position)).unwrap_or(usize::MAX);
        // Where compaction has left a gap at a segment's end, what there is lies in the next one.
        left.max(HEADER_SIZE)
    }

    fn check_range(&self, from: Offset) -> Result<super::Offsets, ReadError> {
        if self.is_deleted() {
            return Err(ReadError::Deleted);
        }
        let offsets = self.offsets();
        if from < offsets.log_start || from > offsets.log_end {
            return Err(ReadError::OutOfRange {
                offset: from,
                start: offsets.log_start,
                end: offsets.high_watermark,
            });
        }
        Ok(offsets)
    }

    /// The bytes, and the offset after them.
    fn read_batches(&self, wanted: Wanted) -> Result<(Bytes, Offset), Fault> {
        let Some(place) = self.locate(wanted.from)? else {
            return Ok((Bytes::new(), wanted.from));
        };
        let end = place.segment.end();
        let available = usize::try_from(end.saturating_sub(place.position)).unwrap_or(usize::MAX);
        let mut count = wanted.max_bytes.min(available);
        if wanted.first_up_to > 0 {
            count = count.max(HEADER_SIZE.min(available));
        }
        loop {
            let mut memory = Buffer::with_capacity(count);
            let buffer = memory.bytes();
            place
                .file
                .read_at(buffer, count, place.position)
                .map_err(Fault::io)?;
            if buffer.len() < count && !place.segment.is_retired() {
                return Err(Fault::corrupt(
                    wanted.from,
                    "the segment file has become shorter",
                ));
            }
            let taken = take_batches(buffer, &place, &wanted);
            if taken.length == 0 {
                match taken.missing {
                    // The first batch is larger than what was read: its sealed header tells how much it is.
                    Some(size) if wanted.first_up_to > 0 && size > count && size <= available => {
                        if size > wanted.first_up_to {
                            return Err(Fault::Failed(ReadError::Larger { size }));
                        }
                        count = size;
                        continue;
                    }
                    Some(size) if size <= available => return Ok((Bytes::new(), wanted.from)),
                    None if taken.fault.is_empty() => return Ok((Bytes::new(), wanted.from)),
                    _ if place.segment.is_retired() => return Err(Fault::Retired),
                    _ => return Err(Fault::corrupt(wanted.from, taken.fault)),
                }
            }
            buffer.truncate(taken.length);
            memory.fit();
            self.cursors.lock().put(
                wanted.from,
                Cursor {
                    offset: taken.next_offset,
                    segment: place.segment.base_offset,
                    salt: place.header.salt,
                    position: place.position + taken.length as u64,
                },
            );
            return Ok((memory.freeze(), taken.next_offset));
        }
    }

    /// The place of the batch that holds `offset`, which is below the high watermark; where compaction has taken it away,
    /// of the next one. `None` when there is none any more.
    fn locate(&self, offset: Offset) -> Result<Option<Place>, Fault> {
        let segments = self.segments.load();
        let cursor = self.cursors.lock().take(offset);
        if let Some(cursor) = cursor
            && let Ok(index) = segments.binary_search_by_key(&cursor.segment, |s| s.base_offset)
            && cursor.position < segments[index].end()
        {
            let place = self.open(&segments[index], cursor.position, offset)?;
            if place.header.salt == cursor.salt {
                return Ok(Some(place));
            }
        }
        let index = segments.partition_point(|segment| segment.base_offset <= offset);
        let Some(first) = index.checked_sub(1) else {
            return Err(self.gap(offset));
        };
        if offset >= segments[first].next_offset() {
            return Err(self.gap(offset));
        }
        let mut after_gap = false;
        for segment in &segments[first..] {
            let mut place = self.open(segment, HEADER_BLOCK, offset)?;
            place.after_gap |= after_gap;
            if let Some(position) = self.position_in(&place, offset)? {
                place.position = position;
                return Ok(Some(place));
            }
            if !place.after_gap {
                // Only compaction leaves gaps.
                return Err(self.gap(offset));
            }
            after_gap = true;
        }
        Ok(None)
    }

    /// The position of the first batch of a segment that reaches `offset`; `None` when compaction has taken it away.
    fn position_in(&self, place: &Place, offset: Offset) -> Result<Option<u64>, Fault> {
        if offset <= place.segment.base_offset {
            let is_empty = place.segment.end() == HEADER_BLOCK;
            return Ok((!is_empty).then_some(HEADER_BLOCK));
        }
        self.seek(place, offset)
    }

    /// Segments never leave a gap between them, so that one can only be what damage has left, or what retention takes at
    /// this moment.
    fn gap(&self, offset: Offset) -> Fault {
        if offset < self.log_start.load(Ordering::SeqCst) {
            return Fault::Retired;
        }
        Fault::corrupt(offset, "no segment holds this offset")
    }

    fn open(&self, segment: &Arc<Segment>, position: u64, offset: Offset) -> Result<Place, Fault> {
        let (file, header) = segment
            .reader(&self.shared.disk)
            .map_err(|error| Fault::of(error, offset))?;
        Ok(Place {
            segment: Arc::clone(segment),
            file,
            after_gap: header.compacted.is_some(),
            header,
            position,
        })
    }

    /// The position of the batch that reaches `offset`, walking from where the index points and over what is damaged on
    /// the way; `None` when a compacted segment has no such batch any more.
    fn seek(&self, place: &Place, offset: Offset) -> Result<Option<u64>, Fault> {
        let segment = &place.segment;
        let start = segment
            .seek(&self.shared.disk, &place.file, &place.header, |index| {
                index.position_of(offset)
            })
            .map_err(|error| Fault::of(error, segment.base_offset))?;
        let mut expected = segment.base_offset;
        let end = segment.end();
        let mut walk = Scanner::new(&place.file, place.header.salt, start, end, HEADERS);
        let mut hole = None;
        loop {
            match walk.step().map_err(Fault::io)? {
                Step::Batch(found) if found.header.last_offset() >= offset => {
                    return match hole {
                        Some(message) if found.header.base_offset > offset => {
                            Err(Fault::corrupt(offset, message))
                        }
                        _ => Ok(Some(found.position)),
                    };
                }
                Step::Batch(found) => {
                    expected = found.header.last_offset() + 1;
                    hole = None;
                }
                Step::End if place.after_gap && hole.is_none() => return Ok(None),
                Step::End => return Err(self.gap(expected)),
                Step::Bad(_) if segment.is_retired() => return Err(Fault::Retired),
                Step::Bad(message) => {
                    if walk
                        .resync(u64::MAX, expected)
                        .map_err(Fault::io)?
                        .is_none()
                    {
                        return Err(Fault::corrupt(expected, message));
                    }
                    hole = Some(message);
                }
            }
        }
    }

    /// Offset and timestamp for ListOffsets; `None` when no record answers the query. Blocking for `AtTime` and
    /// `MaxTimestamp`. Only what a reader of this isolation sees is an answer; its end is what `Latest` asks for. A batch
    /// that cannot be decompressed within bounds answers with its first offset.
    pub fn find_offset(
        &self,
        query: OffsetQuery,
        isolation: Isolation,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        for _ in 0..ATTEMPTS {
            if self.is_deleted() {
                return Err(ReadError::Deleted);
            }
            let offsets = self.offsets();
            let visible = Visible {
                from: offsets.log_start,
                below: offsets.end_for(isolation),
            };
            let found = match query {
                OffsetQuery::Earliest => return Ok(Some((visible.from, -1))),
                OffsetQuery::Latest => return Ok(Some((visible.below, -1))),
                OffsetQuery::AtTime(time) => self.first_at(time, &visible),
                OffsetQuery::MaxTimestamp => self.max_timestamp(&visible),
            };
            match found {
                Ok(answer) => return Ok(answer),
                Err(Fault::Retired) => {}
                Err(Fault::Failed(error)) => return Err(error),
            }
        }
        Err(ReadError::Storage(
            "segments were taken away faster than they could be read".into(),
        ))
    }

    fn first_at(
        &self,
        time: TimestampMs,
        visible: &Visible,
    ) -> Result<Option<(Offset, TimestampMs)>, Fault> {
        let segments = self.segments.load();
        for segment in segments.iter().filter(|s| s.max_timestamp() >= time) {
            let mut answer = None;
            self.visit_from_time(segment, time, visible, |place, found, walk| {
                if found.header.max_timestamp >= time {
                    let searched = search_batch(place, found, walk, time, visible.from);
                    answer = match searched {
                        Err(met @ Fault::Failed(ReadError::Corrupt { .. })) => {
                            self.pass_over(found.header.base_offset, met)?;
                            None
                        }
                        searched => searched?,
                    };
                }
                Ok(answer.is_none())
            })?;
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }

    fn max_timestamp(&self, visible: &Visible) -> Result<Option<(Offset, TimestampMs)>, Fault> {
        let segments = self.segments.load();
        let mut largest = -1;
        for segment in segments.iter() {
            if segment.next_offset() <= visible.below {
                largest = largest.max(segment.max_timestamp());
            } else if segment.base_offset < visible.below {
                self.visit_from_time(segment, largest, visible, |_, found, _| {
                    largest = largest.max(found.header.max_timestamp);
                    Ok(true)
                })?;
            }
        }
        if largest < 0 {
            return Ok(None);
        }
        self.first_at(largest, visible)
    }

    /// Where the topic says so a search goes on behind damage that it met at `offset`; else it ends with what it met.
    fn pass_over(&self, offset: Offset, met: Fault) -> Result<(), Fault> {
        let Fault::Failed(met) = met else {
            return Err(met);
        };
        match self.past_damage(offset, met) {
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::Failed(error)),
        }
    }

    /// Visits the visible batches of a segment, from the first that may reach `time`, while `visit` says true.
    fn visit_from_time(
        &self,
        segment: &Arc<Segment>,
        time: TimestampMs,
        visible: &Visible,
        mut visit: impl FnMut(&Place, &Found, &mut Scanner<'_>) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let place = self.open(segment, HEADER_BLOCK, segment.base_offset)?;
        let start = segment
            .seek(&self.shared.disk, &place.file, &place.header, |index| {
                index.position_of_time(time)
            })
            .map_err(|error| Fault::of(error, segment.base_offset))?;
        let end = segment.end();
        let mut walk = Scanner::new(&place.file, place.header.salt, start, end, HEADERS);
        let mut expected = segment.base_offset;
        loop {
            match walk.step().map_err(Fault::io)? {
                Step::Batch(found) => {
                    expected = found.header.last_offset() + 1;
                    if found.header.base_offset >= visible.below {
                        return Ok(());
                    }
                    if expected > visible.from && !visit(&place, &found, &mut walk)? {
                        return Ok(());
                    }
                }
                Step::End => return Ok(()),
                Step::Bad(_) if segment.is_retired() => return Err(Fault::Retired),
                Step::Bad(message) => {
                    let met = Fault::corrupt(expected, message);
                    self.pass_over(expected, met)?;
                    if walk
                        .resync(u64::MAX, expected)
                        .map_err(Fault::io)?
                        .is_none()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The first record of a batch at or after `time`.
fn search_batch(
    place: &Place,
    found: &Found,
    walk: &mut Scanner<'_>,
    time: TimestampMs,
    log_start: Offset,
) -> Result<Option<(Offset, TimestampMs)>, Fault> {
    let offset = found.header.base_offset;
    let bytes = walk
        .bytes(found.position, found.header.size)
        .map_err(Fault::io)?
        .to_vec();
    let is_whole = bytes.len() == found.header.size
        && bytes
            .split_first_chunk::<HEADER_SIZE>()
            .is_some_and(|(head, body)| checksum(head, body) == found.header.crc);
    if !is_whole {
        if place.segment.is_retired() {
            return Err(Fault::Retired);
        }
        return Err(Fault::corrupt(offset, "the batch fails its checksum"));
    }
    let batch = Batch {
        header: found.header,
        bytes: bytes.into(),
    };
    // What only its producer could read cannot be searched, but must not be passed over either.
    let answer = records::offset_of_time(&batch, time, log_start, MAX_SEARCHED_BYTES)
        .unwrap_or(Some((offset, found.header.max_timestamp)));
    Ok(answer.map(|(offset, time)| (offset.max(log_start), time)))
}

struct Taken {
    /// Bytes of whole batches at the front.
    length: usize,
    next_offset: Offset,
    /// Size of the first batch, when its header is good and the batch is longer than the bytes.
    missing: Option<usize>,
    fault: String,
}

/// Checks the batches at the front of `buffer` and puts their leader epoch back, up to the first that is not wanted,
/// not all there, or not whole.
fn take_batches(buffer: &mut [u8], place: &Place, wanted: &Wanted) -> Taken {
    let epoch = place.header.leader_epoch.to_be_bytes();
    let mut taken = Taken {
        length: 0,
        next_offset: wanted.from,
        missing: None,
        fault: String::new(),
    };
    loop {
        let is_first = taken.length == 0;
        let position = place.position + taken.length as u64;
        let rest = &mut buffer[taken.length..];
        if rest.len() < HEADER_SIZE {
            if is_first {
                taken.fault = format!("the file ends at position {position}");
                taken.missing = Some(HEADER_SIZE);
            }
            return taken;
        }
        let Some(header) = seal::open(place.header.salt, position, rest) else {
            taken.fault = format!("no sealed batch at position {position}");
            return taken;
        };
        let fits = is_first || taken.length + header.size <= wanted.max_bytes;
        // Without gaps the first batch holds the offset that is read from, which is below the end.
        let may_be_behind = !is_first || place.after_gap;
        if (may_be_behind && header.base_offset >= wanted.below) || !fits {
            return taken;
        }
        let reaches = wanted.from <= header.last_offset();
        let is_next = match (is_first, place.after_gap) {
            (true, false) => header.base_offset <= wanted.from && reaches,
            (true, true) => reaches,
            (false, false) => header.base_offset == taken.next_offset,
            (false, true) => header.base_offset >= taken.next_offset,
        };
        if !is_next {
            taken.fault = format!("the batch at position {position} has another offset");
            return taken;
        }
        let size = header.size;
        let Some((head, body)) = rest
            .get_mut(..size)
            .and_then(|batch| batch.split_first_chunk_mut::<HEADER_SIZE>())
        else {
            taken.missing = is_first.then_some(size);
            return taken;
        };
        if checksum(head, body) != header.crc && !defects::has(Defect::ServeDamaged) {
            taken.fault = format!("the batch at position {position} fails its checksum");
            return taken;
        }
        head[at::LEADER_EPOCH..at::MAGIC].copy_from_slice(&epoch);
        taken.length += size;
        taken.next_offset = header.last_offset() + 1;
    }
}
