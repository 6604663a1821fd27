//! ListOffsets: versions 1 to 10. A timestamp asks for the first record at or after it; −1 the end that consumers see (the
//! high watermark, or with `read_committed` the last stable offset), −2 the start, −3 (KIP-734) the record with the largest timestamp, −4 the start of what is kept locally
//! (the same here), −5 the end of what is tiered (nothing is: −1).
//!
//! Needs Describe on the topic. What a reader of the request's isolation level does not see is no answer. What was appended
//! before the request is synced first, so that a producer that was answered with `acks=1` finds its records in every answer.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};

use crate::catalog::{Operation, ResourceType};
use crate::env;
use crate::env::budget::{SEARCH_BYTES, Wanted};
use crate::kafka::ResponseError;
use crate::kafka::context::Context;
use crate::kafka::error::read_code;
use crate::log::{Isolation, OffsetQuery, PartitionLog, catch_up};

pub const VERSIONS: RangeInclusive<i16> = 1..=10;

/// The longest that the disk is waited for. Where it is slower than this, the watermark as it stands is the truth.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(1);

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub async fn handle(context: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = Isolation::from_code(request.isolation_level);
    let asked: Vec<(TopicName, Vec<Asked>)> = request
        .topics
        .into_iter()
        .map(|topic| {
            let resolve = |partition| resolve(context, &topic.name, partition);
            let partitions = topic.partitions.iter().map(resolve).collect();
            (topic.name, partitions)
        })
        .collect();
    let logs = asked.iter().flat_map(|(_, partitions)| partitions);
    catch_up(logs.filter_map(Asked::log_to_sync), CATCH_UP_LIMIT).await;
    let mut topics = Vec::with_capacity(asked.len());
    for (name, asked) in asked {
        let mut partitions = Vec::with_capacity(asked.len());
        for one in asked {
            partitions.push(one.answer(context, isolation).await);
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// One partition's question.
struct Asked {
    partition: ListOffsetsPartition,
    what: Result<Question, ResponseError>,
}

enum Question {
    /// It has the same answer whatever the log holds.
    Nothing,
    Of(Arc<PartitionLog>, OffsetQuery),
}

impl Asked {
    /// The log whose end matters to the answer.
    fn log_to_sync(&self) -> Option<&Arc<PartitionLog>> {
        match &self.what {
            Ok(Question::Of(_, OffsetQuery::Earliest) | Question::Nothing) | Err(_) => None,
            Ok(Question::Of(log, _)) => Some(log),
        }
    }

    async fn answer(self, context: &Context, isolation: Isolation) -> ListOffsetsPartitionResponse {
        let index = self.partition.partition_index;
        let answer = match find(context, self.what, isolation).await {
            Ok((offset, timestamp)) => found(&self.partition, offset, timestamp),
            Err(error) => ListOffsetsPartitionResponse::default().with_error_code(error.code()),
        };
        answer.with_partition_index(index)
    }
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

async fn find(
    context: &Context,
    asked: Result<Question, ResponseError>,
    isolation: Isolation,
) -> Result<(i64, i64), ResponseError> {
    const NONE: (i64, i64) = (-1, -1);
    let (log, query) = match asked? {
        Question::Nothing => return Ok(NONE),
        Question::Of(log, query) => (log, query),
    };
    let answer = match query {
        OffsetQuery::Earliest | OffsetQuery::Latest => log.find_offset(query, isolation),
        OffsetQuery::MaxTimestamp | OffsetQuery::AtTime(_) => {
            // Batches are taken apart: as many at once as their memory allows. It goes on if its client goes, and so does the permit.
            let mut permit = context.services.memory.work.open(context.party());
            permit.draw(Wanted::exactly(SEARCH_BYTES)).await;
            let searched = env::blocking(move || {
                let found = log.find_offset(query, isolation);
                drop(permit);
                found
            })
            .await;
            searched.map_err(|_| ResponseError::KafkaStorageError)?
        }
    };
    let answer = answer.map_err(|error| read_code(&error))?;
    Ok(answer.unwrap_or(NONE))
}

fn resolve(context: &Context, topic: &TopicName, partition: &ListOffsetsPartition) -> Asked {
    Asked {
        what: question(context, topic, partition),
        partition: partition.clone(),
    }
}

fn question(
    context: &Context,
    topic: &TopicName,
    partition: &ListOffsetsPartition,
) -> Result<Question, ResponseError> {
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
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    if partition.current_leader_epoch > 0 {
        return Err(ResponseError::UnknownLeaderEpoch);
    }
    let query = match partition.timestamp {
        LATEST => OffsetQuery::Latest,
        EARLIEST | EARLIEST_LOCAL => OffsetQuery::Earliest,
        LATEST_TIERED => return Ok(Question::Nothing),
        MAX_TIMESTAMP => OffsetQuery::MaxTimestamp,
        time if time >= 0 => OffsetQuery::AtTime(time),
        _ => return Err(ResponseError::InvalidRequest),
    };
    Ok(Question::Of(Arc::clone(log), query))
}
