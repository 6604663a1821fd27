//! The C client that most applications use: what a broker's users get, and one and the same client for every broker that
//! speaks the Kafka protocol.
//!
//! Its settings are its defaults (linger 5 ms, batches of 1 MB, no idempotence), but where a function says otherwise. Its threads
//! are its own; the loops here block, and run beside the asynchronous runtime.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tidegate_client::{Acks, Transport};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::consume::{PATIENCE, Progress};
use crate::latency::{self, Plan, Tally};
use crate::options::{Options, Variant};
use crate::payload;
use crate::plugins::Plugin;
use crate::produce::{Written, partitions_of, planned, share};

/// The deliveries are looked at every so many records.
const POLL_EVERY: u64 = 64;
/// How long a flush may take.
const FLUSH: Duration = Duration::from_secs(60);

fn config(broker: &Broker) -> Result<ClientConfig> {
    let (transport, servers) = broker.endpoint()?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config.set("client.id", "bench");
    match transport {
        Transport::Tcp => {}
        Transport::Tls => {
            config.set("security.protocol", "ssl");
            if let Some(ca) = broker.ca() {
                config.set("ssl.ca.location", ca.display().to_string());
            }
        }
        Transport::Quic => bail!("librdkafka does not speak QUIC: use --transports tcp,tls"),
    }
    Ok(config)
}

fn acks_setting(acks: Acks) -> &'static str {
    match acks {
        Acks::None => "0",
        Acks::Leader => "1",
        Acks::All => "all",
    }
}

/// Counts what was delivered.
struct Deliveries(Mutex<Delivered>);

struct Delivered {
    count: u64,
    /// Where the next record of each partition will lie; nothing is known when others write there, too.
    next: Option<Vec<i64>>,
    failure: Option<String>,
}

