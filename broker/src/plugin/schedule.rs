//! Who is next: jobs of many topics on a few threads. Pure; the threads are in [`super::workers`].
//!
//! A **lane** is a row of jobs that are done one at a time, in order. Topics take turns by the job, whichever has how many waiting;
//! within a topic its lanes take turns. A topic never has all threads, and never more than half of what room is left for waiting
//! jobs, so that one that is slow or flooded leaves threads and room to the others. A topic with nothing waiting always has room
//! for one job.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// One row of jobs: a topic's, by any number that tells its rows apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LaneKey {
    pub topic: Arc<str>,
    pub number: (i32, u64),
}

/// A waiting job costs at least this much room, whatever its size.
const MIN_BYTES: usize = 4 << 10;

/// Where in its lane a job goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// For whoever holds the lane, and goes on elsewhere.
    Front,
    Back,
}

#[derive(Debug)]
pub struct Schedule<J> {
    topics: HashMap<Arc<str>, Topic<J>>,
    /// Topics that may have a job done now, in turn.
    ready: VecDeque<Arc<str>>,
    /// Of all waiting jobs.
    bytes: usize,
    max_bytes: usize,
    /// Jobs of one topic that may run at once.
    max_running: usize,
}

#[derive(Debug)]
struct Topic<J> {
    lanes: HashMap<(i32, u64), Lane<J>>,
    /// Lanes with a waiting job that nobody holds, in turn.
    open: VecDeque<(i32, u64)>,
    running: usize,
    bytes: usize,
    is_ready: bool,
}

#[derive(Debug)]
struct Lane<J> {
    is_held: bool,
    jobs: VecDeque<(usize, J)>,
}

impl<J> Default for Topic<J> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            open: VecDeque::new(),
            running: 0,
            bytes: 0,
            is_ready: false,
        }
    }
}

impl<J> Schedule<J> {
    pub fn new(max_bytes: usize, max_running: usize) -> Self {
        Self {
            topics: HashMap::new(),
            ready: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_running: max_running.max(1),
        }
    }

