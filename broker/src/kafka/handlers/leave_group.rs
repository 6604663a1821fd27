//! LeaveGroup (key 13), versions 0–5: members leave without waiting for their session to end.
//!
//! Needs READ on the group. Up to version 2 one member leaves, and its outcome is the response's code; from 3 on several
//! leave at once, each with a code of its own (KIP-345), and an administrator may name static members by their instance id
//! alone. Version 1 adds the throttle time, 4 is flexible, 5 adds a reason (KIP-800), which is not kept.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::catalog::Operation;
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, group_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=5;

const SEVERAL_FROM: i16 = 3;

/// What became of each member that was named.
type Outcomes = Vec<Result<(), ResponseError>>;

pub async fn handle(context: &Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let members = if context.version >= SEVERAL_FROM {
        request.members
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id)]
    };
    let outcome = leave(context, &request.group_id, &members);
    response(context.version, members, outcome)
}

fn leave(
    context: &Context,
    group: &str,
    members: &[MemberIdentity],
) -> Result<Outcomes, ResponseError> {
    let group = resources::group(context, Operation::Read, group)?;
    let members: Vec<_> = members
        .iter()
        .map(|member| {
            let instance_id = member.group_instance_id.as_ref().map(ToString::to_string);
            (member.member_id.to_string(), instance_id)
        })
        .collect();
    let outcomes = context
        .services
        .coordinator
        .leave(&group, &members)
        .map_err(|error| group_code(&error))?;
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.map_err(|error| group_code(&error)))
        .collect())
}

fn response(
    version: i16,
    members: Vec<MemberIdentity>,
    outcome: Result<Outcomes, ResponseError>,
) -> LeaveGroupResponse {
    let outcomes = match outcome {
        Ok(outcomes) => outcomes,
        Err(code) => return LeaveGroupResponse::default().with_error_code(code.code()),
    };
    if version < SEVERAL_FROM {
        let code = outcomes.first().map_or(0, code_of);
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let members = members.into_iter().zip(&outcomes).map(|(member, outcome)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code_of(outcome))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    fn members() -> Vec<MemberIdentity> {
        let dynamic = MemberIdentity::default().with_member_id("m".into());
        vec![dynamic.with_group_instance_id(Some("i".into()))]
    }

    #[test]
    fn every_shape_encodes_in_every_version() {
        let refusal = ResponseError::UnknownMemberId;
        for version in VERSIONS {
            for outcome in [Ok(vec![Ok(())]), Ok(vec![Err(refusal)]), Err(refusal)] {
                encodes(version, &response(version, members(), outcome));
            }
        }
    }

    #[test]
    fn a_single_members_refusal_is_the_responses_in_old_versions_and_its_own_in_new_ones() {
        let refused = || Ok(vec![Err(ResponseError::UnknownMemberId)]);
        assert_eq!(response(2, members(), refused()).error_code, 25);
        let new = response(3, members(), refused());
        assert_eq!((new.error_code, new.members[0].error_code), (0, 25));
    }
}
