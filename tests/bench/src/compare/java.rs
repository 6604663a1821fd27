//! Kafka's own perf tools, from its jars, as a client of any server that speaks its protocol.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tidegate_client::Acks;

use crate::broker::Broker;
use crate::cpu::Stopwatch;
use crate::options::{Options, Scenario, Variant};
use crate::report::Measured;
use crate::servers::java;
use crate::{await_end, create_topic, produce};

const PRODUCER: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER: &str = "org.apache.kafka.tools.ConsumerPerformance";

/// What the producer's tool printed at its end.
#[derive(Clone, PartialEq, Debug)]
struct Produced {
    records: u64,
    records_per_second: f64,
}

/// What the consumer's tool printed.
#[derive(Clone, PartialEq, Debug)]
struct Consumed {
    records: u64,
    /// Without the time to its assignment.
    records_per_second: f64,
}

pub async fn run(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    jars: &Path,
) -> Result<Measured> {
    let topic = create_topic(options, variant, broker).await?;
    let (_, address) = broker.endpoint()?;
    let address = address.as_str();
    let measured = match variant.scenario {
        Scenario::Produce => write(options, variant, broker, jars, (&topic, address)).await?,
        Scenario::Consume => read(options, variant, broker, jars, (&topic, address)).await?,
        _ => bail!("Kafka's tools write and read, no more"),
    };
    broker.client.admin().delete_topic(&topic).await?;
    Ok(Measured {
        start: broker.start,
        idle_bytes: broker.idle_bytes,
        peak_bytes: broker.peak_bytes(),
        ..measured
    })
}

async fn write(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    jars: &Path,
    (topic, address): (&str, &str),
) -> Result<Measured> {
    let acks = match variant.acks {
        Acks::None => "0",
        Acks::Leader => "1",
        Acks::All => "all",
    };
    let total = (options.megabytes * 1_000_000).div_ceil(u64::from(variant.size));
    let line = java(jars, None).arg(PRODUCER);
    let line = line
        .args(["--topic", topic, "--throughput", "-1", "--record-size"])
        .arg(variant.size.to_string())
        .args(["--num-records".into(), total.to_string()])
        .arg("--producer-props")
        .args([
            format!("bootstrap.servers={address}"),
            format!("acks={acks}"),
        ]);
    let stopwatch = Stopwatch::start(broker);
    let text = tokio::task::spawn_blocking(move || line.run()).await??;
    let spent = stopwatch.stop(total * u64::from(variant.size));
    let produced = parse_produced(&text).with_context(|| format!("{PRODUCER} printed:\n{text}"))?;
    if produced.records != total {
        bail!(
            "{total} records were offered, {} acknowledged",
            produced.records
        );
    }
    await_end(&broker.client, topic, total as i64).await?;
    Ok(Measured {
        megabytes_per_second: Some(produced.records_per_second * f64::from(variant.size) / 1e6),
        records_per_second: Some(produced.records_per_second),
        cpu_per_gigabyte: spent.broker,
        client_cpu_per_gigabyte: spent.client,
        ..Measured::default()
    })
}

async fn read(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    jars: &Path,
    (topic, address): (&str, &str),
) -> Result<Measured> {
    let total = produce::fill(options, variant, broker, topic).await?;
    let line = java(jars, None).arg(CONSUMER);
    let line = line
        .args(["--topic", topic, "--bootstrap-server", address])
        .args(["--messages".into(), total.to_string()])
        .args(["--timeout", "30000"]);
    let stopwatch = Stopwatch::start(broker);
    let text = tokio::task::spawn_blocking(move || line.run()).await??;
    let spent = stopwatch.stop(total * u64::from(variant.size));
    let consumed = parse_consumed(&text).with_context(|| format!("{CONSUMER} printed:\n{text}"))?;
    if consumed.records < total {
        bail!(
            "{total} records were written and {} came back",
            consumed.records
        );
    }
    Ok(Measured {
        megabytes_per_second: Some(consumed.records_per_second * f64::from(variant.size) / 1e6),
        records_per_second: Some(consumed.records_per_second),
        cpu_per_gigabyte: spent.broker,
        client_cpu_per_gigabyte: spent.client,
        ..Measured::default()
    })
}

/// The last line that tells percentiles: `N records sent, R records/sec (…), … ms 99.9th.`
fn parse_produced(text: &str) -> Option<Produced> {
    let mut lines = text.lines().rev();
    let line = lines.find(|line| line.contains(" records sent, ") && line.contains("99.9th"))?;
    let (records, rest) = line.split_once(" records sent, ")?;
    let (rate, _) = rest.split_once(" records/sec")?;
    Some(Produced {
        records: records.trim().parse().ok()?,
        records_per_second: rate.trim().parse().ok()?,
    })
}

/// A heading of comma-separated names, and a line of values below it.
fn parse_consumed(text: &str) -> Option<Consumed> {
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("start.time"));
    let names: Vec<&str> = lines.next()?.split(',').map(str::trim).collect();
    let values: Vec<&str> = lines.next()?.split(',').map(str::trim).collect();
    let value = |name: &str| {
        let place = names.iter().position(|known| *known == name)?;
        values.get(place)?.parse::<f64>().ok()
    };
    Some(Consumed {
        records: value("data.consumed.in.nMsg")? as u64,
        records_per_second: value("fetch.nMsg.sec")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_producers_last_line_counts() {
        let text = "42135 records sent, 8427.0 records/sec (8.04 MB/sec), 3.1 ms avg latency, 61.0 ms max latency.\n\
                    200000 records sent, 5569.3 records/sec (5.31 MB/sec), 38.99 ms avg latency, 111.00 ms max latency, \
                    36 ms 50th, 86 ms 95th, 95 ms 99th, 96 ms 99.9th.\n";
        let produced = parse_produced(text).unwrap();
        assert_eq!(produced.records, 200_000);
        assert!((produced.records_per_second - 5569.3).abs() < 1e-9);
        assert_eq!(parse_produced("5 records sent, 1.0 records/sec"), None);
    }

    #[test]
    fn the_consumers_columns_are_found_by_their_names() {
        let text = "a warning\n\
                    start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
                    2026-01-01 17:54:36:665, 2026-01-01 17:54:48:488, 190.7349, 16.1325, 200000, 16916.1803, 6922, 4901, 38.9175, 40807.9984\n";
        let consumed = parse_consumed(text).unwrap();
        assert_eq!(consumed.records, 200_000);
        assert!((consumed.records_per_second - 40_807.998_4).abs() < 1e-9);
        assert_eq!(parse_consumed("start.time, fetch.nMsg.sec\n"), None);
    }
}
