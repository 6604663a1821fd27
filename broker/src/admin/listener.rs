//! Connections of the admin port, bounded in number and in the time that one may hold its place.
//!
//! A new connection always gets a *place*: when all are taken, somebody else's is taken back. First go those that have not
//! sent a request yet, then those that have been answered and are idle, then those with a call that needs no token; of these
//! the oldest of the address that has most. So however many connections somebody opens and leaves half open, health and metrics
//! answer. Calls with the token are left alone.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;

/// The first request must have come by then, without its body.
const MAX_HEAD_TIME: Duration = Duration::from_secs(10);

/// A connection is closed when nothing could be sent to the peer for this long: it is idle, sends its request drop by
/// drop, or does not read its answer. Longer than a call may take.
const MAX_SILENCE: Duration = Duration::from_secs(75);

/// Bytes that may come before a request is whole, its body left out.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A pause after a failed accept: what is missing (file descriptors) does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection is busy with, in the order in which places are taken back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum Stage {
    /// No request has come yet.
    New,
    /// The last request is answered.
    Idle,
    /// A call that needs no token, or has not shown it yet.
    Call,
    /// A call with the token.
    Trusted,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Place {
    ip: IpAddr,
    stage: AtomicU8,
    taken_back: CancellationToken,
}

impl Place {
    pub fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    fn stage(&self) -> Stage {
        let stages = [Stage::New, Stage::Idle, Stage::Call, Stage::Trusted];
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        stages.get(stage).copied().unwrap_or(Stage::New)
    }
}

/// All places, the oldest connection's first.
#[derive(Debug)]
struct Places {
    max: usize,
    taken: Mutex<Vec<Arc<Place>>>,
}

impl Places {
    /// A place for a new connection; `None` when every other one has a call with the token.
    fn take(&self, ip: IpAddr) -> Option<Arc<Place>> {
        let mut taken = self.taken.lock();
        if taken.len() >= self.max {
            let at = victim(&taken)?;
            let victim = taken.remove(at);
            victim.taken_back.cancel();
        }
        let place = Arc::new(Place {
            ip,
            stage: AtomicU8::new(Stage::New as u8),
            taken_back: CancellationToken::new(),
        });
        taken.push(place.clone());
        Some(place)
    }

    fn give_back(&self, place: &Arc<Place>) {
        let mut taken = self.taken.lock();
        taken.retain(|other| !Arc::ptr_eq(other, place));
    }
}

/// Whose place is taken back next.
fn victim(taken: &[Arc<Place>]) -> Option<usize> {
    let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
    for place in taken {
        *of_address.entry(place.ip).or_default() += 1;
    }
    let candidates = taken.iter().enumerate().filter_map(|(at, place)| {
        let stage = place.stage();
        let share = of_address.get(&place.ip).copied().unwrap_or_default();
        (stage != Stage::Trusted).then_some((stage, usize::MAX - share, at))
    });
    candidates.min().map(|(_, _, at)| at)
}

/// The longest times, apart for tests.
#[derive(Clone, Copy, Debug)]
struct Times {
    head: Duration,
    silence: Duration,
}

pub(super) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Places>,
    times: Times,
}

impl BoundedListener {
    pub fn new(listener: TcpListener) -> Self {
        let times = Times {
            head: MAX_HEAD_TIME,
            silence: MAX_SILENCE,
        };
        Self::with_bounds(listener, MAX_CONNECTIONS, times)
    }

    fn with_bounds(listener: TcpListener, connections: usize, times: Times) -> Self {
        let places = Arc::new(Places {
            max: connections,
            taken: Mutex::default(),
        });
        Self {
            listener,
            places,
            times,
        }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Dropped, and so closed, when there is no place.
                    if let Some(place) = self.places.take(peer.ip().to_canonical()) {
                        let taken_back = place.taken_back.clone().cancelled_owned();
                        let stream = BoundedStream {
                            stream,
                            deadline: Box::pin(tokio::time::sleep(self.times.head)),
                            silence: self.times.silence,
                            head_bytes: 0,
                            taken_back: Box::pin(taken_back),
                            place,
                            places: self.places.clone(),
                        };
                        return (stream, peer);
                    }
                    tracing::warn!(%peer, "the admin port is full of calls: a connection was closed");
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin port could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The caller's address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub SocketAddr);

/// The caller's connection.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub peer: SocketAddr,
    pub place: Arc<Place>,
}

impl Connected<IncomingStream<'_, BoundedListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self {
            peer: *stream.remote_addr(),
            place: stream.io().place.clone(),
        }
    }
}

/// A connection that fails when it is silent for too long, or its place is taken back.
pub(super) struct BoundedStream {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    silence: Duration,
    /// Since the last answer, outside calls.
    head_bytes: usize,
    taken_back: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Arc<Place>,
    places: Arc<Places>,
}

impl Drop for BoundedStream {
    fn drop(&mut self) {
        self.places.give_back(&self.place);
    }
}

impl BoundedStream {
    fn in_call(&self) -> bool {
        matches!(self.place.stage(), Stage::Call | Stage::Trusted)
    }

