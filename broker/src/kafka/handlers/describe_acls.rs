//! DescribeAcls (key 29), versions 1–3: the ACLs that a filter means, by resource.
//!
//! Needs DESCRIBE on the cluster, and authorization: where it is off the answer is SECURITY_DISABLED, as in Kafka. The pattern type MATCH finds every ACL that applies to the name (KIP-290). A filter with a
//! code that Kafka does not have is INVALID_REQUEST; one for what is not kept here (delegation tokens, users) finds nothing.
//! Version 2 is flexible, 3 adds the resource type `User`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use crate::catalog::{Acl, Operation};
use crate::kafka::acl_codes::{self, AclFilter};
use crate::kafka::context::Context;
use crate::kafka::error::message;

pub const VERSIONS: RangeInclusive<i16> = 1..=3;

pub async fn handle(context: &Context, request: DescribeAclsRequest) -> DescribeAclsResponse {
    if !context.authorize_cluster(Operation::Describe) {
        let code = ResponseError::ClusterAuthorizationFailed;
        return refused(code, "DESCRIBE on the cluster is not allowed".into());
    }
    if !context.services.config.security.authorization {
        let code = ResponseError::SecurityDisabled;
        return refused(code, acl_codes::NOT_ENFORCED.into());
    }
    let filter = AclFilter {
        resource_type: request.resource_type_filter,
        resource_name: request.resource_name_filter,
        pattern_type: request.pattern_type_filter,
        principal: request.principal_filter,
        host: request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    };
    if let Err(wrong) = filter.check() {
        return refused(ResponseError::InvalidRequest, wrong);
    }
    let acls = context.services.catalog.acls();
    let visible = acls
        .iter()
        .filter_map(|acl| Some((acl_codes::name_out(context, acl)?.to_string(), acl)));
    described(visible.filter(|(name, acl)| filter.matches(acl, name)))
}

fn described<'a>(acls: impl Iterator<Item = (String, &'a Acl)>) -> DescribeAclsResponse {
    let mut resources: BTreeMap<(i8, String, i8), Vec<AclDescription>> = BTreeMap::new();
    for (name, acl) in acls {
        let resource = (acl.resource_type as i8, name, acl.pattern_type as i8);
        let description = AclDescription::default()
            .with_principal(acl.principal.to_string().into())
            .with_host(acl.host.clone().into())
            .with_operation(acl.operation as i8)
            .with_permission_type(acl.permission as i8);
        resources.entry(resource).or_default().push(description);
    }
    let resources = resources.into_iter();
    let resources = resources.map(|((resource_type, name, pattern_type), acls)| {
        DescribeAclsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(name.into())
            .with_pattern_type(pattern_type)
            .with_acls(acls)
    });
    DescribeAclsResponse::default()
        .with_error_message(None)
        .with_resources(resources.collect())
}

fn refused(code: ResponseError, text: String) -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(code.code())
        .with_error_message(message(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{PatternType, Permission, ResourceType};
    use crate::kafka::handlers::wire::encodes;
    use crate::types::Principal;

    fn acl(operation: Operation) -> Acl {
        Acl {
            resource_type: ResourceType::Topic,
            pattern_type: PatternType::Prefixed,
            resource_name: "inside".into(),
            principal: Principal::user("alice"),
            host: "*".into(),
            operation,
            permission: Permission::Deny,
        }
    }

    #[test]
    fn acls_on_one_resource_come_together_under_its_outer_name_in_every_version() {
        let acls = [acl(Operation::Read), acl(Operation::Write)];
        for version in VERSIONS {
            let named = acls.iter().map(|acl| ("orders".to_owned(), acl));
            let seen = encodes(version, &described(named)).resources;
            assert_eq!(seen.len(), 1);
            assert_eq!(&*seen[0].resource_name, "orders");
            assert_eq!((seen[0].resource_type, seen[0].pattern_type), (2, 4));
            let codes = seen[0]
                .acls
                .iter()
                .map(|acl| (acl.operation, acl.permission_type));
            assert_eq!(codes.collect::<Vec<_>>(), [(3, 2), (4, 2)]);
            encodes(
                version,
                &refused(ResponseError::InvalidRequest, "wrong".into()),
            );
        }
    }
}
