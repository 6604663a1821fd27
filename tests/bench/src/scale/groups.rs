//! Groups of one member, and one group of many members.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_client::NewTopic;

use super::bed::{Bed, topic_name};
use super::load::{Load, Times, at_rate};
use super::wire::Wire;

const TOPIC: &str = "units";
/// The last version in which a member joins with one request.
const JOIN: i16 = 3;
const SYNC: i16 = 2;
const HEARTBEAT: i16 = 2;
const COMMIT: i16 = 6;
/// Longer than any run.
const SESSION_MS: i32 = 600_000;
/// Joins that wait on one connection at once.
const JOINING: usize = 100;
const REBALANCE_IN_PROGRESS: i16 = 27;
/// What a member subscribes to and what it is assigned, of about the size that clients send.
const METADATA: &[u8] = &[7; 40];

/// A member, as the group knows it.
#[derive(Clone, Debug)]
struct Member {
    group: GroupId,
    id: StrBytes,
    generation: i32,
}

fn group_id(number: u64) -> GroupId {
    GroupId(StrBytes::from_string(format!("units-{number}")))
}

fn join(group: &GroupId, member: &StrBytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(METADATA));
    JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(SESSION_MS)
        .with_rebalance_timeout_ms(SESSION_MS)
        .with_member_id(member.clone())
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}

fn joined(group: &GroupId, answer: &JoinGroupResponse) -> Result<Member> {
    ensure!(
        answer.error_code == 0,
        "joining was refused with code {}",
        answer.error_code
    );
    Ok(Member {
        group: group.clone(),
        id: answer.member_id.clone(),
        generation: answer.generation_id,
    })
}

/// With assignments for `all` when the member leads.
fn sync(member: &Member, all: &[StrBytes]) -> SyncGroupRequest {
    let assignments = all.iter().map(|id| {
        SyncGroupRequestAssignment::default()
            .with_member_id(id.clone())
            .with_assignment(Bytes::from_static(METADATA))
    });
    SyncGroupRequest::default()
        .with_group_id(member.group.clone())
        .with_generation_id(member.generation)
        .with_member_id(member.id.clone())
        .with_assignments(assignments.collect())
}

fn synced(wire: &mut Wire) -> Result<()> {
    let answer = wire.receive::<SyncGroupRequest>(SYNC)?;
    ensure!(
        answer.error_code == 0,
        "syncing was refused with code {}",
        answer.error_code
    );
    Ok(())
}

/// Groups of one member each. A few connections carry them all.
pub struct Groups {
    members: Vec<Member>,
    wire: Wire,
}

impl Groups {
    pub fn set_up(bed: &Bed, units: u64) -> Result<Self> {
        bed.create_now(NewTopic::new(TOPIC).partitions(1))?;
        let mut wire = bed.connect()?;
        let groups: Vec<GroupId> = (0..units).map(group_id).collect();
        let mut members = Vec::new();
        for some in groups.chunks(JOINING) {
            for group in some {
                wire.send(&join(group, &StrBytes::default()), JOIN)?;
            }
            for group in some {
                members.push(joined(group, &wire.receive::<JoinGroupRequest>(JOIN)?)?);
            }
        }
        for member in &members {
            wire.send(&sync(member, std::slice::from_ref(&member.id)), SYNC)?;
            synced(&mut wire)?;
        }
        let mut groups = Self { members, wire };
        (0..units).try_for_each(|number| groups.commit(number))?;
        Ok(groups)
    }

    /// Commits an offset in one group after the other.
    pub fn operate(&mut self, bed: &Bed, rate: u64, seconds: u64) -> Result<Option<Load>> {
        at_rate(bed, rate, seconds, |number, due, times| {
            self.commit(number)?;
            times.note(due)
        })
    }

