//! ListGroups (key 16), versions 0–5: every group that the session may see.
//!
//! DESCRIBE on the cluster shows all of them, DESCRIBE on a group shows that one; nothing is refused.
//! Version 1 adds the throttle time, 3 is flexible, 4 adds the state and a filter by states (KIP-518), 5 the type and a
//! filter by types (KIP-848): every group here is `classic`. Filters do not regard case; an empty one lets all pass, and a
//! state or type that no group can have lets none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::{Operation, ResourceType};
use crate::coordinator::GroupListing;
use crate::kafka::context::Context;

pub const VERSIONS: RangeInclusive<i16> = 0..=5;

const CLASSIC: &str = "classic";

pub async fn handle(context: &Context, request: ListGroupsRequest) -> ListGroupsResponse {
    let groups: Vec<_> = context
        .services
        .coordinator
        .list()
        .await
        .into_iter()
        .filter(|group| passes(&request, group))
        .collect();
    let visible = visible(context, &groups);
    let groups = groups.into_iter().zip(visible);
    let listed = groups
        .filter(|(_, visible)| *visible)
        .filter_map(|(group, _)| {
            let id = context.group_out(&group.group)?;
            Some(listed(id, group))
        });
    ListGroupsResponse::default().with_groups(listed.collect())
}

fn visible(context: &Context, groups: &[GroupListing]) -> Vec<bool> {
    if groups.is_empty() || context.authorize_cluster(Operation::Describe) {
        return vec![true; groups.len()];
    }
    let names: Vec<&str> = groups.iter().map(|group| group.group.as_str()).collect();
    context.authorize_each(Operation::Describe, ResourceType::Group, &names)
}

fn passes(request: &ListGroupsRequest, group: &GroupListing) -> bool {
    let any = |filter: &[StrBytes], value: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    any(&request.states_filter, group.state) && any(&request.types_filter, CLASSIC)
}

fn listed(id: StrBytes, group: GroupListing) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(id))
        .with_protocol_type(group.protocol_type.into())
        .with_group_state(StrBytes::from_static_str(group.state))
        .with_group_type(StrBytes::from_static_str(CLASSIC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    fn group(state: &'static str) -> GroupListing {
        GroupListing {
            group: "g".into(),
            state,
            protocol_type: "consumer".into(),
        }
    }

    #[test]
    fn groups_and_none_encode_in_every_version() {
        for version in VERSIONS {
            let groups = vec![listed("g".into(), group("Empty"))];
            let seen = encodes(version, &ListGroupsResponse::default().with_groups(groups));
            assert_eq!(seen.groups[0].group_state.is_empty(), version < 4);
            assert_eq!(seen.groups[0].group_type.is_empty(), version < 5);
            encodes(version, &ListGroupsResponse::default());
        }
    }

    #[test]
    fn filters_regard_state_and_type_but_not_case() {
        let filters = |states: &[&'static str], types: &[&'static str]| {
            let list = |names: &[&'static str]| names.iter().map(|name| (*name).into()).collect();
            let request = ListGroupsRequest::default().with_states_filter(list(states));
            passes(&request.with_types_filter(list(types)), &group("Stable"))
        };
        assert!(filters(&[], &[]));
        assert!(filters(&["empty", "STABLE"], &["Classic"]));
        assert!(!filters(&["Empty"], &[]));
        assert!(!filters(&[], &["consumer"]));
    }
}
