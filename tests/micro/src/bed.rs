//! A broker without listeners, to try its parts on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tempfile::TempDir;
use tidegate::broker::{Surroundings, recover};
use tidegate::config::{Config, Transport};
use tidegate::env::Clock;
use tidegate::kafka::context::Services;
use tidegate::kafka::dispatch::{KafkaConnection, KafkaService};
use tidegate::kafka::topics::{NewTopic, TopicHandle};
use tidegate::log::{Background, Work};
use tidegate::net::{ConnectionInfo, Service};
use tidegate::observe::Metrics;
use tokio::runtime::Runtime;

/// Where the clock stands, in milliseconds since the Unix epoch.
pub const NOW: i64 = 1_700_000_000_000;

/// Series of metrics: enough for what a case touches.
const SERIES: usize = 1000;
/// Small enough that a case which appends for minutes fills no disk: what is older is written over.
const SEGMENT_BYTES: u64 = 64 << 20;
const RETENTION_BYTES: i64 = 128 << 20;

/// A broker's parts, the folder they write to, and a runtime for what has to be awaited.
#[derive(Debug)]
pub struct Bed {
    service: KafkaService,
    runtime: Runtime,
    /// Last: what is above writes into it until it is dropped.
    _folder: TempDir,
}

fn config(folder: PathBuf) -> Config {
    let mut config = Config::default();
    config.broker.data_dir = folder;
    config.topic_defaults.segment_bytes = SEGMENT_BYTES;
    config.topic_defaults.retention_bytes = RETENTION_BYTES;
    config.groups.offsets_partitions = 1;
    config.transactions.state_partitions = 1;
    // Under callgrind a call takes fifty times as long.
    config.plugins.partitioner_deadline = Duration::from_secs(60);
    config.plugins.transform_deadline = Duration::from_secs(60);
    config
}

impl Bed {
    /// Starts on an empty folder.
    ///
    /// # Errors
    /// Why the broker would not start.
    pub fn make() -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the broker's data")?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let surroundings = Surroundings {
            clock: Clock::manual(NOW),
            disk: None,
            background: Background::Manual,
        };
        let metrics = Arc::new(Metrics::new(SERIES));
        let entered = runtime.enter();
        let services = recover(config(folder.path().join("data")), metrics, surroundings)?;
        drop(entered);
        Ok(Self {
            service: KafkaService {
                services: Arc::new(services),
            },
            runtime,
            _folder: folder,
        })
    }

    pub fn services(&self) -> &Arc<Services> {
        &self.service.services
    }

    /// A new topic.
    ///
    /// # Errors
    /// What the broker says against it.
    pub fn topic(&self, name: &str, partitions: i32) -> Result<Arc<TopicHandle>> {
        let new = NewTopic {
            name: name.to_owned(),
            partitions,
            configs: BTreeMap::new(),
            creator: None,
        };
        let created = self.runtime.block_on(self.services().topics.create(new));
        created.map_err(|refusal| anyhow!("topic {name}: {}", refusal.message))
    }

    /// A client's connection.
    pub fn connect(&self) -> KafkaConnection {
        self.service.connect(connection())
    }

    /// Syncs what was appended, so that it can be read.
    pub fn flush(&self) {
        while self.services().logs.step(Work::Flush) || self.services().logs.step(Work::LazyFlush) {
        }
    }

    /// Deploys a plugin of this repository.
    ///
    /// # Errors
    /// When it was not built, or the host refuses it.
    pub fn deploy(&self, name: &str, package: &str, config: &[(&str, &str)]) -> Result<()> {
        let path = component(package)?;
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let config = config
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.services().plugins.deploy(name, &bytes, config)?;
        Ok(())
    }
}

/// What the listener says of a connection.
pub fn connection() -> ConnectionInfo {
    ConnectionInfo {
        listener: "bed".into(),
        transport: Transport::Tcp,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        certificate_principal: None,
        sasl_mechanisms: Arc::new([]),
        advertised: ("localhost".into(), 9092),
    }
}

/// Builds the plugins that cases call. Before the first case: what counts instructions starts no compiler.
///
/// # Errors
/// Why they cannot be built, and what to do.
pub fn build_plugins() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    tidegate_plugin_build::build(&root, &["identity", "partition-by-field"])?;
    Ok(())
}

/// Where cargo has put a plugin: in the target folder that this program was built into.
fn component(package: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().context("the path of this program")?;
    let file = format!(
        "{}/release/{}.wasm",
        tidegate_plugin_build::TARGET,
        package.replace('-', "_")
    );
    let mut candidates = program.ancestors().map(|folder| folder.join(&file));
    candidates.find(|path| path.is_file()).with_context(|| {
        format!(
            "{file} is in no folder above {}: `micro check` builds it",
            program.display()
        )
    })
}
