//! What must stand in one partition.
//!
//! Every record has a number of its own. A record is **sent**; it is **placed** once an answer or a reader has told its
//! offset. A placed record is **held** when no loss of power may take it away: then it must be found at its offset ever
//! after, until retention, DeleteRecords or the cleaner may have removed it, or a bit of its batch has flipped on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::wire::Read;

/// What is known of a record that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) timestamp: i64,
    pub(super) placed: Option<i64>,
    /// Whoever sent it may send it again.
    is_open: bool,
    /// It was not there when all was read: if it is not new when it is sent again, it was cleaned.
    pub(super) is_missed: bool,
    /// It cannot appear any more: it was refused, or nobody had it at a start and nobody will send it again.
    pub(super) is_gone: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) number: u64,
    is_held: bool,
}

/// The model of one partition.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    pub(super) sent: BTreeMap<u64, Sent>,
    pub(super) placed: BTreeMap<i64, Placed>,
    /// The highest offset that was known for certain to be the log's first: it never goes back.
    start: i64,
    /// The log may begin anywhere below: somebody asked to delete records.
    deletable: i64,
    /// Of a compacted topic: for how long tombstones stay, in milliseconds.
    pub compaction: Option<i64>,
    /// What the cleaner took away, by offset.
    pub(super) cleaned: BTreeMap<i64, u64>,
    /// Offsets of batches of which a bit has flipped on the disk.
    damaged: BTreeSet<i64>,
}

/// A look at a whole log, with no request on its way and after a start, so that all of it is durable.
#[derive(Clone, Copy, Debug)]
pub struct Looked<'a> {
    pub start: i64,
    pub end: i64,
    pub records: &'a [Read],
    pub now_ms: i64,
    /// Records that are older may have been removed on purpose.
    pub before: i64,
    /// Any record may have been: a bound on bytes was set.
    pub any: bool,
    /// No call was made to fail, so that what is not there never comes back.
    pub is_sure: bool,
    /// A failed call may have left holes among records that nobody was promised, which the log gave up.
    pub may_have_holes: bool,
}

impl Partition {
    /// Records are on their way. `is_open`: their sender repeats them until it is answered.
    pub fn send(&mut self, numbers: &[u64], timestamp: i64, is_open: bool) {
        for number in numbers {
            self.sent.insert(
                *number,
                Sent {
                    timestamp,
                    placed: None,
                    is_open,
                    is_missed: false,
                    is_gone: false,
                },
            );
        }
    }

