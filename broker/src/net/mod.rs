//! Listeners over TCP, TLS and QUIC that carry length-prefixed frames to a handler. Knows nothing of what is in a frame.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{ListenerConfig, NetConfig, SaslMechanism, Transport};
use crate::observe::Metrics;
use crate::security::certificate::PrincipalRules;
use crate::types::Principal;

/// Facts about a connection (on QUIC: a stream) that its handler is made with.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    pub listener: Arc<str>,
    pub transport: Transport,
    pub peer: SocketAddr,
    /// From a verified client certificate.
    pub certificate_principal: Option<Principal>,
    pub sasl_mechanisms: Arc<[SaslMechanism]>,
    /// What Metadata tells clients of this listener.
    pub advertised: (Arc<str>, u16),
}

/// Makes a handler for each connection.
pub trait Service: Send + Sync + 'static {
    type Handler: FrameHandler;
    fn connect(&self, info: ConnectionInfo) -> Self::Handler;
}

/// Handles the frames of one connection.
pub trait FrameHandler: Send + 'static {
    /// Starts a request. Starts run one after the other in the order of arrival; what `Started::Later` still waits for does
    /// not hold up the next start. Answers go out in the order of the starts.
    fn start(&mut self, frame: Bytes) -> impl Future<Output = Started> + Send;
    /// False until the peer has authenticated: a smaller frame bound and the handshake deadline apply.
    fn authenticated(&self) -> bool;
}

/// An answer's bytes, without the length prefix. Chunks go out in order without being joined.
pub type Reply = Vec<Bytes>;

pub enum Started {
    Ready(Reply),
    Later(Pin<Box<dyn Future<Output = Finished> + Send>>),
    /// The protocol has no answer for this request (acks=0).
    Silent,
    /// The connection cannot go on; the reason goes to the log. An answer may precede the end.
    Close {
        reply: Option<Reply>,
        reason: String,
    },
}

pub enum Finished {
    Reply(Reply),
    Silent,
    Close {
        reply: Option<Reply>,
        reason: String,
    },
}

/// Listeners that are up.
#[derive(Debug)]
pub struct Listeners {}

impl Listeners {
    /// Binds every listener and starts to accept.
    pub async fn start<S: Service>(
        listeners: &[ListenerConfig],
        limits: NetConfig,
        rules: PrincipalRules,
        service: Arc<S>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let _ = (listeners, limits, rules, service, metrics);
        todo!()
    }
    /// Name, transport and bound address of each listener.
    pub fn addresses(&self) -> Vec<(String, Transport, SocketAddr)> {
        todo!()
    }
    /// Stops accepting, lets started requests finish, and closes what is left at the deadline.
    pub async fn shutdown(self, deadline: std::time::Duration) {
        let _ = deadline;
        todo!()
    }
}
