//! What can be wrong with a history, and how it is told.

use std::fmt;

use crate::history::{Offset, Partition, Time, TransactionId, Value};

/// How many anomalies [`explain`] spells out: one defect shows itself in many records.
const EXPLAINED: usize = 20;

/// Something that a correct broker cannot have caused. Processes are named by their numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Anomaly {
    /// A reader went past an acknowledged record, or one that was shown before, and nobody has seen it since.
    Lost {
        partition: Partition,
        value: Value,
        offset: Offset,
        reader: u32,
        at: Time,
    },
    /// A reader went past a record that another reader has seen.
    Skipped {
        partition: Partition,
        value: Value,
        offset: Offset,
        reader: u32,
        at: Time,
    },
    /// An acknowledged record that no reader ever saw, although none went past it.
    Unseen {
        partition: Partition,
        value: Value,
        offset: Option<Offset>,
        writer: u32,
    },
    /// A value stands at more offsets than it can have been written to.
    Duplicate {
        partition: Partition,
        value: Value,
        offsets: Vec<Offset>,
    },
    /// A value was promised or seen at one offset, and found at another.
    Misplaced {
        partition: Partition,
        value: Value,
        expected: Offset,
        found: Offset,
    },
    /// One offset had several values, with no loss of power between.
    InconsistentOffset {
        partition: Partition,
        offset: Offset,
        values: Vec<Value>,
    },
    /// A value was read that nobody had sent by then.
    NeverSent {
        partition: Partition,
        value: Value,
        offset: Offset,
        reader: u32,
        at: Time,
    },
    /// A value was read whose write the broker had refused (G1a).
    RefusedRead {
        partition: Partition,
        value: Value,
        offset: Offset,
    },
    /// The later of two writes stands first, although the first was acknowledged before the later was sent, or one
    /// idempotent producer sent them in this order. `also` is a partition where the two transactions stand in the right
    /// order: together a write cycle (G0).
    WriteCycle {
        partition: Partition,
        earlier: Value,
        earlier_offset: Offset,
        later: Value,
        later_offset: Offset,
        also: Option<Partition>,
    },
    /// A consumer was given an offset that it had already passed.
    OffsetBackwards {
        partition: Partition,
        reader: u32,
        position: Offset,
        offset: Offset,
    },
    /// A consumer that asked for one offset was moved past others without a word.
    PositionJumped {
        partition: Partition,
        reader: u32,
        position: Offset,
        from: Offset,
    },
    /// A `read_committed` consumer saw a record of a transaction that was aborted, or that nobody asked to commit (G1a).
    AbortedRead {
        partition: Partition,
        value: Value,
        offset: Offset,
        transaction: TransactionId,
        reader: u32,
    },
    /// A `read_committed` consumer saw a record of a transaction before anybody asked to commit it (G1b).
    IntermediateRead {
        partition: Partition,
        value: Value,
        offset: Offset,
        transaction: TransactionId,
        reader: u32,
    },
    /// Some of a transaction was seen as committed, and some was not.
    PartialTransaction {
        transaction: TransactionId,
        seen: String,
        missing: String,
    },
    /// A transaction was acknowledged as committed and as aborted.
    TwoOutcomes { transaction: TransactionId },
    /// A group has an offset that nobody committed by then.
    OffsetNeverCommitted {
        group: String,
        partition: Partition,
        offset: Offset,
    },
    /// A group has an offset that was committed with a transaction that was aborted.
    AbortedOffset {
        group: String,
        partition: Partition,
        offset: Offset,
        transaction: TransactionId,
    },
    /// A group has an older offset than one whose commit was acknowledged, or none.
    LostOffset {
        group: String,
        partition: Partition,
        committed: Offset,
        found: Option<Offset>,
    },
}

/// A time as seconds.
fn seconds(time: Time) -> String {
    format!("{:.6} s", time as f64 / 1e9)
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { .. }
            | Self::Skipped { .. }
            | Self::Unseen { .. }
            | Self::Duplicate { .. }
            | Self::Misplaced { .. }
            | Self::InconsistentOffset { .. } => self.tell_of_record(f),
            Self::NeverSent { .. }
            | Self::RefusedRead { .. }
            | Self::WriteCycle { .. }
            | Self::OffsetBackwards { .. }
            | Self::PositionJumped { .. } => self.tell_of_order(f),
            Self::AbortedRead { .. }
            | Self::IntermediateRead { .. }
            | Self::PartialTransaction { .. }
            | Self::TwoOutcomes { .. } => self.tell_of_transaction(f),
            Self::OffsetNeverCommitted { .. }
            | Self::AbortedOffset { .. }
            | Self::LostOffset { .. } => self.tell_of_group(f),
        }
    }
}

