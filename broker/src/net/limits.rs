//! What holds the number of things flat under abuse: connections admitted, words in the log. (Bytes: `env::budget`.)
//!
//! A *slot* is one place among the connections. TCP and TLS connections, QUIC connections and QUIC streams each take one: a stream has a
//! handler and buffers as a TCP connection does, and the QUIC connection below it has its own. Who sits in a slot marks it with
//! the time of each request.
//!
//! No address can keep others out. Where a bound on all connections is reached, the address that has the most of them makes room for one
//! that has fewer: its connection that has been quiet for longest is closed. Within an address those that have not asked for
//! anything for long make room for newcomers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::NetConfig;
use crate::env::budget::Owner;

/// Counts connections against the bounds.
#[derive(Debug)]
pub(super) struct Admission {
    max_connections: usize,
    max_per_ip: usize,
    start: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    last_number: u64,
    by_listener: HashMap<usize, usize>,
    /// By their numbers.
    by_ip: HashMap<Owner, HashMap<u64, Arc<Seat>>>,
}

/// What a slot is known by while it is taken.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    listener: usize,
    peer: SocketAddr,
    start: Instant,
    /// Milliseconds since `start`: of the accept, then of the latest request.
    active_at: AtomicU64,
    requests: AtomicU64,
    /// A QUIC connection is as busy as its streams, which have slots of their own.
    may_go: bool,
    gone: CancellationToken,
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    seat: Arc<Seat>,
}

/// Who asks for a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    pub(super) peer: SocketAddr,
    /// The number of the listener, and how many connections it takes.
    pub(super) listener: usize,
    pub(super) max_of_listener: usize,
    /// Whether it may be closed to make room for another.
    pub(super) may_go: bool,
}

/// A bound that was reached: which, and the setting that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full {
    pub(super) reason: &'static str,
    pub(super) setting: &'static str,
    pub(super) bound: usize,
}

/// A connection that was closed to make room for another, and the bound that it was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Closed {
    pub(super) peer: SocketAddr,
    pub(super) bound: Full,
}

/// Where an address has no room left, those of its connections make room that have asked for nothing for so long, since the accept and
/// since their last request. Kafka clients reconnect by themselves.
const FIRST_WORD: Duration = Duration::from_secs(1);
const NEXT_WORD: Duration = Duration::from_secs(60);

impl Admission {
    pub(super) fn new(limits: &NetConfig) -> Arc<Self> {
        Arc::new(Self {
            max_connections: limits.max_connections,
            max_per_ip: limits.max_connections_per_ip,
            start: Instant::now(),
            open: Mutex::default(),
        })
    }

    /// Takes a slot under all three bounds, or under none. At each of them another connection may have to go for it.
    pub(super) fn admit(
        self: &Arc<Self>,
        newcomer: Newcomer,
    ) -> Result<(Slot, Option<Closed>), Full> {
        let mut open = self.open.lock();
        let closed = match self.full(&open, &newcomer) {
            None => None,
            Some(bound) => {
                let now = self.now();
                let seat = open.who_goes(&newcomer, bound, now).ok_or(bound)?;
                open.leave(&seat);
                seat.gone.cancel();
                // Another bound may hold still: then the one that has gone has gone for nothing, as it had to sooner or later.
                if let Some(bound) = self.full(&open, &newcomer) {
                    return Err(bound);
                }
                let peer = seat.peer;
                Some(Closed { peer, bound })
            }
        };
        open.last_number += 1;
        let seat = Arc::new(Seat {
            number: open.last_number,
            listener: newcomer.listener,
            peer: newcomer.peer,
            start: self.start,
            active_at: AtomicU64::new(self.now()),
            requests: AtomicU64::new(0),
            may_go: newcomer.may_go,
            gone: CancellationToken::new(),
        });
        open.enter(Arc::clone(&seat));
        let admission = Arc::clone(self);
        Ok((Slot { admission, seat }, closed))
    }

    /// The bound that is reached, if any.
    fn full(&self, open: &Open, newcomer: &Newcomer) -> Option<Full> {
        let of_listener = open.by_listener.get(&newcomer.listener).copied();
        let of_ip = open.by_ip.get(&Owner::of_address(newcomer.peer.ip()));
        let bounds = [
            (
                of_ip.map_or(0, HashMap::len),
                self.max_per_ip,
                OF_ADDRESS,
                "net.max-connections-per-ip",
            ),
            (
                open.total,
                self.max_connections,
                "too-many-connections",
                "net.max-connections",
            ),
            (
                of_listener.unwrap_or(0),
                newcomer.max_of_listener,
                OF_LISTENER,
                "max-connections of the listener",
            ),
        ];
        let reached = bounds.into_iter().find(|(open, bound, ..)| open >= bound)?;
        let (_, bound, reason, setting) = reached;
        Some(Full {
            reason,
            setting,
            bound,
        })
    }

