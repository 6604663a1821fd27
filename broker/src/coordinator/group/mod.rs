//! One classic consumer group as a pure state machine, with Apache Kafka's semantics.
//!
//! - A **generation** is one agreement of members: who belongs, which protocol, who leads, what each was assigned.
//! - A **member** has an id given by the broker. A **static** member also has an instance id of its own choice, and keeps its
//!   place when it comes back under a new member id (KIP-345). A **pending** member was told an id and has not joined with
//!   it yet (KIP-394).
//! - **Joining** opens a rebalance: the group waits for every member to join again, then starts a generation and answers
//!   them all. **Syncing** closes it: the leader brings the assignments, they are stored, then everybody gets its own.
//!
//! The machine never waits. A call that must be answered later carries a `Waiter`; the answer comes out as an `Effect`.
//! Time comes in as `Now`, new member ids as a closure. The driver calls `tick` at or after `wake_at`.
//!
//! Invariants: every waiter is answered exactly once; a member of a stable group has an assignment of its generation;
//! a member goes only by leaving, by expiry, by not coming back in time, or by being replaced; the protocols of all members
//! always have one in common.

mod join;
mod member;
mod rebalance;

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::record::{GroupRecord, MemberRecord};
use super::subscription::{CONSUMER_PROTOCOL, for_each_topic};
use super::{
    GroupDescription, GroupError, GroupListing, JoinOutcome, MemberDescription, SyncOutcome,
};
use crate::types::TimestampMs;
use member::Member;

/// The moment of a call: `elapsed` only ever grows and decides deadlines; `wall_ms` goes into records.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub elapsed: Duration,
    pub wall_ms: TimestampMs,
}

/// A request that is answered later, by a number that the driver chooses and never uses twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Waiter(pub u64);

/// What the driver must do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    Joined(Waiter, Result<JoinOutcome, GroupError>),
    Synced(Waiter, Result<SyncOutcome, GroupError>),
    /// Append the record. With a ticket, wait until it is durable, then hand the ticket to `Group::stored`.
    Store(GroupRecord, Option<Ticket>),
}

/// What waits for a record to be durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ticket {
    /// The assignments of this generation.
    Assignment { generation: i32 },
    /// A static member's new id in a stable group, and the answer to its join.
    Replacement {
        waiter: Waiter,
        outcome: Box<JoinOutcome>,
    },
}

/// What a group takes from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub initial_rebalance_delay: Duration,
    pub max_members: usize,
    /// Of what one member may tell.
    pub max_member_bytes: usize,
    /// Of what all members told together, and of a generation's assignments. A group above it is full.
    pub max_group_bytes: usize,
}

/// The most that `Limits::max_group_bytes` may be: with both at their bound the record of a group still fits into one batch of the
/// offsets topic.
pub const MAX_GROUP_BYTES: usize = 8 << 20;

/// A member that has never been in a generation has no id to send heartbeats with; it is given up after this long, so that
/// clients which went away during a long rebalance do not pile up.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);
/// A new member whose first answer found nobody has so long to show itself, whatever session it asked for.
const UNHEARD_MEMBER_KEPT: Duration = Duration::from_secs(30);
/// What a member that was told an id takes besides it.
const PENDING_BYTES: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// No members; perhaps pending ones.
    Empty,
    /// Waiting for members to join, until `deadline`.
    Preparing {
        deadline: Duration,
        initial: Option<InitialDelay>,
    },
    /// A generation has begun; waiting for the leader's assignments.
    Completing {
        /// Members that have not synced by then are removed.
        sync_deadline: Duration,
        /// The leader's assignments while they are being stored.
        storing: Option<HashMap<String, Bytes>>,
    },
    Stable {
        /// Set while some members have not synced.
        sync_deadline: Option<Duration>,
    },
    Dead,
}

/// A rebalance of an empty group: it waits although everybody has joined, for others that are just starting.
#[derive(Clone, PartialEq, Eq, Debug)]
struct InitialDelay {
    /// How much longer the delay may grow.
    remaining: Duration,
    member_added: bool,
}

#[derive(Debug)]
pub struct Group {
    id: String,
    limits: Limits,
    state: State,
    /// When the group became empty; `None` when unknown.
    empty_since_ms: Option<TimestampMs>,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance id to member id.
    static_members: HashMap<String, String>,
    /// Member id to the moment it is given up.
    pending: HashMap<String, Duration>,
    effects: Vec<Effect>,
    /// Never later than the earliest deadline; exact after `tick`.
    wake_at: Option<Duration>,
    /// `None` when it may have changed.
    size_bytes: Option<usize>,
}

impl Group {
    pub fn new(id: &str, limits: Limits) -> Self {
        Self {
            id: id.to_owned(),
            limits,
            state: State::Empty,
            empty_since_ms: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending: HashMap::new(),
            effects: Vec::new(),
            wake_at: None,
            size_bytes: None,
        }
    }

