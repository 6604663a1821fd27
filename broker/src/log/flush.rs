//! Group commit: lanes that sync what was appended, and the keeper that writes checkpoints.
//!
//! Partitions hash to **lanes**, one thread each; those with `tidegate.durability=os` have one lane together, with a longer delay.
//! A partition with unsynced batches queues at its lane, *urgent* when somebody waits for it, else *lazy*: then its turn
//! comes after the lane's delay. While one sync runs, whatever is appended meanwhile is covered by the next one. The **keeper** is one thread for the slow chores behind: checkpoints
//! and index files, so that no commit waits for them. Both have their threads, unless whoever opened the set of logs does
//! their work itself, one unit at a time.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::cleaner::{Cleaner, Partitions};
use super::partition::PartitionLog;
use super::set::{Shared, in_parallel};

/// Where a partition stands with its lane.
#[derive(Debug, Default)]
pub(super) struct Queued(AtomicU8);

const IDLE: u8 = 0;
const LAZY: u8 = 1;
const URGENT: u8 = 2;

#[derive(Debug, Default)]
struct Queue {
    urgent: Vec<Arc<PartitionLog>>,
    /// In the order of their deadlines, for the delay is the same for all.
    lazy: VecDeque<(Instant, Arc<PartitionLog>)>,
    stopping: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    queue: Mutex<Queue>,
    wake: Condvar,
    delay: Duration,
}

impl Lane {
    pub fn new(delay: Duration) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            delay,
        }
    }

    /// Queues a partition that has something to sync. The orderings are sequentially consistent: either the lane has not
    /// yet taken the partition's mark away and will see what was appended before this call, or this call sees the mark gone.
    pub fn request(&self, partition: &Arc<PartitionLog>, urgent: bool) {
        let mark = &partition.queued.0;
        if urgent {
            if mark.swap(URGENT, Ordering::SeqCst) != URGENT {
                self.queue.lock().urgent.push(Arc::clone(partition));
                self.wake.notify_one();
            }
            return;
        }
        let fresh = mark.compare_exchange(IDLE, LAZY, Ordering::SeqCst, Ordering::SeqCst);
        if fresh.is_ok() {
            let deadline = Instant::now() + self.delay;
            let mut queue = self.queue.lock();
            let was_empty = queue.lazy.is_empty();
            queue.lazy.push_back((deadline, Arc::clone(partition)));
            drop(queue);
            if was_empty {
                self.wake.notify_one();
            }
        }
    }

    /// Ends the lane's thread; what is queued is left unsynced.
    pub fn stop(&self) {
        let left = {
            let mut queue = self.queue.lock();
            queue.stopping = true;
            (
                std::mem::take(&mut queue.urgent),
                std::mem::take(&mut queue.lazy),
            )
        };
        self.wake.notify_one();
        drop(left);
    }

    /// The lane's thread.
    pub fn run(&self) {
        while let Some(partitions) = self.next() {
            for partition in partitions {
                partition.flush();
            }
        }
    }

    /// Does one unit of the lane's work on the caller's thread: syncs the first partition that somebody waits for, or the
    /// first lazy one, due or not. False when there is none.
    pub fn step(&self, urgent: bool) -> bool {
        let partition = {
            let mut queue = self.queue.lock();
            if urgent && !queue.urgent.is_empty() {
                Some((URGENT, queue.urgent.remove(0)))
            } else if urgent {
                None
            } else {
                queue.lazy.pop_front().map(|(_, log)| (LAZY, log))
            }
        };
        let Some((expected, partition)) = partition else {
            return false;
        };
        let mark = &partition.queued.0;
        // Another mark than expected: its turn is another one.
        if mark
            .compare_exchange(expected, IDLE, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            partition.flush();
        }
        true
    }

    /// Waits until partitions are due; `None` when the lane is to end.
    fn next(&self) -> Option<Vec<Arc<PartitionLog>>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopping {
                return None;
            }
            let mut due = std::mem::take(&mut queue.urgent);
            for partition in &due {
                partition.queued.0.store(IDLE, Ordering::SeqCst);
            }
            let now = Instant::now();
            while let Some((deadline, _)) = queue.lazy.front()
                && *deadline <= now
            {
                let Some((_, partition)) = queue.lazy.pop_front() else {
                    break;
                };
                let mark = &partition.queued.0;
                // Not lazy any more: it was urgent meanwhile, and has had its turn or will.
                if mark
                    .compare_exchange(LAZY, IDLE, Ordering::SeqCst, Ordering::SeqCst)
                    .is_ok()
                {
                    due.push(partition);
                }
            }
            if !due.is_empty() {
                return Some(due);
            }
            match queue.lazy.front().map(|(deadline, _)| *deadline) {
                Some(deadline) => {
                    self.wake.wait_until(&mut queue, deadline);
                }
                None => self.wake.wait(&mut queue),
            }
        }
    }
}

