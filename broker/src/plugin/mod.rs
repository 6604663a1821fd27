//! The WebAssembly plugin host: components in, decisions on batches out. Knows no partitions' logs, groups or sockets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::catalog::{Catalog, PluginEntry};
use crate::config::PluginConfig;
use crate::env::Clock;
use crate::log::records::Record;
use crate::observe::Metrics;
use crate::types::Principal;

#[derive(Debug)]
pub struct PluginHost {}

/// Where a batch comes from, as a guest sees it.
#[derive(Clone, Debug)]
pub struct BatchOrigin<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub base_sequence: Option<i32>,
}

/// Why a call gave no answer. `Display` names the plugin and its revision and is fit for a client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("plugin {plugin} (revision {revision}): {kind}")]
pub struct PluginFailure {
    pub plugin: String,
    pub revision: u32,
    pub kind: FailureKind,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FailureKind {
    #[error("is not deployed")]
    NotDeployed,
    #[error("is a {0}, which cannot be used here")]
    WrongWorld(String),
    #[error("trapped: {0}")]
    Trap(String),
    #[error("ran past its deadline of {0} ms")]
    Deadline(u64),
    #[error("asked for more than its memory limit of {0} bytes")]
    Memory(u64),
    #[error("returned a wrong answer: {0}")]
    BadOutput(String),
    #[error("refused the call: {0}")]
    CallError(String),
    #[error("is suspended after repeated faults")]
    Suspended,
    #[error("cannot take the batch: {0}")]
    Input(String),
}

/// One record a plugin will never accept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordReject {
    pub index: u32,
    pub code: &'static str,
    pub message: String,
}

/// A transform's answer on a batch; indexes are positions in the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transformed {
    Unchanged,
    /// For each input record: keep it?
    Keep(Vec<bool>),
    /// New records with the index of the input each came of (ascending).
    Replaced(Vec<(u32, Record)>),
    /// At least one record is refused: nothing is to be written.
    Rejected(Vec<RecordReject>),
}

/// The guest keeps the record in the partition that its client chose.
pub const KEEP_PARTITION: u32 = u32::MAX;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Allow,
    Deny(Option<String>),
    Abstain,
}

/// An action in Kafka's own codes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PluginAction {
    pub operation: i8,
    pub resource_type: i8,
    pub resource_name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Everything that is wrong with the component, at once.
    #[error("the component was refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    #[error("no plugin named {0}")]
    Missing(String),
    #[error("plugin {0} has no revision {1}")]
    MissingRevision(String, u32),
    #[error("plugin {0} is in use by {1}")]
    InUse(String, String),
    #[error("{0}")]
    Storage(String),
}

impl PluginHost {
    /// Starts the engine and loads every deployed plugin from the catalog; artifacts live under `directory`. Blocking.
    pub fn open(
        directory: &Path,
        config: PluginConfig,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Arc<Self>, String> {
        let _ = (directory, config, catalog, metrics, clock);
        todo!()
    }
    /// Validates, compiles, initialises and activates a component as the next revision. Blocking.
    pub fn deploy(
        &self,
        name: &str,
        component: &[u8],
        config: BTreeMap<String, String>,
    ) -> Result<Arc<PluginEntry>, DeployError> {
        let _ = (name, component, config);
        todo!()
    }
    /// Makes a kept revision active again; without a number the one before the active. Blocking.
    pub fn rollback(
        &self,
        name: &str,
        revision: Option<u32>,
    ) -> Result<Arc<PluginEntry>, DeployError> {
        let _ = (name, revision);
        todo!()
    }
    pub fn remove(&self, name: &str) -> Result<(), DeployError> {
        let _ = name;
        todo!()
    }
    pub fn list(&self) -> Vec<Arc<PluginEntry>> {
        todo!()
    }
    /// `partitioner`, `authorizer` or `transform`, when deployed.
    pub fn world(&self, name: &str) -> Option<String> {
        let _ = name;
        todo!()
    }

    /// One partition for each record, each below `partition_count` or `KEEP_PARTITION`.
    pub fn assign(
        &self,
        plugin: &str,
        origin: &BatchOrigin<'_>,
        partition_count: u32,
        records: &[Record],
    ) -> Result<Vec<u32>, PluginFailure> {
        let _ = (plugin, origin, partition_count, records);
        todo!()
    }
    pub fn transform(
        &self,
        plugin: &str,
        origin: &BatchOrigin<'_>,
        records: &[Record],
    ) -> Result<Transformed, PluginFailure> {
        let _ = (plugin, origin, records);
        todo!()
    }
    /// One verdict for each action. Answers are cached for the time the plugin says.
    pub fn authorize(
        &self,
        plugin: &str,
        principal: &Principal,
        host: &str,
        listener: &str,
        client_id: Option<&str>,
        actions: &[PluginAction],
    ) -> Result<Vec<Verdict>, PluginFailure> {
        let _ = (plugin, principal, host, listener, client_id, actions);
        todo!()
    }
}
