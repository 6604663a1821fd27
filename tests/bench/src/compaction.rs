//! What producers feel of the cleaner: the time from a record's due time to its acknowledgement, on one topic, first while the
//! broker is quiet and then while it compacts another.
//!
//! The other topic is filled beforehand, each key ten times, and is not due for compaction until its setting says so.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tidegate_client::records::{BatchBuilder, ProducerStamp};
use tidegate_client::{Compression, ConfigChange, NewTopic, RawPartition};
use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::options::{Options, Variant};
use crate::payload::{self, ReadyBatch, nanoseconds_since};
use crate::report::Measured;

/// Times that each key is written: a tenth of the records is live.
const VERSIONS: u64 = 10;
const LONGEST: u64 = 60_000_000_000;
/// The longest that a topic is waited for.
const PATIENCE: Duration = Duration::from_secs(600);
const RATIO: &str = "min.cleanable.dirty.ratio";

pub async fn run(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<Measured> {
    let admin = broker.client.admin();
    let compacted = format!("{topic}-compacted");
    let new = NewTopic::new(&compacted)
        .partitions(1)
        .config("cleanup.policy", "compact")
        .config(RATIO, "1.0");
    admin.create_topic(&new).await?;
    broker.client.topic(&compacted, false).await?;
    let bytes = fill(options, variant, broker, &compacted).await?;
    let probe = broker.client.raw_partition(topic, 0).await?;
    let before = Figures::read(broker).await?;
    let plan = |seconds| Probe {
        begin: Instant::now() + Duration::from_millis(200),
        rate: options.rate,
        total: seconds * options.rate,
        variant: variant.clone(),
    };
    let seconds = options.warm_up + options.seconds;
    let quiet = plan(seconds).run(&probe, || false).await?;
    let quiet = histogram(&quiet, options.warm_up * 1_000_000_000, u64::MAX)?;
    let (is_over, watching) = watch(broker, before);
    let change = ConfigChange::Set(RATIO.into(), "0.01".into());
    admin.alter_topic_configs(&compacted, &[change]).await?;
    let busy = plan(PATIENCE.as_secs());
    let begin = busy.begin;
    let busy = busy.run(&probe, move || *is_over.borrow()).await?;
    let (after, began, ended) = watching.await??;
    let at = |time: Instant| {
        let since = time.saturating_duration_since(begin).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    };
    let busy = histogram(&busy, at(began), at(ended))?;
    if busy.is_empty() {
        bail!(
            "the cleaner was done before a record was due: give more --megabytes or a higher --rate"
        );
    }
    admin.delete_topic(&compacted).await?;
    let microseconds = |of: &Histogram<u64>, q| of.value_at_quantile(q) as f64 / 1e3;
    let (calm, loud) = (microseconds(&quiet, 0.99), microseconds(&busy, 0.99));
    println!(
        "{variant}: {:.0} MB in {:.1} s (read {:.0} MB, wrote {:.0} MB); p99 quiet {calm:.0} µs ({} records), while compacting \
         {loud:.0} µs ({} records): {:.2} times",
        bytes as f64 / 1e6,
        (ended - began).as_secs_f64(),
        (after.read - before.read) / 1e6,
        (after.written - before.written) / 1e6,
        quiet.len(),
        busy.len(),
        loud / calm,
    );
    Ok(Measured {
        p50: Some(microseconds(&busy, 0.5)),
        p99: Some(loud),
        p999: Some(microseconds(&busy, 0.999)),
        ..Measured::default()
    })
}

/// Writes the topic to be compacted; answers the bytes of its values.
async fn fill(options: &Options, variant: &Variant, broker: &Broker, topic: &str) -> Result<u64> {
    let partition = broker.client.raw_partition(topic, 0).await?;
    let total = options.megabytes * 1_000_000 / u64::from(variant.size);
    let keys = (total / VERSIONS).max(1);
    let mut written = 0;
    while written < total {
        let batch = keyed_batch(variant.size, options.batch_bytes, written, keys)?;
        written += batch.records;
        partition.append(&batch.chunks, variant.acks)?.await?;
    }
    Ok(written * u64::from(variant.size))
}

/// Records from a number on, the key of each its number modulo `keys`.
fn keyed_batch(size: u32, batch_bytes: u64, from: u64, keys: u64) -> Result<ReadyBatch> {
    let mut builder = BatchBuilder::new();
    let value = payload::value(size, from);
    let mut number = from;
    while builder.is_empty() || (builder.bytes() as u64) + u64::from(size) < batch_bytes {
        let key = (number % keys).to_be_bytes().to_vec().into();
        builder.push(1_700_000_000_000, Some(&key), Some(&value), &[]);
        number += 1;
    }
    let sealed = builder.seal(Compression::None)?;
    Ok(ReadyBatch {
        chunks: sealed.stamped(ProducerStamp::NONE),
        records: number - from,
    })
}

/// When a record was due and how long it then took, in nanoseconds.
type Sample = (u64, u64);

/// The times of the records that were due between two times.
fn histogram(samples: &[Sample], from: u64, to: u64) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_bounds(1, LONGEST, 3).context("histogram")?;
    for (due, taken) in samples {
        if (from..=to).contains(due) {
            histogram.saturating_record((*taken).max(1));
        }
    }
    Ok(histogram)
}

