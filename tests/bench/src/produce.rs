//! Throughput of writing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tidegate_client::{Delivery, Record};

use crate::broker::Broker;
use crate::options::{ClientKind, Options, Variant};
use crate::payload::{self, ReadyBatch};
use crate::report::Measured;
use crate::{await_end, cpu_per_gigabyte};

/// Records of the full client whose delivery is not known yet, at most.
const MAX_PENDING: usize = 50_000;

/// What was acknowledged, and in what time.
struct Written {
    records: u64,
    elapsed: Duration,
}

pub async fn run(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<Measured> {
    let warm = warm_up(options, variant, broker, topic).await?;
    let before = broker.usage();
    let written = match variant.client {
        ClientKind::Lean => lean(options, variant, broker, topic, warm).await?,
        ClientKind::Full => full(options, variant, broker, topic).await?,
    };
    let after = broker.usage();
    let bytes = written.records * u64::from(variant.size);
    await_end(&broker.client, topic, (written.records + warm) as i64).await?;
    Ok(Measured {
        megabytes_per_second: Some(bytes as f64 / 1e6 / written.elapsed.as_secs_f64()),
        records_per_second: Some(written.records as f64 / written.elapsed.as_secs_f64()),
        cpu_per_gigabyte: cpu_per_gigabyte(before, after, bytes),
        ..Measured::default()
    })
}

/// Sends one batch before the clock starts, and says how many records that was: the leader, the connection and the first
/// segment are there then.
async fn warm_up(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<u64> {
    let batches = payload::batches(variant.size, options.batch_bytes)?;
    let partition = broker.client.raw_partition(topic, 0).await?;
    let first = batches.first().context("no batch")?;
    partition.append(&first.chunks, variant.acks)?.await?;
    Ok(first.records)
}

/// Fills a topic for a run that reads; says how many records it holds then.
pub async fn fill(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<u64> {
    let written = lean(options, variant, broker, topic, 0).await?;
    await_end(&broker.client, topic, written.records as i64).await?;
    Ok(written.records)
}

/// Sends batches that were made before, with a bounded number on the way, and checks that their offsets follow each
/// other.
async fn lean(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
    records_before: u64,
) -> Result<Written> {
    let batches = payload::batches(variant.size, options.batch_bytes)?;
    let per_batch = batches.first().context("no batch")?.records;
    let total = (options.megabytes * 1_000_000).div_ceil(per_batch * u64::from(variant.size));
    let partition = broker.client.raw_partition(topic, 0).await?;
    let mut pending = VecDeque::new();
    let mut expected = records_before as i64;
    let mut acked = 0;
    let begun = Instant::now();
    for number in 0..total {
        let batch: &ReadyBatch = &batches[(number % batches.len() as u64) as usize];
        pending.push_back((
            batch.records,
            partition.append(&batch.chunks, variant.acks)?,
        ));
        if pending.len() as u64 >= options.in_flight
            && let Some((records, answer)) = pending.pop_front()
        {
            acked += accept(answer.await?, &mut expected, records)?;
        }
    }
    for (records, answer) in pending {
        acked += accept(answer.await?, &mut expected, records)?;
    }
    let elapsed = begun.elapsed();
    let offered = total * per_batch;
    if acked != offered {
        bail!("{offered} records were offered and {acked} acknowledged");
    }
    Ok(Written {
        records: acked,
        elapsed,
    })
}

fn accept(base_offset: Option<i64>, expected: &mut i64, records: u64) -> Result<u64> {
    if let Some(base_offset) = base_offset
        && base_offset != *expected
    {
        bail!("a batch was stored at offset {base_offset} where {expected} was next");
    }
    *expected += records as i64;
    Ok(records)
}

/// Sends record by record through the client that applications use.
async fn full(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<Written> {
    let producer = broker
        .client
        .producer()
        .acks(variant.acks)
        .batch_bytes(options.batch_bytes as usize)
        .buffer_bytes((options.batch_bytes as usize * 16).max(32 << 20))
        .max_in_flight((options.in_flight as usize).min(5))
        .build()?;
    let value = payload::value(variant.size, 1);
    let total = (options.megabytes * 1_000_000).div_ceil(u64::from(variant.size));
    let mut pending: VecDeque<Delivery> = VecDeque::with_capacity(MAX_PENDING);
    let begun = Instant::now();
    let mut acked = 0;
    for _ in 0..total {
        let record = Record::to(topic).partition(0).value(value.clone());
        pending.push_back(producer.enqueue(record).await?);
        if pending.len() >= MAX_PENDING
            && let Some(oldest) = pending.pop_front()
        {
            oldest.wait().await?;
            acked += 1;
        }
    }
    producer.flush().await?;
    for delivery in pending {
        delivery.wait().await?;
        acked += 1;
    }
    let elapsed = begun.elapsed();
    producer.close().await?;
    if acked != total {
        bail!("{total} records were offered and {acked} acknowledged");
    }
    Ok(Written {
        records: acked,
        elapsed,
    })
}
