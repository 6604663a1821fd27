//! The native decision: super users, then Kafka's ACLs, deny wins, default deny.
//!
//! A *rule* is one ACL seen from one resource: who, from where, which operation, allowed or denied. Rules lie in an
//! *index* by resource type, by the resource's literal name or prefix, and by principal, so that a decision
//! looks at the few rules that can speak of it however many there are. The index is made again when the catalog hands
//! out another list of ACLs. The meaning follows Apache Kafka's `StandardAuthorizer`.

mod index;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::catalog::{Acl, Catalog, Operation, ResourceType};
use crate::config::SecurityConfig;
use crate::types::Principal;
use index::Index;

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

type AclSource = Box<dyn Fn() -> Arc<Vec<Acl>> + Send + Sync>;

pub struct Authorizer {
    enabled: bool,
    super_users: HashSet<Principal>,
    acls: AclSource,
    index: ArcSwap<Index>,
    /// Held while the index is made again, so that one change is indexed once.
    rebuilding: Mutex<()>,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer")
            .field("enabled", &self.enabled)
            .field("super_users", &self.super_users)
            .finish_non_exhaustive()
    }
}

impl Authorizer {
    /// Errs on a super user that is not written `User:name`.
    pub fn new(config: &SecurityConfig, catalog: Arc<Catalog>) -> Result<Self, String> {
        Self::with_acls(config, Box::new(move || catalog.acls()))
    }

    /// As `new`, with the ACLs taken from `acls`; another `Arc` tells that they changed.
    pub fn with_acls(config: &SecurityConfig, acls: AclSource) -> Result<Self, String> {
        let super_users = config.super_users.iter();
        Ok(Self {
            enabled: config.authorization,
            super_users: super_users
                .map(|text| parse_principal(text))
                .collect::<Result<_, _>>()?,
            acls,
            index: ArcSwap::from_pointee(Index::default()),
            rebuilding: Mutex::new(()),
        })
    }

    pub fn decide(&self, principal: &Principal, host: &str, action: &Action<'_>) -> Decision {
        if self.is_always_allowed(principal) {
            return Decision::AllowAlways;
        }
        self.current(|index| index.decide(principal, host, action))
    }

    /// Whether the principal may do this operation on at least one resource of the type (Kafka's authorizeByResourceType,
    /// KIP-679).
    pub fn any_resource(
        &self,
        principal: &Principal,
        host: &str,
        operation: Operation,
        resource_type: ResourceType,
    ) -> bool {
        self.is_always_allowed(principal)
            || self.current(|index| index.any_resource(principal, host, operation, resource_type))
    }

    /// A super user, or anybody where authorization is off.
    pub fn is_always_allowed(&self, principal: &Principal) -> bool {
        !self.enabled || self.super_users.contains(principal)
    }

    /// Reads the index of the ACLs as they are now.
    fn current<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        let acls = (self.acls)();
        let index = self.index.load();
        if index.is_of(&acls) {
            return read(&index);
        }
        let _one_at_a_time = self.rebuilding.lock();
        // Asked again: another thread may have indexed this change, or a later one, while this one waited.
        let acls = (self.acls)();
        if !self.index.load().is_of(&acls) {
            self.index.store(Arc::new(Index::new(acls)));
        }
        read(&self.index.load())
    }
}

fn parse_principal(text: &str) -> Result<Principal, String> {
    match text.split_once(':') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(Principal {
            kind: kind.into(),
            name: name.into(),
        }),
        _ => Err(format!(
            "security.super_users: {text:?} is not a principal; write it as User:{}",
            if text.is_empty() { "name" } else { text }
        )),
    }
}

#[cfg(test)]
mod tests;
