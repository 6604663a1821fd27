//! Throughput of reading: what was written before, or what is being written.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tidegate_client::records::Batches;
use tidegate_client::{Consumer, RawPartition, StartAt};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::cpu::Stopwatch;
use crate::options::{ClientKind, Options, Reads, Variant};
use crate::report::Measured;
use crate::{await_end, cold, librdkafka, produce};

/// What one fetch of the lean client asks for.
const FETCH_BYTES: i32 = 8 << 20;
/// One answer in so many has its checksums verified.
const VERIFY_EVERY: u64 = 16;
/// Nothing new for so long: what is missing will not come.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<Measured> {
    let records = match variant.reads {
        Reads::Tail => produce::planned(options, variant)?,
        Reads::Warm | Reads::Cold => produce::fill(options, variant, broker, topic).await?,
    };
    if variant.reads == Reads::Cold {
        cold::forget(broker)?;
    }
    let mut readers = Vec::new();
    for _ in 0..variant.groups {
        readers.push(Reader::open(variant, broker, topic).await?);
    }
    let read_before = broker.bytes_from_disk();
    let stopwatch = Stopwatch::start(broker);
    let begun = Instant::now();
    let running: JoinSet<Result<Instant>> = readers
        .into_iter()
        .map(|reader| reader.read(records))
        .collect();
    if variant.reads == Reads::Tail {
        produce::write(options, variant, broker, topic, 0).await?;
    }
    let begun = finish(running).await?.max(begun);
    let elapsed = begun.elapsed();
    let bytes = records * u64::from(variant.size) * u64::from(variant.groups);
    let spent = stopwatch.stop(bytes);
    if variant.reads == Reads::Cold {
        cold::check(broker, read_before, records * u64::from(variant.size))?;
    }
    await_end(&broker.client, topic, records as i64).await?;
    Ok(Measured {
        megabytes_per_second: Some(bytes as f64 / 1e6 / elapsed.as_secs_f64()),
        records_per_second: Some(
            (records * u64::from(variant.groups)) as f64 / elapsed.as_secs_f64(),
        ),
        cpu_per_gigabyte: spent.broker,
        client_cpu_per_gigabyte: spent.client,
        ..Measured::default()
    })
}

/// Waits for every reader; says when the first of them had its first record, which is where the clock of a client begins that
/// takes its time before it asks.
async fn finish(mut running: JoinSet<Result<Instant>>) -> Result<Instant> {
    let mut first: Option<Instant> = None;
    while let Some(done) = running.join_next().await {
        let began = done.context("a consumer ended early")??;
        first = Some(first.map_or(began, |known| known.min(began)));
    }
    first.context("nobody reads: give --groups of 1 or more")
}

/// One consumer that reads everything, on connections of its own.
enum Reader {
    Lean {
        connection: RawPartition,
        partitions: u32,
    },
    Full {
        consumer: Box<Consumer>,
        partitions: u32,
    },
    Librdkafka(librdkafka::Reader),
}

impl Reader {
    async fn open(variant: &Variant, broker: &Broker, topic: &str) -> Result<Self> {
        let partitions = variant.partitions;
        Ok(match variant.client {
            ClientKind::Lean => Self::Lean {
                connection: broker.connect().await?.raw_partition(topic, 0).await?,
                partitions,
            },
            ClientKind::Full => {
                let client = broker.connect().await?;
                let mut builder = client
                    .consumer()
                    .partition_max_bytes(FETCH_BYTES)
                    .prefetch_bytes(4 * FETCH_BYTES as usize);
                for partition in 0..partitions {
                    builder = builder.assign(topic, partition as i32, StartAt::Earliest);
                }
                Self::Full {
                    consumer: Box::new(builder.build()?),
                    partitions,
                }
            }
            ClientKind::Librdkafka => {
                Self::Librdkafka(librdkafka::Reader::open(broker, topic, partitions)?)
            }
        })
    }

    /// Reads so many records; says when its clock begins.
    async fn read(self, records: u64) -> Result<Instant> {
        let begun = Instant::now();
        match self {
            Self::Lean {
                connection,
                partitions,
            } => lean(&connection, partitions, records).await?,
            Self::Full {
                consumer,
                partitions,
            } => full(*consumer, partitions, records).await?,
            Self::Librdkafka(reader) => {
                return tokio::task::spawn_blocking(move || reader.read(records)).await?;
            }
        }
        Ok(begun)
    }
}