impl Anomaly {
    #[rustfmt::skip]
    fn tell_of_record(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { partition, value, offset, reader, at } => write!(
                f, "lost: {partition} value {value}, promised or shown at offset {offset}; process {reader} read past it at {} \
                and nobody has seen it since", seconds(*at)),
            Self::Skipped { partition, value, offset, reader, at } => write!(
                f, "skipped: {partition} value {value} at offset {offset}; process {reader} read past it at {} without it",
                seconds(*at)),
            Self::Unseen { partition, value, offset, writer } => write!(
                f, "unseen: {partition} value {value}, acknowledged to process {writer} (offset {offset:?}), was never read"),
            Self::Duplicate { partition, value, offsets } => write!(
                f, "duplicate: {partition} value {value} stands at offsets {offsets:?}"),
            Self::Misplaced { partition, value, expected, found } => write!(
                f, "misplaced: {partition} value {value} belongs at offset {expected}, is at {found}"),
            Self::InconsistentOffset { partition, offset, values } => write!(
                f, "inconsistent offset: {partition} offset {offset} has values {values:?}"),
            _ => Ok(()),
        }
    }

    #[rustfmt::skip]
    fn tell_of_order(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverSent { partition, value, offset, reader, at } => write!(
                f, "never sent: {partition} value {value} at offset {offset}, read by process {reader} at {}", seconds(*at)),
            Self::RefusedRead { partition, value, offset } => write!(
                f, "refused write read (G1a): {partition} value {value} at offset {offset}"),
            Self::WriteCycle { partition, earlier, earlier_offset, later, later_offset, also } => {
                write!(f, "write cycle (G0): in {partition} value {later} at offset {later_offset} stands before value {earlier} \
                    at offset {earlier_offset}, which was written first")?;
                also.as_ref().map_or(Ok(()), |also| write!(f, "; in {also} they stand in the right order"))
            }
            Self::OffsetBackwards { partition, reader, position, offset } => write!(
                f, "backwards: {partition} process {reader} stood at {position} and was given offset {offset}"),
            Self::PositionJumped { partition, reader, position, from } => write!(
                f, "jumped: {partition} process {reader} stood at {position} and went on at {from}"),
            _ => Ok(()),
        }
    }

    #[rustfmt::skip]
    fn tell_of_transaction(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AbortedRead { partition, value, offset, transaction, reader } => write!(
                f, "aborted read (G1a): process {reader} read {partition} value {value} at offset {offset} as committed; \
                transaction {transaction} was not"),
            Self::IntermediateRead { partition, value, offset, transaction, reader } => write!(
                f, "intermediate read (G1b): process {reader} read {partition} value {value} at offset {offset} as committed, \
                before transaction {transaction} was asked to commit"),
            Self::PartialTransaction { transaction, seen, missing } => write!(
                f, "partial transaction {transaction}: {seen} was seen as committed, {missing} was not"),
            Self::TwoOutcomes { transaction } => write!(
                f, "two outcomes: transaction {transaction} was acknowledged as committed and as aborted"),
            _ => Ok(()),
        }
    }

    #[rustfmt::skip]
    fn tell_of_group(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffsetNeverCommitted { group, partition, offset } => write!(
                f, "offset never committed: group {group} has {offset} for {partition}"),
            Self::AbortedOffset { group, partition, offset, transaction } => write!(
                f, "aborted offset: group {group} has {offset} for {partition}, of transaction {transaction}, which was aborted"),
            Self::LostOffset { group, partition, committed, found } => write!(
                f, "lost offset: group {group} committed {committed} for {partition} and has {found:?}"),
            _ => Ok(()),
        }
    }
}

/// The first anomalies, one a line, and how many there are.
pub fn explain(anomalies: &[Anomaly]) -> String {
    let mut text = format!("{} anomalies", anomalies.len());
    for anomaly in anomalies.iter().take(EXPLAINED) {
        text.push_str(&format!("\n  {anomaly}"));
    }
    if anomalies.len() > EXPLAINED {
        text.push_str("\n  ...");
    }
    text
}
