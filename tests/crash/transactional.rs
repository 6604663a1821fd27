//! A producer with a transactional id: it commits, aborts, walks away, and now and then speaks as a holder that was fenced.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harness::batch::{self, Producer};
use harness::{Dialect, RawClient, Seed, Transactional, stable_offset};
use tidegate_checker::{
    Action, End, OffsetCommit, OffsetRead, OperationId, Outcome, Partition, Send, Survives,
    TransactionId, Value,
};

use crate::record::{Patience, Recorder, Refused, content_of, timed_out};

pub const TOPIC: &str = "transactional";
pub const PARTITIONS: i32 = 3;
/// What the group's offsets are of; nobody reads them for real.
const CONSUMED: (&str, i32) = ("acks-all", 0);

const MAX_RECORDS_A_BATCH: u64 = 8;
/// Sent to a partition without waiting, behind its first batch.
const MAX_MORE_BATCHES: u64 = 2;
/// Longer than any round: the test ends transactions, not the clock.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the broker may say that it is not ready yet.
const RETRY_LIMIT: Duration = Duration::from_secs(20);
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// Codes that ask for another try: COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR,
/// CONCURRENT_TRANSACTIONS, UNSTABLE_OFFSET_COMMIT.
const RETRIABLE: &[i16] = &[14, 15, 16, 51, 88];
/// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED.
const FENCED: &[i16] = &[47, 90];

/// The broker knows a newer holder of the transactional id.
#[derive(Debug)]
struct Fenced(String);

impl std::fmt::Display for Fenced {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Fenced {}

/// A batch without an answer.
#[derive(Debug)]
struct Sent {
    partition: i32,
    values: Vec<Value>,
    operation: OperationId,
}

/// One transactional id, over all rounds.
#[derive(Debug)]
pub struct TransactionalLane {
    producer: Transactional,
    group: String,
    /// Ids of values and transactions carry the lane's number above their count.
    next_id: u64,
    next_offset: i64,
    /// The next sequence number of each partition; they begin again with each epoch.
    sequences: [i32; PARTITIONS as usize],
    sequences_of: (i64, i16),
    /// Whoever held the id before, with the transaction that it left open.
    fenced: Option<(Transactional, TransactionId)>,
    open: Option<TransactionId>,
    /// Times that an older holder of the id spoke, and was refused.
    pub fenced_spoke: u64,
    pub recorder: Recorder,
}

impl TransactionalLane {
    pub fn new(number: u32, dialect: Dialect, recorder: Recorder) -> Self {
        Self {
            producer: Transactional::new(format!("mover-{number}"), dialect),
            group: format!("movers-{number}"),
            next_id: u64::from(number + 1) << 40,
            next_offset: 0,
            sequences: [0; PARTITIONS as usize],
            sequences_of: (-1, -1),
            fenced: None,
            open: None,
            fenced_spoke: 0,
            recorder,
        }
    }

    /// Runs transactions until the broker is killed; takes a new connection, and the transactional id anew, when its
    /// patience ends.
    ///
    /// # Errors
    /// When the connection breaks before `killing` was set, or the broker answers what it should not.
    pub fn run_until_killed(
        &mut self,
        address: SocketAddr,
        mut seed: Seed,
        killing: &AtomicBool,
        patience: Patience,
    ) -> Result<()> {
        loop {
            match self.keep_running(address, &mut seed, patience) {
                Err(error) if error.is::<Refused>() => return Err(error),
                Err(error) if error.is::<Fenced>() && patience.is_none() => return Err(error),
                _ if killing.load(Ordering::SeqCst) => return Ok(()),
                // What it asked for on a connection that it gave up may still be done: to take the id over, from itself.
                Err(error) if error.is::<Fenced>() || timed_out(&error) && patience.is_some() => {}
                Err(error) => return Err(error),
                Ok(never) => match never {},
            }
        }
    }

    fn keep_running(
        &mut self,
        address: SocketAddr,
        seed: &mut Seed,
        patience: Patience,
    ) -> Result<Infallible> {
        let mut client = RawClient::connect(address)?;
        if let Some(patience) = patience {
            client.set_answer_limit(patience)?;
        }
        loop {
            self.take_over(&mut client)?;
            if seed.between(0, 2) == 0 {
                self.speak_as_fenced(&mut client)?;
            }
            while self.transaction(&mut client, seed)? {}
        }
    }

    /// Takes the id over from itself, which ends whatever was under way.
    ///
    /// # Errors
    /// When the connection breaks or the broker refuses.
    pub fn take_over(&mut self, client: &mut RawClient) -> Result<()> {
        let before = self.producer.clone();
        let code = retry(|| self.producer.initialize(client, TRANSACTION_TIMEOUT))?;
        self.expect(code, "InitProducerId")?;
        if let Some(open) = self.open.take() {
            self.fenced = Some((before, open));
        }
        Ok(())
    }

