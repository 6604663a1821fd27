//! One run: everything that the seed determines, and what happens step by step.

use std::time::Duration;

use tidegate::env::Clock;
use tidegate::log::Work;

use crate::auditor::{self, Asker, Unanswered};
use crate::broker::Broker;
use crate::damage;
use crate::disk::{Crash, SimulatedDisk};
use crate::network::Network;
use crate::ops::{OPERATIONS, Surroundings};
use crate::outcomes;
use crate::random::Random;
use crate::shadow::Shadow;
use crate::trace::Trace;

/// When every run begins, in milliseconds since the Unix epoch.
const BEGINNING: i64 = 1_700_000_000_000;
/// Requests on their way at most.
const MAX_FLIGHTS: usize = 12;
/// Bits that flip between two lives, at most.
const FLIPS: u64 = 8;
/// Turns that the last requests may take.
const PATIENCE: u64 = 2000;

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// In order, or it did not start because of a fault that was injected.
    Stopped,
    Crashed(Crash),
    /// The run is over.
    Finished,
}

/// What this run's steps are like; each seed has its own.
#[derive(Clone, Copy, Debug)]
struct Mood {
    /// Steps of a thousand that end the life.
    ends: u64,
    breaks: u64,
    /// Steps of a thousand that make a call fail.
    faults: u64,
    /// Steps of a thousand that fill the disk.
    fills: u64,
    background: u64,
    /// Times of a hundred that this is a sync that somebody waits for.
    flushes: u64,
    /// As many of them at once at most.
    lanes: u64,
    retention: u64,
}

/// A whole run.
pub struct World {
    pub random: Random,
    pub clock: Clock,
    pub disk: SimulatedDisk,
    pub shadow: Shadow,
    pub trace: Trace,
    mood: Mood,
    weights: Vec<u64>,
    steps: u64,
    /// What the planned crash will be.
    planned: Option<Crash>,
    pub lives: u64,
}

impl World {
    pub fn new(seed: u64, steps: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let clock = Clock::manual(BEGINNING);
        let mood = Mood {
            ends: random.between(2, 20),
            breaks: random.below(40),
            faults: if random.percent(20) { 5 } else { 0 },
            fills: if random.percent(15) { 10 } else { 0 },
            background: random.between(50, 300),
            flushes: random.below(80),
            lanes: random.between(1, 4),
            retention: random.below(30),
        };
        let weights = OPERATIONS
            .iter()
            .map(|operation| match random.percent(15) {
                true => operation.weight / 8,
                false => operation.weight,
            })
            .collect();
        let disk = SimulatedDisk::new(random.fork(), clock.clone(), trace.prints());
        Self {
            random,
            clock,
            disk,
            shadow: Shadow::default(),
            trace,
            mood,
            weights,
            steps,
            planned: None,
            lives: 0,
        }
    }

    fn say(&mut self, line: impl Into<String>) {
        let line = format!("{:>5} {}", self.steps, line.into());
        self.trace.line(line);
    }

    /// Bits flip on the disk while the broker is down.
    pub fn flip_bits(&mut self) {
        for _ in 0..self.random.below(FLIPS) {
            let flipped = damage::flip(&self.disk, &mut self.shadow, &mut self.random);
            if let Some(line) = flipped {
                self.say(line);
            }
        }
    }

    /// One life of the broker, from its start to its end.
    pub async fn live(&mut self) -> Result<End, String> {
        self.lives += 1;
        self.disk.set_room(None);
        self.planned = None;
        if self.lives > 1 && self.steps > 0 && self.random.percent(15) {
            self.plan_crash(80);
        }
        self.disk.take_fault();
        let broker = match Broker::start(&self.disk, &self.clock) {
            Ok(broker) => broker,
            Err(_) if self.disk.has_crashed() => return Ok(self.crashed()),
            Err(error) if self.disk.take_fault() => {
                self.say(format!("the broker does not start: {error}"));
                return Ok(End::Stopped);
            }
            Err(error) => return Err(format!("the broker does not start: {error}")),
        };
        let hash = self.disk.hash();
        self.say(format!("life {} begins; disk {hash:016x}", self.lives));
        if !self.audit(&broker).await? {
            return Ok(self.crashed());
        }
        let mut network = Network::default();
        let end = self.work(&broker, &mut network).await;
        let broken = network.break_all(&mut self.shadow);
        let end = end?;
        broken?;
        if end == End::Stopped {
            broker.services().logs.shutdown();
            if self.disk.has_crashed() {
                return Ok(self.crashed());
            }
        }
        Ok(end)
    }

