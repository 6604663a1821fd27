//! Joining: who is admitted, as whom, and whether the group must rebalance for it.

use super::member::{Member, size_bytes};
use super::{Effect, Group, NEW_MEMBER_JOIN_TIMEOUT, Now, State, Ticket, Waiter};
use crate::coordinator::{GroupError, JoinOutcome, JoinRequest};

/// `None`: answered when the rebalance completes, or a record is durable.
type Answer = Result<Option<JoinOutcome>, GroupError>;

impl Group {
    /// Answered through `Effect::Joined`. `new_member_id` is called when the member has no id yet.
    pub fn join(
        &mut self,
        now: Now,
        request: &JoinRequest,
        waiter: Waiter,
        new_member_id: impl FnOnce() -> String,
    ) {
        self.size_bytes = None;
        let answer = match self.admit(request) {
            Ok(()) if request.member_id.is_empty() => {
                self.join_new(now, request, waiter, new_member_id())
            }
            Ok(()) => self.join_known(now, request, waiter),
            Err(refusal) => Err(refusal),
        };
        if let Some(answer) = answer.transpose() {
            self.effects.push(Effect::Joined(waiter, answer));
        }
        self.complete_when_all_joined(now);
    }

    /// The bytes that the group would grow by.
    pub fn growth_by_join(&self, request: &JoinRequest) -> usize {
        let own = self.members.get(&request.member_id);
        let own = own.map_or(0, Member::size_bytes);
        size_bytes(request).saturating_sub(own)
    }

    /// Room and a common protocol. While a rebalance gathers members, those who are already waiting keep their place, so
    /// that an oversized group sheds the ones who come last.
    fn admit(&mut self, request: &JoinRequest) -> Result<(), GroupError> {
        let member = self.members.get(&request.member_id);
        let max = self.limits.max_members;
        let has_room = match &self.state {
            State::Empty | State::Dead => true,
            State::Preparing { .. } => {
                member.is_some_and(Member::is_joining)
                    || self.members.values().filter(|m| m.is_joining()).count() < max
            }
            State::Completing { .. } | State::Stable { .. } => {
                member.is_some() || self.members.len() < max
            }
        };
        if !has_room {
            self.remove_member(&request.member_id);
            return Err(GroupError::GroupMaxSize);
        }
        let all: usize = self.members.values().map(Member::size_bytes).sum();
        let own = member.map_or(0, Member::size_bytes);
        let told = size_bytes(request);
        if told > self.limits.max_member_bytes || all - own + told > self.limits.max_group_bytes {
            return Err(GroupError::GroupMaxSize);
        }
        self.check_protocols(request)
    }

    /// At least one of the protocols is known to every member, the asking one's earlier self included.
    fn check_protocols(&self, request: &JoinRequest) -> Result<(), GroupError> {
        let is_supported = if self.is_empty() {
            !request.protocol_type.is_empty() && !request.protocols.is_empty()
        } else {
            self.protocol_type.as_deref() == Some(&request.protocol_type)
                && request
                    .protocols
                    .iter()
                    .any(|(name, _)| self.members.values().all(|member| member.supports(name)))
        };
        match is_supported {
            true => Ok(()),
            false => Err(GroupError::InconsistentProtocol),
        }
    }

    fn join_new(
        &mut self,
        now: Now,
        request: &JoinRequest,
        waiter: Waiter,
        member_id: String,
    ) -> Answer {
        if let Some(instance) = &request.instance_id {
            match self.static_members.get(instance).cloned() {
                Some(old_id) => self.replace_static(now, request, waiter, (old_id, member_id)),
                None => self.add_member(now, request, waiter, member_id),
            }
            return Ok(None);
        }
        if request.require_known_member_id {
            if self.pending.len() >= self.limits.max_members {
                return Err(GroupError::GroupMaxSize);
            }
            let deadline = now.elapsed + request.session_timeout;
            self.pending.insert(member_id.clone(), deadline);
            self.wake_by(deadline);
            return Err(GroupError::MemberIdRequired(member_id));
        }
        self.add_member(now, request, waiter, member_id);
        Ok(None)
    }

