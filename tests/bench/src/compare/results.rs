//! What a comparison measured, as it is kept in `results.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cases::{Case, Client};
use super::pairs::{Series, median};
use super::yardstick::{Yardstick, unusual};
use crate::report::Measured;
use crate::servers::Name;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    /// How it was called.
    pub command: String,
    pub rounds: u32,
    /// What each server says of itself.
    pub versions: BTreeMap<Name, String>,
    /// Who was not measured, and why.
    pub missing: BTreeMap<Name, String>,
    pub cases: Vec<Case>,
    pub blocks: Vec<Block>,
    /// Whether rounds in which the machine was not itself count as the others do.
    #[serde(skip)]
    pub every_round: bool,
}

/// One case with one client in one round: every server once, one behind the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Block {
    pub round: u32,
    pub case: String,
    pub client: Client,
    pub yardstick: Yardstick,
    pub runs: Vec<Run>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub server: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// The file system of the data, and the device that it is on.
    pub disk: String,
}

impl Machine {
    pub fn read(data: &Path) -> Result<Self> {
        let of = |file: &str, field: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(field));
            let value = line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
            value.unwrap_or_else(|| "unknown".into())
        };
        let memory = of("/proc/meminfo", "MemTotal");
        let kibibytes = memory
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        Ok(Self {
            processor: of("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: kibibytes.unwrap_or(0_u64) * 1024,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            disk: disk(data).unwrap_or_else(|| "unknown".into()),
        })
    }
}

/// The mount that a folder is on: the longest that it begins with.
fn disk(data: &Path) -> Option<String> {
    let folder = data.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mut found: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut words = line.split_whitespace();
        let (device, point, kind) = (words.next()?, words.next()?, words.next()?);
        let length = point.len();
        if folder.starts_with(point) && found.as_ref().is_none_or(|(best, _)| length >= *best) {
            found = Some((length, format!("{kind} on {device}")));
        }
    }
    found.map(|(_, text)| text)
}

/// One case measured with one client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key<'r> {
    pub case: &'r str,
    pub client: Client,
}

