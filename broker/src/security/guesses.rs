//! Guessing of passwords, slowed down: a pure limiter, to which time is passed in.
//!
//! An *attempt* is one proof of knowing a password, before it is checked. A *debt* is what attempts that failed leave behind;
//! it is forgiven with time. Debts are kept for a *party*: an address (of IPv6 the /64), a user's name, whether there is such
//! a user or not, and the two together. While a party's debt is above what it is allowed, its next attempts wait before they
//! are checked, whether they are right or wrong: the wait tells nothing, and nobody gains by hanging up early.
//!
//! Invariants: an attempt waits `MAX_WAIT` at most, so that the right password is let in however many others guess beside
//! it. Attempts that wait are bounded for each address. The table of debts is of a fixed size; which debts share a place in
//! it follows from a secret, so that nobody can push his own out, and a small debt goes before a large one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::types::{TimestampMs, network};

/// The longest that an attempt waits. Well below the handshake's deadline (`net.handshake-timeout`), and below the time that
/// clients wait for an answer.
pub const MAX_WAIT: Duration = Duration::from_secs(5);
/// What the first failure above the allowance costs; each further one costs twice as much.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Attempts of one address that may wait at once.
pub const MAX_WAITING: usize = 64;

/// Places in the table, and how many debts compete for one.
const PLACES: usize = 4096;
const SHARED_BY: usize = 4;

/// Lines in the log about failures: so many in this time, over all addresses.
const LINES: u32 = 10;
const LINES_INTERVAL_MS: i64 = 1_000;

/// Failures that cost nothing, and the milliseconds after which one is forgiven.
struct Allowance {
    failures: u32,
    forgiven_after_ms: i64,
}

/// One user from one address: ten in a minute.
const OF_PAIR: Allowance = Allowance {
    failures: 10,
    forgiven_after_ms: 6_000,
};
/// Behind one address, or against one name, there may be many who mistype: fifty in a minute.
const OF_ADDRESS: Allowance = Allowance {
    failures: 50,
    forgiven_after_ms: 1_200,
};
const OF_USER: Allowance = Allowance {
    failures: 50,
    forgiven_after_ms: 1_200,
};

/// What becomes of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    Now,
    After(Duration),
    /// Too many attempts of the address wait already.
    Refused,
}

#[derive(Clone, Copy, Default, Debug)]
struct Debt {
    /// 0: the place is free.
    party: u64,
    /// Failures, in thousandths, as they stood at `since`.
    failures: u64,
    since: TimestampMs,
    /// When the next attempt may be checked.
    next: TimestampMs,
}

/// The debts of all parties.
pub struct Guesses {
    secret: [u8; 32],
    debts: Vec<[Debt; SHARED_BY]>,
    waiting: HashMap<IpAddr, usize>,
    lines: Lines,
}

#[derive(Debug, Default)]
struct Lines {
    since: TimestampMs,
    written: u32,
    left_out: u64,
}