    /// False when the process ended meanwhile.
    async fn audit(&mut self, broker: &Broker) -> Result<bool, String> {
        let asker = Asker {
            broker,
            disk: &self.disk,
        };
        let now = self.clock.now_ms();
        let outcome = auditor::audit(asker, &mut self.shadow, now).await;
        let outcome = match outcome {
            Ok(()) if self.steps == 0 => last_look(asker, &mut self.shadow, now).await,
            outcome => outcome,
        };
        match outcome {
            Ok(()) => Ok(!self.disk.has_crashed()),
            Err(_) if self.disk.has_crashed() => Ok(false),
            Err(Unanswered::Crashed) => Ok(false),
            Err(Unanswered::Violation(message)) => Err(format!("audit: {message}")),
        }
    }

    fn plan_crash(&mut self, within: u64) {
        let crash = match self.random.percent(60) {
            true => Crash::Power,
            false => Crash::Process,
        };
        let calls = self.random.below(within);
        self.planned = Some(crash);
        self.disk.plan_crash(calls);
        self.say(format!("{crash:?} crash within {calls} calls"));
    }

    fn crash(&mut self, crash: Crash) {
        self.planned = Some(crash);
        self.disk.crash();
    }

    fn crashed(&mut self) -> End {
        let crash = self.planned.take().unwrap_or(Crash::Process);
        self.say(format!("{crash:?} crash"));
        End::Crashed(crash)
    }

    async fn work(&mut self, broker: &Broker, network: &mut Network) -> Result<End, String> {
        if self.steps == 0 {
            return Ok(End::Finished);
        }
        loop {
            if self.disk.has_crashed() {
                return Ok(self.crashed());
            }
            if self.steps == 0 {
                return self.come_to_rest(broker, network).await;
            }
            self.steps -= 1;
            let outcome = self.turn(broker, network).await;
            if self.disk.has_crashed() {
                continue;
            }
            if let Some(end) = outcome? {
                return Ok(end);
            }
        }
    }

    async fn turn(
        &mut self,
        broker: &Broker,
        network: &mut Network,
    ) -> Result<Option<End>, String> {
        let end = self.step(broker, network).await?;
        tokio::task::yield_now().await;
        network.poll().await?;
        Ok(end)
    }

    async fn step(
        &mut self,
        broker: &Broker,
        network: &mut Network,
    ) -> Result<Option<End>, String> {
        self.shadow.now_ms = self.clock.now_ms();
        let mood = self.mood;
        let mut draw = self.random.below(1000);
        let mut is = |chance: u64| {
            let hit = draw < chance;
            draw = draw.wrapping_sub(chance);
            hit
        };
        if is(mood.ends) {
            return Ok(self.end_life());
        } else if is(mood.breaks) {
            let lines = network.lines();
            if let Some(line) = self.random.pick(&lines).copied() {
                self.say(format!("line {line} breaks"));
                network.break_line(&mut self.shadow, line)?;
            }
        } else if is(mood.faults) {
            let calls = self.random.below(40);
            self.disk.plan_fault(calls);
            self.shadow.had_fault = true;
            self.shadow.may_stop = true;
            self.say(format!("a call fails within {calls}"));
        } else if is(mood.fills) {
            let room = match self.random.percent(50) {
                true => Some(self.random.below(30_000)),
                false => None,
            };
            self.shadow.had_fault = true;
            self.disk.set_room(room);
            self.say(format!("the disk has room for {room:?}"));
        } else if is(mood.background) {
            let (works, times) = match self.random.percent(mood.flushes) {
                true => (&[Work::Flush][..], self.random.between(1, mood.lanes)),
                false => (&Work::ALL[..], 1),
            };
            for _ in 0..times {
                let work = self.random.pick(works).copied();
                if let Some(work) = work.filter(|work| broker.step(*work)) {
                    self.say(format!("{work:?}"));
                }
            }
        } else if is(mood.retention) {
            self.say("retention");
            broker.services().logs.enforce_retention();
        } else if is(60) {
            self.advance().await;
        } else if is(200) || network.len() >= MAX_FLIGHTS {
            self.deliver(network)?;
        } else {
            self.issue(broker, network).await?;
        }
        Ok(None)
    }

