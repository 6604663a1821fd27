//! A host on a folder of its own, with entries in memory, a clock that is moved by hand, and guests by package name.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harness::guests::build_guest;
use tempfile::TempDir;
use tidegate::catalog::PluginEntry;
use tidegate::config::PluginConfig;
use tidegate::env::Clock;
use tidegate::log::records::Record;
use tidegate::observe::Metrics;
use tidegate::plugin::{
    BatchOrigin, DeployError, Effort, FailureKind, OnPoison, PluginHost, RevisionStore, Terms,
    Transformed,
};

/// Entries in memory, as the catalog would keep them.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: Mutex<BTreeMap<String, Arc<PluginEntry>>>,
    /// Plugins that something needs, with what it is.
    pub users: Mutex<BTreeMap<String, String>>,
}

impl RevisionStore for MemoryStore {
    fn entries(&self) -> Vec<Arc<PluginEntry>> {
        self.entries.lock().unwrap().values().cloned().collect()
    }
    fn put(&self, entry: PluginEntry) -> Result<(), String> {
        let mut entries = self.entries.lock().unwrap();
        entries.insert(entry.name.clone(), Arc::new(entry));
        Ok(())
    }
    fn delete(&self, name: &str) -> Result<(), String> {
        self.entries.lock().unwrap().remove(name);
        Ok(())
    }
    fn user_of(&self, name: &str) -> Option<String> {
        self.users.lock().unwrap().get(name).cloned()
    }
}

pub struct Fixture {
    pub host: Arc<PluginHost>,
    pub store: Arc<MemoryStore>,
    pub clock: Clock,
    pub directory: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(PluginConfig::default())
    }

    /// For what is not about deadlines, and must not meet one where processors are slow.
    pub fn patient() -> Self {
        let mut config = PluginConfig::default();
        config.transform_deadline *= 50;
        Self::with(config)
    }

    pub fn with(config: PluginConfig) -> Self {
        let store = Arc::new(MemoryStore::default());
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000_000);
        let host = open(&directory, &store, &clock, config);
        Self {
            host,
            store,
            clock,
            directory,
        }
    }

    /// The same broker after a restart.
    pub fn reopen(&mut self) {
        self.host = open(
            &self.directory,
            &self.store,
            &self.clock,
            PluginConfig::default(),
        );
    }

    pub fn try_deploy(
        &self,
        name: &str,
        package: &str,
        config: &[(&str, &str)],
    ) -> Result<Arc<PluginEntry>, DeployError> {
        let component = fs::read(build_guest(package)).unwrap();
        let config = config
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.host.deploy(name, &component, config)
    }

    pub fn deploy(&self, name: &str, package: &str, config: &[(&str, &str)]) -> Arc<PluginEntry> {
        self.try_deploy(name, package, config).unwrap()
    }

    pub fn transform(&self, plugin: &str, records: &[Record]) -> Result<Transformed, FailureKind> {
        self.transform_on("hostile", plugin, records)
    }

    pub fn transform_on(
        &self,
        topic: &str,
        plugin: &str,
        records: &[Record],
    ) -> Result<Transformed, FailureKind> {
        self.transform_with(OnPoison::Reject, topic, plugin, records)
    }

    pub fn transform_with(
        &self,
        on_poison: OnPoison,
        topic: &str,
        plugin: &str,
        records: &[Record],
    ) -> Result<Transformed, FailureKind> {
        self.host
            .transform(plugin, &origin(topic), records, terms(on_poison))
            .map_err(|failure| failure.kind)
    }

    pub fn assign(&self, plugin: &str, records: &[Record]) -> Result<Vec<u32>, FailureKind> {
        self.host
            .assign(plugin, &origin("hostile"), records, terms(OnPoison::Reject))
            .map_err(|failure| failure.kind)
    }
}

fn open(
    directory: &TempDir,
    store: &Arc<MemoryStore>,
    clock: &Clock,
    config: PluginConfig,
) -> Arc<PluginHost> {
    PluginHost::with_store(
        &directory.path().join("plugins"),
        config,
        Arc::clone(store) as Arc<dyn RevisionStore>,
        Arc::new(Metrics::new(1000)),
        clock.clone(),
    )
    .unwrap()
}

pub fn terms(on_poison: OnPoison) -> Terms {
    Terms {
        on_poison,
        effort: Effort::Full,
    }
}

fn origin(topic: &str) -> BatchOrigin<'_> {
    BatchOrigin {
        topic,
        partition: 2,
        partition_count: 6,
        base_sequence: Some(9),
    }
}

pub fn record(key: Option<&str>, value: Option<&str>) -> Record {
    let field = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Record {
        key: key.map(field),
        value: value.map(field),
        ..Record::default()
    }
}

/// Two records with everything on them.
pub fn pair() -> Vec<Record> {
    let header = |name: &'static str, value: Option<&'static str>| {
        (Bytes::from(name), value.map(Bytes::from))
    };
    vec![
        Record {
            offset_delta: 0,
            timestamp: 1_700_000_000_123,
            headers: vec![
                header("trace", Some("abc")),
                header("null", None),
                header("", Some("")),
            ],
            ..record(Some("first"), Some("{\"a\":1}"))
        },
        Record {
            offset_delta: 4,
            timestamp: -1,
            ..record(None, Some(""))
        },
    ]
}
