//! What holds memory flat under abuse: connections admitted, bytes in flight, words in the log.
//!
//! A *slot* is one place among the connections. TCP and TLS connections, QUIC connections and QUIC streams each take one: a stream has a
//! handler and buffers as a TCP connection does, and the QUIC connection below it has its own. A *permit* is a share of
//! the bytes that requests may hold in memory; it is taken before a frame's body is read.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;

use crate::config::NetConfig;

/// Counts connections against the bounds.
#[derive(Debug)]
pub(super) struct Admission {
    max_connections: usize,
    max_per_ip: usize,
    open: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    listener: Arc<AtomicUsize>,
    ip: IpAddr,
}

/// A bound that was reached: which, and the setting that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full {
    pub(super) reason: &'static str,
    pub(super) setting: &'static str,
    pub(super) bound: usize,
}

impl Admission {
    pub(super) fn new(limits: &NetConfig) -> Arc<Self> {
        Arc::new(Self {
            max_connections: limits.max_connections,
            max_per_ip: limits.max_connections_per_ip,
            open: AtomicUsize::new(0),
            by_ip: Mutex::new(HashMap::new()),
        })
    }

    /// Takes a slot under all three bounds, or under none.
    pub(super) fn admit(
        self: &Arc<Self>,
        listener: &Arc<AtomicUsize>,
        max_of_listener: usize,
        ip: IpAddr,
    ) -> Result<Slot, Full> {
        take(&self.open, self.max_connections).map_err(|bound| Full {
            reason: "too-many-connections",
            setting: "net.max_connections",
            bound,
        })?;
        if let Err(bound) = take(listener, max_of_listener) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Full {
                reason: "too-many-connections-of-listener",
                setting: "max_connections of the listener",
                bound,
            });
        }
        let ip = network(ip);
        let mut by_ip = self.by_ip.lock();
        let of_ip = by_ip.entry(ip).or_insert(0);
        *of_ip += 1;
        let over = *of_ip > self.max_per_ip;
        drop(by_ip);
        let slot = Slot {
            admission: Arc::clone(self),
            listener: Arc::clone(listener),
            ip,
        };
        if over {
            drop(slot);
            return Err(Full {
                reason: "too-many-connections-of-address",
                setting: "net.max_connections_per_ip",
                bound: self.max_per_ip,
            });
        }
        Ok(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        self.listener.fetch_sub(1, Ordering::Relaxed);
        let mut by_ip = self.admission.by_ip.lock();
        if let Some(of_ip) = by_ip.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

/// Adds one unless the bound is reached.
fn take(count: &AtomicUsize, bound: usize) -> Result<(), usize> {
    let add = |open: usize| (open < bound).then_some(open + 1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        .map(|_| ())
        .map_err(|_| bound)
}

/// What counts as one address: of IPv6 the /64, which is what one customer gets, so that it buys nobody more.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

/// The bytes of requests in memory, over all connections. Peers that have not authenticated share an eighth, so that
/// they cannot stop those that have.
#[derive(Clone, Debug)]
pub(super) struct InFlightBytes {
    authenticated: Pool,
    unauthenticated: Pool,
}

/// Counted in KiB, so that the numbers of the largest budgets fit the semaphore's.
#[derive(Clone, Debug)]
struct Pool {
    free: Arc<Semaphore>,
    units: u32,
}

const UNIT_BYTES: u64 = 1 << 10;

/// A permit that is there, or what to wait for.
pub(super) enum Reserved {
    Now(OwnedSemaphorePermit),
    Later(Arc<Semaphore>, u32),
}

impl InFlightBytes {
    pub(super) fn new(max_bytes: u64) -> Self {
        let unauthenticated = max_bytes / 8;
        Self {
            authenticated: Pool::new(max_bytes - unauthenticated),
            unauthenticated: Pool::new(unauthenticated),
        }
    }

    /// Reserves the bytes of one frame. A frame larger than the whole pool takes the whole pool: it passes alone.
    pub(super) fn reserve(&self, bytes: usize, authenticated: bool) -> Reserved {
        let pool = if authenticated {
            &self.authenticated
        } else {
            &self.unauthenticated
        };
        let units = units(bytes as u64).clamp(1, pool.units);
        match Arc::clone(&pool.free).try_acquire_many_owned(units) {
            Ok(permit) => Reserved::Now(permit),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                Reserved::Later(Arc::clone(&pool.free), units)
            }
        }
    }
}

impl Pool {
    fn new(bytes: u64) -> Self {
        let units = units(bytes).max(1);
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
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
