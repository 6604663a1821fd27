//! A read-process-write loop of librdkafka's transactional producer, whose broker and workers are killed at random: in the
//! end each input has been counted exactly once.
//!
//! The inputs are numbers, written one after another while the loop runs; the workers are `tests/clients/python/processing.py`.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::batch::{self, Producer};
use harness::{Broker, RawClient, Seed, Suite, fetch_all, repository_root, say, setting, suite};

use crate::record::Refused;

const INPUT_PARTITIONS: i32 = 4;
const OUTPUT_PARTITIONS: i32 = 3;
const WORKERS: usize = 3;
const INPUTS_A_BATCH: u64 = 10;
/// Between two batches of inputs: the workers are to be killed at their work, not waiting for some.
const FEED_PAUSE: Duration = Duration::from_millis(20);
/// Between two kills, in ms.
const CALM_MS: (u64, u64) = (200, 2000);
/// How long a broker or a worker stays down, in ms.
const DOWN_MS: (u64, u64) = (0, 400);
/// How long the workers may take to finish when nobody disturbs them any more.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// Kafka's DUPLICATE_SEQUENCE_NUMBER.
const DUPLICATE: i16 = 46;

/// A worker's process, started again whenever it ended.
#[derive(Debug)]
struct Worker {
    name: String,
    python: PathBuf,
    address: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
    starts: u64,
}

impl Worker {
    fn start(&mut self, seed: &mut Seed) -> Result<()> {
        self.starts += 1;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let script = repository_root().join("tests/clients/python/processing.py");
        let child = Command::new(&self.python)
            .arg(script)
            .args([&self.name, &(seed.number() >> 1).to_string()])
            .env("BOOTSTRAP", self.address.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", self.python.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts it if it ended by itself.
    fn keep_alive(&mut self, seed: &mut Seed) -> Result<()> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait()?.is_some(),
            None => true,
        };
        if ended { self.start(seed) } else { Ok(()) }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already, which is what was wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes numbers until `done`, each once; returns how many.
fn feed(address: SocketAddr, producer: (i64, i16), done: &AtomicBool) -> Result<u64> {
    let mut client = None;
    let mut batches = 0;
    while !done.load(Ordering::SeqCst) {
        match feed_one(&mut client, address, producer, batches) {
            Ok(()) => batches += 1,
            Err(error) if error.is::<Refused>() => return Err(error),
            // The broker is away; the same batch is sent again.
            Err(_) => client = None,
        }
        thread::sleep(FEED_PAUSE);
    }
    Ok(batches * INPUTS_A_BATCH)
}

fn feed_one(
    client: &mut Option<RawClient>,
    address: SocketAddr,
    (id, epoch): (i64, i16),
    number: u64,
) -> Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(RawClient::connect(address)?),
    };
    let first = number * INPUTS_A_BATCH;
    let values: Vec<_> = (first..first + INPUTS_A_BATCH)
        .map(|it| it.to_string())
        .collect();
    let records: Vec<_> = values
        .iter()
        .map(|value| (None, value.as_bytes()))
        .collect();
    let turn = number / INPUT_PARTITIONS as u64;
    let producer = Producer {
        id,
        epoch,
        base_sequence: (turn * INPUTS_A_BATCH) as i32,
    };
    let partition = (number % INPUT_PARTITIONS as u64) as i32;
    let answer = client.produce("inputs", partition, -1, batch::build(&records, producer))?;
    match answer.error_code {
        0 | DUPLICATE => Ok(()),
        code => bail!(Refused(format!(
            "inputs {first} and on were refused with {code}"
        ))),
    }
}

/// Kills workers and the broker at random until the time is up.
fn disturb(
    broker: &mut Broker,
    workers: &mut [Worker],
    seed: &mut Seed,
    time: Duration,
) -> Result<(u64, u64)> {
    let (mut of_broker, mut of_workers) = (0, 0);
    let end = Instant::now() + time;
    while Instant::now() < end {
        // The moments are the test's subject: nothing is awaited here.
        thread::sleep(Duration::from_millis(seed.between(CALM_MS.0, CALM_MS.1)));
        for worker in workers.iter_mut() {
            worker.keep_alive(seed)?;
        }
        let down = Duration::from_millis(seed.between(DOWN_MS.0, DOWN_MS.1));
        if seed.between(0, 2) == 0 {
            broker.kill9();
            thread::sleep(down);
            broker.restart()?;
            of_broker += 1;
        } else {
            let worker = seed.between(0, workers.len() as u64 - 1) as usize;
            workers[worker].kill();
            thread::sleep(down);
            workers[worker].start(seed)?;
            of_workers += 1;
        }
    }
    Ok((of_broker, of_workers))
}

