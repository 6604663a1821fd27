//! Tries again with growing pauses, until a deadline.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The pauses of one operation: 50 ms, doubling up to 1 s, each varied so that clients do not march in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub fn next(&mut self) -> Duration {
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.attempts.min(10))
            .min(LONGEST_PAUSE);
        self.attempts = self.attempts.saturating_add(1);
        pause.mul_f64(0.8 + 0.4 * random_fraction())
    }
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}

/// Bounds the attempts of one operation in time.
#[derive(Debug)]
pub(crate) struct Retry {
    backoff: Backoff,
    deadline: Instant,
}

impl Retry {
    pub fn within(timeout: Duration) -> Self {
        Self {
            backoff: Backoff::default(),
            deadline: Instant::now() + timeout,
        }
    }

    /// Pauses before the next attempt; gives the error back when it is final or when time is up.
    pub async fn after(&mut self, error: Error) -> Result<()> {
        let pause = self.backoff.next();
        if !error.is_retriable() || Instant::now() + pause > self.deadline {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(pauses[0] <= Duration::from_millis(60));
        assert!(pauses[4] > pauses[0]);
        assert!(
            pauses
                .iter()
                .all(|pause| *pause <= Duration::from_millis(1_200))
        );
    }

    #[tokio::test]
    async fn a_final_error_is_given_back_at_once() {
        let mut retry = Retry::within(Duration::from_secs(60));
        assert!(retry.after(Error::Closed).await.is_err());
    }
}