    /// A batch was refused for certain.
    pub fn refuse(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(sent) = self.sent.get_mut(number) {
                sent.is_gone = true;
            }
        }
    }

    /// Their sender gives up: they may be there, and will not be sent again.
    pub fn abandon(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(sent) = self.sent.get_mut(number) {
                sent.is_open = false;
            }
        }
    }

    /// A batch was answered: its records are at `base` and on.
    pub fn acknowledge(&mut self, numbers: &[u64], base: i64, held: bool) -> Result<(), String> {
        for (number, offset) in numbers.iter().zip(base..) {
            // Sent again, it may have been cleaned meanwhile.
            if self.cleaned.get(&offset) != Some(number) {
                self.place(*number, offset, held)?;
            }
        }
        self.abandon(numbers);
        if held {
            self.hold_up_to(base);
        }
        Ok(())
    }

    /// A log is durable in its order: with one record all before it are.
    fn hold_up_to(&mut self, offset: i64) {
        for placed in self.placed.range_mut(..offset).map(|(_, placed)| placed) {
            placed.is_held = true;
        }
    }

    fn place(&mut self, number: u64, offset: i64, held: bool) -> Result<(), String> {
        let sent = self
            .sent
            .get_mut(&number)
            .ok_or_else(|| format!("record {number} at offset {offset} was never sent here"))?;
        if sent.is_gone {
            return Err(format!(
                "record {number} at offset {offset} had been refused or had been lost"
            ));
        }
        if let Some(before) = sent.placed
            && before != offset
        {
            return Err(format!(
                "record {number} is at offset {before} and at offset {offset}"
            ));
        }
        if let Some(before) = self.cleaned.get(&offset) {
            return Err(format!(
                "offset {offset} holds record {number}; it held record {before}, which was cleaned"
            ));
        }
        sent.placed = Some(offset);
        let entry = self.placed.entry(offset).or_insert(Placed {
            number,
            is_held: held,
        });
        if entry.number != number {
            return Err(format!(
                "offset {offset} holds record {number}; it held record {}",
                entry.number
            ));
        }
        entry.is_held |= held;
        Ok(())
    }

    /// A reader was given these records after asking for `from`, and goes on at `until`. `held`: what readers see is durable.
    pub fn read(
        &mut self,
        (from, until): (i64, i64),
        records: &[Read],
        held: bool,
    ) -> Result<(), String> {
        let mut next = from;
        let mut found = BTreeSet::new();
        for read in records {
            if read.offset < next || !self.may_miss(next..read.offset) {
                return Err(format!(
                    "a read from {from} gave offset {} where {next} comes next",
                    read.offset
                ));
            }
            next = read.offset + 1;
            if let Some(number) = read.number() {
                self.place(number, read.offset, held)?;
                found.insert(number);
            }
        }
        if !self.may_miss(next..until) {
            return Err(format!(
                "a read from {from} ended at {next} and goes on at {until}"
            ));
        }
        if held && let Some(last) = records.last() {
            self.hold_up_to(last.offset);
        }
        Ok(())
    }

    /// Whether nothing need be at these offsets.
    fn may_miss(&self, mut offsets: Range<i64>) -> bool {
        self.compaction.is_some() || offsets.all(|offset| self.damaged.contains(&offset))
    }

    /// Among these offsets one of a record that must be there and was not found.
    pub fn lost(
        &self,
        offsets: Range<i64>,
        found: &BTreeSet<u64>,
        now_ms: i64,
    ) -> Option<(i64, u64)> {
        if offsets.is_empty() {
            return None;
        }
        let newest = self.newest();
        let mut placed = self.placed.range(offsets);
        let lost = placed.find(|(offset, placed)| {
            !found.contains(&placed.number)
                && !self.damaged.contains(offset)
                && !self.may_be_cleaned(placed.number, **offset, (&newest, now_ms))
        });
        lost.map(|(offset, placed)| (*offset, placed.number))
    }

    /// A bit of the batch at these offsets has flipped on the disk.
    pub fn damage(&mut self, offsets: Range<i64>) {
        self.damaged.extend(offsets);
    }

    /// Whether a reader may be told that what is at an offset cannot be read: a bit of it has flipped, or a call has failed,
    /// `may_stop`, and taken with it what was not held.
    pub fn may_be_unreadable(&self, offset: i64, (may_stop, now_ms): (bool, i64)) -> bool {
        let placed = self.placed.get(&offset);
        let is_held = placed.is_some_and(|placed| placed.is_held);
        let lost = self.lost(offset..offset + 1, &BTreeSet::new(), now_ms);
        let must_be_there = is_held && lost.is_some();
        self.damaged.contains(&offset) || may_stop && !must_be_there
    }

    pub fn has_damage(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Somebody asks to delete what is below an offset.
    pub fn ask_delete(&mut self, below: i64) {
        self.deletable = self.deletable.max(below);
    }

    /// The log begins here or later, for ever.
    pub fn begin_at(&mut self, start: i64) {
        self.start = self.start.max(start);
    }

    /// What was not durable may be gone, and its offsets may be given again.
    pub fn lose_what_is_not_held(&mut self) {
        let sent = &mut self.sent;
        self.placed.retain(|_, placed| {
            if !placed.is_held
                && let Some(sent) = sent.get_mut(&placed.number)
            {
                sent.placed = None;
            }
            placed.is_held
        });
    }

    /// The whole log was read.
    pub fn audit(&mut self, looked: Looked<'_>) -> Result<(), String> {
        let Looked { start, end, .. } = looked;
        if start < self.start {
            return Err(format!(
                "the log starts at {start}; it had started at {}",
                self.start
            ));
        }
        self.start = start;
        if looked.may_have_holes {
            self.note_holes(looked);
        }
        self.read((start, end), looked.records, true)?;
        let found: BTreeSet<u64> = looked.records.iter().filter_map(Read::number).collect();
        if let Some((offset, number)) = self.lost(start..i64::MAX, &found, looked.now_ms) {
            return Err(format!(
                "record {number} was acknowledged or seen at offset {offset} and is lost"
            ));
        }
        for (offset, placed) in self.placed.range(self.deletable..start.max(self.deletable)) {
            if !looked.any && self.sent[&placed.number].timestamp >= looked.before {
                return Err(format!(
                    "record {} at offset {offset} was removed: the log starts at {start}",
                    placed.number
                ));
            }
        }
        self.note_cleaned(looked, &found)?;
        self.deletable = start;
        self.placed = self.placed.split_off(&start);
        for (number, sent) in &mut self.sent {
            if !found.contains(number) {
                sent.is_gone |= !sent.is_open;
                sent.is_missed = true;
            }
        }
        Ok(())
    }

    /// Holes where no record is known to be are there for good: their offsets are not given again.
    fn note_holes(&mut self, looked: Looked<'_>) {
        let found: BTreeSet<i64> = looked.records.iter().map(|read| read.offset).collect();
        let holes: Vec<i64> = (looked.start..looked.end)
            .filter(|offset| !found.contains(offset) && !self.placed.contains_key(offset))
            .collect();
        self.damaged.extend(holes);
    }

    /// As `audit`, of a log that a fault has stopped: around its holes every record that is held must still be there.
    pub fn audit_stopped(&mut self, start: i64, records: &[Read]) -> Result<(), String> {
        let mut found = BTreeSet::new();
        for read in records {
            if let Some(number) = read.number() {
                self.place(number, read.offset, false)?;
            }
            found.insert(read.offset);
        }
        let lost = self.placed.range(start..).find(|(offset, placed)| {
            placed.is_held
                && self.compaction.is_none()
                && !found.contains(offset)
                && !self.damaged.contains(offset)
        });
        match lost {
            Some((offset, placed)) => Err(format!(
                "record {} was held at offset {offset} and cannot be read",
                placed.number
            )),
            None => Ok(()),
        }
    }

    /// The offset after the last that no loss of power takes away.
    pub fn held_end(&self) -> i64 {
        let mut held = self.placed.iter().rev();
        held.find(|(_, placed)| placed.is_held)
            .map_or(self.start, |(offset, _)| offset + 1)
    }

    /// The first record from a time on that readers surely see, unless it was removed since.
    pub fn first_from(&self, timestamp: i64) -> Option<i64> {
        let mut seen = self.placed.range(self.start..);
        seen.find(|(_, placed)| placed.is_held && self.sent[&placed.number].timestamp >= timestamp)
            .map(|(offset, _)| *offset)
    }

    /// Whether the record may have been removed: by DeleteRecords, by the cleaner, or with its batch by a flipped bit.
    pub fn may_be_removed(&self, offset: i64) -> bool {
        offset < self.deletable || self.compaction.is_some() || self.damaged.contains(&offset)
    }

    /// When the record at an offset was made, in milliseconds; `None` when nobody knows what is there.
    pub fn timestamp_at(&self, offset: i64) -> Option<i64> {
        let placed = self.placed.get(&offset)?;
        Some(self.sent[&placed.number].timestamp)
    }

    /// Where a reader may begin: the known ends.
    pub fn ends(&self) -> (i64, i64) {
        let end = self.placed.last_key_value();
        let end = end.map_or(self.start, |(offset, _)| offset + 1);
        (self.start, end.max(self.start))
    }
}