/// Waits until as many outputs as inputs are committed, and checks that each input has one.
fn reckon(broker: &Broker, workers: &mut [Worker], seed: &mut Seed, inputs: u64) -> Result<()> {
    let mut client = broker.connect();
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut positions = [0; OUTPUT_PARTITIONS as usize];
    let deadline = Instant::now() + DRAIN_LIMIT;
    while (counts.len() as u64) < inputs {
        ensure!(
            Instant::now() < deadline,
            "{} of {inputs} inputs are counted after {DRAIN_LIMIT:?}",
            counts.len()
        );
        for worker in workers.iter_mut() {
            worker.keep_alive(seed)?;
        }
        read_outputs(&mut client, &mut positions, &mut counts)?;
    }
    // Whatever is still under way would be one too many.
    workers.iter_mut().for_each(Worker::kill);
    read_outputs(&mut client, &mut positions, &mut counts)?;
    let wrong: Vec<_> = counts
        .iter()
        .filter(|(_, count)| **count != 1)
        .take(20)
        .collect();
    ensure!(
        wrong.is_empty(),
        "inputs that were not counted once: {wrong:?}"
    );
    ensure!(
        counts.len() as u64 == inputs,
        "{} of {inputs} inputs",
        counts.len()
    );
    Ok(())
}

fn read_outputs(
    client: &mut RawClient,
    positions: &mut [i64; OUTPUT_PARTITIONS as usize],
    counts: &mut BTreeMap<u64, u64>,
) -> Result<()> {
    let wanted: Vec<_> = (0..)
        .zip(positions.iter())
        .map(|(it, at)| ("outputs", it, *at))
        .collect();
    for fetched in fetch_all(client, &wanted, true, Duration::from_millis(100))? {
        let at = fetched.partition;
        ensure!(
            fetched.error_code == 0,
            "outputs [{at}]: error {}",
            fetched.error_code
        );
        for record in &fetched.records {
            let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
            let numbers = text.split_once(':').and_then(|(number, double)| {
                Some((number.parse::<u64>().ok()?, double.parse::<u64>().ok()?))
            });
            let (number, double) = numbers.with_context(|| format!("an output `{text}`"))?;
            ensure!(double == 2 * number, "an output `{text}`");
            *counts.entry(number).or_default() += 1;
        }
        positions[at as usize] = fetched.next;
    }
    Ok(())
}

fn run(python: PathBuf, time: Duration, seed: &mut Seed) -> Result<String> {
    let mut broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("inputs", INPUT_PARTITIONS, &[])?;
    client.create_topic("outputs", OUTPUT_PARTITIONS, &[])?;
    let producer = client.init_producer_id()?;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("workers.log");
    let address = broker.tcp();
    let numbers = 0..WORKERS;
    let mut workers: Vec<_> = numbers
        .map(|number| Worker {
            name: format!("worker-{number}"),
            python: python.clone(),
            address,
            log: log.clone(),
            child: None,
            starts: 0,
        })
        .collect();
    for worker in &mut workers {
        worker.start(seed)?;
    }
    let done = AtomicBool::new(false);
    let (kills, inputs) = thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(address, producer, &done));
        let kills = disturb(&mut broker, &mut workers, seed, time);
        done.store(true, Ordering::SeqCst);
        (
            kills,
            feeder
                .join()
                .expect("the feeder reports, and does not panic"),
        )
    });
    let ((of_broker, of_workers), inputs) = (kills?, inputs?);
    reckon(&broker, &mut workers, seed, inputs).with_context(|| {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = said.lines().rev().take(60).collect();
        let said: Vec<_> = lines.into_iter().rev().collect();
        format!(
            "the workers said:\n{}\nthe broker's log ends:\n{}",
            said.join("\n"),
            broker.log_tail()
        )
    })?;
    let starts: u64 = workers.iter().map(|worker| worker.starts).sum();
    Ok(format!(
        "read-process-write: {inputs} inputs, each counted once in {time:?}; the broker was killed {of_broker} times, workers \
        {of_workers} times (and started {starts} times)"
    ))
}

#[test]
fn a_read_process_write_loop_counts_each_input_once_whoever_is_killed() {
    let time = Duration::from_secs(setting("TIDEGATE_RPW_SECONDS", 20));
    let suite = Suite {
        name: "read-process-write",
    };
    let requirements = repository_root().join("tests/clients/python/requirements.txt");
    let Some(python) = suite.need(suite::python(&requirements)) else {
        return;
    };
    let mut seed = Seed::from_env("read-process-write");
    match run(python, time, &mut seed) {
        Ok(told) => say(&told),
        Err(error) => panic!("{error:#}"),
    }
}
