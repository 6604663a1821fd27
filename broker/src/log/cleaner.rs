//! The cleaner: one thread that compacts, one partition at a time, the one that gains most.
//!
//! It wakes at an interval, goes on while any compacted partition is dirty enough, takes the dirtiest first, and keeps to a
//! bound on bytes a second. A partition that cannot be compacted (damage, or keys that do not fit its memory) is
//! passed over until the broker starts again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::compact::{CleanError, Dirty};
use super::partition::PartitionLog;
use crate::config::LogConfig;
use crate::env::{Clock, lower_priority};
use crate::types::{PartitionId, TimestampMs};

pub(super) type Partitions = Arc<RwLock<HashMap<PartitionId, Arc<PartitionLog>>>>;

/// Delays below this are saved up: a wait costs more than it gives.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// What was not used for so long is not made up for.
const PACE_WINDOW: Duration = Duration::from_secs(1);

/// Figures of the cleaner since the broker started.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct CleanerStats {
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Rounds that were finished.
    pub rounds: u64,
    /// When the last round ended, by the broker's clock.
    pub last_round: Option<TimestampMs>,
    /// Of the dirtiest partition when it was last looked, from 0 to 1.
    pub max_dirty_ratio: f64,
    /// Partitions that cannot be compacted.
    pub impossible: usize,
}

/// Keeps to a number of bytes a second.
#[derive(Debug, Default)]
struct Pace {
    /// 0: no bound.
    rate: u64,
    bytes: u64,
    since: Option<Instant>,
}

impl Pace {
    /// How long to wait after so many more bytes.
    fn delay(&mut self, bytes: u64, now: Instant) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let since = *self.since.get_or_insert(now);
        self.bytes += bytes;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.rate as f64);
        let taken = now.saturating_duration_since(since);
        if taken > due + PACE_WINDOW {
            self.since = Some(now);
            self.bytes = 0;
        }
        let delay = due.saturating_sub(taken);
        if delay < SHORTEST_PAUSE {
            return Duration::ZERO;
        }
        delay
    }
}

/// How a round is slowed down and stopped.
#[derive(Debug, Default)]
pub(super) struct Control {
    stopping: Mutex<bool>,
    wake: Condvar,
    pace: Mutex<Pace>,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Control {
    fn new(rate: u64) -> Self {
        let pace = Pace {
            rate,
            ..Pace::default()
        };
        Self {
            pace: Mutex::new(pace),
            ..Self::default()
        }
    }

    pub fn is_stopping(&self) -> bool {
        *self.stopping.lock()
    }

    /// Accounts for bytes read, and waits when they were too many. True: the round is to end.
    pub fn read(&self, bytes: u64) -> bool {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        self.pause(bytes)
    }

    /// As `read`, for bytes written.
    pub fn wrote(&self, bytes: u64) -> bool {
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        self.pause(bytes)
    }

    fn pause(&self, bytes: u64) -> bool {
        let delay = self.pace.lock().delay(bytes, Instant::now());
        if delay.is_zero() {
            return self.is_stopping();
        }
        self.wait(delay)
    }

    /// True: stopping.
    fn wait(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut stopping = self.stopping.lock();
        while !*stopping && !self.wake.wait_until(&mut stopping, deadline).timed_out() {}
        *stopping
    }

    fn stop(&self) {
        *self.stopping.lock() = true;
        self.wake.notify_all();
    }
}

#[derive(Debug)]
pub(super) struct Cleaner {
    partitions: Partitions,
    clock: Clock,
    interval: Duration,
    control: Control,
    impossible: Mutex<HashSet<PartitionId>>,
    stats: Mutex<CleanerStats>,
}

impl Cleaner {
    /// `paced`: keeps to the configured bytes a second.
    pub fn new(partitions: Partitions, clock: Clock, config: &LogConfig, paced: bool) -> Self {
        let rate = config.cleaner_max_bytes_per_second;
        Self {
            partitions,
            clock,
            interval: config.cleaner_interval,
            control: Control::new(if paced { rate } else { 0 }),
            impossible: Mutex::default(),
            stats: Mutex::default(),
        }
    }

