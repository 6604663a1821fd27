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
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            state_partitions: 50,
            max_timeout: Duration::from_secs(15 * 60),
            id_expiration: Duration::from_secs(7 * 24 * 3600),
            max_ids: 100_000,
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
        "Transactional ids at most; a new one is refused."
    ),
];
