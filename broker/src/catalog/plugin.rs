//! Deployed plugins and their revisions. The components' bytes are kept elsewhere, under their digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{Change, Store, Table};
use super::{Catalog, CatalogError};
use crate::types::TimestampMs;

/// One revision of a deployed plugin. Its configuration may hold secrets (a salt, say): `Debug` shows the keys alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRevision {
    pub revision: u32,
    /// SHA-256 of the component, in hexadecimal; the bytes are kept under it.
    pub digest: String,
    pub world: String,
    pub config: BTreeMap<String, String>,
    pub deployed_ms: TimestampMs,
    pub size_bytes: u64,
}

impl std::fmt::Debug for PluginRevision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginRevision")
            .field("revision", &self.revision)
            .field("digest", &self.digest)
            .field("world", &self.world)
            .field("config", &self.config.keys())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PluginEntry {
    pub name: String,
    pub active: u32,
    /// Oldest first; the last `max_revisions_kept`.
    pub revisions: Vec<PluginRevision>,
}

pub(super) fn load(store: &Store) -> Result<BTreeMap<String, Arc<PluginEntry>>, CatalogError> {
    let plugins = store.load::<PluginEntry>(Table::Plugin)?;
    Ok(plugins
        .into_iter()
        .map(|(name, entry)| (name, Arc::new(entry)))
        .collect())
}

impl Catalog {
    pub fn plugin(&self, name: &str) -> Option<Arc<PluginEntry>> {
        self.plugins.read().get(name).cloned()
    }

    /// Sorted by name.
    pub fn plugins(&self) -> Vec<Arc<PluginEntry>> {
        self.plugins.read().values().cloned().collect()
    }

    /// Creates or replaces.
    pub fn put_plugin(&self, entry: PluginEntry) -> Result<(), CatalogError> {
        let store = self.store.lock();
        store.commit(&[Change::put(Table::Plugin, &entry.name, &entry)?])?;
        self.plugins
            .write()
            .insert(entry.name.clone(), Arc::new(entry));
        Ok(())
    }

    pub fn delete_plugin(&self, name: &str) -> Result<(), CatalogError> {
        let store = self.store.lock();
        if self.plugin(name).is_none() {
            return Err(CatalogError::Missing(format!("plugin {name:?}")));
        }
        store.commit(&[Change::remove(Table::Plugin, name)])?;
        self.plugins.write().remove(name);
        Ok(())
    }
}
