//! A broker process: started, watched, killed, started again.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::{RawClient, tidegate_binary};

/// How long a broker may take until it prints `ready`. Wide: debug builds on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a graceful stop may take before the test calls it hung.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Lines of the broker's log that are kept for a failure's message.
const LOG_LINES_KEPT: usize = 400;

/// Where a running broker listens; `None` for what was not asked for.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub tcp: Option<SocketAddr>,
    pub tls: Option<SocketAddr>,
    pub quic: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    /// Every `listening NAME ADDRESS` line, for configurations with names of their own.
    pub by_name: Vec<(String, SocketAddr)>,
}

/// What a broker is started with.
#[derive(Debug, Default)]
pub struct BrokerBuilder {
    config: Option<String>,
    data: Option<PathBuf>,
    tcp_port: u16,
    environment: Vec<(String, String)>,
    through: Vec<String>,
    kept_open: Option<tempfile::TempDir>,
}

impl BrokerBuilder {
    /// Starts from this configuration file instead of `--dev`. `{data}` in the text becomes the data directory.
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// Uses this directory and leaves it in place. Without it a temporary one is used, and removed with the broker.
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = Some(directory.into());
        self
    }

    /// The TCP listener's port; 0, the default, lets the system choose. Only for `--dev`.
    pub fn tcp_port(mut self, port: u16) -> Self {
        self.tcp_port = port;
        self
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the broker through a program that becomes it (`exec`), such as one that sets up a mount namespace: `command`,
    /// followed by the broker's own.
    pub fn through(mut self, command: &[&str]) -> Self {
        self.through = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts the broker and returns when it is ready.
    ///
    /// # Errors
    /// When it exits or says nothing within a minute; the message carries the end of its log.
    pub fn start(mut self) -> Result<Broker> {
        let data = match self.data.clone() {
            Some(directory) => directory,
            None => {
                let directory = tempfile::Builder::new().prefix("tidegate-").tempdir()?;
                let path = directory.path().to_owned();
                self.kept_open = Some(directory);
                path
            }
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let wanted = Addresses {
            tcp: Some((Ipv4Addr::LOCALHOST, self.tcp_port).into()),
            tls: Some(any),
            quic: Some(any),
            admin: Some(any),
            by_name: Vec::new(),
        };
        let (process, addresses) = Process::start(&self, &data, &wanted)?;
        Ok(Broker {
            process,
            addresses,
            data,
            builder: self,
        })
    }
}

/// A running broker. Dropping it kills the process and removes a temporary data directory.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    addresses: Addresses,
    data: PathBuf,
    builder: BrokerBuilder,
}

impl Broker {
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// A broker in development mode, on ports of its own, with a data directory of its own.
    ///
    /// # Panics
    /// When it does not start; the message carries the end of its log.
    pub fn start() -> Self {
        Self::builder()
            .start()
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// # Panics
    /// When the configuration has no TCP listener.
    pub fn tcp(&self) -> SocketAddr {
        self.addresses.tcp.expect("this broker listens on TCP")
    }

    /// # Panics
    /// When the configuration has no admin port.
    pub fn admin(&self) -> SocketAddr {
        self.addresses.admin.expect("this broker has an admin port")
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The admin token that the broker made for itself, where its configuration names none.
    ///
    /// # Panics
    /// When it is not there.
    pub fn token(&self) -> String {
        let file = self.data.join("admin.token");
        let text =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim().to_owned()
    }

    /// The certificate authority that `--dev` made.
    pub fn certificate_authority(&self) -> PathBuf {
        self.data.join("certificates/ca.pem")
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// A fresh TCP connection.
    ///
    /// # Panics
    /// When the broker does not accept it; the message carries the end of its log.
    pub fn connect(&self) -> RawClient {
        RawClient::connect(self.tcp())
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.log_tail()))
    }

    /// `kill -9`: nothing is flushed, nothing is said.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: the process stands still, its connections and files stay as they are, until [`Self::resume`]. It does so when
    /// this returns.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn pause(&self) -> Result<()> {
        self.process.signal(Signal::STOP)?;
        let pid = Pid::from_child(&self.process.child);
        let stopped = waitpid(Some(pid), WaitOptions::UNTRACED)?;
        let stopped = stopped.is_some_and(|(_, status)| status.stopped());
        ensure!(stopped, "the broker ended instead of standing still");
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// SIGTERM, and the end of the process.
    ///
    /// # Errors
    /// When the process does not end within half a minute.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate()
    }

    /// Starts the process again on the same data and, but for a collision, the same ports. It must have ended. Returns the
    /// time from the start of the process to its `ready`.
    ///
    /// # Errors
    /// As [`BrokerBuilder::start`].
    pub fn restart(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let again = Process::start(&self.builder, &self.data, &self.addresses);
        let (process, addresses) = match again {
            // Somebody's connection was given one of the ports meanwhile. Only that of TCP has to be the same.
            Err(error) if format!("{error:#}").contains("Address already in use") => {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let wanted = Addresses {
                    tls: Some(any),
                    quic: Some(any),
                    admin: Some(any),
                    ..self.addresses.clone()
                };
                Process::start(&self.builder, &self.data, &wanted)?
            }
            outcome => outcome?,
        };
        self.process = process;
        self.addresses = addresses;
        Ok(started.elapsed())
    }

    /// Starts the process again without waiting for `ready`: [`Self::connect`] may then be tried until it answers.
    ///
    /// # Errors
    /// When the process cannot be started at all.
    pub fn restart_without_waiting(&mut self) -> Result<()> {
        self.process = Process::spawn(&self.builder, &self.data, &self.addresses)?.0;
        Ok(())
    }

    /// Resident memory in bytes; `None` where the system has no `/proc`.
    pub fn memory_rss(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When the admin port does not answer with 200.
    pub fn metrics(&self) -> Result<String> {
        http_get(self.admin(), "/metrics")
    }

    /// The sum of every series of one metric whose labels contain `labels` (such as `topic="orders"`); 0 when there is none.
    ///
    /// # Errors
    /// As [`Self::metrics`].
    pub fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let text = self.metrics()?;
        let of_metric = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        Ok(text
            .lines()
            .filter(of_metric)
            .filter(|line| line.contains(labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Runs `tidegate ARGUMENTS…` against this broker's admin port, with `input` as standard input.
    ///
    /// # Errors
    /// When the command fails; the message carries what it printed.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(tidegate_binary())
            .args(arguments)
            .args(["--admin", &self.admin().to_string()])
            .stdin(Stdio::null())
            .output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("tidegate {}: {stdout}{stderr}", arguments.join(" "));
        }
        Ok(stdout.into_owned())
    }

    /// The last lines of the broker's log, for a failure's message.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Whether the process still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.process.child.try_wait(), Ok(None))
    }
}

/// The operating system's process and what it has said.
#[derive(Debug)]
struct Process {
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    fn start(
        builder: &BrokerBuilder,
        data: &Path,
        wanted: &Addresses,
    ) -> Result<(Self, Addresses)> {
        let (process, lines) = Self::spawn(builder, data, wanted)?;
        let addresses = process
            .wait_until_ready(&lines)
            .with_context(|| format!("the broker's log ends:\n{}", process.log_tail()))?;
        Ok((process, addresses))
    }

    fn spawn(
        builder: &BrokerBuilder,
        data: &Path,
        wanted: &Addresses,
    ) -> Result<(Self, Receiver<String>)> {
        let mut command = match builder.through.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(tidegate_binary());
                command
            }
            None => Command::new(tidegate_binary()),
        };
        command.arg("serve");
        match &builder.config {
            Some(text) => {
                let file = data.join("tidegate.toml");
                fs::create_dir_all(data)?;
                fs::write(&file, text.replace("{data}", &data.display().to_string()))?;
                command.arg("--config").arg(file);
            }
            None => {
                command.arg("--dev").arg("--data").arg(data);
                let listeners = [
                    ("--tcp", wanted.tcp),
                    ("--tls", wanted.tls),
                    ("--quic", wanted.quic),
                    ("--admin", wanted.admin),
                ];
                for (option, address) in listeners {
                    command.args(address.map(|address| format!("{option}={address}")));
                }
            }
        }
        // Variables with this prefix are settings to the broker, and to the tests something else.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEGATE_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .envs(builder.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", tidegate_binary().display()))?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        collect(stderr, log.clone());
        Ok((Self { child, log }, lines_of(stdout)))
    }

    /// Reads `listening NAME ADDRESS` lines until `ready`.
    fn wait_until_ready(&self, lines: &Receiver<String>) -> Result<Addresses> {
        let deadline = Instant::now() + START_LIMIT;
        let mut addresses = Addresses::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("not ready within {START_LIMIT:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended before it was ready"),
            };
            if line.trim() == "ready" {
                return Ok(addresses);
            }
            if let Some((name, address)) = listening(&line) {
                match name {
                    "tcp" => addresses.tcp = Some(address),
                    "tls" => addresses.tls = Some(address),
                    "quic" => addresses.quic = Some(address),
                    "admin" => addresses.admin = Some(address),
                    _ => {}
                }
                addresses.by_name.push((name.to_owned(), address));
            }
        }
    }

    fn kill(&mut self) {
        // An error means that the process has ended already, which is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("cannot signal the broker")
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            // There is no portable wait with a time limit; this is a test's only poll.
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!(
            "still running {STOP_LIMIT:?} after SIGTERM:\n{}",
            self.log_tail()
        )
    }

    fn log_tail(&self) -> String {
        let log = self.log.lock().expect("no reader of the log panics");
        log.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `listening tcp 127.0.0.1:45123` → (`tcp`, address).
fn listening(line: &str) -> Option<(&str, SocketAddr)> {
    let (name, address) = line.trim().strip_prefix("listening ")?.split_once(' ')?;
    Some((name, address.trim().parse().ok()?))
}

/// Keeps the last lines of the broker's log, on a thread that ends with the process.
fn collect(stream: impl Read + Send + 'static, log: Arc<Mutex<VecDeque<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("no reader of the log panics");
            if log.len() == LOG_LINES_KEPT {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
}

/// The lines of standard output as they come. The pipe is read to its end, so that the broker never blocks on it.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Once nobody waits for lines any more they are read and let go.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// One HTTP/1.0 GET: the broker closes the connection after the body.
fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of its headers")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("GET {path}: {status}\n{body}");
    }
    Ok(body.to_owned())
}