    /// Holds a lane that has neither a holder nor jobs; `release` ends it.
    pub fn hold(&mut self, key: &LaneKey) -> bool {
        let topic = self.topics.entry(Arc::clone(&key.topic)).or_default();
        match topic.lanes.entry(key.number) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(Lane {
                    is_held: true,
                    jobs: VecDeque::new(),
                });
                true
            }
        }
    }

    /// Puts a job into its lane, or gives it back when there is no room. A job at the front is its holder's, who releases the
    /// lane next.
    pub fn push(&mut self, key: &LaneKey, bytes: usize, job: J, place: Place) -> Result<(), J> {
        let bytes = bytes.max(MIN_BYTES);
        let free = self.max_bytes.saturating_sub(self.bytes);
        let topic = self.topics.entry(Arc::clone(&key.topic)).or_default();
        if topic.bytes > 0 && topic.bytes.saturating_add(bytes) > free {
            return Err(job);
        }
        topic.bytes += bytes;
        self.bytes += bytes;
        let lane = topic.lanes.entry(key.number).or_insert_with(|| Lane {
            is_held: false,
            jobs: VecDeque::new(),
        });
        match place {
            Place::Front => lane.jobs.push_front((bytes, job)),
            Place::Back => lane.jobs.push_back((bytes, job)),
        }
        if !lane.is_held && lane.jobs.len() == 1 {
            topic.open.push_back(key.number);
            self.make_ready(&key.topic);
        }
        Ok(())
    }

    /// Lets a held lane go on with its next job, if there is one.
    pub fn release(&mut self, key: &LaneKey) {
        let Some(topic) = self.topics.get_mut(&key.topic) else {
            return;
        };
        if let Entry::Occupied(mut lane) = topic.lanes.entry(key.number) {
            if lane.get().jobs.is_empty() {
                lane.remove();
            } else {
                lane.get_mut().is_held = false;
                topic.open.push_back(key.number);
            }
        }
        if topic.lanes.is_empty() && topic.running == 0 {
            self.topics.remove(&key.topic);
        } else {
            self.make_ready(&key.topic);
        }
    }

    /// The next job, whose lane is then held until it is `done`.
    pub fn next(&mut self) -> Option<(LaneKey, J)> {
        while let Some(name) = self.ready.pop_front() {
            let Some(topic) = self.topics.get_mut(&name) else {
                continue;
            };
            topic.is_ready = false;
            let Some(number) = topic.open.pop_front() else {
                continue;
            };
            let job = topic.lanes.get_mut(&number).and_then(|lane| {
                lane.is_held = true;
                lane.jobs.pop_front()
            });
            let Some((bytes, job)) = job else {
                continue;
            };
            topic.running += 1;
            topic.bytes -= bytes;
            self.bytes -= bytes;
            self.make_ready(&name);
            let topic = name;
            return Some((LaneKey { topic, number }, job));
        }
        None
    }

    pub fn done(&mut self, key: &LaneKey) {
        if let Some(topic) = self.topics.get_mut(&key.topic) {
            topic.running = topic.running.saturating_sub(1);
        }
        self.release(key);
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Bytes of all waiting jobs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets every job; they come back, to be dropped where no lock is held.
    pub fn clear(&mut self) -> Self {
        let empty = Self::new(self.max_bytes, self.max_running);
        std::mem::replace(self, empty)
    }

    fn make_ready(&mut self, name: &Arc<str>) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        if !topic.is_ready && !topic.open.is_empty() && topic.running < self.max_running {
            topic.is_ready = true;
            self.ready.push_back(Arc::clone(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(topic: &str, lane: i32) -> LaneKey {
        LaneKey {
            topic: topic.into(),
            number: (lane, 0),
        }
    }

    fn schedule(threads: usize) -> Schedule<u32> {
        Schedule::new(100 * MIN_BYTES, threads)
    }

    fn push(schedule: &mut Schedule<u32>, topic: &str, lane: i32, job: u32) {
        schedule
            .push(&key(topic, lane), 1, job, Place::Back)
            .expect("there is room");
    }

    #[test]
    fn a_lane_does_one_job_at_a_time_in_order() {
        let mut schedule = schedule(4);
        for job in 1..=3 {
            push(&mut schedule, "t", 0, job);
        }
        for job in 1..=3 {
            let (lane, found) = schedule.next().expect("a job");
            assert_eq!(found, job);
            assert!(schedule.next().is_none(), "its lane is held");
            assert!(!schedule.hold(&lane));
            schedule.done(&lane);
        }
        assert!(schedule.next().is_none() && schedule.topics.is_empty());
        assert_eq!(schedule.bytes(), 0);
    }

    #[test]
    fn whoever_holds_a_lane_comes_first_also_when_it_goes_on_elsewhere() {
        let mut schedule = schedule(4);
        assert!(schedule.hold(&key("t", 0)));
        push(&mut schedule, "t", 0, 2);
        assert!(schedule.next().is_none());
        schedule
            .push(&key("t", 0), 1, 1, Place::Front)
            .expect("there is room");
        assert!(schedule.next().is_none(), "it is held still");
        schedule.release(&key("t", 0));
        for job in 1..=2 {
            let (lane, found) = schedule.next().expect("a job");
            assert_eq!(found, job);
            schedule.done(&lane);
        }
        assert!(schedule.hold(&key("t", 0)));
        schedule.release(&key("t", 0));
        assert!(schedule.topics.is_empty());
    }

    #[test]
    fn topics_take_turns_and_none_has_all_threads() {
        let mut schedule = schedule(2);
        for job in 0..6 {
            push(&mut schedule, "flooded", i32::try_from(job).unwrap(), job);
        }
        push(&mut schedule, "quiet", 0, 100);
        push(&mut schedule, "quiet", 1, 101);
        let mut next = || {
            schedule
                .next()
                .map(|(lane, job)| (lane.topic.to_string(), job))
        };
        let of = |topic: &str, job| Some((topic.to_owned(), job));
        assert_eq!(next(), of("flooded", 0));
        assert_eq!(next(), of("quiet", 100));
        assert_eq!(next(), of("flooded", 1));
        assert_eq!(next(), of("quiet", 101));
        assert_eq!(next(), None, "two of a topic run at once, whatever waits");
        schedule.done(&key("flooded", 0));
        assert_eq!(schedule.next().map(|(_, job)| job), Some(2));
    }

    #[test]
    fn a_topic_takes_half_of_the_room_and_every_topic_has_room_for_one() {
        let mut schedule = schedule(2);
        let mut taken = |topic: &str| {
            let mut taken = 0;
            while schedule.push(&key(topic, 0), 1, 0, Place::Back).is_ok() {
                taken += 1;
            }
            taken
        };
        assert_eq!(taken("first"), 50);
        assert_eq!(taken("second"), 25);
        assert_eq!(taken("third"), 13);
        let huge = schedule.push(&key("fourth", 0), 1 << 30, 0, Place::Back);
        assert_eq!(huge, Ok(()));
        let more = schedule.push(&key("fourth", 0), 1, 7, Place::Back);
        assert_eq!(more, Err(7), "the job comes back");
    }
}
