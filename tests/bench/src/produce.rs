//! Throughput of writing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tidegate_client::{Acks, Delivery, RawPartition, Record};
use tokio::task::JoinSet;

use crate::await_end;
use crate::broker::Broker;
use crate::cpu::Stopwatch;
use crate::librdkafka;
use crate::options::{ClientKind, Options, Variant};
use crate::payload::{self, ReadyBatch};
use crate::report::Measured;

/// Records of the full client whose delivery is not known yet, at most.
const MAX_PENDING: usize = 50_000;
/// What is written before the clock starts, over all partitions together, at most.
const WARM_UP_BYTES: u64 = 16_000_000;

/// What was acknowledged, and in what time.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub records: u64,
    pub elapsed: Duration,
}

pub async fn run(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<Measured> {
    let warm = warm_up(options, variant, broker, topic).await?;
    let stopwatch = Stopwatch::start(broker);
    let written = write(options, variant, broker, topic, warm).await?;
    let bytes = written.records * u64::from(variant.size);
    let spent = stopwatch.stop(bytes);
    let stored = written.records + warm * u64::from(variant.partitions);
    await_end(&broker.client, topic, stored as i64).await?;
    Ok(Measured {
        megabytes_per_second: Some(bytes as f64 / 1e6 / written.elapsed.as_secs_f64()),
        records_per_second: Some(written.records as f64 / written.elapsed.as_secs_f64()),
        cpu_per_gigabyte: spent.broker,
        client_cpu_per_gigabyte: spent.client,
        ..Measured::default()
    })
}

/// Writes one batch to each partition before the clock starts, and says how many records each holds then: the leaders, the
/// connections and the first segments are there.
async fn warm_up(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<u64> {
    let bytes = options
        .batch_bytes
        .min(WARM_UP_BYTES / u64::from(variant.partitions));
    let batches = payload::batches(options.values_of(variant), variant.size, bytes)?;
    let first = batches.first().context("no batch")?;
    let partition = broker.client.raw_partition(topic, 0).await?;
    let mut answers = Vec::new();
    for number in 0..variant.partitions {
        let partition = partition.sibling(number as i32);
        answers.push(partition.append(&first.chunks, variant.acks)?);
    }
    for answer in answers {
        answer.await?;
    }
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

/// Writes everything with the client of the variant, to a topic whose partitions hold `before` records each.
pub async fn write(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
    before: u64,
) -> Result<Written> {
    match variant.client {
        ClientKind::Lean => lean(options, variant, broker, topic, before).await,
        ClientKind::Full => full(options, variant, broker, topic).await,
        ClientKind::Librdkafka => {
            librdkafka::produce(options, variant, broker, topic, before).await
        }
    }
}

/// The records that [`write`] will write: the lean client writes whole batches.
pub fn planned(options: &Options, variant: &Variant) -> Result<u64> {
    if variant.client != ClientKind::Lean {
        return Ok((options.megabytes * 1_000_000).div_ceil(u64::from(variant.size)));
    }
    let batches = payload::batches(
        options.values_of(variant),
        variant.size,
        options.batch_bytes,
    )?;
    let per_batch = batches.first().context("no batch")?.records;
    Ok(planned_batches(options, variant, per_batch) * per_batch)
}

fn planned_batches(options: &Options, variant: &Variant, per_batch: u64) -> u64 {
    (options.megabytes * 1_000_000).div_ceil(per_batch * u64::from(variant.size))
}

/// The part of `total` that producer `number` of `count` does.
pub fn share(total: u64, number: u32, count: u32) -> u64 {
    let (number, count) = (u64::from(number), u64::from(count));
    total / count + u64::from(number < total % count)
}

/// The partitions that producer `number` of `producers` writes to: its own when there are enough, else a shared one.
pub fn partitions_of(number: u32, producers: u32, partitions: u32) -> Vec<i32> {
    if partitions < producers {
        return vec![(number % partitions) as i32];
    }
    (number..partitions)
        .step_by(producers as usize)
        .map(|partition| partition as i32)
        .collect()
}

/// One producer of the lean client.
struct Lean {
    partitions: Vec<RawPartition>,
    /// Where the next batch of each partition will lie; none when others write there, too.
    next: Vec<Option<i64>>,
    batches: Vec<ReadyBatch>,
    count: u64,
    in_flight: u64,
    acks: Acks,
}

/// Sends batches that were made before, with a bounded number on the way for each producer.
async fn lean(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
    before: u64,
) -> Result<Written> {
    let batches = payload::batches(
        options.values_of(variant),
        variant.size,
        options.batch_bytes,
    )?;
    let per_batch = batches.first().context("no batch")?.records;
    let count = planned_batches(options, variant, per_batch);
    let offered = count * per_batch;
    let own = variant.producers <= variant.partitions;
    let mut producers = Vec::new();
    for number in 0..variant.producers {
        let numbers = partitions_of(number, variant.producers, variant.partitions);
        let first = numbers.first().context("a producer without partition")?;
        let connection = broker.connect().await?.raw_partition(topic, *first).await?;
        producers.push(Lean {
            next: vec![own.then_some(before as i64); numbers.len()],
            partitions: numbers.iter().map(|p| connection.sibling(*p)).collect(),
            batches: batches.clone(),
            count: share(count, number, variant.producers),
            in_flight: options.in_flight,
            acks: variant.acks,
        });
    }
    let begun = Instant::now();
    let mut running: JoinSet<Result<u64>> = producers.into_iter().map(Lean::run).collect();
    let mut acked = 0;
    while let Some(done) = running.join_next().await {
        acked += done.context("a producer ended early")??;
    }
    let elapsed = begun.elapsed();
    if acked != offered {
        bail!("{offered} records were offered and {acked} acknowledged");
    }
    Ok(Written {
        records: acked,
        elapsed,
    })
}

impl Lean {
    /// Writes to one partition after the other; answers how many records were acknowledged.
    async fn run(mut self) -> Result<u64> {
        let mut pending = VecDeque::new();
        let mut acked = 0;
        for number in 0..self.count {
            let batch = &self.batches[(number % self.batches.len() as u64) as usize];
            let index = (number % self.partitions.len() as u64) as usize;
            let answer = self.partitions[index].append(&batch.chunks, self.acks)?;
            pending.push_back((index, batch.records, answer));
            if pending.len() as u64 >= self.in_flight
                && let Some((index, records, answer)) = pending.pop_front()
            {
                acked += accept(answer.await?, &mut self.next[index], records)?;
            }
        }
        for (index, records, answer) in pending {
            acked += accept(answer.await?, &mut self.next[index], records)?;
        }
        Ok(acked)
    }
}

fn accept(base_offset: Option<i64>, expected: &mut Option<i64>, records: u64) -> Result<u64> {
    let Some(expected) = expected else {
        return Ok(records);
    };
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
    let total = planned(options, variant)?;
    let mut producers = Vec::new();
    for number in 0..variant.producers {
        let client = broker.connect().await?;
        let producer = client
            .producer()
            .acks(variant.acks)
            .batch_bytes(options.batch_bytes as usize)
            .buffer_bytes((options.batch_bytes as usize * 16).max(32 << 20))
            .max_in_flight((options.in_flight as usize).min(5))
            .build()?;
        producers.push(Full {
            producer,
            topic: topic.into(),
            partitions: partitions_of(number, variant.producers, variant.partitions),
            values: payload::values(options.values_of(variant), variant.size, 1),
            count: share(total, number, variant.producers),
        });
    }
    let begun = Instant::now();
    let mut running: JoinSet<Result<u64>> = producers.into_iter().map(Full::run).collect();
    let mut acked = 0;
    while let Some(done) = running.join_next().await {
        acked += done.context("a producer ended early")??;
    }
    let elapsed = begun.elapsed();
    if acked != total {
        bail!("{total} records were offered and {acked} acknowledged");
    }
    Ok(Written {
        records: acked,
        elapsed,
    })
}

/// One producer of the client that applications use.
struct Full {
    producer: tidegate_client::Producer,
    topic: String,
    partitions: Vec<i32>,
    values: Vec<Bytes>,
    count: u64,
}

impl Full {
    /// Writes the records to the partitions in turn; answers how many were acknowledged.
    async fn run(self) -> Result<u64> {
        let mut pending: VecDeque<Delivery> = VecDeque::with_capacity(MAX_PENDING);
        let mut acked = 0;
        for (number, value) in (0..self.count).zip(self.values.iter().cycle()) {
            let partition = self.partitions[(number % self.partitions.len() as u64) as usize];
            let record = Record::to(self.topic.as_str())
                .partition(partition)
                .value(value.clone());
            pending.push_back(self.producer.enqueue(record).await?);
            if pending.len() >= MAX_PENDING
                && let Some(oldest) = pending.pop_front()
            {
                oldest.wait().await?;
                acked += 1;
            }
        }
        self.producer.flush().await?;
        for delivery in pending {
            delivery.wait().await?;
            acked += 1;
        }
        self.producer.close().await?;
        Ok(acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_share_records_and_partitions_without_rest() {
        for (total, count) in [(10, 3), (2, 5), (100, 1)] {
            let shares: u64 = (0..count).map(|number| share(total, number, count)).sum();
            assert_eq!(shares, total);
        }
        assert_eq!(partitions_of(1, 2, 5), [1, 3]);
        assert_eq!(partitions_of(0, 1, 3), [0, 1, 2]);
        assert_eq!(partitions_of(4, 16, 3), [1], "shared with others");
    }

    #[test]
    fn a_batch_out_of_its_place_voids_the_run() {
        let mut next = Some(10);
        assert_eq!(accept(Some(10), &mut next, 5).unwrap(), 5);
        assert_eq!(next, Some(15));
        assert!(accept(Some(14), &mut next, 5).is_err());
        assert_eq!(accept(Some(14), &mut None, 5).unwrap(), 5, "shared");
    }
}
