//! The native decision: super users, then Kafka's ACLs, deny wins, default deny.

use std::sync::Arc;

use crate::catalog::{Catalog, Operation, ResourceType};
use crate::config::SecurityConfig;
use crate::types::Principal;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action<'a> {
    pub operation: Operation,
    pub resource_type: ResourceType,
    pub resource_name: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Authorization is off, or a super user: no plugin is asked.
    AllowAlways,
    /// An ACL allows it: authorizer plugins may still deny.
    Allow,
    /// An ACL denies it: final.
    Deny,
    /// No ACL speaks of it: authorizer plugins may allow, otherwise denied.
    NoMatch,
}

#[derive(Debug)]
pub struct Authorizer {}

impl Authorizer {
    pub fn new(config: &SecurityConfig, catalog: Arc<Catalog>) -> Result<Self, String> {
        let _ = (config, catalog);
        todo!()
    }
    pub fn decide(&self, principal: &Principal, host: &str, action: &Action<'_>) -> Decision {
        let _ = (principal, host, action);
        todo!()
    }
    /// Whether the principal may do this operation on at least one resource of the type (Kafka's authorizeByResourceType).
    pub fn any_resource(
        &self,
        principal: &Principal,
        host: &str,
        operation: Operation,
        resource_type: ResourceType,
    ) -> bool {
        let _ = (principal, host, operation, resource_type);
        todo!()
    }
}
