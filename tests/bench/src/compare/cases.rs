//! What can be compared: a table of named cases, each the command line of a `bench` run.
//!
//! `bench consume …` with a case's line measures the same by hand. `os` in a name says that an acknowledgement stands for the page
//! cache, `sync` for the disk; the two are never compared with each other.

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use tidegate_client::Transport;

use crate::options::{ClientKind, Options, Variant};
use crate::servers::{Durability, FloorFiles, Name, Stop};

/// What a case belongs to: a table and a plot of the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    Produce,
    Consume,
    Latency,
    Plugins,
    Restart,
}

impl Group {
    pub fn title(self) -> &'static str {
        match self {
            Self::Produce => "Writing",
            Self::Consume => "Reading",
            Self::Latency => "Latency",
            Self::Plugins => "With a plugin",
            Self::Restart => "Starting on data",
        }
    }
}

/// Who sends and reads. Peers that do not speak the Kafka protocol have their own client whatever is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// Replays batches that were made before: shows the server
    Lean,
    /// This repository's client, record by record
    Full,
    /// What most applications use; needs the feature `librdkafka`
    Librdkafka,
    /// Kafka's own perf tools, from its jars
    Java,
}

impl Client {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lean => "lean",
            Self::Full => "full",
            Self::Librdkafka => "librdkafka",
            Self::Java => "java",
        }
    }

    /// How the runs that are in this process name it; Java's are not.
    fn option(self) -> &'static str {
        match self {
            Self::Java => "lean",
            other => other.name(),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Case {
    pub name: String,
    pub group: Group,
    /// How a person says it.
    pub title: String,
    /// A command line of this program, without the server, the client and the amount.
    pub line: String,
    pub transport: TransportName,
    pub durability: Durability,
    /// How the server ends when all is written, to be started again on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Stop>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

const TRANSPORTS: [(TransportName, &str, &str); 3] = [
    (TransportName::Tcp, "tcp", "TCP"),
    (TransportName::Tls, "tls", "TLS"),
    (TransportName::Quic, "quic", "QUIC"),
];
const SIZES: [(u32, &str, &str); 3] = [
    (100, "100", "100 B"),
    (1024, "1k", "1 KiB"),
    (10_240, "10k", "10 KiB"),
];
const DURABILITIES: [(Durability, &str, &str, &str); 2] = [
    (Durability::Os, "os", "--acks 1", "page cache"),
    (Durability::Sync, "sync", "--acks all", "synced"),
];
const PARTITIONS: [u32; 3] = [1, 16, 1000];
const PRODUCERS: [u32; 2] = [1, 16];
const GROUPS: [u32; 2] = [1, 10];
const READS: [(&str, &str); 3] = [("warm", ""), ("cold", ", cold"), ("tail", ", tail")];

/// What is run unless told otherwise: what the goals ask for.
pub const QUICK: [&str; 18] = [
    "produce-tcp-1k-os",
    "produce-tcp-1k-sync",
    "produce-tcp-100-os",
    "produce-tcp-100-sync",
    "produce-tls-1k-os",
    "produce-quic-1k-os",
    "consume-tcp-1k",
    "consume-tcp-100",
    "consume-tls-1k",
    "consume-quic-1k",
    "latency-tcp-1k-os",
    "latency-tcp-1k-sync",
    "latency-quic-1k-os",
    "latency-tcp-1k-os-linger",
    "plugin-identity-tcp-1k-os",
    "plugin-mask-tcp-1k-os",
    "plugin-partitioner-tcp-1k-os-16-partitions",
    "produce-tcp-1k-os-16-partitions",
];

/// Every case there is.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for transport in TRANSPORTS {
        for size in SIZES {
            produce(&mut cases, transport, size);
            consume(&mut cases, transport, size);
            latency(&mut cases, transport, size);
        }
    }
    cases.push(Case {
        name: "latency-tcp-1k-os-linger".into(),
        group: Group::Latency,
        title: "end to end 1 KiB, TCP, page cache, linger of 5 ms".into(),
        line: "latency --sizes 1024 --acks 1 --linger 5".into(),
        transport: TransportName::Tcp,
        durability: Durability::Os,
        restart: None,
    });
    for (plugin, shown, partitions) in [
        ("identity", "an identity transform", 1),
        ("mask", "a transform that masks a field", 1),
        ("partitioner", "a partitioner by a field", 16),
    ] {
        let mut case = Case {
            name: format!("plugin-{plugin}-tcp-1k-os"),
            group: Group::Plugins,
            title: format!("write 1 KiB through {shown}, TCP, page cache"),
            line: format!("produce --sizes 1024 --acks 1 --plugin {plugin}"),
            transport: TransportName::Tcp,
            durability: Durability::Os,
            restart: None,
        };
        case.count(partitions, "partitions");
        cases.push(case);
    }
    for (stop, name, shown) in [
        (Stop::Clean, "clean", "after a clean end"),
        (Stop::Kill, "killed", "after kill -9"),
    ] {
        cases.push(Case {
            name: format!("restart-{name}-1000-partitions"),
            group: Group::Restart,
            title: format!("start on 1,000 partitions, {shown}"),
            line: "produce --sizes 1024 --acks 1 --partitions 1000".into(),
            transport: TransportName::Tcp,
            durability: Durability::Os,
            restart: Some(stop),
        });
    }
    cases
}