    fn end_life(&mut self) -> Option<End> {
        match self.random.below(10) {
            0..=1 => {
                self.say("the broker is stopped");
                Some(End::Stopped)
            }
            2..=4 => {
                let crash = match self.random.percent(50) {
                    true => Crash::Power,
                    false => Crash::Process,
                };
                self.crash(crash);
                None
            }
            _ => {
                self.plan_crash(60);
                None
            }
        }
    }

    async fn advance(&mut self) {
        let milliseconds = match self.random.below(10) {
            0 if self.random.percent(30) => self.random.below(7_200_000),
            0 => self.random.below(20_000),
            1..=3 => self.random.below(1000),
            _ => self.random.below(20),
        };
        self.say(format!("{milliseconds} ms pass"));
        self.clock.advance(i64::try_from(milliseconds).unwrap_or(0));
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }

    fn deliver(&mut self, network: &mut Network) -> Result<bool, String> {
        let random = &mut self.random;
        let delivered = network.deliver(&mut self.shadow, |count| random.index(count))?;
        let came = delivered.is_some();
        if let Some(label) = delivered {
            self.say(format!("answered: {label}"));
        }
        Ok(came)
    }

    async fn issue(&mut self, broker: &Broker, network: &mut Network) -> Result<(), String> {
        let total: u64 = self.weights.iter().sum();
        let mut draw = self.random.below(total);
        let chosen = self.weights.iter().position(|weight| {
            let hit = draw < *weight;
            draw = draw.wrapping_sub(*weight);
            hit
        });
        let Some(operation) = chosen.and_then(|place| OPERATIONS.get(place)) else {
            return Ok(());
        };
        let mut around = Surroundings {
            shadow: &mut self.shadow,
            random: &mut self.random,
            now_ms: self.clock.now_ms(),
        };
        if let Some(request) = (operation.issue)(&mut around) {
            let label = format!("[{}] {}", request.line, request.label);
            self.say(label);
            network.send(broker, &mut self.shadow, request).await?;
        }
        Ok(())
    }

    /// No transaction stays open without its client; false when the process ended meanwhile.
    async fn transactions_end(&mut self, broker: &Broker) -> Result<bool, String> {
        let asker = Asker {
            broker,
            disk: &self.disk,
        };
        match outcomes::await_end(asker, &self.shadow).await {
            _ if self.disk.has_crashed() => Ok(false),
            Err(Unanswered::Violation(message)) => Err(format!("at rest: {message}")),
            _ => Ok(true),
        }
    }

    /// Lets everything that is on its way come to its end: nothing may hang for ever.
    async fn come_to_rest(
        &mut self,
        broker: &Broker,
        network: &mut Network,
    ) -> Result<End, String> {
        self.disk.set_room(None);
        for _ in 0..PATIENCE {
            if self.disk.has_crashed() {
                return Ok(self.crashed());
            }
            for work in Work::ALL {
                while broker.step(work) {}
            }
            tokio::time::advance(Duration::from_millis(5)).await;
            let polled = network.poll().await;
            if self.disk.has_crashed() {
                continue;
            }
            polled?;
            while self.deliver(network)? {}
            if network.is_empty() {
                if !self.transactions_end(broker).await? {
                    return Ok(self.crashed());
                }
                match self.random.below(3) {
                    0 => return Ok(End::Stopped),
                    1 => self.crash(Crash::Process),
                    _ => self.crash(Crash::Power),
                }
            }
        }
        Err("requests hang although nothing is in their way".into())
    }
}

/// What has to come right when everybody has gone.
async fn last_look(asker: Asker<'_>, shadow: &mut Shadow, now_ms: i64) -> Result<(), Unanswered> {
    auditor::probe(asker, shadow, now_ms).await?;
    outcomes::await_end(asker, shadow).await?;
    shadow.now_ms = asker.broker.services().clock.now_ms();
    auditor::audit(asker, shadow, shadow.now_ms).await
}
