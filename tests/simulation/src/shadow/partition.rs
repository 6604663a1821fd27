//! What must stand in one partition.
//!
//! Every record has a number of its own. A record is **sent**; it is **placed** once an answer or a reader has told its
//! offset. A placed record is **held** when no loss of power may take it away: then it must be found at its offset ever
//! after, until retention may have removed it.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::Read;

/// What is known of a record that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    timestamp: i64,
    placed: Option<i64>,
    /// Whoever sent it may send it again.
    is_open: bool,
    /// It cannot appear any more: it was refused, or nobody had it at a start and nobody will send it again.
    is_gone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    number: u64,
    is_held: bool,
}

/// The model of one partition.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    sent: BTreeMap<u64, Sent>,
    placed: BTreeMap<i64, Placed>,
    /// The lowest offset that was ever seen to be the log's first.
    start: i64,
}

/// What may have been removed on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Removable {
    /// Records that are older.
    pub before: i64,
    /// Any record: a bound on bytes was set.
    pub any: bool,
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
            self.place(*number, offset, held)?;
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

    /// A reader was given these records after asking for `from`. `held`: what readers see is durable.
    pub fn read(&mut self, from: i64, records: &[Read], held: bool) -> Result<(), String> {
        let mut last: Option<i64> = None;
        for read in records {
            if last.is_some_and(|last| read.offset != last + 1) {
                return Err(format!(
                    "a read from {from} gave offset {} after {}",
                    read.offset,
                    last.unwrap_or_default()
                ));
            }
            last = Some(read.offset);
            if let Some(number) = read.number() {
                self.place(number, read.offset, held)?;
            }
        }
        if let Some(first) = records.first()
            && first.offset > from
        {
            return Err(format!("a read from {from} began at {}", first.offset));
        }
        if held && let Some(last) = last {
            self.hold_up_to(last);
        }
        Ok(())
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

    /// The whole log was read, from `start` on up to `end`, with no request on its way and after a start, so that all of it is
    /// durable.
    pub fn audit(
        &mut self,
        start: i64,
        end: i64,
        records: &[Read],
        removable: Removable,
    ) -> Result<(), String> {
        if let Some(first) = records.first()
            && first.offset != start
        {
            return Err(format!(
                "the log starts at {start}, its first record at {}",
                first.offset
            ));
        }
        self.read(start, records, true)?;
        let found: BTreeSet<u64> = records.iter().filter_map(Read::number).collect();
        let read_end = records.last().map_or(start, |last| last.offset + 1);
        if read_end != end {
            return Err(format!("the log ends at {end}, its records at {read_end}"));
        }
        for (offset, placed) in &self.placed {
            if *offset >= start && !found.contains(&placed.number) {
                return Err(format!(
                    "record {} was acknowledged or seen at offset {offset} and is lost",
                    placed.number
                ));
            }
            let timestamp = self.sent[&placed.number].timestamp;
            if *offset < start && !removable.any && timestamp >= removable.before {
                return Err(format!(
                    "record {} at offset {offset} was removed: the log starts at {start}",
                    placed.number
                ));
            }
        }
        self.placed = self.placed.split_off(&start);
        self.start = start;
        for (number, sent) in &mut self.sent {
            if !sent.is_open && !found.contains(number) {
                sent.is_gone = true;
            }
        }
        Ok(())
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
        let held = self.placed.range(start..);
        let lost = held
            .filter(|(_, placed)| placed.is_held)
            .find(|(offset, _)| !found.contains(offset));
        match lost {
            Some((offset, placed)) => Err(format!(
                "record {} was held at offset {offset} and cannot be read",
                placed.number
            )),
            None => Ok(()),
        }
    }

    /// Where a reader may begin: the known ends.
    pub fn ends(&self) -> (i64, i64) {
        let end = self.placed.last_key_value();
        (self.start, end.map_or(self.start, |(offset, _)| offset + 1))
    }
}
