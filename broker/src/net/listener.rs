//! What the connections of one listener share, whatever carries them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::limits::{Admission, Closed, LogThrottle, Newcomer, Slot};
use super::outgoing::Backlog;
use super::{ConnectionInfo, deadline};
use crate::config::{ListenerConfig, NetConfig, SaslMechanism};
use crate::env::budget::Memory;
use crate::observe::Metrics;
use crate::security::certificate::PrincipalRules;
use crate::types::Principal;

/// What all listeners share.
pub(super) struct Shared<S> {
    pub(super) service: Arc<S>,
    pub(super) limits: NetConfig,
    pub(super) rules: PrincipalRules,
    pub(super) metrics: Arc<Metrics>,
    pub(super) admission: Arc<Admission>,
    pub(super) memory: Memory,
    pub(super) backlog: Arc<Backlog>,
    /// Cancelled when the graceful shutdown begins.
    pub(super) drain: CancellationToken,
}

/// One listener that is bound.
pub(super) struct Listener<S> {
    pub(super) name: Arc<str>,
    pub(super) config: ListenerConfig,
    /// Where it is bound, with the port that the system chose.
    pub(super) bound: SocketAddr,
    pub(super) shared: Arc<Shared<S>>,
    /// Under which its connections are counted.
    number: usize,
    log: LogThrottle,
    sasl_mechanisms: Arc<[SaslMechanism]>,
    advertised: Option<(Arc<str>, u16)>,
}

impl<S> Listener<S> {
    pub(super) fn new(config: ListenerConfig, bound: SocketAddr, shared: Arc<Shared<S>>) -> Self {
        static NUMBERS: AtomicUsize = AtomicUsize::new(0);
        let advertised = config.advertised.as_ref().map(|(host, port)| {
            let port = if *port == 0 { bound.port() } else { *port };
            (host.as_str().into(), port)
        });
        Self {
            name: config.name.as_str().into(),
            bound,
            shared,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            log: LogThrottle::default(),
            sasl_mechanisms: config.sasl_mechanisms.as_slice().into(),
            advertised,
            config,
        }
    }

    /// Takes a slot for a connection or a stream; `None` when a bound is reached, which is told to log and metrics. `may_go` where
    /// it may be closed for another.
    pub(super) fn admit(&self, peer: SocketAddr, may_go: bool) -> Option<Slot> {
        let newcomer = Newcomer {
            peer,
            listener: self.number,
            max_of_listener: self.config.max_connections,
            may_go,
        };
        match self.shared.admission.admit(newcomer) {
            Ok((slot, None)) => Some(slot),
            Ok((slot, Some(Closed { peer, bound }))) => {
                let message = format_args!(
                    "connection closed: it was quiet, and another needed room; {} of them are open; {} bounds them",
                    bound.bound, bound.setting
                );
                self.refuse(peer, "made-room", &message);
                Some(slot)
            }
            Err(full) => {
                let message = format_args!(
                    "connection refused: {} of them are open; {} bounds them",
                    full.bound, full.setting
                );
                self.refuse(peer, full.reason, &message);
                None
            }
        }
    }

    /// Counts something turned away, and tells the log unless that has heard of the same reason within the second.
    pub(super) fn refuse(
        &self,
        peer: SocketAddr,
        reason: &'static str,
        message: &dyn fmt::Display,
    ) {
        self.shared.metrics.refused(&self.name, reason);
        self.complain(peer, reason, message);
    }

    /// As `refuse`, without counting.
    pub(super) fn complain(
        &self,
        peer: SocketAddr,
        reason: &'static str,
        message: &dyn fmt::Display,
    ) {
        if let Some(left_out) = self.log.admit(reason, Instant::now()) {
            warn!(listener = %self.name, %peer, reason, left_out, "{message}");
        }
    }

    /// When a peer that is accepted now must have authenticated.
    pub(super) fn handshake_deadline(&self) -> Instant {
        deadline::after(Instant::now(), self.shared.limits.handshake_timeout)
    }

    /// The facts of one connection; `local` is the address that the peer reached.
    pub(super) fn info(
        &self,
        peer: SocketAddr,
        local: Option<IpAddr>,
        certificate_principal: Option<Principal>,
    ) -> ConnectionInfo {
        ConnectionInfo {
            listener: self.name.clone(),
            transport: self.config.transport,
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            certificate_principal,
            sasl_mechanisms: self.sasl_mechanisms.clone(),
            advertised: self.advertised.clone().unwrap_or_else(|| {
                let bound = self.bound.ip();
                let reached = if bound.is_unspecified() { local } else { None };
                let ip = reached.unwrap_or(bound).to_canonical();
                (ip.to_string().into(), self.bound.port())
            }),
        }
    }

    /// The principal of the peer's certificate, where it gave one. `Err` was told to the log: the peer is to be turned away.
    pub(super) fn principal(
        &self,
        peer: SocketAddr,
        certificate: Option<&[u8]>,
    ) -> Result<Option<Principal>, Refused> {
        let Some(certificate) = certificate else {
            return Ok(None);
        };
        match self.shared.rules.principal(certificate) {
            Ok(principal) => Ok(Some(principal)),
            Err(fault) => {
                self.refuse(peer, "unacceptable-certificate", &fault);
                Err(Refused)
            }
        }
    }
}

/// The peer was turned away, and everybody told who should know.
#[derive(Debug)]
pub(super) struct Refused;
