//! A disk's misbehaviour for tests: operations that err on demand, syncs that are held and counted.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use super::file::Operation;

#[derive(Debug)]
struct Rule {
    operation: Operation,
    /// How many times the operation still succeeds.
    allowed: usize,
    error: Errno,
}

#[derive(Debug, Default)]
pub(in crate::log) struct Faults {
    rules: Mutex<Vec<Rule>>,
    held: Mutex<bool>,
    released: Condvar,
    syncs: AtomicU64,
    boot: Mutex<Option<[u8; 16]>>,
    /// Calls that are left before every call errs.
    left: Mutex<Option<usize>>,
}

impl Faults {
    /// From now on `operation` errs, after it has succeeded `allowed` times.
    pub fn fail(&self, operation: Operation, allowed: usize, error: Errno) {
        self.rules.lock().push(Rule {
            operation,
            allowed,
            error,
        });
    }

    /// After so many more calls every call errs, as if the process had ended there.
    pub fn end_after(&self, calls: usize) {
        *self.left.lock() = Some(calls);
    }

    pub fn heal(&self) {
        *self.left.lock() = None;
        self.rules.lock().clear();
    }

    /// Makes every sync wait until `release`.
    pub fn hold_syncs(&self) {
        *self.held.lock() = true;
    }

    pub fn release_syncs(&self) {
        *self.held.lock() = false;
        self.released.notify_all();
    }

    /// Syncs that have begun.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    /// Pretends that the machine was started anew.
    pub fn set_boot_id(&self, id: [u8; 16]) {
        *self.boot.lock() = Some(id);
    }

    pub fn boot_id(&self) -> Option<[u8; 16]> {
        *self.boot.lock()
    }

    pub fn check(&self, operation: Operation) -> io::Result<()> {
        if operation == Operation::Sync {
            self.syncs.fetch_add(1, Ordering::SeqCst);
            let mut held = self.held.lock();
            while *held {
                self.released.wait(&mut held);
            }
        }
        if let Some(left) = &mut *self.left.lock() {
            *left = left.checked_sub(1).ok_or(Errno::IO)?;
        }
        for rule in self.rules.lock().iter_mut() {
            if rule.operation == operation {
                if rule.allowed == 0 {
                    return Err(rule.error.into());
                }
                rule.allowed -= 1;
            }
        }
        Ok(())
    }
}
