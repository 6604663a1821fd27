//! AddOffsetsToTxn (key 25; KIP-98), versions 0–4: a transaction is about to commit offsets of a group.
//!
//! Adds the group's partition of `__consumer_offsets` to the transaction. Needs WRITE on the transactional id and READ on the
//! group. Version 2 tells fencing by PRODUCER_FENCED, before it is INVALID_PRODUCER_EPOCH; 3 is flexible; 4 differs in codes
//! alone. Producers of transaction version 2 (KIP-890) do not ask: TxnOffsetCommit adds.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use crate::catalog::Operation;
use crate::coordinator::transaction::{Partitions, Producer};
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, fenced_before, transaction_code};
use crate::kafka::resources;
use crate::types::CONSUMER_OFFSETS;

pub const VERSIONS: RangeInclusive<i16> = 0..=4;

const FENCED_FROM: i16 = 2;

pub async fn handle(context: &Context, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let outcome = add(context, &request).await;
    AddOffsetsToTxnResponse::default().with_error_code(code_of(&outcome))
}

async fn add(context: &Context, request: &AddOffsetsToTxnRequest) -> Result<(), ResponseError> {
    let id = resources::transactional_id(context, Operation::Write, &request.transactional_id)?;
    let group = resources::group(context, Operation::Read, &request.group_id)?;
    let partition = context.services.coordinator.partition_of(&group);
    let partitions = Partitions::from_iter([(CONSUMER_OFFSETS, partition)]);
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let added = context
        .services
        .transactions
        .add(&id, producer, &partitions)
        .await;
    added.map_err(|error| fenced_before(FENCED_FROM, context.version, transaction_code(&error)))
}
