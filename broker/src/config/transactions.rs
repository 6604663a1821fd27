//! `[transactions]`: transactional ids and their bounds.

use std::time::Duration;

use super::Config;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct TransactionConfig {
    pub state_partitions: i32,
    pub max_timeout: Duration,
    pub id_expiration: Duration,
    pub max_ids: usize,
    pub max_ids_per_principal: usize,
    pub max_new_ids_per_second: usize,
    pub max_bytes_per_principal: usize,
    pub max_bytes: usize,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            state_partitions: 50,
            max_timeout: Duration::from_secs(15 * 60),
            id_expiration: Duration::from_secs(7 * 24 * 3600),
            max_ids: 100_000,
            max_ids_per_principal: 25_000,
            max_new_ids_per_second: 500,
            max_bytes_per_principal: 64 << 20,
            max_bytes: 256 << 20,
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        transactions.state_partitions,
        "state-partitions",
        Kind::Count { min: 1, max: 1_000 },
        "Partitions of __transaction_state. Read when the topic is created, at the first start; a later change has no effect."
    ),
    setting!(
        transactions.max_timeout,
        "max-timeout",
        Kind::Duration {
            min: 1,
            max: 86_400_000
        },
        "The longest transaction timeout that a producer may ask for (Kafka's transaction.max.timeout.ms). A transaction whose producer is gone holds back read_committed consumers this long."
    ),
    setting!(
        transactions.id_expiration,
        "id-expiration",
        Kind::Duration {
            min: 1,
            max: 315_360_000_000
        },
        "How long a transactional id that is not used is remembered (Kafka's transactional.id.expiration.ms)."
    ),
    setting!(
        transactions.max_ids,
        "max-ids",
        Kind::Count {
            min: 1,
            max: 10_000_000
        },
        "Transactional ids at most; a new one is refused, unless one that never completed a transaction can make room."
    ),
    setting!(
        transactions.max_ids_per_principal,
        "max-ids-per-principal",
        Kind::Count {
            min: 1,
            max: 10_000_000
        },
        "Transactional ids that one principal may have made, or one address (of IPv6 a /64) where nobody is authenticated: its share of max-ids. Raise it where all producers are one principal and have more ids than this."
    ),
    setting!(
        transactions.max_new_ids_per_second,
        "max-new-ids-per-second",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "New transactional ids, and new producer ids of idempotent producers, that one principal or address may ask for a second, in the long run; as many as in 20 s at once. Beyond it producers are told to come again."
    ),
    setting!(
        transactions.max_bytes_per_principal,
        "max-bytes-per-principal",
        Kind::Size {
            min: 64 << 10,
            max: 1 << 40
        },
        "Memory for the transactional ids that one principal or address has made and for the partitions of their open transactions, in bytes: its share of max-bytes. Beyond it what needs more is told to come again."
    ),
    setting!(
        transactions.max_bytes,
        "max-bytes",
        Kind::Size {
            min: 64 << 10,
            max: 1 << 40
        },
        "Memory for all transactional ids and the partitions of their open transactions, in bytes."
    ),
];
