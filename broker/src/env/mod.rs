//! What the broker takes from its surroundings: the clock, files, randomness, memory, and threads to block on.
//!
//! Clock and files are passed inwards as values. Randomness and blocking work are the process's own; a **simulated**
//! thread gets both from its seed instead ([`simulated`]), so that a whole broker on it runs the same way again.

pub mod budget;
pub mod buffers;
pub mod defects;
pub mod descriptors;
pub mod files;
#[cfg(any(test, fuzzing))]
pub mod memory;
pub mod simulated;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

use crate::types::TimestampMs;

/// What `nice` is told of a thread whose work can wait: a tenth of the share of others where cores are short.
const BACKGROUND: i32 = 10;

/// The wall clock in milliseconds since the Unix epoch. Cloning is cheap; a manual clock's clones move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `now` until it is moved.
    pub fn manual(now: TimestampMs) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now))))
    }

    pub fn now_ms(&self) -> TimestampMs {
        match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
                }),
            Source::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Moves a manual clock forwards; the machine's clock is left alone.
    pub fn advance(&self, milliseconds: i64) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(milliseconds, Ordering::Relaxed);
        }
    }
}

/// Fills an array from the operating system's random source; on a simulated thread, from its seed.
///
/// # Panics
/// When the operating system has no random source: nothing that depends on secrecy could go on.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if simulated::fill(&mut bytes) {
        return bytes;
    }
    getrandom::fill(&mut bytes).expect("the operating system's random source answers");
    bytes
}

/// Lets other threads go before this one where cores are short (nice 10, on Linux of the calling thread alone). Where that
/// is refused the thread keeps the priority it has.
pub fn lower_priority() {
    if let Err(error) = rustix::process::nice(BACKGROUND) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

/// Whether work may go on on other threads: not on a simulated one, which is all there is.
pub fn has_threads() -> bool {
    !simulated::is_here()
}

/// Runs work that blocks (the disk, a long computation) where it holds up no other task: on a thread of its own; on a
/// simulated thread, in place. `Err` when the work panicked or the runtime is going down.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if simulated::is_here() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

/// Runs work that takes long on the caller's thread, while the other tasks of that thread go on elsewhere: for what has to be
/// done before the caller's next step begins. On a simulated thread, and outside a runtime with several threads, as it is.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) if !simulated::is_here() => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}
