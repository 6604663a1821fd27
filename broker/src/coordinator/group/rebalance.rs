//! A rebalance from its opening to a stable group: preparing (members join), completing (the leader's assignments are
//! brought and stored), and what happens at the deadlines between.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::member::Member;
use super::{Effect, Group, InitialDelay, Now, State, Ticket, Waiter};
use crate::coordinator::{GroupError, JoinOutcome, SyncOutcome, SyncRequest};

/// A rebalance that nobody has joined at its deadline is prolonged by no less, however short the members' own timeouts.
const PROLONGED_AT_LEAST: Duration = Duration::from_secs(1);

impl Group {
    /// Answered through `Effect::Synced`.
    pub fn sync(&mut self, now: Now, request: &SyncRequest, waiter: Waiter) {
        self.size_bytes = None;
        if let Err(refusal) = self.check_sync(request) {
            self.effects.push(Effect::Synced(waiter, Err(refusal)));
            return;
        }
        let id = &request.member_id;
        if let Some(member) = self.members.get_mut(id) {
            member.has_synced = true;
        }
        match &self.state {
            State::Completing { storing, .. } => {
                let is_first_of_leader = self.is_leader(id) && storing.is_none();
                self.wait_for_assignment(id, waiter);
                if is_first_of_leader {
                    self.store_assignments(now, &request.assignments);
                }
            }
            State::Stable { .. } => {
                let answer = Ok(self.sync_outcome(id));
                self.effects.push(Effect::Synced(waiter, answer));
                self.touch(now, id);
                self.forget_sync_deadline_when_all_synced();
            }
            // `check_sync` has refused these.
            State::Empty | State::Preparing { .. } | State::Dead => {}
        }
    }

    /// The bytes that the group would grow by.
    pub fn growth_by_sync(&self, request: &SyncRequest) -> usize {
        let told: usize = request
            .assignments
            .iter()
            .map(|(_, assignment)| assignment.len())
            .sum();
        let held: usize = self
            .members
            .values()
            .map(|member| member.assignment.len())
            .sum();
        told.saturating_sub(held)
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.check_generation(request.generation)?;
        let agrees = |told: &Option<String>, own: &Option<String>| told.is_none() || told == own;
        if !agrees(&request.protocol_type, &self.protocol_type)
            || !agrees(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.state {
            State::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            State::Completing { .. } | State::Stable { .. } => Ok(()),
            State::Empty | State::Dead => Err(GroupError::UnknownMember),
        }
    }

    fn wait_for_assignment(&mut self, id: &str, waiter: Waiter) {
        let earlier = self
            .members
            .get_mut(id)
            .and_then(|member| member.sync_waiter.replace(waiter));
        if let Some(earlier) = earlier {
            let answer = Err(GroupError::RebalanceInProgress);
            self.effects.push(Effect::Synced(earlier, answer));
        }
    }

    fn store_assignments(&mut self, now: Now, assignments: &[(String, Bytes)]) {
        let size: usize = assignments
            .iter()
            .map(|(id, assignment)| id.len() + assignment.len())
            .sum();
        if size > self.limits.max_group_bytes {
            self.fail_assignment(now, &GroupError::GroupMaxSize);
            return;
        }
        let assignments: HashMap<String, Bytes> = assignments
            .iter()
            .filter(|(id, _)| self.members.contains_key(id))
            .cloned()
            .collect();
        let record = self.record(now, Some(&assignments));
        let ticket = Ticket::Assignment {
            generation: self.generation,
        };
        self.effects.push(Effect::Store(record, Some(ticket)));
        if let State::Completing { storing, .. } = &mut self.state {
            *storing = Some(assignments);
        }
    }

    /// The record of a ticket is durable, or could not be stored. What the group has left behind meanwhile is let be.
    pub fn stored(&mut self, now: Now, ticket: Ticket, result: Result<(), GroupError>) {
        self.size_bytes = None;
        match ticket {
            Ticket::Assignment { generation } if generation == self.generation => {
                if let State::Completing {
                    storing,
                    sync_deadline,
                } = &mut self.state
                {
                    let (storing, deadline) = (storing.take(), *sync_deadline);
                    match result {
                        Ok(()) => self.assign(now, storing.unwrap_or_default(), deadline),
                        Err(error) => self.fail_assignment(now, &error),
                    }
                }
            }
            Ticket::Assignment { .. } => {}
            Ticket::Replacement { waiter, outcome } => {
                self.answer_replacement(now, waiter, result.map(|()| *outcome));
            }
        }
        self.complete_when_all_joined(now);
    }

    /// While the record was being written the group may have begun a rebalance; then the join waits for that, or was
    /// answered by it.
    fn answer_replacement(
        &mut self,
        now: Now,
        waiter: Waiter,
        answer: Result<JoinOutcome, GroupError>,
    ) {
        if !matches!(self.state, State::Stable { .. }) {
            return;
        }
        let found = self
            .members
            .iter_mut()
            .find(|(_, member)| member.join_waiter == Some(waiter));
        let Some((id, member)) = found else {
            return;
        };
        member.join_waiter = None;
        let id = id.clone();
        self.touch(now, &id);
        self.effects.push(Effect::Joined(waiter, answer));
    }

    fn assign(&mut self, now: Now, mut assignments: HashMap<String, Bytes>, deadline: Duration) {
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.state = State::Stable {
            sync_deadline: Some(deadline),
        };
        self.forget_sync_deadline_when_all_synced();
        for id in self.waiting_for_sync() {
            let answer = Ok(self.sync_outcome(&id));
            self.answer_sync(now, &id, answer);
        }
    }

    fn fail_assignment(&mut self, now: Now, error: &GroupError) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for id in self.waiting_for_sync() {
            self.answer_sync(now, &id, Err(error.clone()));
        }
        self.prepare_rebalance(now);
    }

