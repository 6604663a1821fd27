//! Heartbeat (key 12), versions 0–4: a member says that it is alive and learns whether it must join again.
//!
//! Needs READ on the group. Answers at once: 0, or REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID,
//! FENCED_INSTANCE_ID. Version 1 adds the throttle time, 3 the instance id (KIP-345), 4 is flexible.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::catalog::Operation;
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, group_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=4;

pub async fn handle(context: &Context, request: HeartbeatRequest) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(code_of(&beat(context, &request)))
}

fn beat(context: &Context, request: &HeartbeatRequest) -> Result<(), ResponseError> {
    let group = resources::group(context, Operation::Read, &request.group_id)?;
    context
        .services
        .coordinator
        .heartbeat(
            &group,
            &request.member_id,
            request.group_instance_id.as_deref(),
            request.generation_id,
        )
        .map_err(|error| group_code(&error))
}
