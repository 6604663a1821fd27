//! Metadata: versions 0 to 13. Names this node under the address that the listener advertises, and topics with their
//! partitions, all led here.
//!
//! - Version 0 takes an empty list for all topics, later ones null; version 10 and newer may ask by id (12: without a name).
//! - A named topic that does not exist is created with the defaults when the broker and the request allow it (from version 4
//!   the request says) and the principal may: its partitions are in the same answer, so no retry is needed.
//!   One principal's are bounded by time (LEADER_NOT_AVAILABLE: clients ask again) and in number (POLICY_VIOLATION).
//! - A topic that the principal may not describe looks unknown when it was not named, and unauthorized when it was.
//!
//! Left out: racks and offline replicas (one node).

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::catalog::{Operation, ResourceType};
use crate::kafka::ResponseError;
use crate::kafka::context::{CLUSTER, Context};
use crate::kafka::permission::authorized_operations;
use crate::kafka::room::ALLOCATION;
use crate::kafka::topics::{Creator, NewTopic, TopicHandle};
use crate::types::TopicId;

pub const VERSIONS: RangeInclusive<i16> = 0..=13;

/// What a partition takes in an answer: itself and its two lists of nodes.
const PARTITION_BYTES: usize = size_of::<MetadataResponsePartition>() + 2 * ALLOCATION;

pub async fn handle(context: &Context, request: MetadataRequest) -> MetadataResponse {
    let node = BrokerId(context.services.config.broker.id);
    let (host, port) = &context.session.info.advertised;
    let broker = MetadataResponseBroker::default()
        .with_node_id(node)
        .with_host(StrBytes::from_string(host.to_string()))
        .with_port(i32::from(*port));
    let mut response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(
            context.services.config.broker.cluster_id.clone(),
        )))
        .with_controller_id(node);
    if context.version == 0 {
        response.cluster_id = None;
        response.controller_id = BrokerId(-1);
    } else if context.version == 1 {
        response.cluster_id = None;
    }
    let operations = request.include_topic_authorized_operations;
    response.topics = match &request.topics {
        None => all_topics(context, operations),
        Some(topics) if topics.is_empty() && context.version == 0 => {
            all_topics(context, operations)
        }
        Some(topics) => {
            let create = context.version < 4 || request.allow_auto_topic_creation;
            let mut answers = Vec::with_capacity(topics.len());
            for topic in topics {
                answers.push(named_topic(context, topic, create, operations).await);
            }
            answers
        }
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations =
            authorized_operations(context, ResourceType::Cluster, CLUSTER);
    }
    response
}

fn all_topics(context: &Context, operations: bool) -> Vec<MetadataResponseTopic> {
    let all = context.services.topics.all();
    let names: Vec<&str> = all
        .iter()
        .map(|handle| handle.topic.name.as_str())
        .collect();
    let allowed = context.authorize_each(Operation::Describe, ResourceType::Topic, &names);
    let visible = all.iter().zip(allowed).filter(|(_, allowed)| *allowed);
    let answer = |(handle, _): (&Arc<TopicHandle>, bool)| {
        let name = context.topic_out(handle.topic.name.as_str())?;
        Some(describe(context, handle, name, operations))
    };
    visible.filter_map(answer).collect()
}

async fn named_topic(
    context: &Context,
    wanted: &MetadataRequestTopic,
    create: bool,
    operations: bool,
) -> MetadataResponseTopic {
    let Some(name) = &wanted.name else {
        return topic_by_id(context, wanted.topic_id, operations);
    };
    let refuse = |error: ResponseError| {
        let refused = MetadataResponseTopic::default()
            .with_name(Some(name.clone()))
            .with_error_code(error.code());
        refused.with_topic_id(wanted.topic_id)
    };
    let inner = match context.topic_in(name) {
        Ok(inner) => inner,
        Err(error) => return refuse(error),
    };
    if !context.authorize(Operation::Describe, ResourceType::Topic, &inner) {
        return refuse(ResponseError::TopicAuthorizationFailed);
    }
    if let Some(handle) = context.services.topics.get(&inner) {
        return describe(context, &handle, name.0.clone(), operations);
    }
    if !create || !context.services.config.broker.auto_create_topics {
        return refuse(ResponseError::UnknownTopicOrPartition);
    }
    if !may_create(context, &inner) {
        return refuse(ResponseError::TopicAuthorizationFailed);
    }
    // Clients wait for a leader and ask again, as they do in Kafka while a topic is being created.
    if !context.may_auto_create_now() {
        return refuse(ResponseError::LeaderNotAvailable);
    }
    let creator = Creator {
        principal: context.principal().to_string(),
        has_share: true,
    };
    let new = NewTopic {
        name: inner.clone(),
        partitions: -1,
        configs: Default::default(),
        creator: Some(creator),
    };
    match context.services.topics.create(new).await {
        Ok(handle) => describe(context, &handle, name.0.clone(), operations),
        Err(error) if error.code == ResponseError::TopicAlreadyExists => {
            match context.services.topics.get(&inner) {
                Some(handle) => describe(context, &handle, name.0.clone(), operations),
                None => refuse(ResponseError::LeaderNotAvailable),
            }
        }
        Err(error) => refuse(error.code),
    }
}

fn may_create(context: &Context, name: &str) -> bool {
    context.authorize_cluster(Operation::Create)
        || context.authorize(Operation::Create, ResourceType::Topic, name)
}

fn topic_by_id(context: &Context, id: Uuid, operations: bool) -> MetadataResponseTopic {
    let refuse = |error: ResponseError| {
        MetadataResponseTopic::default()
            .with_name(None)
            .with_topic_id(id)
            .with_error_code(error.code())
    };
    let Some(handle) = context.services.topics.get_by_id(TopicId(id)) else {
        return refuse(ResponseError::UnknownTopicId);
    };
    let name = handle.topic.name.as_str();
    match context.topic_out(name) {
        Some(out) if context.authorize(Operation::Describe, ResourceType::Topic, name) => {
            describe(context, &handle, out, operations)
        }
        _ => refuse(ResponseError::UnknownTopicId),
    }
}

fn describe(
    context: &Context,
    handle: &TopicHandle,
    name: StrBytes,
    operations: bool,
) -> MetadataResponseTopic {
    let partitions = usize::try_from(handle.topic.partitions).unwrap_or(usize::MAX);
    let room = partitions.saturating_mul(PARTITION_BYTES);
    if let Err(error) = context.take_room(size_of::<MetadataResponseTopic>() + room) {
        return MetadataResponseTopic::default()
            .with_name(Some(TopicName(name)))
            .with_error_code(error.code());
    }
    let node = BrokerId(context.services.config.broker.id);
    let partition = |index: i32| {
        let partition = MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node]);
        if context.version >= 7 {
            partition.with_leader_epoch(0)
        } else {
            partition
        }
    };
    let mut topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(name)))
        .with_partitions((0..handle.topic.partitions).map(partition).collect());
    if context.version >= 1 {
        topic.is_internal = handle.topic.internal;
    }
    if context.version >= 10 {
        topic.topic_id = handle.topic.id.0;
    }
    if operations && context.version >= 8 {
        topic.topic_authorized_operations =
            authorized_operations(context, ResourceType::Topic, handle.topic.name.as_str());
    }
    topic
}
