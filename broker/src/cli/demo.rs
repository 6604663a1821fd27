//! `tidegate demo`: a broker with plugins, a real data set played through it, a report, and then a broker to play with.

mod guests;
mod play;
mod report;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::CliError;
use super::serve::{Signal, Signals, dev_listeners};
use crate::broker::Broker;
use crate::config::{Config, LogFormat, PreloadPlugin, SaslMechanism, Transport};
use crate::security::sasl::new_user;

/// The topic that the demo fills.
const TOPIC: &str = "wildlife-strikes";
/// A topic that anybody may write to, for trying things afterwards.
const PLAYGROUND: &str = "playground";
const PARTITIONS: i32 = 6;

/// Who plays the data in and reads it back, and who is turned away.
const PLAYER: &str = "ranger";
const INTRUDER: &str = "intruder";

/// Kafka's own floor for SCRAM; the demo's users live as long as the demo.
const SCRAM_ITERATIONS: u32 = 4096;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo run --release -- demo\n\nNeeds the source tree (it builds the plugins in plugins/)."
)]
pub struct DemoCommand {
    /// Folder for what the broker keeps; by default a temporary one that is removed at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Stop after the report instead of serving on
    #[arg(long)]
    once: bool,
}

/// What the steps of the demo share.
struct Stage {
    broker: Broker,
    password: String,
    certificate_authority: PathBuf,
}

pub async fn run(command: DemoCommand) -> Result<(), CliError> {
    let root = source_tree()?;
    let mut signals = Signals::new()?;
    tokio::select! {
        signal = stop_signal(&mut signals) => Err(CliError::new(format!("stopped by {signal} before the demo was over"))),
        played = perform(&command, &root) => {
            let (stage, scratch) = played?;
            if !command.once {
                println!("Serving until Ctrl-C.");
                stop_signal_again(signals).await;
            }
            stage.broker.shutdown().await;
            if let Some(scratch) = scratch {
                remove(&scratch);
            }
            println!("Stopped; every acknowledged record was on disk.");
            Ok(())
        }
    }
}

async fn stop_signal(signals: &mut Signals) -> &'static str {
    loop {
        if let Signal::Stop(name) = signals.next().await {
            return name;
        }
    }
}

async fn stop_signal_again(mut signals: Signals) {
    stop_signal(&mut signals).await;
}

fn remove(scratch: &Path) {
    if let Err(error) = std::fs::remove_dir_all(scratch) {
        eprintln!("warning: {} was left behind: {error}", scratch.display());
    }
}

async fn perform(command: &DemoCommand, root: &Path) -> Result<(Stage, Option<PathBuf>), CliError> {
    let progress = Progress::new();
    progress.step("building the plugins (the first time takes a minute)");
    let plugins = guests::build(root).await?;
    progress.done("plugins built: partition-by-field, mask-fields, role-authorizer");

    let scratch = command
        .data
        .is_none()
        .then(|| std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id())));
    let data = command
        .data
        .clone()
        .or_else(|| scratch.clone())
        .unwrap_or_default();
    progress.step("starting the broker");
    let stage = start(&data, plugins).await?;
    progress.done("broker up with QUIC, TLS and TCP listeners and certificates of its own");

    let records = play::load(&root.join("tests/data/wildlife-strikes.jsonl"))?;
    let outcome = play::play(&stage, &records, &progress).await?;
    progress.finish();
    report::print(&stage, &outcome);
    Ok((stage, scratch))
}

/// The checkout that this binary was built from, or the one around the current folder.
fn source_tree() -> Result<PathBuf, CliError> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let here = std::env::current_dir().unwrap_or_default();
    let found = [built_from, here]
        .into_iter()
        .find(|root| root.join("plugins/mask-fields/Cargo.toml").is_file());
    found.ok_or_else(|| {
        CliError::new(
            "the demo builds its plugins from the source tree, which is not here\n  run it in a checkout: cargo run \
             --release -- demo\n  without one: tidegate serve --dev",
        )
    })
}

