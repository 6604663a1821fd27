//! One member of a group: what it told when it joined, and what it waits for.

use std::time::Duration;

use bytes::Bytes;

use super::Waiter;
use crate::coordinator::JoinRequest;
use crate::coordinator::record::MemberRecord;

/// What a member takes besides what it told.
const MEMBER_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// In the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
    /// Of what the member told last.
    size_bytes: usize,
    pub assignment: Bytes,
    /// Has not been in a generation yet.
    pub is_new: bool,
    /// Has said nothing since its first generation began.
    pub is_unheard: bool,
    /// Has asked for its assignment in this generation.
    pub has_synced: bool,
    pub join_waiter: Option<Waiter>,
    pub sync_waiter: Option<Waiter>,
    pub session_deadline: Duration,
}

impl Member {
    /// A member that has just asked to join.
    pub fn joining(request: &JoinRequest, waiter: Waiter, session_deadline: Duration) -> Self {
        Self {
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols.clone(),
            size_bytes: size_bytes(request),
            assignment: Bytes::new(),
            is_new: true,
            is_unheard: false,
            has_synced: false,
            join_waiter: Some(waiter),
            sync_waiter: None,
            session_deadline,
        }
    }

    /// A member of a stored generation: it had its assignment.
    pub fn restore(stored: MemberRecord, protocol: &str) -> Self {
        Self {
            instance_id: stored.instance_id,
            client_id: stored.client_id,
            client_host: stored.client_host,
            session_timeout: stored.session_timeout,
            rebalance_timeout: stored.rebalance_timeout,
            size_bytes: protocol.len() + stored.subscription.len(),
            protocols: vec![(protocol.to_owned(), stored.subscription)],
            assignment: stored.assignment,
            is_new: false,
            is_unheard: false,
            has_synced: true,
            join_waiter: None,
            sync_waiter: None,
            session_deadline: Duration::ZERO,
        }
    }

    /// Takes over what a join says anew.
    pub fn update(&mut self, request: &JoinRequest) {
        self.client_id.clone_from(&request.client_id);
        self.client_host.clone_from(&request.client_host);
        self.session_timeout = request.session_timeout;
        self.rebalance_timeout = request.rebalance_timeout;
        self.protocols.clone_from(&request.protocols);
        self.size_bytes = size_bytes(request);
    }

    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    pub fn is_joining(&self) -> bool {
        self.join_waiter.is_some()
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// What the member said for this protocol; empty when it does not know it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// What it told last.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// What it takes in memory.
    pub fn held_bytes(&self) -> usize {
        MEMBER_BYTES + self.size_bytes + self.assignment.len()
    }

    /// When the member's silence ends its membership. `None` while the broker owes it an answer: it cannot be expected to
    /// speak. A new member is the exception, see `NEW_MEMBER_JOIN_TIMEOUT`.
    pub fn expires_at(&self) -> Option<Duration> {
        let is_owed = self.join_waiter.is_some() || self.sync_waiter.is_some();
        (self.is_new || !is_owed).then_some(self.session_deadline)
    }
}

/// The bytes that a member brings along and that its group keeps.
pub(super) fn size_bytes(request: &JoinRequest) -> usize {
    let protocols: usize = request
        .protocols
        .iter()
        .map(|(name, metadata)| name.len() + metadata.len())
        .sum();
    let instance = request.instance_id.as_ref().map_or(0, String::len);
    protocols + instance + request.client_id.len() + request.client_host.len()
}
