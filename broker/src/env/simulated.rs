//! A thread on which nothing is left to chance: random bytes come from a seed, and blocking work runs in place.
//!
//! For the simulator alone. A thread is simulated while a [`Simulated`] lives on it; nothing in the broker makes one.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes this thread a simulated one for as long as it lives.
#[derive(Debug)]
pub struct Simulated {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Simulated {
    /// From now on this thread's random bytes follow from the seed.
    pub fn begin(seed: u64) -> Self {
        STATE.set(Some(seed));
        Self {
            _thread: PhantomData,
        }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        STATE.set(None);
    }
}

/// Whether this thread is simulated.
pub(super) fn is_here() -> bool {
    STATE.get().is_some()
}

/// Fills the bytes from the seed; false on a thread that is not simulated.
pub(super) fn fill(bytes: &mut [u8]) -> bool {
    let Some(mut state) = STATE.get() else {
        return false;
    };
    for chunk in bytes.chunks_mut(8) {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let word = (mixed ^ (mixed >> 31)).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    STATE.set(Some(state));
    true
}

#[cfg(test)]
mod tests {
    use super::super::random_bytes;
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_only_while_it_lives() {
        let draw = |seed| {
            let _simulated = Simulated::begin(seed);
            (random_bytes::<5>(), random_bytes::<16>())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(!is_here());
        assert_ne!(random_bytes::<16>(), random_bytes::<16>());
    }
}
