//! The breakers of one plugin revision, one for each topic that it fails on: after `faults` faults within `window` a breaker
//! trips, and until a probe succeeds only one call each `backoff` is let through. What counts as a fault of the plugin, and not of
//! what it was given, is decided before ([`super::bisect`]). Pure: the time is an argument, in milliseconds of any steady clock.

use std::collections::{BTreeMap, VecDeque};

use crate::types::TimestampMs;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerSettings {
    /// Faults that trip it; at least 1.
    pub faults: u32,
    pub window_ms: i64,
    pub backoff_ms: i64,
}

/// Topics whose breakers are remembered. One that is forgotten starts afresh, which costs a few calls.
const MAX_TOPICS: usize = 1024;
/// A tripped breaker that nobody has probed for so many windows is of a topic that is gone or has lost the plugin.
const STALE_WINDOWS: i64 = 10;

/// Of every topic that has seen a fault of late.
#[derive(Debug)]
pub struct Breakers {
    settings: BreakerSettings,
    by_topic: BTreeMap<String, Breaker>,
}

impl Breakers {
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            by_topic: BTreeMap::new(),
        }
    }

    /// May a call be made for this topic? While its breaker is tripped, saying yes uses up this back-off step's probe.
    pub fn admit(&mut self, topic: &str, now: TimestampMs) -> bool {
        let breaker = self.by_topic.get_mut(topic);
        breaker.is_none_or(|breaker| breaker.admit(now))
    }

    /// Whether this fault tripped the topic's breaker.
    pub fn fault(&mut self, topic: &str, now: TimestampMs) -> bool {
        if !self.by_topic.contains_key(topic) {
            self.prune(now);
            if self.by_topic.len() >= MAX_TOPICS {
                self.by_topic.pop_first();
            }
        }
        let breaker = self.by_topic.entry(topic.to_owned());
        let breaker = breaker.or_insert_with(|| Breaker::new(self.settings));
        breaker.fault(now)
    }

    /// Whether this success closed the topic's breaker again.
    pub fn success(&mut self, topic: &str, now: TimestampMs) -> bool {
        let closed = self.by_topic.get_mut(topic).is_some_and(Breaker::success);
        self.prune(now);
        closed
    }

    /// The topics for which the plugin is suspended, sorted.
    pub fn tripped(&self) -> Vec<String> {
        let tripped = self.by_topic.iter().filter(|(_, one)| one.tripped());
        tripped.map(|(topic, _)| topic.clone()).collect()
    }

    /// Nothing to remember: a success would change nothing.
    pub fn quiet(&self) -> bool {
        self.by_topic.is_empty()
    }

    fn prune(&mut self, now: TimestampMs) {
        self.by_topic.retain(|_, breaker| {
            breaker.prune(now);
            !breaker.quiet() && !breaker.stale(now)
        });
    }
}

#[derive(Debug)]
struct Breaker {
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

    fn stale(&self, now: TimestampMs) -> bool {
        let State::Tripped { next_probe } = &self.state else {
            return false;
        };
        let patience = STALE_WINDOWS.saturating_mul(self.settings.window_ms);
        now.saturating_sub(*next_probe) > patience
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
    fn a_fault_on_one_topic_is_none_on_another() {
        let mut breakers = Breakers::new(breaker().settings);
        for now in 0..3 {
            breakers.fault("bad", now);
            assert!(breakers.admit("good", now) && !breakers.success("good", now));
        }
        assert!(!breakers.admit("bad", 5) && breakers.admit("good", 5));
        assert_eq!(breakers.tripped(), ["bad"]);
        assert!(breakers.admit("bad", 20), "the probe");
        assert!(breakers.success("bad", 20));
        assert!(breakers.quiet());
    }

    #[test]
    fn breakers_of_topics_that_are_gone_are_forgotten_and_their_number_is_bounded() {
        let mut breakers = Breakers::new(breaker().settings);
        for now in 0..3 {
            breakers.fault("gone", now);
        }
        breakers.fault("other", 3);
        assert_eq!(breakers.tripped(), ["gone"]);
        assert!(!breakers.success("other", 2000));
        assert!(breakers.quiet());
        for topic in 0..2 * MAX_TOPICS {
            breakers.fault(&topic.to_string(), 3000);
        }
        assert_eq!(breakers.by_topic.len(), MAX_TOPICS);
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
