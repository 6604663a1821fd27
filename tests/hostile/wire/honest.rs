//! Three clients that mean well. Each works until the end, and every failure of one is a failure of the test.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::batch::{self, Producer};
use harness::{Dialect, RawClient, Transactional, fetch_all};
use tidegate_client::{Acks, Client, OffsetReset, Record};

/// What a client does between two looks at the clock.
type Work = fn(SocketAddr, &mut Rounds) -> Result<()>;

pub const CLIENTS: [(&str, Work); 3] = [
    ("records", records),
    ("group", group),
    ("transactions", transactions),
];

/// A wait for records: long for a debug build beside other tests, short against a hang.
const LIMIT: Duration = Duration::from_secs(30);
/// Records that the group's producer sends in a round.
const RECORDS: usize = 20;

/// Rounds of a client's work, timed.
pub struct Rounds {
    ends: Instant,
    begun: Option<Instant>,
    taken: Vec<Duration>,
}

impl Rounds {
    /// Ends the round before; `false` when the time is over.
    fn next(&mut self) -> bool {
        self.taken.extend(self.begun.map(|begun| begun.elapsed()));
        self.begun = Some(Instant::now());
        Instant::now() < self.ends
    }
}

pub struct Report {
    rounds: usize,
    median: Duration,
    p99: Duration,
    longest: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rounds,
            median,
            p99,
            longest,
        } = self;
        write!(
            f,
            "{rounds} rounds, none failed; p50 {median:.1?}, p99 {p99:.1?}, longest {longest:.1?}"
        )
    }
}

/// Works until `ends`.
pub fn work(address: SocketAddr, ends: Instant, work: Work) -> Result<Report> {
    let mut rounds = Rounds {
        ends,
        begun: None,
        taken: Vec::new(),
    };
    work(address, &mut rounds)?;
    let mut taken = rounds.taken;
    taken.sort();
    let at = |part: f64| {
        let index = (taken.len() as f64 * part) as usize;
        taken.get(index.min(taken.len().saturating_sub(1))).copied()
    };
    Ok(Report {
        rounds: taken.len(),
        median: at(0.5).context("not one round was made")?,
        p99: at(0.99).unwrap_or_default(),
        longest: at(1.0).unwrap_or_default(),
    })
}

/// One record in, the same record out, over one connection that stays.
fn records(address: SocketAddr, rounds: &mut Rounds) -> Result<()> {
    const TOPIC: &str = "honest-records";
    let mut client = RawClient::connect(address)?;
    client.create_topic(TOPIC, 1, &[])?;
    let mut next = 0;
    while rounds.next() {
        let value = format!("record {next}");
        let sent = client.produce(TOPIC, 0, -1, batch::of_values(&[&value]))?;
        ensure!(sent.error_code == 0, "produce: error {}", sent.error_code);
        ensure!(
            sent.base_offset == next,
            "offset {} came in between {next}",
            sent.base_offset
        );
        let read = client.fetch(TOPIC, 0, next, LIMIT)?;
        ensure!(read.error_code == 0, "fetch: error {}", read.error_code);
        let read = batch::records(&read.records.unwrap_or_default())?;
        let found = read.iter().find(|record| record.offset == next);
        let found = found.and_then(|record| record.value.as_deref());
        ensure!(found == Some(value.as_bytes()), "{value} is not there");
        next += 1;
    }
    Ok(())
}

/// A producer and a member of a group, by the Rust client.
fn group(address: SocketAddr, rounds: &mut Rounds) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        const TOPIC: &str = "honest-group";
        let address = format!("tcp://{address}");
        let client = Client::builder().bootstrap(address).connect().await?;
        let topic = tidegate_client::NewTopic::new(TOPIC).partitions(3);
        client.admin().create_topic(&topic).await?;
        let producer = client.producer().acks(Acks::All).build()?;
        let consumer = client.consumer().group(TOPIC).topics([TOPIC]);
        let mut consumer = consumer.offset_reset(OffsetReset::Earliest).build()?;
        let mut sent = 0;
        while rounds.next() {
            let mut wanted: Vec<_> = (sent..sent + RECORDS)
                .map(|number| number.to_string())
                .collect();
            sent += RECORDS;
            let mut deliveries = Vec::new();
            for value in &wanted {
                let record = Record::to(TOPIC).key(value.clone()).value(value.clone());
                deliveries.push(producer.enqueue(record).await?);
            }
            for delivery in deliveries {
                delivery.wait().await?;
            }
            let deadline = Instant::now() + LIMIT;
            while !wanted.is_empty() {
                ensure!(Instant::now() < deadline, "{wanted:?} did not come");
                for record in consumer.poll(RECORDS, Duration::from_secs(1)).await? {
                    let value = record.value.context("a record without a value")?;
                    let at = wanted.iter().position(|wanted| wanted.as_bytes() == value);
                    let at = at.with_context(|| format!("{value:?} came, {wanted:?} were sent"))?;
                    wanted.swap_remove(at);
                }
            }
            consumer.commit().await?;
        }
        consumer.close().await?;
        producer.close().await?;
        Ok(())
    })
}

/// Transactions, every third aborted, read by a committed reader.
fn transactions(address: SocketAddr, rounds: &mut Rounds) -> Result<()> {
    const TOPIC: &str = "honest-transactions";
    const COORDINATOR_LOADING: [i16; 2] = [14, 15];
    let mut client = RawClient::connect(address)?;
    client.create_topic(TOPIC, 1, &[])?;
    let mut producer = Transactional::new(TOPIC, Dialect::Implicit);
    let deadline = Instant::now() + LIMIT;
    loop {
        let code = producer.initialize(&mut client, LIMIT)?;
        if code == 0 {
            break;
        }
        ensure!(
            COORDINATOR_LOADING.contains(&code) && Instant::now() < deadline,
            "initialize: error {code}"
        );
    }
    let (mut position, mut sequence, mut number) = (0, 0, 0);
    while rounds.next() {
        let commits = number % 3 != 0;
        let value = format!("transaction {number}");
        let of = Producer {
            id: producer.producer_id,
            epoch: producer.epoch,
            base_sequence: sequence,
        };
        let batch = batch::transactional(&[(None, value.as_bytes())], of);
        producer.send_produce(&mut client, TOPIC, 0, batch)?;
        let (code, _) = producer.receive_produce(&mut client)?;
        ensure!(code == 0, "produce: error {code}");
        let before = (producer.producer_id, producer.epoch);
        let code = producer.end(&mut client, commits)?;
        ensure!(code == 0, "end: error {code}");
        sequence = match before == (producer.producer_id, producer.epoch) {
            true => sequence + 1,
            false => 0,
        };
        number += 1;
        if !commits {
            continue;
        }
        let deadline = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        while seen.is_empty() {
            ensure!(Instant::now() < deadline, "{value} did not come");
            let asked = [(TOPIC, 0, position)];
            let read = fetch_all(&mut client, &asked, true, Duration::from_secs(1))?;
            let read = read.into_iter().next().context("no answer on the topic")?;
            ensure!(read.error_code == 0, "fetch: error {}", read.error_code);
            position = read.next;
            seen = read.records;
        }
        let values: Vec<_> = seen.iter().map(|record| record.value.clone()).collect();
        ensure!(
            values == [Some(value.clone().into())],
            "{value} was committed, {values:?} came"
        );
    }
    Ok(())
}
