//! The servers that are measured, behind one interface: each is started on a fresh data folder, is watched, and ends.
//!
//! A server of a new kind is a row in [`Name`], a way to find its program in [`programs`], and a recipe in [`recipes`].

mod kafka;
mod process;
mod programs;
mod recipes;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tidegate_client::{Client, TlsOptions, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use kafka::java;
pub use process::{Line, Process, Usage, own_usage, status_bytes, usage};
pub use programs::{Programs, on_path};
pub use recipes::Recipe;

/// How long an idle server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a server may take to its first answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server that is starting is asked.
const POLL: Duration = Duration::from_millis(2);

/// A server that can be measured. The order is that of tables and plots.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// The broker of this repository
    Tidegate,
    /// The least that a broker can be, from this package
    Floor,
    /// Apache Kafka, from its own jars
    Kafka,
    /// A Kafka-protocol broker in Rust
    Krabka,
    /// NATS JetStream
    Nats,
    /// Redis streams
    Redis,
}

impl Name {
    /// Whether the Kafka clients can drive it.
    pub fn speaks_kafka(self) -> bool {
        !matches!(self, Self::Nats | Self::Redis)
    }

    /// Whether it is somebody else's product.
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Tidegate | Self::Floor)
    }

    /// How a person writes it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::Floor => "floor",
            Self::Kafka => "Kafka",
            Self::Krabka => "Krabka",
            Self::Nats => "NATS",
            Self::Redis => "Redis",
        }
    }

    /// Whether it can be set to have a record on the disk before it acknowledges it.
    pub fn can_sync(self) -> bool {
        self != Self::Krabka
    }

    pub fn has(self, transport: Transport) -> bool {
        match transport {
            Transport::Tcp => true,
            Transport::Tls => matches!(self, Self::Tidegate | Self::Floor | Self::Kafka),
            // The floor moves plain bytes over QUIC: the yardstick of that transport.
            Transport::Quic => matches!(self, Self::Tidegate | Self::Floor),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// What an acknowledgement stands for. The two are never compared with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The record is in the page cache.
    Os,
    /// The record is on the disk.
    Sync,
}

/// How the floor keeps what it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloorFiles {
    /// Files that grow.
    Fresh,
    /// Files that were written before it listens.
    Recycled,
}

/// What a server is started for.
#[derive(Clone, Debug)]
pub struct Setup {
    pub name: Name,
    pub durability: Durability,
    /// On the disk that is to be measured; made anew.
    pub data: PathBuf,
    pub floor_files: FloorFiles,
    /// What will be written at most, in 10⁶ bytes.
    pub megabytes: u64,
    pub partitions: u32,
}

/// How a server shows that it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// A Kafka client connects and asks what the broker can do.
    Kafka,
    /// It greets who connects.
    Greeting,
    /// It answers `PING`.
    Ping,
}

/// A server that answers.
#[derive(Debug)]
pub struct Running {
    pub listening: Vec<(String, String)>,
    /// Who signed the certificates of its listeners.
    pub ca: Option<PathBuf>,
    /// From the start of the process to its first answer.
    pub start: Duration,
    /// Resident memory before any load.
    pub idle_bytes: Option<u64>,
    process: Process,
    recipe: Recipe,
    data: PathBuf,
}

/// How a server is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// It is asked to, and finishes what it does.
    Clean,
    /// It is killed.
    Kill,
}

impl Running {
    /// Starts a server on a fresh folder and waits for its first answer.
    pub async fn start(programs: &Programs, setup: &Setup) -> Result<Self> {
        if setup.data.exists() {
            bail!("{} exists already", setup.data.display());
        }
        std::fs::create_dir_all(&setup.data)
            .with_context(|| format!("making {}", setup.data.display()))?;
        let recipe = programs.recipe(setup)?;
        for command in &recipe.prepare {
            command.run()?;
        }
        if recipe.starts_twice {
            // What is made once in a server's life, certificates say, is not in the start that is measured.
            let (process, ..) = recipe.open(&setup.data).await?;
            process.end(Stop::Clean)?;
        }
        let (process, listening, start) = recipe.open(&setup.data).await?;
        let mut running = Self {
            listening,
            ca: recipe.ca.clone(),
            start,
            idle_bytes: None,
            process,
            recipe,
            data: setup.data.clone(),
        };
        running.settle().await;
        Ok(running)
    }

    async fn settle(&mut self) {
        tokio::time::sleep(SETTLE).await;
        self.idle_bytes = self.process.resident_bytes();
    }

    /// Ends the server and starts it again on its data.
    pub async fn restart(&mut self, stop: Stop) -> Result<()> {
        self.process.stop(stop)?;
        (self.process, self.listening, self.start) = self.recipe.open(&self.data).await?;
        self.settle().await;
        Ok(())
    }

    pub fn listening(&self, name: &str) -> Result<&str> {
        let found = self.listening.iter().find(|(known, _)| known == name);
        let (_, address) = found.with_context(|| format!("the server has no {name} listener"))?;
        Ok(address)
    }

    pub fn address(&self, transport: Transport) -> Result<String> {
        let scheme = transport.scheme();
        Ok(format!("{scheme}://{}", self.listening(scheme)?))
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What the process and its children have used so far.
    pub fn usage(&self) -> Option<Usage> {
        self.process.usage()
    }

    /// The most resident memory that it ever had.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.process.peak_bytes()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.process.stop(Stop::Kill) {
            eprintln!("a server was not ended: {error:#}");
        }
        if let Err(error) = std::fs::remove_dir_all(&self.data) {
            eprintln!("{} stays behind: {error}", self.data.display());
        }
    }
}

/// Connects a Kafka client.
pub async fn connect(address: &str, ca: Option<&Path>) -> Result<Client> {
    let mut tls = TlsOptions::new();
    if let Some(ca) = ca {
        tls = tls.ca_file(ca);
    }
    let builder = Client::builder()
        .bootstrap(address)
        .client_id("bench")
        .tls(tls);
    Ok(builder.connect().await?)
}

/// Asks until the server answers for the first time; `process` must go on meanwhile.
pub async fn await_answer(probe: Probe, address: &str, process: &mut Process) -> Result<()> {
    let begun = Instant::now();
    loop {
        let asked = tokio::time::timeout(PATIENCE, ask(probe, address)).await;
        let error = match asked.context("no answer")? {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        process.check()?;
        if begun.elapsed() > PATIENCE {
            return Err(error.context(format!("{address} did not answer within {PATIENCE:?}")));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn ask(probe: Probe, address: &str) -> Result<()> {
    // A refused connection is found out by itself, so that no client waits longer than it must.
    let mut stream = TcpStream::connect(address).await?;
    match probe {
        Probe::Kafka => {
            drop(stream);
            connect(&format!("tcp://{address}"), None).await?;
        }
        Probe::Greeting => {
            stream.read_u8().await?;
        }
        Probe::Ping => {
            stream.write_all(b"PING\r\n").await?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await?;
            if &answer != b"+PONG" {
                bail!("{address} is not ready");
            }
        }
    }
    Ok(())
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}
