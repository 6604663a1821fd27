//! Whether the broker lives (it answers at all) and whether it is ready (clients should be sent to it), with the reasons.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Why the broker is not ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reason {
    /// A stable word, such as `starting`.
    pub reason: &'static str,
    /// For people.
    pub detail: String,
}

/// Says what else keeps the broker from being ready.
type Check = Box<dyn Fn() -> Vec<Reason> + Send + Sync>;

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

/// The broker's stage of life: starting, then serving, then draining; never back.
#[derive(Default)]
pub struct Health {
    stage: AtomicU8,
    check: OnceLock<Check>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// Every listener accepts.
    pub fn serving(&self) {
        self.stage.fetch_max(SERVING, Ordering::Relaxed);
    }

    /// A stop has begun.
    pub fn draining(&self) {
        self.stage.fetch_max(DRAINING, Ordering::Relaxed);
    }

    /// Sets once what is asked, besides the stage, each time readiness is. It must not block.
    pub fn set_check(&self, check: Check) -> bool {
        self.check.set(check).is_ok()
    }

    /// Empty when the broker is ready.
    pub fn reasons(&self) -> Vec<Reason> {
        let stage = match self.stage.load(Ordering::Relaxed) {
            STARTING => Some(("starting", "listeners are not open yet")),
            DRAINING => Some(("draining", "the broker is stopping")),
            _ => None,
        };
        let mut reasons: Vec<_> = stage
            .map(|(reason, detail)| Reason {
                reason,
                detail: detail.to_owned(),
            })
            .into_iter()
            .collect();
        if let Some(check) = self.check.get() {
            reasons.extend(check());
        }
        reasons
    }
}

/// Stopped partitions that are named.
const NAMED: usize = 5;

/// The reason that partitions give which stopped accepting, if any: each in a line that says which and why.
pub fn stopped_partitions(stopped: &[String], total: usize) -> Option<Reason> {
    let named: Vec<&str> = stopped.iter().take(NAMED).map(String::as_str).collect();
    let others = match stopped.len() - named.len() {
        0 => String::new(),
        others => format!("; and {others} more"),
    };
    (!stopped.is_empty()).then(|| Reason {
        reason: "partitions-stopped",
        detail: format!(
            "{} of {total} partitions do not accept, after a failed write or sync or because of damage: {}{others}",
            stopped.len(),
            named.join("; ")
        ),
    })
}

/// The reason that requests give which have waited long for memory: others hold it, and clients are not served.
pub fn waiting_for_memory(pool: &str, setting: &str, waited: Duration) -> Reason {
    Reason {
        reason: "waiting-for-memory",
        detail: format!(
            "requests have waited {} s for memory of the pool {pool}; {setting} bounds it",
            waited.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(health: &Health) -> Vec<&'static str> {
        health
            .reasons()
            .iter()
            .map(|reason| reason.reason)
            .collect()
    }

    #[test]
    fn readiness_follows_the_stages_and_never_goes_back() {
        let health = Health::new();
        assert_eq!(words(&health), ["starting"]);
        health.serving();
        assert!(words(&health).is_empty());
        health.draining();
        health.serving();
        assert_eq!(words(&health), ["draining"]);
    }

    #[test]
    fn stopped_partitions_are_a_reason() {
        let health = Health::new();
        health.serving();
        let stopped = ["orders [1]: why".to_owned(), "orders [2]: why".to_owned()];
        let check = move || stopped_partitions(&stopped, 9).into_iter().collect();
        assert!(health.set_check(Box::new(check)));
        assert_eq!(words(&health), ["partitions-stopped"]);
        assert!(health.reasons()[0].detail.starts_with("2 of 9 partitions"));
        assert!(
            health.reasons()[0]
                .detail
                .ends_with("orders [1]: why; orders [2]: why")
        );
        assert_eq!(stopped_partitions(&[], 9), None);
        let many = vec!["x".to_owned(); 8];
        let reason = stopped_partitions(&many, 9).expect("a reason");
        assert!(reason.detail.ends_with("x; and 3 more"));
        assert!(!health.set_check(Box::new(Vec::new)));
    }
}
