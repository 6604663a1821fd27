//! DeleteRecords (key 21), versions 0–2: moves the start of partitions' logs; older records are gone for readers at once, and
//! segments that lie wholly below give their disk space back.
//!
//! Needs DELETE on the topic. The offset −1 is the high watermark; one above it is OFFSET_OUT_OF_RANGE, one below the start
//! changes nothing. The answer is the new start, durable by then. A topic that is compacted and not
//! also deleted from (`cleanup.policy`) is POLICY_VIOLATION, as in Kafka. A partition that is refused does not stop the others. What was appended before the request
//! is synced first, where it is among what is asked for: that is what the timeout bounds (REQUEST_TIMED_OUT).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
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
use crate::log::{DeleteRecordsError, PartitionLog, catch_up};
use crate::types::Offset;

pub const VERSIONS: RangeInclusive<i16> = 0..=2;

const HIGH_WATERMARK: i64 = -1;

/// Longer waits for the disk would only hold connections.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// A topic that was found and may be deleted from, or why not.
type Handle = Result<Arc<TopicHandle>, ResponseError>;

pub async fn handle(context: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let resolve = |asked: DeleteRecordsTopic| {
        let handle = topic(context, Operation::Delete, &asked.name).map_err(|error| error.code);
        (asked, handle)
    };
    let targets: Vec<(DeleteRecordsTopic, Handle)> =
        request.topics.into_iter().map(resolve).collect();
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let logs = targets
        .iter()
        .filter_map(|(asked, handle)| Some((asked, handle.as_ref().ok()?)))
        .flat_map(|(asked, handle)| logs_to_sync(asked, handle));
    catch_up(logs, timeout.min(MAX_WAIT)).await;
    let mut topics = Vec::with_capacity(targets.len());
    for (asked, handle) in targets {
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

/// The logs of which more is asked for than they have synced.
fn logs_to_sync<'a>(
    asked: &'a DeleteRecordsTopic,
    handle: &'a TopicHandle,
) -> impl Iterator<Item = &'a Arc<PartitionLog>> {
    asked.partitions.iter().filter_map(|partition| {
        let log = handle.log(partition.partition_index)?;
        let is_ahead =
            partition.offset == HIGH_WATERMARK || partition.offset > log.offsets().high_watermark;
        is_ahead.then_some(log)
    })
}

async fn delete(
    handle: &TopicHandle,
    asked: &DeleteRecordsPartition,
) -> Result<Offset, ResponseError> {
    let log = handle
        .log(asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let before = (asked.offset != HIGH_WATERMARK).then_some(asked.offset);
    let deleting = Arc::clone(log);
    let deleted = env::blocking(move || deleting.delete_records(before)).await;
    deleted
        .map_err(|_| ResponseError::KafkaStorageError)?
        .map_err(|error| match error {
            DeleteRecordsError::NotAllowed => ResponseError::PolicyViolation,
            DeleteRecordsError::OutOfRange { offset, end }
                if (end..=log.offsets().log_end).contains(&offset) =>
            {
                ResponseError::RequestTimedOut
            }
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
