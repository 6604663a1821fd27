//! Servers that do not speak the Kafka protocol, each driven by the client that its makers or most of its users choose.
//!
//! They do the same work as the Kafka clients and are checked in the same way. A run that writes ends after some seconds even when
//! the amount was not reached: some of them would take minutes.

mod nats;
mod redis;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::broker::own_usage;
use crate::cpu::per_gigabyte;
use crate::latency::Plan;
use crate::options::{Options, Scenario, Variant};
use crate::payload::{self, nanoseconds_since, unique};
use crate::report::Measured;
use crate::servers::{Name, Running, Usage};

/// The longest that one run writes.
const LONGEST: Duration = Duration::from_secs(5);
/// How long the last answers and records may take once the schedule has ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing new for so long: what is missing will not come.
const SILENCE: Duration = Duration::from_secs(10);

/// What one run writes or reads.
#[derive(Clone, Debug)]
struct Job {
    /// A stream of its own.
    stream: String,
    value: Bytes,
    /// Records, at most.
    total: u64,
}

/// What was written, in what time.
#[derive(Clone, Copy, Debug)]
struct Written {
    records: u64,
    elapsed: Duration,
}

pub async fn run(
    name: Name,
    options: &Options,
    variant: &Variant,
    running: &Running,
) -> Result<Measured> {
    let job = Job {
        stream: format!("bench{}", unique()),
        value: payload::value(variant.size, 1),
        total: (options.megabytes * 1_000_000).div_ceil(u64::from(variant.size)),
    };
    let address = running.listening("tcp")?;
    let measured = match variant.scenario {
        Scenario::Produce => {
            let before = [running.usage(), own_usage()];
            let written = write(name, address, &job).await?;
            throughput(&job, written, before, running)
        }
        Scenario::Consume => {
            let written = write(name, address, &job).await?;
            let before = [running.usage(), own_usage()];
            let begun = Instant::now();
            read(name, address, &job, written.records).await?;
            let elapsed = begun.elapsed();
            let records = written.records;
            throughput(&job, Written { records, elapsed }, before, running)
        }
        Scenario::Latency => {
            let begin = Instant::now() + Duration::from_millis(200);
            let plan = Plan::new(options, variant, begin);
            latency(name, address, &job, plan).await?
        }
        _ => bail!("{name} is not driven through this"),
    };
    // A warm-up must not weigh on the run that counts; Redis keeps its streams in memory.
    match name {
        Name::Nats => nats::delete(address, &job).await?,
        _ => redis::delete(address, &job).await?,
    }
    Ok(Measured {
        start: Some(running.start),
        idle_bytes: running.idle_bytes,
        peak_bytes: running.peak_bytes(),
        ..measured
    })
}

fn throughput(
    job: &Job,
    written: Written,
    [server, client]: [Option<Usage>; 2],
    running: &Running,
) -> Measured {
    let bytes = written.records * job.value.len() as u64;
    let seconds = written.elapsed.as_secs_f64();
    Measured {
        megabytes_per_second: Some(bytes as f64 / 1e6 / seconds),
        records_per_second: Some(written.records as f64 / seconds),
        cpu_per_gigabyte: per_gigabyte(server, running.usage(), bytes),
        client_cpu_per_gigabyte: per_gigabyte(client, own_usage(), bytes),
        ..Measured::default()
    }
}

async fn write(name: Name, address: &str, job: &Job) -> Result<Written> {
    match name {
        Name::Nats => nats::write(address, job).await,
        Name::Redis => redis::write(address, job).await,
        _ => bail!("{name} speaks the Kafka protocol"),
    }
}

async fn read(name: Name, address: &str, job: &Job, records: u64) -> Result<()> {
    match name {
        Name::Nats => nats::read(address, job, records).await,
        Name::Redis => redis::read(address, job, records).await,
        _ => bail!("{name} speaks the Kafka protocol"),
    }
}

async fn latency(name: Name, address: &str, job: &Job, plan: Plan) -> Result<Measured> {
    let mut tally = Tally::new(plan)?;
    let work = async {
        match name {
            Name::Nats => nats::latency(address, job, plan, &mut tally).await,
            Name::Redis => redis::latency(address, job, plan, &mut tally).await,
            _ => bail!("{name} speaks the Kafka protocol"),
        }
    };
    let limit = Duration::from_nanos(plan.due(plan.total)) + PATIENCE;
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done?,
        Err(_) => bail!(
            "overloaded: {} of {} records came in time",
            tally.next,
            plan.total
        ),
    }
    tally.measured(plan)
}

/// Records in their order, and the times of those that count.
struct Tally {
    plan: Plan,
    next: u64,
    histogram: Histogram<u64>,
}

impl Tally {
    fn new(plan: Plan) -> Result<Self> {
        Ok(Self {
            plan,
            next: 0,
            histogram: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        })
    }

    fn complete(&self) -> bool {
        self.next >= self.plan.total
    }

    fn note(&mut self, value: &[u8]) -> Result<()> {
        let now = nanoseconds_since(self.plan.begin);
        let sent = payload::read_time(Some(&Bytes::copy_from_slice(value)))?;
        if sent != self.plan.due(self.next) {
            bail!("record {} came back out of its place", self.next);
        }
        if self.next >= self.plan.warm_up {
            let took = now.saturating_sub(sent).max(1);
            self.histogram.saturating_record(took);
        }
        self.next += 1;
        Ok(())
    }

    fn measured(&self, plan: Plan) -> Result<Measured> {
        let held = plan.total as f64 / plan.begin.elapsed().as_secs_f64();
        if held < plan.rate as f64 * 0.98 {
            bail!("overloaded: {held:.0} of {} records a second", plan.rate);
        }
        Ok(Measured {
            records_per_second: Some(held),
            ..crate::report::latencies(&self.histogram)
        })
    }
}
