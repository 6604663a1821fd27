//! What is bounded by principal and lasts longer than a request: lines of the audit trail, turns for long requests, topics
//! that are created because somebody names them.

use std::time::{Duration, Instant};

use super::long::Turns;
use crate::config::BrokerConfig;
use crate::observe::audit::Denials;
use crate::observe::throttle::{Rate, Throttle};

/// Principals that are told apart.
const PRINCIPALS: usize = 4_096;

/// One for each broker.
#[derive(Debug)]
pub struct Bounds {
    /// What was denied, on its way to the audit trail.
    pub denials: Denials,
    pub turns: Turns,
    auto_creations: Throttle<String>,
}

impl Bounds {
    pub fn new(config: &BrokerConfig) -> Self {
        // A minute's worth at once, and then evenly.
        let a_minute = config.auto_create_topics_per_minute.max(1);
        Self {
            denials: Denials::default(),
            turns: Turns::default(),
            auto_creations: Throttle::new(Rate {
                at_once: a_minute,
                interval: Duration::from_secs(60) / a_minute,
                keys: PRINCIPALS,
            }),
        }
    }

    /// Whether one more topic may be created now because this principal named it.
    pub fn may_auto_create(&self, share: String, now: Instant) -> bool {
        self.auto_creations.admit(share, now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_of_topics_comes_at_once_and_then_evenly_for_each_principal() {
        let bounds = Bounds::new(&BrokerConfig {
            auto_create_topics_per_minute: 60,
            ..BrokerConfig::default()
        });
        let now = Instant::now();
        let created = |who: &str, now| {
            let tries = 0..1_000;
            tries
                .filter(|_| bounds.may_auto_create(who.to_owned(), now))
                .count()
        };
        assert_eq!(created("User:alice", now), 60);
        assert_eq!(created("User:bob", now), 60);
        assert_eq!(created("User:alice", now + Duration::from_secs(3)), 3);
    }
}
