//! OffsetFetch (key 9), versions 1–9: what groups have committed.
//!
//! Needs DESCRIBE on each group and on each topic. A partition without a committed offset is −1 without an error. No topic
//! list (null, from version 2) means every topic that the session may see. A group's refusal is told by each partition in
//! version 1, by the response from 2 on, by the group from 8 on, where one request asks for several groups (KIP-709).
//! With `require_stable` a partition whose offset may change by a transaction that is open is UNSTABLE_OFFSET_COMMIT, and its
//! client asks again (KIP-447).
//! Version 3 adds the throttle time, 5 the leader epoch (KIP-320), 6 is flexible, 7 adds `require_stable`, 9 the member id and
//! epoch (KIP-848). Left out: member id and epoch are not looked at, as classic groups do not.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

use crate::catalog::Operation;
use crate::coordinator::{CommittedOffset, GroupError};
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, group_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 1..=9;

const RESPONSE_CODE_FROM: i16 = 2;
const SEVERAL_GROUPS_FROM: i16 = 8;

/// Topics with the partitions that were asked for.
type Asked = Vec<(TopicName, Vec<i32>)>;
type Outcome = Result<Vec<OffsetFetchResponseTopics>, ResponseError>;

pub async fn handle(context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if context.version >= SEVERAL_GROUPS_FROM {
        let groups = request.groups.into_iter().map(|group| {
            let asked = group.topics.map(|topics| {
                let topics = topics.into_iter();
                topics
                    .map(|topic| (topic.name, topic.partition_indexes))
                    .collect()
            });
            let outcome = fetch(context, &group.group_id, asked.as_ref(), require_stable);
            let code = code_of(&outcome);
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id)
                .with_topics(outcome.unwrap_or_default())
                .with_error_code(code)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let asked: Option<Asked> = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    let outcome = fetch(context, &request.group_id, asked.as_ref(), require_stable);
    one_group(context.version, asked.unwrap_or_default(), outcome)
}

fn fetch(context: &Context, group: &str, asked: Option<&Asked>, require_stable: bool) -> Outcome {
    let group = resources::group(context, Operation::Describe, group)?;
    let topics = match asked {
        Some(asked) => some_topics(context, &group, asked, require_stable),
        None => every_topic(context, &group, require_stable),
    }?;
    context.take_room(topics.iter().map(size).sum())?;
    Ok(topics)
}

/// What a topic's partitions take in the answer, with the metadata that clients put beside their offsets.
fn size(topic: &OffsetFetchResponseTopics) -> usize {
    let metadata = |partition: &OffsetFetchResponsePartitions| {
        let metadata = partition.metadata.as_ref();
        size_of::<OffsetFetchResponsePartitions>() + metadata.map_or(0, |metadata| metadata.len())
    };
    size_of::<OffsetFetchResponseTopics>() + topic.partitions.iter().map(metadata).sum::<usize>()
}

/// The partitions that are held back.
fn unstable(
    context: &Context,
    group: &str,
    partitions: Option<&[(String, i32)]>,
    require_stable: bool,
) -> HashSet<(String, i32)> {
    match require_stable {
        true => context
            .services
            .coordinator
            .unstable_offsets(group, partitions),
        false => HashSet::new(),
    }
}

fn unstable_partition(index: i32) -> OffsetFetchResponsePartitions {
    partition(index, None).with_error_code(ResponseError::UnstableOffsetCommit.code())
}

fn some_topics(context: &Context, group: &str, asked: &Asked, require_stable: bool) -> Outcome {
    let names = asked.iter().map(|(name, _)| name.as_str());
    let names = resources::topics(context, Operation::Describe, names);
    let wanted: Vec<(String, i32)> = asked
        .iter()
        .zip(&names)
        .filter_map(|((_, partitions), name)| Some((partitions, name.as_ref().ok()?)))
        .flat_map(|(partitions, name)| partitions.iter().map(|index| (name.clone(), *index)))
        .collect();
    // Asked first: what ends in between shows its outcome.
    let unstable = unstable(context, group, Some(&wanted), require_stable);
    let committed: HashMap<(String, i32), CommittedOffset> =
        committed(context, group, Some(&wanted))?
            .into_iter()
            .filter_map(|(topic, index, offset)| Some(((topic, index), offset?)))
            .collect();
    let topics = asked
        .iter()
        .zip(names)
        .map(|((asked_name, indexes), name)| {
            let partitions = indexes.iter().map(|index| match &name {
                Ok(name) => match (name.clone(), *index) {
                    place if unstable.contains(&place) => unstable_partition(*index),
                    place => partition(*index, committed.get(&place)),
                },
                Err(code) => partition(*index, None).with_error_code(code.code()),
            });
            OffsetFetchResponseTopics::default()
                .with_name(asked_name.clone())
                .with_partitions(partitions.collect())
        });
    Ok(topics.collect())
}

fn every_topic(context: &Context, group: &str, require_stable: bool) -> Outcome {
    let unstable = unstable(context, group, None, require_stable);
    let mut by_topic: HashMap<String, Vec<OffsetFetchResponsePartitions>> = HashMap::new();
    for (topic, index) in &unstable {
        let partitions = by_topic.entry(topic.clone()).or_default();
        partitions.push(unstable_partition(*index));
    }
    for (topic, index, offset) in committed(context, group, None)? {
        let place = (topic, index);
        if let Some(offset) = offset
            && !unstable.contains(&place)
        {
            let partitions = by_topic.entry(place.0).or_default();
            partitions.push(partition(index, Some(&offset)));
        }
    }
    let mut names: Vec<Result<String, ResponseError>> = by_topic.keys().cloned().map(Ok).collect();
    resources::authorize_topics(context, Operation::Describe, &mut names);
    let topics = names.into_iter().flatten().filter_map(|name| {
        let partitions = by_topic.remove(&name)?;
        let name = context.topic_out(&name)?;
        let topic = OffsetFetchResponseTopics::default().with_name(TopicName(name));
        Some(topic.with_partitions(partitions))
    });
    Ok(topics.collect())
}

/// A group that has never been heard of has committed nothing.
fn committed(
    context: &Context,
    group: &str,
    partitions: Option<&[(String, i32)]>,
) -> Result<Vec<(String, i32, Option<CommittedOffset>)>, ResponseError> {
    match context
        .services
        .coordinator
        .fetch_offsets(group, partitions)
    {
        Err(GroupError::GroupIdNotFound) => Ok(Vec::new()),
        outcome => outcome.map_err(|error| group_code(&error)),
    }
}

fn partition(index: i32, committed: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    let partition = OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_metadata(Some("".into()));
    match committed {
        None => partition,
        Some(committed) => partition
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(committed.metadata.clone().into())),
    }
}

/// The shape before several groups could be asked for at once.
fn one_group(version: i16, asked: Asked, outcome: Outcome) -> OffsetFetchResponse {
    let (topics, code) = match outcome {
        Ok(topics) => (topics, 0),
        Err(code) if version >= RESPONSE_CODE_FROM => (Vec::new(), code.code()),
        Err(code) => (refused_partitions(asked, code), 0),
    };
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default()
        .with_topics(topics.collect())
        .with_error_code(code)
}

fn refused_partitions(asked: Asked, code: ResponseError) -> Vec<OffsetFetchResponseTopics> {
    let topics = asked.into_iter().map(|(name, indexes)| {
        let partitions = indexes.into_iter();
        let partitions =
            partitions.map(|index| partition(index, None).with_error_code(code.code()));
        OffsetFetchResponseTopics::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    topics.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    fn found() -> Vec<OffsetFetchResponseTopics> {
        let committed = CommittedOffset {
            offset: 42,
            leader_epoch: 1,
            metadata: "note".into(),
            committed_ms: 0,
            expires_ms: None,
        };
        let topic = OffsetFetchResponseTopics::default().with_name(TopicName("orders".into()));
        vec![topic.with_partitions(vec![partition(0, Some(&committed)), partition(1, None)])]
    }

    #[test]
    fn one_groups_offsets_read_the_same_in_every_version_before_several_groups() {
        for version in 1..SEVERAL_GROUPS_FROM {
            let seen = encodes(version, &one_group(version, Vec::new(), Ok(found())));
            let partitions = &seen.topics[0].partitions;
            let offsets: Vec<_> = partitions.iter().map(|p| p.committed_offset).collect();
            assert_eq!(offsets, [42, -1], "version {version}");
            assert_eq!(partitions[0].metadata.as_deref(), Some("note"));
        }
    }

    #[test]
    fn several_groups_encode_with_offsets_and_with_a_refusal() {
        for version in SEVERAL_GROUPS_FROM..=*VERSIONS.end() {
            let group = OffsetFetchResponseGroup::default();
            let answered = group.clone().with_topics(found());
            let refused = group.with_error_code(30);
            let groups = vec![answered, refused];
            encodes(version, &OffsetFetchResponse::default().with_groups(groups));
        }
    }

    #[test]
    fn a_refused_group_is_told_where_the_version_has_room_for_it() {
        let asked = || vec![(TopicName("orders".into()), vec![5])];
        let refusal = || Err(ResponseError::GroupAuthorizationFailed);
        let oldest = encodes(1, &one_group(1, asked(), refusal()));
        assert_eq!(oldest.topics[0].partitions[0].error_code, 30);
        for version in RESPONSE_CODE_FROM..SEVERAL_GROUPS_FROM {
            let seen = encodes(version, &one_group(version, asked(), refusal()));
            assert_eq!((seen.error_code, seen.topics.len()), (30, 0));
        }
    }
}
