//! Threads for calls that take long: on a serving thread they would hold up every connection that the thread serves.
//!
//! They start with the first job, and end with the host. What waits for them, and whose turn it is, is [`super::schedule`]'s.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

pub use super::schedule::LaneKey;
use super::schedule::{Place, Schedule};

/// Of a guest's calls as many bytes are the engine's; the rest is the host's.
const STACK_BYTES: usize = 2 << 20;

/// Tells who waits for it by itself; dropped undone when the workers stop.
pub type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    count: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    schedule: Mutex<Schedule<Job>>,
    ready: Condvar,
    is_stopping: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A lane that is held: nothing else of it runs until this is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    workers: &'a Workers,
    key: LaneKey,
}

impl Workers {
    /// `count` threads, one more than the machine has processors when it is 0; waiting jobs of `max_bytes` in sum.
    pub fn new(count: usize, max_bytes: u64) -> Self {
        let count = match count {
            0 => thread::available_parallelism().map_or(1, NonZero::get) + 1,
            count => count,
        };
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        Self {
            shared: Arc::new(Shared {
                schedule: Mutex::new(Schedule::new(max_bytes, count - 1)),
                ready: Condvar::new(),
                is_stopping: AtomicBool::new(false),
            }),
            count,
            threads: Mutex::default(),
        }
    }

    /// The lane, when it has nothing running or waiting.
    pub fn hold(&self, key: LaneKey) -> Result<Turn<'_>, LaneKey> {
        match self.shared.schedule.lock().hold(&key) {
            true => Ok(Turn { workers: self, key }),
            false => Err(key),
        }
    }

    /// Puts a job behind those of its lane. Gives it back when there is no room for it.
    pub fn queue(&self, key: &LaneKey, bytes: usize, job: Job) -> Result<(), Job> {
        self.push(key, bytes, job, Place::Back)
    }

    /// Bytes of batches that wait.
    pub fn queued_bytes(&self) -> usize {
        self.shared.schedule.lock().bytes()
    }

    fn push(&self, key: &LaneKey, bytes: usize, job: Job, place: Place) -> Result<(), Job> {
        if self.shared.is_stopping.load(Ordering::Acquire) || !self.are_started() {
            return Err(job);
        }
        let mut schedule = self.shared.schedule.lock();
        schedule.push(key, bytes, job, place)?;
        let has_ready = schedule.has_ready();
        drop(schedule);
        if has_ready {
            self.shared.ready.notify_one();
        }
        Ok(())
    }

    /// Starts the threads with the first job. At least one is needed.
    fn are_started(&self) -> bool {
        let mut threads = self.threads.lock();
        while threads.len() < self.count {
            let shared = Arc::clone(&self.shared);
            let builder = thread::Builder::new()
                .name("plugin-worker".into())
                .stack_size(STACK_BYTES);
            match builder.spawn(move || work(&shared)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::warn!(%error, "a plugin worker does not start");
                    break;
                }
            }
        }
        !threads.is_empty()
    }

    /// Ends what runs and drops what waits. Blocking, for as long as one job may take.
    pub fn stop(&self) {
        self.shared.stop();
        for thread in self.threads.lock().drain(..) {
            // A job's panic was caught; there is nothing more to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Turn<'_> {
    /// Goes on with this on another thread, before whatever waits in the lane.
    pub fn queue(self, bytes: usize, job: Job) -> Result<(), Job> {
        self.workers.push(&self.key, bytes, job, Place::Front)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let shared = &self.workers.shared;
        let mut schedule = shared.schedule.lock();
        schedule.release(&self.key);
        let has_ready = schedule.has_ready();
        drop(schedule);
        if has_ready {
            shared.ready.notify_one();
        }
    }
}

impl Shared {
    fn stop(&self) {
        let mut schedule = self.schedule.lock();
        self.is_stopping.store(true, Ordering::Release);
        let waiting = schedule.clear();
        drop(schedule);
        drop(waiting);
        self.ready.notify_all();
    }
}

fn work(shared: &Shared) {
    let mut schedule = shared.schedule.lock();
    while !shared.is_stopping.load(Ordering::Acquire) {
        let Some((key, job)) = schedule.next() else {
            shared.ready.wait(&mut schedule);
            continue;
        };
        drop(schedule);
        // Whoever waits for the job learns of it by the end that the job drops.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!(
                topic = &*key.topic,
                "a batch's way through plugins panicked"
            );
        }
        schedule = shared.schedule.lock();
        schedule.done(&key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn key(topic: &str) -> LaneKey {
        LaneKey {
            topic: topic.into(),
            number: (0, 0),
        }
    }

    #[test]
    fn jobs_of_a_lane_follow_each_other_and_a_panic_ends_none_but_its_own() {
        let workers = Workers::new(4, 1 << 20);
        let (tell, told) = mpsc::channel();
        let turn = workers.hold(key("t")).expect("nobody holds it");
        for number in 1..100 {
            let tell = tell.clone();
            let job: Job = Box::new(move || {
                assert_ne!(number, 50, "as planned");
                tell.send(number).expect("somebody listens");
            });
            assert!(workers.queue(&key("t"), 1, job).is_ok());
        }
        let first: Job = Box::new(move || tell.send(0).expect("somebody listens"));
        assert!(turn.queue(1, first).is_ok());
        let found: Vec<i32> = told.iter().collect();
        let expected: Vec<i32> = (0..100).filter(|number| *number != 50).collect();
        assert_eq!(found, expected);
        workers.stop();
        assert!(workers.queue(&key("t"), 1, Box::new(|| {})).is_err());
    }

    #[test]
    fn a_slow_topic_leaves_a_thread_to_the_others() {
        let workers = Workers::new(2, 1 << 20);
        let (go, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for lane in 0..8 {
            let held = Arc::clone(&held);
            let slow = LaneKey {
                topic: "slow".into(),
                number: (lane, 0),
            };
            let job: Job = Box::new(move || {
                // Until the other end is dropped.
                let _ = held.lock().recv();
            });
            assert!(workers.queue(&slow, 1, job).is_ok());
        }
        let (tell, told) = mpsc::channel();
        for _ in 0..8 {
            let tell = tell.clone();
            let job: Job = Box::new(move || tell.send(()).expect("somebody listens"));
            assert!(workers.queue(&key("quick"), 1, job).is_ok());
        }
        drop(tell);
        assert_eq!(told.iter().count(), 8);
        drop(go);
        workers.stop();
    }
}
