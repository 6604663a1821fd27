//! Brokers, topics and leaders, as the cluster last told of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::MetadataResponse;

use crate::error::ErrorCode;
use crate::options::Endpoint;

/// A snapshot; a newer answer makes a new one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub brokers: BTreeMap<i32, Endpoint>,
    pub controller: Option<i32>,
    pub topics: BTreeMap<String, Arc<TopicMetadata>>,
}

/// One topic's partitions.
#[derive(Clone, Debug)]
pub struct TopicMetadata {
    pub internal: bool,
    /// Sorted by index.
    pub partitions: Vec<PartitionMetadata>,
    pub(crate) error: Option<ErrorCode>,
    pub(crate) learned: Instant,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionMetadata {
    pub index: i32,
    /// `None` while the partition has no leader.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync_replicas: Vec<i32>,
}

impl TopicMetadata {
    pub(crate) fn is_older_than(&self, age: Duration) -> bool {
        self.learned.elapsed() > age
    }

    pub(crate) fn partition(&self, index: i32) -> Option<&PartitionMetadata> {
        let position = self
            .partitions
            .binary_search_by_key(&index, |partition| partition.index)
            .ok()?;
        self.partitions.get(position)
    }
}

impl Metadata {
    /// The snapshot after an answer: its topics replace those of the same name, its brokers replace all.
    pub fn merged(&self, response: &MetadataResponse, now: Instant) -> Self {
        let mut topics = self.topics.clone();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            topics.insert(name.to_string(), Arc::new(topic_metadata(topic, now)));
        }
        Self {
            brokers: brokers(response),
            controller: node(response.controller_id.0),
            topics,
        }
    }
}

fn brokers(response: &MetadataResponse) -> BTreeMap<i32, Endpoint> {
    let known = response.brokers.iter().filter_map(|broker| {
        let port = u16::try_from(broker.port).ok().filter(|port| *port != 0)?;
        let host = broker.host.to_string();
        Some((broker.node_id.0, Endpoint { host, port }))
    });
    known.collect()
}

fn topic_metadata(
    topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic,
    now: Instant,
) -> TopicMetadata {
    let mut partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| PartitionMetadata {
            index: partition.partition_index,
            leader: node(partition.leader_id.0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
            in_sync_replicas: partition.isr_nodes.iter().map(|node| node.0).collect(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    TopicMetadata {
        internal: topic.is_internal,
        partitions,
        error: ErrorCode::try_from_code(topic.error_code),
        learned: now,
    }
}

/// The protocol's "no broker" is -1.
fn node(id: i32) -> Option<i32> {
    (id >= 0).then_some(id)
}
