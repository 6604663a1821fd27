//! ACLs between the wire and the catalog: Kafka's codes, and the filters of DescribeAcls and DeleteAcls.
//!
//! A filter is matched against an ACL as the session sees it: its resource's name mapped outwards. ACLs on names outside
//! the session's namespace match nothing.

use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::catalog::{Acl, Operation, PatternType, Permission, ResourceType};
use crate::types::Principal;

/// The name that stands for every resource of a type.
/// What is said of rules where nothing is enforced.
pub const NOT_ENFORCED: &str = "authorization is off here, and no rule would be enforced: set security.authorization, with a \
     principal in security.super-users that makes the rules";

pub const WILDCARD: &str = "*";

/// In a filter, for a type, a pattern type, an operation or a permission: any.
const ANY: i8 = 1;
/// In a filter, for the pattern type: every pattern that applies to the name.
const MATCH: i8 = 2;
/// The highest codes that Kafka gives: types of resources (`User`), pattern types, operations (`TwoPhaseCommit`),
/// permissions. Some are not kept here; a filter for them is right and matches nothing.
const HIGHEST: [i8; 4] = [7, 4, 15, 3];

pub fn resource_type(code: i8) -> Option<ResourceType> {
    [
        ResourceType::Topic,
        ResourceType::Group,
        ResourceType::Cluster,
        ResourceType::TransactionalId,
    ]
    .into_iter()
    .find(|known| *known as i8 == code)
}

pub fn pattern_type(code: i8) -> Option<PatternType> {
    [PatternType::Literal, PatternType::Prefixed]
        .into_iter()
        .find(|known| *known as i8 == code)
}

pub fn permission(code: i8) -> Option<Permission> {
    [Permission::Deny, Permission::Allow]
        .into_iter()
        .find(|known| *known as i8 == code)
}

pub fn operation(code: i8) -> Option<Operation> {
    [
        Operation::All,
        Operation::Read,
        Operation::Write,
        Operation::Create,
        Operation::Delete,
        Operation::Alter,
        Operation::Describe,
        Operation::ClusterAction,
        Operation::DescribeConfigs,
        Operation::AlterConfigs,
        Operation::IdempotentWrite,
    ]
    .into_iter()
    .find(|known| *known as i8 == code)
}

/// `User:alice` and the like.
pub fn principal(text: &str) -> Option<Principal> {
    let (kind, name) = text.split_once(':')?;
    (!kind.is_empty() && !name.is_empty()).then(|| Principal {
        kind: kind.into(),
        name: name.into(),
    })
}

/// A resource's name as the session sees it, `None` when it does not.
pub fn name_out(context: &Context, acl: &Acl) -> Option<StrBytes> {
    let name = acl.resource_name.as_str();
    match acl.resource_type {
        _ if name == WILDCARD => Some(WILDCARD.into()),
        ResourceType::Topic => context.topic_out(name),
        ResourceType::Group => context.group_out(name),
        ResourceType::Cluster | ResourceType::TransactionalId => Some(name.to_owned().into()),
    }
}

/// Which ACLs are meant. Codes are Kafka's; an absent name, principal or host means any.
#[derive(Clone, Debug)]
pub struct AclFilter {
    pub resource_type: i8,
    pub resource_name: Option<StrBytes>,
    pub pattern_type: i8,
    pub principal: Option<StrBytes>,
    pub host: Option<StrBytes>,
    pub operation: i8,
    pub permission: i8,
}

impl AclFilter {
    /// What is wrong with the filter, if anything is.
    ///
    /// # Errors
    /// Names the field whose code Kafka does not have.
    pub fn check(&self) -> Result<(), String> {
        let fields = [
            ("resource type", self.resource_type),
            ("pattern type", self.pattern_type),
            ("operation", self.operation),
            ("permission type", self.permission),
        ];
        for ((field, code), highest) in fields.into_iter().zip(HIGHEST) {
            if !(ANY..=highest).contains(&code) {
                return Err(format!("a filter's {field} cannot be {code}"));
            }
        }
        Ok(())
    }

    /// Whether the filter means this ACL, whose resource the session knows as `name`.
    pub fn matches(&self, acl: &Acl, name: &str) -> bool {
        let is = |filter: i8, code: i8| filter == ANY || filter == code;
        let text = |filter: &Option<StrBytes>, value: &str| {
            filter.as_deref().is_none_or(|wanted| wanted == value)
        };
        is(self.resource_type, acl.resource_type as i8)
            && self.matches_name(acl.pattern_type, name)
            && text(&self.principal, &acl.principal.to_string())
            && text(&self.host, &acl.host)
            && is(self.operation, acl.operation as i8)
            && is(self.permission, acl.permission as i8)
    }