impl std::fmt::Debug for Guesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guesses")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Guesses {
    /// `secret` decides which parties share a place; it must be unknown to clients.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            debts: vec![[Debt::default(); SHARED_BY]; PLACES],
            waiting: HashMap::new(),
            lines: Lines::default(),
        }
    }

    /// An attempt is to be checked. Unless it is refused, `left` must follow.
    pub fn admit(&mut self, now: TimestampMs, address: IpAddr, user: &str) -> Admission {
        let mut wait = 0;
        for (party, allowance) in self.parties(address, user) {
            if let Some(debt) = self.find(party) {
                wait = wait.max(debt.wait(now, &allowance));
            }
        }
        let waiting = self.waiting.entry(network(address)).or_default();
        if wait > 0 && *waiting >= MAX_WAITING {
            return Admission::Refused;
        }
        *waiting += 1;
        match u64::try_from(wait) {
            Ok(wait @ 1..) => Admission::After(Duration::from_millis(wait)),
            _ => Admission::Now,
        }
    }

    /// The attempt waits no longer. It may have been dropped before it was checked.
    pub fn left(&mut self, address: IpAddr) {
        let address = network(address);
        if let Some(waiting) = self.waiting.get_mut(&address) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&address);
            }
        }
    }

    /// The password was right: what the user failed with from this address is forgotten. The address's and the name's own debts
    /// stay, or one account would buy guesses at all others.
    pub fn succeeded(&mut self, address: IpAddr, user: &str) {
        let [(pair, _), ..] = self.parties(address, user);
        if let Some(debt) = self.find(pair) {
            *debt = Debt::default();
        }
    }

    /// The password was wrong. `Some` when a line may be written about it: how many were left out since the last one.
    pub fn failed(&mut self, now: TimestampMs, address: IpAddr, user: &str) -> Option<u64> {
        for (party, allowance) in self.parties(address, user) {
            let debt = self.find_or_begin(now, party);
            debt.settle(now, &allowance);
            // More than this is not told apart, and is forgiven in bounded time.
            let most = u64::from(allowance.failures) * 2_000;
            debt.failures = (debt.failures + 1_000).min(most);
        }
        self.lines.admit(now)
    }

    fn parties(&self, address: IpAddr, user: &str) -> [(u64, Allowance); 3] {
        let address = match network(address) {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let address = address.octets();
        [
            (self.party(&[b"pair", &address, user.as_bytes()]), OF_PAIR),
            (self.party(&[b"address", &address]), OF_ADDRESS),
            (self.party(&[b"user", user.as_bytes()]), OF_USER),
        ]
    }

    fn party(&self, parts: &[&[u8]]) -> u64 {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let tag = mac.finalize().into_bytes();
        let tag = tag.first_chunk().map_or(0, |tag| u64::from_le_bytes(*tag));
        tag.max(1)
    }

    fn place(&mut self, party: u64) -> &mut [Debt; SHARED_BY] {
        let place = usize::try_from(party % PLACES as u64).unwrap_or(0);
        &mut self.debts[place]
    }

    fn find(&mut self, party: u64) -> Option<&mut Debt> {
        let mut debts = self.place(party).iter_mut();
        debts.find(|debt| debt.party == party)
    }

    /// The party's debt, a new one in place of the smallest.
    fn find_or_begin(&mut self, now: TimestampMs, party: u64) -> &mut Debt {
        let place = self.place(party);
        let known = place.iter().position(|debt| debt.party == party);
        let at = known.unwrap_or_else(|| {
            let smallest = (0..SHARED_BY).min_by_key(|at| place[*at].weight(now));
            smallest.unwrap_or(0)
        });
        if known.is_none() {
            place[at] = Debt {
                party,
                since: now,
                ..Debt::default()
            };
        }
        &mut place[at]
    }
}

impl Debt {
    /// Forgives what time has forgiven.
    fn settle(&mut self, now: TimestampMs, allowance: &Allowance) {
        // A clock that was set back forgives nothing.
        let elapsed = u64::try_from(now - self.since).unwrap_or(0);
        let after = allowance.forgiven_after_ms.unsigned_abs().max(1);
        self.failures = self
            .failures
            .saturating_sub(elapsed.saturating_mul(1_000) / after);
        self.since = now;
    }

    /// The milliseconds until the attempt may be checked; takes its turn.
    fn wait(&mut self, now: TimestampMs, allowance: &Allowance) -> i64 {
        self.settle(now, allowance);
        let over = (self.failures / 1_000).saturating_sub(u64::from(allowance.failures));
        if over == 0 {
            return 0;
        }
        let most = i64::try_from(MAX_WAIT.as_millis()).unwrap_or(i64::MAX);
        let first = i64::try_from(FIRST_WAIT.as_millis()).unwrap_or(i64::MAX);
        let doubled = u32::try_from(over - 1).unwrap_or(u32::MAX).min(16);
        let interval = (first << doubled).min(most);
        let turn = (self.next.max(now) + interval).min(now + most);
        self.next = turn;
        turn - now
    }

    /// What goes first when there is no room: what is free, then what is small and old.
    fn weight(&self, now: TimestampMs) -> (bool, u64) {
        let age = u64::try_from(now - self.since).unwrap_or(0);
        (self.party != 0, self.failures.saturating_sub(age))
    }
}

impl Lines {
    fn admit(&mut self, now: TimestampMs) -> Option<u64> {
        if !(0..LINES_INTERVAL_MS).contains(&(now - self.since)) {
            self.since = now;
            self.written = 0;
        }
        if self.written < LINES {
            self.written += 1;
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests;
