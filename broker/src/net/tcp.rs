//! Accepts TCP connections, with or without TLS above them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Service;
use super::certificate::Certificates;
use super::connection::{self, Carrier};
use super::drain::Remaining;
use super::limits::{Seat, Slot};
use super::listener::Listener;
use super::tls;

/// After an accept that failed for want of something (descriptors, memory): the wait doubles up to a second, so that the
/// process is left some time to get it back.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LAST_BACKOFF: Duration = Duration::from_secs(1);

pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Accepts until the drain begins; returns the connections that are still open.
pub(super) async fn accept<S: Service>(
    socket: TcpListener,
    listener: Arc<Listener<S>>,
    certificates: Option<Arc<Certificates<rustls::ServerConfig>>>,
) -> Remaining {
    let mut connections = JoinSet::new();
    let mut backoff = FIRST_BACKOFF;
    let drain = listener.shared.drain.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.cancelled() => return Remaining::new(connections),
            Some(_) = connections.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff = FIRST_BACKOFF;
                if let Some(slot) = listener.admit(peer, true) {
                    let peer = Peer {
                        address: peer,
                        seat: slot.seat(),
                    };
                    let serving = serve(Arc::clone(&listener), stream, peer, certificates.clone());
                    connections.spawn(hold(slot, serving));
                }
            }
            Err(fault) if concerns_one_connection(&fault) => {
                debug!(listener = %listener.name, "accept failed: {fault}");
            }
            Err(fault) => {
                warn!(listener = %listener.name, retry_in = ?backoff, "accept failed: {fault}");
                tokio::select! {
                    () = drain.cancelled() => {}
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(LAST_BACKOFF);
            }
        }
    }
}

/// Keeps the slot for as long as the work lasts, and ends the work when the slot is needed for another.
pub(super) async fn hold(slot: Slot, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = slot.must_go() => {}
        () = work => {}
    }
    drop(slot);
}

/// Who is at the other end, and the seat that it was given.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) seat: Arc<Seat>,
}

/// Errors that the peer caused before it was accepted; the next accept may succeed at once.
fn concerns_one_connection(fault: &io::Error) -> bool {
    matches!(
        fault.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn serve<S: Service>(
    listener: Arc<Listener<S>>,
    mut stream: TcpStream,
    peer: Peer,
    certificates: Option<Arc<Certificates<rustls::ServerConfig>>>,
) {
    let authenticate_by = listener.handshake_deadline();
    // Answers are written whole: waiting for more to fill a segment would only delay them.
    if let Err(fault) = stream.set_nodelay(true) {
        debug!(listener = %listener.name, peer = %peer.address, "TCP_NODELAY: {fault}");
    }
    if let Some(certificates) = certificates {
        tls::serve(&listener, stream, peer, &certificates, authenticate_by).await;
        return;
    }
    let local = stream.local_addr().ok().map(|local| local.ip());
    let info = listener.info(peer.address, local, None);
    let (reader, writer) = stream.split();
    let carrier = Carrier {
        reader,
        writer,
        info,
        authenticate_by,
        on_authenticated: None,
        seat: peer.seat,
    };
    connection::serve(&listener, carrier).await;
}
