//! Listeners over TCP, TLS and QUIC that carry length-prefixed frames to a handler. Knows nothing of what is in a frame.
//!
//! A *listener* accepts on one address over one transport. Each connection it carries (on QUIC: each stream) gets a *handler*
//! from the *service*, and one loop (`connection`) between the two. All bounds of `NetConfig` are kept here.

mod certificate;
mod connection;
mod deadline;
pub mod dev_certificate;
mod drain;
mod frame;
mod limits;
mod listener;
mod outgoing;
mod quic;
mod read_ahead;
mod tcp;
mod tls;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{ListenerConfig, ListenerTls, NetConfig, SaslMechanism, Transport};
use crate::env::budget::Memory;
use crate::observe::Metrics;
use crate::security::certificate::PrincipalRules;
use crate::types::Principal;
use certificate::Certificates;
use drain::Remaining;
use limits::Admission;
use listener::{Listener, Shared};
use outgoing::Backlog;
pub use quic::ALPN;

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
    /// The shortest frame that it takes now, in bytes.
    fn min_frame_bytes(&self) -> usize {
        frame::MIN_FRAME_BYTES
    }
    /// Who holds what this connection's requests hold in memory: asked when the peer has authenticated. `None`: its address.
    fn principal(&self) -> Option<Principal> {
        None
    }
    /// Ready when the connection must end although the peer did nothing, with the reason for the log. Not called again then.
    fn poll_ended(&mut self, _cx: &mut std::task::Context<'_>) -> std::task::Poll<String> {
        std::task::Poll::Pending
    }
}

/// An answer's bytes, without the length prefix. Chunks go out in order without being joined.
pub type Reply = Vec<Bytes>;

pub enum Started {
    Ready(Reply),
    Later(Pin<Box<dyn Future<Output = Finished> + Send>>),
    /// As `Later`, but nothing is done for it before every earlier answer of the connection is finished: for answers that may be large,
    /// so that those which have to wait for their turn hold nothing.
    InTurn(Pin<Box<dyn Future<Output = Finished> + Send>>),
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

/// Of `net.max-unsent-bytes`, what answers that were not reserved for may come to over all connections.
const BACKLOG_PART: u64 = 8;

type Reload = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What connections may take: the settings, and the memory that these give them.
#[derive(Clone, Debug)]
pub struct Limits {
    pub settings: NetConfig,
    pub memory: Memory,
}

/// Listeners that are up. Dropping them closes every connection at once; `shutdown` is the graceful way.
pub struct Listeners {
    addresses: Vec<(String, Transport, SocketAddr)>,
    accepting: JoinSet<Remaining>,
    reloads: Vec<Reload>,
    drain: CancellationToken,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Listeners {
    /// Binds every listener and starts to accept. Errs with the listener's name when one cannot be bound or its
    /// certificates cannot be loaded; none is left open then.
    pub async fn start<S: Service>(
        listeners: &[ListenerConfig],
        limits: Limits,
        rules: PrincipalRules,
        service: Arc<S>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let Limits {
            settings: limits,
            memory,
        } = limits;
        let drain = CancellationToken::new();
        let shared = Arc::new(Shared {
            service,
            rules,
            metrics,
            admission: Admission::new(&limits),
            backlog: Backlog::new(limits.max_unsent_bytes / BACKLOG_PART),
            memory,
            limits,
            drain: drain.clone(),
        });
        let mut started = Self {
            addresses: Vec::new(),
            accepting: JoinSet::new(),
            reloads: Vec::new(),
            drain,
        };
        for config in listeners {
            started
                .open(config, &shared)
                .await
                .map_err(|fault| format!("listener {:?}: {fault}", config.name))?;
        }
        Ok(started)
    }

    /// Name, transport and bound address of each listener.
    pub fn addresses(&self) -> Vec<(String, Transport, SocketAddr)> {
        self.addresses.clone()
    }

    /// Loads the certificates of every listener again. Reads files. Errs with every file that cannot be used, whose
    /// listener goes on with what it had. Without this call changed files are noticed on a handshake within a second.
    pub fn reload_certificates(&self) -> Result<(), String> {
        let faults: Vec<String> = self
            .reloads
            .iter()
            .filter_map(|reload| reload().err())
            .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }

    /// Stops accepting, lets started requests finish, and closes what is left at the deadline.
    pub async fn shutdown(self, deadline: Duration) {
        self.drain.cancel();
        drain::finish(self.accepting, deadline).await;
    }

    async fn open<S: Service>(
        &mut self,
        config: &ListenerConfig,
        shared: &Arc<Shared<S>>,
    ) -> Result<(), String> {
        if config.transport == Transport::Tcp
            && config.sasl_mechanisms.contains(&SaslMechanism::Plain)
        {
            return Err(
                "PLAIN would send passwords over plain TCP: use transport tls or quic, or a SCRAM mechanism"
                    .into(),
            );
        }
        let told = |fault| format!("cannot bind {}: {fault}", config.bind);
        let bound = if config.transport == Transport::Quic {
            let limits = shared.limits.clone();
            let build = move |tls| quic::server_config(tls, &limits);
            let certificates = self.certificates(config, Box::new(build))?;
            let initial = quinn::ServerConfig::clone(&*certificates.current().await);
            let endpoint = quic::bind(config.bind, initial).map_err(told)?;
            let bound = endpoint.local_addr().map_err(told)?;
            let listener = Arc::new(Listener::new(config.clone(), bound, Arc::clone(shared)));
            self.accepting
                .spawn(quic::accept(endpoint, listener, certificates));
            bound
        } else {
            let certificates = match config.transport {
                Transport::Tls => Some(self.certificates(config, Box::new(Ok))?),
                Transport::Tcp | Transport::Quic => None,
            };
            let socket = tcp::bind(config.bind).await.map_err(told)?;
            let bound = socket.local_addr().map_err(told)?;
            let listener = Arc::new(Listener::new(config.clone(), bound, Arc::clone(shared)));
            self.accepting
                .spawn(tcp::accept(socket, listener, certificates));
            bound
        };
        info!(listener = %config.name, transport = ?config.transport, address = %bound, "listening");
        self.addresses
            .push((config.name.clone(), config.transport, bound));
        Ok(())
    }

    fn certificates<T: Send + Sync + 'static>(
        &mut self,
        config: &ListenerConfig,
        build: Box<dyn Fn(rustls::ServerConfig) -> Result<T, String> + Send + Sync>,
    ) -> Result<Arc<Certificates<T>>, String> {
        let files: &ListenerTls = config
            .tls
            .as_ref()
            .ok_or("this transport needs tls.certificate_file and tls.key_file")?;
        let certificates = Certificates::load(&config.name, files, build)?;
        let reloaded = Arc::clone(&certificates);
        self.reloads.push(Box::new(move || reloaded.reload()));
        Ok(certificates)
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
