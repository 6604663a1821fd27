//! ListOffsets: versions 1 to 10. A timestamp asks for the first record at or after it; −1 the end that consumers see (the
//! high watermark, or with `read_committed` the last stable offset), −2 the start, −3 (KIP-734) the record with the largest timestamp, −4 the start of what is kept locally
//! (the same here), −5 the end of what is tiered (nothing is: −1).
//!
//! Needs Describe on the topic. What a reader of the request's isolation level does not see is no answer.

use std::ops::RangeInclusive;
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};

use tokio::time::timeout;

use crate::catalog::{Operation, ResourceType};
use crate::env;
use crate::kafka::ResponseError;
use crate::kafka::context::Context;
use crate::kafka::error::read_code;
use crate::log::{Isolation, OffsetQuery, PartitionLog};
use crate::types::Offset;

pub const VERSIONS: RangeInclusive<i16> = 1..=10;

/// The longest that the end of a log is waited for.
const LATEST_WAIT: Duration = Duration::from_secs(1);

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub async fn handle(context: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = Isolation::from_code(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let answer = match find(context, &topic.name, partition, isolation).await {
                Ok((offset, timestamp)) => found(partition, offset, timestamp),
                Err(error) => ListOffsetsPartitionResponse::default().with_error_code(error.code()),
            };
            partitions.push(answer.with_partition_index(partition.partition_index));
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

fn found(
    partition: &ListOffsetsPartition,
    offset: i64,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default()
        .with_offset(offset)
        .with_timestamp(timestamp);
    // The crate's default of −1 is the protocol's "unknown", and all that versions before 4 can carry.
    if partition.current_leader_epoch >= 0 && offset >= 0 {
        answer.with_leader_epoch(0)
    } else {
        answer
    }
}

/// The end of what is seen, once the high watermark has passed what the log held when asked: a producer that was answered
/// finds its records below it, although `acks=1` is answered before they are synced.
async fn latest(log: &PartitionLog, isolation: Isolation) -> Offset {
    let held = log.offsets().log_end;
    // Where the log has stopped, or its disk is slow, the watermark as it stands is the truth.
    let _ = timeout(LATEST_WAIT, log.committed(held - 1)).await;
    match isolation {
        Isolation::ReadUncommitted => log.offsets().high_watermark,
        Isolation::ReadCommitted => log.offsets().last_stable_offset,
    }
}

async fn find(
    context: &Context,
    topic: &TopicName,
    partition: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<(i64, i64), ResponseError> {
    const NONE: (i64, i64) = (-1, -1);
    let name = context.topic_in(topic)?;
    if !context.authorize(Operation::Describe, ResourceType::Topic, &name) {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    let handle = context
        .services
        .topics
        .get(&name)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let log = handle
        .log(partition.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?
        .clone();
    if partition.current_leader_epoch > 0 {
        return Err(ResponseError::UnknownLeaderEpoch);
    }
    let query = match partition.timestamp {
        LATEST => return Ok((latest(&log, isolation).await, -1)),
        EARLIEST | EARLIEST_LOCAL => return Ok((log.offsets().log_start, -1)),
        LATEST_TIERED => return Ok(NONE),
        MAX_TIMESTAMP => OffsetQuery::MaxTimestamp,
        time if time >= 0 => OffsetQuery::AtTime(time),
        _ => return Err(ResponseError::InvalidRequest),
    };
    let answer = env::blocking(move || log.find_offset(query, isolation)).await;
    let answer = answer
        .map_err(|_| ResponseError::KafkaStorageError)?
        .map_err(|error| read_code(&error))?;
    Ok(answer.unwrap_or(NONE))
}