/// Sends records on a schedule and measures until each is acknowledged.
struct Probe {
    begin: Instant,
    rate: u64,
    total: u64,
    variant: Variant,
}

impl Probe {
    async fn run(
        self,
        partition: &RawPartition,
        is_over: impl Fn() -> bool + Send + 'static,
    ) -> Result<Vec<Sample>> {
        let (sender, mut answers) = mpsc::unbounded_channel();
        let to = partition.clone();
        let (begin, rate) = (self.begin, self.rate);
        std::thread::spawn(move || {
            for number in 0..self.total {
                let due = (u128::from(number) * 1_000_000_000 / u128::from(rate)) as u64;
                let at = begin + Duration::from_nanos(due);
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                let answer = payload::timed_batch(self.variant.size, due)
                    .and_then(|batch| Ok(to.append(&batch.chunks, self.variant.acks)?));
                if is_over() || sender.send((due, answer)).is_err() {
                    return;
                }
            }
        });
        let mut samples = Vec::new();
        while let Some((due, answer)) = answers.recv().await {
            answer?.await?;
            samples.push((due, nanoseconds_since(begin).saturating_sub(due)));
        }
        Ok(samples)
    }
}

/// What the broker says of its cleaner.
#[derive(Clone, Copy)]
struct Figures {
    read: f64,
    written: f64,
    rounds: f64,
}

impl Figures {
    async fn read(broker: &Broker) -> Result<Self> {
        let admin = broker.admin.as_ref();
        let admin =
            admin.context("the cleaner's figures are read at the admin port: give --admin")?;
        Self::read_at(admin).await
    }

    async fn read_at(admin: &str) -> Result<Self> {
        let text = reqwest::get(format!("http://{admin}/metrics"))
            .await?
            .text()
            .await?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|rest| rest.trim().parse().ok());
            value.with_context(|| format!("the broker has no metric {name}"))
        };
        Ok(Self {
            read: value("tidegate_cleaner_read_bytes_total ")?,
            written: value("tidegate_cleaner_written_bytes_total ")?,
            rounds: value("tidegate_cleaner_rounds_total ")?,
        })
    }
}

/// The figures afterwards, and when the round began and ended.
type Watching = tokio::task::JoinHandle<Result<(Figures, Instant, Instant)>>;

/// Says when the cleaner has finished one more round.
fn watch(broker: &Broker, before: Figures) -> (tokio::sync::watch::Receiver<bool>, Watching) {
    let admin = broker.admin.clone().unwrap_or_default();
    let (sender, receiver) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(async move {
        let waiting = Instant::now();
        let mut began = None;
        loop {
            let asked = Instant::now();
            let figures = Figures::read_at(&admin).await?;
            if figures.read > before.read {
                began.get_or_insert(asked);
            }
            if figures.rounds > before.rounds {
                // The sender may have ended.
                let _ = sender.send(true);
                return Ok((figures, began.unwrap_or(asked), Instant::now()));
            }
            if waiting.elapsed() > PATIENCE {
                bail!("the cleaner did not finish a round in {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    (receiver, task)
}