async fn start(data: &Path, plugins: guests::Guests) -> Result<Stage, CliError> {
    let config = config(data, plugins)?;
    crate::observe::trace::init(config.observe.log_format, &config.observe.log_filter)
        .map_err(CliError::new)?;
    let broker = Broker::start(config)
        .await
        .map_err(|error| CliError::new(error.to_string()))?;
    let password: String = crate::env::random_bytes::<12>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for name in [PLAYER, INTRUDER] {
        let user = new_user(name, &password, SCRAM_ITERATIONS).map_err(CliError::new)?;
        let catalog = broker.services().catalog.clone();
        catalog
            .put_user(user)
            .map_err(|error| CliError::new(error.to_string()))?;
    }
    Ok(Stage {
        broker,
        password,
        certificate_authority: data.join("certificates/ca.pem"),
    })
}

fn config(data: &Path, plugins: guests::Guests) -> Result<Config, CliError> {
    let mut config = Config::default();
    config.broker.data_dir = data.to_owned();
    config.observe.log_filter = "warn".to_owned();
    config.observe.log_format = LogFormat::Text;
    let addresses = [
        (Transport::Tcp, free(9092, false)),
        (Transport::Tls, free(9093, false)),
        (Transport::Quic, free(9094, true)),
    ];
    config.listeners = dev_listeners(data, &addresses)?;
    // TCP stays open to anybody, as ANONYMOUS; the encrypted listeners want a name and a password.
    for listener in config
        .listeners
        .iter_mut()
        .filter(|listener| listener.transport != Transport::Tcp)
    {
        listener.sasl_mechanisms = vec![SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];
    }
    config.admin.bind = Some(free(9644, false));
    config.groups.initial_rebalance_delay = Duration::from_millis(200);
    config.security.authorization = true;
    config.security.authorizers = vec!["roles".to_owned()];
    config.plugins.preload = BTreeMap::from([
        ("roles".to_owned(), preload(plugins.authorizer, &roles())),
        (
            "by-state".to_owned(),
            preload(plugins.partitioner, &[("field", "state")]),
        ),
        (
            "mask-operator".to_owned(),
            preload(
                plugins.transform,
                &[
                    ("mask", "operator,cost_total"),
                    ("drop-record-when", "species=Unknown bird or bat"),
                ],
            ),
        ),
    ]);
    Ok(config)
}

fn roles() -> [(&'static str, &'static str); 6] {
    [
        ("role.operator", "all topic *; all group *; all cluster *"),
        (
            "role.visitor",
            "read,describe topic *; read,describe group *; describe cluster *; read,write,describe topic playground",
        ),
        ("member.User:ranger", "operator"),
        ("member.User:ANONYMOUS", "visitor"),
        ("otherwise", "deny"),
        ("cache-ms", "1000"),
    ]
}

fn preload(file: PathBuf, config: &[(&str, &str)]) -> PreloadPlugin {
    let config = config
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    PreloadPlugin { file, config }
}

/// The usual port when nothing else has it, else any.
fn free(port: u16, udp: bool) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let taken = if udp {
        UdpSocket::bind(usual).is_err()
    } else {
        TcpListener::bind(usual).is_err()
    };
    if taken {
        (Ipv4Addr::LOCALHOST, 0).into()
    } else {
        usual
    }
}

/// One line that moves while a step runs; a tick and a sentence when it is done.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    fn step(&self, message: &str) {
        self.0.set_style(ProgressStyle::default_spinner());
        self.0.set_message(message.to_owned());
    }

    /// Shows how many of `total` are done, until the next `step` or `done`.
    fn count(&self, message: &str, total: u64) -> &ProgressBar {
        let style = ProgressStyle::with_template(
            "{spinner} {msg} [{bar:30}] {human_pos}/{human_len} {per_sec}",
        );
        self.0
            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.0.set_length(total);
        self.0.set_position(0);
        self.0.set_message(message.to_owned());
        &self.0
    }

    fn done(&self, message: &str) {
        self.0.suspend(|| println!("  ✓ {message}"));
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
