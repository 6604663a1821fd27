//! DescribeTransactions (key 65; KIP-664), version 0: the state of transactional ids and the partitions of their transactions.
//!
//! Needs DESCRIBE on each transactional id; partitions are told of topics that the session may DESCRIBE.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::Operation;
use crate::coordinator::transaction::Transaction;
use crate::kafka::context::Context;
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=0;

pub async fn handle(
    context: &Context,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| {
        let state = match describe(context, &id) {
            Ok(transaction) => described(context, &transaction),
            Err(code) => TransactionState::default().with_error_code(code.code()),
        };
        state.with_transactional_id(id)
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn describe(context: &Context, id: &str) -> Result<Transaction, ResponseError> {
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    let id = resources::transactional_id(context, Operation::Describe, id)?;
    let described = context.services.transactions.describe(&id);
    let described = described.ok_or(ResponseError::TransactionalIdNotFound)?;
    let topics = described.partitions.topics();
    let topic = |indexes: usize| size_of::<TopicData>() + indexes * size_of::<i32>();
    context.take_room(topics.map(|(_, indexes)| topic(indexes.len())).sum())?;
    Ok(described)
}

fn described(context: &Context, transaction: &Transaction) -> TransactionState {
    let names = transaction.partitions.topics();
    let mut names: Vec<_> = names.map(|(topic, _)| Ok(topic.to_owned())).collect();
    resources::authorize_topics(context, Operation::Describe, &mut names);
    let topics = transaction.partitions.topics().zip(names);
    let topics = topics.filter_map(|((_, partitions), name)| {
        let name = context.topic_out(&name.ok()?)?;
        let topic = TopicData::default().with_topic(TopicName(name));
        Some(topic.with_partitions(partitions.iter().copied().collect()))
    });
    TransactionState::default()
        .with_transaction_state(StrBytes::from_static_str(transaction.state.name()))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(transaction.started_ms)
        .with_producer_id(ProducerId(transaction.producer.id))
        .with_producer_epoch(transaction.producer.epoch)
        .with_topics(topics.collect())
}
