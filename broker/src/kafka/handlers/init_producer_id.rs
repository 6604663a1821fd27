//! InitProducerId (KIP-98, KIP-360): versions 0 to 5, the identity under which an idempotent or transactional producer writes.
//!
//! Without a transactional id each call gets a new producer id with epoch 0 that no other producer will ever get; a producer that
//! bumps its epoch gets a new id, which resets its sequences just so. Needs IdempotentWrite on the cluster or Write on some topic.
//!
//! With one, every call gets the id's next epoch, which fences the instance before and aborts its transaction; from version 3
//! on a producer may say who it believes to be, and is refused when another has come since. Durable when answered. Needs Write on
//! the transactional id. Version 2 is flexible; before 4 fencing is told by INVALID_PRODUCER_EPOCH.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::catalog::{Operation, ResourceType};
use crate::coordinator::transaction::{Producer, TransactionError};
use crate::kafka::ResponseError;
use crate::kafka::context::Context;
use crate::kafka::error::{fenced_before, transaction_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=5;

const FENCED_FROM: i16 = 4;

pub async fn handle(context: &Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let outcome = match &request.transactional_id {
        Some(id) => transactional(context, id, &request).await,
        None => idempotent(context).await,
    };
    let code = outcome.as_ref().err().map_or(0, ResponseError::code);
    let (id, epoch) = outcome.map_or((-1, -1), |producer| (producer.id, producer.epoch));
    InitProducerIdResponse::default()
        .with_error_code(code)
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
}

async fn idempotent(context: &Context) -> Result<Producer, ResponseError> {
    let allowed = context.authorize_any(Operation::Write, ResourceType::Topic)
        || context.authorize_cluster(Operation::IdempotentWrite);
    if !allowed {
        return Err(ResponseError::ClusterAuthorizationFailed);
    }
    let transactions = &context.services.transactions;
    let id = transactions.new_producer_id(&context.holder()).await;
    let id = id.map_err(|error| refusal(context, &error))?;
    Ok(Producer { id, epoch: 0 })
}

async fn transactional(
    context: &Context,
    id: &str,
    request: &InitProducerIdRequest,
) -> Result<Producer, ResponseError> {
    let id = resources::transactional_id(context, Operation::Write, id)?;
    let expected = expected(request.producer_id.0, request.producer_epoch)?;
    let timeout_ms = request.transaction_timeout_ms;
    let transactions = &context.services.transactions;
    let holder = context.holder();
    let given = transactions.init(&id, &holder, expected, timeout_ms).await;
    given.map_err(|error| {
        tracing::debug!(id, %error, "a transactional producer was refused");
        refusal(context, &error)
    })
}

/// Both or neither must be given.
fn expected(id: i64, epoch: i16) -> Result<Option<Producer>, ResponseError> {
    match (id, epoch) {
        (-1, -1) => Ok(None),
        (-1, _) | (_, -1) => Err(ResponseError::InvalidRequest),
        (id, epoch) => Ok(Some(Producer { id, epoch })),
    }
}

fn refusal(context: &Context, error: &TransactionError) -> ResponseError {
    if let TransactionError::Storage(message) = error {
        tracing::error!(message, "no producer id could be given");
    }
    fenced_before(FENCED_FROM, context.version, transaction_code(error))
}
