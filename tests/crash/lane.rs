//! A lane is one producer that writes one partition with numbered records, and the ledger of what it was told.
//!
//! Record `id`s rise by one in the order of sending, over all rounds, so that a partition's content can be judged from
//! itself: a number that comes twice is a duplicate, one that is missing was lost (or never acknowledged, which only the
//! idempotent lane, that sends again until it is acknowledged, must not show at its end).

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use harness::batch::{self, Producer};
use harness::{RawClient, Seed};
use tidegate_checker::{Action, OperationId, Outcome, Partition, Send, Survives};

use crate::record::{Patience, Recorder, Refused, content_of, timed_out, value_of};

/// Requests on the wire at once. An idempotent producer may have five (KIP-98).
const WINDOW: usize = 5;
const MAX_RECORDS_A_BATCH: u64 = 20;
/// Kafka's DUPLICATE_SEQUENCE_NUMBER: the batch is there from an earlier try.
const DUPLICATE: i16 = 46;

/// Consecutive records, sent and not yet answered.
#[derive(Clone, Copy, Debug)]
struct Batch {
    first_id: u64,
    count: u64,
}

/// What the broker promised: these records, from this offset on; −1 where it only said that they are there.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    batch: Batch,
    base_offset: i64,
}

#[derive(Debug)]
pub struct Lane {
    pub topic: &'static str,
    pub partition: i32,
    acks: i16,
    idempotent: bool,
    producer: Option<(i64, i16)>,
    next_id: u64,
    unanswered: VecDeque<(Batch, OperationId)>,
    acknowledged: Vec<Acknowledged>,
    pub acknowledged_records: u64,
    /// The offset up to which the partition was read back, and what was found.
    verified: i64,
    found: Found,
    pub recorder: Recorder,
}

/// What a reading found, from the start of the partition on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Found {
    records: u64,
    last_id: Option<u64>,
    /// Of every offset with its id, in order.
    digest: u64,
}

impl Found {
    fn add(&mut self, offset: i64, id: u64) {
        let mut hasher = DefaultHasher::new();
        (self.digest, offset, id).hash(&mut hasher);
        self.digest = hasher.finish();
        self.records += 1;
        self.last_id = Some(id);
    }
}