    fn or_over<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if self.taken_back.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        while outcome.is_pending() && self.deadline.as_mut().poll(context).is_ready() {
            // A call's time is bounded by itself, and what waits for its answer is not silent.
            if !self.in_call() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.put_off();
        }
        outcome
    }

    fn put_off(&mut self) {
        let until = Instant::now() + self.silence;
        self.deadline.as_mut().reset(until);
    }

    fn written(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = outcome {
            self.put_off();
            self.head_bytes = 0;
        }
        self.or_over(outcome, context)
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bounded = !self.in_call();
        if bounded && self.head_bytes > MAX_HEAD_BYTES {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if bounded {
            self.head_bytes += buffer.filled().len() - before;
        }
        self.or_over(outcome, context)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.or_over(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.or_over(outcome, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn listener(connections: usize, times: Times) -> (BoundedListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (
            BoundedListener::with_bounds(listener, connections, times),
            address,
        )
    }

    fn places(max: usize) -> Places {
        Places {
            max,
            taken: Mutex::default(),
        }
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn a_silent_peer_loses_its_connection_and_an_answered_one_keeps_it() {
        let times = Times {
            head: LONG,
            silence: Duration::from_millis(200),
        };
        let (mut listener, address) = listener(1, times).await;
        let mut peer = TcpStream::connect(address).await.expect("connected");
        let (mut stream, _) = listener.accept().await;
        let start = Instant::now();
        let drip = async {
            // Bytes of the peer alone do not keep it.
            for _ in 0..100 {
                if peer.write_all(b"x").await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let serve = async {
            stream.write_all(b"answer").await.expect("written");
            let mut received = Vec::new();
            let error = stream
                .read_to_end(&mut received)
                .await
                .expect_err("silence");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(stream);
        };
        tokio::join!(drip, serve);
        assert!(start.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_request_must_come_in_time_and_a_call_that_has_begun_may_take_longer() {
        let times = Times {
            head: Duration::from_millis(100),
            silence: LONG,
        };
        let (mut listener, address) = listener(2, times).await;
        let _slow = TcpStream::connect(address).await.expect("connected");
        let (mut slow, _) = listener.accept().await;
        let _busy = TcpStream::connect(address).await.expect("connected");
        let (mut busy, _) = listener.accept().await;
        busy.place.set(Stage::Call);
        let error = slow.read_u8().await.expect_err("no request");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let waiting = tokio::time::timeout(Duration::from_millis(200), busy.read_u8()).await;
        assert!(waiting.is_err(), "the call goes on");
    }

    #[tokio::test]
    async fn the_head_of_a_request_is_bounded() {
        let times = Times {
            head: LONG,
            silence: LONG,
        };
        let (mut listener, address) = listener(1, times).await;
        let mut peer = TcpStream::connect(address).await.expect("connected");
        let (mut stream, _) = listener.accept().await;
        let send = async {
            let _ = peer.write_all(&vec![b'x'; 2 * MAX_HEAD_BYTES]).await;
        };
        let receive = async {
            let mut received = Vec::new();
            let error = stream.read_to_end(&mut received).await.expect_err("bound");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            drop(stream);
        };
        tokio::join!(send, receive);
    }

    #[tokio::test]
    async fn a_newcomer_gets_the_place_of_the_oldest_that_sends_nothing() {
        let times = Times {
            head: LONG,
            silence: LONG,
        };
        let (mut listener, address) = listener(2, times).await;
        let mut peers = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..3 {
            peers.push(TcpStream::connect(address).await.expect("connected"));
            streams.push(listener.accept().await.0);
        }
        let error = streams[0].read_u8().await.expect_err("taken back");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        peers[1].write_all(b"x").await.expect("written");
        assert_eq!(streams[1].read_u8().await.expect("read"), b'x');
        streams.clear();
        assert!(listener.places.taken.lock().is_empty());
    }

    #[test]
    fn places_are_taken_back_by_what_their_connections_do() {
        let places = places(4);
        let taken: Vec<_> = (0..4).filter_map(|_| places.take(ip(1))).collect();
        let stages = [Stage::Trusted, Stage::Call, Stage::Idle, Stage::New];
        for (place, stage) in taken.iter().zip(stages) {
            place.set(stage);
        }
        for loser in [3, 2, 1] {
            let newcomer = places.take(ip(1)).expect("a place");
            assert!(
                taken[loser].taken_back.is_cancelled(),
                "{:?}",
                stages[loser]
            );
            newcomer.set(Stage::Trusted);
        }
        assert!(places.take(ip(1)).is_none(), "all have the token");
        assert!(!taken[0].taken_back.is_cancelled());
        places.give_back(&taken[0]);
        assert!(places.take(ip(1)).is_some());
    }

    #[test]
    fn the_address_that_has_most_loses_first() {
        let places = places(4);
        let alone = places.take(ip(1)).expect("a place");
        let crowd: Vec<_> = (0..3).filter_map(|_| places.take(ip(2))).collect();
        let _another = places.take(ip(3)).expect("a place");
        assert!(!alone.taken_back.is_cancelled());
        assert!(crowd[0].taken_back.is_cancelled());
    }
}