impl Deliveries {
    fn new(next: Option<Vec<i64>>) -> Self {
        Self(Mutex::new(Delivered {
            count: 0,
            next,
            failure: None,
        }))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Delivered) -> T) -> T {
        look(
            &mut self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    /// The number so far; the first failure voids the run.
    fn count(&self) -> Result<u64> {
        self.with(|delivered| match &delivered.failure {
            Some(failure) => bail!("a record was not delivered: {failure}"),
            None => Ok(delivered.count),
        })
    }
}

impl Delivered {
    fn note(&mut self, partition: i32, offset: i64) {
        self.count += 1;
        let Some(next) = &mut self.next else { return };
        let expected = &mut next[partition as usize];
        // Without acknowledgement there is no offset.
        if offset >= 0 && offset != *expected && self.failure.is_none() {
            self.failure = Some(format!(
                "it was stored at offset {offset} of partition {partition} where {expected} was next"
            ));
        }
        *expected += 1;
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.with(|delivered| match result {
            Ok(message) => delivered.note(message.partition(), message.offset()),
            Err((error, _)) => delivered.failure = Some(error.to_string()),
        });
    }
}

/// One producer of a throughput run.
struct Writer {
    producer: BaseProducer<Deliveries>,
    topic: String,
    partitions: Vec<i32>,
    values: Vec<Bytes>,
    count: u64,
}

/// Writes everything, records to the partitions in turn, as keys that are spread evenly would.
pub async fn produce(
    options: &Options,
    variant: &Variant,
    broker: &Broker,
    topic: &str,
    before: u64,
) -> Result<Written> {
    let total = planned(options, variant)?;
    // Else others write to the same partitions, or a plugin moves records between them.
    let own =
        variant.producers <= variant.partitions && variant.plugin != Some(Plugin::Partitioner);
    let mut writers = Vec::new();
    for number in 0..variant.producers {
        let next = own.then(|| vec![before as i64; variant.partitions as usize]);
        let producer = config(broker)?
            .set("acks", acks_setting(variant.acks))
            .create_with_context(Deliveries::new(next))?;
        writers.push(Writer {
            producer,
            topic: topic.to_owned(),
            partitions: partitions_of(number, variant.producers, variant.partitions),
            values: payload::values(options.values_of(variant), variant.size, 1),
            count: share(total, number, variant.producers),
        });
    }
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for writer in writers {
        running.spawn_blocking(move || writer.run());
    }
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

impl Writer {
    fn run(self) -> Result<u64> {
        for (number, value) in (0..self.count).zip(self.values.iter().cycle()) {
            let partition = self.partitions[(number % self.partitions.len() as u64) as usize];
            send(&self.producer, &self.topic, partition, value)?;
            if number % POLL_EVERY == 0 {
                self.producer.poll(Duration::ZERO);
            }
        }
        self.producer.flush(FLUSH)?;
        self.producer.context().count()
    }
}

/// Gives a record to the client; waits while its queue is full.
fn send(
    producer: &BaseProducer<Deliveries>,
    topic: &str,
    partition: i32,
    value: &[u8],
) -> Result<()> {
    let mut record = BaseRecord::<(), [u8]>::to(topic)
        .partition(partition)
        .payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.context().count()?;
                producer.poll(Duration::from_millis(1));
                record = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// A consumer with assigned partitions, from their beginning.
pub struct Reader {
    consumer: BaseConsumer,
    partitions: u32,
}

impl Reader {
    pub fn open(broker: &Broker, topic: &str, partitions: u32) -> Result<Self> {
        let consumer: BaseConsumer = config(broker)?
            // Not joined: the Rust wrapper asks for one.
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            // What it has fetched ahead is bounded (100,000 records, 64 MB); by default it waits for a second when it has that
            // much, so that the quicker a broker is the longer it would stand still.
            .set("fetch.queue.backoff.ms", "5")
            .create()?;
        let mut assigned = TopicPartitionList::new();
        for partition in 0..partitions {
            assigned.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
        }
        consumer.assign(&assigned)?;
        Ok(Self {
            consumer,
            partitions,
        })
    }

    /// Reads so many records; says when the first one came, since this client takes half a second before it asks.
    pub fn read(self, records: u64) -> Result<Instant> {
        let mut progress = Progress::new(self.partitions, records);
        let mut begun = None;
        while !progress.is_done() {
            let polled = self.consumer.poll(Duration::from_secs(1));
            progress.heard(polled.is_some())?;
            if let Some(message) = polled {
                let message = message?;
                begun.get_or_insert_with(Instant::now);
                progress.note(message.partition(), message.offset(), 1)?;
            }
        }
        progress.finish()?;
        begun.context("nothing was read")
    }

    /// Reads what an open loop sends, each record's time being in it.
    pub fn read_timed(&self, tally: &mut Tally) -> Result<()> {
        while !tally.is_done() {
            let Some(message) = self.consumer.poll(PATIENCE) else {
                bail!("no record came for {PATIENCE:?}");
            };
            let message = message?;
            let now = payload::nanoseconds_since(tally.begin());
            let sent = payload::time_of(message.payload())?;
            tally.note(message.offset(), sent, now)?;
        }
        Ok(())
    }
}

/// Keeps an open loop's schedule, with the plan's linger; answers how many records were acknowledged.
pub fn send_timed(broker: &Broker, topic: &str, plan: Plan) -> Result<latency::Sending> {
    let producer = config(broker)?
        .set("acks", acks_setting(plan.acks))
        .set("linger.ms", plan.linger.as_millis().to_string())
        .create_with_context(Deliveries::new(Some(vec![0])))?;
    let topic = topic.to_owned();
    Ok(tokio::task::spawn_blocking(move || {
        send_schedule(&producer, &topic, plan)
    }))
}

fn send_schedule(producer: &BaseProducer<Deliveries>, topic: &str, plan: Plan) -> Result<u64> {
    let mut outcome = Ok(());
    latency::keep_schedule(plan, |time| {
        let value = payload::timed_value(plan.size, time);
        outcome = send(producer, topic, 0, &value);
        producer.poll(Duration::ZERO);
        outcome.is_ok()
    });
    outcome?;
    producer.flush(FLUSH)?;
    producer.context().count()
}
