//! What is known of transactions: each one's outcome, as answers and readers have told it.
//!
//! A transaction begins **open**. From the first request to commit it on its outcome may be a commit; an answer, a marker, or
//! what a reader was shown or spared **decides** it, for every partition and every group at once and for good: whatever says
//! otherwise later is a violation.

use std::collections::{BTreeMap, BTreeSet};

use super::Position;
use super::transactional::Client;
use crate::wire::{Content, Read};

/// Names a transaction among all of a run.
pub type Key = usize;

#[derive(Clone, Copy, Debug, Default)]
struct Transaction {
    /// Whether it was committed, once that is certain.
    decided: Option<bool>,
    /// Requests to commit it that were not refused for certain.
    commits: u32,
}

/// Every transaction of a run, and who makes them.
#[derive(Debug, Default)]
pub struct Transactions {
    all: Vec<Transaction>,
    /// By the numbers of their records.
    by_number: BTreeMap<u64, Key>,
    pub clients: Vec<Client>,
    pub ledger: Ledger,
}

impl Transactions {
    pub fn begin(&mut self) -> Key {
        self.all.push(Transaction::default());
        self.all.len() - 1
    }

    /// Records are sent as part of a transaction.
    pub fn send(&mut self, key: Key, numbers: &[u64]) {
        self.by_number
            .extend(numbers.iter().map(|number| (*number, key)));
    }

    /// A commit is asked for.
    pub fn ask_commit(&mut self, key: Key) {
        self.all[key].commits += 1;
    }

    /// A request to commit was refused for certain.
    pub fn refuse_commit(&mut self, key: Key) {
        self.all[key].commits -= 1;
    }

    /// It is certain that nobody can go on with it: aborted, when no commit was ever accepted.
    pub fn end(&mut self, key: Key) -> Result<(), String> {
        let transaction = self.all[key];
        match transaction.decided.is_none() && transaction.commits == 0 {
            true => self.decide(key, false),
            false => Ok(()),
        }
    }

    /// An answer or a reader tells the outcome.
    pub fn decide(&mut self, key: Key, is_commit: bool) -> Result<(), String> {
        let transaction = &mut self.all[key];
        match transaction.decided {
            Some(decided) if decided != is_commit => Err(format!(
                "transaction {key} is {}, and was {} before",
                outcome(is_commit),
                outcome(decided)
            )),
            None if is_commit && transaction.commits == 0 => Err(format!(
                "transaction {key} is committed, and nobody asked for that"
            )),
            _ => {
                transaction.decided = Some(is_commit);
                Ok(())
            }
        }
    }

    /// Whether it was committed, once that is certain.
    pub fn decided(&self, key: Key) -> Option<bool> {
        self.all[key].decided
    }

    /// A reader of what is committed was shown some records, and spared the others.
    pub fn observe(&mut self, seen: &Committed) -> Result<(), String> {
        for (numbers, is_commit) in [(&seen.shown, true), (&seen.spared, false)] {
            for number in numbers {
                let Some(key) = self.by_number.get(number).copied() else {
                    continue;
                };
                self.decide(key, is_commit)
                    .map_err(|error| format!("record {number}: {error}"))?;
            }
        }
        Ok(())
    }

    /// Everything of a partition was read, with its markers: whether each transactional record was committed, by offset. What
    /// has no marker yet is missing. `decides`: the markers are to be believed.
    pub fn observe_markers(
        &mut self,
        reads: &[Read],
        decides: bool,
    ) -> Result<BTreeMap<i64, bool>, String> {
        let mut open: BTreeMap<i64, Vec<(i64, u64)>> = BTreeMap::new();
        let mut outcomes = BTreeMap::new();
        for read in reads {
            let Some(producer_id) = read.transaction else {
                continue;
            };
            match read.content {
                Content::Record(number) => open
                    .entry(producer_id)
                    .or_default()
                    .push((read.offset, number)),
                Content::Marker { is_commit } => {
                    for (offset, number) in open.remove(&producer_id).unwrap_or_default() {
                        outcomes.insert(offset, is_commit);
                        if let (true, Some(key)) = (decides, self.by_number.get(&number)) {
                            self.decide(*key, is_commit).map_err(|error| {
                                format!("the marker at offset {}: {error}", read.offset)
                            })?;
                        }
                    }
                }
            }
        }
        Ok(outcomes)
    }

