//! Connections of the admin port, bounded in number and in the time that one may hold its place.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at once. The next ones wait in the kernel's queue until a place is free.
const MAX_CONNECTIONS: usize = 64;

/// A connection is closed when nothing could be sent to the peer for this long: it is idle, sends its request drop by
/// drop, or does not read its answer. Longer than a call may take.
const MAX_SILENCE: Duration = Duration::from_secs(75);

/// A pause after a failed accept: what is missing (file descriptors) does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    max_silence: Duration,
}

impl BoundedListener {
    pub fn new(listener: TcpListener) -> Self {
        Self::with_bounds(listener, MAX_CONNECTIONS, MAX_SILENCE)
    }

    fn with_bounds(listener: TcpListener, connections: usize, max_silence: Duration) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(connections)),
            max_silence,
        }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            let place = self.places.clone().acquire_owned().await;
            let accepted = self.listener.accept().await;
            match (place, accepted) {
                (Ok(place), Ok((stream, peer))) => {
                    let stream = BoundedStream {
                        stream,
                        silence: Box::pin(tokio::time::sleep(self.max_silence)),
                        max_silence: self.max_silence,
                        _place: place,
                    };
                    return (stream, peer);
                }
                (_, Err(error)) => {
                    tracing::warn!(%error, "the admin port could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (Err(_), Ok(_)) => unreachable!("the semaphore is never closed"),
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

impl Connected<IncomingStream<'_, BoundedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A connection that fails when its silence lasts too long. Its place is free again when it is dropped.
pub(super) struct BoundedStream {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    max_silence: Duration,
    _place: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn or_silence<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_pending() && self.silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        outcome
    }

    fn written(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = outcome {
            let until = Instant::now() + self.max_silence;
            self.silence.as_mut().reset(until);
        }
        self.or_silence(outcome, context)
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.or_silence(outcome, context)
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
        self.or_silence(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.or_silence(outcome, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn listener(connections: usize, max_silence: Duration) -> (BoundedListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (
            BoundedListener::with_bounds(listener, connections, max_silence),
            address,
        )
    }

    #[tokio::test]
    async fn a_silent_peer_loses_its_connection_and_an_answered_one_keeps_it() {
        let (mut listener, address) = listener(1, Duration::from_millis(200)).await;
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
    async fn a_place_is_free_again_when_its_connection_ends() {
        let (mut listener, address) = listener(1, Duration::from_secs(60)).await;
        let _first = TcpStream::connect(address).await.expect("connected");
        let _second = TcpStream::connect(address).await.expect("queued");
        let (stream, _) = listener.accept().await;
        let waiting = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(waiting.is_err(), "there was one place");
        drop(stream);
        listener.accept().await;
    }
}
