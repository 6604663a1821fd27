//! A history, sorted by what the checks ask for: each partition's writes and reads, each transaction's end, the epochs.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{
    Action, Crash, End, History, Isolation, Offset, Operation, Outcome, Partition, Poll, Send,
    Survives, Time, TransactionId, Value,
};

/// Counts the losses of power before it.
pub type Epoch = usize;

/// One value, and everything that was said and seen of it.
#[derive(Clone, Debug)]
pub struct Write {
    pub value: Value,
    pub process: u32,
    pub first_sent: Time,
    pub last_epoch: Epoch,
    pub attempts: usize,
    /// The first acknowledgement.
    pub acknowledged: Option<(Time, Epoch)>,
    /// Every attempt was refused for good.
    pub refused: bool,
    pub survives: Survives,
    pub idempotent: bool,
    pub transaction: Option<TransactionId>,
    pub promised: BTreeSet<(Epoch, Offset)>,
    pub seen: BTreeSet<(Epoch, Offset)>,
}

impl Write {
    /// Promised and seen offsets of one epoch.
    pub fn offsets(&self, epoch: Epoch) -> BTreeSet<Offset> {
        let all = self.promised.iter().chain(&self.seen);
        all.filter(|(of, _)| *of == epoch)
            .map(|(_, offset)| *offset)
            .collect()
    }
}

/// A completed poll.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    pub process: u32,
    pub invoked: Time,
    pub completed: Time,
    pub epoch: Epoch,
    pub poll: &'a Poll,
}

impl Read<'_> {
    pub fn committed_only(&self) -> bool {
        self.poll.isolation == Isolation::ReadCommitted
    }
}

/// What is known of one partition.
#[derive(Clone, Debug, Default)]
pub struct Log<'a> {
    pub writes: BTreeMap<Value, Write>,
    /// In the order of their beginning.
    pub reads: Vec<Read<'a>>,
    /// From when on what lies below an offset may be gone.
    trims: Vec<(Time, Offset)>,
}

impl Log<'_> {
    /// Whether a reader may miss this offset because old records were let go.
    pub fn trimmed(&self, offset: Offset, by: Time) -> bool {
        let mut trims = self.trims.iter();
        trims.any(|(from, start)| *from <= by && offset < *start)
    }
}

/// How a transaction ended, by what its producer was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Committed,
    /// Also when nobody ever asked to commit it.
    Aborted,
    Unknown,
}

/// A transaction.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    commit_asked: Option<Time>,
    /// When the commit was acknowledged.
    pub committed: Option<Time>,
    aborted: bool,
    commit_unknown: bool,
}

impl Transaction {
    const UNFINISHED: Self = Self {
        commit_asked: None,
        committed: None,
        aborted: false,
        commit_unknown: false,
    };

    pub fn ending(&self) -> Ending {
        match (self.committed, self.aborted) {
            (Some(_), _) => Ending::Committed,
            (None, true) => Ending::Aborted,
            (None, false) if self.commit_unknown => Ending::Unknown,
            (None, false) => Ending::Aborted,
        }
    }

    pub fn has_two_outcomes(&self) -> bool {
        self.committed.is_some() && self.aborted
    }

    /// When somebody first asked to commit it.
    pub fn asked(&self) -> Option<Time> {
        self.commit_asked
    }

    /// Whether somebody had asked to commit it by then.
    pub fn commit_asked_by(&self, time: Time) -> bool {
        self.commit_asked.is_some_and(|asked| asked <= time)
    }

    fn add(&mut self, operation: &Operation, end: End) {
        match (end, operation.outcome) {
            (End::Abort, Outcome::Ok) => self.aborted = true,
            (End::Abort, _) => {}
            (End::Commit, outcome) => {
                let earliest = self.commit_asked.unwrap_or(Time::MAX);
                self.commit_asked = Some(earliest.min(operation.invoked));
                let done = operation.completed.unwrap_or(operation.invoked);
                match outcome {
                    Outcome::Ok => {
                        self.committed = Some(self.committed.map_or(done, |at| at.min(done)));
                    }
                    Outcome::Info => self.commit_unknown = true,
                    Outcome::Fail => {}
                }
            }
        }
    }
}

/// The history, sorted.
#[derive(Debug)]
pub struct Index<'a> {
    pub history: &'a History,
    pub logs: BTreeMap<&'a Partition, Log<'a>>,
    transactions: BTreeMap<TransactionId, Transaction>,
    /// When the broker served again after each loss of power.
    losses: Vec<Time>,
    end: Time,
    /// Reads of values that were not written before: partition, offset, value, reader.
    pub unwritten: Vec<(&'a Partition, Offset, Value, u32, Time)>,
}

