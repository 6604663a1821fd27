//! What is known of one topic.

use std::collections::BTreeMap;

use super::Partition;

/// Whether a topic is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Present,
    /// It was asked for, and the answer has not come, or never will.
    PerhapsCreated,
    /// As `PerhapsCreated`, of its end.
    PerhapsDeleted,
}

/// What may become of a topic's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Ordinary,
    /// The cleaner keeps the latest of each key.
    Compacted,
    /// Bits on the disk flip.
    Frail,
}

/// One setting's value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Setting {
    /// As it was last answered or read; `None`: never set.
    pub certain: Option<String>,
    /// What it may have become since.
    pub possible: Vec<String>,
}

/// The model of one topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Tells a topic from an earlier one of its name.
    pub incarnation: u64,
    pub presence: Presence,
    pub kind: Kind,
    /// As the broker names it, once it has told.
    pub id: Option<uuid::Uuid>,
    pub partitions: Vec<Partition>,
    pub settings: BTreeMap<String, Setting>,
    /// Counts the changes of its durability that were asked for or answered.
    pub durability_changes: u64,
    /// It may have shown records that were not durable.
    pub ever_os: bool,
    /// The shortest retention that it may ever have had, in milliseconds.
    pub min_retention_ms: i64,
    /// A bound on its bytes may have been set.
    pub ever_bounded: bool,
    /// Requests on their way that name it.
    pub flights: u64,
    /// A change of it is on its way.
    pub is_changing: bool,
}

pub const DURABILITY: &str = "tidegate.durability";
pub const RETENTION_MS: &str = "retention.ms";
pub const RETENTION_BYTES: &str = "retention.bytes";
pub const DAMAGED_RECORDS: &str = "tidegate.damaged-records";
/// Kafka's default of `retention.ms`: a week.
const WEEK_MS: i64 = 7 * 24 * 3_600_000;

impl Topic {
    pub fn new(incarnation: u64, partitions: usize) -> Self {
        Self {
            incarnation,
            presence: Presence::PerhapsCreated,
            kind: Kind::Ordinary,
            id: None,
            partitions: vec![Partition::default(); partitions],
            settings: BTreeMap::new(),
            durability_changes: 0,
            ever_os: false,
            min_retention_ms: WEEK_MS,
            ever_bounded: false,
            flights: 0,
            is_changing: false,
        }
    }

    /// The cleaner keeps tombstones for so many milliseconds.
    pub fn compact(&mut self, retention_ms: i64) {
        for partition in &mut self.partitions {
            partition.compaction = Some(retention_ms);
        }
    }

    /// A setting is asked to change.
    pub fn ask(&mut self, name: &str, value: &str) {
        let setting = self.settings.entry(name.to_owned()).or_default();
        setting.possible.push(value.to_owned());
        match name {
            DURABILITY => {
                self.durability_changes += 1;
                self.ever_os |= value == "os";
            }
            RETENTION_MS => {
                let wanted = value.parse().unwrap_or(-1);
                if wanted >= 0 {
                    self.min_retention_ms = self.min_retention_ms.min(wanted);
                }
            }
            RETENTION_BYTES => self.ever_bounded |= value != "-1",
            _ => {}
        }
    }

    /// A setting has this value for certain.
    pub fn settle(&mut self, name: &str, value: &str) {
        if name == DURABILITY {
            self.durability_changes += 1;
        }
        self.settings.insert(
            name.to_owned(),
            Setting {
                certain: Some(value.to_owned()),
                possible: Vec::new(),
            },
        );
    }

    /// Whether what `acks=all` acknowledges is synced, for certain.
    pub fn is_synced(&self) -> bool {
        let Some(setting) = self.settings.get(DURABILITY) else {
            return true;
        };
        let is_os = |value: &String| value == "os";
        !setting.certain.as_ref().is_some_and(is_os) && !setting.possible.iter().any(is_os)
    }
}
