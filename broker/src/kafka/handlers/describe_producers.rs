//! DescribeProducers (key 61; KIP-664), version 0: what partitions know of their idempotent and transactional producers.
//!
//! Needs READ on each topic. A producer's last sequence is −1 when nothing was numbered in its epoch, its coordinator epoch −1 before
//! its first marker, the start of its transaction −1 when none is open.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use crate::catalog::Operation;
use crate::kafka::context::Context;
use crate::kafka::resources;
use crate::log;

pub const VERSIONS: RangeInclusive<i16> = 0..=0;

pub async fn handle(
    context: &Context,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let names = request.topics.iter().map(|topic| topic.name.as_str());
    let names = resources::topics(context, Operation::Read, names);
    let topics = request.topics.into_iter().zip(names);
    let topics = topics.map(|(topic, name)| {
        let partitions = topic.partition_indexes.into_iter().map(|index| {
            let partition = PartitionResponse::default().with_partition_index(index);
            match producers(context, &name, index) {
                Ok(producers) => partition.with_active_producers(producers),
                Err(code) => partition.with_error_code(code.code()),
            }
        });
        TopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn producers(
    context: &Context,
    topic: &Result<String, ResponseError>,
    index: i32,
) -> Result<Vec<ProducerState>, ResponseError> {
    let topic = topic.as_ref().map_err(|code| *code)?;
    let handle = context.services.topics.get(topic);
    let log = handle.as_ref().and_then(|handle| handle.log(index));
    let log = log.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let producers = log.producers();
    context.take_room(producers.len() * size_of::<ProducerState>())?;
    Ok(producers.into_iter().map(described).collect())
}

fn described(producer: log::ProducerState) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(i32::from(producer.producer_epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
}