type Row = (TransportName, &'static str, &'static str);
type Size = (u32, &'static str, &'static str);

fn produce(cases: &mut Vec<Case>, (transport, name, shown): Row, (bytes, size, shown_size): Size) {
    for (durability, kept, acks, shown_kept) in DURABILITIES {
        for partitions in PARTITIONS {
            for producers in PRODUCERS {
                let mut case = Case {
                    name: format!("produce-{name}-{size}-{kept}"),
                    group: Group::Produce,
                    title: format!("write {shown_size}, {shown}, {shown_kept}"),
                    line: format!("produce --sizes {bytes} {acks}"),
                    transport,
                    durability,
                    restart: None,
                };
                case.count(partitions, "partitions");
                case.count(producers, "producers");
                cases.push(case);
            }
        }
    }
}

fn consume(cases: &mut Vec<Case>, (transport, name, shown): Row, (bytes, size, shown_size): Size) {
    for partitions in PARTITIONS {
        for groups in GROUPS {
            for (reads, shown_reads) in READS {
                let mut case = Case {
                    name: format!("consume-{name}-{size}"),
                    group: Group::Consume,
                    title: format!("read {shown_size}, {shown}{shown_reads}"),
                    line: format!("consume --sizes {bytes}"),
                    transport,
                    durability: Durability::Os,
                    restart: None,
                };
                if reads != "warm" {
                    case.name.push_str(&format!("-{reads}"));
                    case.line.push_str(&format!(" --reads {reads}"));
                }
                case.count(partitions, "partitions");
                case.count(groups, "groups");
                cases.push(case);
            }
        }
    }
}

fn latency(cases: &mut Vec<Case>, (transport, name, shown): Row, (bytes, size, shown_size): Size) {
    for (durability, kept, acks, shown_kept) in DURABILITIES {
        cases.push(Case {
            name: format!("latency-{name}-{size}-{kept}"),
            group: Group::Latency,
            title: format!("end to end {shown_size}, {shown}, {shown_kept}"),
            line: format!("latency --sizes {bytes} {acks}"),
            transport,
            durability,
            restart: None,
        });
    }
}

/// The cases of a `--cases` list: `quick`, `all`, names, and beginnings of names with a `*` behind them.
pub fn choose(wanted: &[String]) -> Result<Vec<Case>> {
    let all = all();
    for pattern in wanted {
        if !all.iter().any(|case| matches(pattern, &case.name)) {
            bail!("--cases {pattern}: no case has that name; `bench compare --list` shows them");
        }
    }
    let chosen = all
        .into_iter()
        .filter(|case| wanted.iter().any(|pattern| matches(pattern, &case.name)));
    Ok(chosen.collect())
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern {
        "all" => true,
        "quick" => QUICK.contains(&name),
        _ => match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        },
    }
}

impl Case {
    fn count(&mut self, count: u32, what: &str) {
        if count > 1 {
            self.name.push_str(&format!("-{count}-{what}"));
            self.title.push_str(&format!(", {count} {what}"));
            self.line.push_str(&format!(" --{what} {count}"));
        }
    }

    pub fn number_of(&self, option: &str) -> u32 {
        let mut words = self.line.split_whitespace();
        let found = words.find(|word| word.strip_prefix("--") == Some(option));
        let value = found.and_then(|_| words.next()?.parse().ok());
        value.unwrap_or(1)
    }

    /// Latency's file is read as fast as it grows; the others' files are those of a log that has run for long.
    pub fn floor_files(&self) -> FloorFiles {
        match (self.group, self.durability) {
            (Group::Latency, Durability::Os) => FloorFiles::Fresh,
            _ => FloorFiles::Recycled,
        }
    }

    /// Whether a server can take part.
    pub fn includes(&self, server: Name) -> bool {
        let plain = self
            .line
            .split_whitespace()
            .filter(|word| word.starts_with("--"));
        let plain = plain
            .into_iter()
            .all(|word| word == "--sizes" || word == "--acks");
        server.has(self.transport.into())
            && (self.durability == Durability::Os || server.can_sync())
            && (server.speaks_kafka() || plain)
            && !(self.is_bare(server) && (self.group == Group::Latency || !plain))
            && (self.group != Group::Plugins || server == Name::Tidegate)
            // The floor begins anew.
            && (self.restart.is_none() || server != Name::Floor)
            // Where the client decides about the figure, one to compare with is enough.
            && !(self.line.contains("--linger") && server.is_peer())
    }

    /// Whether the server moves bytes alone, without the Kafka protocol.
    pub fn is_bare(&self, server: Name) -> bool {
        server == Name::Floor && self.transport == TransportName::Quic
    }

