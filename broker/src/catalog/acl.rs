//! Access control lists: a sorted set, replaced as a whole so that a reader holds one consistent set.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{Change, Store, Table};
use super::{Catalog, CatalogError};
use crate::types::Principal;

/// The most ACLs a catalog holds: the set is copied at each change and asked on every request.
pub const MAX_ACLS: usize = 100_000;

/// Kafka's codes are the discriminants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(i8)]
pub enum ResourceType {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(i8)]
pub enum PatternType {
    Literal = 3,
    Prefixed = 4,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(i8)]
pub enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(i8)]
pub enum Permission {
    Deny = 2,
    Allow = 3,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Acl {
    pub resource_type: ResourceType,
    pub pattern_type: PatternType,
    /// `*` is every resource of the type.
    pub resource_name: String,
    /// `User:*` is every user.
    pub principal: Principal,
    /// `*` is every host.
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
}

pub(super) fn load(store: &Store) -> Result<Vec<Acl>, CatalogError> {
    let mut acls: Vec<Acl> = store
        .load(Table::Acl)?
        .into_iter()
        .map(|(_, acl)| acl)
        .collect();
    acls.sort();
    Ok(acls)
}

/// An ACL has no name beside its fields, so all of them are its key.
fn key(acl: &Acl) -> Result<String, CatalogError> {
    serde_json::to_string(acl).map_err(|error| CatalogError::Invalid(format!("ACL: {error}")))
}

impl Catalog {
    /// Sorted.
    pub fn acls(&self) -> Arc<Vec<Acl>> {
        self.acls.load_full()
    }

    /// Adds all or none. Adding what is there already changes nothing.
    ///
    /// # Errors
    /// `Invalid` above `MAX_ACLS` or above the size bounds.
    pub fn add_acls(&self, acls: Vec<Acl>) -> Result<(), CatalogError> {
        let store = self.store.lock();
        let mut next = Vec::clone(&self.acls());
        let known = next.len();
        next.extend(acls);
        next[known..].sort();
        let mut changes = Vec::new();
        for acl in &next[known..] {
            if next[..known].binary_search(acl).is_err() {
                changes.push(Change::put(Table::Acl, &key(acl)?, acl)?);
            }
        }
        next.sort();
        next.dedup();
        if next.len() > MAX_ACLS {
            return Err(CatalogError::Invalid(format!(
                "the catalog would hold {} ACLs; at most {MAX_ACLS} are allowed: use prefixed patterns, or remove some",
                next.len()
            )));
        }
        store.commit(&changes)?;
        self.acls.store(Arc::new(next));
        Ok(())
    }

    /// Removes the ACLs that match and returns them.
    pub fn remove_acls(&self, matches: &dyn Fn(&Acl) -> bool) -> Result<Vec<Acl>, CatalogError> {
        let store = self.store.lock();
        let (removed, kept): (Vec<Acl>, Vec<Acl>) =
            self.acls().iter().cloned().partition(|acl| matches(acl));
        let changes = removed
            .iter()
            .map(|acl| Ok(Change::remove(Table::Acl, &key(acl)?)))
            .collect::<Result<Vec<_>, CatalogError>>()?;
        store.commit(&changes)?;
        self.acls.store(Arc::new(kept));
        Ok(removed)
    }
}
