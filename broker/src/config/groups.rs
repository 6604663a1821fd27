//! `[groups]`: consumer groups and their offsets.

use std::time::Duration;

use super::Config;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub offsets_partitions: i32,
    pub initial_rebalance_delay: Duration,
    pub min_session_timeout: Duration,
    pub max_session_timeout: Duration,
    pub max_groups: usize,
    pub max_groups_per_principal: usize,
    pub max_new_groups_per_second: usize,
    pub max_members: usize,
    pub max_member_bytes: usize,
    pub max_group_bytes: usize,
    pub max_bytes_per_principal: usize,
    pub max_bytes: usize,
    pub max_metadata_bytes: usize,
    pub offsets_retention: Duration,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            offsets_partitions: 8,
            initial_rebalance_delay: Duration::from_millis(500),
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(1800),
            max_groups: 50_000,
            max_groups_per_principal: 12_500,
            max_new_groups_per_second: 500,
            max_members: 5_000,
            max_member_bytes: 256 << 10,
            max_group_bytes: 8 << 20,
            max_bytes_per_principal: 64 << 20,
            max_bytes: 256 << 20,
            max_metadata_bytes: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        groups.offsets_partitions,
        "offsets-partitions",
        Kind::Count { min: 1, max: 1_000 },
        "Partitions of __consumer_offsets. Read when the topic is created, at the first start; a later change has no effect."
    ),
    setting!(
        groups.initial_rebalance_delay,
        "initial-rebalance-delay",
        Kind::Duration {
            min: 0,
            max: 60_000
        },
        "How long an empty group waits for more members before its first assignment. Longer spares rebalances when many start together; shorter starts a single consumer sooner."
    ),
    setting!(
        groups.min_session_timeout,
        "min-session-timeout",
        Kind::Duration {
            min: 1,
            max: 86_400_000
        },
        "The shortest session timeout that a member may ask for (Kafka's group.min.session.timeout.ms). Short ones find dead members sooner and cost heartbeats. Others are refused with INVALID_SESSION_TIMEOUT."
    ),
    setting!(
        groups.max_session_timeout,
        "max-session-timeout",
        Kind::Duration {
            min: 1,
            max: 86_400_000
        },
        "The longest session timeout that a member may ask for (Kafka's group.max.session.timeout.ms): a dead member's partitions stand still this long."
    ),
    setting!(
        groups.max_groups,
        "max-groups",
        Kind::Count {
            min: 1,
            max: 10_000_000
        },
        "Groups at most; joining another is refused."
    ),
    setting!(
        groups.max_groups_per_principal,
        "max-groups-per-principal",
        Kind::Count {
            min: 1,
            max: 10_000_000
        },
        "Groups that one principal may have made, or one address (of IPv6 a /64) where nobody is authenticated: its share of max-groups. Raise it where all clients are one principal and have more groups than this."
    ),
    setting!(
        groups.max_new_groups_per_second,
        "max-new-groups-per-second",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "New groups that one principal or address may make a second, in the long run; as many as in 20 s at once. Beyond it clients are told to come again."
    ),
    setting!(
        groups.max_members,
        "max-members",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "Members of one group at most; the next one is refused with GROUP_MAX_SIZE_REACHED."
    ),
    setting!(
        groups.max_member_bytes,
        "max-member-bytes",
        Kind::Size {
            min: 1 << 10,
            max: 8 << 20
        },
        "What one member may bring along when it joins, in bytes: its names and the metadata of all its protocols. A larger one is refused with GROUP_MAX_SIZE_REACHED. A subscription to 5,000 topics with long names has about this size."
    ),
    setting!(
        groups.max_group_bytes,
        "max-group-bytes",
        Kind::Size {
            min: 1 << 10,
            max: 8 << 20
        },
        "What all members of a group may bring along together, and what they may be assigned, in bytes. Kafka stores both in one record, of 1 MiB at most unless configured."
    ),
    setting!(
        groups.max_bytes_per_principal,
        "max-bytes-per-principal",
        Kind::Size {
            min: 64 << 10,
            max: 1 << 40
        },
        "Memory for members, assignments and offsets of the groups that one principal or address has made, in bytes: its share of max-bytes. Beyond it joins and commits that need more are told to come again."
    ),
    setting!(
        groups.max_bytes,
        "max-bytes",
        Kind::Size {
            min: 64 << 10,
            max: 1 << 40
        },
        "Memory for members, assignments and offsets of all groups, in bytes."
    ),
    setting!(
        groups.max_metadata_bytes,
        "max-metadata-bytes",
        Kind::Size {
            min: 0,
            max: 1 << 20
        },
        "The longest text that a client may commit with an offset."
    ),
    setting!(
        groups.offsets_retention,
        "offsets-retention",
        Kind::Duration {
            min: 60_000,
            max: 315_360_000_000
        },
        "How long offsets are kept that nobody uses (Kafka's offsets.retention.minutes): of an empty group since it became empty, of a topic that no member reads any more since the commit. A consumer that returns later starts where auto.offset.reset says."
    ),
];
