//! `tidegate serve`: run the broker in the foreground until it is told to stop.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::CliError;
use crate::broker::Broker;
use crate::config::{ClientAuth, Config, ListenerConfig, ListenerTls, Transport, environment};
use crate::net::dev_certificate;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate serve --config tidegate.toml\n  tidegate serve --dev --data ./data\n  \
                        tidegate serve --dev --data ./data --tcp 127.0.0.1:9092 --admin 127.0.0.1:9644\n\n\
                        With --dev and no address, TCP listens on 9092, TLS on 9093, QUIC on 9094 and the admin port \
                        is 9644, all on 127.0.0.1; with any address only those that are given.\n\
                        TIDEGATE_… variables (`tidegate config reference`) hold with --dev, too; options go before them.\n\
                        Signals: SIGINT and SIGTERM stop gracefully, SIGHUP reads certificates again."
)]
#[command(group = ArgGroup::new("how").args(["config", "dev"]).required(true))]
pub struct ServeCommand {
    /// Configuration file; `tidegate config example` prints one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dev", "data", "tcp", "tls", "quic", "admin"])]
    config: Option<PathBuf>,
    /// For trying things: no authentication, development certificates, topics created on first use
    #[arg(long)]
    dev: bool,
    /// Folder for everything the broker keeps [default: tidegate-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Kafka over TCP
    #[arg(long, value_name = "ADDR")]
    tcp: Option<SocketAddr>,
    /// Kafka over TLS
    #[arg(long, value_name = "ADDR")]
    tls: Option<SocketAddr>,
    /// Kafka over QUIC (UDP)
    #[arg(long, value_name = "ADDR")]
    quic: Option<SocketAddr>,
    /// HTTP: metrics, health, plugins, users
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

pub async fn run(command: ServeCommand) -> Result<(), CliError> {
    let mut config = match &command.config {
        Some(file) => super::config::load(file)?,
        None => dev_config(&command)?,
    };
    crate::observe::trace::init(config.observe.log_format, &config.observe.log_filter)
        .map_err(CliError::new)?;
    raise_descriptor_limit();
    config.plugins.compiler = Some(own_binary());
    let mut stop = Signals::new()?;
    let broker = Broker::start(config)
        .await
        .map_err(|error| CliError::new(start_failed(&error.to_string())))?;
    announce(&broker).map_err(|error| CliError::new(format!("standard output: {error}")))?;
    loop {
        match stop.next().await {
            Signal::Reload => match broker.reload_certificates() {
                Ok(()) => tracing::info!("certificates were read again"),
                Err(error) => tracing::error!(%error, "certificates stay as they were"),
            },
            Signal::Stop(name) => {
                tracing::info!(signal = name, "stopping; started requests may finish");
                break;
            }
        }
    }
    tokio::select! {
        () = broker.shutdown() => Ok(()),
        () = stop.stopped_again() => Err(CliError::new("stopped at once by a second signal; the next start verifies the log")),
    }
}

/// Takes all the file descriptors that the process may have: each connection and each partition that is written to holds one,
/// and the soft limit that shells and service managers start with (1,024) is there for programs that cannot count higher.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(limit = ?limit.current, %error, "the limit of open files (ulimit -n) stays: connections and partitions above it will be refused");
    }
}

/// This binary, also after another has been put in its place.
pub fn own_binary() -> PathBuf {
    let own = Path::new("/proc/self/exe");
    match own.exists() {
        true => own.to_owned(),
        false => std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tidegate")),
    }
}

fn start_failed(message: &str) -> String {
    if message.contains("Address already in use") {
        return format!(
            "{message}\n  another process listens there: choose another address, or stop it"
        );
    }
    if message.contains("Permission denied") {
        return format!("{message}\n  run it as the user that the folder belongs to");
    }
    if message.contains("another tidegate process") {
        return format!("{message}\n  stop it first, or name another folder");
    }
    message.to_owned()
}

/// What the signals of the process ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    Stop(&'static str),
    Reload,
}

