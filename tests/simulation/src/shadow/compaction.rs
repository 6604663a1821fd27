//! What the cleaner may take from a compacted partition: records that a later one of their key has replaced, and tombstones
//! that have stood long enough. Whatever it leaves keeps its offset, and what it took never comes back.

use std::collections::BTreeSet;

use super::partition::{Looked, Partition};
use crate::wire::{KEYS, TOMBSTONE, key_of};

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Newest {
    /// The latest record of the key whose place is known.
    placed: Option<(i64, u64)>,
    /// Another may stand anywhere.
    has_unplaced: bool,
}

type AllNewest = [Newest; KEYS as usize];

fn index(number: u64) -> usize {
    usize::try_from(key_of(number)).unwrap_or(0)
}

impl Partition {
    /// The newest record of each key.
    pub(super) fn newest(&self) -> AllNewest {
        let mut newest = AllNewest::default();
        if self.compaction.is_none() {
            return newest;
        }
        for (number, sent) in &self.sent {
            let of_key = &mut newest[index(*number)];
            match sent.placed {
                // What was cleaned has a place, too.
                Some(offset) => of_key.placed = of_key.placed.max(Some((offset, *number))),
                None => of_key.has_unplaced |= !sent.is_gone,
            }
        }
        newest
    }

    /// Whether the cleaner may have taken the record at this offset.
    pub(super) fn may_be_cleaned(
        &self,
        number: u64,
        offset: i64,
        (newest, now_ms): (&AllNewest, i64),
    ) -> bool {
        let Some(retention_ms) = self.compaction else {
            return false;
        };
        let of_key = newest[index(number)];
        let is_replaced = of_key.placed.is_some_and(|(newest, _)| newest > offset);
        let sent = &self.sent[&number];
        let is_old = sent.timestamp.saturating_add(retention_ms) <= now_ms;
        let is_over = number & TOMBSTONE != 0 && is_old;
        is_replaced || of_key.has_unplaced || sent.is_missed || is_over
    }

    /// Notes what the cleaner has taken: all of it was allowed. Nothing may be shown that a tombstone had ended before
    /// it went itself.
    pub(super) fn note_cleaned(
        &mut self,
        looked: Looked<'_>,
        found: &BTreeSet<u64>,
    ) -> Result<(), String> {
        if self.compaction.is_none() {
            return Ok(());
        }
        for (offset, newest) in self.newest().iter().filter_map(|newest| newest.placed) {
            let is_there = found.contains(&newest) || offset < looked.start;
            let older = found.iter().find(|number| index(**number) == index(newest));
            if !is_there && let Some(older) = older {
                return Err(format!(
                    "record {older} is shown without the newer record {newest} of its key, which was at offset {offset}"
                ));
            }
        }
        if !looked.is_sure {
            return Ok(());
        }
        let gone: Vec<(i64, u64)> = self
            .placed
            .range(looked.start..)
            .filter(|(_, placed)| !found.contains(&placed.number))
            .map(|(offset, placed)| (*offset, placed.number))
            .collect();
        for (offset, number) in gone {
            self.placed.remove(&offset);
            self.cleaned.insert(offset, number);
            if let Some(sent) = self.sent.get_mut(&number) {
                sent.is_gone = true;
            }
        }
        Ok(())
    }
}