    /// The thread.
    pub fn run(&self) {
        lower_priority();
        loop {
            let mut failed = HashSet::new();
            while !self.control.is_stopping() && self.clean_one(&mut failed) {}
            if self.control.wait(self.interval) {
                return;
            }
        }
    }

    /// Ends the thread, and the round that it is in, soon.
    pub fn stop(&self) {
        self.control.stop();
    }

    pub fn stats(&self) -> CleanerStats {
        CleanerStats {
            bytes_read: self.control.bytes_read.load(Ordering::Relaxed),
            bytes_written: self.control.bytes_written.load(Ordering::Relaxed),
            ..*self.stats.lock()
        }
    }

    /// Compacts the dirtiest partition, on the caller's thread. False: none is dirty enough, or it failed.
    pub fn step(&self) -> bool {
        let mut failed = HashSet::new();
        self.clean_one(&mut failed) && failed.is_empty()
    }

    /// Compacts the dirtiest partition but those that failed since the cleaner woke. False: none is dirty enough.
    fn clean_one(&self, failed: &mut HashSet<PartitionId>) -> bool {
        let now = self.clock.now_ms();
        let Some((log, dirty)) = self.dirtiest(now, failed) else {
            return false;
        };
        match log.clean(&dirty, now, &self.control) {
            Ok(()) => {
                let mut stats = self.stats.lock();
                stats.rounds += 1;
                stats.last_round = Some(self.clock.now_ms());
            }
            Err(CleanError::Interrupted) => {
                failed.insert(log.id());
            }
            Err(CleanError::Storage(error)) => {
                tracing::warn!(partition = %log.id(), error, "compaction failed; it is tried again");
                failed.insert(log.id());
            }
            Err(CleanError::Impossible(reason)) => {
                tracing::error!(partition = %log.id(), reason, "partition is not compacted any more until the broker starts again");
                self.impossible.lock().insert(log.id());
            }
        }
        true
    }

    fn dirtiest(
        &self,
        now: TimestampMs,
        failed: &HashSet<PartitionId>,
    ) -> Option<(Arc<PartitionLog>, Dirty)> {
        let mut logs: Vec<_> = self.partitions.read().values().cloned().collect();
        logs.sort_unstable_by_key(|log| log.id());
        let mut impossible = self.impossible.lock();
        impossible.retain(|id| logs.binary_search_by_key(id, |log| log.id()).is_ok());
        logs.retain(|log| !impossible.contains(&log.id()) && !failed.contains(&log.id()));
        let mut max_ratio: f64 = 0.0;
        let mut best: Option<(Arc<PartitionLog>, Dirty)> = None;
        for log in logs {
            log.roll_for_compaction(now);
            let Some(dirty) = log.dirty(now) else {
                continue;
            };
            max_ratio = max_ratio.max(dirty.ratio);
            let is_better = best
                .as_ref()
                .is_none_or(|(_, other)| dirty.ratio > other.ratio);
            if dirty.is_due && is_better {
                best = Some((log, dirty));
            }
        }
        let mut stats = self.stats.lock();
        stats.max_dirty_ratio = max_ratio;
        stats.impossible = impossible.len();
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_to_its_rate_and_does_not_make_up_for_idle_time() {
        let mut pace = Pace {
            rate: 1_000,
            ..Pace::default()
        };
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(pace.delay(4, start), Duration::ZERO);
        assert_eq!(pace.delay(996, start), second);
        assert_eq!(pace.delay(1_000, start + second), second);
        let late = start + 100 * second;
        assert_eq!(pace.delay(1_000, late), Duration::ZERO);
        assert_eq!(pace.delay(1_000, late), second);
        let mut unbounded = Pace::default();
        assert_eq!(unbounded.delay(u64::MAX, start), Duration::ZERO);
    }

    #[test]
    fn a_stop_ends_a_wait() {
        let control = Arc::new(Control::new(1));
        let waiting = {
            let control = Arc::clone(&control);
            std::thread::spawn(move || control.pause(1 << 30))
        };
        control.stop();
        assert!(waiting.join().expect("ends"));
        assert!(control.pause(0));
    }
}
