//! Consumer groups: the classic protocol as a pure state machine, and the driver that gives it time and a log.

pub mod group;
pub mod record;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::catalog::Catalog;
use crate::config::GroupConfig;
use crate::env::Clock;
use crate::log::LogSet;
use crate::types::{Offset, TimestampMs};

/// Routes calls to groups, runs their timers, and keeps offsets in `__consumer_offsets`.
#[derive(Debug)]
pub struct Coordinator {}

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
    #[error("too many groups")]
    TooManyGroups,
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
    /// Version 9 and newer: the answer has a word for `skip_assignment` (KIP-814).
    pub supports_skip_assignment: bool,
    pub reason: Option<String>,
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

impl Coordinator {
    /// Creates the offsets topic when it is missing and loads every group from it. Blocking.
    pub fn open(
        config: GroupConfig,
        catalog: Arc<Catalog>,
        logs: Arc<LogSet>,
        clock: Clock,
    ) -> Result<Arc<Self>, String> {
        let _ = (config, catalog, logs, clock);
        todo!()
    }

    /// Runs timers (rebalances, sessions, offset expiry) until the future is dropped.
    pub async fn run_timers(self: Arc<Self>) {
        todo!()
    }

    pub async fn join(&self, request: JoinRequest) -> Result<JoinOutcome, GroupError> {
        let _ = request;
        todo!()
    }
    pub async fn sync(&self, request: SyncRequest) -> Result<SyncOutcome, GroupError> {
        let _ = request;
        todo!()
    }
    pub fn heartbeat(
        &self,
        group: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        let _ = (group, member_id, instance_id, generation);
        todo!()
    }
    /// Each member (id, instance id) is answered by itself.
    pub fn leave(
        &self,
        group: &str,
        members: &[(String, Option<String>)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let _ = (group, members);
        todo!()
    }
    /// Resolves when the offsets are durable.
    pub async fn commit_offsets(&self, request: CommitRequest) -> Result<(), GroupError> {
        let _ = request;
        todo!()
    }
    /// `partitions`: `None` asks for every offset of the group.
    pub fn fetch_offsets(
        &self,
        group: &str,
        partitions: Option<&[(String, i32)]>,
    ) -> Result<Vec<(String, i32, Option<CommittedOffset>)>, GroupError> {
        let _ = (group, partitions);
        todo!()
    }
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        let _ = group;
        todo!()
    }
    pub fn list(&self) -> Vec<GroupDescription> {
        todo!()
    }
    pub async fn delete(&self, group: &str) -> Result<(), GroupError> {
        let _ = group;
        todo!()
    }
    /// Forgets the offsets of a deleted topic.
    pub async fn topic_deleted(&self, topic: &str) {
        let _ = topic;
        todo!()
    }
    /// Every (group, topic, partition, committed offset), for the lag metric.
    pub fn committed(&self) -> Vec<(String, String, i32, Offset)> {
        todo!()
    }
}
