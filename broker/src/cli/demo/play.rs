//! The demo's acts: create the topic, play the records in, let somebody be turned away, read everything back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_client::{
    Client, ClientBuilder, ConsumerRecord, Error, NewTopic, OffsetReset, Record, SaslOptions,
    StartAt, TlsOptions,
};

use super::{INTRUDER, PARTITIONS, PLAYER, PLAYGROUND, Progress, Stage, TOPIC};
use crate::cli::CliError;
use crate::config::Transport;

/// The longest that the readers may go without a record.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const MASK: &str = "***";

/// One report of the data set.
pub struct Strike {
    pub json: String,
    pub airport: String,
}

/// What a partition was found to hold.
#[derive(Debug, Default)]
pub struct PartitionOutcome {
    pub records: usize,
    pub states: BTreeSet<String>,
}

/// What happened, for the report.
#[derive(Debug)]
pub struct Outcome {
    pub sent: usize,
    pub producing: Duration,
    pub consuming: Duration,
    pub partitions: Vec<PartitionOutcome>,
    /// The partitions that each of the two readers had.
    pub readers: [Vec<i32>; 2],
    pub masked: usize,
    pub sample_sent: String,
    pub sample_stored: String,
    /// What the one who was turned away was told.
    pub refusal: String,
}

impl Outcome {
    pub fn read(&self) -> usize {
        self.partitions
            .iter()
            .map(|partition| partition.records)
            .sum()
    }

    pub fn dropped(&self) -> usize {
        self.sent - self.read()
    }
}

pub fn load(file: &Path) -> Result<Vec<Strike>, CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| CliError::new(format!("{}: {error}", file.display())))?;
    let parse = |(number, line): (usize, &str)| {
        let value: Value = serde_json::from_str(line).map_err(|error| {
            CliError::new(format!("{}:{}: {error}", file.display(), number + 1))
        })?;
        let airport = value
            .get("airport")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Ok(Strike {
            json: line.to_owned(),
            airport,
        })
    };
    text.lines().enumerate().map(parse).collect()
}

pub async fn play(
    stage: &Stage,
    strikes: &[Strike],
    progress: &Progress,
) -> Result<Outcome, CliError> {
    let client = connect(stage, PLAYER).await?;
    create_topics(&client)
        .await
        .map_err(failed("the topics could not be created"))?;
    progress.done("topics created with the partitioner and the transform bound to one of them");

    let begun = Instant::now();
    produce(&client, strikes, progress)
        .await
        .map_err(failed("the records could not be sent"))?;
    let producing = begun.elapsed();
    progress.done(&format!("{} records sent over QUIC", strikes.len()));

    let refusal = be_refused(stage).await?;
    progress.done("the intruder was turned away");

    let ends = client
        .admin()
        .list_offsets(TOPIC, StartAt::Latest)
        .await
        .map_err(failed("the topic's end could not be asked for"))?;
    let begun = Instant::now();
    let (records, readers) = read_back(stage, &ends, progress).await?;
    let consuming = begun.elapsed();
    progress.done("a group of two read everything back");
    summarize(
        strikes,
        &records,
        Outcome {
            sent: strikes.len(),
            producing,
            consuming,
            partitions: (0..PARTITIONS)
                .map(|_| PartitionOutcome::default())
                .collect(),
            readers,
            masked: 0,
            sample_sent: String::new(),
            sample_stored: String::new(),
            refusal,
        },
    )
}

fn failed(what: &'static str) -> impl FnOnce(Error) -> CliError {
    move |error| CliError::new(format!("{what}: {error}"))
}

/// A client over QUIC under this name.
async fn connect(stage: &Stage, user: &str) -> Result<Client, CliError> {
    let addresses = stage.broker.addresses();
    let quic = addresses
        .iter()
        .find(|(_, transport, _)| *transport == Transport::Quic);
    let (_, _, address) = quic.ok_or_else(|| CliError::new("the broker has no QUIC listener"))?;
    let builder: ClientBuilder = Client::builder()
        .bootstrap(format!("quic://{address}"))
        .tls(TlsOptions::new().ca_file(&stage.certificate_authority))
        .sasl(SaslOptions::scram_sha256(user, stage.password.clone()))
        .client_id(format!("demo-{user}"));
    builder
        .connect()
        .await
        .map_err(failed("the QUIC listener does not answer"))
}

async fn create_topics(client: &Client) -> Result<(), Error> {
    let admin = client.admin();
    let strikes = NewTopic::new(TOPIC)
        .partitions(PARTITIONS)
        .config("tidegate.partitioner", "by-state")
        .config("tidegate.transform", "mask-operator");
    for topic in [strikes, NewTopic::new(PLAYGROUND).partitions(1)] {
        match admin.create_topic(&topic).await {
            // A data folder that is used again has them.
            Err(error) if error.to_string().contains("exists") => {}
            other => other?,
        }
    }
    Ok(())
}

async fn produce(client: &Client, strikes: &[Strike], progress: &Progress) -> Result<(), Error> {
    let bar = progress.count("playing records in over QUIC", strikes.len() as u64);
    let producer = client.producer().build()?;
    let mut deliveries = Vec::with_capacity(strikes.len());
    for strike in strikes {
        // The key is what the client would place by; the partitioner knows better.
        let record = Record::to(TOPIC)
            .key(strike.airport.clone())
            .value(strike.json.clone());
        deliveries.push(producer.enqueue(record).await?);
    }
    producer.flush().await?;
    for delivery in deliveries {
        delivery.wait().await?;
        bar.inc(1);
    }
    producer.close().await
}

