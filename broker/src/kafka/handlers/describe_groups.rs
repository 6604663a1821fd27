//! DescribeGroups (key 15), versions 0–6: state, protocol and members of classic groups.
//!
//! Needs DESCRIBE on each group. A group that does not exist is told as state `Dead` without an error up to version 5, and
//! as GROUP_ID_NOT_FOUND with a message from 6 on (KIP-1043). Version 1 adds the throttle time, 3 the operations that the
//! session may perform (KIP-430), 4 the instance id (KIP-345), 5 is flexible.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::{Operation, ResourceType};
use crate::coordinator::{GroupDescription, MemberDescription};
use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::kafka::{permission, resources};

pub const VERSIONS: RangeInclusive<i16> = 0..=6;

const NOT_FOUND_FROM: i16 = 6;

pub async fn handle(context: &Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let wants_operations = request.include_authorized_operations;
    let groups = request.groups.into_iter().map(|id| {
        let group = match resources::group(context, Operation::Describe, &id) {
            Ok(group) => group,
            Err(code) => {
                return DescribedGroup::default()
                    .with_group_id(id)
                    .with_error_code(code.code());
            }
        };
        let described = match context.services.coordinator.describe(&group) {
            Some(description) => match context.take_room(size(&description)) {
                Ok(()) => described(id, description),
                Err(code) => {
                    return DescribedGroup::default()
                        .with_group_id(id)
                        .with_error_code(code.code());
                }
            },
            None => missing(context.version, id),
        };
        if !wants_operations {
            return described;
        }
        let kind = ResourceType::Group;
        let operations = permission::authorized_operations(context, kind, &group);
        described.with_authorized_operations(operations)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

/// What a group takes in the answer. Metadata and assignments are shared with the group until they are written.
fn size(description: &GroupDescription) -> usize {
    let member = |member: &MemberDescription| {
        let texts = [&member.member_id, &member.client_id, &member.client_host];
        let texts: usize = texts.into_iter().map(String::len).sum();
        let bytes = member.metadata.len() + member.assignment.len();
        size_of::<DescribedGroupMember>() + texts + bytes
    };
    size_of::<DescribedGroup>() + description.members.iter().map(member).sum::<usize>()
}

fn described(id: GroupId, description: GroupDescription) -> DescribedGroup {
    let members = description.members.into_iter().map(described_member);
    DescribedGroup::default()
        .with_group_id(id)
        .with_group_state(StrBytes::from_static_str(description.state))
        .with_protocol_type(description.protocol_type.into())
        .with_protocol_data(description.protocol.into())
        .with_members(members.collect())
}

fn described_member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(member.member_id.into())
        .with_group_instance_id(member.instance_id.map(StrBytes::from))
        .with_client_id(member.client_id.into())
        .with_client_host(member.client_host.into())
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

fn missing(version: i16, id: GroupId) -> DescribedGroup {
    let text = format!("Group {} not found.", &*id);
    let group = DescribedGroup::default()
        .with_group_id(id)
        .with_group_state(StrBytes::from_static_str("Dead"));
    if version < NOT_FOUND_FROM {
        return group;
    }
    group
        .with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(message(text))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kafka::handlers::wire::encodes;

    fn description() -> GroupDescription {
        GroupDescription {
            group: "g".into(),
            state: "Stable",
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![MemberDescription {
                member_id: "m".into(),
                instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                metadata: Bytes::from_static(b"topics"),
                assignment: Bytes::from_static(b"partitions"),
            }],
        }
    }

    #[test]
    fn every_shape_encodes_in_every_version() {
        for version in VERSIONS {
            let id = || GroupId("g".into());
            let groups = vec![described(id(), description()), missing(version, id())];
            let seen = encodes(
                version,
                &DescribeGroupsResponse::default().with_groups(groups),
            );
            let not_found = if version >= 6 { 69 } else { 0 };
            assert_eq!(seen.groups[0].members[0].member_assignment.len(), 10);
            assert_eq!(&*seen.groups[1].group_state, "Dead");
            assert_eq!(seen.groups[1].error_code, not_found, "version {version}");
        }
    }
}
