//! Access control lists, by Kafka's names and numbers.

use std::fmt;
use std::str::FromStr;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};

use super::{Admin, Outcome, Target};
use crate::client::str_bytes;
use crate::error::{Error, Result};
use crate::net::api::Api;

/// An enum whose variants have a protocol number and Kafka's name; names are read in any case, with or without
/// underscores.
macro_rules! named_codes {
    ($(#[$doc:meta])* $name:ident: $($variant:ident = $code:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($variant = $code),* }

        impl $name {
            /// Every variant.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The protocol's number.
            pub fn code(self) -> i8 {
                self as i8
            }

            pub fn from_code(code: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.code() == code)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => stringify!($variant)),* })
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let plain: String = text.chars().filter(|c| !matches!(c, '_' | '-')).collect();
                Self::ALL
                    .iter()
                    .copied()
                    .find(|known| known.to_string().eq_ignore_ascii_case(&plain))
                    .ok_or_else(|| {
                        let names: Vec<_> = Self::ALL.iter().map(ToString::to_string).collect();
                        Error::InvalidInput(format!("{text} is none of {}", names.join(", ")))
                    })
            }
        }
    };
}

named_codes! {
    /// What an ACL is about.
    AclResourceType: Topic = 2, Group = 3, Cluster = 4, TransactionalId = 5,
}
named_codes! {
    /// How an ACL's resource name is meant.
    AclPatternType: Literal = 3, Prefixed = 4,
}
named_codes! {
    /// What an ACL allows or denies. Read, Write, Delete and Alter include Describe.
    AclOperation: All = 2, Read = 3, Write = 4, Create = 5, Delete = 6, Alter = 7, Describe = 8,
    ClusterAction = 9, DescribeConfigs = 10, AlterConfigs = 11, IdempotentWrite = 12,
}
named_codes! {
    AclPermission: Deny = 2, Allow = 3,
}

/// The filters' number for "any".
const ANY: i8 = 1;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AclBinding {
    pub resource_type: AclResourceType,
    /// A name, the start of one (prefixed), or `*`; the cluster is `kafka-cluster`.
    pub resource_name: String,
    pub pattern_type: AclPatternType,
    /// Such as `User:alice`, or `User:*` for everyone.
    pub principal: String,
    /// An IP address, or `*`.
    pub host: String,
    pub operation: AclOperation,
    pub permission: AclPermission,
}

/// Which ACLs; what is `None` does not matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AclFilter {
    pub resource_type: Option<AclResourceType>,
    pub resource_name: Option<String>,
    pub pattern_type: Option<AclPatternType>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<AclOperation>,
    pub permission: Option<AclPermission>,
}

impl From<&AclBinding> for AclFilter {
    /// Exactly this one.
    fn from(binding: &AclBinding) -> Self {
        Self {
            resource_type: Some(binding.resource_type),
            resource_name: Some(binding.resource_name.clone()),
            pattern_type: Some(binding.pattern_type),
            principal: Some(binding.principal.clone()),
            host: Some(binding.host.clone()),
            operation: Some(binding.operation),
            permission: Some(binding.permission),
        }
    }
}

impl Admin {
    pub async fn create_acls(&self, bindings: &[AclBinding]) -> Result<()> {
        let creations = bindings.iter().map(|binding| {
            AclCreation::default()
                .with_resource_type(binding.resource_type.code())
                .with_resource_name(str_bytes(&binding.resource_name))
                .with_resource_pattern_type(binding.pattern_type.code())
                .with_principal(str_bytes(&binding.principal))
                .with_host(str_bytes(&binding.host))
                .with_operation(binding.operation.code())
                .with_permission_type(binding.permission.code())
        });
        let request = CreateAclsRequest::default().with_creations(creations.collect());
        let (broker, response) = self.ask(Target::Controller, &request).await?;
        let outcome = Outcome {
            broker: &broker,
            api: CreateAclsRequest::NAME,
        };
        for (binding, result) in bindings.iter().zip(&response.results) {
            let subject = format!("{} {}", binding.resource_type, binding.resource_name);
            outcome.of(subject, result.error_code, result.error_message.as_deref())?;
        }
        Ok(())
    }