/// How far a consumer is: records must follow each other in every partition.
#[derive(Debug)]
pub struct Progress {
    next: Vec<i64>,
    read: u64,
    expected: u64,
    heard: Instant,
}

impl Progress {
    pub fn new(partitions: u32, expected: u64) -> Self {
        Self {
            next: vec![0; partitions as usize],
            read: 0,
            expected,
            heard: Instant::now(),
        }
    }

    pub fn is_done(&self) -> bool {
        self.read >= self.expected
    }

    /// `count` records that begin at `offset`.
    pub fn note(&mut self, partition: i32, offset: i64, count: u64) -> Result<()> {
        let next = usize::try_from(partition)
            .ok()
            .and_then(|index| self.next.get_mut(index))
            .with_context(|| format!("partition {partition} was not asked for"))?;
        if offset != *next {
            bail!("offset {offset} of partition {partition} came where {next} was next");
        }
        *next += count as i64;
        self.read += count;
        Ok(())
    }

    /// To be called after each attempt, with whether it brought something: what does not come at all voids the run.
    pub fn heard(&mut self, something: bool) -> Result<()> {
        if something {
            self.heard = Instant::now();
        } else if self.heard.elapsed() > PATIENCE {
            bail!(
                "{} records were written and {} came back",
                self.expected,
                self.read
            );
        }
        Ok(())
    }

    pub fn finish(&self) -> Result<()> {
        if self.read != self.expected {
            bail!(
                "{} records were written and {} came back",
                self.expected,
                self.read
            );
        }
        Ok(())
    }
}

/// Reads batches by their headers; the next fetch is on its way while the last answer is looked at.
async fn lean(connection: &RawPartition, partitions: u32, records: u64) -> Result<()> {
    let wait = Duration::from_secs(1);
    let mut progress = Progress::new(partitions, records);
    let ask = |progress: &Progress| {
        let offsets: Vec<(i32, i64)> = (0..).zip(progress.next.iter().copied()).collect();
        connection.fetch_all(&offsets, FETCH_BYTES, wait)
    };
    let mut answers = 0;
    let mut answer = Box::pin(ask(&progress)?);
    while !progress.is_done() {
        let fetched = answer.await?;
        let before = progress.read;
        for (partition, fetched) in &fetched {
            count_batches(*partition, &fetched.batches, &mut progress)?;
        }
        answer = Box::pin(ask(&progress)?);
        progress.heard(progress.read > before)?;
        answers += 1;
        if answers % VERIFY_EVERY == 1 {
            for (_, fetched) in &fetched {
                verify(&fetched.batches)?;
            }
        }
    }
    progress.finish()
}

/// Counts whole batches that follow each other.
fn count_batches(partition: i32, bytes: &Bytes, progress: &mut Progress) -> Result<()> {
    for batch in Batches::unverified(bytes.clone()) {
        let batch = batch?;
        let count = u64::try_from(batch.count()).context("a negative count")?;
        progress.note(partition, batch.base_offset(), count)?;
    }
    Ok(())
}

fn verify(bytes: &Bytes) -> Result<()> {
    for batch in Batches::new(bytes.clone()) {
        batch?;
    }
    Ok(())
}

/// Reads record by record through the client that applications use.
async fn full(mut consumer: Consumer, partitions: u32, records: u64) -> Result<()> {
    let mut progress = Progress::new(partitions, records);
    while !progress.is_done() {
        let got = consumer.poll(10_000, PATIENCE).await?;
        progress.heard(!got.is_empty())?;
        for record in got {
            progress.note(record.partition, record.offset, 1)?;
        }
    }
    consumer.close().await?;
    progress.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_must_follow_each_other_in_every_partition() {
        let mut progress = Progress::new(2, 5);
        progress.note(0, 0, 2).unwrap();
        progress.note(1, 0, 2).unwrap();
        assert!(!progress.is_done());
        assert!(progress.note(0, 3, 1).is_err(), "one is missing");
        assert!(progress.note(0, 1, 1).is_err(), "one came twice");
        assert!(progress.note(2, 0, 1).is_err(), "of nobody");
        progress.note(0, 2, 1).unwrap();
        assert!(progress.is_done());
        progress.finish().unwrap();
        progress.note(1, 2, 1).unwrap();
        assert!(progress.finish().is_err(), "more than were written");
    }
}
