//! DeleteRecords (key 21), versions 0–2: moves the start of partitions' logs; older records are gone for readers at once, and
//! segments that lie wholly below give their disk space back.
//!
//! Needs DELETE on the topic. The offset −1 is the high watermark; one above it is OFFSET_OUT_OF_RANGE, one below the start
//! changes nothing. The answer is the new start, durable by then. A topic without `delete` in its `cleanup.policy` is
//! POLICY_VIOLATION, as in Kafka. A partition that is refused does not stop the others. The timeout has nothing to bound.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::catalog::Operation;
use crate::env;
use crate::kafka::ResponseError;
use crate::kafka::context::Context;
use crate::kafka::settings::topic;
use crate::kafka::topics::TopicHandle;
use crate::log::DeleteRecordsError;
use crate::types::Offset;

pub const VERSIONS: RangeInclusive<i16> = 0..=2;

const HIGH_WATERMARK: i64 = -1;

pub async fn handle(context: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let handle = topic(context, Operation::Delete, &asked.name).map_err(|error| error.code);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in asked.partitions {
            let outcome = match &handle {
                Ok(handle) => delete(handle, &partition).await,
                Err(code) => Err(*code),
            };
            partitions.push(result(partition.partition_index, outcome));
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(asked.name)
                .with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete(
    handle: &TopicHandle,
    asked: &DeleteRecordsPartition,
) -> Result<Offset, ResponseError> {
    let log = handle
        .log(asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let log = Arc::clone(log);
    let before = (asked.offset != HIGH_WATERMARK).then_some(asked.offset);
    let deleted = env::blocking(move || log.delete_records(before)).await;
    deleted
        .map_err(|_| ResponseError::KafkaStorageError)?
        .map_err(|error| match error {
            DeleteRecordsError::NotAllowed => ResponseError::PolicyViolation,
            DeleteRecordsError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
            DeleteRecordsError::Storage(_) => ResponseError::KafkaStorageError,
            DeleteRecordsError::Deleted => ResponseError::UnknownTopicOrPartition,
        })
}

fn result(index: i32, outcome: Result<Offset, ResponseError>) -> DeleteRecordsPartitionResult {
    let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
    match outcome {
        Ok(start) => result.with_low_watermark(start),
        Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn both_shapes_encode_in_every_version() {
        for version in VERSIONS {
            let partitions = vec![
                result(0, Ok(7)),
                result(1, Err(ResponseError::OffsetOutOfRange)),
            ];
            let topic = DeleteRecordsTopicResult::default().with_partitions(partitions);
            let response = DeleteRecordsResponse::default().with_topics(vec![topic]);
            encodes(version, &response);
        }
    }
}
