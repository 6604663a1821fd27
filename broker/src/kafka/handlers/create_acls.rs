//! CreateAcls (key 30), versions 1–3: adds ACLs, in force when this is answered.
//!
//! Needs ALTER on the cluster, and authorization: where it is off each is SECURITY_DISABLED, as in Kafka. Each ACL is checked by itself; those that are right are added together. One that is there
//! already changes nothing. Version 2 is flexible; 3 lets the resource
//! type `User` through, which has no meaning here (INVALID_REQUEST), as delegation tokens have none.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

use crate::catalog::{Acl, Operation, PatternType, ResourceType};
use crate::env;
use crate::kafka::acl_codes::{self, WILDCARD};
use crate::kafka::context::{CLUSTER, Context};
use crate::kafka::error::{catalog_code, message};
use crate::kafka::settings::refusal;
use crate::kafka::topics::TopicError;

pub const VERSIONS: RangeInclusive<i16> = 1..=3;

/// The longest name, principal or host: what an old version can read back.
const MAX_STRING: usize = i16::MAX as usize;

pub async fn handle(context: &Context, request: CreateAclsRequest) -> CreateAclsResponse {
    let mut outcomes: Vec<Result<(), TopicError>> = Vec::new();
    let mut acls = Vec::new();
    let allowed = context.authorize_cluster(Operation::Alter);
    for creation in &request.creations {
        let acl = match allowed {
            _ if !context.services.config.security.authorization => {
                let code = ResponseError::SecurityDisabled;
                Err(refusal(code, acl_codes::NOT_ENFORCED))
            }
            true => read(creation).and_then(|acl| mapped(context, acl)),
            false => Err(refusal(
                ResponseError::ClusterAuthorizationFailed,
                "ALTER on the cluster is not allowed",
            )),
        };
        outcomes.push(acl.map(|acl| acls.push(acl)));
    }
    if !acls.is_empty()
        && let Err(error) = add(context, acls).await
    {
        let accepted = outcomes.iter_mut().filter(|outcome| outcome.is_ok());
        accepted.for_each(|outcome| *outcome = Err(error.clone()));
    }
    response(outcomes)
}

async fn add(context: &Context, acls: Vec<Acl>) -> Result<(), TopicError> {
    let catalog = context.services.catalog.clone();
    match env::blocking(move || catalog.add_acls(acls)).await {
        Ok(outcome) => outcome.map_err(|error| refusal(catalog_code(&error), error.to_string())),
        Err(_) => Err(refusal(
            ResponseError::UnknownServerError,
            "the ACLs could not be added; the broker's log says why",
        )),
    }
}

fn read(creation: &AclCreation) -> Result<Acl, TopicError> {
    let invalid = |message: String| refusal(ResponseError::InvalidRequest, message);
    let code = |field: &str, code: i8| invalid(format!("an ACL's {field} cannot be {code}"));
    let resource_type = acl_codes::resource_type(creation.resource_type)
        .ok_or_else(|| code("resource type", creation.resource_type))?;
    let pattern_type = acl_codes::pattern_type(creation.resource_pattern_type)
        .ok_or_else(|| code("pattern type", creation.resource_pattern_type))?;
    let operation = acl_codes::operation(creation.operation)
        .ok_or_else(|| code("operation", creation.operation))?;
    let permission = acl_codes::permission(creation.permission_type)
        .ok_or_else(|| code("permission type", creation.permission_type))?;
    let principal = acl_codes::principal(&creation.principal).ok_or_else(|| {
        invalid(format!(
            "principal {}: write it as User:name",
            &*creation.principal
        ))
    })?;
    for (field, text) in [
        ("resource name", &creation.resource_name),
        ("host", &creation.host),
        ("principal", &creation.principal),
    ] {
        if text.is_empty() || text.len() > MAX_STRING {
            return Err(invalid(format!(
                "an ACL's {field} must have 1 to {MAX_STRING} bytes"
            )));
        }
    }
    if resource_type == ResourceType::Cluster
        && (&*creation.resource_name != CLUSTER || pattern_type != PatternType::Literal)
    {
        return Err(invalid(format!(
            "the cluster's only name is {CLUSTER}, taken literally"
        )));
    }
    Ok(Acl {
        resource_type,
        pattern_type,
        resource_name: creation.resource_name.to_string(),
        principal,
        host: creation.host.to_string(),
        operation,
        permission,
    })
}

/// The ACL under the broker's name for its resource.
fn mapped(context: &Context, mut acl: Acl) -> Result<Acl, TopicError> {
    let name = acl.resource_name.as_str();
    let mapped = match acl.resource_type {
        _ if name == WILDCARD => return Ok(acl),
        ResourceType::Cluster => return Ok(acl),
        ResourceType::Topic if acl.pattern_type == PatternType::Prefixed => {
            context.topic_prefix_in(name)
        }
        ResourceType::Topic => context.topic_in(name),
        ResourceType::Group => context.group_in(name),
        ResourceType::TransactionalId => context.transactional_id_in(name),
    };
    acl.resource_name = mapped
        .map_err(|code| refusal(code, format!("{name} is no legal name for this resource")))?;
    Ok(acl)
}

fn response(outcomes: Vec<Result<(), TopicError>>) -> CreateAclsResponse {
    let results = outcomes.into_iter().map(|outcome| match outcome {
        Ok(()) => AclCreationResult::default().with_error_message(None),
        Err(error) => AclCreationResult::default()
            .with_error_code(error.code.code())
            .with_error_message(message(error.message)),
    });
    CreateAclsResponse::default().with_results(results.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Permission;
    use crate::kafka::handlers::wire::encodes;
    use crate::types::Principal;

    fn creation() -> AclCreation {
        AclCreation::default()
            .with_resource_type(2)
            .with_resource_name("orders".into())
            .with_resource_pattern_type(4)
            .with_principal("User:alice".into())
            .with_host("*".into())
            .with_operation(3)
            .with_permission_type(3)
    }

    #[test]
    fn an_acl_is_read_whole() {
        let expected = Acl {
            resource_type: ResourceType::Topic,
            pattern_type: PatternType::Prefixed,
            resource_name: "orders".into(),
            principal: Principal::user("alice"),
            host: "*".into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        };
        assert_eq!(read(&creation()), Ok(expected));
    }

    #[test]
    fn what_is_no_acl_is_refused_with_the_field_that_is_wrong() {
        let cluster = || {
            creation()
                .with_resource_type(4)
                .with_resource_pattern_type(3)
        };
        let table = [
            (creation().with_resource_type(1), "resource type"),
            (creation().with_resource_type(7), "resource type"),
            (creation().with_resource_pattern_type(2), "pattern type"),
            (creation().with_operation(1), "operation"),
            (creation().with_permission_type(0), "permission type"),
            (creation().with_principal("alice".into()), "User:name"),
            (creation().with_resource_name("".into()), "resource name"),
            (creation().with_host("".into()), "host"),
            (cluster(), CLUSTER),
        ];
        for (creation, named) in table {
            let error = read(&creation).expect_err("it is refused");
            assert_eq!(error.code, ResponseError::InvalidRequest);
            assert!(error.message.contains(named), "{}", error.message);
        }
        assert!(read(&cluster().with_resource_name(CLUSTER.into())).is_ok());
    }

    #[test]
    fn both_shapes_encode_in_every_version() {
        for version in VERSIONS {
            let error = refusal(ResponseError::ClusterAuthorizationFailed, "no");
            let seen = encodes(version, &response(vec![Ok(()), Err(error)])).results;
            assert_eq!((seen[0].error_code, seen[1].error_code), (0, 31));
        }
    }
}