    fn matches_name(&self, pattern_type: PatternType, name: &str) -> bool {
        let any_pattern = self.pattern_type == ANY || self.pattern_type == MATCH;
        if !any_pattern && self.pattern_type != pattern_type as i8 {
            return false;
        }
        let Some(wanted) = self.resource_name.as_deref() else {
            return true;
        };
        if self.pattern_type != MATCH {
            return wanted == name;
        }
        match pattern_type {
            PatternType::Literal => wanted == name || name == WILDCARD,
            PatternType::Prefixed => wanted.starts_with(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> AclFilter {
        AclFilter {
            resource_type: ANY,
            resource_name: None,
            pattern_type: ANY,
            principal: None,
            host: None,
            operation: ANY,
            permission: ANY,
        }
    }

    fn acl(pattern_type: PatternType, name: &str) -> Acl {
        Acl {
            resource_type: ResourceType::Topic,
            pattern_type,
            resource_name: name.into(),
            principal: Principal::user("alice"),
            host: WILDCARD.into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    #[test]
    fn codes_are_kafkas_and_go_both_ways() {
        for code in i8::MIN..=i8::MAX {
            let alike = |known: Option<i8>| known.is_none_or(|known| known == code);
            assert!(alike(resource_type(code).map(|known| known as i8)));
            assert!(alike(pattern_type(code).map(|known| known as i8)));
            assert!(alike(operation(code).map(|known| known as i8)));
            assert!(alike(permission(code).map(|known| known as i8)));
        }
        let known = |codes: &dyn Fn(i8) -> bool| (0..20).filter(|code| codes(*code)).count();
        assert_eq!(known(&|code| resource_type(code).is_some()), 4);
        assert_eq!(known(&|code| pattern_type(code).is_some()), 2);
        assert_eq!(known(&|code| operation(code).is_some()), 11);
        assert_eq!(known(&|code| permission(code).is_some()), 2);
    }

    #[test]
    fn a_name_is_matched_as_the_filters_pattern_type_says() {
        let prefixed = PatternType::Prefixed;
        let literal = PatternType::Literal;
        // Filter's pattern type, ACL's pattern type and name, whether a filter for `orders-eu` means it.
        let table = [
            (MATCH, literal, "orders-eu", true),
            (MATCH, literal, "*", true),
            (MATCH, literal, "orders", false),
            (MATCH, prefixed, "orders-", true),
            (MATCH, prefixed, "orders-eu-1", false),
            (ANY, literal, "orders-eu", true),
            (ANY, prefixed, "orders-eu", true),
            (ANY, prefixed, "orders-", false),
            (ANY, literal, "*", false),
            (3, literal, "orders-eu", true),
            (3, prefixed, "orders-eu", false),
            (4, prefixed, "orders-eu", true),
            (4, prefixed, "orders-", false),
        ];
        for (filter_type, pattern_type, name, expected) in table {
            let filter = AclFilter {
                pattern_type: filter_type,
                resource_name: Some("orders-eu".into()),
                ..any()
            };
            let matched = filter.matches(&acl(pattern_type, name), name);
            assert_eq!(matched, expected, "{filter_type} {pattern_type:?} {name}");
        }
    }

    #[test]
    fn every_field_of_a_filter_narrows_it() {
        let kept = acl(PatternType::Literal, "orders");
        assert!(any().matches(&kept, "orders"));
        let others = [
            AclFilter {
                resource_type: 3,
                ..any()
            },
            AclFilter {
                pattern_type: 4,
                ..any()
            },
            AclFilter {
                principal: Some("User:bob".into()),
                ..any()
            },
            AclFilter {
                host: Some("10.0.0.1".into()),
                ..any()
            },
            AclFilter {
                operation: 4,
                ..any()
            },
            AclFilter {
                permission: 2,
                ..any()
            },
        ];
        for filter in others {
            assert!(!filter.matches(&kept, "orders"), "{filter:?}");
        }
    }

    #[test]
    fn a_filter_with_a_code_that_kafka_lacks_is_named() {
        assert_eq!(any().check(), Ok(()));
        let unknown = AclFilter {
            operation: 0,
            ..any()
        };
        assert_eq!(
            unknown.check(),
            Err("a filter's operation cannot be 0".into())
        );
        assert!(
            AclFilter {
                resource_type: 8,
                ..any()
            }
            .check()
            .is_err()
        );
        assert!(
            AclFilter {
                pattern_type: -1,
                ..any()
            }
            .check()
            .is_err()
        );
        assert!(
            AclFilter {
                permission: 4,
                ..any()
            }
            .check()
            .is_err()
        );
    }

    #[test]
    fn a_principal_is_a_kind_and_a_name() {
        assert_eq!(principal("User:alice"), Some(Principal::user("alice")));
        assert_eq!(principal("User:CN=a:b"), Some(Principal::user("CN=a:b")));
        for wrong in ["alice", ":alice", "User:", ""] {
            assert_eq!(principal(wrong), None, "{wrong}");
        }
    }
}
