//! `[broker]`: who this broker is, where its data lies, and how much of it there may be.

use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Kafka's node id.
    pub id: i32,
    /// Empty: the one that the catalog keeps. A running broker's is never empty.
    pub cluster_id: String,
    pub data_dir: PathBuf,
    pub auto_create_topics: bool,
    /// Topics created in a minute because one principal named them.
    pub auto_create_topics_per_minute: u32,
    pub default_partitions: i32,
    pub max_topics: usize,
    pub max_topics_per_principal: usize,
    pub max_partitions_per_topic: i32,
    /// The most bytes a Fetch response carries, whatever the client asks for.
    pub fetch_max_bytes: u32,
    /// The most that one answer other than Fetch's may take.
    pub max_answer_bytes: usize,
    /// How long a graceful stop may drain.
    pub shutdown_deadline: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            id: 0,
            cluster_id: String::new(),
            data_dir: "data".into(),
            auto_create_topics: true,
            auto_create_topics_per_minute: 300,
            default_partitions: 4,
            max_topics: 20_000,
            max_topics_per_principal: 5_000,
            max_partitions_per_topic: 10_000,
            fetch_max_bytes: 57_671_680,
            max_answer_bytes: 64 << 20,
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        broker.id,
        "id",
        Kind::Count {
            min: 0,
            max: i32::MAX as u64
        },
        "The node id that clients see in Metadata. Change it only when another broker of the same clients has it."
    ),
    setting!(
        broker.cluster_id,
        "cluster-id",
        Kind::Text,
        "The cluster's id in Metadata. Clients and tools use it to notice that an address now leads to another cluster. Without it an id is made at the first start and kept in the catalog.",
        example: "\"4L6g3nShT-eMCtK--X86sw\""
    ),
    setting!(
        broker.data_dir,
        "data-dir",
        Kind::Path,
        "The folder of the logs, the catalog and the plugins; it is created when missing. One broker at a time may use it."
    ),
    setting!(
        broker.auto_create_topics,
        "auto-create-topics",
        Kind::Switch,
        "Create a topic when a client that is allowed to asks for it by name. Off, a mistyped name is an error instead of a new topic."
    ),
    setting!(
        broker.auto_create_topics_per_minute,
        "auto-create-topics-per-minute",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "Topics created in a minute because one principal (without a name: one address) named them; as many may come at once. Clients are told to ask again (LEADER_NOT_AVAILABLE), and do."
    ),
    setting!(
        broker.default_partitions,
        "default-partitions",
        Kind::Count {
            min: 1,
            max: 100_000
        },
        "Partitions of a topic that is created without a count. More let more consumers share the work; each costs open files and memory."
    ),
    setting!(
        broker.max_topics,
        "max-topics",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "Topics at most; creating another is refused. Bounds the memory that clients who create topics can take."
    ),
    setting!(
        broker.max_topics_per_principal,
        "max-topics-per-principal",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "Topics that one principal may have created: those created because they were named always count against it, those of CreateTopics only where authorization is on, super users excepted. So no client fills broker.max-topics for the others."
    ),
    setting!(
        broker.max_partitions_per_topic,
        "max-partitions-per-topic",
        Kind::Count {
            min: 1,
            max: 100_000
        },
        "Partitions of one topic at most; creating more is refused."
    ),
    setting!(
        broker.fetch_max_bytes,
        "fetch-max-bytes",
        Kind::Size {
            min: 1024,
            max: 1 << 30
        },
        "The most bytes of records that one Fetch response carries, whatever the client asks for. Larger answers cost memory for each reader that is behind."
    ),
    setting!(
        broker.max_answer_bytes,
        "max-answer-bytes",
        Kind::Size {
            min: 64 << 10,
            max: 1 << 30
        },
        "The most memory that one answer other than Fetch's may take while it is made. What does not fit is refused by itself, or the connection is closed where the protocol has no code for it; clients then ask for less at once. The default holds Metadata of 300,000 partitions."
    ),
    setting!(
        broker.shutdown_deadline,
        "shutdown-deadline",
        Kind::Duration {
            min: 0,
            max: 600_000
        },
        "How long a graceful stop lets started requests finish. What is left then is closed; nothing that was acknowledged is lost."
    ),
];
