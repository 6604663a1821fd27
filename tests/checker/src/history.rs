//! What a history is made of.

use std::fmt;
use std::sync::Arc;

/// Nanoseconds since a moment that all processes share.
pub type Time = u64;
/// A record's place in its partition.
pub type Offset = i64;
/// A record, by a number that is unique in its partition.
pub type Value = u64;
/// One attempt to do several writes as one: unique in the history, unlike Kafka's transactional id, which lives on.
pub type TransactionId = u64;

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition {
    pub topic: Arc<str>,
    pub index: i32,
}

impl Partition {
    pub fn new(topic: impl Into<Arc<str>>, index: i32) -> Self {
        Self {
            topic: topic.into(),
            index,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.topic, self.index)
    }
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The broker said that it was done.
    Ok,
    /// It was surely not done, and never will be.
    Fail,
    /// Nobody knows: it may have been done, or be done later.
    Info,
}

/// What an acknowledged write outlives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Survives {
    /// The end of the broker's process: `acks=1`.
    ProcessCrash,
    /// The loss of what the system had not yet written to the disk: `acks=all`.
    PowerLoss,
}

/// What a consumer asked to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// A batch of records for one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Send {
    pub partition: Partition,
    /// In the order of the batch: consecutive offsets.
    pub values: Vec<Value>,
    /// The offset of the first value, where the answer told it.
    pub base_offset: Option<Offset>,
    /// What its acknowledgement would promise.
    pub survives: Survives,
    /// Whether it may be sent again without being stored again.
    pub idempotent: bool,
    pub transaction: Option<TransactionId>,
}

/// One read of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Poll {
    pub partition: Partition,
    pub isolation: Isolation,
    /// Counts the consumer's seeks and assignments: only within one must offsets rise without a gap.
    pub session: u64,
    /// Where the consumer stood: records below it are not its own.
    pub from: Offset,
    /// In the order in which they came.
    pub records: Vec<(Offset, Value)>,
    /// Where the consumer stands now.
    pub next: Offset,
}

/// The decision on a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Commit,
    Abort,
}

/// A group's offset, written by itself or with a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommit {
    pub group: Arc<str>,
    pub partition: Partition,
    pub offset: Offset,
    pub transaction: Option<TransactionId>,
}

/// A group's offset, read with `require_stable`: no transaction that would change it was undecided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetRead {
    pub group: Arc<str>,
    pub partition: Partition,
    /// `None`: the group has none.
    pub offset: Option<Offset>,
}

/// How the broker ended before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    Process,
    PowerLoss,
}

/// What a process did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Send(Send),
    Poll(Poll),
    End(TransactionId, End),
    CommitOffset(OffsetCommit),
    ReadOffset(OffsetRead),
    /// DeleteRecords or retention: what lies below the offset may be gone.
    Trim(Partition, Offset),
    /// From the end of the broker (`invoked`) to the moment when it serves again (`completed`).
    Crash(Crash),
}

/// What a process did, from when to when, and with which result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// A producer or a consumer: what it does, it does in this order.
    pub process: u32,
    pub invoked: Time,
    /// When the answer came, or the process gave up waiting.
    pub completed: Option<Time>,
    pub outcome: Outcome,
    pub action: Action,
}

/// An operation that was begun and not yet ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OperationId(usize);

/// All operations of all processes, in any order; those of one process in the order in which it began them.
#[derive(Clone, Debug)]
pub struct History {
    pub operations: Vec<Operation>,
    /// What it promises that a consumer was shown a record: [`Survives::PowerLoss`] under `tidegate.durability = fsync`.
    pub shown_survives: Survives,
}

impl Default for History {
    fn default() -> Self {
        Self {
            operations: Vec::new(),
            shown_survives: Survives::PowerLoss,
        }
    }
}

impl History {
    /// Notes that a process begins something. Until [`Self::complete`] its outcome is [`Outcome::Info`].
    pub fn invoke(&mut self, process: u32, time: Time, action: Action) -> OperationId {
        self.operations.push(Operation {
            process,
            invoked: time,
            completed: None,
            outcome: Outcome::Info,
            action,
        });
        OperationId(self.operations.len() - 1)
    }

    /// Notes how it ended.
    pub fn complete(&mut self, id: OperationId, time: Time, outcome: Outcome) {
        let operation = &mut self.operations[id.0];
        operation.completed = Some(time);
        operation.outcome = outcome;
    }

    /// What was begun, to add to it what the answer told, such as the offset of a send.
    pub fn action_mut(&mut self, id: OperationId) -> &mut Action {
        &mut self.operations[id.0].action
    }

    /// Adds what another process recorded, with the same clock. Ids of `other` are void.
    pub fn append(&mut self, other: History) {
        self.operations.extend(other.operations);
    }
}
