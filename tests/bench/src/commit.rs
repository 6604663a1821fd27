//! What an `acks=all` costs: producers that each wait for their answer before they send the next batch.
//!
//! One producer shows the way of a single batch: to the broker, into the file, `fdatasync`, and back. Many show group commit:
//! what comes during one sync shares the next.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tidegate_client::{Acks, RawPartition};

use crate::await_end;
use crate::broker::Broker;
use crate::options::{Options, Variant};
use crate::payload::{self, ReadyBatch, nanoseconds_since};
use crate::report::Measured;

/// The times of one run: writing begins, counting begins, both end.
#[derive(Clone, Copy)]
struct Plan {
    counted_from: Instant,
    end: Instant,
}

pub async fn run(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<Measured> {
    let mut partitions = Vec::new();
    for _ in 0..variant.producers {
        partitions.push(broker.connect().await?.raw_partition(topic, 0).await?);
    }
    let counted_from = Instant::now() + Duration::from_secs(options.warm_up);
    let counted = Duration::from_secs(options.seconds);
    let plan = Plan {
        counted_from,
        end: counted_from + counted,
    };
    let mut writers = Vec::new();
    for partition in partitions {
        let batch = payload::timed_batch(variant.size, 0)?;
        writers.push(tokio::spawn(write(partition, batch, plan)));
    }
    tokio::time::sleep_until(plan.counted_from.into()).await;
    let (syncs_before, seconds_before) = broker.syncs().await?;
    tokio::time::sleep_until(plan.end.into()).await;
    let (syncs_after, seconds_after) = broker.syncs().await?;
    let mut times = new_histogram()?;
    let mut total = 0;
    for writer in writers {
        let (written, own) = writer.await.context("a producer ended early")??;
        total += written;
        times.add(own)?;
    }
    await_end(&broker.client, topic, total).await?;
    let records = times.len() as f64;
    let syncs = syncs_after - syncs_before;
    let microseconds = |quantile| Some(times.value_at_quantile(quantile) as f64 / 1e3);
    Ok(Measured {
        records_per_second: Some(records / counted.as_secs_f64()),
        p50: microseconds(0.5),
        p99: microseconds(0.99),
        p999: microseconds(0.999),
        max: microseconds(1.0),
        syncs_per_second: Some(syncs / counted.as_secs_f64()),
        records_per_sync: (syncs > 0.0).then(|| records / syncs),
        sync_time: (syncs > 0.0).then(|| (seconds_after - seconds_before) / syncs * 1e6),
        ..Measured::default()
    })
}

/// Times in nanoseconds, to three digits.
pub fn new_histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

/// Writes one batch after the other; answers how many, and the times of those that count.
async fn write(
    partition: RawPartition,
    batch: ReadyBatch,
    plan: Plan,
) -> Result<(i64, Histogram<u64>)> {
    let mut times = new_histogram()?;
    let mut written = 0;
    loop {
        let begun = Instant::now();
        if begun >= plan.end {
            return Ok((written, times));
        }
        partition.append(&batch.chunks, Acks::All)?.await?;
        written += batch.records as i64;
        if begun >= plan.counted_from {
            times.record(nanoseconds_since(begun))?;
        }
    }
}