    fn commit(&mut self, number: u64) -> Result<()> {
        let member = &self.members[(number % self.members.len() as u64) as usize];
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(i64::try_from(number)?);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(TOPIC))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(member.group.clone())
            .with_generation_id_or_member_epoch(member.generation)
            .with_member_id(member.id.clone())
            .with_topics(vec![topic]);
        let answer = self.wire.call(&request, COMMIT)?;
        let codes = answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|one| one.error_code);
        match codes.into_iter().find(|code| *code != 0) {
            Some(code) => bail!("a commit was refused with code {code}"),
            None => Ok(()),
        }
    }
}

/// One group, each member with a connection of its own.
pub struct Members {
    wires: Vec<Wire>,
    members: Vec<Member>,
    leader: usize,
}

impl Members {
    pub fn set_up(bed: &Bed, units: u64) -> Result<Self> {
        let mut wires = Vec::new();
        for _ in 0..units {
            let mut wire = bed.connect()?;
            wire.send(&join(&group_id(0), &StrBytes::default()), JOIN)?;
            wires.push(wire);
        }
        let mut members = Self {
            wires,
            members: Vec::new(),
            leader: 0,
        };
        members.take_joins()?;
        members.sync_all()?;
        Ok(members)
    }

    /// Rebalances the whole group again and again. A time is that of one rebalance: from the leader's joining until every
    /// member has its assignment.
    pub fn operate(&mut self, bed: &Bed, seconds: u64) -> Result<Option<Load>> {
        let mut times = Times::begin(bed)?;
        let end = Instant::now() + std::time::Duration::from_secs(seconds);
        while Instant::now() < end {
            let begin = Instant::now();
            self.rebalance()?;
            times.note(begin)?;
        }
        times.end(bed).map(Some)
    }

    fn rebalance(&mut self) -> Result<()> {
        let request = |member: &Member| join(&member.group, &member.id);
        self.wires[self.leader].send(&request(&self.members[self.leader]), JOIN)?;
        self.await_rebalance()?;
        for (index, (wire, member)) in self.wires.iter_mut().zip(&self.members).enumerate() {
            if index != self.leader {
                wire.send(&request(member), JOIN)?;
            }
        }
        self.take_joins()?;
        self.sync_all()
    }

    /// Until the group wants everybody to join: who joins before is answered at once, as nothing has changed.
    fn await_rebalance(&mut self) -> Result<()> {
        let Some(other) = (0..self.wires.len()).find(|index| *index != self.leader) else {
            return Ok(());
        };
        let member = &self.members[other];
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(member.group.clone())
            .with_generation_id(member.generation)
            .with_member_id(member.id.clone());
        loop {
            match self.wires[other].call(&heartbeat, HEARTBEAT)?.error_code {
                0 => {}
                REBALANCE_IN_PROGRESS => return Ok(()),
                code => bail!("a heartbeat was refused with code {code}"),
            }
        }
    }

    fn take_joins(&mut self) -> Result<()> {
        let group = group_id(0);
        let mut leader = None;
        let mut members = Vec::new();
        for (index, wire) in self.wires.iter_mut().enumerate() {
            let answer = wire.receive::<JoinGroupRequest>(JOIN)?;
            members.push(joined(&group, &answer)?);
            if answer.leader == answer.member_id {
                leader = Some((index, answer.members.len()));
            }
        }
        let (leader, told) = leader.context("nobody leads the group")?;
        ensure!(
            told == members.len(),
            "{told} of {} members are in the group",
            members.len()
        );
        (self.members, self.leader) = (members, leader);
        Ok(())
    }

    fn sync_all(&mut self) -> Result<()> {
        let all: Vec<StrBytes> = self
            .members
            .iter()
            .map(|member| member.id.clone())
            .collect();
        for (index, (wire, member)) in self.wires.iter_mut().zip(&self.members).enumerate() {
            let told: &[StrBytes] = if index == self.leader { &all } else { &[] };
            wire.send(&sync(member, told), SYNC)?;
        }
        self.wires.iter_mut().try_for_each(synced)
    }
}
