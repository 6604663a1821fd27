//! `bench`: drives a broker and prints throughput, latency, CPU and memory.
//!
//! A *variant* is one combination of what is measured (scenario, transport, record size, acks, with or without a
//! plugin). A *round* runs every variant once; rounds alternate the order of the variants, and the table shows
//! each variant's median. A run that loses, repeats or misplaces a record is an error, not a figure. The method stands in
//! `README.md`.

mod bare_quic;
mod broker;
mod cold;
mod commit;
mod compaction;
mod compare;
mod consume;
mod cpu;
mod disk;
mod latency;
#[cfg(feature = "librdkafka")]
mod librdkafka;
#[cfg(not(feature = "librdkafka"))]
#[path = "no_librdkafka.rs"]
mod librdkafka;
mod options;
mod payload;
mod peers;
mod plugins;
mod produce;
mod report;
mod scale;
mod servers;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tidegate_client::{Client, NewTopic};
use tokio::signal::unix::{SignalKind, signal};

use broker::Broker;
use options::{Options, Variant};
use report::{Measured, Report};

/// How long a new topic may take until it can be used.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Measures a broker: throughput, latency, CPU, memory; and compares it with others",
    after_help = options::EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // Made once.
enum Command {
    #[command(flatten)]
    Measure(options::Command),
    /// Tidegate, the floor and other brokers in turn, and a report with goals and plots
    Compare(compare::Options),
    /// Makes the report of a comparison again, from its results
    Report(compare::ReportOptions),
    /// The other brokers
    #[command(subcommand)]
    Peers(peers::Command),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let command = Arguments::parse().command;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // What is left undone ends the servers that it had started.
    tokio::select! {
        done = run_command(command) => done,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        _ = interrupt.recv() => bail!("ended by SIGINT"),
    }
}

async fn run_command(command: Command) -> Result<()> {
    match command {
        Command::Measure(command) => measure(&Options { command }).await,
        Command::Compare(options) => compare::run(&options).await,
        Command::Report(options) => compare::report(&options),
        Command::Peers(command) => peers::run(&command),
    }
}

async fn measure(options: &Options) -> Result<()> {
    if let options::Command::Scale(scale) = &options.command {
        return scale::run(options, scale).await;
    }
    let variants = options.variants()?;
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        eprintln!("load average before: {}", load.trim());
    }
    let mut report = Report::new(&variants);
    for round in 0..options.rounds {
        let mut order: Vec<usize> = (0..variants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let variant = &variants[index];
            eprintln!("round {} of {}: {variant}", round + 1, options.rounds);
            let measured = run(options, variant)
                .await
                .with_context(|| format!("{variant}: the run is void"))?;
            if variant.scenario == options::Scenario::Latency
                && let (Some(held), None) = (measured.records_per_second, measured.p50)
            {
                let rate = options.rate;
                eprintln!(
                    "overloaded: {held:.0} of {rate} records a second were held; there are no percentiles"
                );
            }
            report.add(index, measured);
        }
    }
    report.print(options.markdown);
    Ok(())
}

/// One variant on a broker of its own (with `--spawn`), or on a topic of its own.
async fn run(options: &Options, variant: &Variant) -> Result<Measured> {
    if let options::Scenario::Disk(file) = variant.scenario {
        return disk::run(options, variant, file).await;
    }
    if let options::Scenario::BareQuic(direction) = variant.scenario {
        return bare_quic::run(options, direction).await;
    }
    let broker = Broker::open(options, variant.transport).await?;
    run_on(options, variant, &broker).await
}

/// One variant on a topic of its own, of a broker that runs.
async fn run_on(options: &Options, variant: &Variant, broker: &Broker) -> Result<Measured> {
    let topic = create_topic(options, variant, broker).await?;
    let mut measured = match variant.scenario {
        options::Scenario::Produce => produce::run(options, variant, broker, &topic).await?,
        options::Scenario::Consume => consume::run(options, variant, broker, &topic).await?,
        options::Scenario::Compaction => compaction::run(options, variant, broker, &topic).await?,
        options::Scenario::Latency => latency::run(options, variant, broker, &topic).await?,
        options::Scenario::Commit => commit::run(options, variant, broker, &topic).await?,
        options::Scenario::Disk(_) | options::Scenario::BareQuic(_) => {
            bail!("yardsticks are measured without a broker")
        }
    };
    measured.start = broker.start;
    measured.idle_bytes = broker.idle_bytes;
    measured.peak_bytes = broker.peak_bytes();
    broker.client.admin().delete_topic(&topic).await?;
    Ok(measured)
}

async fn create_topic(options: &Options, variant: &Variant, broker: &Broker) -> Result<String> {
    let admin = broker.client.admin();
    let name = format!("bench-{}-{}", std::process::id(), payload::unique());
    let mut topic = NewTopic::new(&name).partitions(variant.partitions as i32);
    for (key, value) in &options.topic_config {
        topic = topic.config(key, value);
    }
    if let Some(plugin) = variant.plugin {
        plugins::deploy(plugin, options, broker).await?;
        topic = topic.config(plugin.topic_setting(), plugin.name());
    }
    admin.create_topic(&topic).await?;
    // The leader of a new topic is known a moment later, and may serve its partitions another moment later.
    broker.client.topic(&name, false).await?;
    let begun = std::time::Instant::now();
    while let Err(error) = end_offset(&broker.client, &name).await {
        if begun.elapsed() > PATIENCE {
            return Err(error.context(format!(
                "{name} is not served {PATIENCE:?} after it was made"
            )));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(name)
}

/// The records that can be read: where the partitions end, together.
async fn end_offset(client: &Client, topic: &str) -> Result<i64> {
    let ends = client
        .admin()
        .list_offsets(topic, tidegate_client::StartAt::Latest)
        .await?;
    if ends.is_empty() {
        bail!("{topic} has no partition");
    }
    Ok(ends.values().sum())
}

/// Waits until everything that was acknowledged can be read.
async fn await_end(client: &Client, topic: &str, expected: i64) -> Result<()> {
    for _ in 0..500 {
        let end = end_offset(client, topic).await?;
        if end == expected {
            return Ok(());
        }
        if end > expected {
            bail!("{expected} records were acknowledged, but the topic holds {end}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("{expected} records were acknowledged, but 5 s later fewer can be read")
}
