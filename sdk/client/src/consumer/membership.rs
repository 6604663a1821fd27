//! The consumer's membership in its group (the classic protocol): join, sync, heartbeat, leave.
//!
//! One task holds the membership. The group moves through *generations*; each begins with every member joining and ends
//! when one comes, goes or falls silent. Before the task joins the next generation it asks the application's side to
//! *revoke*: to commit and to stop reading. Heartbeats go on meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::ConsumerOptions;
use super::assignor::{
    Assignor, Subscriptions, decode_assignment, decode_subscription, encode_assignment,
    encode_subscription,
};
use super::partitions::PartitionKey;
use crate::client::{Client, str_bytes, topic_name};
use crate::cluster::pool::Connections;
use crate::cluster::retry::Backoff;
use crate::error::{Error, ErrorCode, Result, check};
use crate::net::api::Api;
use crate::net::connection::Connection;
use crate::net::transport::lock;
use crate::options::Endpoint;

/// What the application's side must act on.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    /// Read these, from the committed offsets where there are any.
    Assigned(Vec<(PartitionKey, Option<i64>)>),
    /// Commit, stop reading, and answer.
    Revoke(oneshot::Sender<()>),
    /// Stop reading: others may read these partitions already.
    Lost,
    /// The membership ended for good.
    Failed(Error),
}

/// Who this member is to the group; commits carry it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub generation: i32,
    pub member_id: StrBytes,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            generation: -1,
            member_id: StrBytes::default(),
        }
    }
}

/// Shared between the membership's task and the consumer.
#[derive(Debug)]
pub(crate) struct Member {
    pub identity: Mutex<Identity>,
    pub last_poll: Mutex<Instant>,
    pub polled: Notify,
}

impl Member {
    pub fn new() -> Self {
        Self {
            identity: Mutex::default(),
            last_poll: Mutex::new(Instant::now()),
            polled: Notify::new(),
        }
    }
}

pub(crate) struct Membership {
    pub client: Client,
    pub options: ConsumerOptions,
    pub group: String,
    pub topics: BTreeSet<String>,
    pub connections: Arc<Connections>,
    pub member: Arc<Member>,
    pub events: mpsc::UnboundedSender<GroupEvent>,
    /// True, or gone: leave.
    pub leaving: watch::Receiver<bool>,
    pub coordinator: Option<Endpoint>,
}

/// Why a generation ended.
enum Ended {
    /// The group rebalances; this member is still known.
    Rebalance,
    /// The group does not count this member any more.
    Lost,
    /// The application does not poll.
    Stalled,
    Leaving,
}

/// A joined generation.
struct Generation {
    /// The partition counts that the leader assigned by; `None` for other members.
    assigned_by: Option<BTreeMap<String, i32>>,
}

