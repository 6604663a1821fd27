//! A lane is one producer that writes one partition with numbered records, and the ledger of what it was told.
//!
//! Record `id`s rise by one in the order of sending, over all rounds, so that a partition's content can be judged from
//! itself: a number that comes twice is a duplicate, one that is missing was lost (or never acknowledged, which only the
//! idempotent lane, that sends again until it is acknowledged, must not show at its end).

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use harness::batch::{self, Producer};
use harness::{RawClient, Seed};

/// Requests on the wire at once. An idempotent producer may have five (KIP-98).
const WINDOW: usize = 5;
const MAX_RECORDS_A_BATCH: u64 = 20;
const MAX_FILLER_BYTES: u64 = 900;
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
    unanswered: VecDeque<Batch>,
    acknowledged: Vec<Acknowledged>,
    pub acknowledged_records: u64,
    /// Offsets of the records that were read back, by their ids.
    found: BTreeMap<u64, i64>,
    /// The offset up to which the partition was read back.
    verified: i64,
    last_verified_id: Option<u64>,
}

impl Lane {
    pub fn new(topic: &'static str, partition: i32, acks: i16, idempotent: bool) -> Self {
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
            found: BTreeMap::new(),
            verified: 0,
            last_verified_id: None,
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

    /// Produces until the connection breaks.
    ///
    /// # Errors
    /// When it breaks before `killing` was set, or the broker refuses a batch.
    pub fn produce_until_killed(
        &mut self,
        address: SocketAddr,
        mut seed: Seed,
        killing: &AtomicBool,
    ) -> Result<()> {
        match self.keep_producing(address, &mut seed) {
            Err(error) if error.is::<Refused>() || !killing.load(Ordering::SeqCst) => Err(error),
            _ => Ok(()),
        }
    }

    fn keep_producing(&mut self, address: SocketAddr, seed: &mut Seed) -> Result<Infallible> {
        let mut client = RawClient::connect(address)?;
        self.send_again(&mut client)?;
        loop {
            while self.unanswered.len() < WINDOW {
                let count = seed.between(1, MAX_RECORDS_A_BATCH);
                let batch = Batch {
                    first_id: self.next_id,
                    count,
                };
                self.next_id += count;
                self.unanswered.push_back(batch);
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
        for batch in self.unanswered.clone() {
            self.send(client, batch)?;
        }
        Ok(())
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
            .map(value_of)
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
        let Some(batch) = self.unanswered.pop_front() else {
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
        self.acknowledged_records += batch.count;
        self.acknowledged.push(Acknowledged { batch, base_offset });
        Ok(())
    }

    /// Reads what is new since the last time and judges it; returns how many records that is.
    ///
    /// # Errors
    /// With the first record that is missing, damaged, out of place or there twice.
    pub fn verify(&mut self, client: &mut RawClient) -> Result<u64> {
        let new = self.read_from(client, self.verified)?;
        let count = new.len() as u64;
        self.found.extend(new);
        // An answer may be to a batch that an earlier round sent, and wrote, without an answer.
        for acknowledged in self.acknowledged.drain(..) {
            let Acknowledged { batch, base_offset } = acknowledged;
            for index in 0..batch.count {
                let id = batch.first_id + index;
                let Some(place) = self.found.get(&id) else {
                    bail!("record {id} was acknowledged ({acknowledged:?}) and is lost");
                };
                let promised = base_offset + index as i64;
                ensure!(
                    base_offset == -1 || *place == promised,
                    "record {id} was promised offset {promised}, is at {place}"
                );
            }
        }
        Ok(count)
    }

    /// Reads the whole partition again: it is what it was, and an idempotent lane has no hole.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_from_start(&mut self, client: &mut RawClient) -> Result<()> {
        self.last_verified_id = None;
        let again = self.read_from(client, 0)?;
        ensure!(
            again == self.found,
            "a second reading differs from the first"
        );
        let count = again.len() as u64;
        ensure!(
            !self.idempotent || count == self.next_id,
            "{} of {} idempotent records are there",
            count,
            self.next_id
        );
        Ok(())
    }

    /// Offsets by ids of all records from `start` to the end.
    fn read_from(&mut self, client: &mut RawClient, start: i64) -> Result<BTreeMap<u64, i64>> {
        let end = client.list_offset(self.topic, self.partition, -1)?;
        let mut by_id = BTreeMap::new();
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
                let id = self.check_content(record.offset, &record.value.unwrap_or_default())?;
                by_id.insert(id, record.offset);
            }
        }
        ensure!(next == end, "read to {next}, the end is {end}");
        self.verified = end;
        Ok(by_id)
    }

    /// The record is one that was sent, whole, and later than the one before it.
    fn check_content(&mut self, offset: i64, value: &Bytes) -> Result<u64> {
        let id = value.get(..8).and_then(|bytes| bytes.try_into().ok());
        let Some(id) = id.map(u64::from_be_bytes) else {
            bail!("a record of {} bytes at offset {offset}", value.len());
        };
        ensure!(id < self.next_id, "record {id} was never sent");
        ensure!(value == &value_of(id), "record {id} is damaged");
        if let Some(last) = self.last_verified_id {
            ensure!(
                id > last,
                "record {id} after record {last}: twice, or out of order"
            );
        }
        self.last_verified_id = Some(id);
        Ok(id)
    }
}

/// The broker's own refusal, as opposed to a connection that broke.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// The content of a record follows from its id: eight bytes of it, then a filler of an odd length.
fn value_of(id: u64) -> Vec<u8> {
    let mut seed = Seed::new(id);
    let length = seed.between(0, MAX_FILLER_BYTES) as usize;
    let mut value = id.to_be_bytes().to_vec();
    value.extend(seed.bytes(length));
    value
}
