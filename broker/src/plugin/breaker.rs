//! The breaker of one plugin revision: after `faults` faults within `window` it trips, and until a probe succeeds only one
//! call each `backoff` is let through. Pure: the time is an argument, in milliseconds of any steady clock.

use std::collections::VecDeque;

use crate::types::TimestampMs;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerSettings {
    /// Faults that trip it; at least 1.
    pub faults: u32,
    pub window_ms: i64,
    pub backoff_ms: i64,
}

#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Calls go through; the times of the faults within the window, oldest first, never more than would trip it.
    Closed(VecDeque<TimestampMs>),
    /// Nothing goes through before the next probe.
    Tripped { next_probe: TimestampMs },
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: State::Closed(VecDeque::new()),
        }
    }

    /// May a call be made? While tripped, saying yes uses up this back-off step's probe.
    pub fn admit(&mut self, now: TimestampMs) -> bool {
        match &mut self.state {
            State::Closed(_) => true,
            State::Tripped { next_probe } if now >= *next_probe => {
                *next_probe = now.saturating_add(self.settings.backoff_ms);
                true
            }
            State::Tripped { .. } => false,
        }
    }

    /// Whether this fault tripped it.
    pub fn fault(&mut self, now: TimestampMs) -> bool {
        let State::Closed(faults) = &mut self.state else {
            return false;
        };
        faults.push_back(now);
        let oldest = now.saturating_sub(self.settings.window_ms);
        while faults.front().is_some_and(|fault| *fault <= oldest) {
            faults.pop_front();
        }
        if faults.len() < self.settings.faults.max(1) as usize {
            return false;
        }
        self.state = State::Tripped {
            next_probe: now.saturating_add(self.settings.backoff_ms),
        };
        true
    }

    /// Whether this success closed it again.
    pub fn success(&mut self) -> bool {
        let tripped = self.tripped();
        if tripped {
            self.state = State::Closed(VecDeque::new());
        }
        tripped
    }

    pub fn tripped(&self) -> bool {
        matches!(self.state, State::Tripped { .. })
    }

    /// Nothing to remember: a success would change nothing.
    pub fn quiet(&self) -> bool {
        matches!(&self.state, State::Closed(faults) if faults.is_empty())
    }

    /// Forgets faults that have left the window.
    pub fn prune(&mut self, now: TimestampMs) {
        if let State::Closed(faults) = &mut self.state {
            let oldest = now.saturating_sub(self.settings.window_ms);
            faults.retain(|fault| *fault > oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings {
            faults: 3,
            window_ms: 100,
            backoff_ms: 10,
        })
    }

    #[test]
    fn faults_within_the_window_trip_it() {
        let mut breaker = breaker();
        assert!(!breaker.fault(0));
        assert!(!breaker.fault(50));
        assert!(breaker.admit(60));
        assert!(breaker.fault(99));
        assert!(breaker.tripped());
        assert!(!breaker.fault(99), "it trips once");
    }

    #[test]
    fn faults_spread_over_more_than_the_window_do_not_trip_it() {
        let mut breaker = breaker();
        for now in [0, 60, 120, 180, 240] {
            assert!(!breaker.fault(now), "at {now}");
        }
        breaker.prune(400);
        assert!(breaker.quiet());
    }

    #[test]
    fn one_probe_goes_through_in_each_step_and_its_success_closes_it() {
        let mut breaker = breaker();
        for _ in 0..3 {
            breaker.fault(0);
        }
        for (now, admitted) in [(9, false), (10, true), (11, false), (19, false), (25, true)] {
            assert_eq!(breaker.admit(now), admitted, "at {now}");
        }
        assert!(!breaker.fault(26));
        assert!(!breaker.admit(34), "a failed probe leaves it tripped");
        assert!(breaker.admit(35));
        assert!(breaker.success());
        assert!(breaker.admit(36) && breaker.quiet());
        assert!(!breaker.success());
    }
}
