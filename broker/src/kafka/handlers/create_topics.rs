//! CreateTopics (key 19), versions 2–7: topics with partitions and settings of their own.
//!
//! Needs CREATE on the cluster or CREATE on each topic. Each topic has an outcome and a message of its own; a topic is
//! there for every other request when it is answered, so the timeout has nothing to bound. This is a single node: the
//! replication factor is 1 (or −1, the default), and an explicit assignment may name this node alone. A topic that is named
//! twice is refused once. `validate_only` checks and creates nothing.
//! Version 4 lets the broker choose the partition count (−1), 5 answers with partitions and settings (KIP-525; to those with
//! DESCRIBE_CONFIGS on the topic) and is flexible, 7 answers with the topic's id (KIP-516).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, CreateTopicsResponse, TopicName};
use uuid::Uuid;

use crate::catalog::{Operation, ResourceType};
use crate::config::TopicConfig;
use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::kafka::resources;
use crate::kafka::settings::{refusal, topic_settings};
use crate::kafka::topics::{Creator, NewTopic, TopicError};

pub const VERSIONS: RangeInclusive<i16> = 2..=7;

/// "The broker decides", for partitions and replicas.
const DEFAULT: i32 = -1;

pub async fn handle(context: &Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let names = request.topics.iter().map(|topic| topic.name.clone());
    let twice = resources::duplicates(names);
    let topics = resources::distinct(request.topics, |topic| topic.name.clone());
    let names = names_to_create(context, &topics);
    let mut results = Vec::with_capacity(topics.len());
    for (topic, name) in topics.into_iter().zip(names) {
        let outcome = match name {
            Ok(_) if twice.contains(&topic.name) => Err(refusal(
                ResponseError::InvalidRequest,
                format!("topic {} is named more than once", &*topic.name),
            )),
            Ok(name) => create(context, name, &topic, request.validate_only).await,
            Err(code) => Err(refusal(code, refusal_of_name(code, &topic.name))),
        };
        results.push(result(topic.name, outcome));
    }
    CreateTopicsResponse::default().with_topics(results)
}

fn names_to_create(
    context: &Context,
    topics: &[CreatableTopic],
) -> Vec<Result<String, ResponseError>> {
    let mut names: Vec<_> = topics
        .iter()
        .map(|topic| context.topic_in(&topic.name))
        .collect();
    if !context.authorize_cluster(Operation::Create) {
        resources::authorize_topics(context, Operation::Create, &mut names);
    }
    names
}

fn refusal_of_name(code: ResponseError, name: &str) -> String {
    match code {
        ResponseError::TopicAuthorizationFailed => {
            format!("topic {name}: CREATE is allowed neither on it nor on the cluster")
        }
        _ => format!("{name} is not a legal topic name"),
    }
}

/// What a topic is, or would be.
struct Created {
    id: Uuid,
    partitions: i32,
    /// `None`: the session may not see them.
    configs: Option<Vec<CreatableTopicConfigs>>,
}

async fn create(
    context: &Context,
    name: String,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<Created, TopicError> {
    let topics = &context.services.topics;
    let mut new = new_topic(name, topic, BrokerId(context.services.config.broker.id))?;
    new.creator = Some(Creator {
        principal: context.principal().to_string(),
        // Where everybody may do everything, everybody may also make room.
        has_share: !context.is_always_allowed(),
    });
    let may_see = context.authorize(Operation::DescribeConfigs, ResourceType::Topic, &new.name);
    let defaults = &context.services.config.topic_defaults;
    if validate_only {
        let (config, partitions) = topics.validate(&new)?;
        return Ok(Created {
            id: Uuid::nil(),
            partitions,
            configs: may_see.then(|| configs(&config, &new.configs, defaults)),
        });
    }
    let handle = topics.create(new).await?;
    Ok(Created {
        id: handle.topic.id.0,
        partitions: handle.topic.partitions,
        configs: may_see.then(|| configs(&handle.config, &handle.topic.configs, defaults)),
    })
}

/// Reads a wish: the counts or the assignment, and the settings.
fn new_topic(name: String, topic: &CreatableTopic, node: BrokerId) -> Result<NewTopic, TopicError> {
    let invalid = |message: &str| Err(refusal(ResponseError::InvalidRequest, message));
    let factor = i32::from(topic.replication_factor);
    let partitions = if topic.assignments.is_empty() {
        if factor != DEFAULT && factor != 1 {
            return Err(refusal(
                ResponseError::InvalidReplicationFactor,
                format!("replication factor {factor}: this is a single node, use 1 or -1"),
            ));
        }
        if topic.num_partitions != DEFAULT && topic.num_partitions < 1 {
            return Err(refusal(
                ResponseError::InvalidPartitions,
                format!(
                    "{} partitions: use 1 or more, or -1 for the default",
                    topic.num_partitions
                ),
            ));
        }
        topic.num_partitions
    } else if topic.num_partitions != DEFAULT || factor != DEFAULT {
        return invalid("with an assignment, partitions and replication factor must both be -1");
    } else {
        assigned_partitions(&topic.assignments, node)?
    };
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            return Err(refusal(
                ResponseError::InvalidConfig,
                format!("topic setting {}: null is no value", &*config.name),
            ));
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    Ok(NewTopic {
        name,
        partitions,
        configs,
        creator: None,
    })
}

/// The partition count of an assignment: each partition once, counted from 0, on this node.
fn assigned_partitions(
    assignments: &[CreatableReplicaAssignment],
    node: BrokerId,
) -> Result<i32, TopicError> {
    let mut indexes: Vec<i32> = assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let consecutive = indexes
        .iter()
        .zip(0..)
        .all(|(index, place)| *index == place);
    if !consecutive || assignments.iter().any(|a| a.broker_ids != [node]) {
        return Err(refusal(
            ResponseError::InvalidReplicaAssignment,
            format!(
                "an assignment must have partitions 0, 1, 2, …, each on node {} alone",
                node.0
            ),
        ));
    }
    i32::try_from(indexes.len()).map_err(|_| {
        refusal(
            ResponseError::InvalidPartitions,
            "too many partitions are assigned",
        )
    })
}

fn configs(
    config: &TopicConfig,
    own: &BTreeMap<String, String>,
    defaults: &TopicConfig,
) -> Vec<CreatableTopicConfigs> {
    let settings = topic_settings(config, own, defaults).into_iter();
    settings
        .map(|setting| {
            CreatableTopicConfigs::default()
                .with_name(setting.entry.name.into())
                .with_value(Some(setting.entry.value.into()))
                .with_config_source(setting.source)
        })
        .collect()
}

fn result(name: TopicName, outcome: Result<Created, TopicError>) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(name);
    match outcome {
        Ok(created) => match created.configs {
            Some(configs) => result
                .with_num_partitions(created.partitions)
                .with_replication_factor(1)
                .with_configs(Some(configs)),
            None => result
                .with_configs(None)
                .with_topic_config_error_code(ResponseError::TopicAuthorizationFailed.code()),
        }
        .with_error_message(None)
        .with_topic_id(created.id),
        Err(error) => result
            .with_error_code(error.code.code())
            .with_error_message(message(error.message))
            .with_configs(None),
    }
}

#[cfg(test)]
mod tests;
