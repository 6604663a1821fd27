//! What the simulated clients saw, as a history for the checker that the crash tests have too (`tidegate-checker`). It knows
//! nothing of the shadow: what one of them overlooks the other may find.
//!
//! - Every attempt to send and every read is an operation; one without an answer may have been done or not.
//! - Time counts operations' beginnings and ends: the simulator has one thread, so that their order is all there is to know.
//! - A failed call counts as a loss of power from then on, as the page cache is worth no more.
//!
//! Judged are the partitions that are there in the end, were neither compacted nor damaged, whose topic was never
//! `tidegate.durability=os`, and that no fault has stopped ([`crate::shadow::Shadow::judge`]). What lies below the offset
//! where a log begins in the end may be missing at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_checker::{
    Action, Anomaly, Crash, End, History, Isolation, Offset, OperationId, Outcome, Partition, Poll,
    Send, Survives, Time, check,
};

use crate::shadow::Target;
use crate::shadow::transaction::{Committed, Key};
use crate::wire::Read;

/// The process numbers that a history has.
const PLAIN: u32 = 0;
const READER: u32 = 1;
const BROKER: u32 = 2;
const FIRST_IDEMPOTENT: u32 = 100;
const FIRST_TRANSACTIONAL: u32 = 200;

/// Who sends a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// Somebody without an identity, once.
    Plain { acks: i16 },
    /// The idempotent producer of this place.
    Idempotent(usize),
    /// The transactional client of this place.
    Transactional(usize, Key),
    /// A former instance of the client of this place, which must be refused.
    Fenced(usize),
}

impl Sender {
    fn process(self) -> u32 {
        let place = |index: usize| u32::try_from(index).unwrap_or(0);
        match self {
            Self::Plain { .. } | Self::Fenced(_) => PLAIN,
            Self::Idempotent(index) => FIRST_IDEMPOTENT + place(index),
            Self::Transactional(index, _) => FIRST_TRANSACTIONAL + place(index),
        }
    }

    fn survives(self) -> Survives {
        match self {
            Self::Plain { acks } if acks != -1 => Survives::ProcessCrash,
            _ => Survives::PowerLoss,
        }
    }
}

/// The partition as the checker names it: topics of one name are told apart.
pub fn partition_of(target: &Target) -> Partition {
    let topic: Arc<str> = format!("{}#{}", target.topic, target.incarnation).into();
    Partition::new(topic, target.partition)
}

/// The operations of a run.
#[derive(Debug, Default)]
pub struct Recording {
    history: History,
    now: Time,
    /// Partitions that a fault had stopped when everything was last read.
    stopped: BTreeSet<Partition>,
    /// Batches that were answered and reads, of the partitions that were judged.
    pub judged: u64,
}

impl Recording {
    fn tick(&mut self) -> Time {
        self.now += 1;
        self.now
    }

    fn begin(&mut self, process: u32, action: Action) -> OperationId {
        let now = self.tick();
        self.history.invoke(process, now, action)
    }

    fn complete(&mut self, id: OperationId, outcome: Outcome) {
        let now = self.tick();
        self.history.complete(id, now, outcome);
    }

    /// A batch is sent, perhaps not for the first time.
    pub fn send(&mut self, sender: Sender, target: &Target, numbers: &[u64]) -> OperationId {
        let send = Send {
            partition: partition_of(target),
            values: numbers.to_vec(),
            base_offset: None,
            survives: sender.survives(),
            idempotent: !matches!(sender, Sender::Plain { .. }),
            transaction: match sender {
                Sender::Transactional(_, key) => Some(key as u64),
                _ => None,
            },
        };
        let id = self.begin(sender.process(), Action::Send(send));
        if matches!(sender, Sender::Fenced(_)) {
            self.complete(id, Outcome::Fail);
        }
        id
    }

    /// A batch was answered.
    pub fn acknowledge(&mut self, id: OperationId, base_offset: Offset) {
        if let Action::Send(send) = self.history.action_mut(id) {
            send.base_offset = Some(base_offset);
        }
        self.complete(id, Outcome::Ok);
    }

