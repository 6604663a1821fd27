//! OffsetCommit (key 8), versions 2–9: a group's positions, durable when this is answered.
//!
//! Needs READ on the group and READ on each topic. Partitions are judged one by one: a topic that is not allowed, a
//! partition that does not exist and metadata that is too long are refused, the rest is committed together and shares the
//! coordinator's outcome. Generation −1 with no member id commits for a consumer that assigns its partitions itself.
//! Version 3 adds the throttle time, 6 the leader epoch (KIP-320), 7 the instance id (KIP-345), 8 is flexible; before 9 a
//! group that does not exist is ILLEGAL_GENERATION, from 9 on GROUP_ID_NOT_FOUND (KIP-848).
//! Left out: `retention_time_ms` of versions 2–4 is ignored, how long offsets are kept is the broker's setting.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::catalog::Operation;
use crate::coordinator::{CommitRequest, GroupError, OffsetToCommit};
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, group_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 2..=9;

const GROUP_NOT_FOUND_FROM: i16 = 9;

pub async fn handle(context: &Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let group = match resources::group(context, Operation::Read, &request.group_id) {
        Ok(group) => group,
        Err(code) => return response(&request.topics, |_, _| Err(code)),
    };
    let names = request.topics.iter().map(|topic| topic.name.as_str());
    let names = resources::topics(context, Operation::Read, names);
    let mut offsets = Vec::new();
    let mut response = response(&request.topics, |topic, partition| {
        let offset = judge(context, &names[topic], &request.topics[topic], partition)?;
        offsets.push(offset);
        Ok(())
    });
    if offsets.is_empty() {
        return response;
    }
    let commit = CommitRequest {
        group,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        generation: request.generation_id_or_member_epoch,
        offsets,
        holder: context.holder(),
    };
    if let Err(error) = context.services.coordinator.commit_offsets(commit).await {
        refuse_accepted(&mut response, commit_error(context.version, &error));
    }
    response
}

/// What of one partition is to be committed, or why nothing is.
fn judge(
    context: &Context,
    name: &Result<String, ResponseError>,
    topic: &OffsetCommitRequestTopic,
    position: usize,
) -> Result<OffsetToCommit, ResponseError> {
    let name = name.as_ref().map_err(|code| *code)?;
    let partition = &topic.partitions[position];
    let exists = context
        .services
        .topics
        .get(name)
        .is_some_and(|topic| topic.log(partition.partition_index).is_some());
    if !exists {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    if metadata.len() > context.services.config.groups.max_metadata_bytes {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    Ok(OffsetToCommit {
        topic: name.clone(),
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.to_owned(),
    })
}

/// An answer in the request's shape; `outcome` is asked with the positions of topic and partition.
fn response(
    topics: &[OffsetCommitRequestTopic],
    mut outcome: impl FnMut(usize, usize) -> Result<(), ResponseError>,
) -> OffsetCommitResponse {
    let topics = topics.iter().enumerate().map(|(position, topic)| {
        let partitions = topic.partitions.iter().enumerate();
        let partitions = partitions.map(|(index, partition)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code_of(&outcome(position, index)))
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn refuse_accepted(response: &mut OffsetCommitResponse, code: ResponseError) {
    let partitions = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
    for partition in partitions.filter(|partition| partition.error_code == 0) {
        partition.error_code = code.code();
    }
}

fn commit_error(version: i16, error: &GroupError) -> ResponseError {
    match error {
        GroupError::GroupIdNotFound if version < GROUP_NOT_FOUND_FROM => {
            ResponseError::IllegalGeneration
        }
        error => group_code(error),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;

    use super::*;
    use crate::kafka::handlers::wire::encodes;

    fn topics() -> Vec<OffsetCommitRequestTopic> {
        let partition = |index| OffsetCommitRequestPartition::default().with_partition_index(index);
        let topic = OffsetCommitRequestTopic::default().with_name(TopicName("orders".into()));
        vec![topic.with_partitions(vec![partition(0), partition(7)])]
    }

    #[test]
    fn partitions_are_refused_one_by_one_and_the_rest_together() {
        for version in VERSIONS {
            let unknown = ResponseError::UnknownTopicOrPartition;
            let mut answer = response(
                &topics(),
                |_, index| {
                    if index == 1 { Err(unknown) } else { Ok(()) }
                },
            );
            let codes = |response: &OffsetCommitResponse| -> Vec<_> {
                let partitions = &encodes(version, response).topics[0].partitions;
                partitions
                    .iter()
                    .map(|p| (p.partition_index, p.error_code))
                    .collect()
            };
            assert_eq!(codes(&answer), [(0, 0), (7, 3)]);
            refuse_accepted(&mut answer, ResponseError::RebalanceInProgress);
            assert_eq!(codes(&answer), [(0, 27), (7, 3)]);
        }
    }

    #[test]
    fn a_missing_group_is_a_stale_generation_to_old_clients() {
        assert_eq!(commit_error(8, &GroupError::GroupIdNotFound).code(), 22);
        assert_eq!(commit_error(9, &GroupError::GroupIdNotFound).code(), 69);
        assert_eq!(commit_error(2, &GroupError::UnknownMember).code(), 25);
    }
}
