//! One simulated file: what the page cache holds, what is on the platter, and the changes in between.

use std::io::IoSlice;

use crate::random::Random;

/// The unit that a disk writes whole or not at all.
pub const SECTOR: u64 = 512;

#[derive(Clone, Debug)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Length(usize),
}

/// One file's content. Names are elsewhere: a file may have none any more and still be open.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// What reads see.
    cached: Vec<u8>,
    /// What a loss of power leaves for certain.
    durable: Vec<u8>,
    /// What has happened to `cached` since and not to `durable`.
    pending: Vec<Change>,
    /// When it was last written, in milliseconds since the Unix epoch.
    pub modified: i64,
    /// The life of the process that holds its lock.
    pub locked_in: Option<u64>,
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn put(content: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[position..end].copy_from_slice(bytes);
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { position, bytes } => put(content, *position, bytes),
        Change::Length(length) => content.resize(*length, 0),
    }
}

/// The parts of a write that lie in one sector each.
fn sectors(position: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let sector = index(SECTOR);
    let mut parts = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let room = sector - (position + at) % sector;
        let end = bytes.len().min(at + room);
        parts.push((position + at, &bytes[at..end]));
        at = end;
    }
    parts
}

impl Node {
    pub fn length(&self) -> u64 {
        self.cached.len() as u64
    }

    /// Fills the buffer's spare room from `position` on.
    pub fn read(&self, buffer: &mut Vec<u8>, position: u64) -> usize {
        let start = index(position).min(self.cached.len());
        let room = buffer.capacity() - buffer.len();
        let count = room.min(self.cached.len() - start);
        buffer.extend_from_slice(&self.cached[start..start + count]);
        count
    }

    /// Writes the first `count` bytes of the parts.
    pub fn write(&mut self, parts: &[IoSlice<'_>], position: u64, count: usize) {
        let mut bytes = Vec::with_capacity(count);
        for part in parts {
            bytes.extend_from_slice(&part[..part.len().min(count - bytes.len())]);
        }
        let position = index(position);
        self.change(Change::Write { position, bytes });
    }

    pub fn set_length(&mut self, length: u64) {
        self.change(Change::Length(index(length)));
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.cached, &change);
        self.pending.push(change);
    }

    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// A sync that failed: some of what it should have written is on the platter, and the page cache calls all of it
    /// clean, so that the next sync will not try again.
    pub fn fail_sync(&mut self, random: &mut Random) {
        self.survive(random);
    }

    /// Forgets what is cached, where it counts as clean.
    pub fn drop_cache(&mut self) {
        if self.pending.is_empty() {
            self.cached.clone_from(&self.durable);
        }
    }

    /// What a loss of power leaves: what was synced, and any part of what was not.
    pub fn lose_power(&mut self, random: &mut Random) {
        self.survive(random);
        self.cached.clone_from(&self.durable);
    }

    fn survive(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let kept = match random.below(4) {
            0 => 0,
            1 => pending.len(),
            _ => random.index(pending.len() + 1),
        };
        let scatters = random.percent(50);
        for (number, change) in pending.iter().enumerate() {
            match change {
                _ if number < kept && !scatters => apply(&mut self.durable, change),
                // The first that did not make it may be torn.
                Change::Write { position, bytes } if number == kept && !scatters => {
                    let parts = sectors(*position, bytes);
                    let torn = random.index(parts.len() + 1);
                    for (position, part) in &parts[..torn] {
                        put(&mut self.durable, *position, part);
                    }
                }
                Change::Write { position, bytes } if scatters => {
                    for (position, part) in sectors(*position, bytes) {
                        if random.percent(50) {
                            put(&mut self.durable, position, part);
                        }
                    }
                }
                Change::Length(_) if scatters && random.percent(50) => {
                    apply(&mut self.durable, change);
                }
                _ => {}
            }
        }
    }

    /// Turns one bit over, in the cache and, as far as it is there, on the platter. False when the file has no such position.
    pub fn flip(&mut self, position: u64, bit: u32) -> bool {
        let (position, mask) = (index(position), 1 << (bit % 8));
        if let Some(byte) = self.durable.get_mut(position) {
            *byte ^= mask;
        }
        let cached = self.cached.get_mut(position);
        cached.map(|byte| *byte ^= mask).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(node: &mut Node, position: u64, bytes: &[u8]) {
        node.write(&[IoSlice::new(bytes)], position, bytes.len());
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_comes_in_whole_sectors() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut node = Node::default();
            write(&mut node, 0, &[1; 1024]);
            node.sync();
            write(&mut node, 512, &[2; 1024]);
            node.lose_power(&mut random);
            assert_eq!(node.cached[..512], [1; 512]);
            for sector in node.cached[512..].chunks(512) {
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "a sector is torn (seed {seed})"
                );
            }
        }
    }

    #[test]
    fn a_failed_sync_loses_what_the_cache_still_shows() {
        let lost = (0..50).any(|seed| {
            let mut node = Node::default();
            write(&mut node, 0, b"x");
            node.fail_sync(&mut Random::new(seed));
            node.sync();
            assert_eq!(node.length(), 1);
            node.drop_cache();
            node.length() == 0
        });
        assert!(lost);
    }
}
