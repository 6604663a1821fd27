//! Where long requests are worked on: beside the serving threads, so that no other connection waits for them.
//!
//! A request is *long* by the bytes of its body, by the items of its lists, or because it asks for everything there is. It
//! goes on where it is, in the order of its connection; but each *turn* of it, one poll of its handler, is announced to the
//! runtime, which moves the other connections of that serving thread to another one first. Turns are few at a time, so that
//! the machine's processors stay with the short requests, and a principal has at most half of them: many long requests of one
//! principal wait for each other, not for anybody else's.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::num::NonZero;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lists::Asked;

/// A request's body from here on is long: decoding it alone may take milliseconds. What it says is looked at in the order of
/// arrival all the same.
pub const LONG_BODY: usize = 32 << 10;

/// A request that only reads is long from here on: each item may stand for a topic of ten thousand partitions.
const LONG_LIST: usize = 16;

/// Principals remembered before those that have nothing under way are forgotten.
const REMEMBERED: usize = 256;

/// Whether a request that only reads is long.
pub fn is_long(asked: Asked) -> bool {
    asked.everything || asked.items > LONG_LIST
}

/// Turns for long requests.
#[derive(Debug)]
pub struct Turns {
    shared: Arc<Semaphore>,
    /// Turns that one principal has at once.
    of_one: usize,
    by_principal: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// The right to one turn. The principal's own is given back last.
#[derive(Debug)]
pub struct Turn {
    _shared: Option<OwnedSemaphorePermit>,
    _own: Option<OwnedSemaphorePermit>,
}

impl Default for Turns {
    /// Half of the processors.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_turns((processors / 2).max(1))
    }
}

impl Turns {
    pub fn with_turns(turns: usize) -> Self {
        Self {
            shared: Arc::new(Semaphore::new(turns)),
            of_one: (turns / 2).max(1),
            by_principal: Mutex::default(),
        }
    }

    /// Waits for a turn of `principal`.
    pub async fn turn(&self, principal: &str) -> Turn {
        // Neither is ever closed; without a permit the work would go on all the same.
        let own = self.of(principal).acquire_owned().await.ok();
        let shared = Arc::clone(&self.shared).acquire_owned().await.ok();
        Turn {
            _shared: shared,
            _own: own,
        }
    }

    fn of(&self, principal: &str) -> Arc<Semaphore> {
        let mut by_principal = self.by_principal.lock();
        if let Some(own) = by_principal.get(principal).and_then(Weak::upgrade) {
            return own;
        }
        if by_principal.len() >= REMEMBERED {
            by_principal.retain(|_, own| own.strong_count() > 0);
        }
        let own = Arc::new(Semaphore::new(self.of_one));
        by_principal.insert(principal.to_owned(), Arc::downgrade(&own));
        own
    }

    /// Works a request off, turn by turn; `first` is a turn that it has already. Not to be nested: a principal may have
    /// no second turn.
    pub async fn run<F: Future>(&self, principal: &str, first: Option<Turn>, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut first = first;
        loop {
            let turn = match first.take() {
                Some(turn) => turn,
                None => self.turn(principal).await,
            };
            let polled = poll_fn(|cx| Poll::Ready(poll_beside(work.as_mut(), cx))).await;
            drop(turn);
            match polled {
                Poll::Ready(output) => return output,
                Poll::Pending => woken().await,
            }
        }
    }
}

/// Polls where it holds nobody up. A runtime of one thread, as in tests, has nowhere else.
fn poll_beside<F: Future>(work: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    let has_others = Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    match has_others {
        true => tokio::task::block_in_place(|| work.poll(cx)),
        false => work.poll(cx),
    }
}

/// Pending once: whatever was polled before it has kept the waker, and wakes when it can go on.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| match std::mem::replace(&mut is_woken, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests;
