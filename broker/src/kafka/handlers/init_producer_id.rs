//! InitProducerId (KIP-98, KIP-360): versions 0 to 5, for idempotent producers. Each call gets a new producer id with epoch 0
//! that no other producer will ever get; a producer that bumps its epoch gets a new id, which resets its sequences just so.
//!
//! Needs IdempotentWrite on the cluster or Write on some topic. Left out: transactional ids, refused with INVALID_REQUEST.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::catalog::{Operation, ResourceType};
use crate::env;
use crate::kafka::ResponseError;
use crate::kafka::context::Context;

pub const VERSIONS: RangeInclusive<i16> = 0..=5;

pub async fn handle(context: &Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refuse = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if let Some(id) = &request.transactional_id {
        let legal = context.transactional_id_in(id).is_ok();
        tracing::info!(
            legal,
            "a transactional producer was refused: transactions are not supported"
        );
        return refuse(ResponseError::InvalidRequest);
    }
    let allowed = context.authorize_any(Operation::Write, ResourceType::Topic)
        || context.authorize_cluster(Operation::IdempotentWrite);
    if !allowed {
        return refuse(ResponseError::ClusterAuthorizationFailed);
    }
    let catalog = context.services.catalog.clone();
    match env::blocking(move || catalog.next_producer_id()).await {
        Ok(Ok(id)) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Ok(Err(error)) => {
            tracing::error!(%error, "no producer id could be reserved");
            refuse(ResponseError::CoordinatorNotAvailable)
        }
        Err(_) => refuse(ResponseError::CoordinatorNotAvailable),
    }
}
