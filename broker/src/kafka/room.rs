//! What one answer may take: a bound that is asked while the answer is made, before its memory is taken.
//!
//! Handlers whose answers grow with what the broker holds, and not only with what was asked, *take* room for each part before
//! they make it. A part for which there is none left is answered by a code of its own, and the parts before it as they are.
//! What the encoder then writes is measured once more, so that an answer nobody thought of cannot pass the bound either.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The setting that holds the bound.
pub const SETTING: &str = "broker.max-answer-bytes";

/// Each allocation inside a part, with what the allocator keeps of it.
pub const ALLOCATION: usize = 32;

/// The room of one answer, shared by all parts of one request.
#[derive(Debug)]
pub struct Room {
    bound: usize,
    taken: AtomicUsize,
    was_refused: AtomicBool,
}

/// There is no room for a part of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// Whether it is the first part of this answer: bounds are counted once a request.
    pub is_first: bool,
}

impl Room {
    pub fn new(bound: usize) -> Self {
        Self {
            bound,
            taken: AtomicUsize::new(0),
            was_refused: AtomicBool::new(false),
        }
    }

    pub fn bound(&self) -> usize {
        self.bound
    }

    /// Takes room for a part of the answer, or none of it.
    ///
    /// # Errors
    /// When the answer would pass the bound.
    pub fn take(&self, bytes: usize) -> Result<(), Full> {
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken
                    .checked_add(bytes)
                    .filter(|taken| *taken <= self.bound)
            });
        taken.map(drop).map_err(|_| Full {
            is_first: !self.was_refused.swap(true, Ordering::Relaxed),
        })
    }
}

/// A clone is another request's: nothing of it is taken.
impl Clone for Room {
    fn clone(&self) -> Self {
        Self::new(self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_does_not_fit_takes_nothing_and_is_told_once() {
        let room = Room::new(100);
        assert_eq!(room.take(60), Ok(()));
        assert_eq!(room.take(41), Err(Full { is_first: true }));
        assert_eq!(room.take(40), Ok(()), "a smaller part still fits");
        assert_eq!(room.take(usize::MAX), Err(Full { is_first: false }));
    }
}
