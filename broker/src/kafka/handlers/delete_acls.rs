//! DeleteAcls (key 31), versions 1–3: removes the ACLs that filters mean, out of force when this is answered.
//!
//! Needs ALTER on the cluster, and authorization: where it is off each filter is SECURITY_DISABLED, as in Kafka. Each filter is answered by itself with the ACLs it removed; an ACL that two filters mean is
//! told by the first. Filters are those of DescribeAcls. Version 2 is flexible, 3 adds the resource type `User`.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl,
};
use kafka_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::{Acl, Operation};
use crate::env;
use crate::kafka::acl_codes::{self, AclFilter};
use crate::kafka::context::Context;
use crate::kafka::error::{catalog_code, message};
use crate::kafka::settings::refusal;
use crate::kafka::topics::TopicError;

pub const VERSIONS: RangeInclusive<i16> = 1..=3;

/// Removed ACLs with the names that the session knows their resources by.
type Removed = Vec<(StrBytes, Acl)>;

pub async fn handle(context: &Context, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let allowed = context.authorize_cluster(Operation::Alter);
    let mut results = Vec::new();
    for filter in request.filters {
        let outcome = match allowed {
            _ if !context.services.config.security.authorization => {
                let code = ResponseError::SecurityDisabled;
                Err(refusal(code, acl_codes::NOT_ENFORCED))
            }
            true => remove(context, filter).await,
            false => Err(refusal(
                ResponseError::ClusterAuthorizationFailed,
                "ALTER on the cluster is not allowed",
            )),
        };
        results.push(result(outcome));
    }
    DeleteAclsResponse::default().with_filter_results(results)
}

async fn remove(context: &Context, filter: DeleteAclsFilter) -> Result<Removed, TopicError> {
    let filter = AclFilter {
        resource_type: filter.resource_type_filter,
        resource_name: filter.resource_name_filter,
        pattern_type: filter.pattern_type_filter,
        principal: filter.principal_filter,
        host: filter.host_filter,
        operation: filter.operation,
        permission: filter.permission_type,
    };
    filter
        .check()
        .map_err(|wrong| refusal(ResponseError::InvalidRequest, wrong))?;
    let own = context.clone();
    let removed = env::blocking(move || {
        let meant = |acl: &Acl| {
            acl_codes::name_out(&own, acl).is_some_and(|name| filter.matches(acl, &name))
        };
        own.services.catalog.remove_acls(&meant)
    });
    let removed = match removed.await {
        Ok(outcome) => outcome.map_err(|error| refusal(catalog_code(&error), error.to_string()))?,
        Err(_) => {
            return Err(refusal(
                ResponseError::UnknownServerError,
                "the ACLs could not be removed; the broker's log says why",
            ));
        }
    };
    let removed = removed.into_iter();
    Ok(removed
        .filter_map(|acl| Some((acl_codes::name_out(context, &acl)?, acl)))
        .collect())
}

fn result(outcome: Result<Removed, TopicError>) -> DeleteAclsFilterResult {
    let removed = match outcome {
        Ok(removed) => removed,
        Err(error) => {
            return DeleteAclsFilterResult::default()
                .with_error_code(error.code.code())
                .with_error_message(message(error.message));
        }
    };
    let acls = removed.into_iter().map(|(name, acl)| {
        DeleteAclsMatchingAcl::default()
            .with_error_message(None)
            .with_resource_type(acl.resource_type as i8)
            .with_resource_name(name)
            .with_pattern_type(acl.pattern_type as i8)
            .with_principal(acl.principal.to_string().into())
            .with_host(acl.host.into())
            .with_operation(acl.operation as i8)
            .with_permission_type(acl.permission as i8)
    });
    DeleteAclsFilterResult::default()
        .with_error_message(None)
        .with_matching_acls(acls.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{PatternType, Permission, ResourceType};
    use crate::kafka::handlers::wire::encodes;
    use crate::types::Principal;

    #[test]
    fn removed_acls_and_a_refusal_encode_in_every_version() {
        for version in VERSIONS {
            let acl = Acl {
                resource_type: ResourceType::Group,
                pattern_type: PatternType::Prefixed,
                resource_name: "inside".into(),
                principal: Principal::user("alice"),
                host: "*".into(),
                operation: Operation::Read,
                permission: Permission::Allow,
            };
            let removed = Ok(vec![("team-".into(), acl)]);
            let refused = Err(refusal(ResponseError::InvalidRequest, "wrong"));
            let results = vec![result(removed), result(refused)];
            let response = DeleteAclsResponse::default().with_filter_results(results);
            let seen = encodes(version, &response).filter_results;
            let acl = &seen[0].matching_acls[0];
            assert_eq!(
                (acl.resource_type, &*acl.resource_name, acl.operation),
                (3, "team-", 3)
            );
            assert_eq!(seen[1].error_code, 42);
        }
    }
}
