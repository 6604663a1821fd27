//! WriteTxnMarkers (key 27; KIP-98), version 1: ends a producer's transaction in partitions.
//!
//! The broker ends its own transactions without it; this is for operators' tools that abort a hanging one (KIP-664). Needs
//! ALTER or CLUSTER_ACTION on the cluster. Answered when the markers are durable. A marker of an epoch below the producer's is INVALID_PRODUCER_EPOCH, one of
//! a coordinator that was replaced TRANSACTION_COORDINATOR_FENCED.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::catalog::Operation;
use crate::coordinator::Durable;
use crate::kafka::context::Context;
use crate::kafka::error::{append_code, code_of};
use crate::log::{MarkerOutcome, TransactionMarker};

pub const VERSIONS: RangeInclusive<i16> = 1..=1;

pub async fn handle(context: &Context, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let allowed = context.authorize_cluster(Operation::Alter)
        || context.authorize_cluster(Operation::ClusterAction);
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(write(context, allowed, marker).await);
    }
    WriteTxnMarkersResponse::default().with_markers(markers)
}

async fn write(
    context: &Context,
    allowed: bool,
    request: WritableTxnMarker,
) -> WritableTxnMarkerResult {
    let marker = TransactionMarker {
        producer_id: request.producer_id.0,
        producer_epoch: request.producer_epoch,
        outcome: match request.transaction_result {
            true => MarkerOutcome::Commit,
            false => MarkerOutcome::Abort,
        },
        coordinator_epoch: request.coordinator_epoch,
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        // All of a topic's are written before the first is waited for.
        let begun = topic.partition_indexes.iter().map(|index| {
            let begun = match allowed {
                true => mark(context, &topic.name, *index, marker),
                false => Err(ResponseError::ClusterAuthorizationFailed),
            };
            (*index, begun)
        });
        let begun: Vec<_> = begun.collect();
        let mut partitions = Vec::with_capacity(begun.len());
        for (index, begun) in begun {
            let outcome = match begun {
                Ok(durable) => durable.await.map_err(|_| ResponseError::KafkaStorageError),
                Err(code) => Err(code),
            };
            partitions.push(
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code_of(&outcome)),
            );
        }
        topics.push(
            WritableTxnMarkerTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    WritableTxnMarkerResult::default()
        .with_producer_id(request.producer_id)
        .with_topics(topics)
}

fn mark(
    context: &Context,
    topic: &str,
    index: i32,
    marker: TransactionMarker,
) -> Result<Durable<String>, ResponseError> {
    let topic = context.topic_in(topic)?;
    let marked = context.services.transactions.mark(&topic, index, marker);
    marked
        .map_err(|error| append_code(&error))?
        .ok_or(ResponseError::UnknownTopicOrPartition)
}
