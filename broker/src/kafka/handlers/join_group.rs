//! JoinGroup (key 11), versions 0–9: a member joins a classic group and waits for the others.
//!
//! Needs READ on the group. Answers when the rebalance has ended; the leader alone gets every member's metadata.
//! A new dynamic member of version 4 or newer is given its id with MEMBER_ID_REQUIRED and joins again (KIP-394).
//! Version 1 adds the rebalance timeout (before: the session timeout), 2 the throttle time, 5 the instance id (KIP-345),
//! 6 is flexible, 7 adds the protocol type and a nullable protocol name, 8 the reason (KIP-800), 9 skips the assignment when
//! a static leader comes back (KIP-814): before 9 such a leader is told that it is not the leader, with the same effect.

use std::ops::RangeInclusive;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::Operation;
use crate::coordinator::{GroupError, JoinOutcome, JoinRequest};
use crate::kafka::context::Context;
use crate::kafka::error::group_code;
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=9;

/// From here on a member's id is required before it takes part.
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
const NULLABLE_PROTOCOL_FROM: i16 = 7;
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// What a group keeps of a member must be answerable in every version; old strings hold no more bytes.
const MAX_STRING: usize = i16::MAX as usize;

/// The longest reason that is kept for the log, in bytes.
const MAX_REASON: usize = 255;

pub async fn handle(context: &Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = context.version;
    let member_id = request.member_id.clone();
    let group = match resources::group(context, Operation::Read, &request.group_id) {
        Ok(group) => group,
        Err(code) => return refused(version, code, member_id),
    };
    let Some(join) = join_request(context, group, request) else {
        return refused(version, ResponseError::InvalidRequest, member_id);
    };
    match context.services.coordinator.join(join).await {
        Ok(outcome) => joined(version, outcome),
        Err(error) => {
            let code = group_code(&error);
            let member_id = match error {
                GroupError::MemberIdRequired(assigned) => assigned.into(),
                _ => member_id,
            };
            refused(version, code, member_id)
        }
    }
}

/// `None` when a string is longer than an old version could carry.
fn join_request(
    context: &Context,
    group: String,
    request: JoinGroupRequest,
) -> Option<JoinRequest> {
    let names = request.protocols.iter().map(|protocol| &protocol.name);
    let strings = names
        .chain([&request.protocol_type, &request.member_id])
        .chain(&request.group_instance_id);
    if strings.into_iter().any(|string| string.len() > MAX_STRING) {
        return None;
    }
    let session_timeout = milliseconds(request.session_timeout_ms);
    let rebalance_timeout = match request.rebalance_timeout_ms {
        0.. => milliseconds(request.rebalance_timeout_ms),
        _ => session_timeout,
    };
    let instance_id = request.group_instance_id.map(|id| id.to_string());
    Some(JoinRequest {
        group,
        member_id: request.member_id.to_string(),
        require_known_member_id: context.version >= MEMBER_ID_REQUIRED_FROM
            && instance_id.is_none(),
        instance_id,
        client_id: context.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", context.session.host),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name.to_string(), protocol.metadata))
            .collect(),
        reason: request
            .reason
            .map(|reason| reason[..reason.floor_char_boundary(MAX_REASON)].to_owned()),
        holder: context.holder(),
    })
}

fn milliseconds(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

fn joined(version: i16, outcome: JoinOutcome) -> JoinGroupResponse {
    let skips = outcome.skip_assignment;
    let can_skip = version >= SKIP_ASSIGNMENT_FROM;
    let (leader, members) = if skips && !can_skip {
        (String::new(), Vec::new())
    } else {
        (outcome.leader, outcome.members)
    };
    let members = members.into_iter().map(|(id, instance_id, metadata)| {
        JoinGroupResponseMember::default()
            .with_member_id(id.into())
            .with_group_instance_id(instance_id.map(StrBytes::from))
            .with_metadata(metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(outcome.generation)
        .with_protocol_type(Some(outcome.protocol_type.into()))
        .with_protocol_name(Some(outcome.protocol.into()))
        .with_leader(leader.into())
        .with_skip_assignment(skips && can_skip)
        .with_member_id(outcome.member_id.into())
        .with_members(members.collect())
}

fn refused(version: i16, code: ResponseError, member_id: StrBytes) -> JoinGroupResponse {
    let no_protocol = (version < NULLABLE_PROTOCOL_FROM).then(StrBytes::new);
    JoinGroupResponse::default()
        .with_error_code(code.code())
        .with_generation_id(-1)
        .with_protocol_name(no_protocol)
        .with_member_id(member_id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kafka::handlers::wire::encodes;

    fn outcome(skip_assignment: bool) -> JoinOutcome {
        JoinOutcome {
            generation: 3,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            leader: "a".into(),
            member_id: "a".into(),
            skip_assignment,
            members: vec![("a".into(), Some("i".into()), Bytes::from_static(b"m"))],
        }
    }

    #[test]
    fn both_shapes_encode_in_every_version() {
        for version in VERSIONS {
            encodes(version, &joined(version, outcome(false)));
            encodes(version, &joined(version, outcome(true)));
            let code = ResponseError::MemberIdRequired;
            encodes(version, &refused(version, code, "m".into()));
        }
    }

    #[test]
    fn a_static_leader_that_need_not_assign_does_not_lead_in_versions_that_cannot_say_so() {
        let old = joined(8, outcome(true));
        assert_ne!(old.leader, old.member_id);
        assert!(old.members.is_empty() && !old.skip_assignment);
        let new = joined(9, outcome(true));
        assert_eq!(new.leader, new.member_id);
        assert!(new.skip_assignment && new.members.len() == 1);
    }

    #[test]
    fn no_protocol_is_an_empty_name_where_null_is_no_name() {
        let name = |version| refused(version, ResponseError::UnknownMemberId, "".into());
        assert_eq!(name(6).protocol_name, Some(StrBytes::new()));
        assert_eq!(name(7).protocol_name, None);
    }
}