    pub async fn list_acls(&self, filter: &AclFilter) -> Result<Vec<AclBinding>> {
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(filter.resource_type.map_or(ANY, AclResourceType::code))
            .with_resource_name_filter(filter.resource_name.as_deref().map(str_bytes))
            .with_pattern_type_filter(filter.pattern_type.map_or(ANY, AclPatternType::code))
            .with_principal_filter(filter.principal.as_deref().map(str_bytes))
            .with_host_filter(filter.host.as_deref().map(str_bytes))
            .with_operation(filter.operation.map_or(ANY, AclOperation::code))
            .with_permission_type(filter.permission.map_or(ANY, AclPermission::code));
        let (broker, response) = self.ask(Target::Any, &request).await?;
        let outcome = Outcome {
            broker: &broker,
            api: DescribeAclsRequest::NAME,
        };
        let message = response.error_message.as_deref();
        outcome.of("ACLs".into(), response.error_code, message)?;
        let mut bindings = Vec::new();
        for resource in &response.resources {
            for acl in &resource.acls {
                bindings.extend(binding(
                    (
                        resource.resource_type,
                        resource.resource_name.as_str(),
                        resource.pattern_type,
                    ),
                    (acl.principal.as_str(), acl.host.as_str()),
                    (acl.operation, acl.permission_type),
                ));
            }
        }
        bindings.sort();
        Ok(bindings)
    }

    /// Deletes every ACL that the filter matches, and says which those were.
    pub async fn delete_acls(&self, filter: &AclFilter) -> Result<Vec<AclBinding>> {
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(filter.resource_type.map_or(ANY, AclResourceType::code))
            .with_resource_name_filter(filter.resource_name.as_deref().map(str_bytes))
            .with_pattern_type_filter(filter.pattern_type.map_or(ANY, AclPatternType::code))
            .with_principal_filter(filter.principal.as_deref().map(str_bytes))
            .with_host_filter(filter.host.as_deref().map(str_bytes))
            .with_operation(filter.operation.map_or(ANY, AclOperation::code))
            .with_permission_type(filter.permission.map_or(ANY, AclPermission::code));
        let request = DeleteAclsRequest::default().with_filters(vec![filter]);
        let (broker, response) = self.ask(Target::Controller, &request).await?;
        let outcome = Outcome {
            broker: &broker,
            api: DeleteAclsRequest::NAME,
        };
        let mut bindings = Vec::new();
        for result in &response.filter_results {
            outcome.of(
                "ACLs".into(),
                result.error_code,
                result.error_message.as_deref(),
            )?;
            for acl in &result.matching_acls {
                let message = acl.error_message.as_deref();
                outcome.of(acl.resource_name.to_string(), acl.error_code, message)?;
                bindings.extend(binding(
                    (
                        acl.resource_type,
                        acl.resource_name.as_str(),
                        acl.pattern_type,
                    ),
                    (acl.principal.as_str(), acl.host.as_str()),
                    (acl.operation, acl.permission_type),
                ));
            }
        }
        bindings.sort();
        Ok(bindings)
    }
}

/// `None` for kinds that a newer broker has and this client has no name for.
fn binding(
    (resource_type, resource_name, pattern_type): (i8, &str, i8),
    (principal, host): (&str, &str),
    (operation, permission): (i8, i8),
) -> Option<AclBinding> {
    Some(AclBinding {
        resource_type: AclResourceType::from_code(resource_type)?,
        resource_name: resource_name.to_owned(),
        pattern_type: AclPatternType::from_code(pattern_type)?,
        principal: principal.to_owned(),
        host: host.to_owned(),
        operation: AclOperation::from_code(operation)?,
        permission: AclPermission::from_code(permission)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_kafkas_tools_write_them() {
        for (text, expected) in [
            ("Read", AclOperation::Read),
            ("IDEMPOTENT_WRITE", AclOperation::IdempotentWrite),
            ("describe-configs", AclOperation::DescribeConfigs),
        ] {
            assert_eq!(text.parse::<AclOperation>().unwrap(), expected);
        }
        let error = "Reed".parse::<AclOperation>().unwrap_err().to_string();
        assert!(error.contains("Read, Write"), "{error}");
    }

    #[test]
    fn codes_round_trip() {
        for operation in AclOperation::ALL {
            assert_eq!(AclOperation::from_code(operation.code()), Some(*operation));
        }
        assert_eq!(AclPermission::from_code(9), None);
    }
}
