//! Damage that a running log knows of: which offsets cannot be read, and what readers make of it.
//!
//! A **damaged range** reaches from the offset after the last whole batch before some damage to the first offset of the next
//! whole batch. Recovery finds what lies behind the clean point; a **survey** finds what a reader met elsewhere. What becomes of
//! a read that meets damage is the topic's choice (`tidegate.damaged-records`): an error that names the range, or the batch
//! behind it. Neither gives out a byte of the range, and neither passes it over without saying so.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ReadError;
use super::partition::PartitionLog;
use super::scan::{BODIES, Found, Scanner, Step};
use super::seal::HEADER_BLOCK;
use super::segment::{Segment, SegmentError};
use crate::config::DamagedRecords;
use crate::env::defects::{self, Defect};
use crate::types::Offset;

/// Ranges of one partition that are remembered; what is met beyond them is surveyed each time.
const MAX_RANGES: usize = 1_000;

/// Offsets of one partition that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedRange {
    pub first: Offset,
    /// The first offset that is whole again, or the log's end.
    pub until: Offset,
    /// Where, and what was wrong.
    pub message: String,
}

impl std::fmt::Display for DamagedRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = self.until - 1;
        write!(f, "offsets {} to {last}: {}", self.first, self.message)
    }
}

/// What is known, in the order of offsets.
#[derive(Debug, Default)]
pub(super) struct Damage {
    ranges: Vec<DamagedRange>,
    /// Times that a reader was led behind a range.
    skips: u64,
}

impl Damage {
    pub fn new(ranges: Vec<DamagedRange>) -> Self {
        let mut damage = Self::default();
        damage.note_all(&ranges);
        damage
    }

    /// Adds a range; those that it meets become one with it. False when nothing was new.
    pub fn note(&mut self, mut range: DamagedRange) -> bool {
        let meets = |known: &DamagedRange| known.first <= range.until && range.first <= known.until;
        if range.first >= range.until
            || self
                .ranges
                .iter()
                .any(|known| known.first <= range.first && range.until <= known.until)
        {
            return false;
        }
        let (met, mut rest): (Vec<_>, Vec<_>) = self.ranges.drain(..).partition(meets);
        for known in met {
            range.first = range.first.min(known.first);
            range.until = range.until.max(known.until);
        }
        if rest.len() < MAX_RANGES {
            let index = rest.partition_point(|known| known.first < range.first);
            rest.insert(index, range);
        }
        self.ranges = rest;
        true
    }

    pub fn note_all(&mut self, ranges: &[DamagedRange]) {
        for range in ranges {
            self.note(range.clone());
        }
    }

    /// The range that holds an offset.
    pub fn holding(&self, offset: Offset) -> Option<&DamagedRange> {
        let index = self.ranges.partition_point(|range| range.until <= offset);
        self.ranges.get(index).filter(|range| range.first <= offset)
    }

    pub fn ranges(&self) -> &[DamagedRange] {
        &self.ranges
    }

    pub fn skips(&self) -> u64 {
        self.skips
    }
}

impl PartitionLog {
    pub(super) fn skips_damage(&self) -> bool {
        self.config.load().damaged_records == DamagedRecords::Skip
    }

    /// Notes a range and says so once.
    pub(super) fn note_damage(&self, range: DamagedRange) {
        let (first, last) = (range.first, range.until - 1);
        let message = range.message.clone();
        if self.damage.lock().note(range) {
            tracing::error!(partition = %self.id(), first, last, message, "records are damaged");
        }
    }

    /// Where a reader of `offset` begins: behind the damaged range that is known to hold it, when the topic says so.
    pub(super) fn skip_known_damage(&self, offset: Offset) -> Offset {
        let mut damage = self.damage.lock();
        if damage.ranges.is_empty() || !self.skips_damage() {
            return offset;
        }
        // What was deleted is out of range, damaged or not.
        if offset < self.log_start.load(Ordering::SeqCst) {
            return offset;
        }
        let Some(until) = damage.holding(offset).map(|range| range.until) else {
            return offset;
        };
        damage.skips += 1;
        until
    }

    /// What becomes of a read of `offset` that met damage: the offset behind it, or the error that names its range.
    pub(super) fn past_damage(&self, offset: Offset, met: ReadError) -> Result<Offset, ReadError> {
        let known = self.damage.lock().holding(offset).cloned();
        let range = match known {
            Some(range) => range,
            None => match self.survey(offset)? {
                Some(range) => range,
                // Every batch is whole now.
                None => return Err(met),
            },
        };
        if self.skips_damage() {
            self.damage.lock().skips += 1;
            return Ok(range.until);
        }
        Err(ReadError::Corrupt {
            offset: range.first,
            message: range.to_string(),
        })
    }

    /// The damaged range that holds an offset below the log end, noted. `None` when what holds it is whole.
    pub(super) fn survey(&self, offset: Offset) -> Result<Option<DamagedRange>, ReadError> {
        let segments = self.segments.load();
        let index = segments.partition_point(|segment| segment.base_offset <= offset);
        let after = segments
            .get(index)
            .map_or(self.log_end.load(Ordering::SeqCst), |next| next.base_offset);
        let before = index.checked_sub(1).map(|index| &segments[index]);
        let missing = |first: Offset| DamagedRange {
            first,
            until: after,
            message: "no segment holds them".into(),
        };
        let range = match before {
            Some(segment) if offset < segment.next_offset() => {
                self.survey_from(&segments[index - 1..], offset)?
            }
            Some(segment) => Some(missing(segment.next_offset())),
            None => Some(missing(self.log_start.load(Ordering::SeqCst))),
        };
        if let Some(range) = &range {
            self.note_damage(range.clone());
        }
        Ok(range)
    }

