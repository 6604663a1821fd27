//! The model of the broker: what must be true of it, given what it has answered.
//!
//! An answer that never came leaves a choice of truths; the auditor's next look narrows it again.

mod compaction;
mod group;
mod partition;
mod producer;
mod topic;
pub mod transaction;
pub mod transactional;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use group::Committed;
pub use partition::{Looked, Partition};
pub use producer::{Producer, Unanswered};
pub use topic::{DAMAGED_RECORDS, Kind, Presence, Setting, Topic};

use tidegate_checker::Anomaly;

use self::transaction::Transactions;
use crate::recording::{self, Recording};

/// Kafka's error codes that the simulator knows.
pub mod code {
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const NOT_LEADER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub const POLICY_VIOLATION: i16 = 44;
    pub const OUT_OF_ORDER_SEQUENCE: i16 = 45;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
}

/// Where a group keeps one position.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    pub group: String,
    pub topic: String,
    pub partition: i32,
}

/// One partition of one incarnation of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target {
    pub topic: String,
    pub incarnation: u64,
    pub partition: i32,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Shadow {
    pub topics: BTreeMap<String, Topic>,
    pub positions: BTreeMap<Position, Committed>,
    pub producers: Vec<Producer>,
    pub transactions: Transactions,
    /// Producer ids that were given.
    pub producer_ids: BTreeSet<i64>,
    /// A call was made to fail, or the disk was full: requests may be refused for it.
    pub had_fault: bool,
    /// A call was made to fail: partitions may have stopped.
    pub may_stop: bool,
    /// Power was lost, or a failed call made the cache as good as lost.
    pub had_loss: bool,
    /// The broker's time.
    pub now_ms: i64,
    /// Files of which a bit has flipped on the disk.
    pub flipped: BTreeSet<PathBuf>,
    next_number: u64,
    next_incarnation: u64,
    correlation: i32,
    /// What the clients saw, for the checker.
    pub recording: Recording,
    /// How often each thing happened, for the report.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Shadow {
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// So many numbers that no record has carried yet.
    pub fn numbers(&mut self, count: usize) -> Vec<u64> {
        let first = self.next_number;
        self.next_number += count as u64;
        (first..self.next_number).collect()
    }

    pub fn incarnation(&mut self) -> u64 {
        self.next_incarnation += 1;
        self.next_incarnation
    }

    pub fn correlation(&mut self) -> i32 {
        self.correlation += 1;
        self.correlation
    }

    /// The topic, if it is still the same one.
    pub fn same(&mut self, target: &Target) -> Option<&mut Topic> {
        let topic = self.topics.get_mut(&target.topic)?;
        (topic.incarnation == target.incarnation).then_some(topic)
    }

    /// The partition, if its topic is still the same one.
    pub fn partition(&mut self, target: &Target) -> Option<&mut Partition> {
        let index = usize::try_from(target.partition).ok()?;
        self.same(target)?.partitions.get_mut(index)
    }

    /// Every partition of the topics that are there for certain.
    pub fn targets(&self) -> Vec<Target> {
        let present = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.presence == Presence::Present);
        present
            .flat_map(|(name, topic)| {
                (0..topic.partitions.len()).map(|index| Target {
                    topic: name.clone(),
                    incarnation: topic.incarnation,
                    partition: i32::try_from(index).unwrap_or(0),
                })
            })
            .collect()
    }

    /// What the checker finds in what the clients saw. `is_over`: everything was read to its end.
    pub fn judge(&mut self, is_over: bool) -> Vec<Anomaly> {
        let mut starts = BTreeMap::new();
        for target in self.targets() {
            if let Some(topic) = self.same(&target)
                && topic.kind == Kind::Ordinary
                && !topic.ever_os
                && let Some(partition) = self.partition(&target)
            {
                starts.insert(recording::partition_of(&target), partition.ends().0);
            }
        }
        let anomalies = self.recording.judge(&starts, is_over);
        self.counts.insert("judged", self.recording.judged);
        anomalies
    }

    /// Whether what a reader sees of a partition tells the outcome of transactions: not where markers may have been lost that
    /// counted as durable.
    pub fn tells_outcomes(&mut self, target: &Target) -> bool {
        let had_loss = self.had_loss;
        self.same(target)
            .is_some_and(|topic| !(topic.ever_os && had_loss))
    }

    /// The power was lost, or a failed call may have made the cache worthless.
    pub fn lose_what_is_not_held(&mut self) {
        self.had_loss = true;
        let also_markers = self.may_stop || self.topics.values().any(|topic| topic.ever_os);
        self.transactions.lose_power(also_markers);
        for topic in self.topics.values_mut() {
            topic
                .partitions
                .iter_mut()
                .for_each(Partition::lose_what_is_not_held);
        }
    }

    /// A topic is gone, with the groups' positions in it.
    pub fn forget_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.positions.retain(|position, _| position.topic != name);
        self.transactions.ledger.forget_topic(name);
        for producer in &mut self.producers {
            if producer
                .target
                .as_ref()
                .is_some_and(|target| target.topic == name)
            {
                producer.reset();
            }
        }
    }
}
