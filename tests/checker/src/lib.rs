//! Judges a history: what clients asked of a broker, what they were told, and when. The broker's insides are not looked at.
//!
//! The idea and most names are those of Jepsen's Kafka workload (`jepsen.tests.kafka`).
//!
//! - An **operation** is what one **process** (a producer or a consumer) did between two moments. Its outcome is `Ok` (it
//!   happened), `Fail` (it surely did not happen) or `Info` (nobody knows: no answer came).
//! - A **value** stands for a record. Within a partition each is sent by one process only; sent again it is the same value.
//! - A **poll** is one read of one partition: it started at an offset, brought records, and left the consumer at a next
//!   offset. It **covers** what lies between, also what it did not bring: control records, aborted ones, or lost ones.
//! - An **epoch** is the time between two losses of power. Within one epoch an offset holds one value for ever; a loss of
//!   power may take what was not yet promised to survive it, and give its offsets to others.
//!
//! [`check`] never reports what Kafka allows: a missing record that was not acknowledged, or whose transaction nobody knows
//! the end of; transactions that run at the same time and interleave differently in two partitions (Jepsen's G0 between
//! concurrent transactions); records of `acks=1` that a loss of power took from the end of a log.
//!
//! What a recorder must see to: all polls of one session of a consumer carry one session number; a seek or a new assignment
//! begins a new session; consumed offsets of one group and partition only rise; and the history ends with polls that read
//! every partition to its end, as otherwise what nobody read is reported as [`Anomaly::Unseen`]. A long run is judged in
//! windows: when nothing is under way and everything was read, a history may be judged and a new one begun, with polls that
//! start where the last ones ended.

mod anomaly;
mod group_offsets;
mod history;
mod index;
mod isolation;
mod loss;
mod order;
mod sessions;
#[cfg(test)]
mod tests;

pub use anomaly::{Anomaly, explain};
pub use history::{
    Action, Crash, End, History, Isolation, Offset, OffsetCommit, OffsetRead, Operation,
    OperationId, Outcome, Partition, Poll, Send, Survives, Time, TransactionId, Value,
};

use index::Index;

/// Everything in the history that a correct broker cannot have caused, in the order of the checks.
pub fn check(history: &History) -> Vec<Anomaly> {
    let index = Index::of(history);
    let checks = [
        order::check,
        sessions::check,
        loss::check,
        isolation::check,
        group_offsets::check,
    ];
    checks.iter().flat_map(|check| check(&index)).collect()
}