impl Membership {
    /// Runs until the consumer leaves or the group refuses it for good.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let leaving = self.leaving.clone();
            let joined = tokio::select! {
                joined = self.join() => joined,
                () = left(leaving) => return self.leave().await,
            };
            match joined {
                Ok(generation) => {
                    backoff = Backoff::default();
                    match self.live(generation).await {
                        Ended::Leaving => return self.leave().await,
                        Ended::Rebalance => {}
                        Ended::Lost => self.lost(),
                        Ended::Stalled => {
                            self.leave().await;
                            self.lost();
                            tokio::select! {
                                () = self.member.polled.notified() => {}
                                () = left(self.leaving.clone()) => return,
                            }
                        }
                    }
                }
                Err(error) if error.is_retriable() => {
                    tracing::debug!(%error, group = %self.group, "joining again");
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next()) => {}
                        () = left(self.leaving.clone()) => return self.leave().await,
                    }
                }
                Err(error) => {
                    // A consumer that is gone needs no word.
                    let _ = self.events.send(GroupEvent::Failed(error));
                    return;
                }
            }
        }
    }

    fn lost(&mut self) {
        *lock(&self.member.identity) = Identity::default();
        // A consumer that is gone needs no word.
        let _ = self.events.send(GroupEvent::Lost);
    }

    async fn connection(&mut self) -> Result<Connection> {
        let endpoint = match &self.coordinator {
            Some(endpoint) => endpoint.clone(),
            None => self.client.find_coordinator(&self.group).await?,
        };
        self.coordinator = Some(endpoint.clone());
        match self.connections.get(&endpoint).await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                self.coordinator = None;
                Err(error)
            }
        }
    }

    /// Judges a code of the group protocol; forgets what it proves wrong.
    fn judge(&mut self, code: i16, broker: &Arc<str>, api: &'static str) -> Result<()> {
        let subject = || format!("group {}", self.group);
        let Err(error) = check(code, broker, api, subject, None) else {
            return Ok(());
        };
        match error.code() {
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                self.coordinator = None;
            }
            Some(ErrorCode::UnknownMemberId) => {
                *lock(&self.member.identity) = Identity::default();
            }
            _ => {}
        }
        Err(error)
    }

    async fn join(&mut self) -> Result<Generation> {
        loop {
            match self.join_once().await {
                Err(error)
                    if matches!(
                        error.code(),
                        Some(
                            ErrorCode::MemberIdRequired
                                | ErrorCode::UnknownMemberId
                                | ErrorCode::IllegalGeneration
                                | ErrorCode::RebalanceInProgress
                        )
                    ) =>
                {
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    if matches!(error, Error::Disconnected { .. } | Error::Timeout { .. }) {
                        self.coordinator = None;
                    }
                    return Err(error);
                }
                Ok(generation) => return Ok(generation),
            }
        }
    }

    async fn join_once(&mut self) -> Result<Generation> {
        let connection = self.connection().await?;
        let metadata = encode_subscription(&self.topics)?;
        let protocols = self.options.assignors.iter().map(|assignor| {
            JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(assignor.name()))
                .with_metadata(metadata.clone())
        });
        let identity = lock(&self.member.identity).clone();
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(str_bytes(&self.group)))
            .with_session_timeout_ms(milliseconds(self.options.session_timeout))
            .with_rebalance_timeout_ms(milliseconds(self.options.max_poll_interval))
            .with_member_id(identity.member_id)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(protocols.collect());
        let patience = self.options.max_poll_interval + self.client.options().request_timeout;
        let response = connection.call(&request, patience).await?;
        if response.error_code == ErrorCode::MemberIdRequired.code() {
            lock(&self.member.identity).member_id = response.member_id.clone();
        }
        self.judge(
            response.error_code,
            connection.broker(),
            JoinGroupRequest::NAME,
        )?;
        *lock(&self.member.identity) = Identity {
            generation: response.generation_id,
            member_id: response.member_id.clone(),
        };
        self.sync(&connection, response).await
    }

    async fn sync(
        &mut self,
        connection: &Connection,
        joined: JoinGroupResponse,
    ) -> Result<Generation> {
        let leads = joined.leader == joined.member_id;
        let (assignments, assigned_by) = if leads {
            let (assignments, counts) = self.assign(&joined).await?;
            (assignments, Some(counts))
        } else {
            (Vec::new(), None)
        };
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(str_bytes(&self.group)))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
            .with_protocol_name(joined.protocol_name.clone())
            .with_assignments(assignments);
        let patience = self.options.max_poll_interval + self.client.options().request_timeout;
        let response = connection.call(&request, patience).await?;
        self.judge(
            response.error_code,
            connection.broker(),
            SyncGroupRequest::NAME,
        )?;
        let malformed = |reason| Error::Malformed {
            broker: connection.broker().clone(),
            what: "group assignment",
            reason,
        };
        let assignment = decode_assignment(response.assignment).map_err(malformed)?;
        let committed = self.committed(&assignment).await?;
        tracing::debug!(group = %self.group, generation = joined.generation_id, partitions = committed.len(), "assigned");
        // A consumer that is gone needs no word: the task is about to leave.
        let _ = self.events.send(GroupEvent::Assigned(committed));
        Ok(Generation { assigned_by })
    }

    async fn assign(
        &mut self,
        joined: &JoinGroupResponse,
    ) -> Result<(Vec<SyncGroupRequestAssignment>, BTreeMap<String, i32>)> {
        let mut members = Subscriptions::new();
        for member in &joined.members {
            match decode_subscription(member.metadata.clone()) {
                Ok(topics) => {
                    members.insert(member.member_id.to_string(), topics);
                }
                // One member's garbage must not keep the others from reading.
                Err(reason) => {
                    tracing::warn!(group = %self.group, member = %member.member_id, %reason, "subscription ignored");
                }
            }
        }
        let topics: BTreeSet<String> = members.values().flatten().cloned().collect();
        let counts = self.partition_counts(&topics).await?;
        let assignor = joined
            .protocol_name
            .as_deref()
            .and_then(Assignor::from_name)
            .or(self.options.assignors.first().copied())
            .unwrap_or(Assignor::Range);
        let shares = assignor.assign(&members, &counts);
        let mut assignments = Vec::with_capacity(joined.members.len());
        for member in &joined.members {
            let assignment: Bytes = match shares.get(member.member_id.as_str()) {
                Some(topics) => encode_assignment(topics)?,
                None => encode_assignment(&BTreeMap::new())?,
            };
            assignments.push(
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(assignment),
            );
        }
        Ok((assignments, counts))
    }

    /// Topics that do not exist count none.
    async fn partition_counts(&self, topics: &BTreeSet<String>) -> Result<BTreeMap<String, i32>> {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.client
            .refresh(Some(&names), self.options.allow_create)
            .await?;
        let metadata = self.client.metadata();
        let counts = topics.iter().map(|name| {
            let known = metadata.topics.get(name);
            let count = known.map_or(0, |topic| topic.partitions.len() as i32);
            (name.clone(), count)
        });
        Ok(counts.collect())
    }

    async fn committed(
        &mut self,
        assignment: &BTreeMap<String, Vec<i32>>,
    ) -> Result<Vec<(PartitionKey, Option<i64>)>> {
        if assignment.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.connection().await?;
        let topics = assignment.iter().map(|(topic, partitions)| {
            OffsetFetchRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(partitions.clone())
        });
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(str_bytes(&self.group)))
            .with_topics(Some(topics.collect()));
        let timeout = self.client.options().request_timeout;
        let response = connection.call(&request, timeout).await?;
        self.judge(
            response.error_code,
            connection.broker(),
            OffsetFetchRequest::NAME,
        )?;
        let mut committed = Vec::new();
        for topic in &response.topics {
            let name: Arc<str> = topic.name.as_str().into();
            for partition in &topic.partitions {
                self.judge(
                    partition.error_code,
                    connection.broker(),
                    OffsetFetchRequest::NAME,
                )?;
                let offset = partition.committed_offset;
                let key = (name.clone(), partition.partition_index);
                committed.push((key, (offset >= 0).then_some(offset)));
            }
        }
        Ok(committed)
    }

    /// Heartbeats until the generation ends.
    async fn live(&mut self, generation: Generation) -> Ended {
        let mut beat = tokio::time::interval(self.options.heartbeat_interval);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut checked = Instant::now();
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = left(self.leaving.clone()) => return Ended::Leaving,
            }
            if lock(&self.member.last_poll).elapsed() > self.options.max_poll_interval {
                tracing::warn!(group = %self.group, limit = ?self.options.max_poll_interval, "not polled in time: leaving the group");
                return Ended::Stalled;
            }
            match self.heartbeat().await {
                Ok(()) => heard = Instant::now(),
                Err(error) => match error.code() {
                    Some(ErrorCode::RebalanceInProgress) => return self.revoke().await,
                    Some(
                        ErrorCode::UnknownMemberId
                        | ErrorCode::IllegalGeneration
                        | ErrorCode::FencedInstanceId,
                    ) => return Ended::Lost,
                    _ if heard.elapsed() > self.options.session_timeout => return Ended::Lost,
                    _ => tracing::debug!(%error, group = %self.group, "heartbeat failed"),
                },
            }
            if self.partitions_changed(&generation, &mut checked).await {
                return self.revoke().await;
            }
        }
    }

    /// The leader looks for new partitions: often while a topic is missing, else as often as metadata ages.
    async fn partitions_changed(&self, generation: &Generation, checked: &mut Instant) -> bool {
        let Some(counts) = &generation.assigned_by else {
            return false;
        };
        let missing = counts.values().any(|count| *count == 0);
        if !missing && checked.elapsed() < self.client.options().metadata_max_age {
            return false;
        }
        *checked = Instant::now();
        let topics = counts.keys().cloned().collect();
        match self.partition_counts(&topics).await {
            Ok(now) => now != *counts,
            Err(error) => {
                tracing::debug!(%error, group = %self.group, "metadata is not to be had");
                false
            }
        }
    }

    async fn heartbeat(&mut self) -> Result<()> {
        let connection = self.connection().await?;
        let identity = lock(&self.member.identity).clone();
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(str_bytes(&self.group)))
            .with_generation_id(identity.generation)
            .with_member_id(identity.member_id);
        let response = connection
            .call(&request, self.options.session_timeout)
            .await;
        if response.is_err() {
            self.coordinator = None;
        }
        self.judge(
            response?.error_code,
            connection.broker(),
            HeartbeatRequest::NAME,
        )
    }

    /// Waits for the application's side to stop reading, heartbeating meanwhile.
    async fn revoke(&mut self) -> Ended {
        let (sender, mut revoked) = oneshot::channel();
        if self.events.send(GroupEvent::Revoke(sender)).is_err() {
            return Ended::Leaving;
        }
        let deadline = Instant::now() + self.options.max_poll_interval;
        loop {
            tokio::select! {
                _ = &mut revoked => return Ended::Rebalance,
                () = left(self.leaving.clone()) => return Ended::Leaving,
                () = tokio::time::sleep_until(deadline) => return Ended::Lost,
                () = tokio::time::sleep(self.options.heartbeat_interval) => {
                    let code = self.heartbeat().await.err().and_then(|error| error.code());
                    if matches!(code, Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration)) {
                        return Ended::Lost;
                    }
                }
            }
        }
    }

    /// Tells the group, which need not wait for the session to end. Nothing follows from a failure.
    async fn leave(&mut self) {
        let identity = std::mem::take(&mut *lock(&self.member.identity));
        if identity.member_id.is_empty() {
            return;
        }
        let leaving = async {
            let connection = self.connection().await?;
            let mut request =
                LeaveGroupRequest::default().with_group_id(GroupId(str_bytes(&self.group)));
            if connection.version::<LeaveGroupRequest>()? >= 3 {
                let member = MemberIdentity::default().with_member_id(identity.member_id);
                request = request.with_members(vec![member]);
            } else {
                request = request.with_member_id(identity.member_id);
            }
            connection.call(&request, Duration::from_secs(5)).await
        };
        if let Err(error) = leaving.await {
            tracing::debug!(%error, "the group was not told of the leave");
        }
    }
}

/// Resolves when the consumer closes or is dropped.
async fn left(mut leaving: watch::Receiver<bool>) {
    // The sender's end is the same word.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