    /// Whether a client can drive it: Kafka's tools know neither QUIC nor the time to a consumer.
    pub fn allows(&self, client: Client) -> bool {
        match client {
            Client::Lean => !self.line.contains("--linger"),
            Client::Full => true,
            Client::Librdkafka => self.transport != TransportName::Quic,
            Client::Java => {
                self.transport == TransportName::Tcp
                    && self.restart.is_none()
                    && matches!(self.group, Group::Produce | Group::Consume)
                    && !self.line.contains("--reads")
                    && self.number_of("producers") == 1
                    && self.number_of("groups") == 1
            }
        }
    }

    /// Those of the asked clients that can drive it; when none can, the one that applications would use.
    pub fn clients(&self, asked: &[Client]) -> Vec<Client> {
        let mut clients: Vec<Client> = asked.to_vec();
        clients.retain(|client| self.allows(*client));
        if clients.is_empty() && self.line.contains("--linger") {
            let likely = [Client::Librdkafka, Client::Full];
            clients.extend(likely.into_iter().find(|client| available(*client).is_ok()));
        }
        clients
    }

    /// Whether the disk has a part in its figures: else it does not matter how fast the disk was meanwhile.
    pub fn uses_disk(&self) -> bool {
        self.durability == Durability::Sync || self.line.contains("--reads cold")
    }

    /// Whether a client can do its work on a server: Kafka's own consumer joins a group, and the floor has none.
    pub fn drives(&self, client: Client, server: Name) -> bool {
        !(client == Client::Java && self.group == Group::Consume && server == Name::Floor)
    }

    /// The run's options and its one variant, against a server that listens on `address`.
    pub fn variant(
        &self,
        client: Client,
        address: &str,
        further: &[String],
    ) -> Result<(Options, Variant)> {
        let words = std::iter::once("bench").chain(self.line.split_whitespace());
        let words = words.chain(["--bootstrap", address, "--client", client.option()]);
        let words = words.map(str::to_owned).chain(further.iter().cloned());
        let options = Options::try_parse_from(words).with_context(|| self.name.clone())?;
        let mut variants = options.variants()?;
        // A case with a plugin is the run through it, which comes behind the one without.
        let variant = variants.pop().context("no variant")?;
        Ok((options, variant))
    }
}

/// Whether the client was built in.
pub fn available(client: Client) -> Result<()> {
    if ClientKind::from_str(client.option(), false).is_err() {
        bail!(
            "--clients {}: this `bench` was built without it",
            client.name()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_is_one_run_and_has_a_name_of_its_own() {
        let cases = all();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            let client = case.clients(&[Client::Lean])[0];
            let (options, variant) = case.variant(client, "tcp://127.0.0.1:9092", &[]).unwrap();
            // With a plugin, and without.
            let runs = 1 + usize::from(case.group == Group::Plugins);
            assert_eq!(options.variants().unwrap().len(), runs, "{}", case.name);
            assert_eq!(variant.plugin.is_some(), case.group == Group::Plugins);
            assert!(variant.to_string().contains(&variant.size.to_string()));
        }
    }

    #[test]
    fn the_quick_set_names_cases_that_exist() {
        assert_eq!(choose(&["quick".into()]).unwrap().len(), QUICK.len());
        let produce = choose(&["produce-tcp-1k-*".into()]).unwrap();
        assert!(
            produce
                .iter()
                .all(|case| case.name.starts_with("produce-tcp-1k-"))
        );
        assert!(choose(&["produce-udp*".into()]).is_err());
    }

    #[test]
    fn only_those_take_part_that_can() {
        let case = |name: &str| choose(&[name.into()]).unwrap().remove(0);
        assert!(!case("produce-tcp-1k-sync").includes(Name::Krabka));
        assert!(case("produce-tcp-1k-sync").includes(Name::Nats));
        assert!(!case("produce-tcp-1k-os-16-partitions").includes(Name::Redis));
        assert!(!case("produce-quic-1k-os").includes(Name::Kafka));
        assert!(case("produce-tls-1k-os").includes(Name::Kafka));
        assert!(case("produce-quic-1k-os").includes(Name::Floor));
        assert!(!case("latency-quic-1k-os").includes(Name::Floor));
        assert!(!case("plugin-identity-tcp-1k-os").includes(Name::Floor));
        assert!(!case("latency-tcp-1k-os").allows(Client::Java));
        assert!(!case("latency-tcp-1k-os-linger").allows(Client::Lean));
        assert_eq!(
            case("latency-tcp-1k-os-linger")
                .clients(&[Client::Lean])
                .len(),
            1
        );
        assert!(case("consume-tls-1k").clients(&[Client::Java]).is_empty());
        assert!(!case("latency-tcp-1k-os-linger").includes(Name::Redis));
        assert_eq!(
            case("consume-tcp-100-16-partitions").number_of("partitions"),
            16
        );
    }
}
