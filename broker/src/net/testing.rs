//! What the tests of this module share: a service made of closures, frames, and a listener without a socket.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::limits::Admission;
use super::listener::{Listener, Shared};
use super::outgoing::Backlog;
use super::{ConnectionInfo, Finished, FrameHandler, Service, Started};
use crate::config::{ListenerConfig, NetConfig, Transport};
use crate::env::budget::Memory;
use crate::observe::Metrics;
use crate::security::certificate::PrincipalRules;

/// Long enough for anything that is going to happen on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(20);

type Starting = Pin<Box<dyn Future<Output = Started> + Send>>;
type Handle = Box<dyn Fn(Bytes) -> Starting + Send + Sync>;

/// Hands every frame to a closure, and remembers what connected.
pub(super) struct TestService {
    handle: Arc<Handle>,
    pub(super) authenticated: Arc<AtomicBool>,
    pub(super) connected: Mutex<Vec<ConnectionInfo>>,
}

impl TestService {
    pub(super) fn new(handle: impl Fn(Bytes) -> Started + Send + Sync + 'static) -> Arc<Self> {
        Self::starting(move |frame| Box::pin(std::future::ready(handle(frame))))
    }

    pub(super) fn starting(
        handle: impl Fn(Bytes) -> Starting + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            handle: Arc::new(Box::new(handle)),
            authenticated: Arc::new(AtomicBool::new(true)),
            connected: Mutex::default(),
        })
    }

    /// Answers each frame with its own bytes.
    pub(super) fn echo() -> Arc<Self> {
        Self::new(|frame| Started::Ready(vec![frame]))
    }
}

pub(super) struct TestHandler {
    handle: Arc<Handle>,
    authenticated: Arc<AtomicBool>,
}

impl Service for TestService {
    type Handler = TestHandler;
    fn connect(&self, info: ConnectionInfo) -> TestHandler {
        self.connected.lock().push(info);
        TestHandler {
            handle: self.handle.clone(),
            authenticated: self.authenticated.clone(),
        }
    }
}

impl FrameHandler for TestHandler {
    fn start(&mut self, frame: Bytes) -> impl Future<Output = Started> + Send {
        (self.handle)(frame)
    }
    fn authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }
}

pub(super) fn later(finished: impl Future<Output = Finished> + Send + 'static) -> Started {
    Started::Later(Box::pin(finished))
}

/// A peer of its own for each connection.
pub(super) fn peer() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(10_000);
    ([127, 0, 0, 1], PORT.fetch_add(1, Ordering::Relaxed)).into()
}

pub(super) fn config(name: &str, transport: Transport) -> ListenerConfig {
    ListenerConfig {
        name: name.into(),
        transport,
        bind: ([127, 0, 0, 1], 0).into(),
        advertised: None,
        tls: None,
        sasl_mechanisms: Vec::new(),
        max_connections: 1000,
    }
}

/// A listener that nothing is bound for.
pub(super) fn listener(service: Arc<TestService>, limits: NetConfig) -> Arc<Listener<TestService>> {
    let shared = Arc::new(Shared {
        service,
        rules: PrincipalRules::default(),
        metrics: Arc::new(Metrics::default()),
        admission: Admission::new(&limits),
        memory: Memory::new(&limits),
        backlog: Backlog::new(limits.max_unsent_bytes / super::BACKLOG_PART),
        limits,
        drain: CancellationToken::new(),
    });
    let config = config("test", Transport::Tcp);
    let bound = config.bind;
    Arc::new(Listener::new(config, bound, shared))
}

/// The payload with its length in front. Payloads shorter than the smallest request are the test's mistake.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() >= super::frame::MIN_FRAME_BYTES);
    let length = i32::try_from(payload.len()).unwrap();
    [&length.to_be_bytes()[..], payload].concat()
}

pub(super) async fn send(io: &mut (impl AsyncWrite + Unpin), payload: &[u8]) {
    io.write_all(&frame(payload)).await.unwrap();
}

/// The next answer's bytes; `None` when the other side closed.
pub(super) async fn receive(io: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = io.read_i32().await.ok()?;
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    io.read_exact(&mut payload).await.ok()?;
    Some(payload)
}

/// Whether the other side closes before anything else comes.
pub(super) async fn is_closed(io: &mut (impl AsyncRead + Unpin)) -> bool {
    matches!(io.read(&mut [0; 1]).await, Ok(0) | Err(_))
}
