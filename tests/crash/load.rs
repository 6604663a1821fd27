//! Everything that uses the broker at once: plain, idempotent and transactional producers, and consumers of either
//! isolation. It runs for a round, is settled after the crash, and its history is judged: then nothing of it is kept.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Broker, Dialect, RawClient, Seed};
use tidegate_checker::{Action, Crash, Isolation, Outcome, Time, check, explain};

use crate::lane::Lane;
use crate::reader::Reader;
use crate::record::{Clock, Patience, Recorder};
use crate::tally::Tally;
use crate::transactional::{self, TransactionalLane};

/// Topic, acks, idempotent.
const KINDS: &[(&str, i16, bool)] = &[
    ("acks-one", 1, false),
    ("acks-all", -1, false),
    ("idempotent", -1, true),
];
const LANES_A_KIND: i32 = 2;
/// Every so many rounds transactions have the broker for themselves: beside the others few come to their end.
const TRANSACTIONS_ALONE_EVERY: u64 = 3;
const DIALECTS: &[Dialect] = &[Dialect::Announced, Dialect::Implicit, Dialect::Implicit];

#[derive(Debug)]
pub struct Load {
    pub lanes: Vec<Lane>,
    pub transactional: Vec<TransactionalLane>,
    readers: Vec<Reader>,
    clock: Clock,
    /// What happens to the broker.
    keeper: Recorder,
    rounds: u64,
    tally: Tally,
}

impl Load {
    /// Creates the topics and the producers.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn start(client: &mut RawClient) -> Result<Self> {
        let clock = Clock::start();
        let mut next = 0;
        let mut recorder = || {
            next += 1;
            Recorder::new(next, clock)
        };
        let keeper = recorder();
        let mut lanes = Vec::new();
        for kind in KINDS {
            client.create_topic(kind.0, LANES_A_KIND, &[])?;
            lanes.extend((0..LANES_A_KIND).map(|index| Lane::new(*kind, index, recorder())));
        }
        client.create_topic(transactional::TOPIC, transactional::PARTITIONS, &[])?;
        for lane in &mut lanes {
            lane.introduce(client)?;
        }
        let numbered = DIALECTS.iter().zip(0..);
        let transactional = numbered
            .map(|(dialect, number)| TransactionalLane::new(number, *dialect, recorder()))
            .collect();
        let of_transactions = (0..transactional::PARTITIONS).map(|it| (transactional::TOPIC, it));
        let of_lanes = lanes.iter().map(|lane| (lane.topic, lane.partition));
        let partitions: Vec<_> = of_lanes.chain(of_transactions).collect();
        let readers = [Isolation::ReadCommitted, Isolation::ReadUncommitted]
            .map(|isolation| Reader::new(isolation, partitions.iter().copied(), recorder()));
        Ok(Self {
            lanes,
            transactional,
            readers: readers.into(),
            clock,
            keeper,
            rounds: 0,
            tally: Tally::default(),
        })
    }

    /// Uses the broker until `crash`, which ends it, returns. `crash` is to set the flag before it does so.
    ///
    /// # Errors
    /// With the first thing that went wrong before the crash.
    pub fn run(
        &mut self,
        address: SocketAddr,
        seed: &mut Seed,
        patience: Patience,
        crash: impl FnOnce(&AtomicBool) -> Result<()>,
    ) -> Result<()> {
        let killing = AtomicBool::new(false);
        self.rounds += 1;
        let transactions_alone = self.rounds.is_multiple_of(TRANSACTIONS_ALONE_EVERY);
        let producing = if transactions_alone {
            &mut []
        } else {
            &mut self.lanes[..]
        };
        let mut results = Vec::new();
        thread::scope(|scope| {
            let killing = &killing;
            let mut running = Vec::new();
            for lane in producing {
                let seed = seed.fork();
                running.push(scope.spawn(move || {
                    let done = lane.produce_until_killed(address, seed, killing, patience);
                    done.with_context(|| format!("{} [{}]", lane.topic, lane.partition))
                }));
            }
            for lane in &mut self.transactional {
                let seed = seed.fork();
                let run = move || lane.run_until_killed(address, seed, killing, patience);
                running.push(scope.spawn(run));
            }
            for reader in &mut self.readers {
                let run = move || reader.read_until_killed(address, killing, patience);
                running.push(scope.spawn(run));
            }
            results.push(crash(killing));
            // Whatever `crash` came to, nobody waits for a broker that is gone.
            killing.store(true, Ordering::SeqCst);
            let ended = running
                .into_iter()
                .map(|it| it.join().expect("it reports, and does not panic"));
            results.extend(ended);
        });
        results.into_iter().collect()
    }

    /// After the restart: nothing is left under way, everything is read to its end, and the history of the round is judged.
    ///
    /// # Errors
    /// When the broker refuses, or with the anomalies.
    pub fn settle_and_judge(&mut self, broker: &Broker, crash: Crash, begun: Time) -> Result<()> {
        let operation = self.keeper.begin_at(begun, Action::Crash(crash));
        self.keeper.end(operation, Outcome::Ok);
        for lane in &mut self.lanes {
            let place = format!("{} [{}]", lane.topic, lane.partition);
            lane.settle(broker.tcp()).context(place)?;
        }
        let mut client = broker.connect();
        for lane in &mut self.transactional {
            lane.take_over(&mut client)?;
        }
        for reader in &mut self.readers {
            reader.read_window(&mut client)?;
        }
        let mut offsets = Vec::new();
        for lane in &mut self.transactional {
            offsets.push(lane.read_offset(&mut client)?);
        }
        let mut history = self.keeper.take();
        let of_lanes = self.lanes.iter_mut().map(|lane| &mut lane.recorder);
        let of_transactions = self.transactional.iter_mut().map(|lane| &mut lane.recorder);
        let of_readers = self.readers.iter_mut().map(|reader| &mut reader.recorder);
        for recorder in of_lanes.chain(of_transactions).chain(of_readers) {
            history.append(recorder.take());
        }
        self.tally.add(&history, transactional::TOPIC);
        let anomalies = check(&history);
        ensure!(anomalies.is_empty(), "{}", explain(&anomalies));
        for (lane, offset) in self.transactional.iter_mut().zip(offsets) {
            lane.remember_offset(offset);
        }
        Ok(())
    }

    /// Forgets what only the lanes' own ledgers would look at.
    pub fn skip_verification(&mut self) {
        self.lanes.iter_mut().for_each(Lane::skip_verification);
    }

    /// The clock that a crash is noted with.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Records that were acknowledged to lanes without transactions.
    pub fn acknowledged(&self) -> u64 {
        let lanes = self.lanes.iter();
        lanes.map(|lane| lane.acknowledged_records).sum()
    }

    /// What became of the transactions of all rounds.
    pub fn tally(&self) -> Tally {
        let lanes = self.transactional.iter();
        Tally {
            fenced: lanes.map(|lane| lane.fenced_spoke).sum(),
            ..self.tally
        }
    }
}

/// How long clients wait in a round in which the broker is paused.
pub fn short_patience(seed: &mut Seed) -> Patience {
    Some(Duration::from_millis(seed.between(20, 200)))
}
