//! DeleteGroups (key 42), versions 0–2: forgets groups without members, with their offsets.
//!
//! Needs DELETE on each group. Each group has an outcome of its own: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND,
//! GROUP_AUTHORIZATION_FAILED. A group that is named twice is answered once. Version 2 is flexible.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

use crate::catalog::Operation;
use crate::kafka::context::Context;
use crate::kafka::error::{code_of, group_code};
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=2;

pub async fn handle(context: &Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::new();
    for id in resources::distinct(request.groups_names, GroupId::clone) {
        let outcome = delete(context, &id).await;
        results.push(
            DeletableGroupResult::default()
                .with_group_id(id)
                .with_error_code(code_of(&outcome)),
        );
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete(context: &Context, id: &GroupId) -> Result<(), ResponseError> {
    let group = resources::group(context, Operation::Delete, id)?;
    let outcome = context.services.coordinator.delete(&group).await;
    outcome.map_err(|error| group_code(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn outcomes_encode_in_every_version() {
        for version in VERSIONS {
            let result = DeletableGroupResult::default().with_group_id(GroupId("g".into()));
            let results = vec![result.clone(), result.with_error_code(68)];
            encodes(
                version,
                &DeleteGroupsResponse::default().with_results(results),
            );
        }
    }
}
