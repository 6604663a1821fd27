//! A ledger that many tasks share: draws that wait are woken, and what a permit holds is given back when it is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::ledger::{Bounds, Claim, Grant, Ledger, Party, Wanted};

/// A bounded amount of memory that connections share.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// As the ledger says it: read without the lock.
    is_pressed: AtomicBool,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    waiting: HashMap<u64, Waiter>,
}

#[derive(Debug)]
enum Waiter {
    Waits(Waker),
    Granted(u64),
}

/// What one frame or answer holds of a pool. Dropped, it gives everything back.
#[derive(Debug)]
pub struct Permit {
    pool: Pool,
    claim: Claim,
    waits: bool,
}

impl Pool {
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                ledger: Ledger::new(bounds),
                waiting: HashMap::new(),
            }),
            is_pressed: AtomicBool::new(false),
        }))
    }

    /// A permit that holds nothing yet.
    pub fn open(&self, party: Party) -> Permit {
        Permit {
            claim: self.0.state.lock().ledger.open(party),
            pool: self.clone(),
            waits: false,
        }
    }

    /// Whether somebody waits for what others hold.
    pub fn is_pressed(&self) -> bool {
        self.0.is_pressed.load(Ordering::Relaxed)
    }

    pub fn used(&self) -> u64 {
        self.0.state.lock().ledger.used()
    }

    pub fn whole(&self) -> u64 {
        self.0.state.lock().ledger.whole()
    }

    /// How long the longest draw has waited because the pool as a whole is used up.
    pub fn longest_wait(&self) -> Duration {
        if !self.is_pressed() {
            return Duration::ZERO;
        }
        self.0.state.lock().ledger.longest_wait(Instant::now())
    }

    /// Changes the ledger, and wakes those whose turn has come with it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut woken = Vec::new();
        let outcome = {
            let mut state = self.0.state.lock();
            let outcome = change(&mut state);
            if !state.waiting.is_empty() || self.is_pressed() {
                for Grant { claim, amount } in state.ledger.next() {
                    if let Some(Waiter::Waits(waker)) =
                        state.waiting.insert(claim, Waiter::Granted(amount))
                    {
                        woken.push(waker);
                    }
                }
                let is_pressed = state.ledger.is_pressed();
                self.0.is_pressed.store(is_pressed, Ordering::Relaxed);
            }
            outcome
        };
        woken.into_iter().for_each(Waker::wake);
        outcome
    }
}

impl Permit {
    pub fn held(&self) -> u64 {
        self.claim.held
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Draws as much more; ready with what was granted. Must be called again with the same wish until it is ready.
    pub fn poll_draw(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<u64> {
        if !self.waits {
            let claim = &mut self.claim;
            let drawn = self.pool.change(|state| {
                let drawn = state.ledger.draw(claim, wanted, Instant::now());
                if drawn.is_none() {
                    let waiter = Waiter::Waits(cx.waker().clone());
                    state.waiting.insert(claim.id, waiter);
                }
                drawn
            });
            if let Some(amount) = drawn {
                return Poll::Ready(amount);
            }
            self.waits = true;
        }
        let mut state = self.pool.0.state.lock();
        match state.waiting.get_mut(&self.claim.id) {
            Some(Waiter::Waits(waker)) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Some(Waiter::Granted(amount)) => {
                let amount = *amount;
                state.waiting.remove(&self.claim.id);
                self.claim.held += amount;
                self.waits = false;
                Poll::Ready(amount)
            }
            None => Poll::Pending,
        }
    }

    /// As `poll_draw`, awaited.
    pub async fn draw(&mut self, wanted: Wanted) -> u64 {
        std::future::poll_fn(|cx| self.poll_draw(cx, wanted)).await
    }

    /// Takes what is in memory already, whatever the bounds say.
    pub fn take(&mut self, amount: u64) {
        let claim = &mut self.claim;
        self.pool.change(|state| state.ledger.take(claim, amount));
    }

    /// Gives back what is above `amount`.
    pub fn shrink_to(&mut self, amount: u64) {
        let surplus = self.claim.held.saturating_sub(amount);
        if surplus > 0 {
            let claim = &mut self.claim;
            self.pool
                .change(|state| state.ledger.release(claim, surplus));
        }
    }

    /// Bytes that hold this permit for as long as a part of them is there.
    pub fn keep(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Kept {
            bytes,
            _permit: self,
        })
    }

    /// Says that nothing more is drawn, and that what is held will be given back whatever others do.
    pub fn settle(&mut self) {
        let claim = &mut self.claim;
        self.pool.change(|state| state.ledger.settle(claim));
    }
}

struct Kept {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.claim.held == 0 && !self.waits {
            return;
        }
        let (claim, waits) = (&mut self.claim, self.waits);
        self.pool.change(|state| {
            if waits {
                match state.waiting.remove(&claim.id) {
                    Some(Waiter::Granted(amount)) => claim.held += amount,
                    Some(Waiter::Waits(_)) | None => state.ledger.cancel(claim),
                }
            }
            let held = claim.held;
            state.ledger.release(claim, held);
        });
    }
}
