//! SyncGroup (key 14), versions 0–5: the leader hands in the assignment, every member gets its part.
//!
//! Needs READ on the group. Answers when the leader has spoken or the rebalance fails.
//! Version 1 adds the throttle time, 3 the instance id (KIP-345), 4 is flexible, 5 carries the protocol's type and name
//! both ways and refuses a request without them (KIP-559).

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::catalog::Operation;
use crate::coordinator::{SyncOutcome, SyncRequest};
use crate::kafka::context::Context;
use crate::kafka::error::group_code;
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=5;

const PROTOCOL_REQUIRED_FROM: i16 = 5;

pub async fn handle(context: &Context, request: SyncGroupRequest) -> SyncGroupResponse {
    match sync(context, request).await {
        Ok(outcome) => synced(context.version, outcome),
        Err(code) => SyncGroupResponse::default().with_error_code(code.code()),
    }
}

async fn sync(context: &Context, request: SyncGroupRequest) -> Result<SyncOutcome, ResponseError> {
    let group = resources::group(context, Operation::Read, &request.group_id)?;
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.version >= PROTOCOL_REQUIRED_FROM && !names_protocol {
        return Err(ResponseError::InconsistentGroupProtocol);
    }
    let sync = SyncRequest {
        group,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: request
            .assignments
            .into_iter()
            .map(|assignment| (assignment.member_id.to_string(), assignment.assignment))
            .collect(),
    };
    let outcome = context.services.coordinator.sync(sync).await;
    outcome.map_err(|error| group_code(&error))
}

fn synced(version: i16, outcome: SyncOutcome) -> SyncGroupResponse {
    let response = SyncGroupResponse::default().with_assignment(outcome.assignment);
    if version < PROTOCOL_REQUIRED_FROM {
        return response;
    }
    response
        .with_protocol_type(Some(outcome.protocol_type.into()))
        .with_protocol_name(Some(outcome.protocol.into()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn both_shapes_encode_in_every_version() {
        for version in VERSIONS {
            let outcome = SyncOutcome {
                protocol_type: "consumer".into(),
                protocol: "range".into(),
                assignment: Bytes::from_static(b"mine"),
            };
            encodes(version, &synced(version, outcome));
            encodes(version, &SyncGroupResponse::default().with_error_code(27));
        }
    }
}
