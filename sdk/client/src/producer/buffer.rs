//! Records that wait to be sent, batch by batch.
//!
//! Each partition has a queue of batches; records join the last one, the *open* batch, until it is full. The sender
//! takes batches from the front when they are *ready*: full, old enough (linger), or flushed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::delivery::{Delivery, Outcome};
use super::partitioner::{Sticky, partition_of_key};
use crate::cluster::metadata::TopicMetadata;
use crate::error::{Error, Result};
use crate::records::{BatchBuilder, Record, record_size_bound};

#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub id: u64,
    pub builder: BatchBuilder,
    pub outcome: Arc<Outcome>,
    pub created: Instant,
    /// Bytes of the producer's buffer that its records hold.
    pub reserved: usize,
    full: bool,
}

#[derive(Debug)]
struct TopicQueue {
    sticky: Sticky,
    partitions: BTreeMap<i32, VecDeque<OpenBatch>>,
}

#[derive(Debug)]
pub(crate) struct Buffer {
    batch_bytes: usize,
    linger: Duration,
    topics: HashMap<Arc<str>, TopicQueue>,
    /// Batches without a fate, here or with the sender.
    unsettled: BTreeMap<u64, Arc<Outcome>>,
    next_id: u64,
    /// Calls that want everything sent at once.
    pub flushing: usize,
    pub closed: bool,
}

/// What appending led to.
pub(crate) struct Appended {
    pub delivery: Delivery,
    /// The sender has something new to wait for or to send.
    pub wake: bool,
}

impl Buffer {
    pub fn new(batch_bytes: usize, linger: Duration) -> Self {
        Self {
            batch_bytes,
            linger,
            topics: HashMap::new(),
            unsettled: BTreeMap::new(),
            next_id: 0,
            flushing: 0,
            closed: false,
        }
    }

    /// Appends a record of at most `reserved` bytes.
    pub fn append(
        &mut self,
        record: &Record,
        topic: &TopicMetadata,
        reserved: usize,
        now: (Instant, i64),
    ) -> Result<Appended> {
        if self.closed {
            return Err(Error::Closed);
        }
        let batch_bytes = self.batch_bytes;
        if !self.topics.contains_key(&record.topic) {
            let queue = TopicQueue {
                sticky: Sticky::new(getrandom::u64().unwrap_or(1)),
                partitions: BTreeMap::new(),
            };
            self.topics.insert(record.topic.clone(), queue);
        }
        let Some(queue) = self.topics.get_mut(&record.topic) else {
            return Err(Error::Closed);
        };
        let partition = queue.choose(record, topic, reserved, batch_bytes)?;
        let batches = queue.partitions.entry(partition).or_default();
        if let Some(open) = batches.back_mut()
            && !open.fits(reserved, batch_bytes)
        {
            open.full = true;
        }
        let mut wake = false;
        if batches.back().is_none_or(|open| open.full) {
            let outcome = Arc::<Outcome>::default();
            self.unsettled.insert(self.next_id, outcome.clone());
            batches.push_back(OpenBatch {
                id: self.next_id,
                builder: BatchBuilder::new(),
                outcome,
                created: now.0,
                reserved: 0,
                full: false,
            });
            self.next_id += 1;
            wake = true;
        }
        let Some(open) = batches.back_mut() else {
            return Err(Error::Closed);
        };
        let timestamp = record.timestamp.unwrap_or(now.1);
        let index = open.builder.push(
            timestamp,
            record.key.as_ref(),
            record.value.as_ref(),
            &record.headers,
        );
        open.reserved += reserved;
        Ok(Appended {
            wake,
            delivery: Delivery {
                outcome: open.outcome.clone(),
                topic: record.topic.clone(),
                partition,
                index,
                timestamp,
            },
        })
    }

    /// Takes the batch at the front of a partition, when it is ready.
    pub fn take_ready(&mut self, topic: &str, partition: i32, now: Instant) -> Option<OpenBatch> {
        let hurry = self.flushing > 0 || self.closed;
        let linger = self.linger;
        let queue = self.topics.get_mut(topic)?.partitions.get_mut(&partition)?;
        let ready = hurry || queue.len() > 1 || queue.front()?.is_ready(now, linger);
        if ready { queue.pop_front() } else { None }
    }

    /// Partitions that hold batches, and when the front one is ready by age.
    pub fn waiting(&self) -> Vec<(Arc<str>, i32, Instant)> {
        let hurry = self.flushing > 0 || self.closed;
        let mut waiting = Vec::new();
        for (topic, queue) in &self.topics {
            for (partition, batches) in &queue.partitions {
                let Some(front) = batches.front() else {
                    continue;
                };
                let now_ready = hurry || batches.len() > 1 || front.full;
                let ready_at = if now_ready {
                    front.created
                } else {
                    front.created + self.linger
                };
                waiting.push((topic.clone(), *partition, ready_at));
            }
        }
        waiting
    }

    /// Takes batches that were created before `oldest`, of any partition; with `None` all.
    pub fn take_expired(&mut self, oldest: Option<Instant>) -> Vec<(Arc<str>, i32, OpenBatch)> {
        let mut expired = Vec::new();
        for (topic, queue) in &mut self.topics {
            for (partition, batches) in &mut queue.partitions {
                while let Some(batch) = batches
                    .pop_front_if(|batch| oldest.is_none_or(|oldest| batch.created <= oldest))
                {
                    expired.push((topic.clone(), *partition, batch));
                }
            }
        }
        expired
    }

