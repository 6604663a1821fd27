//! Which partition a record goes to: as the Java client chooses, so that clients in every language agree on a key's place.

/// The partition of a key: murmur2, without its sign, modulo the number of partitions.
pub fn partition_of_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions.max(1)
}

/// MurmurHash2 with the seed of the Java client.
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MIX);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MIX) ^ word.wrapping_mul(MIX);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

/// Records without a key stay on one partition while its batch is open, then move to another (KIP-480): batches are
/// full, and all partitions are served.
#[derive(Debug)]
pub(crate) struct Sticky {
    random: u64,
    current: Option<i32>,
}

impl Sticky {
    pub fn new(seed: u64) -> Self {
        Self {
            random: seed | 1,
            current: None,
        }
    }

    pub fn current(&self) -> Option<i32> {
        self.current
    }

    /// Moves to a random candidate, another than now if there is one.
    pub fn next(&mut self, candidates: &[i32]) -> i32 {
        // xorshift64: spread is all that is asked of it.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let others = candidates
            .iter()
            .filter(|candidate| Some(**candidate) != self.current)
            .count();
        let pick = (self.random % others.max(1) as u64) as usize;
        let chosen = candidates
            .iter()
            .copied()
            .filter(|candidate| others == 0 || Some(*candidate) != self.current)
            .nth(pick)
            .unwrap_or(0);
        self.current = Some(chosen);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the Java client's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn a_key_lands_in_range() {
        for partitions in [1, 3, 12] {
            for key in 0..100u32 {
                let partition = partition_of_key(&key.to_be_bytes(), partitions);
                assert!((0..partitions).contains(&partition));
            }
        }
    }

    #[test]
    fn sticky_moves_each_time_and_reaches_every_partition() {
        let mut sticky = Sticky::new(7);
        let mut seen = [false; 4];
        let mut last = None;
        for _ in 0..200 {
            let next = sticky.next(&[0, 1, 2, 3]);
            assert_ne!(Some(next), last);
            seen[next as usize] = true;
            last = Some(next);
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(Sticky::new(1).next(&[5]), 5);
    }
}