impl Lane {
    /// `kind` is the topic, what its producers wait for, and whether they are idempotent.
    pub fn new(kind: (&'static str, i16, bool), partition: i32, recorder: Recorder) -> Self {
        let (topic, acks, idempotent) = kind;
        Self {
            topic,
            partition,
            acks,
            idempotent,
            producer: None,
            next_id: 0,
            unanswered: VecDeque::new(),
            acknowledged: Vec::new(),
            acknowledged_records: 0,
            verified: 0,
            found: Found::default(),
            recorder,
        }
    }

    /// What a producer does once, before its first record.
    ///
    /// # Errors
    /// When the broker gives no producer id.
    pub fn introduce(&mut self, client: &mut RawClient) -> Result<()> {
        if self.idempotent {
            self.producer = Some(client.init_producer_id()?);
        }
        Ok(())
    }

    /// Produces until the broker is killed. A lane that is idempotent takes a new connection when its patience ends, and
    /// sends again what has no answer; another would not know what it may send again, and waits.
    ///
    /// # Errors
    /// When the connection breaks before `killing` was set, or the broker refuses a batch.
    pub fn produce_until_killed(
        &mut self,
        address: SocketAddr,
        mut seed: Seed,
        killing: &AtomicBool,
        patience: Patience,
    ) -> Result<()> {
        let patience = patience.filter(|_| self.idempotent);
        loop {
            match self.keep_producing(address, &mut seed, patience) {
                Err(error) if error.is::<Refused>() => return Err(error),
                _ if killing.load(Ordering::SeqCst) => return Ok(()),
                Err(error) if patience.is_some() && timed_out(&error) => {}
                Err(error) => return Err(error),
                Ok(never) => match never {},
            }
        }
    }

    fn keep_producing(
        &mut self,
        address: SocketAddr,
        seed: &mut Seed,
        patience: Patience,
    ) -> Result<Infallible> {
        let mut client = RawClient::connect(address)?;
        if let Some(patience) = patience {
            client.set_answer_limit(patience)?;
        }
        self.send_again(&mut client)?;
        loop {
            while self.unanswered.len() < WINDOW {
                let count = seed.between(1, MAX_RECORDS_A_BATCH);
                let batch = Batch {
                    first_id: self.next_id,
                    count,
                };
                self.next_id += count;
                let operation = self.recorder.begin(self.as_action(batch));
                self.unanswered.push_back((batch, operation));
                self.send(&mut client, batch)?;
            }
            self.take_answer(&mut client)?;
        }
    }

    /// Sends what an idempotent lane has no answer to, until it has; other lanes give it up.
    ///
    /// # Errors
    /// When the connection breaks or the broker refuses a batch.
    pub fn settle(&mut self, address: SocketAddr) -> Result<()> {
        let mut client = RawClient::connect(address)?;
        self.send_again(&mut client)?;
        while !self.unanswered.is_empty() {
            self.take_answer(&mut client)?;
        }
        Ok(())
    }

    fn send_again(&mut self, client: &mut RawClient) -> Result<()> {
        if !self.idempotent {
            self.unanswered.clear();
            return Ok(());
        }
        for index in 0..self.unanswered.len() {
            let batch = self.unanswered[index].0;
            // To the history it is another send of the same values.
            self.unanswered[index].1 = self.recorder.begin(self.as_action(batch));
            self.send(client, batch)?;
        }
        Ok(())
    }

    fn as_action(&self, batch: Batch) -> Action {
        Action::Send(Send {
            partition: Partition::new(self.topic, self.partition),
            values: (batch.first_id..batch.first_id + batch.count).collect(),
            base_offset: None,
            survives: match self.acks {
                -1 => Survives::PowerLoss,
                _ => Survives::ProcessCrash,
            },
            idempotent: self.idempotent,
            transaction: None,
        })
    }

    fn send(&self, client: &mut RawClient, batch: Batch) -> Result<()> {
        let producer = match self.producer {
            // Every record has its sequence number, and sequences start at 0 as ids do.
            Some((id, epoch)) => Producer {
                id,
                epoch,
                base_sequence: batch.first_id as i32,
            },
            None => Producer::default(),
        };
        let values: Vec<_> = (batch.first_id..batch.first_id + batch.count)
            .map(content_of)
            .collect();
        let records: Vec<_> = values
            .iter()
            .map(|value| (None, value.as_slice()))
            .collect();
        let bytes = batch::build(&records, producer);
        client.send_produce(self.topic, self.partition, self.acks, bytes)?;
        Ok(())
    }

    fn take_answer(&mut self, client: &mut RawClient) -> Result<()> {
        let (_, answer) = client.receive_produce()?;
        let Some((batch, operation)) = self.unanswered.pop_front() else {
            bail!(Refused("an answer to nothing".into()));
        };
        let base_offset = match answer.error_code {
            0 => answer.base_offset,
            DUPLICATE if self.idempotent => -1,
            code => bail!(Refused(format!(
                "{} [{}]: {batch:?} was refused with {code}",
                self.topic, self.partition
            ))),
        };
        if let Action::Send(send) = self.recorder.action_mut(operation) {
            send.base_offset = (base_offset >= 0).then_some(base_offset);
        }
        self.recorder.end(operation, Outcome::Ok);
        self.acknowledged_records += batch.count;
        self.acknowledged.push(Acknowledged { batch, base_offset });
        Ok(())
    }

    /// Reads what is new since the last time and judges it; returns how many records that is. Nothing may be unanswered.
    ///
    /// # Errors
    /// With the first record that is missing, damaged, out of place or there twice.
    pub fn verify(&mut self, client: &mut RawClient) -> Result<u64> {
        let mut found = self.found;
        let mut new = BTreeMap::new();
        self.verified = self.read_from(client, self.verified, |offset, id| {
            new.insert(id, offset);
            in_order(&mut found, offset, id)
        })?;
        self.found = found;
        for acknowledged in self.acknowledged.drain(..) {
            let Acknowledged { batch, base_offset } = acknowledged;
            for index in 0..batch.count {
                let id = batch.first_id + index;
                let Some(place) = new.get(&id) else {
                    bail!("record {id} was acknowledged ({acknowledged:?}) and is lost");
                };
                let promised = base_offset + index as i64;
                ensure!(
                    base_offset == -1 || *place == promised,
                    "record {id} was promised offset {promised}, is at {place}"
                );
            }
        }
        Ok(new.len() as u64)
    }

    /// Forgets what was acknowledged: the history's judge has looked at it, and this ledger will not.
    pub fn skip_verification(&mut self) {
        self.acknowledged.clear();
    }

    /// Reads the whole partition again: it is what it was, and an idempotent lane has no hole.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_from_start(&self, client: &mut RawClient) -> Result<()> {
        let mut again = Found::default();
        self.read_from(client, 0, |offset, id| in_order(&mut again, offset, id))?;
        ensure!(
            again == self.found,
            "a second reading found {again:?}, the first {:?}",
            self.found
        );
        ensure!(
            !self.idempotent || again.records == self.next_id,
            "{} of {} idempotent records are there",
            again.records,
            self.next_id
        );
        Ok(())
    }

    /// Visits the offset and id of all records from `start` to the end, and returns the end.
    fn read_from(
        &self,
        client: &mut RawClient,
        start: i64,
        mut visit: impl FnMut(i64, u64) -> Result<()>,
    ) -> Result<i64> {
        let end = client.list_offset(self.topic, self.partition, -1)?;
        let mut next = start;
        while next < end {
            let wait = Duration::from_secs(1);
            let fetched = client.fetch(self.topic, self.partition, next, wait)?;
            ensure!(
                fetched.error_code == 0,
                "fetch: error {}",
                fetched.error_code
            );
            let records = batch::records(&fetched.records.unwrap_or_default())?;
            ensure!(
                !records.is_empty(),
                "nothing at offset {next}, before the end {end}"
            );
            for record in records {
                // A batch may start before the offset that was asked for.
                if record.offset < next {
                    continue;
                }
                ensure!(
                    record.offset == next,
                    "offset {} after {next}",
                    record.offset
                );
                next += 1;
                let content = record.value.unwrap_or_default();
                let Some(id) = value_of(&content) else {
                    bail!("the record at offset {} is damaged", record.offset);
                };
                ensure!(id < self.next_id, "record {id} was never sent");
                visit(record.offset, id)?;
            }
        }
        ensure!(next == end, "read to {next}, the end is {end}");
        Ok(end)
    }
}

/// The record is later than the one before it.
fn in_order(found: &mut Found, offset: i64, id: u64) -> Result<()> {
    if let Some(last) = found.last_id {
        ensure!(
            id > last,
            "record {id} after record {last}: twice, or out of order"
        );
    }
    found.add(offset, id);
    Ok(())
}