/// What the keeper is asked to do.
#[derive(Debug)]
pub(super) enum Chore {
    Checkpoint(Arc<PartitionLog>),
    /// Too much lies behind the clean points of all partitions together.
    Sweep,
    Stop,
}

/// Writes checkpoints behind everybody's back.
#[derive(Debug)]
pub(super) struct Keeper {
    chores: Receiver<Chore>,
    partitions: Partitions,
    /// For checkpoints of many partitions at once.
    threads: usize,
}

impl Keeper {
    pub fn new(chores: Receiver<Chore>, partitions: &Partitions, threads: usize) -> Self {
        Self {
            chores,
            partitions: Arc::clone(partitions),
            threads,
        }
    }

    /// The keeper's thread.
    fn run(&self) {
        while let Ok(chore) = self.chores.recv() {
            if !self.keep(chore) {
                return;
            }
        }
    }

    /// Does one chore on the caller's thread; false when there is none.
    pub fn step(&self) -> bool {
        self.chores.try_recv().is_ok_and(|chore| self.keep(chore))
    }

    fn keep(&self, chore: Chore) -> bool {
        match chore {
            Chore::Checkpoint(partition) => {
                partition.keep_checkpoint();
            }
            Chore::Sweep => self.sweep(),
            Chore::Stop => return false,
        }
        true
    }

    /// Writes checkpoints of those partitions that have most behind their clean point, until half the bound is left.
    fn sweep(&self) {
        let mut behind: Vec<(u64, Arc<PartitionLog>)> = {
            let partitions = self.partitions.read();
            let all = partitions.values();
            all.map(|log| (log.unchecked(), Arc::clone(log))).collect()
        };
        behind.sort_unstable_by_key(|(bytes, log)| (Reverse(*bytes), log.id()));
        let Some((_, first)) = behind.first() else {
            return;
        };
        let shared = Arc::clone(&first.shared);
        shared.unchecked.begin();
        let bound = shared.config.unchecked_bytes;
        let mut left: u64 = behind.iter().map(|(bytes, _)| bytes).sum();
        behind.retain(|(bytes, _)| {
            let goes = left > bound / 2 && *bytes > 0;
            left -= if goes { *bytes } else { 0 };
            goes
        });
        let stuck = in_parallel(self.threads, &behind, |(_, log)| {
            match log.keep_checkpoint() {
                true => 0,
                false => log.unchecked(),
            }
        });
        // Those that cannot have a checkpoint must not make this begin again at once.
        shared.unchecked.bound_to(bound + stuck.iter().sum::<u64>());
        shared.add_unchecked(0);
    }
}

/// The threads behind a set of logs; dropping it ends them.
#[derive(Debug)]
pub(super) struct Threads {
    lanes: Arc<[Arc<Lane>]>,
    chores: Sender<Chore>,
    cleaner: Arc<Cleaner>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    pub fn start(shared: &Shared, keeper: Keeper, cleaner: &Arc<Cleaner>) -> std::io::Result<Self> {
        let mut threads = Self {
            lanes: Arc::clone(&shared.lanes),
            chores: shared.chores.clone(),
            cleaner: Arc::clone(cleaner),
            handles: Vec::new(),
        };
        for (number, lane) in shared.lanes.iter().enumerate() {
            let lane = Arc::clone(lane);
            let name = match number + 1 == shared.lanes.len() {
                true => "log-flush-os".to_owned(),
                false => format!("log-flush-{number}"),
            };
            let builder = std::thread::Builder::new().name(name);
            threads.handles.push(builder.spawn(move || lane.run())?);
        }
        let builder = std::thread::Builder::new().name("log-keeper".into());
        threads.handles.push(builder.spawn(move || keeper.run())?);
        let cleaner = Arc::clone(cleaner);
        let builder = std::thread::Builder::new().name("log-cleaner".into());
        threads.handles.push(builder.spawn(move || cleaner.run())?);
        Ok(threads)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for lane in self.lanes.iter() {
            lane.stop();
        }
        self.cleaner.stop();
        // A keeper that has ended already needs no telling.
        let _ = self.chores.send(Chore::Stop);
        for handle in self.handles.drain(..) {
            // A thread that panicked has said so on its own; there is nobody left to tell.
            let _ = handle.join();
        }
    }
}
