//! Throughput of reading what was written before.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tidegate_client::StartAt;
use tidegate_client::records::Batches;

use crate::broker::Broker;
use crate::options::{ClientKind, Options, Variant};
use crate::report::Measured;
use crate::{cpu_per_gigabyte, produce};

/// What one fetch of the lean client asks for.
const FETCH_BYTES: i32 = 8 << 20;
/// One answer in so many has its checksums verified.
const VERIFY_EVERY: u64 = 16;
/// Nothing new for so long: what is missing will not come.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<Measured> {
    let records = produce::fill(options, variant, broker, topic).await?;
    let before = broker.usage();
    let begun = Instant::now();
    match variant.client {
        ClientKind::Lean => lean(broker, topic, records).await?,
        ClientKind::Full => full(broker, topic, records).await?,
    }
    let elapsed = begun.elapsed();
    let after = broker.usage();
    let bytes = records * u64::from(variant.size);
    Ok(Measured {
        megabytes_per_second: Some(bytes as f64 / 1e6 / elapsed.as_secs_f64()),
        records_per_second: Some(records as f64 / elapsed.as_secs_f64()),
        cpu_per_gigabyte: cpu_per_gigabyte(before, after, bytes),
        ..Measured::default()
    })
}

/// Reads batches by their headers; the next fetch is on its way while the last answer is looked at.
async fn lean(broker: &Broker, topic: &str, records: u64) -> Result<()> {
    let partition = broker.client.raw_partition(topic, 0).await?;
    let wait = Duration::from_secs(1);
    let mut next = 0;
    let mut counted = 0;
    let mut answers = 0;
    let mut answer = Box::pin(partition.fetch(next, FETCH_BYTES, wait)?);
    let mut heard = Instant::now();
    while counted < records {
        let fetched = answer.await?;
        let (end, count) = count_batches(&fetched.batches, next)?;
        next = end;
        counted += count;
        answer = Box::pin(partition.fetch(next, FETCH_BYTES, wait)?);
        if count > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > PATIENCE {
            bail!("{records} records were written and {counted} came back");
        }
        answers += 1;
        if answers % VERIFY_EVERY == 1 {
            verify(&fetched.batches)?;
        }
    }
    if counted != records || next != records as i64 {
        bail!("{records} records were written; {counted} came back, up to offset {next}");
    }
    Ok(())
}

/// The offset behind whole batches that follow each other from `next` on, and their records.
fn count_batches(bytes: &Bytes, mut next: i64) -> Result<(i64, u64)> {
    let mut count = 0;
    for batch in Batches::unverified(bytes.clone()) {
        let batch = batch?;
        if batch.base_offset() != next {
            bail!("offset {} came where {next} was next", batch.base_offset());
        }
        next = batch.next_offset();
        count += u64::try_from(batch.count()).context("a negative count")?;
    }
    Ok((next, count))
}

fn verify(bytes: &Bytes) -> Result<()> {
    for batch in Batches::new(bytes.clone()) {
        batch?;
    }
    Ok(())
}

/// Reads record by record through the client that applications use.
async fn full(broker: &Broker, topic: &str, records: u64) -> Result<()> {
    let mut consumer = broker
        .client
        .consumer()
        .assign(topic, 0, StartAt::Earliest)
        .partition_max_bytes(FETCH_BYTES)
        .prefetch_bytes(4 * FETCH_BYTES as usize)
        .build()?;
    let mut next = 0;
    while next < records as i64 {
        let got = consumer.poll(10_000, PATIENCE).await?;
        if got.is_empty() {
            bail!("{records} records were written and {next} came back");
        }
        for record in got {
            if record.offset != next {
                bail!("offset {} came where {next} was next", record.offset);
            }
            next += 1;
        }
    }
    consumer.close().await?;
    Ok(())
}
