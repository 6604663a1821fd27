//! A broker that is measured, and what is the same for every axis: the probe, and what the process holds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tidegate_client::NewTopic;

use super::load::{Load, at_rate};
use super::wire::Wire;
use crate::broker::Broker;
use crate::payload;
use crate::servers::status_bytes;

/// The topic of the probe.
const PROBE: &str = "probe";
pub const PRODUCE_VERSION: i16 = 9;
/// Values of the probe and of what is written to fill partitions.
const SMALL: u32 = 100;
/// How long a broker is left alone before its memory and its rest are looked at.
const SETTLE: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(2);
/// Scrapes, of which the median counts.
const SCRAPES: usize = 5;

/// A broker with a topic for the probe.
pub struct Bed {
    pub broker: Broker,
    /// Host and port of its TCP listener.
    pub address: String,
    pid: u32,
    runtime: tokio::runtime::Handle,
}

/// What the process holds.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Memory of its own: neither pages of the binary nor of files.
    pub memory: u64,
    pub open_files: usize,
}

impl Bed {
    /// Of a broker that was just started.
    pub async fn make(broker: Broker) -> Result<Self> {
        let pid = broker
            .pid()
            .context("the scale runs need --spawn: they read /proc of the broker")?;
        let address = broker.address();
        let address = address
            .strip_prefix("tcp://")
            .context("the scale runs are over TCP")?;
        let bed = Self {
            address: address.to_owned(),
            pid,
            runtime: tokio::runtime::Handle::current(),
            broker,
        };
        bed.create(NewTopic::new(PROBE).partitions(1)).await?;
        Ok(bed)
    }

    pub async fn create(&self, topic: NewTopic) -> Result<()> {
        Ok(self.broker.client.admin().create_topic(&topic).await?)
    }

    /// As `create`, from a thread that may block.
    pub fn create_now(&self, topic: NewTopic) -> Result<()> {
        self.runtime.block_on(self.create(topic))
    }

    pub fn connect(&self) -> Result<Wire> {
        Wire::open(&self.address)
    }

    pub fn cpu_seconds(&self) -> Result<f64> {
        let usage = self.broker.usage();
        Ok(usage.context("the broker has ended")?.cpu_seconds)
    }

    /// What the broker holds when it has come to rest.
    pub fn footprint(&self) -> Result<Footprint> {
        std::thread::sleep(SETTLE);
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid))?;
        Ok(Footprint {
            memory: status_bytes(self.pid, "RssAnon:").context("the broker has ended")?,
            open_files: files.count(),
        })
    }

    /// CPU time that the broker takes while nobody asks anything of it, in milliseconds a second.
    pub fn rest(&self) -> Result<f64> {
        let before = self.cpu_seconds()?;
        std::thread::sleep(REST);
        Ok((self.cpu_seconds()? - before) * 1e3 / REST.as_secs_f64())
    }

    /// The same small load whatever else there is: one producer, one record a request.
    pub fn probe(&self, rate: u64, seconds: u64) -> Result<Option<Load>> {
        let mut wire = self.connect()?;
        let request = produce(PROBE, [0], &small_batch()?, 1);
        write(&mut wire, &request)?;
        at_rate(self, rate, seconds, |_, due, times| {
            write(&mut wire, &request)?;
            times.note(due)
        })
    }

    /// Milliseconds of one scrape of the metrics, and the bytes that come.
    pub fn scrape(&self) -> Result<(f64, usize)> {
        let admin = self
            .broker
            .admin
            .as_ref()
            .context("the broker has no admin port")?;
        let url = format!("http://{admin}/metrics");
        let mut taken = Vec::new();
        let mut bytes = 0;
        for _ in 0..SCRAPES {
            let begin = Instant::now();
            bytes = self.runtime.block_on(async {
                let answer = reqwest::get(&url).await?.error_for_status()?;
                anyhow::Ok(answer.bytes().await?.len())
            })?;
            taken.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        taken.sort_by(f64::total_cmp);
        Ok((taken[SCRAPES / 2], bytes))
    }
}

/// A batch of one record.
pub fn small_batch() -> Result<Bytes> {
    Ok(payload::timed_batch(SMALL, 0)?.chunks.concat().into())
}

/// The same batch for each of some partitions.
pub fn produce(
    topic: &str,
    partitions: impl IntoIterator<Item = i32>,
    batch: &Bytes,
    acks: i16,
) -> ProduceRequest {
    let data = partitions.into_iter().map(|index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(batch.clone()))
    });
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(data.collect());
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// Writes, and waits until that was acknowledged.
pub fn write(wire: &mut Wire, request: &ProduceRequest) -> Result<()> {
    wire.send(request, PRODUCE_VERSION)?;
    written(wire)
}

/// The answer to the oldest write.
pub fn written(wire: &mut Wire) -> Result<()> {
    let answer = wire.receive::<ProduceRequest>(PRODUCE_VERSION)?;
    for partition in answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
    {
        ensure!(
            partition.error_code == 0,
            "partition {} was refused with code {}",
            partition.index,
            partition.error_code
        );
    }
    Ok(())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
