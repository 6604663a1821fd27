//! Configuration in two stages: as written (TOML and `TIDEGATE_…` variables), then validated and typed.

pub mod topic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use topic::{Durability, TimestampType, TopicConfig, TransformFailure};

/// Everything a broker is started with, validated.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub broker: BrokerConfig,
    pub listeners: Vec<ListenerConfig>,
    pub net: NetConfig,
    pub log: LogConfig,
    pub topic_defaults: TopicConfig,
    pub groups: GroupConfig,
    pub security: SecurityConfig,
    pub plugins: PluginConfig,
    pub admin: AdminConfig,
    pub observe: ObserveConfig,
}

#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Kafka's node id.
    pub id: i32,
    pub cluster_id: String,
    pub data_dir: PathBuf,
    pub auto_create_topics: bool,
    pub default_partitions: i32,
    pub max_topics: usize,
    pub max_partitions_per_topic: i32,
    /// The most bytes a Fetch response carries, whatever the client asks for.
    pub fetch_max_bytes: u32,
    /// How long a graceful stop may drain.
    pub shutdown_deadline: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            id: 0,
            cluster_id: "tidegate".into(),
            data_dir: "data".into(),
            auto_create_topics: true,
            default_partitions: 4,
            max_topics: 20_000,
            max_partitions_per_topic: 10_000,
            fetch_max_bytes: 57_671_680,
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Tcp,
    Tls,
    Quic,
}

#[derive(Clone, Debug)]
pub struct ListenerConfig {
    pub name: String,
    pub transport: Transport,
    pub bind: SocketAddr,
    /// What Metadata tells clients of this listener: host and port (port 0: the bound one). `None`: the bound address.
    pub advertised: Option<(String, u16)>,
    /// Required on TLS and QUIC.
    pub tls: Option<ListenerTls>,
    /// SASL mechanisms offered; empty: SASL is not spoken here. With any, a connection must authenticate unless its
    /// client certificate already did.
    pub sasl_mechanisms: Vec<SaslMechanism>,
    /// Connections at most; the next one is refused.
    pub max_connections: usize,
}

#[derive(Clone, Debug)]
pub struct ListenerTls {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    pub client_auth: ClientAuth,
    /// Trust anchors for client certificates.
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientAuth {
    #[default]
    None,
    Requested,
    Required,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

/// Bounds that hold for all listeners together or for each connection.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The largest request frame, in bytes, without its length prefix.
    pub max_frame_bytes: u32,
    /// The largest request frame before a connection has authenticated.
    pub max_unauthenticated_frame_bytes: u32,
    /// Bytes of requests held in memory at once, over all connections.
    pub max_in_flight_bytes: u64,
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
            max_unauthenticated_frame_bytes: 512 << 10,
            max_in_flight_bytes: 256 << 20,
            max_in_flight_requests: 256,
            max_connections: 10_000,
            max_connections_per_ip: 10_000,
            max_streams_per_connection: 256,
            idle_timeout: Duration::from_secs(600),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Threads that sync; partitions hash to them.
    pub flush_lanes: usize,
    /// The longest an appended batch waits for its sync when nobody waits for it.
    pub flush_max_delay: Duration,
    /// Bytes of retired segment files that are kept to be written again.
    pub recycle_bytes: u64,
    pub retention_check_interval: Duration,
    /// Producers remembered for a partition at most (the oldest is forgotten).
    pub max_producers_per_partition: usize,
    pub producer_expiry: Duration,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            flush_lanes: 2,
            flush_max_delay: Duration::from_millis(5),
            recycle_bytes: 1 << 30,
            retention_check_interval: Duration::from_secs(60),
            max_producers_per_partition: 10_000,
            producer_expiry: Duration::from_secs(24 * 3600),
        }
    }
}

#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub offsets_partitions: i32,
    pub initial_rebalance_delay: Duration,
    pub min_session_timeout: Duration,
    pub max_session_timeout: Duration,
    pub max_groups: usize,
    pub max_members: usize,
    pub max_metadata_bytes: usize,
    pub offsets_retention: Duration,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            offsets_partitions: 8,
            initial_rebalance_delay: Duration::from_millis(500),
            min_session_timeout: Duration::from_secs(1),
            max_session_timeout: Duration::from_secs(1800),
            max_groups: 50_000,
            max_members: 5_000,
            max_metadata_bytes: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct SecurityConfig {
    /// Off: every request is allowed. On: default deny.
    pub authorization: bool,
    /// `User:alice` and the like: allowed everything, before any ACL or plugin.
    pub super_users: Vec<String>,
    /// Deployed authorizer plugins, asked in this order after the ACLs.
    pub authorizers: Vec<String>,
    /// Rules that turn a certificate's subject into a user name; see `security::certificate`.
    pub principal_rules: Vec<String>,
    pub scram_iterations: u32,
}

#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// Plugins deployed at start when the catalog does not have them yet: name to file.
    pub preload: BTreeMap<String, PreloadPlugin>,
    pub max_plugins: usize,
    pub max_artifact_bytes: u64,
    pub max_revisions_kept: usize,
    pub max_memory_bytes: u64,
    pub partitioner_deadline: Duration,
    pub authorizer_deadline: Duration,
    pub transform_deadline: Duration,
    /// The most a batch may decompress to before a plugin sees it.
    pub max_decompressed_bytes: u64,
    /// Faults within `breaker_window` that trip the breaker.
    pub breaker_faults: u32,
    pub breaker_window: Duration,
    pub breaker_backoff: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct PreloadPlugin {
    pub file: PathBuf,
    pub config: BTreeMap<String, String>,
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self {
            preload: BTreeMap::new(),
            max_plugins: 256,
            max_artifact_bytes: 32 << 20,
            max_revisions_kept: 8,
            max_memory_bytes: 16 << 20,
            partitioner_deadline: Duration::from_millis(20),
            authorizer_deadline: Duration::from_millis(5),
            transform_deadline: Duration::from_millis(20),
            max_decompressed_bytes: 8 << 20,
            breaker_faults: 5,
            breaker_window: Duration::from_secs(30),
            breaker_backoff: Duration::from_secs(5),
        }
    }
}

#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// `None`: no admin port.
    pub bind: Option<SocketAddr>,
    /// A file that holds the bearer token which changes (plugins, users) must carry. Required when `bind` is not loopback.
    pub token_file: Option<PathBuf>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            bind: Some(([127, 0, 0, 1], 9644).into()),
            token_file: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ObserveConfig {
    /// The most series that `/metrics` ever exports.
    pub max_series: usize,
    pub log_format: LogFormat,
    /// A `tracing` filter such as `info,tidegate::net=debug`.
    pub log_filter: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for ObserveConfig {
    fn default() -> Self {
        Self {
            max_series: 10_000,
            log_format: LogFormat::Text,
            log_filter: "info".into(),
        }
    }
}
