//! OffsetDelete (key 47; KIP-496), version 0: forgets some offsets of a group, which may have members.
//!
//! Needs DELETE on the group and READ on each topic. Offsets of a topic that a member subscribes to stay, with
//! GROUP_SUBSCRIBED_TO_TOPIC; where members do not say what they read (Kafka Connect) nothing is forgotten, with NON_EMPTY_GROUP. An
//! offset that was never committed is forgotten too. A partition that is named twice is answered once. Durable when answered.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};

use crate::catalog::Operation;
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, group_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=0;

/// Partitions by the topic's name as the client wrote it, with the broker's name or why it cannot be used.
type Wanted = Vec<(TopicName, Result<String, ResponseError>, Vec<i32>)>;

pub async fn handle(context: &Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = match resources::group(context, Operation::Delete, &request.group_id) {
        Ok(group) => group,
        Err(code) => return refused(code),
    };
    let wanted = wanted(context, request);
    let keys: HashSet<(String, i32)> = wanted
        .iter()
        .filter_map(|(_, name, partitions)| Some((name.as_ref().ok()?, partitions)))
        .flat_map(|(name, partitions)| partitions.iter().map(|index| (name.clone(), *index)))
        .collect();
    // What nobody may delete says nothing of the group.
    let read = match keys.is_empty() {
        true => Ok(BTreeSet::new()),
        false => {
            let coordinator = &context.services.coordinator;
            coordinator.delete_offsets(&group, &keys).await
        }
    };
    match read {
        Ok(read) => response(wanted, &read),
        Err(error) => refused(group_code(&error)),
    }
}

fn wanted(context: &Context, request: OffsetDeleteRequest) -> Wanted {
    let names = request.topics.iter().map(|topic| topic.name.as_str());
    let names = resources::topics(context, Operation::Read, names);
    let known = |name: String| match context.services.topics.get(&name) {
        Some(_) => Ok(name),
        None => Err(ResponseError::UnknownTopicOrPartition),
    };
    let topics = request.topics.into_iter().zip(names);
    topics
        .map(|(topic, name)| {
            let indexes = topic.partitions.iter().map(|it| it.partition_index);
            (topic.name, name.and_then(known), indexes.collect())
        })
        .collect()
}

fn response(wanted: Wanted, read: &BTreeSet<String>) -> OffsetDeleteResponse {
    let topics = wanted.into_iter().map(|(topic, name, indexes)| {
        let outcome = name.and_then(|name| match read.contains(&name) {
            true => Err(ResponseError::GroupSubscribedToTopic),
            false => Ok(()),
        });
        let partitions = indexes.into_iter().map(|index| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code_of(&outcome))
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic)
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

fn refused(code: ResponseError) -> OffsetDeleteResponse {
    OffsetDeleteResponse::default().with_error_code(code.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn outcomes_encode_in_every_version() {
        for version in VERSIONS {
            let topic = |name: &'static str| TopicName(name.into());
            let wanted = vec![
                (topic("left"), Ok("left".to_owned()), vec![0, 1]),
                (topic("read"), Ok("read".to_owned()), vec![2]),
                (
                    topic("other"),
                    Err(ResponseError::TopicAuthorizationFailed),
                    vec![3],
                ),
            ];
            let read = BTreeSet::from(["read".to_owned()]);
            let seen = encodes(version, &response(wanted, &read));
            let codes: Vec<i16> = seen
                .topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(|partition| partition.error_code)
                .collect();
            assert_eq!(codes, [0, 0, 86, 29]);
            encodes(version, &refused(ResponseError::GroupIdNotFound));
        }
    }
}