    fn now(&self) -> u64 {
        milliseconds(self.start)
    }
}

const OF_ADDRESS: &str = "too-many-connections-of-address";
const OF_LISTENER: &str = "too-many-connections-of-listener";

impl Open {
    fn enter(&mut self, seat: Arc<Seat>) {
        self.total += 1;
        *self.by_listener.entry(seat.listener).or_default() += 1;
        let of_ip = self.by_ip.entry(seat.owner()).or_default();
        of_ip.insert(seat.number, seat);
    }

    /// Takes a seat away, unless that was done before.
    fn leave(&mut self, seat: &Seat) {
        let owner = seat.owner();
        let Some(seats) = self.by_ip.get_mut(&owner) else {
            return;
        };
        if seats.remove(&seat.number).is_none() {
            return;
        }
        if seats.is_empty() {
            self.by_ip.remove(&owner);
        }
        self.total -= 1;
        if let Some(of_listener) = self.by_listener.get_mut(&seat.listener) {
            *of_listener -= 1;
        }
    }

    /// Who makes room for the newcomer, if anybody does.
    fn who_goes(&self, newcomer: &Newcomer, bound: Full, now: u64) -> Option<Arc<Seat>> {
        type Seats = HashMap<u64, Arc<Seat>>;
        let own = Owner::of_address(newcomer.peer.ip());
        let counts =
            |seat: &Seat| bound.reason != OF_LISTENER || seat.listener == newcomer.listener;
        let held = |seats: &Seats| seats.values().filter(|seat| counts(seat)).count();
        let has = self.by_ip.get(&own).map_or(0, held);
        let largest = self.by_ip.values().map(|seats| (seats, held(seats)));
        let largest = largest.max_by_key(|(_, held)| *held);
        let (seats, only_quiet) = match largest {
            Some((seats, held)) if bound.reason != OF_ADDRESS && held > has + 1 => (seats, false),
            _ => (self.by_ip.get(&own)?, true),
        };
        let candidates = seats.values().filter(|seat| {
            counts(seat) && seat.may_go && (!only_quiet || seat.has_been_quiet(now))
        });
        let first = candidates.min_by_key(|seat| {
            let has_asked = seat.requests.load(Ordering::Relaxed) > 0;
            (has_asked, seat.active_at.load(Ordering::Relaxed))
        });
        first.cloned()
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Seat {
    /// A request came.
    pub(super) fn mark(&self, now: Instant) {
        let since = now.saturating_duration_since(self.start).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.active_at.store(since, Ordering::Relaxed);
        let requests = self.requests.load(Ordering::Relaxed);
        self.requests.store(requests + 1, Ordering::Relaxed);
    }

    /// Nothing was asked for, though there was time, or not for long.
    fn has_been_quiet(&self, now: u64) -> bool {
        let quiet = now.saturating_sub(self.active_at.load(Ordering::Relaxed));
        let has_asked = self.requests.load(Ordering::Relaxed) > 0;
        let allowed = if has_asked { NEXT_WORD } else { FIRST_WORD };
        Duration::from_millis(quiet) >= allowed
    }

    fn owner(&self) -> Owner {
        Owner::of_address(self.peer.ip())
    }
}

impl Slot {
    pub(super) fn seat(&self) -> Arc<Seat> {
        Arc::clone(&self.seat)
    }

    /// Resolves when the connection must go to make room for another.
    pub(super) async fn must_go(&self) {
        self.seat.gone.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.open.lock().leave(&self.seat);
    }
}

/// Keeps peers from filling the log: one line a second for each reason, which tells how many were left out.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    by_reason: Mutex<HashMap<&'static str, Throttled>>,
}

#[derive(Debug)]
struct Throttled {
    since: Instant,
    left_out: u64,
}

const LOG_INTERVAL: Duration = Duration::from_secs(1);

impl LogThrottle {
    /// `Some` when a line may be written: the number of lines left out since the last one.
    pub(super) fn admit(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut by_reason = self.by_reason.lock();
        match by_reason.get_mut(reason) {
            Some(last) if now.duration_since(last.since) < LOG_INTERVAL => {
                last.left_out += 1;
                None
            }
            Some(last) => {
                last.since = now;
                Some(std::mem::take(&mut last.left_out))
            }
            None => {
                let first = Throttled {
                    since: now,
                    left_out: 0,
                };
                by_reason.insert(reason, first);
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests;
