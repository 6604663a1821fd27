//! EndTxn (key 26; KIP-98), versions 0–5: commits or aborts a transaction.
//!
//! Answered when the outcome is durable and, as a rule, when every partition has its marker, so that what was committed can be read.
//! A client that asks again is told the same. Needs WRITE on the transactional id.
//! Version 2 tells fencing by PRODUCER_FENCED, before it is INVALID_PRODUCER_EPOCH; 3 is flexible; 4 differs in codes alone;
//! 5 is of producers of transaction version 2 (KIP-890): every end gives the producer a new epoch, or a new id with epoch 0 when the
//! epochs have run out, and a transaction without partitions can be aborted.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

use crate::catalog::Operation;
use crate::coordinator::transaction::{ClientVersion, EndRequest, Producer};
use crate::kafka::context::Context;
use crate::kafka::error::{fenced_before, transaction_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=5;

const FENCED_FROM: i16 = 2;
const NEW_EPOCH_FROM: i16 = 5;

pub async fn handle(context: &Context, request: EndTxnRequest) -> EndTxnResponse {
    response(context.version, end(context, &request).await)
}

async fn end(context: &Context, request: &EndTxnRequest) -> Result<Producer, ResponseError> {
    let id = resources::transactional_id(context, Operation::Write, &request.transactional_id)?;
    let end = EndRequest {
        producer: Producer {
            id: request.producer_id.0,
            epoch: request.producer_epoch,
        },
        is_commit: request.committed,
        version: match context.version < NEW_EPOCH_FROM {
            true => ClientVersion::KeepsEpoch,
            false => ClientVersion::BumpsEpoch,
        },
    };
    let ended = context.services.transactions.end(&id, end).await;
    ended.map_err(|error| {
        tracing::debug!(id, %error, "a transaction was not ended");
        fenced_before(FENCED_FROM, context.version, transaction_code(&error))
    })
}

fn response(version: i16, outcome: Result<Producer, ResponseError>) -> EndTxnResponse {
    let code = outcome.as_ref().err().map_or(0, ResponseError::code);
    let response = EndTxnResponse::default().with_error_code(code);
    if version < NEW_EPOCH_FROM {
        return response;
    }
    let (id, epoch) = outcome.map_or((-1, -1), |producer| (producer.id, producer.epoch));
    response
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn the_new_identity_is_told_where_the_version_has_room_for_it() {
        for version in VERSIONS {
            let producer = Producer { id: 7, epoch: 3 };
            let seen = encodes(version, &response(version, Ok(producer)));
            let told = (seen.producer_id.0, seen.producer_epoch);
            let expected = if version < 5 { (-1, -1) } else { (7, 3) };
            assert_eq!((seen.error_code, told), (0, expected), "version {version}");
            let refused = encodes(
                version,
                &response(version, Err(ResponseError::InvalidTxnState)),
            );
            assert_eq!((refused.error_code, refused.producer_id.0), (48, -1));
        }
    }
}
