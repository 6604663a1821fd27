//! Virtual time around one group: tests say what members do and how time passes, and ask what was answered.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::coordinator::shares::Holder;
use crate::coordinator::{JoinRequest, SyncRequest};

pub(super) const SESSION: u64 = 10_000;
pub(super) const REBALANCE: u64 = 60_000;
pub(super) const INITIAL_DELAY: u64 = 3_000;

pub(super) const LIMITS: Limits = Limits {
    initial_rebalance_delay: Duration::from_millis(INITIAL_DELAY),
    max_members: 10,
    max_member_bytes: MAX_GROUP_BYTES,
    max_group_bytes: MAX_GROUP_BYTES,
};

pub(super) type JoinAnswer = Result<JoinOutcome, GroupError>;
pub(super) type SyncAnswer = Result<SyncOutcome, GroupError>;

/// A join by a new dynamic member that supports one protocol and takes its id at once.
pub(super) fn joining() -> JoinRequest {
    JoinRequest {
        group: "group".into(),
        member_id: String::new(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_millis(SESSION),
        rebalance_timeout: Duration::from_millis(REBALANCE),
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        require_known_member_id: false,
        reason: None,
        holder: Holder::default(),
    }
}

pub(super) fn protocols(names: &[&str]) -> Vec<(String, Bytes)> {
    let metadata = |name: &&str| (name.to_string(), Bytes::from(format!("{name} metadata")));
    names.iter().map(metadata).collect()
}

pub(super) fn rejoining(member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        ..joining()
    }
}

pub(super) fn instance(instance_id: &str) -> JoinRequest {
    JoinRequest {
        instance_id: Some(instance_id.into()),
        ..joining()
    }
}

pub(super) struct World {
    pub group: Group,
    pub now: Now,
    pub joins: BTreeMap<Waiter, JoinAnswer>,
    pub syncs: BTreeMap<Waiter, SyncAnswer>,
    pub records: Vec<GroupRecord>,
    /// Tickets whose record is not durable yet; with `stores_at_once` there are none.
    pub tickets: Vec<Ticket>,
    pub stores_at_once: bool,
    waiters: u64,
    ids: u64,
}

impl World {
    pub fn new() -> Self {
        Self::with_limits(LIMITS)
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self {
            group: Group::new("group", limits),
            now: Now {
                elapsed: Duration::ZERO,
                wall_ms: 1_000_000,
            },
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            records: Vec::new(),
            tickets: Vec::new(),
            stores_at_once: true,
            waiters: 0,
            ids: 0,
        }
    }

    /// A stable group of members 1, 2, …, each joined by `requests` in this order; the first one leads.
    pub fn stable(requests: &[JoinRequest]) -> Self {
        let mut world = Self::new();
        let joins: Vec<Waiter> = requests.iter().map(|request| world.join(request)).collect();
        world.pass(2 * INITIAL_DELAY);
        let outcomes: Vec<JoinOutcome> = joins.into_iter().map(|join| world.joined(join)).collect();
        for outcome in outcomes.iter().rev() {
            world.sync(&outcome.member_id, outcome.generation);
        }
        assert_eq!(world.state(), "Stable");
        world
    }

    fn waiter(&mut self) -> Waiter {
        self.waiters += 1;
        Waiter(self.waiters)
    }

    pub fn join(&mut self, request: &JoinRequest) -> Waiter {
        let waiter = self.waiter();
        self.ids += 1;
        let id = self.ids.to_string();
        self.group.join(self.now, request, waiter, || id);
        self.settle();
        waiter
    }

    /// A sync; a leader assigns each member its own id in upper case with the generation.
    pub fn sync(&mut self, member_id: &str, generation: i32) -> Waiter {
        let members = self.group.describe().members;
        let assignments = match self.group.is_leader(member_id) {
            true => members
                .iter()
                .map(|member| {
                    (
                        member.member_id.clone(),
                        assignment(&member.member_id, generation),
                    )
                })
                .collect(),
            false => Vec::new(),
        };
        self.send_sync(SyncRequest {
            group: "group".into(),
            member_id: member_id.into(),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments,
        })
    }