impl Results {
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} does not hold results of bench compare", file.display()))
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(file, text).with_context(|| file.display().to_string())
    }

    /// For each block, whether it counts: the machine was itself, or nobody asks whether it was.
    fn counted(&self) -> Vec<bool> {
        match self.every_round {
            true => vec![true; self.blocks.len()],
            false => self.usual(),
        }
    }

    /// For each block, whether the machine was itself.
    pub fn usual(&self) -> Vec<bool> {
        let disk = |block: &Block| {
            let case = self.cases.iter().find(|case| case.name == block.case);
            case.is_none_or(Case::uses_disk)
        };
        let yardsticks: Vec<(Yardstick, bool)> = self
            .blocks
            .iter()
            .map(|block| (block.yardstick, disk(block)))
            .collect();
        unusual(&yardsticks).into_iter().map(|odd| !odd).collect()
    }

    fn counted_blocks(&self, key: Key) -> impl Iterator<Item = &Block> {
        let counted = self.counted();
        let blocks = self.blocks.iter().zip(counted);
        let ours = blocks.filter(move |(block, counts)| {
            *counts && block.case == key.case && block.client == key.client
        });
        ours.map(|(block, _)| block).collect::<Vec<_>>().into_iter()
    }

    /// Whether any round of a case counts.
    pub fn counts(&self, key: Key) -> bool {
        self.counted_blocks(key).next().is_some()
    }

    /// A server's figures of one kind, by round.
    pub fn series(&self, key: Key, server: Name, value: Value) -> Series {
        let of = |block: &Block| {
            let run = block.runs.iter().find(|run| run.server == server)?;
            Some((block.round, value(run.measured.as_ref()?)?))
        };
        self.counted_blocks(key).filter_map(of).collect()
    }

    /// In each round the best of several servers: of what is better when it is more, or else less.
    pub fn best(&self, key: Key, servers: &[Name], value: Value, more: bool) -> Series {
        let mut best = Series::new();
        for server in servers {
            for (round, figure) in self.series(key, *server, value) {
                let held = best.entry(round).or_insert(figure);
                *held = if more {
                    held.max(figure)
                } else {
                    held.min(figure)
                };
            }
        }
        best
    }

    /// A server's percentiles: of each the median of the rounds.
    pub fn curve(&self, key: Key, server: Name) -> Vec<(f64, f64)> {
        let curves: Vec<Vec<(f64, f64)>> = self
            .counted_blocks(key)
            .flat_map(|block| block.runs.iter().filter(|run| run.server == server))
            .filter_map(|run| Some(run.measured.as_ref()?.curve.clone()))
            .collect();
        let Some(first) = curves.first() else {
            return Vec::new();
        };
        let at = |(percentile, _): &(f64, f64)| {
            let values = curves.iter().flatten();
            let same = values.filter(|(other, _)| other == percentile);
            Some((*percentile, median(same.map(|(_, value)| *value))?))
        };
        first.iter().filter_map(at).collect()
    }

    /// The first reason why a server has no figures in a case.
    pub fn failure(&self, key: Key, server: Name) -> Option<&str> {
        let blocks = self.blocks.iter();
        let ours = blocks.filter(|block| block.case == key.case && block.client == key.client);
        let mut runs = ours.flat_map(|block| &block.runs);
        runs.find_map(|run| match run.server == server {
            true => run.failure.as_deref(),
            false => None,
        })
    }

    /// Whether a server was measured in a case, if only in rounds that do not count.
    pub fn ran(&self, key: Key, server: Name) -> bool {
        let blocks = self.blocks.iter();
        let mut ours = blocks.filter(|block| block.case == key.case && block.client == key.client);
        ours.any(|block| block.runs.iter().any(|run| run.server == server))
    }

    /// Who drove a case.
    pub fn clients_of(&self, case: &str) -> BTreeSet<Client> {
        let blocks = self.blocks.iter().filter(|block| block.case == case);
        blocks.map(|block| block.client).collect()
    }

    /// The servers that have figures or failures, in the order of the tables.
    pub fn servers(&self) -> BTreeSet<Name> {
        let runs = self.blocks.iter().flat_map(|block| &block.runs);
        runs.map(|run| run.server).collect()
    }

    pub fn clients(&self) -> BTreeSet<Client> {
        self.blocks.iter().map(|block| block.client).collect()
    }

    /// Median, least and most of a server's figures.
    pub fn spread(&self, key: Key, server: Name, value: Value) -> Option<Spread> {
        let series = self.series(key, server, value);
        Some(Spread {
            median: median(series.values().copied())?,
            least: series.values().copied().reduce(f64::min)?,
            most: series.values().copied().reduce(f64::max)?,
        })
    }
}

/// One figure of a run.
pub type Value = fn(&Measured) -> Option<f64>;

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

pub fn throughput(run: &Measured) -> Option<f64> {
    run.megabytes_per_second
}

pub fn server_cpu(run: &Measured) -> Option<f64> {
    run.cpu_per_gigabyte
}

pub fn client_cpu(run: &Measured) -> Option<f64> {
    run.client_cpu_per_gigabyte
}

pub fn idle(run: &Measured) -> Option<f64> {
    run.idle_bytes.map(|bytes| bytes as f64 / 1e6)
}

pub fn peak(run: &Measured) -> Option<f64> {
    run.peak_bytes.map(|bytes| bytes as f64 / 1e6)
}

pub fn start(run: &Measured) -> Option<f64> {
    run.start.map(|start| start.as_secs_f64() * 1e3)
}

pub fn p50(run: &Measured) -> Option<f64> {
    run.p50
}

pub fn p99(run: &Measured) -> Option<f64> {
    run.p99
}

pub fn p999(run: &Measured) -> Option<f64> {
    run.p999
}
