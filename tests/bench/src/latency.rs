//! From the intended send time to the consumer, at a fixed rate.
//!
//! The loop is open: a record's time is when it was due, not when the sender came to it. A broker or a client that stalls
//! delays all that were due meanwhile, and every one of them counts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tidegate_client::records::Batches;
use tidegate_client::{Acks, Producer, RawPartition, Record, StartAt};
use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::end_offset;
use crate::librdkafka;
use crate::options::{ClientKind, Options, Variant};
use crate::payload::{self, nanoseconds_since};
use crate::report::Measured;

const PATIENCE: Duration = Duration::from_secs(20);
/// The part of the rate that must be held, or the broker is overloaded.
const HELD: f64 = 0.98;
const LONGEST: u64 = 60_000_000_000;
const FETCH_BYTES: i32 = 4 << 20;
/// What one batch may decompress to; these are not compressed.
const DECOMPRESS_LIMIT: usize = 16 << 20;

/// The schedule of one run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub begin: Instant,
    pub rate: u64,
    pub total: u64,
    pub warm_up: u64,
    pub size: u32,
    pub acks: Acks,
    /// How long a client that makes batches waits for more records.
    pub linger: Duration,
}

impl Plan {
    pub fn new(options: &Options, variant: &Variant, begin: Instant) -> Self {
        Self {
            begin,
            rate: options.rate,
            total: options.rate * (options.warm_up + options.seconds),
            warm_up: options.rate * options.warm_up,
            size: variant.size,
            acks: variant.acks,
            linger: Duration::from_millis(options.linger),
        }
    }

    /// When a record is due, in nanoseconds from the begin.
    pub fn due(&self, number: u64) -> u64 {
        (u128::from(number) * 1_000_000_000 / u128::from(self.rate)) as u64
    }
}

pub async fn run(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
) -> Result<Measured> {
    let reader = Reader::open(variant, broker, topic).await?;
    let plan = Plan::new(
        options,
        variant,
        Instant::now() + Duration::from_millis(200),
    );
    let sending = send(variant, broker, topic, plan).await?;
    let (histogram, elapsed) = reader.read(plan).await?;
    let acked = sending.await.context("the sender ended early")??;
    let stored = end_offset(&broker.client, topic).await?;
    if acked != plan.total || stored != plan.total as i64 {
        bail!(
            "{} records were offered, {acked} acknowledged, {stored} stored",
            plan.total
        );
    }
    let held = plan.total as f64 / elapsed.as_secs_f64();
    if held < plan.rate as f64 * HELD {
        // No percentile says anything.
        return Ok(Measured {
            records_per_second: Some(held),
            ..Measured::default()
        });
    }
    Ok(Measured {
        records_per_second: Some(held),
        megabytes_per_second: Some(held * f64::from(plan.size) / 1e6),
        ..crate::report::latencies(&histogram)
    })
}

pub type Sending = tokio::task::JoinHandle<Result<u64>>;

/// Starts a thread that keeps the schedule, and a task that collects the acknowledgements.
async fn send(variant: &Variant, broker: &Broker, topic: &str, plan: Plan) -> Result<Sending> {
    match variant.client {
        ClientKind::Lean => {
            let partition = broker.client.raw_partition(topic, 0).await?;
            let (sender, mut answers) = mpsc::unbounded_channel();
            std::thread::spawn(move || {
                keep_schedule(plan, |time| {
                    let answer = start_batch(&partition, plan, time);
                    sender.send(answer).is_ok()
                });
            });
            Ok(tokio::spawn(async move {
                let mut acked = 0;
                while let Some(answer) = answers.recv().await {
                    answer?.await?;
                    acked += 1;
                }
                Ok(acked)
            }))
        }
        ClientKind::Full => {
            let producer = broker
                .client
                .producer()
                .acks(plan.acks)
                .linger(plan.linger)
                .build()?;
            Ok(send_full(producer, topic.to_owned(), plan))
        }
        ClientKind::Librdkafka => librdkafka::send_timed(broker, topic, plan),
    }
}

fn start_batch(
    partition: &RawPartition,
    plan: Plan,
    time: u64,
) -> Result<impl Future<Output = tidegate_client::Result<Option<i64>>> + Send + use<>> {
    let batch = payload::timed_batch(plan.size, time)?;
    Ok(partition.append(&batch.chunks, plan.acks)?)
}

fn send_full(producer: Producer, topic: String, plan: Plan) -> Sending {
    let runtime = tokio::runtime::Handle::current();
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        keep_schedule(plan, |time| {
            let value = payload::timed_value(plan.size, time);
            let record = Record::to(topic.as_str()).partition(0).value(value);
            let delivery = runtime.block_on(producer.enqueue(record));
            sender.send(delivery).is_ok()
        });
    });
    tokio::spawn(async move {
        let mut acked = 0;
        while let Some(delivery) = deliveries.recv().await {
            delivery?.wait().await?;
            acked += 1;
        }
        Ok(acked)
    })
}

/// Calls `send` at each record's time, with that time; ends early when it says so.
pub fn keep_schedule(plan: Plan, mut send: impl FnMut(u64) -> bool) {
    sleep_exactly();
    for number in 0..plan.total {
        let due = plan.due(number);
        let at = plan.begin + Duration::from_nanos(due);
        let now = Instant::now();
        if at > now {
            std::thread::sleep(at - now);
        }
        if !send(due) {
            return;
        }
    }
}

