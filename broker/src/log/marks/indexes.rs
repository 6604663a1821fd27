//! Sets of record indexes within one batch.

use std::ops::Range;

/// Ascending runs of indexes, apart from one another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Indexes {
    runs: Vec<Range<u32>>,
}

impl Indexes {
    /// Every index below `count`.
    pub fn below(count: u32) -> Self {
        let mut all = Self::default();
        all.push(0..count);
        all
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether every index below `count` is in it.
    pub fn is_all(&self, count: u32) -> bool {
        self.runs
            .first()
            .is_some_and(|run| run.start == 0 && run.end >= count)
    }

    /// Whether no index is `count` or more.
    pub fn is_below(&self, count: u32) -> bool {
        self.runs.last().is_none_or(|run| run.end <= count)
    }

    pub fn contains(&self, index: u32) -> bool {
        let at = self.runs.partition_point(|run| run.end <= index);
        self.runs.get(at).is_some_and(|run| run.contains(&index))
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut runs: Vec<_> = self.runs.iter().chain(&other.runs).cloned().collect();
        runs.sort_unstable_by_key(|run| run.start);
        let mut union = Self::default();
        for run in runs {
            union.push(run);
        }
        union
    }

    /// Adds a run that begins at or after the last one's beginning.
    fn push(&mut self, run: Range<u32>) {
        match self.runs.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ if run.is_empty() => {}
            _ => self.runs.push(run),
        }
    }

    /// Appends the runs to `out`: of each the gap before it and its length less one, as varints (seven bits a byte, the
    /// lowest first).
    pub(in crate::log) fn encode(&self, out: &mut Vec<u8>) {
        let mut end = 0;
        for run in &self.runs {
            put_varint(out, run.start - end);
            put_varint(out, run.end - run.start - 1);
            end = run.end;
        }
    }

    /// Reads runs back that fill `bytes` exactly and stay below `count`.
    pub(in crate::log) fn decode(mut bytes: &[u8], count: u32) -> Option<Self> {
        let mut indexes = Self::default();
        let mut end = 0_u32;
        while !bytes.is_empty() {
            let gap = take_varint(&mut bytes)?;
            let length = take_varint(&mut bytes)?.checked_add(1)?;
            let start = end.checked_add(gap)?;
            if gap == 0 && end > 0 {
                return None;
            }
            end = start.checked_add(length).filter(|end| *end <= count)?;
            indexes.runs.push(start..end);
        }
        Some(indexes)
    }
}

impl FromIterator<u32> for Indexes {
    /// Of ascending indexes.
    fn from_iter<T: IntoIterator<Item = u32>>(indexes: T) -> Self {
        let mut set = Self::default();
        for index in indexes {
            set.push(index..index.saturating_add(1));
        }
        set
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        // The cast keeps the low seven bits, which is what is wanted.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok();
        }
    }
    None
}