/// The signals that a broker in the foreground answers to.
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn new() -> Result<Self, CliError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| CliError::new(format!("signals cannot be handled: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop("SIGINT"),
            _ = self.terminate.recv() => Signal::Stop("SIGTERM"),
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    /// Resolves at the next signal to stop.
    pub async fn stopped_again(&mut self) {
        while self.next().await == Signal::Reload {}
    }
}

/// One line for each address and then `ready`, for people and for scripts that wait for it.
fn announce(broker: &Broker) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for (_, transport, address) in broker.addresses() {
        writeln!(out, "listening {} {address}", transport_name(transport))?;
    }
    if let Some(address) = broker.admin_address() {
        writeln!(out, "listening admin {address}")?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

pub fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Quic => "quic",
    }
}

fn dev_config(command: &ServeCommand) -> Result<Config, CliError> {
    let mut addresses = [
        (Transport::Tcp, command.tcp),
        (Transport::Tls, command.tls),
        (Transport::Quic, command.quic),
    ];
    let mut admin = command.admin;
    if admin.is_none() && addresses.iter().all(|(_, address)| address.is_none()) {
        for ((_, address), port) in addresses.iter_mut().zip(9092..) {
            *address = Some((Ipv4Addr::LOCALHOST, port).into());
        }
        admin = Some((Ipv4Addr::LOCALHOST, 9644).into());
    }
    let open: Vec<_> = addresses
        .into_iter()
        .filter_map(|(t, address)| Some((t, address?)))
        .collect();
    let variables: Vec<(String, String)> = environment().collect();
    let is_set = |variable: &str| variables.iter().any(|(name, _)| name == variable);
    let (mut config, ignored) = Config::from_environment(variables.clone())
        .map_err(|errors| CliError::new(format!("the environment is not valid\n{errors}")))?;
    for sentence in ignored {
        eprintln!("warning: {sentence}");
    }
    if command.admin.is_some() || !is_set("TIDEGATE_ADMIN_BIND") {
        config.admin.bind = admin;
    }
    match &command.data {
        Some(data) => config.broker.data_dir = data.clone(),
        None if !is_set("TIDEGATE_BROKER_DATA_DIR") => {
            config.broker.data_dir = "tidegate-data".into();
        }
        None => {}
    }
    let bound = open.iter().map(|(_, address)| address);
    for address in bound.filter(|address| !address.ip().is_loopback()) {
        eprintln!(
            "warning: {address} is reachable from outside, and --dev asks nobody who they are"
        );
    }
    config.listeners = dev_listeners(&config.broker.data_dir, &open)?;
    for warning in config
        .warnings()
        .iter()
        .filter(|text| !text.starts_with("listener "))
    {
        eprintln!("warning: {warning}");
    }
    Ok(config)
}

/// Listeners without authentication, with certificates of a development authority kept under the data folder.
pub fn dev_listeners(
    data: &Path,
    addresses: &[(Transport, SocketAddr)],
) -> Result<Vec<ListenerConfig>, CliError> {
    let needs_tls = addresses
        .iter()
        .any(|(transport, _)| *transport != Transport::Tcp);
    let tls = if needs_tls {
        Some(dev_tls(data)?)
    } else {
        None
    };
    let listener = |(transport, bind): &(Transport, SocketAddr)| ListenerConfig {
        name: transport_name(*transport).to_owned(),
        transport: *transport,
        bind: *bind,
        advertised: None,
        tls: tls.clone().filter(|_| *transport != Transport::Tcp),
        sasl_mechanisms: Vec::new(),
        max_connections: 10_000,
    };
    Ok(addresses.iter().map(listener).collect())
}

fn dev_tls(data: &Path) -> Result<ListenerTls, CliError> {
    let files = dev_certificate::server(&data.join("certificates"), &[]).map_err(CliError::new)?;
    Ok(ListenerTls {
        certificate_file: files.certificate_file,
        key_file: files.key_file,
        client_auth: ClientAuth::Requested,
        client_ca_file: Some(files.ca_file),
    })
}
