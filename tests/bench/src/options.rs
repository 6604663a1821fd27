//! What to run.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_client::{Acks, Bootstrap, Transport};

use crate::plugins::Plugin;
use crate::scale::ScaleOptions;

pub const EXAMPLES: &str = "Examples:\n  bench all --spawn target/release/tidegate --rounds 5\n  \
                  bench produce --spawn target/release/tidegate --sizes 1024 --acks 1\n  \
                  bench commit --spawn target/release/tidegate --data /var/lib/bench --rounds 5\n  \
                  bench latency --bootstrap tcp://127.0.0.1:9092 --pid 4711 --rate 5000\n  \
                  bench consume --spawn target/release/tidegate --reads warm,cold,tail --groups 1,10\n  \
                  bench produce --spawn target/release/tidegate --plugin identity,mask";

#[derive(Debug, Parser)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Throughput of writing
    Produce(Settings),
    /// Throughput of reading what was written before
    Consume(Settings),
    /// From the intended send time to the consumer, at a fixed rate
    Latency(Settings),
    /// From the intended send time to the acknowledgement, quiet and while another topic is compacted
    Compaction(Settings),
    /// acks=all, one small batch at a time, by one producer and by many, beside what the disk itself can do
    Commit(Settings),
    /// Plain bytes over one QUIC stream to and from `floor --quic`: the yardstick of that transport
    Quic(Settings),
    /// The first three
    All(Settings),
    /// What partitions, connections, groups, members, topics, readers and plugins cost as they grow in number
    Scale(ScaleOptions),
}

#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// A broker that runs already; its address decides the transport
    #[arg(
        long,
        value_name = "ADDR",
        required_unless_present = "spawn",
        conflicts_with = "spawn"
    )]
    pub bootstrap: Option<String>,
    /// Start this `tidegate` binary anew for every run, on a data folder of its own
    #[arg(long, value_name = "PATH")]
    pub spawn: Option<PathBuf>,
    /// Where spawned brokers keep their data, and where the disk is measured; without it the system's temporary folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The process of --bootstrap's broker: without it CPU and memory are not known
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// The admin port of --bootstrap's broker, to deploy plugins
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// The file of --admin's token; brokers that are started here have one in their data folder
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// CA file for --bootstrap over tls:// or quic://
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Transports of a spawned broker
    #[arg(long, value_delimiter = ',', default_value = "tcp,tls,quic")]
    pub transports: Vec<TransportName>,
    /// Record sizes: bytes of a record's value
    #[arg(long, value_delimiter = ',', default_value = "100,1024", value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub sizes: Vec<u32>,
    /// What the values of the written records are
    #[arg(long, default_value = "random")]
    pub values: Values,
    /// What to wait for
    #[arg(long, value_delimiter = ',', default_value = "1,all")]
    pub acks: Vec<Acks>,
    /// lean replays batches that were made before; full is sdk/client as applications use it; librdkafka is what most use
    #[arg(long, default_value = "lean")]
    pub client: ClientKind,
    /// Where the plugins' components are; without it they are built from the source tree
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Also run through these plugins; those that read fields are sent JSON
    #[arg(long, value_delimiter = ',')]
    pub plugin: Vec<Plugin>,
    /// A topic setting for every run, such as tidegate.durability=os; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub topic_config: Vec<(String, String)>,
    /// Data of one produce or consume run, in 10⁶ bytes of values
    #[arg(long, value_name = "MB", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub megabytes: u64,
    /// One batch's bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    pub batch_bytes: u64,
    /// Batches on the way at once
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub in_flight: u64,
    /// Partitions of the topic that is written or read
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub partitions: Vec<u32>,
    /// Producers that write at once, each on a connection of its own [default: 1; of the commit run 1,16]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub producers: Option<Vec<u32>>,
    /// Consumers that each read everything at the same time, on connections of their own
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub groups: Vec<u32>,
    /// What the consumer finds: warm was just written, cold is on the disk alone, tail is being written
    #[arg(long, value_delimiter = ',', default_value = "warm")]
    pub reads: Vec<Reads>,
    /// Records a second of the latency run
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// Seconds of a latency or commit run that count
    #[arg(long, value_name = "S", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Seconds before those, which do not
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub warm_up: u64,
    /// How long the client of a latency run gathers records for a batch, in milliseconds; the lean client never does
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub linger: u64,
    /// Times that everything is run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Print the table as Markdown
    #[arg(long)]
    pub markdown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum TransportName {
    Tcp,
    Tls,
    Quic,
}

