//! Named things and their settings: topics, ACLs, users, plugins, producer-id blocks. Small, transactional, durable.
//! Reads are from memory; every change is committed to the store before it is seen. Mutating calls block on the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::{Principal, TimestampMs, TopicId, TopicName};

#[derive(Debug)]
pub struct Catalog {}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub partitions: i32,
    pub internal: bool,
    /// The topic's own settings, as given.
    pub configs: BTreeMap<String, String>,
    pub created_ms: TimestampMs,
}

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

/// A SCRAM verifier (RFC 5802): from it the password cannot be had back, yet it is kept out of `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramVerifier {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    pub sha256: ScramVerifier,
    pub sha512: ScramVerifier,
}

/// One revision of a deployed plugin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PluginRevision {
    pub revision: u32,
    /// SHA-256 of the component, in hexadecimal; the bytes are kept under it.
    pub digest: String,
    pub world: String,
    pub config: BTreeMap<String, String>,
    pub deployed_ms: TimestampMs,
    pub size_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PluginEntry {
    pub name: String,
    pub active: u32,
    /// Oldest first; the last `max_revisions_kept`.
    pub revisions: Vec<PluginRevision>,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("{0} exists already")]
    Exists(String),
    #[error("{0} does not exist")]
    Missing(String),
    #[error("{0}")]
    Invalid(String),
    /// The store failed: nothing was changed.
    #[error("catalog store: {0}")]
    Store(String),
}

impl Catalog {
    /// Opens or creates the store file in `directory`.
    pub fn open(directory: &Path) -> Result<Arc<Self>, CatalogError> {
        let _ = directory;
        todo!()
    }

    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        let _ = name;
        todo!()
    }
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        let _ = id;
        todo!()
    }
    /// Sorted by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        todo!()
    }
    pub fn create_topic(&self, topic: Topic) -> Result<Arc<Topic>, CatalogError> {
        let _ = topic;
        todo!()
    }
    pub fn delete_topic(&self, name: &str) -> Result<Arc<Topic>, CatalogError> {
        let _ = name;
        todo!()
    }
    /// Replaces a topic's own settings.
    pub fn set_topic_configs(
        &self,
        name: &str,
        configs: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, CatalogError> {
        let _ = (name, configs);
        todo!()
    }
    /// Raises a topic's partition count.
    pub fn set_partitions(&self, name: &str, partitions: i32) -> Result<Arc<Topic>, CatalogError> {
        let _ = (name, partitions);
        todo!()
    }

    pub fn acls(&self) -> Arc<Vec<Acl>> {
        todo!()
    }
    /// Adds all or none. Adding what is there already changes nothing.
    pub fn add_acls(&self, acls: Vec<Acl>) -> Result<(), CatalogError> {
        let _ = acls;
        todo!()
    }
    pub fn remove_acls(&self, matches: &dyn Fn(&Acl) -> bool) -> Result<Vec<Acl>, CatalogError> {
        let _ = matches;
        todo!()
    }

    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        let _ = name;
        todo!()
    }
    pub fn users(&self) -> Vec<String> {
        todo!()
    }
    pub fn put_user(&self, user: User) -> Result<(), CatalogError> {
        let _ = user;
        todo!()
    }
    pub fn delete_user(&self, name: &str) -> Result<(), CatalogError> {
        let _ = name;
        todo!()
    }

    pub fn plugin(&self, name: &str) -> Option<Arc<PluginEntry>> {
        let _ = name;
        todo!()
    }
    pub fn plugins(&self) -> Vec<Arc<PluginEntry>> {
        todo!()
    }
    pub fn put_plugin(&self, entry: PluginEntry) -> Result<(), CatalogError> {
        let _ = entry;
        todo!()
    }
    pub fn delete_plugin(&self, name: &str) -> Result<(), CatalogError> {
        let _ = name;
        todo!()
    }

    /// The next producer id; blocks of 1,000 are reserved in the store, so that an id is never given twice.
    pub fn next_producer_id(&self) -> Result<i64, CatalogError> {
        todo!()
    }
}