    /// Where compaction has taken the batch away that held `offset`, a reader goes on to the next segment: so does this.
    fn survey_from(
        &self,
        segments: &[Arc<Segment>],
        offset: Offset,
    ) -> Result<Option<DamagedRange>, ReadError> {
        for segment in segments {
            match self.survey_segment(segment, offset)? {
                Surveyed::Beyond => {}
                Surveyed::Whole => return Ok(None),
                Surveyed::Damaged(mut range) => {
                    range.first = range.first.min(offset);
                    return Ok(Some(range));
                }
            }
        }
        Ok(None)
    }

    fn survey_segment(
        &self,
        segment: &Arc<Segment>,
        offset: Offset,
    ) -> Result<Surveyed, ReadError> {
        let path = segment.path();
        let range = |first: Offset, until: Offset, message: String| {
            Surveyed::Damaged(DamagedRange {
                first,
                until,
                message: format!("{}{message}", path.display()),
            })
        };
        let all = |message: String| range(segment.base_offset, segment.next_offset(), message);
        let (file, header) = match segment.reader(&self.shared.disk) {
            Ok(opened) => opened,
            Err(SegmentError::Retired) => return Ok(Surveyed::Whole),
            Err(SegmentError::Damaged(message)) => return Ok(all(format!(": {message}"))),
            Err(SegmentError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(all(": the file is missing".into()));
            }
            Err(SegmentError::Io(error)) => return Err(ReadError::Storage(error.to_string())),
        };
        let context = |error: io::Error| ReadError::Storage(error.to_string());
        let mut walk = Scanner::new(&file, header.salt, HEADER_BLOCK, segment.end(), BODIES);
        let mut expected = segment.base_offset;
        loop {
            let position = walk.position();
            let message = match next_whole(&mut walk, expected).map_err(context)? {
                Ok(None) => return Ok(Surveyed::Beyond),
                Ok(Some(found)) if found.header.last_offset() >= offset => {
                    return Ok(Surveyed::Whole);
                }
                Ok(Some(found)) => {
                    expected = found.header.last_offset() + 1;
                    continue;
                }
                Err(message) => message,
            };
            let again = walk.resync(u64::MAX, expected).map_err(context)?;
            if segment.is_retired() {
                return Ok(Surveyed::Whole);
            }
            let until = again.map_or(segment.next_offset(), |found| found.header.base_offset);
            if offset < until {
                return Ok(range(expected, until, format!(" at {position}: {message}")));
            }
            expected = until;
        }
    }
}

/// What a segment says of an offset.
enum Surveyed {
    /// The batch that holds it, or the next one, is whole.
    Whole,
    Damaged(DamagedRange),
    /// Nothing at or behind it is in this segment any more.
    Beyond,
}

/// The next batch when it is whole and at or after `expected`, or what is wrong with it; the walk then stands where a
/// search for the next one begins. `None` at the walk's end.
pub(super) fn next_whole(
    walk: &mut Scanner<'_>,
    expected: Offset,
) -> io::Result<Result<Option<Found>, String>> {
    let found = match walk.step()? {
        Step::End => return Ok(Ok(None)),
        Step::Bad(message) => return Ok(Err(message)),
        Step::Batch(found) => found,
    };
    let position = found.position;
    // Sealed, so that its length can be believed: whatever is wrong, the next batch follows it.
    let next = position + found.header.size as u64;
    if found.header.base_offset < expected {
        walk.move_to(next - 1);
        let offset = found.header.base_offset;
        return Ok(Err(format!(
            "the batch at {position} has offset {offset} again"
        )));
    }
    if !defects::has(Defect::SkipChecksumAtRecovery) && !walk.is_whole(&found)? {
        walk.move_to(next - 1);
        return Ok(Err(format!("the batch at {position} fails its checksum")));
    }
    Ok(Ok(Some(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: Offset, until: Offset) -> DamagedRange {
        DamagedRange {
            first,
            until,
            message: String::new(),
        }
    }

    #[test]
    fn ranges_that_meet_become_one_and_others_keep_their_order() {
        let mut damage = Damage::default();
        assert!(damage.note(range(20, 30)));
        assert!(damage.note(range(5, 8)));
        assert!(damage.note(range(40, 41)));
        assert!(!damage.note(range(21, 29)));
        assert!(!damage.note(range(7, 7)));
        assert!(damage.note(range(30, 35)));
        let expected = [range(5, 8), range(20, 35), range(40, 41)];
        assert_eq!(damage.ranges(), expected);
        for (offset, until) in [
            (4, None),
            (5, Some(8)),
            (7, Some(8)),
            (8, None),
            (34, Some(35)),
        ] {
            assert_eq!(damage.holding(offset).map(|range| range.until), until);
        }
        assert!(damage.note(range(0, 50)));
        assert_eq!(damage.ranges(), [range(0, 50)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let count = i64::try_from(MAX_RANGES).expect("small") + 10;
        let damage = Damage::new((0..count).map(|n| range(n * 10, n * 10 + 1)).collect());
        assert_eq!(damage.ranges().len(), MAX_RANGES);
    }
}