impl From<TransportName> for Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::Tcp => Self::Tcp,
            TransportName::Tls => Self::Tls,
            TransportName::Quic => Self::Quic,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ClientKind {
    Lean,
    Full,
    Librdkafka,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Values {
    /// Bytes that do not compress.
    Random,
    /// Orders of many customers (`customer.id`), for plugins that read fields: of 100 B at least.
    Json,
}

/// Where the records are that a consumer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Reads {
    /// In the page cache: they were written before.
    Warm,
    /// On the disk alone: they were written before, and the page cache was told to forget them.
    Cold,
    /// They come while it reads: it started before the producer.
    Tail,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    Produce,
    Consume,
    Latency,
    Compaction,
    /// Writing with acks=all, each producer waiting for its answer before it goes on.
    Commit,
    /// The same writes and syncs, on a file and without a broker.
    Disk(DiskFile),
    /// QUIC without Kafka.
    BareQuic(Direction),
}

/// Seen from the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    In,
    Out,
}

/// What kind of file is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFile {
    /// Its blocks are reserved and were never written, as in a log's newest segment.
    Reserved,
    /// It was written before, as a segment's file is that is used again: the least that a sync can cost.
    Written,
}

/// One row of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variant {
    pub scenario: Scenario,
    pub transport: Transport,
    pub size: u32,
    pub acks: Acks,
    pub plugin: Option<Plugin>,
    pub client: ClientKind,
    pub partitions: u32,
    pub producers: u32,
    /// Consumers that each read everything.
    pub groups: u32,
    pub reads: Reads,
}

/// The counts of one variant.
#[derive(Clone, Copy)]
struct Counts {
    partitions: u32,
    producers: u32,
    groups: u32,
    reads: Reads,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = match self.scenario {
            Scenario::Produce => "produce",
            Scenario::Consume => "consume",
            Scenario::Latency => "latency",
            Scenario::Compaction => "compaction",
            Scenario::Commit => {
                let (transport, size) = (self.transport.scheme(), self.size);
                let count = self.producers;
                return write!(
                    f,
                    "closed loop acks=all {transport} {size} B, {count} at once"
                );
            }
            Scenario::BareQuic(Direction::In) => return f.write_str("bare QUIC stream, in"),
            Scenario::BareQuic(Direction::Out) => return f.write_str("bare QUIC stream, out"),
            Scenario::Disk(file) => {
                let kind = match file {
                    DiskFile::Reserved => "reserved",
                    DiskFile::Written => "written",
                };
                return write!(f, "disk: write + fdatasync {} B, {kind} file", self.size);
            }
        };
        let client = match self.client {
            ClientKind::Lean => "lean",
            ClientKind::Full => "full",
            ClientKind::Librdkafka => "librdkafka",
        };
        write!(f, "{scenario} {} {} B", self.transport.scheme(), self.size)?;
        if self.scenario != Scenario::Consume {
            let acks = match self.acks {
                Acks::None => "0",
                Acks::Leader => "1",
                Acks::All => "all",
            };
            write!(f, " acks={acks}")?;
        }
        write!(f, " {client}")?;
        if let Some(plugin) = self.plugin {
            write!(f, " {}", plugin.name())?;
        }
        let counts = [
            (self.partitions, "partitions"),
            (self.producers, "producers"),
            (self.groups, "readers"),
        ];
        for (count, what) in counts.iter().filter(|(count, _)| *count > 1) {
            write!(f, ", {count} {what}")?;
        }
        f.write_str(match self.reads {
            Reads::Warm => "",
            Reads::Cold => ", cold",
            Reads::Tail => ", tail",
        })
    }
}

