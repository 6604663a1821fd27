//! Random clients against a model: whatever they do, in whatever order, with retries, restarts and fencing,
//!
//! - an outcome that a client was told is the outcome of what it wrote, and is never another one later;
//! - nothing is written by an instance after a newer one has begun, nor into a transaction that is decided;
//! - no identity is given twice to different instances, and epochs of an id only grow.

use std::collections::HashMap;

use super::*;
use crate::coordinator::transaction::record;

/// A small generator (splitmix64), so that a seed is all that a run needs.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// One instance of the producer, as it sees itself.
#[derive(Clone, Debug)]
struct Client {
    producer: Producer,
    version: ClientVersion,
    /// Newer instances have a higher number.
    instance: usize,
    /// What it wrote since its last end, and the end that it asks for without an answer so far.
    written: Vec<usize>,
    asked: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

struct World {
    random: Random,
    transaction: Transaction,
    clients: Vec<Client>,
    /// The newest instance that was told its identity.
    newest: usize,
    instances: usize,
    next_producer_id: i64,
    /// Every write: what became of it.
    writes: Vec<Fate>,
    open: Vec<usize>,
    highest: HashMap<i64, i16>,
    given: HashMap<(i64, i16), usize>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            transaction: Transaction::new(1, NOW),
            clients: Vec::new(),
            newest: 0,
            instances: 0,
            next_producer_id: 2,
            writes: Vec::new(),
            open: Vec::new(),
            highest: HashMap::new(),
            given: HashMap::new(),
        }
    }

    fn spare(&mut self) -> Option<i64> {
        self.next_producer_id += 1;
        Some(self.next_producer_id)
    }

    /// Stores a state: through its record now and then, as a restart does.
    fn store(&mut self, next: Transaction) {
        let Producer { id, epoch } = next.producer;
        let highest = self.highest.entry(id).or_insert(epoch);
        assert!(epoch >= *highest, "epoch {epoch} of {id} after {highest}");
        *highest = epoch;
        if next.state.is_prepared() && !self.transaction.state.is_prepared() {
            let fate = match next.state {
                State::PrepareCommit => Fate::Committed,
                _ => Fate::Aborted,
            };
            for write in self.open.drain(..) {
                assert_eq!(self.writes[write], Fate::Open);
                self.writes[write] = fate;
            }
        }
        self.transaction = next;
    }

    fn restart(&mut self) {
        let key = record::key("id").unwrap();
        let value = record::value(&self.transaction).unwrap();
        let (_, read) = record::decode(key, Some(value)).unwrap().unwrap();
        self.transaction = read.unwrap();
    }

    fn begin(&mut self) {
        let spare = self.spare();
        let version = match self.random.one_in(2) {
            true => KeepsEpoch,
            false => BumpsEpoch,
        };
        match self.transaction.init(None, TIMEOUT, NOW, spare) {
            Ok(Init::Ready(next)) => {
                let producer = next.producer;
                self.store(next);
                self.instances += 1;
                self.newest = self.instances;
                let instance = self.instances;
                let known = self.given.insert((producer.id, producer.epoch), instance);
                assert_eq!(known, None, "{producer:?} was given before");
                // An answer that was lost leaves nobody who has this identity.
                if !self.random.one_in(8) {
                    self.clients.push(Client {
                        producer,
                        version,
                        instance,
                        written: Vec::new(),
                        asked: None,
                    });
                }
            }
            Ok(Init::Fence(next)) => self.store(next),
            Ok(Init::NeedsProducerId) => panic!("there was one"),
            Err(refusal) => assert_eq!(refusal, Refusal::Concurrent),
        }
    }

    fn write(&mut self, index: usize) {
        let client = self.clients[index].clone();
        if client.asked.is_some() {
            return;
        }
        let partition = self.random.below(3) as PartitionIndex;
        let added = self
            .transaction
            .add(client.producer, &orders(partition), client.version, NOW);
        match added {
            Ok(next) => {
                assert_eq!(client.instance, self.newest, "an old instance writes");
                if let Some(next) = next {
                    self.store(next);
                }
                let verified = self
                    .transaction
                    .verify(client.producer, "orders", partition);
                assert_eq!(verified, Ok(()));
                self.clients[index].written.push(self.writes.len());
                self.open.push(self.writes.len());
                self.writes.push(Fate::Open);
            }
            Err(Refusal::Concurrent) => {}
            Err(_) => self.lose(index),
        }
    }

    /// A client that is refused for good, as its library would tell it.
    fn lose(&mut self, index: usize) {
        self.clients.swap_remove(index);
    }

    fn end(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let is_commit = client.asked.unwrap_or_else(|| self.random.one_in(2));
        // A client of version 1 does not end what it did not begin, and nobody commits nothing.
        if client.written.is_empty() && (is_commit || client.version == KeepsEpoch) {
            return;
        }
        self.clients[index].asked = Some(is_commit);
        let request = EndRequest {
            producer: client.producer,
            is_commit,
            version: client.version,
        };
        let spare = self.spare();
        let answer = match self.transaction.end(request, NOW, spare) {
            Ok(End::Prepared(next)) => {
                assert_eq!(client.instance, self.newest, "an old instance ends");
                let successor = next.successor();
                self.store(next);
                successor
            }
            Ok(End::Done(producer)) => producer,
            Ok(End::NeedsProducerId) => panic!("there was one"),
            Err(Refusal::Concurrent) => return,
            Err(_) => return self.lose(index),
        };
        // The answer may be lost: the client asks again then.
        if !self.random.one_in(4) {
            self.told(index, is_commit, answer);
        }
    }

    fn told(&mut self, index: usize, is_commit: bool, producer: Producer) {
        let client = &mut self.clients[index];
        let fate = match is_commit {
            true => Fate::Committed,
            false => Fate::Aborted,
        };
        for write in std::mem::take(&mut client.written) {
            assert_eq!(self.writes[write], fate, "{client:?} was told otherwise");
        }
        client.asked = None;
        client.producer = producer;
        let holder = *self
            .given
            .entry((producer.id, producer.epoch))
            .or_insert(client.instance);
        assert_eq!(holder, client.instance, "{producer:?} is another's");
    }

    fn step(&mut self) {
        let client = match self.clients.len() as u64 {
            0 => None,
            count => Some(self.random.below(count) as usize),
        };
        match (self.random.below(20), client) {
            (0, _) | (_, None) => self.begin(),
            (1, _) => self.restart(),
            (2, _) if self.transaction.state == State::Ongoing => {
                let next = self.transaction.fence(NOW);
                self.store(next);
            }
            (3..=7, _) if self.transaction.state.is_prepared() => {
                let next = self.transaction.complete(NOW);
                self.store(next);
            }
            (8..=12, Some(client)) => self.end(client),
            (13..=19, Some(client)) => self.write(client),
            _ => {}
        }
    }
}

#[test]
fn whatever_clients_do_what_they_are_told_is_true() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        // Some runs begin where the epochs are about to run out.
        if seed % 2 == 0 {
            world.transaction.producer.epoch = LAST_EPOCH - (seed % 7) as i16;
        }
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..400 {
                world.step();
            }
        }));
        assert!(run.is_ok(), "seed {seed}");
    }
}
