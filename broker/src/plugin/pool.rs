//! The waiting instances of one plugin revision: there are never more than have run at once, nor than the machine can run.

use std::num::NonZero;
use std::thread;

use parking_lot::Mutex;

use super::FailureKind;
use super::instance::Instance;

#[derive(Debug)]
pub struct Pool {
    idle: Mutex<Vec<Instance>>,
    max_idle: usize,
}

impl Pool {
    pub fn new() -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            max_idle: 2 * thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    /// The instance that was used last (its memory is warm), or a new one. No lock is held while it is made.
    pub fn take(
        &self,
        start: impl FnOnce() -> Result<Instance, FailureKind>,
    ) -> Result<Instance, FailureKind> {
        let waiting = self.idle.lock().pop();
        waiting.map_or_else(start, Ok)
    }

    /// Keeps an instance for the next call, unless it has done its share or enough others wait.
    pub fn give(&self, mut instance: Instance) {
        if !instance.reusable() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.max_idle {
            idle.push(instance);
        }
    }

    pub fn idle(&self) -> usize {
        self.idle.lock().len()
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}