    fn waiting_for_sync(&self) -> Vec<String> {
        let waiting = |(id, member): (&String, &Member)| member.sync_waiter.map(|_| id.clone());
        self.members.iter().filter_map(waiting).collect()
    }

    /// The session begins anew with the answer: while it waited the member was not expected to speak.
    fn answer_sync(&mut self, now: Now, id: &str, answer: Result<SyncOutcome, GroupError>) {
        let member = self.members.get_mut(id);
        if let Some(waiter) = member.and_then(|member| member.sync_waiter.take()) {
            self.effects.push(Effect::Synced(waiter, answer));
            self.touch(now, id);
        }
    }

    fn sync_outcome(&self, id: &str) -> SyncOutcome {
        SyncOutcome {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    fn forget_sync_deadline_when_all_synced(&mut self) {
        if let State::Stable { sync_deadline } = &mut self.state
            && self.members.values().all(|member| member.has_synced)
        {
            *sync_deadline = None;
        }
    }

    /// Opens a rebalance unless one is gathering members already.
    pub(super) fn rebalance_if_settled(&mut self, now: Now) {
        match self.state {
            State::Stable { .. } | State::Completing { .. } => self.prepare_rebalance(now),
            State::Empty if !self.members.is_empty() => self.prepare_rebalance(now),
            State::Empty | State::Preparing { .. } | State::Dead => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Now) {
        if matches!(self.state, State::Completing { .. }) {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            for id in self.waiting_for_sync() {
                self.answer_sync(now, &id, Err(GroupError::RebalanceInProgress));
            }
        }
        let timeout = self.rebalance_timeout();
        let (wait, initial) = match self.state {
            State::Empty => {
                let delay = self.limits.initial_rebalance_delay;
                let initial = InitialDelay {
                    remaining: timeout.saturating_sub(delay),
                    member_added: false,
                };
                (delay, Some(initial))
            }
            _ => (timeout, None),
        };
        self.wait_for_joins(now.elapsed + wait, initial);
    }

    fn wait_for_joins(&mut self, deadline: Duration, initial: Option<InitialDelay>) {
        self.state = State::Preparing { deadline, initial };
        self.wake_by(deadline);
    }

    /// The longest that any member asks for.
    fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    pub(super) fn complete_when_all_joined(&mut self, now: Now) {
        if matches!(self.state, State::Preparing { initial: None, .. })
            && self.pending.is_empty()
            && self.members.values().all(Member::is_joining)
        {
            self.complete_join(now);
        }
    }

    /// The deadline of the state the group is in.
    pub(super) fn expire_phase(&mut self, now: Now) {
        match &mut self.state {
            State::Preparing { deadline, initial } if *deadline <= now.elapsed => {
                if let Some(initial) = initial
                    && initial.member_added
                    && !initial.remaining.is_zero()
                {
                    let delay = self.limits.initial_rebalance_delay.min(initial.remaining);
                    initial.remaining -= delay;
                    initial.member_added = false;
                    *deadline = now.elapsed + delay;
                } else {
                    self.complete_join(now);
                }
            }
            State::Completing {
                sync_deadline: deadline,
                ..
            }
            | State::Stable {
                sync_deadline: Some(deadline),
            } if *deadline <= now.elapsed => self.remove_those_who_did_not_sync(now),
            _ => {}
        }
    }

    fn remove_those_who_did_not_sync(&mut self, now: Now) {
        let silent = self.ids_of(|member| !member.has_synced);
        if silent.is_empty() {
            self.forget_sync_deadline_when_all_synced();
            // All have synced and the assignments are on their way to the disk, which answers without a deadline.
            if let State::Completing { sync_deadline, .. } = &mut self.state {
                *sync_deadline = now.elapsed + PROLONGED_AT_LEAST;
            }
            return;
        }
        for id in &silent {
            self.remove_member(id);
        }
        self.rebalance_if_settled(now);
    }

    fn ids_of(&self, is_meant: impl Fn(&Member) -> bool) -> Vec<String> {
        self.members
            .iter()
            .filter(|(_, member)| is_meant(member))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Ends the gathering of members: those who did not come are removed, static ones apart, whose sessions decide.
    fn complete_join(&mut self, now: Now) {
        for id in self.ids_of(|member| !member.is_joining() && !member.is_static()) {
            self.remove_member(&id);
        }
        if self.members.is_empty() {
            self.become_empty(now);
        } else if self.elect_joined_leader() {
            self.start_generation(now);
        } else {
            let wait = self.rebalance_timeout().max(PROLONGED_AT_LEAST);
            self.wait_for_joins(now.elapsed + wait, None);
        }
    }

    /// The leader must be there to assign. False when nobody is.
    fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(Member::is_joining) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.is_joining());
        match joined {
            Some((id, _)) => {
                self.leader = Some(id.clone());
                true
            }
            None => false,
        }
    }

    fn become_empty(&mut self, now: Now) {
        self.next_generation();
        self.protocol = None;
        self.leader = None;
        self.state = State::Empty;
        self.empty_since_ms = Some(now.wall_ms);
        let record = self.record(now, None);
        self.effects.push(Effect::Store(record, None));
    }

    fn start_generation(&mut self, now: Now) {
        self.next_generation();
        self.protocol = self.select_protocol();
        let sync_deadline = now.elapsed + self.rebalance_timeout();
        self.state = State::Completing {
            sync_deadline,
            storing: None,
        };
        self.wake_by(sync_deadline);
        for id in self.ids_of(|_| true) {
            let outcome = self.outcome(&id);
            let mut is_first = false;
            if let Some(member) = self.members.get_mut(&id) {
                is_first = std::mem::take(&mut member.is_new);
                member.has_synced = false;
                if let Some(waiter) = member.join_waiter.take() {
                    self.effects.push(Effect::Joined(waiter, Ok(outcome)));
                }
            }
            self.touch(now, &id);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_unheard = is_first;
            }
        }
    }

    /// Past the last number it begins again at 1, as no member of the first generations can be left.
    fn next_generation(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
    }

    /// Each member votes for the first of its protocols that all know; the most votes win, and among equals the one that the
    /// leader likes best.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        let candidates: Vec<&str> = leader
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let mut votes = vec![0_usize; candidates.len()];
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find_map(|(name, _)| candidates.iter().position(|candidate| candidate == name));
            if let Some(choice) = choice {
                votes[choice] += 1;
            }
        }
        let most = votes.iter().max()?;
        let winner = votes.iter().position(|count| count == most)?;
        Some(candidates[winner].to_owned())
    }
}