    /// What was not durable may be gone: the broker may abort what it lost part of. `also_markers`: of what counted as durable,
    /// too.
    pub fn lose_power(&mut self, also_markers: bool) {
        for client in &mut self.clients {
            client.live.may_be_fenced |= also_markers;
            if let Some(open) = &mut client.live.open {
                open.may_be_lost = true;
            }
        }
    }
}

fn outcome(is_commit: bool) -> &'static str {
    match is_commit {
        true => "committed",
        false => "aborted",
    }
}

/// A fetch as a reader of what is committed takes it apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// Numbers of the records that it gives its caller.
    pub shown: BTreeSet<u64>,
    /// Of those that it passes over.
    pub spared: BTreeSet<u64>,
}

impl Committed {
    pub fn extend(&mut self, more: Self) {
        self.shown.extend(more.shown);
        self.spared.extend(more.spared);
    }

    /// Filters as Kafka's consumer does. `aborted`: producer ids with first offsets.
    pub fn of(reads: &[Read], mut aborted: Vec<(i64, i64)>) -> Self {
        aborted.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        let mut passing: BTreeSet<i64> = BTreeSet::new();
        let mut seen = Self::default();
        for read in reads {
            while let Some((producer_id, first)) = aborted.last().copied()
                && first <= read.offset
            {
                passing.insert(producer_id);
                aborted.pop();
            }
            let is_passed = read
                .transaction
                .is_some_and(|producer_id| passing.contains(&producer_id));
            match (read.content, read.transaction) {
                (Content::Marker { is_commit: false }, Some(producer_id)) => {
                    passing.remove(&producer_id);
                }
                (Content::Marker { .. }, _) => {}
                (Content::Record(number), _) if is_passed => {
                    seen.spared.insert(number);
                }
                (Content::Record(number), _) => {
                    seen.shown.insert(number);
                }
            }
        }
        seen
    }
}

/// An offset that was committed in a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    key: Key,
    offset: i64,
    is_acknowledged: bool,
}

/// The positions that groups commit in transactions, each written by one transactional id alone.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Position, Vec<Entry>>,
}

impl Ledger {
    pub fn ask(&mut self, position: &Position, key: Key, offset: i64) {
        let entries = self.entries.entry(position.clone()).or_default();
        entries.push(Entry {
            key,
            offset,
            is_acknowledged: false,
        });
    }

    pub fn acknowledge(&mut self, position: &Position, offset: i64) {
        let entries = self.entries.entry(position.clone()).or_default();
        for entry in entries.iter_mut().filter(|entry| entry.offset == offset) {
            entry.is_acknowledged = true;
        }
    }

    /// Every position that somebody committed.
    pub fn positions(&self) -> Vec<Position> {
        self.entries.keys().cloned().collect()
    }

    /// The offsets that were acknowledged by now.
    pub fn acknowledged(&self, position: &Position) -> BTreeSet<i64> {
        let entries = self.entries.get(position).into_iter().flatten();
        let acknowledged = entries.filter(|entry| entry.is_acknowledged);
        acknowledged.map(|entry| entry.offset).collect()
    }

    pub fn forget_topic(&mut self, name: &str) {
        self.entries.retain(|position, _| position.topic != name);
    }
}

impl Transactions {
    /// Checks what a group was told (−1 for nothing). `acknowledged`: the offsets that were acknowledged when it asked.
    /// `is_stable`: no transaction that is open may change it.
    pub fn check_position(
        &mut self,
        position: &Position,
        found: i64,
        acknowledged: &BTreeSet<i64>,
        is_stable: bool,
    ) -> Result<(), String> {
        let entries = self.ledger.entries.get(position).cloned();
        for entry in entries.unwrap_or_default().iter().rev() {
            let told = |error| format!("{position:?} is {found}: {error}");
            if entry.offset == found {
                return self.decide(entry.key, true).map_err(told);
            }
            if is_stable && acknowledged.contains(&entry.offset) {
                // It would have overtaken what was found.
                self.decide(entry.key, false).map_err(told)?;
            }
        }
        match found {
            -1 => Ok(()),
            found => Err(format!("{position:?} is {found}, which nobody committed")),
        }
    }
}
