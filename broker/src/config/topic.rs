//! What a topic may set for itself, by Kafka's names: one table from which defaults, validation, DescribeConfigs and the
//! documentation derive. A setting that is served has a field here; one that is *kept* is checked and remembered, since
//! Kafka's clients and tools set it, and nothing depends on it; its documentation says so.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use table::{Standing, TopicKind, TopicSetting, Unit, topic_settings};

use super::error::nearest;
use super::field::choices;

/// What an acknowledgement and the high watermark follow (`tidegate.durability`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Consumers see only synced records; `acks=all` answers after `fdatasync`.
    #[default]
    Fsync,
    /// Consumers see records at append; `acks=all` means what Kafka's default means (the page cache).
    Os,
}

choices!(Durability, Fsync: "fsync", Os: "os");

/// What becomes of reads that meet damage, and of a log that a start finds damaged (`tidegate.damaged-records`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DamagedRecords {
    /// A read that meets damage is an error; the log does not accept until an operator has looked.
    #[default]
    Stop,
    /// Reads and appends go on behind the damage.
    Skip,
}

choices!(DamagedRecords, Stop: "stop", Skip: "skip");

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

choices!(TimestampType, CreateTime: "CreateTime", LogAppendTime: "LogAppendTime");

/// The codec in which batches are stored (`compression.type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TopicCompression {
    /// As each producer compressed them.
    #[default]
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

choices!(
    TopicCompression,
    Producer: "producer",
    Uncompressed: "uncompressed",
    Gzip: "gzip",
    Snappy: "snappy",
    Lz4: "lz4",
    Zstd: "zstd",
);

/// How much of a produced batch is checked (`tidegate.validation`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Validation {
    /// Every record, and the header's largest timestamp is made that of the records.
    #[default]
    Full,
    /// Size, header and checksum.
    Frames,
}

choices!(Validation, Full: "full", Frames: "frames");

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
    pub max_decompressed_message_bytes: u32,
    pub compression: TopicCompression,
    /// −1: the codec's default.
    pub gzip_level: i32,
    pub zstd_level: i32,
    pub timestamp_type: TimestampType,
    pub index_interval_bytes: u32,
    pub cleanup_delete: bool,
    pub cleanup_compact: bool,
    /// For how long a compacted log keeps tombstones and markers (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// `i64::MAX`: no bound.
    pub timestamp_before_max_ms: i64,
    /// `i64::MAX`: no bound.
    pub timestamp_after_max_ms: i64,
    /// From 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    /// `i64::MAX`: no bound.
    pub max_compaction_lag_ms: i64,
    pub durability: Durability,
    pub damaged_records: DamagedRecords,
    pub validation: Validation,
    /// The name of a deployed plugin (`tidegate.partitioner`).
    pub partitioner: Option<String>,
    /// `reject` (false) or `client-choice` (true): what becomes of records when the partitioner fails.
    pub partitioner_failure_client_choice: bool,
    /// Names of deployed plugins in the order in which they run on produce (`tidegate.transform`).
    pub transforms: Vec<String>,
    /// What becomes of records when a transform fails (`tidegate.transform.on-failure`).
    pub transform_failure: TransformFailure,
    /// Kept settings that differ from their default, by name.
    pub kept: BTreeMap<&'static str, String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TransformFailure {
    /// The batch is refused.
    #[default]
    Reject,
    /// The batch is written as it came: whatever the transform was there to mask or to keep out is stored in the clear.
    PassUnmasked,
    /// The batch's records are dropped; its offsets remain as a gap.
    Drop,
}

choices!(TransformFailure, Reject: "reject", PassUnmasked: "pass-unmasked", Drop: "drop");

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
        let mut resolved = defaults.clone();
        let mut errors = Vec::new();
        for (key, value) in overrides {
            if let Err(message) = resolved.set(key, value) {
                errors.push(TopicConfigError {
                    key: key.clone(),
                    message,
                });
            }
        }
        if let Some(error) = resolved.contradiction() {
            errors.push(error);
        }
        if errors.is_empty() {
            Ok(resolved)
        } else {
            Err(errors)
        }
    }

    /// Sets one setting by Kafka's name, or says what was wrong with the name or the value.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let Some(setting) = topic_settings().iter().find(|setting| setting.name == key) else {
            let names = topic_settings().iter().map(|setting| setting.name);
            // A client's key may be as long as a request; no name of the table is.
            let near = (key.len() <= 128).then(|| nearest(key, names)).flatten();
            return Err(match near {
                Some(name) => format!("is unknown; did you mean {name}?"),
                None => "is unknown".to_owned(),
            });
        };
        setting.set(self, value.trim())
    }

    /// The age in milliseconds at which the active segment is closed.
    pub fn roll_ms(&self) -> i64 {
        if self.cleanup_compact {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }

    /// A setting that cannot be together with another.
    pub(super) fn contradiction(&self) -> Option<TopicConfigError> {
        let plugin = if self.partitioner.is_some() {
            "tidegate.partitioner"
        } else if !self.transforms.is_empty() {
            "tidegate.transform"
        } else {
            return None;
        };
        self.cleanup_compact.then(|| TopicConfigError {
            key: plugin.to_owned(),
            message: "cannot be used on a compacted topic, where what is kept of a key depends on its partition and \
                      its order; remove it, or set cleanup.policy=delete"
                .to_owned(),
        })
    }

    /// Every setting in the table with its effective value, in the table's order.
    pub fn entries(&self, overrides: &BTreeMap<String, String>) -> Vec<TopicConfigEntry> {
        topic_settings()
            .iter()
            .map(|setting| TopicConfigEntry {
                name: setting.name,
                value: setting.value(self),
                overridden: overrides.contains_key(setting.name),
                type_code: setting.kind.type_code(),
                documentation: setting.documentation,
            })
            .collect()
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
            max_decompressed_message_bytes: i32::MAX as u32 - 8,
            compression: TopicCompression::Producer,
            gzip_level: -1,
            zstd_level: 3,
            timestamp_type: TimestampType::CreateTime,
            index_interval_bytes: 4096,
            cleanup_delete: true,
            cleanup_compact: false,
            delete_retention_ms: 24 * 3_600_000,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            durability: Durability::Fsync,
            damaged_records: DamagedRecords::Stop,
            validation: Validation::Full,
            partitioner: None,
            partitioner_failure_client_choice: false,
            transforms: Vec::new(),
            transform_failure: TransformFailure::Reject,
            kept: BTreeMap::new(),
        }
    }
}
