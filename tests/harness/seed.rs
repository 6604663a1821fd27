//! Randomness that can be replayed.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::say;

/// A small generator (SplitMix64) whose start was printed. Not for secrets.
#[derive(Clone, Debug)]
pub struct Seed {
    state: u64,
}

impl Seed {
    /// Takes `TIDEGATE_SEED`, or the time, and prints which, with the line that replays the test.
    pub fn from_env(test: &str) -> Self {
        let state = match std::env::var("TIDEGATE_SEED") {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("TIDEGATE_SEED must be a whole number, not `{text}`")),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |elapsed| elapsed.as_nanos() as u64),
        };
        say(&format!(
            "{test}: seed {state} (TIDEGATE_SEED={state} replays it)"
        ));
        Self { state }
    }

    pub fn new(state: u64) -> Self {
        Self { state }
    }

    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.number() % (high - low + 1)
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number() as u8).collect()
    }

    /// A generator of its own for another thread, determined by this one.
    pub fn fork(&mut self) -> Self {
        Self::new(self.number())
    }
}
