//! Consumer groups: the classic protocol as a pure state machine, and the driver that gives it time and a log.
//!
//! From a call inwards: `calls` checks and waits, `driver` holds the groups and carries out what they want, `group` decides,
//! `offsets` keeps what was committed, `record` and `storage` put both into `__consumer_offsets`, `timers` brings deadlines,
//! `shares` sees to it that nobody fills all that there is.
//! Wire structs, sockets and the wall clock are not known here.

mod calls;
mod codec;
mod directory;
mod driver;
pub mod group;
mod offsets;
mod pending;
pub mod record;
pub mod shares;
mod storage;
mod subscription;
mod timers;
pub mod transaction;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::types::{Offset, TimestampMs};

pub use calls::{Forgotten, MAX_GROUP_ID_BYTES};
pub use pending::Durable;
use shares::Holder;

/// Routes calls to groups, runs their timers, and keeps offsets in `__consumer_offsets`.
#[derive(Debug)]
pub struct Coordinator {
    driver: Arc<driver::Driver>,
}

/// What the caller can do about it; the handler maps these to Kafka's codes one to one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    #[error("the coordinator is loading its groups")]
    Loading,
    #[error("the group id is empty or too long")]
    InvalidGroupId,
    #[error("unknown member")]
    UnknownMember,
    #[error("join again with the member id {0}")]
    MemberIdRequired(String),
    #[error("generation is stale")]
    IllegalGeneration,
    #[error("no protocol in common")]
    InconsistentProtocol,
    #[error("session timeout outside the configured bounds")]
    InvalidSessionTimeout,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("another member has taken this instance id")]
    FencedInstanceId,
    #[error("the group is full")]
    GroupMaxSize,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("no such group")]
    GroupIdNotFound,
    #[error("offset metadata is too large")]
    OffsetMetadataTooLarge,
    #[error("the offsets could not be stored: {0}")]
    Storage(String),
    /// By the setting that bounds them.
    #[error("there are as many groups as {0} allows")]
    TooManyGroups(&'static str),
    /// By the setting that holds the bound; it may pass.
    #[error("{0} allows no more at present")]
    Busy(&'static str),
}

#[derive(Clone, Debug)]
pub struct JoinRequest {
    pub group: String,
    /// Empty on first contact.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
    /// Version 4 and newer: a new dynamic member is told its id and joins again (KIP-394).
    pub require_known_member_id: bool,
    pub reason: Option<String>,
    /// Who asks: a group that this brings into being counts for it.
    pub holder: Holder,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinOutcome {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    /// KIP-814: a static leader that came back need not assign again.
    pub skip_assignment: bool,
    /// For the leader alone: every member's id, instance id and metadata.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub group: String,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    /// From version 5; checked when present.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// From the leader alone.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncOutcome {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
    pub committed_ms: TimestampMs,
    /// Only from version 1 of OffsetCommit: an explicit expiry.
    pub expires_ms: Option<TimestampMs>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetToCommit {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Clone, Debug)]
pub struct CommitRequest {
    pub group: String,
    /// Empty with generation −1: a consumer that manages its own assignment.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    pub offsets: Vec<OffsetToCommit>,
    /// As of a join.
    pub holder: Holder,
}

/// What lists of groups tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListing {
    pub group: String,
    /// As in `GroupDescription`.
    pub state: &'static str,
    pub protocol_type: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    pub group: String,
    /// Kafka's names: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead.
    pub state: &'static str,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}
