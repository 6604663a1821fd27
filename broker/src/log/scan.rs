//! Walking the batches of one segment file from a position on.
//!
//! A walk believes a batch header only after its seal; the length that leads to the next batch is under the seal too.
//! It reads in chunks, so that small batches cost no call each and the bodies of large ones are hopped over.

use std::io;

use super::batch::{BatchHeader, HEADER_SIZE, checksum};
use super::file::File;
use super::seal;
use crate::types::Offset;

/// For walks that need headers alone.
pub(super) const HEADERS: usize = 32 << 10;
/// For walks that check whole batches.
pub(super) const BODIES: usize = 1 << 20;

/// A batch header under a valid seal, and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub position: u64,
    pub header: BatchHeader,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Batch(Found),
    /// The walk has reached its end exactly.
    End,
    /// No sealed batch stands here, or it reaches past the end.
    Bad(String),
}

#[derive(Debug)]
pub(super) struct Scanner<'a> {
    file: &'a File,
    salt: u64,
    position: u64,
    end: u64,
    chunk: usize,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl<'a> Scanner<'a> {
    /// Walks from `position` to `end`, reading `chunk` bytes at a time.
    pub fn new(file: &'a File, salt: u64, position: u64, end: u64, chunk: usize) -> Self {
        Self {
            file,
            salt,
            position,
            end,
            chunk,
            buffer: Vec::new(),
            buffer_start: 0,
        }
    }

    /// Where the next batch would begin.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on from another position.
    pub fn move_to(&mut self, position: u64) {
        self.position = position;
    }

    /// The next batch header; the walk moves past its batch.
    pub fn step(&mut self) -> io::Result<Step> {
        let (position, end) = (self.position, self.end);
        if position >= end {
            return Ok(Step::End);
        }
        let salt = self.salt;
        let bytes = self.bytes(position, HEADER_SIZE)?;
        if bytes.len() < HEADER_SIZE {
            return Ok(Step::Bad(format!("a header cut short at {position}")));
        }
        let Some(header) = seal::open(salt, position, bytes) else {
            return Ok(Step::Bad(format!("no sealed batch at {position}")));
        };
        let next = position + header.size as u64;
        if next > end {
            return Ok(Step::Bad(format!(
                "the batch at {position} of {} bytes is cut short at {end}",
                header.size
            )));
        }
        self.position = next;
        Ok(Step::Batch(Found { position, header }))
    }

    /// Whether the found batch's body matches its checksum.
    pub fn is_whole(&mut self, found: &Found) -> io::Result<bool> {
        let bytes = self.bytes(found.position, found.header.size)?;
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
            return Ok(false);
        };
        Ok(bytes.len() == found.header.size && checksum(header, body) == found.header.crc)
    }

    /// `count` bytes at `position`, fewer where the walk or the file ends.
    pub fn bytes(&mut self, position: u64, count: usize) -> io::Result<&[u8]> {
        let count = count.min(usize::try_from(self.end.saturating_sub(position)).unwrap_or(count));
        let have = self.buffer_start + self.buffer.len() as u64;
        if position < self.buffer_start || position + count as u64 > have {
            let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
            let want = count.max(self.chunk).min(left);
            self.file.read_at(&mut self.buffer, want, position)?;
            self.buffer_start = position;
        }
        let start = usize::try_from(position - self.buffer_start).unwrap_or(usize::MAX);
        let rest = self.buffer.get(start..).unwrap_or_default();
        Ok(&rest[..count.min(rest.len())])
    }

    /// Looks within the next `window` bytes after the walk's position for a whole batch at or after `offset`, byte by
    /// byte, and moves the walk in front of it.
    pub fn resync(&mut self, window: u64, offset: Offset) -> io::Result<Option<Found>> {
        let limit = self
            .end
            .min(self.position.saturating_add(window))
            .saturating_sub(HEADER_SIZE as u64);
        let mut position = self.position + 1;
        while position <= limit {
            let (salt, from) = (self.salt, position);
            let bytes = self.bytes(from, self.chunk)?;
            let Some(last) = bytes.len().checked_sub(HEADER_SIZE) else {
                return Ok(None);
            };
            let hit = (0..=last).find_map(|at| {
                let here = &bytes[at..];
                // The cheap half first: this runs over every byte of the window.
                let header = BatchHeader::read(here)?;
                if header.base_offset < offset {
                    return None;
                }
                seal::open(salt, from + at as u64, here).map(|header| Found {
                    position: from + at as u64,
                    header,
                })
            });
            match hit {
                Some(found)
                    if found.position + found.header.size as u64 <= self.end
                        && self.is_whole(&found)? =>
                {
                    self.position = found.position;
                    return Ok(Some(found));
                }
                Some(found) => position = found.position + 1,
                None => position = from + last as u64 + 1,
            }
        }
        Ok(None)
    }
}
