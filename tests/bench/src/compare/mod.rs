//! `bench compare`: Tidegate, the floor and other brokers in turn, on the same machine, with the same clients.
//!
//! A *case* is a run with a name ([`cases`]). A *block* is one case with one client in one round: the yardstick, then each server once,
//! each a fresh process on a fresh folder. A *pair* is two servers' figures of the same block; only pairs are compared ([`pairs`]),
//! and goals are judged by them ([`goals`]). Results are written after each block, so that a comparison that was stopped can
//! still be reported.

mod cases;
mod goals;
mod java;
#[cfg(feature = "peers")]
mod own;
#[cfg(not(feature = "peers"))]
#[path = "no_own.rs"]
mod own;
mod page;
mod pairs;
mod plots;
mod restart;
mod results;
mod runner;
mod yardstick;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::servers::{Name, Programs};
use cases::{Case, Client};
use results::{Block, Machine, Results, Run};
use runner::Runner;
use yardstick::{Ticks, Yardstick};

#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Show the cases and end
    #[arg(long)]
    list: bool,
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH", required_unless_present = "list")]
    tidegate: Option<PathBuf>,
    /// The `floor` binary; without it the one beside this program
    #[arg(long, value_name = "PATH")]
    floor: Option<PathBuf>,
    /// The folder that `bench peers install` filled
    #[arg(long, value_name = "DIR", default_value = "peers")]
    cache: PathBuf,
    /// Who is compared; those that are not there are left out, and the report says so
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "tidegate,floor,kafka,krabka,nats,redis"
    )]
    servers: Vec<Name>,
    /// quick, all, names, or beginnings of names with a * behind them
    #[arg(long, value_delimiter = ',', default_value = "quick")]
    cases: Vec<String>,
    /// Who drives the servers that speak the Kafka protocol; each case is run with each of them
    #[arg(long, value_delimiter = ',', default_value = "lean")]
    clients: Vec<Client>,
    /// Rounds; each reverses the order of the one before
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that a run which counts should take; the amount follows from the warm-up's rate
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// The most that one run writes, in 10⁶ bytes of values
    #[arg(long, value_name = "MB", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    megabytes: u64,
    /// Seconds of a latency run that count
    #[arg(long, value_name = "S", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    latency_seconds: u64,
    /// A run that takes longer is given up
    #[arg(long, value_name = "S", default_value_t = 90, value_parser = clap::value_parser!(u64).range(10..=3600))]
    limit: u64,
    /// Where the plugins' components are; without it they are built from the source tree
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Where servers keep their data: the disk that is measured
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where results.json, report.md and the plots go
    #[arg(long, value_name = "DIR", default_value = "comparison")]
    output: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct ReportOptions {
    /// What a comparison wrote
    #[arg(value_name = "results.json")]
    results: PathBuf,
    /// Where report.md and the plots go; without it beside the results
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Count the rounds too in which the machine was not itself; the report says so
    #[arg(long)]
    every_round: bool,
}

/// One block's place in a round.
type Planned<'c> = (&'c Case, Client, Vec<Name>);

