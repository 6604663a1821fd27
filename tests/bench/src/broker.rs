//! The broker under test as its Kafka clients see it: started here, or running elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tidegate_client::{Bootstrap, Client, Transport};

use crate::options::Options;
use crate::payload::unique;
pub use crate::servers::Usage;
use crate::servers::{self, Durability, FloorFiles, Name, Programs, Running, Setup, Stop, connect};

pub struct Broker {
    pub client: Client,
    /// The admin port, where plugins are deployed.
    pub admin: Option<String>,
    /// The file of the admin port's token.
    pub admin_token_file: Option<PathBuf>,
    /// From the start of the process to its first answer; only for brokers that were started here.
    pub start: Option<Duration>,
    /// Resident memory before any load.
    pub idle_bytes: Option<u64>,
    pid: Option<u32>,
    address: String,
    ca: Option<PathBuf>,
    running: Option<Running>,
}

impl Broker {
    pub async fn open(options: &Options, transport: Transport) -> Result<Self> {
        match &options.spawn {
            Some(binary) => Self::spawn(options, binary, transport).await,
            None => Self::attach(options).await,
        }
    }

    async fn attach(options: &Options) -> Result<Self> {
        let address = options
            .bootstrap
            .as_deref()
            .context("--bootstrap is missing")?;
        let client = connect(address, options.ca.as_deref()).await?;
        Ok(Self {
            client,
            admin: options.admin.clone(),
            admin_token_file: options.admin_token_file.clone(),
            start: None,
            idle_bytes: None,
            pid: options.pid,
            address: address.to_owned(),
            ca: options.ca.clone(),
            running: None,
        })
    }

    async fn spawn(options: &Options, binary: &Path, transport: Transport) -> Result<Self> {
        let programs = Programs {
            tidegate: Some(binary.to_owned()),
            floor: None,
            cache: PathBuf::new(),
        };
        let setup = Setup {
            name: Name::Tidegate,
            durability: Durability::Sync,
            data: data_folder(options.data.as_deref()),
            floor_files: FloorFiles::Fresh,
            megabytes: options.megabytes,
            partitions: 1,
        };
        let running = Running::start(&programs, &setup)
            .await
            .with_context(|| format!("--spawn {}", binary.display()))?;
        Self::of(running, transport).await
    }

    /// The view of a server that was started before.
    pub async fn of(running: Running, transport: Transport) -> Result<Self> {
        let address = running.address(transport)?;
        Ok(Self {
            client: connect(&address, running.ca.as_deref()).await?,
            admin: running.listening("admin").ok().map(str::to_owned),
            admin_token_file: Some(running.data().join("admin.token"))
                .filter(|file| file.is_file()),
            start: Some(running.start),
            idle_bytes: running.idle_bytes,
            pid: None,
            address,
            ca: running.ca.clone(),
            running: Some(running),
        })
    }

    /// Ends a broker that was started here, and starts it again on its data.
    pub async fn restart(&mut self, stop: Stop) -> Result<()> {
        let running = self.running.as_mut();
        let running = running.context("a broker that runs elsewhere is not restarted")?;
        running.restart(stop).await?;
        self.start = Some(running.start);
        self.idle_bytes = running.idle_bytes;
        self.admin = running.listening("admin").ok().map(str::to_owned);
        let scheme = self.endpoint()?.0;
        let running = self.running.as_ref().context("it was started")?;
        self.address = running.address(scheme)?;
        self.client = connect(&self.address, self.ca.as_deref()).await?;
        Ok(())
    }

    /// A client with connections of its own.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.address, self.ca.as_deref()).await
    }

    /// Bytes that its reads brought in from a disk so far; what the page cache had is not in it.
    pub fn bytes_from_disk(&self) -> Option<u64> {
        let pid = self.pid()?;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        let line = io.lines().find_map(|line| line.strip_prefix("read_bytes:"));
        line?.trim().parse().ok()
    }

    /// Where it keeps its files; only of brokers that were started here.
    pub fn data(&self) -> Option<&Path> {
        self.running.as_ref().map(Running::data)
    }

    /// The transport, and `host:port`.
    pub fn endpoint(&self) -> Result<(Transport, String)> {
        let bootstrap: Bootstrap = self.address.parse()?;
        let endpoints: Vec<String> = bootstrap
            .endpoints
            .iter()
            .map(ToString::to_string)
            .collect();
        Ok((bootstrap.transport, endpoints.join(",")))
    }

    /// The file of the authority that its certificate comes from.
    #[cfg_attr(
        not(feature = "librdkafka"),
        allow(dead_code, reason = "other clients are given a Client")
    )]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Syncs so far, and the seconds that they took.
    pub async fn syncs(&self) -> Result<(f64, f64)> {
        let admin = self
            .admin
            .as_ref()
            .context("syncs are counted by the broker: give --admin")?;
        let answer = reqwest::get(format!("http://{admin}/metrics")).await?;
        let text = answer.error_for_status()?.text().await?;
        let read = |name: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
        };
        Ok((
            read("tidegate_flush_duration_seconds_count"),
            read("tidegate_flush_duration_seconds_sum"),
        ))
    }

    /// The broker's process, where that is known.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid).or(self.pid)
    }

    /// Where clients connect to, with its transport.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn usage(&self) -> Option<Usage> {
        match &self.running {
            Some(running) => running.usage(),
            None => servers::usage(self.pid?),
        }
    }

    /// The most resident memory that the broker ever had.
    pub fn peak_bytes(&self) -> Option<u64> {
        match &self.running {
            Some(running) => running.peak_bytes(),
            None => servers::status_bytes(self.pid?, "VmHWM:"),
        }
    }
}

pub use crate::servers::usage as usage_of;

/// Of this process and of those that it has waited for, which make the load.
pub fn own_usage() -> Option<Usage> {
    servers::own_usage()
}

/// A folder for one server, not made yet.
pub fn data_folder(parent: Option<&Path>) -> PathBuf {
    let name = format!("tidegate-bench-{}-{}", std::process::id(), unique());
    parent
        .map_or_else(std::env::temp_dir, Path::to_owned)
        .join(name)
}