    /// A reader asks for what is at an offset and after it.
    pub fn ask(&mut self, target: &Target, isolation: Isolation, from: Offset) -> OperationId {
        let poll = Poll {
            partition: partition_of(target),
            isolation,
            session: self.now,
            from,
            records: Vec::new(),
            next: from,
        };
        self.begin(READER, Action::Poll(poll))
    }

    /// The reader was given these, and goes on at `next`. `shown`: of committed records those that it gives its caller.
    pub fn read(
        &mut self,
        id: OperationId,
        (records, shown): (&[Read], Option<&Committed>),
        next: Offset,
    ) {
        let taken = records.iter().filter_map(|read| {
            let number = read.number()?;
            let is_shown = shown.is_none_or(|seen| seen.shown.contains(&number));
            is_shown.then_some((read.offset, number))
        });
        if let Action::Poll(poll) = self.history.action_mut(id) {
            poll.records.extend(taken);
            poll.next = next;
        }
        self.complete(id, Outcome::Ok);
    }

    /// All that lies between two offsets was read while nobody wrote; markers may have come since `until` was asked for.
    pub fn look(
        &mut self,
        target: &Target,
        (from, until): (Offset, Offset),
        (records, shown): (&[Read], Option<&Committed>),
    ) {
        let isolation = match shown {
            Some(_) => Isolation::ReadCommitted,
            None => Isolation::ReadUncommitted,
        };
        let id = self.ask(target, isolation, from);
        let last = records.last().map_or(until, |last| last.offset + 1);
        self.read(id, (records, shown), until.max(last));
    }

    /// Whether a partition takes nothing because of a fault.
    pub fn note_stopped(&mut self, target: &Target, has_stopped: bool) {
        let partition = partition_of(target);
        match has_stopped {
            true => self.stopped.insert(partition),
            false => self.stopped.remove(&partition),
        };
    }

    /// The end of a transaction is asked for.
    pub fn end(&mut self, index: usize, key: Key, is_commit: bool) -> OperationId {
        let end = match is_commit {
            true => End::Commit,
            false => End::Abort,
        };
        let process = Sender::Transactional(index, key).process();
        self.begin(process, Action::End(key as u64, end))
    }

    /// It was done, or refused for certain.
    pub fn ended(&mut self, id: OperationId, is_done: bool) {
        let outcome = match is_done {
            true => Outcome::Ok,
            false => Outcome::Fail,
        };
        self.complete(id, outcome);
    }

    /// The broker has ended, and with it what was on its way.
    pub fn crash(&mut self, has_lost: bool) {
        let crash = match has_lost {
            true => Crash::PowerLoss,
            false => Crash::Process,
        };
        let id = self.begin(BROKER, Action::Crash(crash));
        self.complete(id, Outcome::Ok);
    }

    /// What no correct broker can have caused, in these partitions with the offsets at which they begin. `is_over`:
    /// everything was read to its end. The recording begins anew.
    pub fn judge(&mut self, starts: &BTreeMap<Partition, Offset>, is_over: bool) -> Vec<Anomaly> {
        let mut history = std::mem::take(&mut self.history);
        let is_judged = |partition: &Partition| {
            starts.contains_key(partition) && !self.stopped.contains(partition)
        };
        history
            .operations
            .retain(|operation| match &operation.action {
                Action::Send(send) => is_judged(&send.partition),
                Action::Poll(poll) => is_judged(&poll.partition),
                _ => true,
            });
        let done = history.operations.iter().filter(|operation| {
            let is_known = matches!(operation.action, Action::Send(_) | Action::Poll(_));
            is_known && operation.outcome == Outcome::Ok
        });
        self.judged += done.count() as u64;
        for (partition, start) in starts {
            let id = history.invoke(BROKER, 0, Action::Trim(partition.clone(), *start));
            history.complete(id, 0, Outcome::Ok);
        }
        let mut anomalies = check(&history);
        anomalies.retain(|anomaly| is_over || !matches!(anomaly, Anomaly::Unseen { .. }));
        anomalies
    }
}

#[cfg(test)]
mod tests;
