//! What a topic may set for itself, by Kafka's names: one table from which defaults, validation, DescribeConfigs and the
//! documentation derive.

use std::collections::BTreeMap;

/// What an acknowledgement and the high watermark follow (`tidegate.durability`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Consumers see only synced records; `acks=all` answers after `fdatasync`.
    #[default]
    Fsync,
    /// Consumers see records at append; `acks=all` means what Kafka's default means (the page cache).
    Os,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// A topic's settings, resolved: the broker's defaults with the topic's own on top.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfig {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// −1: no bound.
    pub retention_bytes: i64,
    /// −1: no bound.
    pub retention_ms: i64,
    pub max_message_bytes: u32,
    pub timestamp_type: TimestampType,
    pub index_interval_bytes: u32,
    pub cleanup_delete: bool,
    pub cleanup_compact: bool,
    pub durability: Durability,
    /// The name of a deployed plugin (`tidegate.partitioner`).
    pub partitioner: Option<String>,
    /// `reject` (false) or `client-choice` (true): what becomes of records when the partitioner fails.
    pub partitioner_failure_client_choice: bool,
    /// Names of deployed plugins in the order in which they run on produce (`tidegate.transform`).
    pub transforms: Vec<String>,
    /// What becomes of records when a transform fails (`tidegate.transform.on-failure`).
    pub transform_failure: TransformFailure,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TransformFailure {
    /// The batch is refused.
    #[default]
    Reject,
    /// The batch is written as it came.
    Pass,
    /// The batch's records are dropped; its offsets remain as a gap.
    Drop,
}

/// One wrong topic setting: what was wrong, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("topic setting {key}: {message}")]
pub struct TopicConfigError {
    pub key: String,
    pub message: String,
}

/// One line of DescribeConfigs.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfigEntry {
    pub name: &'static str,
    pub value: String,
    /// Set on the topic itself, not inherited.
    pub overridden: bool,
    /// Kafka's ConfigDef type code: 1 boolean, 2 string, 3 int, 5 long, 6 double, 7 list.
    pub type_code: i8,
    pub documentation: &'static str,
}

impl TopicConfig {
    /// Resolves `overrides` on top of `defaults` and names every wrong key or value.
    pub fn resolve(
        defaults: &TopicConfig,
        overrides: &BTreeMap<String, String>,
    ) -> Result<TopicConfig, Vec<TopicConfigError>> {
        let _ = (defaults, overrides);
        todo!()
    }

    /// Every setting in the table with its effective value, in the table's order.
    pub fn entries(&self, overrides: &BTreeMap<String, String>) -> Vec<TopicConfigEntry> {
        let _ = overrides;
        todo!()
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            segment_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            retention_ms: 7 * 24 * 3_600_000,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            index_interval_bytes: 4096,
            cleanup_delete: true,
            cleanup_compact: false,
            durability: Durability::Fsync,
            partitioner: None,
            partitioner_failure_client_choice: false,
            transforms: Vec::new(),
            transform_failure: TransformFailure::Reject,
        }
    }
}
