//! The segment files that are held open for writing: one a partition, and no more in all than there is room for.
//!
//! A partition takes a **handle** before it opens its active segment and keeps it while it is written to. When all are
//! taken, the partition that nobody has written to for longest is made to close its file, and opens it again at its next
//! append. A file that holds what is not synced is never closed: what a failed write-back has lost, only those learn for
//! sure who have the file open. Where no file can be closed the append is refused, and may be tried again; the oldest are
//! synced meanwhile.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::partition::PartitionLog;

/// Partitions that are synced out of turn when no file can be closed.
const HURRIED: usize = 32;

/// What became of the request to close a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closing {
    Closed,
    /// It was not open.
    NotOpen,
    /// It was written to since the last time, is being written to, or is not synced.
    InUse,
}

/// Figures since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HandleStats {
    pub open: usize,
    pub bound: usize,
    /// Files closed so that others could be opened.
    pub closed: u64,
    /// Appends refused because none could be closed.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Inner {
    /// In the order in which they were opened, or found in use. What has gone away or was closed meanwhile is found out
    /// when its turn comes.
    holders: VecDeque<Weak<PartitionLog>>,
    taken: usize,
}

#[derive(Debug)]
pub(super) struct Handles {
    bound: usize,
    inner: Mutex<Inner>,
    closed: AtomicU64,
    refused: AtomicU64,
}

/// One of the files that may be open. Given back when dropped.
#[derive(Debug)]
pub(super) struct Handle(Arc<Handles>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.inner.lock().taken -= 1;
    }
}

impl Handles {
    pub fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            bound,
            inner: Mutex::default(),
            closed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// A handle for a partition, whose writer lock the caller holds.
    pub fn take(self: &Arc<Self>, holder: &Weak<PartitionLog>) -> Option<Handle> {
        loop {
            {
                let mut inner = self.inner.lock();
                if inner.taken < self.bound {
                    inner.taken += 1;
                    inner.holders.push_back(Weak::clone(holder));
                    return Some(Handle(Arc::clone(self)));
                }
            }
            if !self.close_one() {
                self.refused.fetch_add(1, Ordering::Relaxed);
                self.hurry();
                return None;
            }
        }
    }

    /// Has the file closed that was not used for longest; false when none can be. Takes writer locks that are free, and
    /// waits for none.
    pub fn close_one(&self) -> bool {
        // Twice round: the first time takes away the mark of use.
        let mut tries = 2 * self.inner.lock().holders.len();
        while tries > 0 {
            tries -= 1;
            let Some(holder) = self.inner.lock().holders.pop_front() else {
                return false;
            };
            let Some(log) = holder.upgrade() else {
                continue;
            };
            match log.close_file() {
                Closing::Closed => {
                    self.closed.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                Closing::NotOpen => {}
                Closing::InUse => self.inner.lock().holders.push_back(holder),
            }
        }
        false
    }

    /// Has the oldest synced, so that their files can be closed soon.
    fn hurry(&self) {
        let oldest: Vec<_> = {
            let inner = self.inner.lock();
            inner.holders.iter().take(HURRIED).cloned().collect()
        };
        for log in oldest.iter().filter_map(Weak::upgrade) {
            log.request_flush(true);
        }
    }

    pub fn stats(&self) -> HandleStats {
        HandleStats {
            open: self.inner.lock().taken,
            bound: self.bound,
            closed: self.closed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