/// The intruder has a password, so authentication succeeds; the authorizer's roles do not know the name.
async fn be_refused(stage: &Stage) -> Result<String, CliError> {
    let client = connect(stage, INTRUDER).await?;
    let producer = client
        .producer()
        .idempotent(false)
        .build()
        .map_err(failed("the intruder's producer"))?;
    match producer
        .send(Record::to(TOPIC).partition(0).value("let me in"))
        .await
    {
        Err(error) => Ok(error.to_string()),
        Ok(_) => Err(CliError::new(
            "the intruder's record was accepted: the authorizer did not do its work",
        )),
    }
}

/// Reads up to `ends`, which are counted in offsets: a partitioner's marks have some of them, and are no records.
async fn read_back(
    stage: &Stage,
    ends: &BTreeMap<i32, i64>,
    progress: &Progress,
) -> Result<(Vec<ConsumerRecord>, [Vec<i32>; 2]), CliError> {
    let total: i64 = ends.values().sum();
    let total = u64::try_from(total).unwrap_or(0);
    let bar = progress.count("reading back with a group of two", total);
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let client = connect(stage, PLAYER).await?;
        let builder = client
            .consumer()
            .group("strike-readers")
            .topics([TOPIC])
            .offset_reset(OffsetReset::Earliest);
        consumers.push(
            builder
                .build()
                .map_err(failed("a reader could not be made"))?,
        );
    }
    let [Some(mut second), Some(mut first)] = [consumers.pop(), consumers.pop()] else {
        return Err(CliError::new("two readers were to be made"));
    };
    let mut seen = BTreeMap::new();
    let mut readers = [BTreeSet::new(), BTreeSet::new()];
    let mut reached: BTreeMap<i32, i64> = BTreeMap::new();
    let mut last = Instant::now();
    while ends
        .iter()
        .any(|(partition, end)| reached.get(partition).copied().unwrap_or(0) < *end)
    {
        if last.elapsed() > READ_TIMEOUT {
            return Err(CliError::new(format!(
                "{} records came back, then nothing for half a minute: read to {reached:?}, the ends are {ends:?}",
                seen.len()
            )));
        }
        let wait = Duration::from_millis(500);
        let (reader, records) = tokio::select! {
            records = first.poll(2_000, wait) => (0, records),
            records = second.poll(2_000, wait) => (1, records),
        };
        for record in records.map_err(failed("reading back"))? {
            last = Instant::now();
            readers[reader].insert(record.partition);
            seen.insert((record.partition, record.offset), record);
        }
        for partition in ends.keys() {
            let positions = [&first, &second].map(|reader| reader.position(TOPIC, *partition));
            for position in positions.into_iter().flatten() {
                let reached = reached.entry(*partition).or_default();
                *reached = position.max(*reached);
            }
        }
        bar.set_position(u64::try_from(reached.values().sum::<i64>()).unwrap_or(0));
    }
    for consumer in [first, second] {
        consumer
            .close()
            .await
            .map_err(failed("a reader could not leave"))?;
    }
    let [one, other] = readers;
    Ok((
        seen.into_values().collect(),
        [one.into_iter().collect(), other.into_iter().collect()],
    ))
}

/// Looks at what came back, and fails when it is not what the plugins promise.
fn summarize(
    strikes: &[Strike],
    records: &[ConsumerRecord],
    mut outcome: Outcome,
) -> Result<Outcome, CliError> {
    for record in records {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())
            .map_err(|error| {
                CliError::new(format!(
                    "partition {} offset {}: {error}",
                    record.partition, record.offset
                ))
            })?;
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let partition = usize::try_from(record.partition)
            .ok()
            .and_then(|index| outcome.partitions.get_mut(index));
        let partition = partition
            .ok_or_else(|| CliError::new(format!("partition {} is not there", record.partition)))?;
        partition.records += 1;
        partition.states.insert(text("state").to_owned());
        let masked = [text("operator"), text("cost_total")]
            .iter()
            .filter(|value| **value == MASK)
            .count();
        if masked != 2 {
            return Err(CliError::new(format!(
                "a record came back unmasked: {value}"
            )));
        }
        outcome.masked += masked;
    }
    let placed: usize = outcome
        .partitions
        .iter()
        .map(|partition| partition.states.len())
        .sum();
    let states: BTreeSet<&String> = outcome
        .partitions
        .iter()
        .flat_map(|partition| &partition.states)
        .collect();
    if placed != states.len() {
        return Err(CliError::new(
            "a state's records are in two partitions: the partitioner did not do its work",
        ));
    }
    if let Some(record) = records.first() {
        outcome.sample_stored =
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
        let id = outcome
            .sample_stored
            .split(',')
            .next()
            .unwrap_or_default()
            .to_owned()
            + ",";
        let sent = strikes.iter().find(|strike| strike.json.starts_with(&id));
        outcome.sample_sent = sent.map(|strike| strike.json.clone()).unwrap_or_default();
    }
    Ok(outcome)
}