    /// What the one that was fenced sends is refused, and its commit too.
    fn speak_as_fenced(&mut self, client: &mut RawClient) -> Result<()> {
        let Some((mut fenced, open)) = self.fenced.take() else {
            return Ok(());
        };
        let values = vec![self.fresh()];
        let sequence = self.sequences[0];
        let operation = self.recorder.begin(send_action(open, 0, &values));
        fenced.send_produce(client, TOPIC, 0, batch_of(&fenced, &values, sequence))?;
        let (code, _) = fenced.receive_produce(client)?;
        ensure!(
            FENCED.contains(&code),
            Refused(format!("a fenced producer's batch was answered {code}"))
        );
        self.recorder.end(operation, Outcome::Fail);
        let code = retry(|| fenced.end(client, true))?;
        ensure!(
            FENCED.contains(&code),
            Refused(format!("a fenced producer's commit was answered {code}"))
        );
        self.fenced_spoke += 1;
        Ok(())
    }

    /// One transaction; `false` when it was left open on purpose.
    fn transaction(&mut self, client: &mut RawClient, seed: &mut Seed) -> Result<bool> {
        let id = self.fresh();
        self.open = Some(id);
        let first = seed.between(0, PARTITIONS as u64 - 1) as i32;
        let count = seed.between(1, PARTITIONS as u64) as i32;
        let partitions: Vec<i32> = (first..first + count).map(|it| it % PARTITIONS).collect();
        if self.producer.dialect == Dialect::Announced {
            let producer = &self.producer;
            let code = retry(|| producer.add_partitions(client, TOPIC, &partitions))?;
            self.expect(code, "AddPartitionsToTxn")?;
        }
        let (mut first, mut more) = (Vec::new(), Vec::new());
        for partition in &partitions {
            first.push((*partition, self.fresh_values(seed)));
            for _ in 0..seed.between(0, MAX_MORE_BATCHES) {
                more.push((*partition, self.fresh_values(seed)));
            }
        }
        self.send_first(client, id, first)?;
        let mut sent = Vec::new();
        for (partition, values) in more {
            sent.push(self.send(client, id, partition, values)?);
        }
        for batch in sent {
            self.take_answer(client, batch, false)?;
        }
        if seed.between(0, 1) == 0 {
            self.commit_offset(client, id, seed)?;
        }
        match seed.between(0, 99) {
            0..60 => self.finish(client, id, End::Commit)?,
            60..85 => self.finish(client, id, End::Abort)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A first batch for each of the partitions, all on the wire at once; what the broker is not ready for is sent again.
    fn send_first(
        &mut self,
        client: &mut RawClient,
        id: TransactionId,
        mut waiting: Vec<(i32, Vec<Value>)>,
    ) -> Result<()> {
        let deadline = Instant::now() + RETRY_LIMIT;
        while !waiting.is_empty() {
            let mut sent = Vec::new();
            for (partition, values) in waiting.drain(..) {
                sent.push(self.send(client, id, partition, values)?);
            }
            for batch in sent {
                let again = Instant::now() < deadline;
                if let Some(refused) = self.take_answer(client, batch, again)? {
                    self.sequences[refused.0 as usize] -= refused.1.len() as i32;
                    waiting.push(refused);
                }
            }
            if !waiting.is_empty() {
                thread::sleep(RETRY_PAUSE);
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        client: &mut RawClient,
        id: TransactionId,
        partition: i32,
        values: Vec<Value>,
    ) -> Result<Sent> {
        let epoch = (self.producer.producer_id, self.producer.epoch);
        if self.sequences_of != epoch {
            (self.sequences, self.sequences_of) = ([0; PARTITIONS as usize], epoch);
        }
        let operation = self.recorder.begin(send_action(id, partition, &values));
        let sequence = &mut self.sequences[partition as usize];
        let batch = batch_of(&self.producer, &values, *sequence);
        *sequence += values.len() as i32;
        self.producer
            .send_produce(client, TOPIC, partition, batch)?;
        Ok(Sent {
            partition,
            values,
            operation,
        })
    }

    /// Takes the answer to the oldest batch that has none; gives it back if it is to be sent again, and may be.
    fn take_answer(
        &mut self,
        client: &mut RawClient,
        sent: Sent,
        may_send_again: bool,
    ) -> Result<Option<(i32, Vec<Value>)>> {
        let (code, base_offset) = self.producer.receive_produce(client)?;
        if RETRIABLE.contains(&code) && may_send_again {
            self.recorder.end(sent.operation, Outcome::Fail);
            return Ok(Some((sent.partition, sent.values)));
        }
        self.expect(code, "Produce")?;
        if let Action::Send(send) = self.recorder.action_mut(sent.operation) {
            send.base_offset = Some(base_offset);
        }
        self.recorder.end(sent.operation, Outcome::Ok);
        Ok(None)
    }

    fn commit_offset(
        &mut self,
        client: &mut RawClient,
        id: TransactionId,
        seed: &mut Seed,
    ) -> Result<()> {
        self.next_offset += seed.between(1, 9) as i64;
        let operation = self.recorder.begin(Action::CommitOffset(OffsetCommit {
            group: self.group.as_str().into(),
            partition: Partition::new(CONSUMED.0, CONSUMED.1),
            offset: self.next_offset,
            transaction: Some(id),
        }));
        let (producer, group, offset) = (&self.producer, &self.group, self.next_offset);
        let code = retry(|| producer.commit_offset(client, group, CONSUMED, offset))?;
        self.expect(code, "TxnOffsetCommit")?;
        self.recorder.end(operation, Outcome::Ok);
        Ok(())
    }

    fn finish(&mut self, client: &mut RawClient, id: TransactionId, end: End) -> Result<()> {
        let operation = self.recorder.begin(Action::End(id, end));
        let commit = end == End::Commit;
        let code = retry(|| self.producer.end(client, commit))?;
        self.expect(code, "EndTxn")?;
        self.recorder.end(operation, Outcome::Ok);
        self.open = None;
        Ok(())
    }

    /// Begins a window: the offset that the last one ended with was committed before.
    pub fn remember_offset(&mut self, offset: Option<i64>) {
        let Some(offset) = offset else {
            return;
        };
        let operation = self.recorder.begin(Action::CommitOffset(OffsetCommit {
            group: self.group.as_str().into(),
            partition: Partition::new(CONSUMED.0, CONSUMED.1),
            offset,
            transaction: None,
        }));
        self.recorder.end(operation, Outcome::Ok);
    }

    /// Asks for the group's offset, when no transaction is open.
    ///
    /// # Errors
    /// When the connection breaks or the broker refuses.
    pub fn read_offset(&mut self, client: &mut RawClient) -> Result<Option<i64>> {
        let operation = self.recorder.begin(Action::ReadOffset(OffsetRead {
            group: self.group.as_str().into(),
            partition: Partition::new(CONSUMED.0, CONSUMED.1),
            offset: None,
        }));
        let mut found = None;
        let code = retry(|| {
            let answer = stable_offset(client, &self.group, CONSUMED.0, CONSUMED.1)?;
            Ok(match answer {
                Ok(offset) => {
                    found = offset;
                    0
                }
                Err(code) => code,
            })
        })?;
        self.expect(code, "OffsetFetch")?;
        if let Action::ReadOffset(read) = self.recorder.action_mut(operation) {
            read.offset = found;
        }
        self.recorder.end(operation, Outcome::Ok);
        Ok(found)
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn fresh_values(&mut self, seed: &mut Seed) -> Vec<Value> {
        let count = seed.between(1, MAX_RECORDS_A_BATCH);
        (0..count).map(|_| self.fresh()).collect()
    }

    fn expect(&self, code: i16, what: &str) -> Result<()> {
        let told = format!("{what} of {:?} was answered {code}", self.producer);
        ensure!(!FENCED.contains(&code), Fenced(told));
        ensure!(code == 0, Refused(told));
        Ok(())
    }
}

/// Asks until the answer is no request to ask again.
fn retry(mut ask: impl FnMut() -> Result<i16>) -> Result<i16> {
    let deadline = Instant::now() + RETRY_LIMIT;
    loop {
        let code = ask()?;
        if !RETRIABLE.contains(&code) {
            return Ok(code);
        }
        if Instant::now() > deadline {
            bail!(Refused(format!(
                "still answered {code} after {RETRY_LIMIT:?}"
            )));
        }
        thread::sleep(RETRY_PAUSE);
    }
}

fn send_action(transaction: TransactionId, partition: i32, values: &[Value]) -> Action {
    Action::Send(Send {
        partition: Partition::new(TOPIC, partition),
        values: values.to_vec(),
        base_offset: None,
        survives: Survives::PowerLoss,
        idempotent: true,
        transaction: Some(transaction),
    })
}

fn batch_of(producer: &Transactional, values: &[Value], base_sequence: i32) -> bytes::Bytes {
    let contents: Vec<_> = values.iter().map(|value| content_of(*value)).collect();
    let records: Vec<_> = contents
        .iter()
        .map(|content| (None, content.as_slice()))
        .collect();
    let producer = Producer {
        id: producer.producer_id,
        epoch: producer.epoch,
        base_sequence,
    };
    batch::transactional(&records, producer)
}
