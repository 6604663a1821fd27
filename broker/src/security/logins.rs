//! What all logins of the broker share: the limiter of guesses, the lane in which passwords are derived, and the secret that
//! unknown users' verifiers come from.
//!
//! A PLAIN login costs the broker thousands of hashes. Each address has one derivation at a time and all addresses together
//! `MAX_DERIVATIONS`: what strangers send can keep neither the processor nor the threads of others.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::guesses::{Admission, Guesses};
use crate::env::{Clock, random_bytes};
use crate::types::network;

/// Passwords that may be derived at once.
const MAX_DERIVATIONS: usize = 4;

/// Shared by listeners and admin port.
pub struct Logins {
    clock: Clock,
    guesses: Mutex<Guesses>,
    derivations: Arc<Semaphore>,
    /// One permit for each address with a derivation that runs or waits.
    by_address: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    decoy_secret: Arc<[u8]>,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins")
            .field("guesses", &self.guesses)
            .finish_non_exhaustive()
    }
}

impl Logins {
    /// With a secret that outlives the process, so that an unknown user's salt is the same after a restart, as a real one's is.
    pub fn new(clock: Clock, decoy_secret: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            clock,
            guesses: Mutex::new(Guesses::new(random_bytes())),
            derivations: Arc::new(Semaphore::new(MAX_DERIVATIONS)),
            by_address: Mutex::default(),
            decoy_secret: decoy_secret.into(),
        })
    }

    pub fn decoy_secret(&self) -> Arc<[u8]> {
        self.decoy_secret.clone()
    }

    /// Waits until the attempt may be checked. `None`: too many attempts of the address wait already. Holds no thread.
    pub async fn admit(self: &Arc<Self>, address: IpAddr, user: &str) -> Option<Attempt> {
        let admission = self
            .guesses
            .lock()
            .admit(self.clock.now_ms(), address, user);
        let waited = match admission {
            Admission::Now => Duration::ZERO,
            Admission::After(wait) => wait,
            Admission::Refused => return None,
        };
        // Made before the wait: it gives the place back however the wait ends.
        let attempt = Attempt {
            logins: self.clone(),
            address,
            user: user.to_owned(),
            waited,
        };
        if !waited.is_zero() {
            tokio::time::sleep(waited).await;
        }
        Some(attempt)
    }

    /// A failure that nobody waited for. `Some` when a line may be written about it: how many were left out since the last one.
    pub fn failed(&self, address: IpAddr, user: &str) -> Option<u64> {
        let now = self.clock.now_ms();
        self.guesses.lock().failed(now, address, user)
    }

    /// A turn to derive a password: the address's first, then one of all.
    pub async fn derivation(self: &Arc<Self>, address: IpAddr) -> Derivation {
        let address = network(address);
        let own = {
            let mut by_address = self.by_address.lock();
            let own = by_address
                .entry(address)
                .or_insert_with(|| Arc::new(Semaphore::new(1)));
            own.clone()
        };
        let turn = Turn {
            logins: self.clone(),
            address,
            own,
        };
        let own = turn.own.clone().acquire_owned().await.ok();
        let any = self.derivations.clone().acquire_owned().await.ok();
        Derivation {
            _permits: (own, any),
            _turn: turn,
        }
    }
}

/// An attempt that may be checked now.
#[derive(Debug)]
pub struct Attempt {
    logins: Arc<Logins>,
    address: IpAddr,
    user: String,
    /// How long it had to wait.
    pub waited: Duration,
}

impl Attempt {
    pub fn succeeded(self) {
        let mut guesses = self.logins.guesses.lock();
        guesses.succeeded(self.address, &self.user);
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// As `Logins::failed`.
    pub fn failed(self) -> Option<u64> {
        self.logins.failed(self.address, &self.user)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.logins.guesses.lock().left(self.address);
    }
}

/// A derivation that runs.
#[derive(Debug)]
pub struct Derivation {
    // Given back before the address is forgotten.
    _permits: (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>),
    _turn: Turn,
}

/// A derivation that runs or waits: the last one of its address takes the address out.
#[derive(Debug)]
struct Turn {
    logins: Arc<Logins>,
    address: IpAddr,
    own: Arc<Semaphore>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut by_address = self.logins.by_address.lock();
        // The map's and this one's: nobody else can come to it while the map is locked.
        if Arc::strong_count(&self.own) <= 2 {
            by_address.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn logins() -> Arc<Logins> {
        Logins::new(Clock::manual(1_700_000_000_000), b"secret")
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_wait_by_the_clock_and_leave_nothing_behind() {
        let logins = logins();
        for _ in 0..12 {
            let attempt = logins.admit(HERE, "alice").await.expect("admitted");
            let _ = attempt.failed();
        }
        let start = tokio::time::Instant::now();
        let attempt = logins.admit(HERE, "alice").await.expect("admitted");
        assert!(attempt.waited > Duration::ZERO);
        assert!(start.elapsed() >= attempt.waited);
        attempt.succeeded();
        let attempt = logins.admit(HERE, "alice").await.expect("admitted");
        assert_eq!(attempt.waited, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_dropped_while_it_waits_gives_its_place_back() {
        let logins = logins();
        for _ in 0..30 {
            let attempt = logins.admit(HERE, "alice").await.expect("admitted");
            let _ = attempt.failed();
        }
        for _ in 0..10 * super::super::guesses::MAX_WAITING {
            let waiting = logins.admit(HERE, "alice");
            let waited = tokio::time::timeout(Duration::from_millis(1), waiting).await;
            assert!(waited.is_err(), "it has to wait, and is not refused");
        }
    }

    #[tokio::test]
    async fn an_address_derives_one_password_at_a_time_and_holds_up_no_other() {
        let logins = logins();
        let first = logins.derivation(HERE).await;
        let mut second = Box::pin(logins.derivation(HERE));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(logins.derivation(THERE).await);
        drop(first);
        drop(second.await);
        assert!(logins.by_address.lock().is_empty());
    }

    #[tokio::test]
    async fn all_addresses_together_derive_a_few_passwords_at_a_time() {
        let logins = logins();
        let address = |number: usize| IpAddr::from([10, 1, 0, u8::try_from(number).unwrap_or(0)]);
        let mut running = Vec::new();
        for number in 0..MAX_DERIVATIONS {
            running.push(logins.derivation(address(number)).await);
        }
        let mut next = Box::pin(logins.derivation(address(MAX_DERIVATIONS)));
        assert!(futures_util::poll!(&mut next).is_pending());
        running.pop();
        drop(next.await);
    }
}