impl std::ops::Deref for Options {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        match &self.command {
            Command::Produce(settings)
            | Command::Consume(settings)
            | Command::Latency(settings)
            | Command::Compaction(settings)
            | Command::Commit(settings)
            | Command::Quic(settings)
            | Command::All(settings) => settings,
            Command::Scale(scale) => &scale.settings,
        }
    }
}

impl Options {
    fn scenarios(&self) -> &'static [Scenario] {
        match &self.command {
            Command::Produce(_) => &[Scenario::Produce],
            Command::Consume(_) => &[Scenario::Consume],
            Command::Latency(_) => &[Scenario::Latency],
            Command::Compaction(_) => &[Scenario::Compaction],
            Command::Commit(_) => &[
                Scenario::Disk(DiskFile::Written),
                Scenario::Disk(DiskFile::Reserved),
                Scenario::Commit,
            ],
            Command::Quic(_) => &[
                Scenario::BareQuic(Direction::In),
                Scenario::BareQuic(Direction::Out),
            ],
            Command::All(_) => &[Scenario::Produce, Scenario::Consume, Scenario::Latency],
            // It has tables of its own.
            Command::Scale(_) => &[],
        }
    }

    /// What a variant's values are: those that its plugin reads, or those that were asked for.
    pub fn values_of(&self, variant: &Variant) -> Values {
        let read = variant.plugin.and_then(Plugin::values);
        read.unwrap_or(self.values)
    }

    /// Every combination that was asked for.
    pub fn variants(&self) -> Result<Vec<Variant>> {
        let transports: Vec<Transport> = match &self.bootstrap {
            Some(address) => vec![address.parse::<Bootstrap>()?.transport],
            None => self.transports.iter().map(|name| (*name).into()).collect(),
        };
        let with = self.plugin.iter().copied().map(Some);
        let plugins: Vec<Option<Plugin>> = std::iter::once(None).chain(with).collect();
        let mut variants = Vec::new();
        for scenario in self.scenarios() {
            for transport in self.transports_of(*scenario, &transports) {
                for size in self.sizes_of(*scenario) {
                    let acks = self.acks_of(*scenario);
                    let combined = acks.iter().flat_map(|acks| {
                        plugins.iter().flat_map(move |plugin| {
                            let counts = self.counts_of(*scenario).into_iter();
                            counts.map(move |counts| (*acks, *plugin, counts))
                        })
                    });
                    for (acks, plugin, counts) in combined {
                        // Reading runs no plugin, and a latency run's values are no JSON.
                        let runs_it = match plugin {
                            None => true,
                            Some(Plugin::Identity) => {
                                matches!(scenario, Scenario::Produce | Scenario::Latency)
                            }
                            Some(_) => *scenario == Scenario::Produce,
                        };
                        if !runs_it {
                            continue;
                        }
                        variants.push(Variant {
                            scenario: *scenario,
                            transport: *transport,
                            size: *size,
                            acks,
                            plugin,
                            client: self.client,
                            partitions: counts.partitions,
                            producers: counts.producers,
                            groups: counts.groups,
                            reads: counts.reads,
                        });
                    }
                }
            }
        }
        if variants.is_empty() {
            bail!("nothing to run: name at least one of --transports, --sizes and --acks");
        }
        Ok(variants)
    }

    /// Reading is the same however the records were acknowledged.
    fn acks_of(&self, scenario: Scenario) -> &[Acks] {
        match scenario {
            Scenario::Consume | Scenario::BareQuic(_) => &[Acks::Leader],
            Scenario::Commit | Scenario::Disk(_) => &[Acks::All],
            _ => &self.acks,
        }
    }

    /// Every combination of counts that the scenario knows; one of each where it knows none.
    fn counts_of(&self, scenario: Scenario) -> Vec<Counts> {
        let given = self.producers.as_deref();
        let (partitions, producers, groups, reads): (&[u32], &[u32], &[u32], &[Reads]) =
            match scenario {
                Scenario::Produce => {
                    let producers = given.unwrap_or(&[1]);
                    (&self.partitions, producers, &[1], &[Reads::Warm])
                }
                Scenario::Consume => (&self.partitions, &[1], &self.groups, &self.reads),
                Scenario::Commit => (&[1], given.unwrap_or(&[1, 16]), &[1], &[Reads::Warm]),
                _ => (&[1], &[1], &[1], &[Reads::Warm]),
            };
        let mut counts = Vec::new();
        for &partitions in partitions {
            for &producers in producers {
                for &groups in groups {
                    counts.extend(reads.iter().map(|&reads| Counts {
                        partitions,
                        producers,
                        groups,
                        reads,
                    }));
                }
            }
        }
        counts
    }

    /// Plain bytes have no size.
    fn sizes_of(&self, scenario: Scenario) -> &[u32] {
        match scenario {
            Scenario::BareQuic(_) => &self.sizes[..self.sizes.len().min(1)],
            _ => &self.sizes,
        }
    }

    /// The disk is the same however it is reached.
    fn transports_of<'t>(&self, scenario: Scenario, all: &'t [Transport]) -> &'t [Transport] {
        match scenario {
            Scenario::Disk(_) => &all[..all.len().min(1)],
            _ => all,
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text}: write key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(line: &str) -> Vec<String> {
        let options = Options::parse_from(line.split_whitespace());
        let variants = options.variants().unwrap();
        variants.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn variants_are_every_combination() {
        assert_eq!(
            rows("bench produce --spawn t --transports tcp --sizes 100,1024 --acks 1,all").len(),
            4
        );
        assert_eq!(
            rows("bench consume --spawn t --transports tcp,quic --sizes 100"),
            ["consume tcp 100 B lean", "consume quic 100 B lean"]
        );
        assert_eq!(
            rows(
                "bench produce --bootstrap tls://h:1 --sizes 100 --acks all --plugin identity,mask --client full"
            ),
            [
                "produce tls 100 B acks=all full",
                "produce tls 100 B acks=all full identity",
                "produce tls 100 B acks=all full mask"
            ]
        );
        assert_eq!(
            rows("bench commit --spawn t --transports tcp --sizes 100 --producers 1,16"),
            [
                "disk: write + fdatasync 100 B, written file",
                "disk: write + fdatasync 100 B, reserved file",
                "closed loop acks=all tcp 100 B, 1 at once",
                "closed loop acks=all tcp 100 B, 16 at once"
            ]
        );
        assert_eq!(
            rows(
                "bench all --spawn t --transports tcp --sizes 100 --acks 1 --partitions 1,16 --groups 10 --reads cold,tail --client librdkafka"
            ),
            [
                "produce tcp 100 B acks=1 librdkafka",
                "produce tcp 100 B acks=1 librdkafka, 16 partitions",
                "consume tcp 100 B librdkafka, 10 readers, cold",
                "consume tcp 100 B librdkafka, 10 readers, tail",
                "consume tcp 100 B librdkafka, 16 partitions, 10 readers, cold",
                "consume tcp 100 B librdkafka, 16 partitions, 10 readers, tail",
                "latency tcp 100 B acks=1 librdkafka"
            ]
        );
        assert_eq!(
            rows("bench produce --spawn t --transports tcp --sizes 100 --acks 1 --producers 16"),
            ["produce tcp 100 B acks=1 lean, 16 producers"]
        );
    }
}
