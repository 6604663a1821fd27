//! QUIC by quinn: each bidirectional stream that a client opens carries the frames of one connection.
//!
//! Streams are tasks of their own: a slow or broken one holds up no other. The certificate belongs to the connection, so
//! all its streams start with the same principal; SASL authenticates a stream alone.
//!
//! Memory: what a peer may send ahead of its reader is bounded by flow control, for a stream by `STREAM_WINDOW` and for
//! all of a connection's streams by `UNAUTHENTICATED_WINDOW` until one of them has authenticated, then by `CONNECTION_WINDOW`. So 10,000
//! peers that never authenticate hold at most 10,000 × 128 KiB = 1.3 GB if they all fill their windows and the
//! broker reads nothing, which it does not; what a reader takes counts against `net.max_in_flight_bytes`. Towards the
//! peer `SEND_WINDOW` bounds what a connection keeps until it is acknowledged.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    AckFrequencyConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming,
    MtuDiscoveryConfig, TransportConfig, VarInt,
};
use rustls_pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::certificate::Certificates;
use super::connection::{self, Carrier, End};
use super::deadline::Expiry;
use super::drain::Remaining;
use super::limits::Slot;
use super::listener::{Listener, Refused};
use super::tcp::hold;
use super::{Service, deadline};
use crate::config::NetConfig;
use crate::types::Principal;

/// The application protocol that both sides must name in the handshake (RFC 7301).
pub const ALPN: &[u8] = b"kafka";

/// A gigabyte a second over a round trip of 4 ms, or 40 MB/s over 100 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// Four streams at full speed; more of them share it.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Enough for every message that comes before authentication without a further round trip.
const UNAUTHENTICATED_WINDOW: u32 = 128 << 10;
const SEND_WINDOW: u64 = 8 << 20;
/// Ten packets, which quinn hands to the system in one call, must stay below the 64 KiB that one call takes.
const LARGEST_PACKET: u16 = 6_300;
const PACKETS_PER_ACKNOWLEDGEMENT: VarInt = VarInt::from_u32(10);
/// Asked of the system for the one UDP socket of all connections; the system grants what `net.core.rmem_max` allows. The
/// default of 208 KiB overflows in a millisecond at full speed.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Handshakes under way from which on a client must first prove its address (a round trip more): spoofed addresses
/// then cost the broker nothing.
const HANDSHAKES_BEFORE_RETRY: usize = 128;

/// Codes with which the broker closes connections and resets streams.
const DONE: VarInt = VarInt::from_u32(0);
const REFUSED: VarInt = VarInt::from_u32(1);
const PROTOCOL_VIOLATED: VarInt = VarInt::from_u32(2);
const FAILED: VarInt = VarInt::from_u32(3);

/// What quinn is configured with, from the certificates and the limits.
pub(super) fn server_config(
    mut tls: rustls::ServerConfig,
    limits: &NetConfig,
) -> Result<quinn::ServerConfig, String> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).map_err(|fault| format!("QUIC: {fault}"))?;
    let mut transport = TransportConfig::default();
    let streams = VarInt::from_u32(limits.max_streams_per_connection);
    // Longer than the format can say means never.
    let idle = IdleTimeout::try_from(limits.idle_timeout).ok();
    transport
        .max_concurrent_bidi_streams(streams)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(idle)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(UNAUTHENTICATED_WINDOW))
        .send_window(SEND_WINDOW)
        .ack_frequency_config(Some(acknowledgements()))
        .mtu_discovery_config(Some(packets()));
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// What peers are asked for that can do so (draft-ietf-quic-ack-frequency): an acknowledgement costs both sides nearly what a
/// packet of data costs, and two packets each are more than congestion control needs.
fn acknowledgements() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config.ack_eliciting_threshold(PACKETS_PER_ACKNOWLEDGEMENT);
    config
}

/// Where the path takes more than the 1,452 bytes that quinn would stop at (jumbo frames, loopback), larger packets: most
/// of QUIC's cost is one packet's, whatever its size.
fn packets() -> MtuDiscoveryConfig {
    let mut config = MtuDiscoveryConfig::default();
    config.upper_bound(LARGEST_PACKET);
    config
}

pub(super) fn bind(address: SocketAddr, config: quinn::ServerConfig) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    let options = socket2::SockRef::from(&socket);
    for set in [
        options.set_recv_buffer_size(SOCKET_BUFFER_BYTES),
        options.set_send_buffer_size(SOCKET_BUFFER_BYTES),
    ] {
        if let Err(fault) = set {
            debug!("UDP socket buffer: {fault}");
        }
    }
    let mut endpoint = EndpointConfig::default();
    endpoint
        .max_udp_payload_size(LARGEST_PACKET)
        .map_err(io::Error::other)?;
    Endpoint::new(
        endpoint,
        Some(config),
        socket,
        Arc::new(quinn::TokioRuntime),
    )
}

/// Accepts until the drain begins; returns the connections that are still open.
pub(super) async fn accept<S: Service>(
    endpoint: Endpoint,
    listener: Arc<Listener<S>>,
    certificates: Arc<Certificates<quinn::ServerConfig>>,
) -> Remaining {
    let mut connections = JoinSet::new();
    let handshakes = Arc::new(AtomicUsize::new(0));
    let drain = listener.shared.drain.clone();
    loop {
        let incoming = tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else {
            break;
        };
        let proven = incoming.remote_address_validated() || !incoming.may_retry();
        if !proven && handshakes.load(Ordering::Relaxed) >= HANDSHAKES_BEFORE_RETRY {
            // Fails only where `may_retry` is false.
            let _ = incoming.retry();
            continue;
        }
        match listener.admit(incoming.remote_address(), false) {
            Some(slot) => {
                let handshake = Handshake::begin(&handshakes);
                let serving = serve(
                    Arc::clone(&listener),
                    incoming,
                    certificates.clone(),
                    handshake,
                );
                connections.spawn(hold(slot, serving));
            }
            None => incoming.refuse(),
        }
    }
    endpoint.set_server_config(None);
    Remaining::of_endpoint(connections, endpoint)
}

