//! The offset map: for each key of the dirty part of a log, its latest offset.

use std::hash::{BuildHasher, RandomState};

use crate::types::Offset;

/// How full the table may become, in percent: beyond it probing gets slow (Kafka's `log.cleaner.io.buffer.load.factor`).
const LOAD_PERCENT: usize = 90;
const MIN_SLOTS: usize = 16;

#[derive(Clone, Copy)]
struct Slot {
    key: [u64; 2],
    /// −1: free.
    offset: Offset,
}

const FREE: Slot = Slot {
    key: [0; 2],
    offset: -1,
};

/// A table of fixed size. Keys are known by 128 bits of two hashes under secret keys drawn for this map: nobody can
/// make two keys collide, and by chance they do not.
pub(in crate::log) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    hashers: [RandomState; 2],
    latest: Offset,
}

impl OffsetMap {
    /// A map that takes at most `bytes` of memory, and no more than `keys` keys need.
    pub fn new(bytes: u64, keys: u64) -> Self {
        let needed = keys.saturating_mul(100) / LOAD_PERCENT as u64 + 2;
        let room = bytes / size_of::<Slot>() as u64;
        let slots = usize::try_from(needed.min(room)).unwrap_or(usize::MAX);
        Self {
            slots: vec![FREE; slots.max(MIN_SLOTS)],
            used: 0,
            hashers: [RandomState::new(), RandomState::new()],
            latest: -1,
        }
    }

    fn find(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let hash = [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)];
        let count = self.slots.len();
        let mut index = usize::try_from(hash[0] % count as u64).unwrap_or(0);
        // Ends: there is always a free slot.
        while self.slots[index].offset >= 0 && self.slots[index].key != hash {
            index = (index + 1) % count;
        }
        (index, hash)
    }

    /// Notes a later offset of a key. False: there is no room for one more key.
    pub fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let (index, hash) = self.find(key);
        let slot = &mut self.slots[index];
        if slot.offset < 0 {
            if (self.used + 1) * 100 > self.slots.len() * LOAD_PERCENT {
                return false;
            }
            self.used += 1;
        }
        self.slots[index] = Slot { key: hash, offset };
        true
    }

    /// The latest offset of a key; `None` when the dirty part does not hold it.
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let (index, _) = self.find(key);
        Some(self.slots[index].offset).filter(|offset| *offset >= 0)
    }

    /// The last offset of which the map tells; −1 at first. Records behind it may be newer than what the map says.
    pub fn latest(&self) -> Offset {
        self.latest
    }

    /// Everything up to `offset` has been put in.
    pub fn set_latest(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_latest_offset_of_each_key_and_says_when_it_is_full() {
        let mut map = OffsetMap::new(24 * 100, u64::MAX);
        let fits = (0..)
            .take_while(|number: &i64| map.put(&number.to_be_bytes(), *number))
            .count();
        assert_eq!(fits, 90);
        assert!(map.put(&7_i64.to_be_bytes(), 1_000), "it is there already");
        for number in 0..90_i64 {
            let expected = if number == 7 { 1_000 } else { number };
            assert_eq!(map.get(&number.to_be_bytes()), Some(expected));
        }
        assert_eq!(map.get(b"other"), None);
        assert_eq!(map.get(&91_i64.to_be_bytes()), None);
    }

    #[test]
    fn takes_no_more_memory_than_its_keys_need() {
        let mut map = OffsetMap::new(1 << 40, 10);
        assert!(map.slots.len() <= MIN_SLOTS);
        assert!((0..10_u8).all(|number| map.put(&[number], 1)));
    }
}