/// Asks Linux not to round this thread's sleeps up by its usual 50 µs. Where that is refused, they are rounded.
pub fn sleep_exactly() {
    if let Ok(thread) = std::fs::read_link("/proc/thread-self")
        && let Some(id) = thread.file_name().and_then(|name| name.to_str())
    {
        let _ = std::fs::write(format!("/proc/{id}/timerslack_ns"), "1");
    }
}

enum Reader {
    Lean(RawPartition),
    Full(Box<tidegate_client::Consumer>),
    Librdkafka(librdkafka::Reader),
}

impl Reader {
    async fn open(variant: &Variant, broker: &Broker, topic: &str) -> Result<Self> {
        Ok(match variant.client {
            ClientKind::Lean => Self::Lean(broker.client.raw_partition(topic, 0).await?),
            ClientKind::Full => {
                let builder = broker.client.consumer().assign(topic, 0, StartAt::Earliest);
                Self::Full(Box::new(builder.build()?))
            }
            ClientKind::Librdkafka => Self::Librdkafka(librdkafka::Reader::open(broker, topic, 1)?),
        })
    }

    /// Reads everything; returns the times of what counts and how long the whole took.
    async fn read(self, plan: Plan) -> Result<(Histogram<u64>, Duration)> {
        let mut tally = Tally {
            plan,
            next: 0,
            histogram: Histogram::new_with_bounds(1, LONGEST, 3).context("histogram")?,
        };
        // The time to a consumer's end is not in it.
        let elapsed = match self {
            Self::Lean(partition) => {
                read_lean(&partition, &mut tally).await?;
                plan.begin.elapsed()
            }
            Self::Full(mut consumer) => {
                while !tally.is_done() {
                    let records = consumer.poll(1_000, PATIENCE).await?;
                    if records.is_empty() {
                        bail!("{} of {} records came back", tally.next, plan.total);
                    }
                    let now = nanoseconds_since(tally.begin());
                    for record in records {
                        tally.note(
                            record.offset,
                            payload::read_time(record.value.as_ref())?,
                            now,
                        )?;
                    }
                }
                let elapsed = plan.begin.elapsed();
                consumer.close().await?;
                elapsed
            }
            Self::Librdkafka(reader) => {
                let reading = move || {
                    reader.read_timed(&mut tally)?;
                    anyhow::Ok((tally, plan.begin.elapsed()))
                };
                let (read, elapsed) = tokio::task::spawn_blocking(reading).await??;
                tally = read;
                elapsed
            }
        };
        Ok((tally.histogram, elapsed))
    }
}

async fn read_lean(partition: &RawPartition, tally: &mut Tally) -> Result<()> {
    let mut heard = Instant::now();
    while tally.next < tally.plan.total {
        let wait = Duration::from_millis(500);
        let fetched = partition
            .fetch(tally.next as i64, FETCH_BYTES, wait)?
            .await?;
        let now = nanoseconds_since(tally.begin());
        let before = tally.next;
        for batch in Batches::unverified(fetched.batches) {
            for record in batch?.records(DECOMPRESS_LIMIT)? {
                let record = record?;
                tally.note(
                    record.offset,
                    payload::read_time(record.value.as_ref())?,
                    now,
                )?;
            }
        }
        if tally.next > before {
            heard = Instant::now();
        } else if heard.elapsed() > PATIENCE {
            bail!("{before} of {} records came back", tally.plan.total);
        }
    }
    Ok(())
}

/// Counts records and their times.
pub struct Tally {
    plan: Plan,
    next: u64,
    histogram: Histogram<u64>,
}

impl Tally {
    pub fn is_done(&self) -> bool {
        self.next >= self.plan.total
    }

    /// What the records' times count from.
    pub fn begin(&self) -> Instant {
        self.plan.begin
    }

    pub fn note(&mut self, offset: i64, sent: u64, now: u64) -> Result<()> {
        if offset != self.next as i64 || sent != self.plan.due(self.next) {
            bail!(
                "record {} came back out of its place, at offset {offset}",
                self.next
            );
        }
        if self.next >= self.plan.warm_up {
            self.histogram
                .saturating_record(now.saturating_sub(sent).max(1));
        }
        self.next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(warm_up: u64) -> Tally {
        let plan = Plan {
            begin: Instant::now(),
            rate: 1000,
            total: 4,
            warm_up,
            size: 16,
            acks: Acks::All,
            linger: Duration::ZERO,
        };
        Tally {
            plan,
            next: 0,
            histogram: Histogram::new_with_bounds(1, LONGEST, 3).unwrap(),
        }
    }

    #[test]
    fn the_clock_runs_from_the_due_time_and_the_first_records_do_not_count() {
        let mut tally = tally(2);
        for number in 0..4 {
            let due = tally.plan.due(number);
            assert_eq!(due, number * 1_000_000);
            tally
                .note(number as i64, due, due + (number + 1) * 1_000)
                .unwrap();
        }
        assert!(tally.is_done());
        assert_eq!(tally.histogram.len(), 2);
        assert_eq!(tally.histogram.min(), 3_000);
        assert_eq!(
            tally.histogram.value_at_quantile(1.0),
            4_001,
            "three digits"
        );
    }

    #[test]
    fn a_record_out_of_its_place_voids_the_run() {
        let mut tally = tally(0);
        assert!(tally.note(1, 0, 5).is_err(), "an offset too far");
        assert!(tally.note(0, 7, 9).is_err(), "of another time");
        tally.note(0, 0, 5).unwrap();
        assert!(tally.note(0, 0, 5).is_err(), "twice");
    }
}
