//! AddPartitionsToTxn (key 24; KIP-98), versions 0–5: partitions that a transaction is about to write to, so that its end marks them.
//!
//! Up to version 3 a producer names its own transaction; needs WRITE on the transactional id and on each topic. All or none:
//! when a partition is refused, the others are OPERATION_NOT_ATTEMPTED. From 4 on brokers ask, for several transactions at once
//! and also whether partitions are in one (`verify_only`); needs CLUSTER_ACTION. Producers of transaction version 2 (KIP-890) do
//! not ask at all: Produce adds. The broker's own topics cannot be added.
//! Version 2 tells fencing by PRODUCER_FENCED, before it is INVALID_PRODUCER_EPOCH; 3 is flexible; 5 knows
//! TRANSACTION_ABORTABLE, which is INVALID_TXN_STATE before.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use crate::catalog::{Operation, ResourceType};
use crate::coordinator::transaction::{Partitions, Producer, TransactionError};
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, transaction_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=5;

const SEVERAL_FROM: i16 = 4;
const FENCED_FROM: i16 = 2;
const ABORTABLE_FROM: i16 = 5;

type Outcome = Result<(), ResponseError>;

pub async fn handle(
    context: &Context,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if context.version < SEVERAL_FROM {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let id = context.transactional_id_in(&transaction.transactional_id);
        let id = id.and_then(|id| {
            let kind = ResourceType::TransactionalId;
            match context.authorize(Operation::Write, kind, &id) {
                true => Ok(id),
                false => Err(ResponseError::TransactionalIdAuthorizationFailed),
            }
        });
        let results = match id {
            Ok(id) => add(context, &id, &transaction, true).await,
            Err(code) => results(&transaction.topics, |_, _| Err(code)),
        };
        return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results);
    }
    if !context.authorize_cluster(Operation::ClusterAction) {
        let code = ResponseError::ClusterAuthorizationFailed.code();
        return AddPartitionsToTxnResponse::default().with_error_code(code);
    }
    let mut by_transaction = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let results = match context.transactional_id_in(&transaction.transactional_id) {
            Ok(id) if transaction.verify_only => verify(context, &id, &transaction),
            Ok(id) => add(context, &id, &transaction, false).await,
            Err(code) => results(&transaction.topics, |_, _| Err(code)),
        };
        let result = AddPartitionsToTxnResult::default()
            .with_transactional_id(transaction.transactional_id)
            .with_topic_results(results);
        by_transaction.push(result);
    }
    AddPartitionsToTxnResponse::default().with_results_by_transaction(by_transaction)
}

fn producer(transaction: &AddPartitionsToTxnTransaction) -> Producer {
    Producer {
        id: transaction.producer_id.0,
        epoch: transaction.producer_epoch,
    }
}

async fn add(
    context: &Context,
    id: &str,
    transaction: &AddPartitionsToTxnTransaction,
    is_client: bool,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let topics = &transaction.topics;
    let names = topics.iter().map(|topic| topic.name.as_str());
    let names = match is_client {
        true => resources::topics(context, Operation::Write, names),
        false => names.map(|name| context.topic_in(name)).collect(),
    };
    let mut partitions = Partitions::default();
    let judged = results(topics, |topic, index| {
        let name = names[topic].as_ref().map_err(|code| *code)?;
        judge(context, name, index)?;
        partitions.add(name, index);
        Ok(())
    });
    let mut codes = judged.iter().flat_map(|topic| &topic.results_by_partition);
    if codes.any(|partition| partition.partition_error_code != 0) {
        return not_attempted(judged);
    }
    let added = context
        .services
        .transactions
        .add(id, producer(transaction), &partitions)
        .await;
    let outcome = added.map_err(|error| refusal(context.version, &error));
    results(topics, |_, _| outcome)
}

fn judge(context: &Context, topic: &str, index: i32) -> Outcome {
    let Some(handle) = context.services.topics.get(topic) else {
        return Err(ResponseError::UnknownTopicOrPartition);
    };
    if handle.topic.internal {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    match handle.log(index) {
        Some(_) => Ok(()),
        None => Err(ResponseError::UnknownTopicOrPartition),
    }
}

fn verify(
    context: &Context,
    id: &str,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    results(&transaction.topics, |topic, index| {
        let name = context.topic_in(&transaction.topics[topic].name)?;
        let transactions = &context.services.transactions;
        let verified = transactions.verify(id, producer(transaction), (&name, index));
        verified.map_err(|error| refusal(context.version, &error))
    })
}

fn refusal(version: i16, error: &TransactionError) -> ResponseError {
    match transaction_code(error) {
        ResponseError::ProducerFenced if version < FENCED_FROM => {
            ResponseError::InvalidProducerEpoch
        }
        ResponseError::TransactionAbortable if version < ABORTABLE_FROM => {
            ResponseError::InvalidTxnState
        }
        code => code,
    }
}

fn not_attempted(
    mut results: Vec<AddPartitionsToTxnTopicResult>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    for topic in &mut results {
        for partition in &mut topic.results_by_partition {
            if partition.partition_error_code == 0 {
                partition.partition_error_code = ResponseError::OperationNotAttempted.code();
            }
        }
    }
    results
}

/// Results in the request's shape; `outcome` is asked with the position of the topic and the partition.
fn results(
    topics: &[AddPartitionsToTxnTopic],
    mut outcome: impl FnMut(usize, i32) -> Outcome,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let topics = topics.iter().enumerate().map(|(position, topic)| {
        let partitions = topic.partitions.iter().map(|index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code_of(&outcome(position, *index)))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    topics.collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;

    use super::*;
    use crate::coordinator::transaction::Refusal;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn every_shape_encodes_in_every_version() {
        let topics = [AddPartitionsToTxnTopic::default()
            .with_name(TopicName("orders".into()))
            .with_partitions(vec![0, 7])];
        let unknown = ResponseError::UnknownTopicOrPartition;
        for version in VERSIONS {
            let judged = results(&topics, |_, index| match index {
                7 => Err(unknown),
                _ => Ok(()),
            });
            let refused = not_attempted(judged);
            let response = AddPartitionsToTxnResponse::default();
            let response = match version < SEVERAL_FROM {
                true => response.with_results_by_topic_v3_and_below(refused),
                false => response.with_results_by_transaction(vec![
                    AddPartitionsToTxnResult::default().with_topic_results(refused),
                ]),
            };
            let seen = encodes(version, &response);
            let topics = match version < SEVERAL_FROM {
                true => &seen.results_by_topic_v3_and_below,
                false => &seen.results_by_transaction[0].topic_results,
            };
            let partitions = &topics[0].results_by_partition;
            let codes: Vec<_> = partitions.iter().map(|p| p.partition_error_code).collect();
            assert_eq!(codes, [55, 3], "version {version}");
        }
    }

    #[test]
    fn old_versions_are_told_with_the_codes_that_they_know() {
        let fenced = Refusal::Fenced.into();
        assert_eq!(refusal(1, &fenced), ResponseError::InvalidProducerEpoch);
        assert_eq!(refusal(2, &fenced), ResponseError::ProducerFenced);
        let outside = Refusal::NotInTransaction.into();
        assert_eq!(refusal(4, &outside), ResponseError::InvalidTxnState);
        assert_eq!(refusal(5, &outside), ResponseError::TransactionAbortable);
    }
}