/// Counts a handshake while it is under way.
struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve<S: Service>(
    listener: Arc<Listener<S>>,
    incoming: Incoming,
    certificates: Arc<Certificates<quinn::ServerConfig>>,
    handshake: Handshake,
) {
    let peer = incoming.remote_address();
    let deadline = listener.handshake_deadline();
    let config = certificates.current().await;
    let connecting = async { incoming.accept_with(config)?.await };
    let connection = match timeout_at(deadline, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(fault)) => {
            let message = format_args!("QUIC handshake failed: {fault}");
            listener.refuse(peer, "handshake-failed", &message);
            return;
        }
        Err(_) => {
            let message = "QUIC handshake not finished within net.handshake_timeout";
            listener.refuse(peer, "handshake-timeout", &message);
            return;
        }
    };
    drop(handshake);
    match principal(&listener, peer, &connection) {
        Ok(principal) => serve_streams(listener, connection, peer, principal).await,
        Err(Refused) => connection.close(REFUSED, b"client certificate not accepted"),
    }
}

fn principal<S>(
    listener: &Listener<S>,
    peer: SocketAddr,
    connection: &Connection,
) -> Result<Option<Principal>, Refused> {
    let identity = connection.peer_identity();
    let chain = identity
        .as_ref()
        .and_then(|identity| identity.downcast_ref::<Vec<CertificateDer<'static>>>());
    let leaf = chain.and_then(|chain| chain.first());
    listener.principal(peer, leaf.map(AsRef::as_ref))
}

/// Serves streams until the peer closes, has none for the idle time, or the listener drains.
async fn serve_streams<S: Service>(
    listener: Arc<Listener<S>>,
    connection: Connection,
    peer: SocketAddr,
    principal: Option<Principal>,
) {
    let info = listener.info(peer, connection.local_ip(), principal);
    let idle = listener.shared.limits.idle_timeout;
    let drain = listener.shared.drain.clone();
    let mut streams = JoinSet::new();
    let mut without_streams_since = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(_) = streams.join_next() => without_streams_since = Instant::now(),
            opened = connection.accept_bi() => match opened {
                Ok((send, receive)) => {
                    let Some(slot) = listener.admit(peer, true) else {
                        turn_away(send, receive, REFUSED);
                        continue;
                    };
                    let stream = Stream { send, receive, connection: connection.clone() };
                    streams.spawn(stream.serve(slot, Arc::clone(&listener), info.clone()));
                }
                Err(ended) => {
                    // The streams' tasks end with the set: nobody is left to answer.
                    debug!(listener = %listener.name, %peer, "QUIC connection ended: {ended}");
                    return;
                }
            },
            () = tokio::time::sleep_until(deadline::after(without_streams_since, idle)),
                if streams.is_empty() =>
            {
                connection.close(DONE, b"idle");
                return;
            }
        }
    }
    while streams.join_next().await.is_some() {}
    connection.close(DONE, b"shutting down");
}

fn turn_away(mut send: quinn::SendStream, mut receive: quinn::RecvStream, code: VarInt) {
    // Fail only when the stream is closed already.
    let _ = send.reset(code);
    let _ = receive.stop(code);
}

struct Stream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    connection: Connection,
}

impl Stream {
    async fn serve<S: Service>(
        mut self,
        slot: Slot,
        listener: Arc<Listener<S>>,
        info: super::ConnectionInfo,
    ) {
        let connection = self.connection.clone();
        let widen = move || connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW));
        let carrier = Carrier {
            reader: &mut self.receive,
            writer: &mut self.send,
            info,
            authenticate_by: listener.handshake_deadline(),
            on_authenticated: Some(Box::new(widen)),
            seat: slot.seat(),
        };
        let end = tokio::select! {
            biased;
            () = slot.must_go() => End::Expired(Expiry::Idle),
            end = connection::serve(&listener, carrier) => end,
        };
        let code = match end {
            End::Finished | End::Closed(_) => {
                if listener.shared.drain.is_cancelled() {
                    delivered(&self.send).await;
                }
                drop(slot);
                return;
            }
            End::Refused { .. } => PROTOCOL_VIOLATED,
            End::Expired(_) => REFUSED,
            End::Failed(_) | End::Panicked(_) => FAILED,
        };
        turn_away(self.send, self.receive, code);
        drop(slot);
    }
}

/// Waits until the peer has all of a finished stream: closing the connection would throw away what it lacks.
fn delivered(send: &quinn::SendStream) -> impl Future<Output = ()> + use<> {
    let stopped = send.stopped();
    async move {
        // An error means that the connection is gone, and waiting is over as well.
        let _ = stopped.await;
    }
}

/// How long peers are told that the endpoint closed.
pub(super) const CLOSE_GRACE: Duration = Duration::from_millis(500);

pub(super) async fn close(endpoint: Endpoint) {
    endpoint.close(DONE, b"shutting down");
    // A peer that is gone never confirms.
    let _ = tokio::time::timeout(CLOSE_GRACE, endpoint.wait_idle()).await;
}
