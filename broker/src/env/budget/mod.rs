//! What the broker holds in memory for its clients: bounded, shared fairly, and paid for as it comes to be there.
//!
//! There is a **pool** for each kind of thing: frames that arrive, frames of peers that have not authenticated, answers on their way
//! out, and work (batches that are taken apart for an answer). Frames and answers have two pools each, so that *small* ones never wait
//! for large ones. A **permit** is what one of them holds. Shares of a pool are bounded by connection and by **owner**: the principal,
//! or for those without one the address.
//!
//! Who produces draws on frames alone, and who consumes gives its frame's share back without any answer's: no pool waits for another.

mod ledger;
mod pool;

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub use ledger::{Bounds, Party, Wanted};
pub use pool::{Permit, Pool};

use crate::config::NetConfig;
use crate::types::{Principal, network};

/// Frames and answers up to this size are small.
pub const SMALL_BYTES: u64 = 64 << 10;
/// The least that one search for a time may need at once: a batch, its decoder's window, and what came out last.
pub const SEARCH_BYTES: u64 = 16 << 20;

/// A draw that waited so long says that clients are not served.
const STARVED_AFTER: Duration = Duration::from_secs(5);

/// Whom a share belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Owner {
    Principal(Principal),
    Address(IpAddr),
}

impl Owner {
    pub fn of_address(ip: IpAddr) -> Self {
        Self::Address(network(ip))
    }
}

impl Party {
    /// The connection of a peer (on QUIC: with all its streams), owned by the peer's address.
    pub fn of_peer(peer: SocketAddr) -> Self {
        Self {
            owner: key(&Owner::of_address(peer.ip())),
            account: SEED.hash_one(peer),
        }
    }

    /// The same connection, once it is known whose it is.
    #[must_use]
    pub fn owned_by(self, owner: &Owner) -> Self {
        Self {
            owner: key(owner),
            ..self
        }
    }
}

/// Two owners whose keys collide share their shares; nobody can bring that about, because the seed is the process's own.
fn key(owner: &Owner) -> u64 {
    SEED.hash_one(owner)
}

static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Two pools by size.
#[derive(Clone, Debug)]
pub struct Budget {
    pub small: Pool,
    pub large: Pool,
}

impl Budget {
    /// The pool for something of this size.
    pub fn of(&self, bytes: u64) -> &Pool {
        if bytes <= SMALL_BYTES {
            &self.small
        } else {
            &self.large
        }
    }
}

/// All pools of the broker.
#[derive(Clone, Debug)]
pub struct Memory {
    pub frames: Budget,
    /// Of peers that have not authenticated.
    pub strangers: Pool,
    pub answers: Budget,
    pub work: Pool,
}

/// Of a budget, what is kept for small things, and of the frames' what strangers have: an eighth and a sixteenth.
const SMALL_PART: u64 = 8;
const STRANGERS_PART: u64 = 16;

impl Memory {
    pub fn new(limits: &NetConfig) -> Self {
        let frames = limits.max_in_flight_bytes;
        let (small, strangers) = (frames / SMALL_PART, frames / STRANGERS_PART);
        let large = frames - small - strangers;
        let largest = u64::from(limits.max_frame_bytes).min(large);
        let answers = limits.max_unsent_bytes;
        let shared = |whole: u64, reserve: u64| {
            let free = whole - reserve.min(whole);
            Pool::new(Bounds {
                whole,
                reserve,
                owner: (free / 2).max(1),
                account: (free / 4).max(1),
            })
        };
        Self {
            frames: Budget {
                small: shared(small, SMALL_BYTES),
                large: shared(large, largest),
            },
            strangers: shared(
                strangers,
                u64::from(limits.max_unauthenticated_frame_bytes).min(strangers),
            ),
            answers: Budget {
                small: shared(answers / SMALL_PART, 0),
                large: shared(answers - answers / SMALL_PART, 0),
            },
            work: shared(limits.max_work_bytes, 0),
        }
    }

    /// Every pool with its name and the setting that bounds it.
    pub fn pools(&self) -> [(&'static str, &'static str, &Pool); 6] {
        const FRAMES: &str = "net.max-in-flight-bytes";
        const ANSWERS: &str = "net.max-unsent-bytes";
        [
            ("small-frames", FRAMES, &self.frames.small),
            ("large-frames", FRAMES, &self.frames.large),
            ("strangers", FRAMES, &self.strangers),
            ("small-answers", ANSWERS, &self.answers.small),
            ("large-answers", ANSWERS, &self.answers.large),
            ("work", "net.max-work-bytes", &self.work),
        ]
    }

    /// Pools for which requests have waited so long that clients are not served: name, setting, and for how long.
    pub fn starved(&self) -> Vec<(&'static str, &'static str, Duration)> {
        let waits = self
            .pools()
            .map(|(name, setting, pool)| (name, setting, pool.longest_wait()));
        waits
            .into_iter()
            .filter(|(_, _, waited)| *waited >= STARVED_AFTER)
            .collect()
    }
}

/// Requests that are small and complete hold so much of their connection without asking any pool.
const FREE_BYTES: u64 = 8 << 10;

/// What a connection's complete small requests hold.
#[derive(Clone, Default, Debug)]
pub struct Allowance(Arc<AtomicU64>);

/// A request's place in memory: of its connection's allowance, or of a pool.
#[derive(Debug)]
pub enum Place {
    Free(Allowance, u64),
    Drawn(Permit),
}

impl Allowance {
    /// A place for so many bytes, while there is one.
    pub fn place(&self, bytes: u64) -> Option<Place> {
        let held = self.0.fetch_add(bytes, Ordering::Relaxed);
        let place = Place::Free(self.clone(), bytes);
        (held + bytes <= FREE_BYTES).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Free(allowance, bytes) = self {
            allowance.0.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
