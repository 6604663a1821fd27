//! Keeps what writes lines at will from filling the log: so many at once, then so many a second, and a count of the rest.
//!
//! Each *key*, such as a principal or a place in the code, has its own measure. Keys are bounded too: those that come when
//! there is no room for another share one. Time comes in as an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many lines a key may write.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub at_once: u32,
    /// From one line to the next, when many come.
    pub interval: Duration,
    /// Keys that are told apart.
    pub keys: usize,
}

/// A measure for each key.
#[derive(Debug)]
pub struct Throttle<K> {
    rate: Rate,
    /// `None` is whom there was no room for.
    by_key: Mutex<HashMap<Option<K>, Measure>>,
}

#[derive(Debug)]
struct Measure {
    /// When all of `at_once` may be written again; each line moves it on by an interval.
    rested: Instant,
    left_out: u64,
}

impl<K: Hash + Eq> Throttle<K> {
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            by_key: Mutex::default(),
        }
    }

    /// `Some` when a line may be written: the number of lines left out since the last one.
    pub fn admit(&self, key: K, now: Instant) -> Option<u64> {
        self.admit_some(key, 1, now).map(|(_, left_out)| left_out)
    }

    /// As `admit`, for several lines at once: how many of them may be written, and how many were left out before. `None`
    /// when it is none; those that are not written are left out.
    pub fn admit_some(&self, key: K, lines: u64, now: Instant) -> Option<(u64, u64)> {
        let mut by_key = self.by_key.lock();
        let measure = self.measure(&mut by_key, key, now);
        let debt = measure.rested.saturating_duration_since(now);
        let owed = debt
            .as_nanos()
            .div_ceil(self.rate.interval.as_nanos().max(1));
        let free = u128::from(self.rate.at_once).saturating_sub(owed);
        let written = lines.min(u64::try_from(free).unwrap_or(u64::MAX));
        let before = measure.left_out;
        if written == 0 {
            measure.left_out = before.saturating_add(lines);
            return None;
        }
        // No more than `at_once`, which is 32 bits wide.
        let steps = u32::try_from(written).unwrap_or(u32::MAX);
        measure.rested = measure.rested.max(now) + self.rate.interval.saturating_mul(steps);
        measure.left_out = lines - written;
        Some((written, before))
    }

    fn measure<'m>(
        &self,
        by_key: &'m mut HashMap<Option<K>, Measure>,
        key: K,
        now: Instant,
    ) -> &'m mut Measure {
        let mut key = Some(key);
        if by_key.len() >= self.rate.keys && !by_key.contains_key(&key) {
            by_key.retain(|_, measure| measure.rested > now || measure.left_out > 0);
            if by_key.len() >= self.rate.keys {
                key = None;
            }
        }
        by_key.entry(key).or_insert(Measure {
            rested: now,
            left_out: 0,
        })
    }

    /// Takes the counts of lines that were left out, of every key that has some.
    pub fn take_left_out(&self, now: Instant) -> Vec<(Option<K>, u64)>
    where
        K: Clone,
    {
        let mut by_key = self.by_key.lock();
        let mut counts = Vec::new();
        for (key, measure) in by_key.iter_mut() {
            let left_out = std::mem::take(&mut measure.left_out);
            if left_out > 0 {
                counts.push((key.clone(), left_out));
            }
        }
        by_key.retain(|_, measure| measure.rested > now);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        at_once: 3,
        interval: Duration::from_secs(1),
        keys: 2,
    };

    #[test]
    fn so_many_come_at_once_and_then_one_an_interval_with_the_count_of_the_rest() {
        let throttle = Throttle::new(RATE);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(throttle.admit("a", now), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(throttle.admit("a", now), None);
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(throttle.admit("a", later), Some(5));
        assert_eq!(throttle.admit("a", later), None);
        assert_eq!(throttle.take_left_out(later), [(Some("a"), 1)]);
        assert_eq!(throttle.take_left_out(later), []);
        let rested = now + Duration::from_secs(60);
        assert_eq!(throttle.admit_some("a", 500_000, rested), Some((3, 0)));
        assert_eq!(throttle.take_left_out(rested), [(Some("a"), 499_997)]);
    }

    #[test]
    fn keys_have_measures_of_their_own_and_strangers_beyond_the_bound_share_one() {
        let throttle = Throttle::new(RATE);
        let now = Instant::now();
        assert_eq!(throttle.admit_some("a", 9, now), Some((3, 0)));
        assert_eq!(throttle.admit_some("b", 3, now), Some((3, 0)));
        assert_eq!(throttle.admit_some("c", 2, now), Some((2, 0)));
        assert_eq!(throttle.admit_some("d", 2, now), Some((1, 0)));
        let mut counts = throttle.take_left_out(now);
        counts.sort_unstable();
        assert_eq!(counts, [(None, 1), (Some("a"), 6)]);
        let rested = now + Duration::from_secs(60);
        assert_eq!(throttle.admit("e", rested), Some(0));
    }
}
