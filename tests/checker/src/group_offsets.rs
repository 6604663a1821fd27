//! A group's offset is the last that was committed, alone or with a transaction that was.

use std::collections::BTreeMap;

use crate::anomaly::Anomaly;
use crate::history::{Action, Offset, Outcome, Partition, Time, TransactionId};
use crate::index::{Ending, Index};
use crate::isolation::Signs;

/// One request to commit an offset.
#[derive(Clone, Copy, Debug)]
struct Commit {
    offset: Offset,
    invoked: Time,
    /// When it was acknowledged by itself; with a transaction its end decides.
    done: Option<Time>,
    refused: bool,
    transaction: Option<TransactionId>,
}

/// One answer to what the group's offset is.
#[derive(Clone, Copy, Debug)]
struct Answer {
    offset: Option<Offset>,
    invoked: Time,
    completed: Time,
}

/// What happened to the offset of one group and partition.
#[derive(Clone, Debug, Default)]
struct Ledger {
    commits: Vec<Commit>,
    answers: Vec<Answer>,
}

type Ledgers<'a> = BTreeMap<(&'a str, &'a Partition), Ledger>;

pub fn check(index: &Index<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for ((group, partition), ledger) in &ledgers(index) {
        for answer in &ledger.answers {
            let found = judge(index, ledger, answer);
            anomalies.extend(found.map(|fault| fault.told(group, partition, answer)));
        }
    }
    anomalies
}

/// Whether a transaction was committed shows in the offsets too. Positions only rise, so a stable answer at or above
/// the transaction's offset tells nothing unless it is exactly that, and one below it tells that it is not committed.
pub fn add_signs(index: &Index<'_>, signs: &mut BTreeMap<TransactionId, Signs>) {
    for ((group, partition), ledger) in &ledgers(index) {
        for commit in &ledger.commits {
            let Some(id) = commit.transaction else {
                continue;
            };
            let what = || format!("offset {} of group {group} for {partition}", commit.offset);
            let exact = |answer: &Answer| answer.offset == Some(commit.offset);
            if ledger.answers.iter().any(exact) {
                signs.entry(id).or_default().seen.get_or_insert_with(what);
            }
            let Some(ended) = index.transaction(id).asked() else {
                continue;
            };
            // An answer that was asked for after the request to commit: stable, so it is decided.
            let below = |answer: &Answer| {
                answer.invoked > ended && answer.offset.is_none_or(|offset| offset < commit.offset)
            };
            if commit.done.is_some() && ledger.answers.iter().any(below) {
                signs
                    .entry(id)
                    .or_default()
                    .missing
                    .get_or_insert_with(what);
            }
        }
    }
}

fn ledgers<'a>(index: &Index<'a>) -> Ledgers<'a> {
    let mut ledgers = Ledgers::new();
    for operation in &index.history.operations {
        let completed = operation
            .completed
            .filter(|_| operation.outcome == Outcome::Ok);
        match &operation.action {
            Action::CommitOffset(commit) => {
                let key = (commit.group.as_ref(), &commit.partition);
                ledgers.entry(key).or_default().commits.push(Commit {
                    offset: commit.offset,
                    invoked: operation.invoked,
                    done: completed,
                    refused: operation.outcome == Outcome::Fail,
                    transaction: commit.transaction,
                });
            }
            Action::ReadOffset(read) => {
                let key = (read.group.as_ref(), &read.partition);
                let answer = completed.map(|completed| Answer {
                    offset: read.offset,
                    invoked: operation.invoked,
                    completed,
                });
                ledgers.entry(key).or_default().answers.extend(answer);
            }
            _ => {}
        }
    }
    ledgers
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug)]
enum Fault {
    NeverCommitted(Offset),
    Aborted(Offset, TransactionId),
    Lost(Offset),
}

impl Fault {
    fn told(self, group: &str, partition: &Partition, answer: &Answer) -> Anomaly {
        let (group, partition) = (group.to_owned(), partition.clone());
        match self {
            Self::NeverCommitted(offset) => Anomaly::OffsetNeverCommitted {
                group,
                partition,
                offset,
            },
            Self::Aborted(offset, transaction) => Anomaly::AbortedOffset {
                group,
                partition,
                offset,
                transaction,
            },
            Self::Lost(committed) => Anomaly::LostOffset {
                group,
                partition,
                committed,
                found: answer.offset,
            },
        }
    }
}

fn judge(index: &Index<'_>, ledger: &Ledger, answer: &Answer) -> Option<Fault> {
    let floor = ledger.commits.iter().filter(|commit| {
        let done = match commit.transaction {
            Some(id) => index
                .transaction(id)
                .committed
                .filter(|_| commit.done.is_some()),
            None => commit.done,
        };
        done.is_some_and(|done| done <= answer.invoked)
    });
    let floor = floor.map(|commit| commit.offset).max();
    if let Some(floor) = floor
        && answer.offset.is_none_or(|offset| offset < floor)
    {
        return Some(Fault::Lost(floor));
    }
    let offset = answer.offset?;
    let asked = ledger.commits.iter().filter(|commit| {
        commit.offset == offset && commit.invoked <= answer.completed && !commit.refused
    });
    let mut aborted = None;
    for commit in asked {
        match commit.transaction {
            Some(id) if index.transaction(id).ending() == Ending::Aborted => aborted = Some(id),
            _ => return None,
        }
    }
    Some(aborted.map_or(Fault::NeverCommitted(offset), |id| {
        Fault::Aborted(offset, id)
    }))
}
