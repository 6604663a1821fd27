//! What became of the transactions of a run, counted from its histories: a run that is to say something about transactions has
//! some of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidegate_checker::{Action, End, History, Isolation, Outcome, TransactionId, Value};

/// Transactions by what their producer was told, and records of them by who read them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub committed: u64,
    pub aborted: u64,
    /// The end was asked for, and the answer never came.
    pub unknown: u64,
    /// Of the unknown: readers of committed records saw it.
    pub turned_out_committed: u64,
    /// Nobody asked for an end: the next holder of the transactional id aborted it.
    pub left_open: u64,
    /// Times that an older holder spoke, and was refused.
    pub fenced: u64,
    /// Records of transactions that readers of this isolation saw, each counted once.
    pub read_committed: u64,
    pub read_uncommitted: u64,
}

/// One transaction in a history.
#[derive(Debug, Default)]
struct Seen {
    values: Vec<Value>,
    end: Option<(End, Outcome)>,
}

impl Tally {
    /// Counts a round's transactions. Only records of `topic` are of transactions.
    pub fn add(&mut self, history: &History, topic: &str) {
        let mut transactions: BTreeMap<TransactionId, Seen> = BTreeMap::new();
        let (mut committed, mut uncommitted) = (BTreeSet::new(), BTreeSet::new());
        for operation in &history.operations {
            match &operation.action {
                Action::Send(send) => {
                    if let Some(id) = send.transaction {
                        let seen = transactions.entry(id).or_default();
                        seen.values.extend(&send.values);
                    }
                }
                Action::End(id, end) => {
                    let seen = transactions.entry(*id).or_default();
                    seen.end = Some((*end, operation.outcome));
                }
                Action::Poll(poll) if &*poll.partition.topic == topic => {
                    let read = match poll.isolation {
                        Isolation::ReadCommitted => &mut committed,
                        Isolation::ReadUncommitted => &mut uncommitted,
                    };
                    read.extend(poll.records.iter().map(|(_, value)| *value));
                }
                _ => {}
            }
        }
        for seen in transactions.values() {
            match seen.end {
                Some((End::Commit, Outcome::Ok)) => self.committed += 1,
                Some((End::Abort, Outcome::Ok)) => self.aborted += 1,
                Some(_) => {
                    self.unknown += 1;
                    let is_read = seen.values.iter().any(|value| committed.contains(value));
                    self.turned_out_committed += u64::from(is_read);
                }
                None => self.left_open += 1,
            }
        }
        self.read_committed += committed.len() as u64;
        self.read_uncommitted += uncommitted.len() as u64;
    }

    /// # Panics
    /// When there is a kind of transaction that no round had, so that the run says nothing about it.
    pub fn check(&self) {
        assert!(self.committed > 0, "no transaction was committed: {self}");
        assert!(self.aborted > 0, "no transaction was aborted: {self}");
        assert!(
            self.unknown + self.left_open > 0,
            "no crash met an open transaction: {self}"
        );
        assert!(
            self.read_committed > 0,
            "nobody read what was committed: {self}"
        );
        assert!(
            self.read_uncommitted > self.read_committed,
            "nobody read what was not committed: {self}"
        );
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            committed,
            aborted,
            unknown,
            turned_out_committed,
            left_open,
            fenced,
            read_committed,
            read_uncommitted,
        } = self;
        write!(
            formatter,
            "transactions: {committed} committed, {aborted} aborted, {unknown} unknown ({turned_out_committed} of them turned out \
            committed), {left_open} left open, {fenced} older holders refused; {read_committed} of their records read committed, \
            {read_uncommitted} uncommitted"
        )
    }
}

#[cfg(test)]
mod tests {
    use tidegate_checker::{Partition, Poll, Send, Survives};

    use super::*;

    const TOPIC: &str = "transactional";

    fn send(id: TransactionId) -> Action {
        Action::Send(Send {
            partition: Partition::new(TOPIC, 0),
            values: vec![id],
            base_offset: None,
            survives: Survives::PowerLoss,
            idempotent: true,
            transaction: Some(id),
        })
    }

    fn poll(isolation: Isolation, values: &[Value]) -> Action {
        Action::Poll(Poll {
            partition: Partition::new(TOPIC, 0),
            isolation,
            session: 0,
            from: 0,
            records: values.iter().map(|value| (0, *value)).collect(),
            next: 9,
        })
    }

    #[test]
    fn transactions_are_counted_by_what_their_producer_was_told() {
        let mut history = History::default();
        let mut note = |action, outcome| {
            let operation = history.invoke(1, 0, action);
            history.complete(operation, 1, outcome);
        };
        for id in 1..=5 {
            note(send(id), Outcome::Ok);
        }
        note(Action::End(1, End::Commit), Outcome::Ok);
        note(Action::End(2, End::Abort), Outcome::Ok);
        note(Action::End(3, End::Commit), Outcome::Info);
        note(Action::End(4, End::Commit), Outcome::Info);
        for _ in 0..2 {
            note(poll(Isolation::ReadCommitted, &[1, 3]), Outcome::Ok);
            note(
                poll(Isolation::ReadUncommitted, &[1, 2, 3, 4, 5]),
                Outcome::Ok,
            );
        }
        let mut tally = Tally::default();
        tally.add(&history, TOPIC);
        let expected = Tally {
            committed: 1,
            aborted: 1,
            unknown: 2,
            turned_out_committed: 1,
            left_open: 1,
            fenced: 0,
            read_committed: 2,
            read_uncommitted: 5,
        };
        assert_eq!(tally, expected);
        tally.check();
    }

    #[test]
    #[should_panic(expected = "no transaction was committed")]
    fn a_run_without_a_committed_transaction_fails() {
        let aborted = Tally {
            aborted: 1,
            ..Tally::default()
        };
        aborted.check();
    }
}
