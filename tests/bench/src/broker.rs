//! The broker under test: spawned here, or running elsewhere; and what it uses of the machine.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tidegate_client::{Bootstrap, Client, TlsOptions, Transport};

use crate::options::Options;
use crate::payload::unique;

/// How long an idle broker is left alone before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);
/// Linux counts CPU time in hundredths of a second, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time that a process has used so far, its threads together.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu_seconds: f64,
}

pub struct Broker {
    pub client: Client,
    /// The admin port, where plugins are deployed.
    pub admin: Option<String>,
    /// From the start of the process to its first answer; only for spawned brokers.
    pub start: Option<Duration>,
    /// Resident memory before any load.
    pub idle_bytes: Option<u64>,
    pid: Option<u32>,
    address: String,
    ca: Option<PathBuf>,
    spawned: Option<Spawned>,
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
            start: None,
            idle_bytes: None,
            pid: options.pid,
            address: address.to_owned(),
            ca: options.ca.clone(),
            spawned: None,
        })
    }

    async fn spawn(options: &Options, binary: &Path, transport: Transport) -> Result<Self> {
        let data = options.data.clone().unwrap_or_else(std::env::temp_dir);
        let data = data.join(format!(
            "tidegate-bench-{}-{}",
            std::process::id(),
            unique()
        ));
        // Certificates are made once in a broker's life: not in the start that is measured.
        Spawned::start(binary, &data)?.stop();
        let begun = Instant::now();
        let spawned = Spawned::start(binary, &data)?;
        let first = connect(&spawned.address("tcp")?, None).await?;
        let start = begun.elapsed();
        drop(first);
        let ca = data.join("certificates/ca.pem");
        let address = spawned.address(transport.scheme())?;
        tokio::time::sleep(SETTLE).await;
        let pid = spawned.child.id();
        Ok(Self {
            client: connect(&address, Some(&ca)).await?,
            admin: spawned.listening("admin").ok().map(str::to_owned),
            start: Some(start),
            idle_bytes: status_bytes(pid, "VmRSS:"),
            pid: Some(pid),
            address,
            ca: Some(ca),
            spawned: Some(spawned),
        })
    }

    /// A client with connections of its own.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.address, self.ca.as_deref()).await
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

    pub fn usage(&self) -> Option<Usage> {
        usage_of(self.pid?)
    }

    /// Bytes that its reads brought in from a disk so far; what the page cache had is not in it.
    pub fn bytes_from_disk(&self) -> Option<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid?)).ok()?;
        let line = io.lines().find_map(|line| line.strip_prefix("read_bytes:"));
        line?.trim().parse().ok()
    }

    /// Where it keeps its files; only of spawned brokers.
    pub fn data(&self) -> Option<&Path> {
        self.spawned.as_ref().map(|spawned| spawned.data.as_path())
    }

    /// The transport, and `host:port`.
    #[cfg_attr(
        not(feature = "librdkafka"),
        allow(dead_code, reason = "other clients are given a Client")
    )]
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

    /// The most resident memory that the broker ever had.
    pub fn peak_bytes(&self) -> Option<u64> {
        status_bytes(self.pid?, "VmHWM:")
    }
}

pub fn usage_of(pid: u32) -> Option<Usage> {
    parse_cpu(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Of this process.
pub fn own_usage() -> Option<Usage> {
    parse_cpu(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

async fn connect(address: &str, ca: Option<&Path>) -> Result<Client> {
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

/// Fields 14 and 15 (user and system time) of `/proc/PID/stat`; the name in field 2 may hold anything.
fn parse_cpu(stat: &str) -> Option<Usage> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(Usage {
        cpu_seconds: (user + system) / TICKS_PER_SECOND,
    })
}

fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_status(&status, field)
}

fn parse_status(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// A broker process of ours; it and its data go when this is dropped.
struct Spawned {
    child: Child,
    listening: Vec<(String, String)>,
    data: PathBuf,
    keep_data: bool,
}

impl Spawned {
    /// Starts a broker and waits until it says that it is ready.
    fn start(binary: &Path, data: &Path) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        let log = std::fs::File::create(data.join("bench-broker.log"))?;
        let any = "127.0.0.1:0";
        let mut child = Command::new(binary)
            .args(["serve", "--dev", "--data"])
            .arg(data)
            .args(["--tcp", any, "--tls", any, "--quic", any, "--admin", any])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("--spawn {}", binary.display()))?;
        let stdout = child.stdout.take().context("the broker has no output")?;
        let mut spawned = Self {
            child,
            listening: Vec::new(),
            data: data.to_owned(),
            keep_data: false,
        };
        let mut lines = BufReader::new(stdout).lines();
        for line in &mut lines {
            let line = line?;
            if line == "ready" {
                // Whatever it prints later must not fill the pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(spawned);
            }
            let mut words = line.split_whitespace();
            if let (Some("listening"), Some(name), Some(address)) =
                (words.next(), words.next(), words.next())
            {
                spawned
                    .listening
                    .push((name.to_owned(), address.to_owned()));
            }
        }
        let log = std::fs::read_to_string(data.join("bench-broker.log")).unwrap_or_default();
        bail!("the broker ended before it was ready:\n{log}")
    }

    fn listening(&self, name: &str) -> Result<&str> {
        let found = self.listening.iter().find(|(known, _)| known == name);
        let (_, address) = found.with_context(|| format!("the broker has no {name} listener"))?;
        Ok(address)
    }

    fn address(&self, transport: &str) -> Result<String> {
        Ok(format!("{transport}://{}", self.listening(transport)?))
    }

    /// Ends the process and keeps its data.
    fn stop(mut self) {
        self.keep_data = true;
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // A process that has ended already needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.keep_data
            && let Err(error) = std::fs::remove_dir_all(&self.data)
        {
            eprintln!("{} stays behind: {error}", self.data.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        let usage = parse_cpu(stat).unwrap();
        assert!((usage.cpu_seconds - 3.0).abs() < 1e-9);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(parse_status(status, "VmHWM:"), Some(2048 * 1024));
        assert_eq!(parse_status(status, "VmSwap:"), None);
    }
}