impl<'a> Index<'a> {
    pub fn of(history: &'a History) -> Self {
        let mut index = Self {
            history,
            logs: BTreeMap::new(),
            transactions: BTreeMap::new(),
            losses: losses(history),
            end: history
                .operations
                .iter()
                .map(last_moment)
                .max()
                .unwrap_or(0),
            unwritten: Vec::new(),
        };
        for operation in &history.operations {
            match &operation.action {
                Action::Send(send) => index.add_send(operation, send),
                Action::Poll(poll) => index.add_poll(operation, poll),
                Action::End(id, end) => index.transaction_mut(*id).add(operation, *end),
                Action::Trim(partition, start) => {
                    let log = index.logs.entry(partition).or_default();
                    log.trims.push((operation.invoked, *start));
                }
                Action::CommitOffset(_) | Action::ReadOffset(_) | Action::Crash(_) => {}
            }
        }
        index.note_what_was_seen();
        index
    }

    /// The epoch in which something began.
    pub fn epoch(&self, time: Time) -> Epoch {
        self.losses.partition_point(|over| *over <= time)
    }

    pub fn epochs(&self) -> Epoch {
        self.losses.len() + 1
    }

    /// When the last operation was begun or ended.
    pub fn end(&self) -> Time {
        self.end
    }

    pub fn transactions(&self) -> impl Iterator<Item = (TransactionId, &Transaction)> {
        self.transactions.iter().map(|(id, found)| (*id, found))
    }

    /// What is known of a transaction's end; of one that nobody ended, that nobody did.
    pub fn transaction(&self, id: TransactionId) -> Transaction {
        let found = self.transactions.get(&id);
        found.copied().unwrap_or(Transaction::UNFINISHED)
    }

    fn transaction_mut(&mut self, id: TransactionId) -> &mut Transaction {
        let transactions = &mut self.transactions;
        transactions.entry(id).or_insert(Transaction::UNFINISHED)
    }

    fn add_send(&mut self, operation: &Operation, send: &'a Send) {
        let epoch = self.epoch(operation.invoked);
        if let Some(id) = send.transaction {
            self.transaction_mut(id);
        }
        let log = self.logs.entry(&send.partition).or_default();
        for (place, value) in send.values.iter().enumerate() {
            let write = log.writes.entry(*value).or_insert_with(|| Write {
                value: *value,
                process: operation.process,
                first_sent: operation.invoked,
                last_epoch: epoch,
                attempts: 0,
                acknowledged: None,
                refused: true,
                survives: send.survives,
                idempotent: send.idempotent,
                transaction: send.transaction,
                promised: BTreeSet::new(),
                seen: BTreeSet::new(),
            });
            write.attempts += 1;
            write.first_sent = write.first_sent.min(operation.invoked);
            write.last_epoch = write.last_epoch.max(epoch);
            write.refused &= operation.outcome == Outcome::Fail;
            if operation.outcome != Outcome::Ok {
                continue;
            }
            let at = (operation.completed.unwrap_or(operation.invoked), epoch);
            write.acknowledged = Some(write.acknowledged.map_or(at, |first| first.min(at)));
            if let Some(base) = send.base_offset {
                write.promised.insert((epoch, base + place as Offset));
            }
        }
    }

    fn add_poll(&mut self, operation: &'a Operation, poll: &'a Poll) {
        let (Some(completed), Outcome::Ok) = (operation.completed, operation.outcome) else {
            return;
        };
        let read = Read {
            process: operation.process,
            invoked: operation.invoked,
            completed,
            epoch: self.epoch(operation.invoked),
            poll,
        };
        let log = self.logs.entry(&poll.partition).or_default();
        log.reads.push(read);
    }

    fn note_what_was_seen(&mut self) {
        for (partition, log) in &mut self.logs {
            log.reads.sort_by_key(|read| read.invoked);
            for read in &log.reads {
                for (offset, value) in &read.poll.records {
                    let write = log.writes.get_mut(value);
                    if let Some(write) = write.filter(|write| write.first_sent <= read.completed) {
                        write.seen.insert((read.epoch, *offset));
                    } else {
                        let found = (*partition, *offset, *value, read.process, read.completed);
                        self.unwritten.push(found);
                    }
                }
            }
        }
    }
}

fn last_moment(operation: &Operation) -> Time {
    operation.completed.unwrap_or(operation.invoked)
}

fn losses(history: &History) -> Vec<Time> {
    let lost = history.operations.iter().filter_map(|operation| {
        let of_power = operation.action == Action::Crash(Crash::PowerLoss);
        of_power.then_some(operation.completed.unwrap_or(operation.invoked))
    });
    let mut times: Vec<_> = lost.collect();
    times.sort_unstable();
    times
}