    pub fn send_sync(&mut self, request: SyncRequest) -> Waiter {
        let waiter = self.waiter();
        self.group.sync(self.now, &request, waiter);
        self.settle();
        waiter
    }

    pub fn heartbeat(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        let answer = self.group.heartbeat(self.now, member_id, None, generation);
        self.settle();
        answer
    }

    pub fn leave(&mut self, member_id: &str) -> Result<(), GroupError> {
        let mut answers = self.group.leave(self.now, &[(member_id.into(), None)]);
        self.settle();
        answers.remove(0)
    }

    pub fn stored(&mut self, result: Result<(), GroupError>) {
        let ticket = self.tickets.remove(0);
        self.group.stored(self.now, ticket, result);
        self.settle();
    }

    /// Time passes, and every deadline on the way is carried out when it comes.
    pub fn pass(&mut self, milliseconds: u64) {
        let end = self.now.elapsed + Duration::from_millis(milliseconds);
        while let Some(at) = self.group.wake_at().filter(|&at| at <= end) {
            self.move_to(at.max(self.now.elapsed));
            self.group.tick(self.now);
            self.settle();
        }
        self.move_to(end);
    }

    /// As `pass`, while these members send heartbeats of this generation.
    pub fn pass_alive(&mut self, milliseconds: u64, members: &[&str], generation: i32) {
        for _ in 0..milliseconds / 1000 {
            self.pass(1000);
            for member in members {
                let _ = self.heartbeat(member, generation);
            }
        }
    }

    fn move_to(&mut self, elapsed: Duration) {
        let passed = elapsed - self.now.elapsed;
        self.now.wall_ms += i64::try_from(passed.as_millis()).unwrap();
        self.now.elapsed = elapsed;
    }

    fn settle(&mut self) {
        loop {
            let effects = self.group.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Joined(waiter, answer) => {
                let earlier = self.joins.insert(waiter, answer);
                assert!(earlier.is_none(), "{waiter:?} was answered twice");
            }
            Effect::Synced(waiter, answer) => {
                let earlier = self.syncs.insert(waiter, answer);
                assert!(earlier.is_none(), "{waiter:?} was answered twice");
            }
            Effect::Store(record, ticket) => {
                self.records.push(record);
                match ticket {
                    Some(ticket) if self.stores_at_once => {
                        self.group.stored(self.now, ticket, Ok(()));
                    }
                    Some(ticket) => self.tickets.push(ticket),
                    None => {}
                }
            }
        }
    }

    pub fn state(&self) -> &'static str {
        self.group.describe().state
    }

    pub fn member_ids(&self) -> Vec<String> {
        let members = self.group.describe().members;
        members.into_iter().map(|member| member.member_id).collect()
    }

    #[track_caller]
    pub fn joined(&self, waiter: Waiter) -> JoinOutcome {
        let answer = self.joins.get(&waiter).expect("the join was answered");
        answer.clone().expect("the join succeeded")
    }

    #[track_caller]
    pub fn refused_join(&self, waiter: Waiter) -> GroupError {
        let answer = self.joins.get(&waiter).expect("the join was answered");
        answer.clone().expect_err("the join was refused")
    }

    #[track_caller]
    pub fn assigned(&self, waiter: Waiter) -> Bytes {
        let answer = self.syncs.get(&waiter).expect("the sync was answered");
        answer.clone().expect("the sync succeeded").assignment
    }

    #[track_caller]
    pub fn refused_sync(&self, waiter: Waiter) -> GroupError {
        let answer = self.syncs.get(&waiter).expect("the sync was answered");
        answer.clone().expect_err("the sync was refused")
    }
}

pub(super) fn assignment(member_id: &str, generation: i32) -> Bytes {
    format!("{member_id} in {generation}").into()
}
