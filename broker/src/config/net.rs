//! `[net]`: bounds that hold for all listeners together or for each connection. They keep memory flat under abuse.

use std::time::Duration;

use super::Config;
use super::setting::{Kind, Setting, setting};

/// Bounds that hold for all listeners together or for each connection.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The largest request frame, in bytes, without its length prefix.
    pub max_frame_bytes: u32,
    /// The largest request frame before a connection has authenticated.
    pub max_unauthenticated_frame_bytes: u32,
    /// Bytes of requests held in memory at once, over all connections.
    pub max_in_flight_bytes: u64,
    /// Bytes of answers held in memory at once, over all connections.
    pub max_unsent_bytes: u64,
    /// Bytes of batches that are being taken apart for an answer.
    pub max_work_bytes: u64,
    /// Requests of one connection that may wait for their answer.
    pub max_in_flight_requests: usize,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    /// Streams that one QUIC connection may have open.
    pub max_streams_per_connection: u32,
    pub idle_timeout: Duration,
    /// From accept to the end of TLS and QUIC handshakes, and to the end of SASL.
    pub handshake_timeout: Duration,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            max_frame_bytes: 100 << 20,
            max_unauthenticated_frame_bytes: 16 << 10,
            max_in_flight_bytes: 256 << 20,
            max_unsent_bytes: 128 << 20,
            max_work_bytes: 64 << 20,
            max_in_flight_requests: 256,
            max_connections: 10_000,
            max_connections_per_ip: 5_000,
            max_streams_per_connection: 256,
            idle_timeout: Duration::from_secs(600),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        net.max_frame_bytes,
        "max-frame-bytes",
        Kind::Size {
            min: 1 << 10,
            max: i32::MAX as u64
        },
        "The largest request. A connection that announces a larger one is closed. Must hold the largest produce request of any client."
    ),
    setting!(
        net.max_unauthenticated_frame_bytes,
        "max-unauthenticated-frame-bytes",
        Kind::Size {
            min: 1 << 10,
            max: 100 << 20
        },
        "The largest request before a connection has authenticated, so that a stranger cannot make the broker hold much. Raise it when SASL tokens are larger."
    ),
    setting!(
        net.max_in_flight_bytes,
        "max-in-flight-bytes",
        Kind::Size {
            min: 1 << 20,
            max: 1 << 40
        },
        "Bytes of requests held in memory at once, over all connections, counted as they arrive. When it is reached, reading pauses and clients feel back-pressure. An eighth is kept for requests up to 64 KiB, a sixteenth for peers that have not authenticated; of the rest one connection holds a quarter and one principal or address a half at most."
    ),
    setting!(
        net.max_unsent_bytes,
        "max-unsent-bytes",
        Kind::Size {
            min: 1 << 20,
            max: 1 << 40
        },
        "Bytes of answers held in memory at once, over all connections, from before they are read from the log until the peer has taken them. When it is reached, answers get smaller and then wait. An eighth is kept for answers up to 64 KiB; of the rest one connection holds a quarter and one principal or address a half at most."
    ),
    setting!(
        net.max_work_bytes,
        "max-work-bytes",
        Kind::Size {
            min: 16 << 20,
            max: 1 << 40
        },
        "Bytes of batches taken apart for answers, such as searches for a time, over all connections. Each search reserves 16 MiB, so this bounds how many run at once."
    ),
    setting!(
        net.max_in_flight_requests,
        "max-in-flight-requests",
        Kind::Count {
            min: 1,
            max: 100_000
        },
        "Requests of one connection that may wait for their answer; reading from it pauses above."
    ),
    setting!(
        net.max_connections,
        "max-connections",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "Connections at most, over all listeners. Above, the address that has the most of them makes room for one that has fewer, and else the next one is refused. Each takes a file descriptor and a few KiB, and up to 40 KiB with a request that is under way."
    ),
    setting!(
        net.max_connections_per_ip,
        "max-connections-per-ip",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "Connections from one IP address at most, so that one address cannot take all of them. Above, one of the address that has been quiet makes room, and else the next one is refused. Clients behind one NAT share it."
    ),
    setting!(
        net.max_streams_per_connection,
        "max-streams-per-connection",
        Kind::Count {
            min: 1,
            max: 65_536
        },
        "Streams that one QUIC connection may have open; each is what a TCP connection is."
    ),
    setting!(
        net.idle_timeout,
        "idle-timeout",
        Kind::Duration {
            min: 1_000,
            max: 86_400_000
        },
        "A connection without a request for this long is closed. Kafka clients reconnect by themselves."
    ),
    setting!(
        net.handshake_timeout,
        "handshake-timeout",
        Kind::Duration {
            min: 100,
            max: 300_000
        },
        "From accept to the end of the TLS or QUIC handshake, and on to the end of SASL. Bounds what slow strangers can hold."
    ),
];