    pub fn settled(&mut self, id: u64) {
        self.unsettled.remove(&id);
    }

    pub fn unsettled(&self) -> Vec<Arc<Outcome>> {
        self.unsettled.values().cloned().collect()
    }

    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }
}

impl OpenBatch {
    fn fits(&self, bytes: usize, batch_bytes: usize) -> bool {
        !self.full && (self.builder.is_empty() || self.builder.bytes() + bytes <= batch_bytes)
    }

    fn is_ready(&self, now: Instant, linger: Duration) -> bool {
        self.full || now >= self.created + linger
    }
}

impl TopicQueue {
    fn choose(
        &mut self,
        record: &Record,
        topic: &TopicMetadata,
        bytes: usize,
        batch_bytes: usize,
    ) -> Result<i32> {
        let count = topic.partitions.len() as i32;
        if let Some(partition) = record.partition {
            return if topic.partition(partition).is_some() {
                Ok(partition)
            } else {
                Err(Error::InvalidInput(format!(
                    "topic {} has no partition {partition}: it has {count}, from 0",
                    record.topic
                )))
            };
        }
        if let Some(key) = &record.key {
            return Ok(partition_of_key(key, count));
        }
        if let Some(current) = self.sticky.current()
            && let Some(open) = self.partitions.get(&current).and_then(VecDeque::back)
            && open.fits(bytes, batch_bytes)
        {
            return Ok(current);
        }
        let led = topic
            .partitions
            .iter()
            .filter(|partition| partition.leader.is_some());
        let mut candidates: Vec<_> = led.map(|partition| partition.index).collect();
        if candidates.is_empty() {
            candidates.extend(0..count);
        }
        Ok(self.sticky.next(&candidates))
    }
}

/// Bytes of the producer's buffer that a record takes.
pub(crate) fn reservation(record: &Record) -> usize {
    record_size_bound(record.key.as_ref(), record.value.as_ref(), &record.headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::metadata::PartitionMetadata;

    fn topic(partitions: i32) -> TopicMetadata {
        let partition = |index| PartitionMetadata {
            index,
            leader: Some(0),
            leader_epoch: 0,
            replicas: vec![0],
            in_sync_replicas: vec![0],
        };
        TopicMetadata {
            internal: false,
            partitions: (0..partitions).map(partition).collect(),
            error: None,
            learned: std::time::Instant::now(),
        }
    }

    fn append(buffer: &mut Buffer, record: Record, now: Instant) -> Appended {
        let reserved = reservation(&record);
        buffer
            .append(&record, &topic(3), reserved, (now, 7))
            .unwrap()
    }

    #[test]
    fn a_batch_is_ready_when_full_old_or_flushed() {
        let now = Instant::now();
        let linger = Duration::from_millis(5);
        let record = || Record::to("t").partition(1).value(vec![0; 400]);
        let mut buffer = Buffer::new(1_000, linger);
        assert!(append(&mut buffer, record(), now).wake);
        assert!(
            !append(&mut buffer, record(), now).wake,
            "the open batch takes it"
        );
        assert!(buffer.take_ready("t", 1, now).is_none());
        assert!(
            append(&mut buffer, record(), now).wake,
            "a second batch begins"
        );
        assert_eq!(buffer.take_ready("t", 1, now).unwrap().builder.count(), 2);
        assert!(buffer.take_ready("t", 1, now).is_none());
        assert_eq!(buffer.waiting()[0].2, now + linger);
        assert!(buffer.take_ready("t", 1, now + linger).is_some());
        append(&mut buffer, record(), now);
        buffer.flushing = 1;
        assert!(buffer.take_ready("t", 1, now).is_some());
    }

    #[test]
    fn records_without_a_key_share_a_batch_and_then_move_on() {
        let now = Instant::now();
        let mut buffer = Buffer::new(1_000, Duration::ZERO);
        let record = || Record::to("t").value(vec![0; 100]);
        let first = append(&mut buffer, record(), now).delivery.partition;
        for _ in 0..5 {
            assert_eq!(append(&mut buffer, record(), now).delivery.partition, first);
        }
        buffer.take_ready("t", first, now);
        assert_ne!(append(&mut buffer, record(), now).delivery.partition, first);
    }

    #[test]
    fn an_impossible_partition_is_refused() {
        let mut buffer = Buffer::new(1_000, Duration::ZERO);
        let record = Record::to("t").partition(3);
        let error = buffer
            .append(&record, &topic(3), 50, (Instant::now(), 0))
            .err()
            .unwrap();
        assert!(error.to_string().contains("no partition 3"), "{error}");
    }

    #[test]
    fn old_batches_are_taken_back() {
        let now = Instant::now();
        let mut buffer = Buffer::new(1_000, Duration::ZERO);
        append(&mut buffer, Record::to("t").partition(0), now);
        append(
            &mut buffer,
            Record::to("t").partition(1),
            now + Duration::from_secs(9),
        );
        assert_eq!(buffer.take_expired(Some(now)).len(), 1);
        assert_eq!(buffer.take_expired(None).len(), 1);
    }
}