pub async fn run(options: &Options) -> Result<()> {
    if options.list {
        let cases = cases::choose(&["all".into()])?;
        let lines = cases
            .iter()
            .map(|case| format!("{:44} {}\n", case.name, case.title));
        return match std::io::stdout().write_all(lines.collect::<String>().as_bytes()) {
            // Whoever reads them has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        };
    }
    for client in &options.clients {
        cases::available(*client)?;
    }
    let programs = Programs {
        tidegate: options.tidegate.clone(),
        floor: options.floor.clone(),
        cache: std::path::absolute(&options.cache)?,
    };
    let data = std::path::absolute(options.data.clone().unwrap_or_else(std::env::temp_dir))?;
    std::fs::create_dir_all(&data).with_context(|| format!("--data {}", data.display()))?;
    std::fs::create_dir_all(&options.output)
        .with_context(|| format!("--output {}", options.output.display()))?;
    let mut results = begin(options, &programs, &data)?;
    let cases = results.cases.clone();
    let plan = plan(options, &cases, &results);
    let runner = Runner {
        programs,
        data,
        limit: Duration::from_secs(options.limit),
        seconds: options.seconds,
        megabytes: options.megabytes,
        latency_seconds: options.latency_seconds,
        plugins: options.plugins.clone(),
    };
    announce(options, &runner, &plan, &results);
    let mut ticks = Ticks::read()?;
    for round in 1..=options.rounds {
        let mut order: Vec<&Planned> = plan.iter().collect();
        if round.is_multiple_of(2) {
            order.reverse();
        }
        for planned in order {
            let block = block(&runner, options, round, planned, &mut ticks).await?;
            results.blocks.push(block);
            results.write(&options.output.join("results.json"))?;
        }
    }
    page::write(&results, &options.output)
}

pub fn report(options: &ReportOptions) -> Result<()> {
    let mut results = Results::read(&options.results)?;
    results.every_round = options.every_round;
    let beside = options.results.parent().map(PathBuf::from);
    let output = options.output.clone().or(beside).unwrap_or_default();
    std::fs::create_dir_all(&output)?;
    page::write(&results, &output)
}

/// Who is there and who is not, and the machine.
fn begin(options: &Options, programs: &Programs, data: &std::path::Path) -> Result<Results> {
    let mut versions = BTreeMap::new();
    let mut missing = BTreeMap::new();
    for server in &options.servers {
        match programs.version(*server) {
            Ok(version) => {
                versions.insert(*server, version);
            }
            Err(error) if server.is_peer() => {
                missing.insert(*server, format!("{error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    let cases = cases::choose(&options.cases)?;
    Ok(Results {
        machine: Machine::read(data)?,
        command: command(),
        rounds: options.rounds,
        versions,
        missing,
        cases,
        blocks: Vec::new(),
        every_round: false,
    })
}

/// How this program was called, without the folders that only this machine has.
fn command() -> String {
    let words = std::env::args()
        .skip(1)
        .map(|word| match word.rsplit_once('/') {
            Some((_, last)) => last.to_owned(),
            None => word,
        });
    let words: Vec<String> = std::iter::once("bench".to_owned()).chain(words).collect();
    words.join(" ")
}

fn plan<'c>(options: &Options, cases: &'c [Case], results: &Results) -> Vec<Planned<'c>> {
    let mut plan = Vec::new();
    for case in cases {
        for client in case.clients(&options.clients) {
            let there = results.versions.keys().copied();
            let servers: Vec<Name> = there
                .filter(|server| case.includes(*server) && case.drives(client, *server))
                .collect();
            if !servers.is_empty() {
                plan.push((case, client, servers));
            }
        }
    }
    plan
}

fn announce(options: &Options, runner: &Runner, plan: &[Planned], results: &Results) {
    for (server, why) in &results.missing {
        eprintln!("{server} is not measured: {why}");
    }
    let runs: usize = plan.iter().map(|(.., servers)| servers.len()).sum();
    let one_round: u64 = plan
        .iter()
        .map(|(case, _, servers)| {
            let each = servers.iter().map(|server| runner.about(case, *server));
            2 + each.sum::<u64>()
        })
        .sum();
    let rounds = u64::from(options.rounds);
    let most = (runs as u64 * options.limit + 2 * plan.len() as u64) * rounds;
    eprintln!(
        "{} blocks, {runs} runs a round, {rounds} rounds: about {} minutes, at most {}",
        plan.len(),
        (one_round * rounds).div_ceil(60),
        most.div_ceil(60)
    );
}

async fn block(
    runner: &Runner,
    options: &Options,
    round: u32,
    (case, client, servers): &Planned<'_>,
    ticks: &mut Ticks,
) -> Result<Block> {
    let yardstick = {
        let (data, mut own) = (runner.data.clone(), *ticks);
        let measure = move || Yardstick::measure(&data, &mut own).map(|found| (found, own));
        let (found, own) = tokio::task::spawn_blocking(measure).await??;
        *ticks = own;
        found
    };
    let mut order = servers.clone();
    if round.is_multiple_of(2) {
        order.reverse();
    }
    let mut runs = Vec::new();
    for server in order {
        eprint!(
            "round {round} of {}: {} {}, {server}: ",
            options.rounds,
            case.name,
            client.name()
        );
        let run = runner.run(case, *client, server).await;
        eprintln!("{}", summary(&run));
        runs.push(run);
    }
    runs.sort_by_key(|run| run.server);
    Ok(Block {
        round,
        case: case.name.clone(),
        client: *client,
        yardstick,
        runs,
    })
}

/// One line for who waits.
fn summary(run: &Run) -> String {
    let Some(measured) = &run.measured else {
        let failure = run.failure.as_deref().unwrap_or_default();
        return failure.lines().next().unwrap_or_default().to_owned();
    };
    match (measured.p50, measured.p99, measured.megabytes_per_second) {
        (Some(p50), Some(p99), _) => format!("p50 {p50:.0} µs, p99 {p99:.0} µs"),
        (_, _, Some(rate)) => {
            let cpu = measured.cpu_per_gigabyte.unwrap_or(f64::NAN);
            format!("{rate:.0} MB/s, {cpu:.2} CPU s/GB")
        }
        _ => "measured".into(),
    }
}
