//! TxnOffsetCommit (key 28; KIP-98, KIP-447), versions 0–5: a group's positions as part of a transaction.
//!
//! They count when the transaction commits and are dropped when it aborts; until then OffsetFetch with `require_stable` is told
//! UNSTABLE_OFFSET_COMMIT. Answered when they are durable. Needs WRITE on the transactional id, READ on the group and on each topic;
//! partitions are judged one by one, as in OffsetCommit. A member that says who it is must be of the group's generation.
//! Version 2 adds the leader epoch, 3 the member, its generation and its instance id, and is flexible; 4 knows
//! TRANSACTION_ABORTABLE; 5 adds the group to the transaction (KIP-890), before that AddOffsetsToTxn must have done so.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use crate::catalog::Operation;
use crate::coordinator::transaction::{ClientVersion, Producer, Refusal, Target, TransactionError};
use crate::coordinator::{CommitRequest, GroupError, OffsetToCommit};
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, group_code, transaction_code};
use crate::kafka::resources;
use crate::types::CONSUMER_OFFSETS;

pub const VERSIONS: RangeInclusive<i16> = 0..=5;

const LOADING_FROM: i16 = 2;
const ABORTABLE_FROM: i16 = 4;
const ADDS_FROM: i16 = 5;

pub async fn handle(context: &Context, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let ids = resources::transactional_id(context, Operation::Write, &request.transactional_id)
        .and_then(|id| {
            let group = resources::group(context, Operation::Read, &request.group_id)?;
            Ok((id, group))
        });
    let (id, group) = match ids {
        Ok(ids) => ids,
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
        generation: request.generation_id,
        offsets,
        holder: context.holder(),
    };
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    if let Err(code) = commit_offsets(context, &id, producer, commit).await {
        let partitions = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
        for partition in partitions.filter(|partition| partition.error_code == 0) {
            partition.error_code = code.code();
        }
    }
    response
}

async fn commit_offsets(
    context: &Context,
    id: &str,
    producer: Producer,
    commit: CommitRequest,
) -> Result<(), ResponseError> {
    let groups = &context.services.coordinator;
    let target = Target {
        transactional_id: id,
        producer,
        topic: CONSUMER_OFFSETS,
        partition: groups.partition_of(&commit.group),
        version: match context.version < ADDS_FROM {
            true => ClientVersion::KeepsEpoch,
            false => ClientVersion::BumpsEpoch,
        },
    };
    let appended = context
        .services
        .transactions
        .write(&target, || groups.commit_in_transaction(producer, commit))
        .map_err(|error| transaction_refusal(context.version, &error))?;
    let durable = appended.map_err(|error| group_refusal(&error))?;
    durable.await.map_err(|error| group_refusal(&error))
}

fn group_refusal(error: &GroupError) -> ResponseError {
    match error {
        GroupError::GroupIdNotFound => ResponseError::IllegalGeneration,
        error => group_code(error),
    }
}

/// Old versions are told with codes on which their clients do the same.
fn transaction_refusal(version: i16, error: &TransactionError) -> ResponseError {
    match error {
        TransactionError::Refused(Refusal::Fenced) => ResponseError::InvalidProducerEpoch,
        TransactionError::Refused(Refusal::NotInTransaction) if version < ABORTABLE_FROM => {
            ResponseError::InvalidTxnState
        }
        TransactionError::Refused(Refusal::Concurrent) if version < LOADING_FROM => {
            ResponseError::CoordinatorNotAvailable
        }
        TransactionError::Refused(Refusal::Concurrent) if version < ADDS_FROM => {
            ResponseError::CoordinatorLoadInProgress
        }
        error => transaction_code(error),
    }
}

/// What of one partition is to be committed, or why nothing is.
fn judge(
    context: &Context,
    name: &Result<String, ResponseError>,
    topic: &TxnOffsetCommitRequestTopic,
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
    topics: &[TxnOffsetCommitRequestTopic],
    mut outcome: impl FnMut(usize, usize) -> Result<(), ResponseError>,
) -> TxnOffsetCommitResponse {
    let topics = topics.iter().enumerate().map(|(position, topic)| {
        let partitions = topic.partitions.iter().enumerate();
        let partitions = partitions.map(|(index, partition)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code_of(&outcome(position, index)))
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_told_with_the_codes_that_they_know() {
        let code = |version, refusal: Refusal| transaction_refusal(version, &refusal.into()).code();
        let table = [
            (0, Refusal::Fenced, 47),
            (5, Refusal::Fenced, 47),
            (3, Refusal::NotInTransaction, 48),
            (4, Refusal::NotInTransaction, 120),
            (1, Refusal::Concurrent, 15),
            (2, Refusal::Concurrent, 14),
            (5, Refusal::Concurrent, 51),
            (5, Refusal::ProducerIdMapping, 49),
        ];
        for (version, refusal, expected) in table {
            assert_eq!(
                code(version, refusal.clone()),
                expected,
                "{version} {refusal}"
            );
        }
    }
}