    /// The group as it was stored. Its members have a full session from now to show that they are alive.
    pub fn restore(id: &str, limits: Limits, record: GroupRecord, now: Now) -> Self {
        let mut group = Self::new(id, limits);
        group.generation = record.generation;
        group.protocol_type = Some(record.protocol_type).filter(|kind| !kind.is_empty());
        if record.members.is_empty() {
            group.empty_since_ms = record.changed_ms;
            return group;
        }
        let protocol = record.protocol.unwrap_or_default();
        for stored in record.members {
            let id = stored.member_id.clone();
            if let Some(instance) = &stored.instance_id {
                group.static_members.insert(instance.clone(), id.clone());
            }
            group
                .members
                .insert(id.clone(), Member::restore(stored, &protocol));
            group.touch(now, &id);
        }
        group.protocol = Some(protocol);
        group.leader = record
            .leader
            .filter(|leader| group.members.contains_key(leader))
            .or_else(|| group.members.keys().next().cloned());
        group.state = State::Stable {
            sync_deadline: None,
        };
        if group.members.len() > limits.max_members {
            group.prepare_rebalance(now);
        }
        group
    }

    /// What the driver must do now.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When `tick` wants to be called: never later than the group's earliest deadline.
    pub fn wake_at(&self) -> Option<Duration> {
        self.wake_at
    }

    /// Carries out every deadline that has passed.
    pub fn tick(&mut self, now: Now) {
        self.size_bytes = None;
        self.pending
            .retain(|_, &mut deadline| deadline > now.elapsed);
        self.expire_sessions(now);
        self.expire_phase(now);
        self.complete_when_all_joined(now);
        self.wake_at = self.earliest_deadline();
    }

