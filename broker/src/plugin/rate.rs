//! How many lines a second a plugin may put in the log. Pure: the time is an argument.

use crate::types::TimestampMs;

#[derive(Debug)]
pub struct LineRate {
    per_second: u32,
    second: TimestampMs,
    used: u32,
    suppressed: u64,
}

impl LineRate {
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second,
            second: TimestampMs::MIN,
            used: 0,
            suppressed: 0,
        }
    }

    /// `Some`: the line may be written, and so many before it were not.
    pub fn admit(&mut self, now: TimestampMs) -> Option<u64> {
        let second = now.div_euclid(1000);
        if second != self.second {
            self.second = second;
            self.used = 0;
        }
        if self.used >= self.per_second {
            self.suppressed += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_rate_are_counted_and_told_of_later() {
        let mut rate = LineRate::new(2);
        let admitted: Vec<_> = [0, 1, 2, 999, 1000, 1001, 1002, 5000]
            .into_iter()
            .map(|now| rate.admit(now))
            .collect();
        assert_eq!(
            admitted,
            [
                Some(0),
                Some(0),
                None,
                None,
                Some(2),
                Some(0),
                None,
                Some(1)
            ]
        );
    }
}