    fn join_known(&mut self, now: Now, request: &JoinRequest, waiter: Waiter) -> Answer {
        let id = &request.member_id;
        if self.pending.contains_key(id) && request.instance_id.is_none() {
            self.add_member(now, request, waiter, id.clone());
            return Ok(None);
        }
        self.check_member(id, request.instance_id.as_deref())?;
        let is_unchanged = self
            .members
            .get(id)
            .is_some_and(|member| member.protocols == request.protocols);
        let is_leader = self.is_leader(id);
        match self.state {
            // The answer to the earlier join was lost: it is given again.
            State::Completing { .. } if is_unchanged => Ok(Some(self.outcome(id))),
            // A follower finds its place again. A leader that joins wants everything assigned anew, for reasons that its
            // metadata need not show.
            State::Stable { .. } if is_unchanged && !is_leader => Ok(Some(self.outcome(id))),
            State::Preparing { .. } | State::Completing { .. } | State::Stable { .. } => {
                self.rejoin(id, request, waiter);
                self.rebalance_if_settled(now);
                Ok(None)
            }
            State::Empty | State::Dead => Err(GroupError::UnknownMember),
        }
    }

    fn add_member(&mut self, now: Now, request: &JoinRequest, waiter: Waiter, id: String) {
        if let State::Preparing {
            initial: Some(initial),
            ..
        } = &mut self.state
        {
            initial.member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        if let Some(instance) = &request.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.pending.remove(&id);
        let deadline = now.elapsed + NEW_MEMBER_JOIN_TIMEOUT;
        self.members
            .insert(id, Member::joining(request, waiter, deadline));
        self.wake_by(deadline);
        self.rebalance_if_settled(now);
    }

    /// The member waits for the next generation with what it says now. An earlier join of its own that still waits is told
    /// to join again: only one of the two connections can be alive.
    fn rejoin(&mut self, id: &str, request: &JoinRequest, waiter: Waiter) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.update(request);
        if let Some(earlier) = member.join_waiter.replace(waiter) {
            let answer = Err(GroupError::RebalanceInProgress);
            self.effects.push(Effect::Joined(earlier, answer));
        }
    }

    /// A static member came back without its member id. It gets a new one and takes the old one's place; whoever still
    /// uses the old id is fenced. `ids`: the old and the new.
    fn replace_static(
        &mut self,
        now: Now,
        request: &JoinRequest,
        waiter: Waiter,
        (old_id, new_id): (String, String),
    ) {
        let Some(mut member) = self.members.remove(&old_id) else {
            return;
        };
        self.answer_waiters(&mut member, &GroupError::FencedInstanceId);
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), new_id.clone());
        }
        if self.is_leader(&old_id) {
            self.leader = Some(new_id.clone());
        }
        self.members.insert(new_id.clone(), member);
        self.rejoin(&new_id, request, waiter);
        self.touch(now, &new_id);
        if !matches!(self.state, State::Stable { .. }) || self.select_protocol() != self.protocol {
            // The leader may have been told of the old id, or would assign by another protocol.
            self.rebalance_if_settled(now);
            return;
        }
        // Assignments that a leader made now would not reach a group that is stable (KIP-814).
        let outcome = Box::new(JoinOutcome {
            skip_assignment: self.is_leader(&new_id),
            ..self.outcome(&new_id)
        });
        let ticket = Ticket::Replacement { waiter, outcome };
        let record = self.record(now, None);
        self.effects.push(Effect::Store(record, Some(ticket)));
    }

    /// The present generation as this member is told of it.
    pub(super) fn outcome(&self, member_id: &str) -> JoinOutcome {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = match self.is_leader(member_id) {
            true => self
                .members
                .iter()
                .map(|(id, member)| {
                    let metadata = member.metadata(&protocol);
                    (id.clone(), member.instance_id.clone(), metadata)
                })
                .collect(),
            false => Vec::new(),
        };
        JoinOutcome {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol,
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members,
        }
    }
}