    /// # Errors
    /// `RebalanceInProgress` tells the member to join again; its session is prolonged all the same.
    pub fn heartbeat(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.check_member(member_id, instance_id)?;
        self.check_generation(generation)?;
        self.touch(now, member_id);
        match self.state {
            State::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// May this member commit offsets now? Generation −1 is a consumer that manages its own assignment, or a tool: it may
    /// while the group is empty.
    pub fn check_commit(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(GroupError::UnknownMember);
        }
        self.check_member(member_id, instance_id)?;
        self.check_generation(generation)?;
        self.touch(now, member_id);
        match self.state {
            // The member has heard of this generation and not of its assignment: what it read was another's.
            State::Completing { .. } => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// May this member commit offsets in a transaction? One that says nothing of itself may always: before KIP-447 producers
    /// knew the group alone.
    pub fn check_transactional_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Ok(());
        }
        self.check_member(member_id, instance_id)?;
        self.check_generation(generation)
    }

    /// Ends the group when it has no members.
    pub fn delete(&mut self) -> Result<(), GroupError> {
        match self.state {
            State::Empty => {
                self.state = State::Dead;
                self.size_bytes = None;
                self.pending.clear();
                Ok(())
            }
            State::Dead => Err(GroupError::GroupIdNotFound),
            _ => Err(GroupError::NonEmptyGroup),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    pub fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Empty, and nobody is about to join.
    pub fn is_vacant(&self) -> bool {
        self.is_empty() && self.pending.is_empty()
    }

    /// A record of it may be in the log.
    pub fn is_stored(&self) -> bool {
        self.generation > 0
    }

    pub fn empty_since_ms(&self) -> Option<TimestampMs> {
        self.empty_since_ms.filter(|_| self.is_empty())
    }

    /// What the group takes in memory: its members with what they told and were assigned, and the ids that were given.
    pub fn size_bytes(&mut self) -> usize {
        *self.size_bytes.get_or_insert_with(|| {
            let members = self.members.iter();
            let members = members.map(|(id, member)| id.len() + member.held_bytes());
            let pending = self.pending.keys().map(|id| id.len() + PENDING_BYTES);
            let storing = match &self.state {
                State::Completing {
                    storing: Some(storing),
                    ..
                } => storing.values().map(Bytes::len).sum(),
                _ => 0,
            };
            members.chain(pending).sum::<usize>() + storing
        })
    }

    /// Nobody was there to take the answer to this member's join. When it was its first, it has the time of
    /// `UNHEARD_MEMBER_KEPT` to show itself. A static member has its whole session, which is what it is static for.
    pub fn undelivered(&mut self, now: Now, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if member.is_unheard && !member.is_static() {
            let deadline = now.elapsed + UNHEARD_MEMBER_KEPT;
            member.session_deadline = member.session_deadline.min(deadline);
            self.wake_by(deadline);
        }
    }

    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing { .. } => "CompletingRebalance",
            State::Stable { .. } => "Stable",
            State::Dead => "Dead",
        }
    }

    pub fn listing(&self) -> GroupListing {
        GroupListing {
            group: self.id.clone(),
            state: self.state_name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
        }
    }

    /// Its members say which topics they read.
    fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// Members that say which topics they read agree on them: offsets of others are no longer used (KIP-211).
    pub fn knows_its_topics(&self) -> bool {
        matches!(self.state, State::Stable { .. }) && self.uses_consumer_protocol()
    }

    /// May somebody outside delete offsets (KIP-496)? While there are members only where they say what they read.
    pub fn check_deletion_of_offsets(&self) -> Result<(), GroupError> {
        match self.state {
            State::Dead => Err(GroupError::GroupIdNotFound),
            State::Empty => Ok(()),
            _ if self.uses_consumer_protocol() => Ok(()),
            _ => Err(GroupError::NonEmptyGroup),
        }
    }

    /// Takes from `topics` those that some member subscribes to, by what it told for the generation's protocol. False when a
    /// member did not say.
    pub fn take_subscribed(&self, topics: &mut BTreeSet<String>) -> bool {
        let Some(protocol) = self.protocol.as_deref().filter(|_| !self.is_empty()) else {
            return true;
        };
        self.members.values().all(|member| {
            let metadata = member.metadata(protocol);
            let take = |topic: &str| {
                topics.remove(topic);
            };
            for_each_topic(&metadata, take)
        })
    }

    /// Metadata and assignments are told of a stable group alone: in between they belong to no generation.
    pub fn describe(&self) -> GroupDescription {
        let is_stable = matches!(self.state, State::Stable { .. });
        let protocol = self.protocol.clone().filter(|_| is_stable);
        let members = self.members.iter().map(|(id, member)| MemberDescription {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol
                .as_deref()
                .map(|protocol| member.metadata(protocol))
                .unwrap_or_default(),
            assignment: match is_stable {
                true => member.assignment.clone(),
                false => Bytes::new(),
            },
        });
        GroupDescription {
            group: self.id.clone(),
            state: self.state_name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol: protocol.unwrap_or_default(),
        }
    }

    /// Removes members, each answered by itself. An empty member id with an instance id is an operator's removal of a
    /// static member.
    pub fn leave(
        &mut self,
        now: Now,
        members: &[(String, Option<String>)],
    ) -> Vec<Result<(), GroupError>> {
        self.size_bytes = None;
        let answers = members
            .iter()
            .map(|(id, instance)| self.leave_one(now, id, instance.as_deref()))
            .collect();
        self.complete_when_all_joined(now);
        answers
    }

    fn leave_one(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if self.pending.remove(member_id).is_some() {
            return Ok(());
        }
        let leaving = match instance_id {
            Some(instance) if member_id.is_empty() => self
                .static_members
                .get(instance)
                .cloned()
                .ok_or(GroupError::UnknownMember)?,
            _ => {
                self.check_member(member_id, instance_id)?;
                member_id.to_owned()
            }
        };
        self.remove_member(&leaving);
        self.rebalance_if_settled(now);
        Ok(())
    }

    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(GroupError::UnknownMember),
        }
    }

    fn check_generation(&self, generation: i32) -> Result<(), GroupError> {
        match generation == self.generation {
            true => Ok(()),
            false => Err(GroupError::IllegalGeneration),
        }
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Gives a member a whole session from now.
    fn touch(&mut self, now: Now, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            let session = match member.is_new {
                true => NEW_MEMBER_JOIN_TIMEOUT,
                false => member.session_timeout,
            };
            let deadline = now.elapsed + session;
            member.is_unheard = false;
            member.session_deadline = deadline;
            self.wake_by(deadline);
        }
    }

    fn wake_by(&mut self, deadline: Duration) {
        self.wake_at = Some(self.wake_at.map_or(deadline, |at| at.min(deadline)));
    }

    fn earliest_deadline(&self) -> Option<Duration> {
        let phase = match &self.state {
            State::Preparing { deadline, .. } => Some(*deadline),
            State::Completing { sync_deadline, .. } => Some(*sync_deadline),
            State::Stable { sync_deadline } => *sync_deadline,
            State::Empty | State::Dead => None,
        };
        let sessions = self.members.values().filter_map(Member::expires_at);
        let pending = self.pending.values().copied();
        phase.into_iter().chain(sessions).chain(pending).min()
    }

    fn expire_sessions(&mut self, now: Now) {
        let expired: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.expires_at().is_some_and(|at| at <= now.elapsed))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &expired {
            self.remove_member(id);
        }
        if !expired.is_empty() {
            self.rebalance_if_settled(now);
        }
    }

    /// Takes a member out and answers what it waits for, so that a client which is still there joins as a new one.
    fn remove_member(&mut self, id: &str) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        self.answer_waiters(&mut member, &GroupError::UnknownMember);
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn answer_waiters(&mut self, member: &mut Member, error: &GroupError) {
        if let Some(waiter) = member.join_waiter.take() {
            self.effects
                .push(Effect::Joined(waiter, Err(error.clone())));
        }
        if let Some(waiter) = member.sync_waiter.take() {
            self.effects
                .push(Effect::Synced(waiter, Err(error.clone())));
        }
    }

    /// The group as it is stored. Assignments that are not the members' own yet are given apart.
    fn record(&self, now: Now, assignments: Option<&HashMap<String, Bytes>>) -> GroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| MemberRecord {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout,
            session_timeout: member.session_timeout,
            subscription: member.metadata(protocol),
            assignment: match assignments {
                Some(assignments) => assignments.get(id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
        });
        GroupRecord {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            changed_ms: Some(now.wall_ms),
            members: members.collect(),
        }
    }
}
