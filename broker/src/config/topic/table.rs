//! The table of topic settings: all of Kafka 4.4's (`LogConfig`) with their types, bounds and defaults, three of older Kafkas that
//! tools still send, and our own, which begin with `tidegate.`. A row's *standing* says what comes of it: it is *served*;
//! *kept*, checked and remembered, because nothing here depends on it; or taken *at its default only*, because any other
//! value would ask for what is not there.

use super::{
    DamagedRecords, Durability, TimestampType, TopicCompression, TopicConfig, TransformFailure,
    Validation,
};
use crate::config::error::nearest;

/// Type and inclusive bounds of a topic setting. `unit` is for people who write the configuration file.
#[derive(Clone, Copy, Debug)]
pub enum TopicKind {
    Boolean,
    Int {
        min: i64,
        max: i64,
        unit: Unit,
    },
    /// The level of a codec: −1 for its own default, or a number from 1 on.
    Level {
        max: i64,
    },
    Long {
        min: i64,
        unit: Unit,
    },
    Double {
        min: f64,
        max: f64,
    },
    Choice(&'static [&'static str]),
    /// A comma list of these, or nothing.
    Choices(&'static [&'static str]),
    /// The name of a plugin, or nothing.
    Plugin,
    /// Names of plugins in order, at most eight.
    Plugins,
    /// Any text.
    Text,
    /// Any comma list.
    Texts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    None,
    Bytes,
    Milliseconds,
}

/// Where a setting lives.
#[derive(Clone, Copy)]
enum Store {
    /// In a field of `TopicConfig`. `set` is given a value that fits the kind.
    Field {
        get: fn(&TopicConfig) -> String,
        set: fn(&mut TopicConfig, &str),
    },
    /// Checked and remembered; nothing depends on it.
    Kept { default: &'static str },
    /// No other value is taken.
    Fixed { default: &'static str },
}

/// What comes of a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Served,
    Kept,
    DefaultOnly,
}

/// One row of the table.
pub struct TopicSetting {
    pub name: &'static str,
    pub kind: TopicKind,
    pub documentation: &'static str,
    /// Why nothing else is accepted, for a setting with one legal value.
    reason: &'static str,
    store: Store,
}

/// Every topic setting, in the order in which DescribeConfigs lists them.
pub fn topic_settings() -> &'static [TopicSetting] {
    TABLE
}

impl TopicKind {
    /// Kafka's ConfigDef type code.
    pub fn type_code(&self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Choice(_) | Self::Plugin | Self::Text => 2,
            Self::Int { .. } | Self::Level { .. } => 3,
            Self::Long { .. } => 5,
            Self::Double { .. } => 6,
            Self::Choices(_) | Self::Plugins | Self::Texts => 7,
        }
    }

    pub fn unit(&self) -> Unit {
        match self {
            Self::Int { unit, .. } | Self::Long { unit, .. } => *unit,
            _ => Unit::None,
        }
    }

    /// What is expected, in words.
    pub fn expectation(&self) -> String {
        match self {
            Self::Boolean => "true or false".to_owned(),
            Self::Int { min, max, .. } => format!("a number from {min} to {max}"),
            Self::Level { max } => format!("-1 or a number from 1 to {max}"),
            Self::Long { min, .. } => format!("a number from {min}"),
            Self::Double { min, max } => format!("a number from {min} to {max}"),
            Self::Choice(names) => format!("one of {}", names.join(", ")),
            Self::Choices(names) => format!("a comma list of {}, or empty", names.join(", ")),
            Self::Plugin => "the name of a deployed plugin, or empty".to_owned(),
            Self::Plugins => {
                "names of at most eight deployed plugins, separated by commas, or empty".to_owned()
            }
            Self::Text => "a text of at most 1,000 characters".to_owned(),
            Self::Texts => "a comma list of at most 1,000 characters".to_owned(),
        }
    }

    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Boolean => value == "true" || value == "false",
            Self::Int { min, max, .. } => value
                .parse::<i64>()
                .is_ok_and(|number| (*min..=*max).contains(&number)),
            Self::Level { max } => value
                .parse::<i64>()
                .is_ok_and(|level| level == -1 || (1..=*max).contains(&level)),
            Self::Long { min, .. } => value.parse::<i64>().is_ok_and(|number| number >= *min),
            Self::Double { min, max } => value
                .parse::<f64>()
                .is_ok_and(|number| (*min..=*max).contains(&number)),
            Self::Choice(names) => names.contains(&value),
            Self::Choices(names) => items(value).all(|item| names.contains(&item)),
            Self::Plugin => value.is_empty() || plugin_name(value),
            Self::Plugins => items(value).count() <= 8 && items(value).all(plugin_name),
            Self::Text | Self::Texts => value.len() <= 1_000,
        }
    }

    /// The form that is stored and shown: Kafka reads booleans and our own words without regard to case.
    fn normalise(&self, value: &str) -> String {
        match self {
            Self::Boolean => value.to_ascii_lowercase(),
            _ => value.to_owned(),
        }
    }
}

impl TopicSetting {
    /// The effective value as text.
    pub fn value(&self, config: &TopicConfig) -> String {
        match &self.store {
            Store::Field { get, .. } => get(config),
            Store::Kept { default } => config
                .kept
                .get(self.name)
                .cloned()
                .unwrap_or_else(|| (*default).to_owned()),
            Store::Fixed { default } => (*default).to_owned(),
        }
    }

    pub fn standing(&self) -> Standing {
        match self.store {
            Store::Field { .. } => Standing::Served,
            Store::Kept { .. } => Standing::Kept,
            Store::Fixed { .. } => Standing::DefaultOnly,
        }
    }

    pub(super) fn set(&self, config: &mut TopicConfig, value: &str) -> Result<(), String> {
        let value = self.kind.normalise(value);
        if !self.kind.accepts(&value) {
            // A client's value may be as long as a request: the message is not.
            let shown: String = value.chars().take(64).collect();
            let mut message = format!("{shown:?} is wrong: expected {}", self.kind.expectation());
            if let TopicKind::Choice(names) | TopicKind::Choices(names) = self.kind
                && let Some(name) = nearest(&shown, names.iter().copied())
                && names.len() > 1
            {
                message = format!("{message}; did you mean {name}?");
            }
            if !self.reason.is_empty() {
                message = format!("{message}: {}", self.reason);
            }
            return Err(message);
        }
        match &self.store {
            Store::Field { set, .. } => set(config, &value),
            Store::Fixed { default } if value == *default => {}
            Store::Fixed { default } => {
                let shown: String = value.chars().take(64).collect();
                let reason = self.reason;
                return Err(format!(
                    "{shown:?} is wrong: only {default} is taken, {reason}"
                ));
            }
            Store::Kept { default } if value == *default => {
                config.kept.remove(self.name);
            }
            Store::Kept { .. } => {
                config.kept.insert(self.name, value);
            }
        }
        Ok(())
    }
}

/// The parts of a comma list.
fn items(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn plugin_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 128 && name.chars().all(legal)
}

/// A row whose field reads and shows as a number. The kind's bounds lie within the field's type.
macro_rules! number {
    ($name:literal, $field:ident, $kind:expr, $documentation:literal) => {
        number!($name, $field, $kind, $documentation, "")
    };
    ($name:literal, $field:ident, $kind:expr, $documentation:literal, $reason:literal) => {
        TopicSetting {
            name: $name,
            kind: $kind,
            documentation: $documentation,
            reason: $reason,
            store: Store::Field {
                get: |config| config.$field.to_string(),
                set: |config, value| {
                    if let Ok(number) = value.parse() {
                        config.$field = number;
                    }
                },
            },
        }
    };
}

/// A row whose field is an enumeration with names.
macro_rules! named {
    ($name:literal, $field:ident, $type:ident, $documentation:literal) => {
        TopicSetting {
            name: $name,
            kind: TopicKind::Choice($type::NAMES),
            documentation: $documentation,
            reason: "",
            store: Store::Field {
                get: |config| config.$field.config_name().to_owned(),
                set: |config, value| {
                    if let Some(named) = $type::from_config_name(value) {
                        config.$field = named;
                    }
                },
            },
        }
    };
}

/// A row that is checked and remembered.
macro_rules! kept {
    ($name:literal, $default:literal, $kind:expr, $documentation:literal) => {
        kept!($name, $default, $kind, $documentation, "")
    };
    ($name:literal, $default:literal, $kind:expr, $documentation:literal, $reason:literal) => {
        TopicSetting {
            name: $name,
            kind: $kind,
            documentation: $documentation,
            reason: $reason,
            store: Store::Kept { default: $default },
        }
    };
}

/// A row whose default alone is taken.
macro_rules! fixed {
    ($name:literal, $default:literal, $kind:expr, $documentation:literal, $reason:literal) => {
        TopicSetting {
            name: $name,
            kind: $kind,
            documentation: $documentation,
            reason: $reason,
            store: Store::Fixed { default: $default },
        }
    };
}

const INT_MAX: i64 = i32::MAX as i64;

const fn long(min: i64, unit: Unit) -> TopicKind {
    TopicKind::Long { min, unit }
}

const fn int(min: i64, max: i64, unit: Unit) -> TopicKind {
    TopicKind::Int { min, max, unit }
}

const TABLE: &[TopicSetting] = &[
    TopicSetting {
        name: "cleanup.policy",
        kind: TopicKind::Choices(&["delete", "compact"]),
        documentation: "What becomes of old records: delete removes whole segments by retention.ms and retention.bytes; compact keeps of each \
                        key its latest record, and takes no records without a key; both together do both; empty keeps everything.",
        reason: "",
        store: Store::Field {
            get: |config| {
                let policies = [
                    (config.cleanup_compact, "compact"),
                    (config.cleanup_delete, "delete"),
                ];
                let set: Vec<_> = policies
                    .iter()
                    .filter(|(on, _)| *on)
                    .map(|(_, name)| *name)
                    .collect();
                set.join(",")
            },
            set: |config, value| {
                config.cleanup_delete = items(value).any(|item| item == "delete");
                config.cleanup_compact = items(value).any(|item| item == "compact");
            },
        },
    },
    number!(
        "retention.ms",
        retention_ms,
        long(-1, Unit::Milliseconds),
        "How long records are kept before their segment is removed; -1 keeps them without a bound of time."
    ),
    number!(
        "retention.bytes",
        retention_bytes,
        long(-1, Unit::Bytes),
        "How many bytes a partition keeps before its oldest segment is removed; -1 is without a bound."
    ),
    number!(
        "segment.bytes",
        segment_bytes,
        int(1 << 20, INT_MAX, Unit::Bytes),
        "The size at which a segment file is closed and the next begins. Retention removes whole segments.",
        "segments below 1 MiB cost more files than they are worth (KIP-1030)"
    ),
    number!(
        "segment.ms",
        segment_ms,
        long(1, Unit::Milliseconds),
        "The age at which a segment file is closed although it is not full, so that retention can remove it."
    ),
    number!(
        "max.message.bytes",
        max_message_bytes,
        int(1, INT_MAX, Unit::Bytes),
        "The largest record batch, as the client compressed it, that the topic takes."
    ),
    named!(
        "message.timestamp.type",
        timestamp_type,
        TimestampType,
        "Whose clock stamps the records: the producer's (CreateTime) or the broker's at append (LogAppendTime)."
    ),
    number!(
        "index.interval.bytes",
        index_interval_bytes,
        int(0, INT_MAX, Unit::Bytes),
        "Bytes of records between two entries of the sparse index. Fewer make a lookup read less and the index larger."
    ),
    number!(
        "max.decompressed.message.bytes",
        max_decompressed_message_bytes,
        int(1, INT_MAX - 8, Unit::Bytes),
        "The most that the records of one batch may decompress to; log.max-decompressed-batch-bytes bounds it for all topics."
    ),
    named!(
        "compression.type",
        compression,
        TopicCompression,
        "How batches are stored: as the producer compressed them (producer), or all in one codec, into which the broker brings those that \
         came in another; that costs its processors what it would have cost the producers'."
    ),
    number!(
        "compression.gzip.level",
        gzip_level,
        TopicKind::Level { max: 9 },
        "How hard the broker compresses with compression.type=gzip: 1 is fast, 9 small, -1 the codec's default."
    ),
    number!(
        "compression.zstd.level",
        zstd_level,
        int(-131_072, 22, Unit::None),
        "How hard the broker compresses with compression.type=zstd: higher is smaller and slower."
    ),
    kept!(
        "compression.lz4.level",
        "9",
        int(1, 17, Unit::None),
        "Remembered. The broker's LZ4 has one level, the fast one."
    ),
    kept!(
        "min.insync.replicas",
        "1",
        int(1, INT_MAX, Unit::None),
        "Replicas that must have a record before acks=all is answered, and no more than there are, as in Kafka 4: here one, on this broker. \
         tidegate.durability says when it is on disk."
    ),
    named!(
        "tidegate.durability",
        durability,
        Durability,
        "fsync: consumers see synced records only, and acks=all answers after fdatasync, so that what it acknowledged survives loss of power. \
         os: records are seen at append and acks=all answers from the page cache, which survives the end of the process but not loss of power."
    ),
    named!(
        "tidegate.damaged-records",
        damaged_records,
        DamagedRecords,
        "stop: a read that meets damaged records is answered with CORRUPT_MESSAGE, and a log that is found damaged at a start takes no records \
         until an operator has looked (tidegate log recover). skip: reads and appends go on behind the damage, which metrics and log tell of."
    ),
    named!(
        "tidegate.validation",
        validation,
        Validation,
        "full: every record of a batch is checked before it is taken, compressed or not, and the batch's largest timestamp is made that of its records, so \
         that what is acknowledged can be read by every client. frames: size, header and checksum alone, for producers that can be trusted to write \
         right batches and times; a compacted topic is checked in full all the same, since each of its records needs a key."
    ),
    TopicSetting {
        name: "tidegate.partitioner",
        kind: TopicKind::Plugin,
        documentation: "The deployed plugin that chooses each record's partition, whatever the client chose. Empty: the client's choice.",
        reason: "",
        store: Store::Field {
            get: |config| config.partitioner.clone().unwrap_or_default(),
            set: |config, value| {
                config.partitioner = (!value.is_empty()).then(|| value.to_owned());
            },
        },
    },
    TopicSetting {
        name: "tidegate.partitioner.on-failure",
        kind: TopicKind::Choice(&["reject", "client-choice"]),
        documentation: "What becomes of a batch when the partitioner fails: reject refuses it, client-choice writes it where its client sent it.",
        reason: "",
        store: Store::Field {
            get: |config| {
                let choice = config.partitioner_failure_client_choice;
                (if choice { "client-choice" } else { "reject" }).to_owned()
            },
            set: |config, value| {
                config.partitioner_failure_client_choice = value == "client-choice"
            },
        },
    },
    TopicSetting {
        name: "tidegate.transform",
        kind: TopicKind::Plugins,
        documentation: "The deployed plugins that change or drop records before they are written, in this order. Empty: none.",
        reason: "",
        store: Store::Field {
            get: |config| config.transforms.join(","),
            set: |config, value| config.transforms = items(value).map(str::to_owned).collect(),
        },
    },
    named!(
        "tidegate.transform.on-failure",
        transform_failure,
        TransformFailure,
        "What becomes of a batch when a transform fails: reject refuses it, drop drops its records and leaves a gap, pass-unmasked writes it as it came, in the clear where the transform masks. Of a batch that holds single records which the transform cannot take, those alone."
    ),
    number!(
        "delete.retention.ms",
        delete_retention_ms,
        long(0, Unit::Milliseconds),
        "How long a compacted log keeps tombstones and transaction markers after it first compacted them: a consumer that reads from the beginning must reach the end within that time to miss no deletion."
    ),
    kept!(
        "file.delete.delay.ms",
        "60000",
        long(0, Unit::Milliseconds),
        "Remembered. A removed segment is recycled at once: readers that hold it finish first."
    ),
    kept!(
        "flush.messages",
        "9223372036854775807",
        long(1, Unit::None),
        "Remembered. When records are synced is governed by tidegate.durability."
    ),
    kept!(
        "flush.ms",
        "9223372036854775807",
        long(0, Unit::Milliseconds),
        "Remembered. When records are synced is governed by tidegate.durability."
    ),
    number!(
        "min.cleanable.dirty.ratio",
        min_cleanable_dirty_ratio,
        TopicKind::Double { min: 0.0, max: 1.0 },
        "The part of a log that must be new before it is compacted. Lower means fewer outdated records on disk and more rewriting."
    ),
    number!(
        "min.compaction.lag.ms",
        min_compaction_lag_ms,
        long(0, Unit::Milliseconds),
        "The least age at which a record may be compacted; younger ones can all be read."
    ),
    number!(
        "max.compaction.lag.ms",
        max_compaction_lag_ms,
        long(1, Unit::Milliseconds),
        "The greatest age at which a record may stay uncompacted: from then on its log is compacted however little of it is new. It bounds segment.ms on a compacted topic."
    ),
    number!(
        "message.timestamp.before.max.ms",
        timestamp_before_max_ms,
        long(0, Unit::Milliseconds),
        "How far a record's timestamp may lie in the past when it is appended; a batch with an older one is refused. For CreateTime alone."
    ),
    number!(
        "message.timestamp.after.max.ms",
        timestamp_after_max_ms,
        long(0, Unit::Milliseconds),
        "How far a record's timestamp may lie in the future when it is appended; a batch with a later one is refused. For CreateTime alone."
    ),
    kept!(
        "message.timestamp.difference.max.ms",
        "9223372036854775807",
        long(0, Unit::Milliseconds),
        "Of Kafka before 4: the older form of message.timestamp.before.max.ms and message.timestamp.after.max.ms. Remembered, not enforced."
    ),
    kept!(
        "message.downconversion.enable",
        "true",
        TopicKind::Boolean,
        "Of Kafka before 4. Remembered: batches are stored in format 2 alone and never converted for old consumers."
    ),
    kept!(
        "message.format.version",
        "3.0-IV1",
        TopicKind::Text,
        "Of Kafka before 4. Remembered: batches are always stored in format 2."
    ),
    kept!(
        "preallocate",
        "false",
        TopicKind::Boolean,
        "Remembered. Segment files are always prepared ahead and recycled."
    ),
    kept!(
        "segment.index.bytes",
        "10485760",
        int(4, INT_MAX, Unit::Bytes),
        "Remembered. Indexes grow with their segment."
    ),
    kept!(
        "segment.jitter.ms",
        "0",
        long(0, Unit::Milliseconds),
        "Remembered. Segments are closed when segment.ms or segment.bytes says."
    ),
    kept!(
        "unclean.leader.election.enable",
        "false",
        TopicKind::Boolean,
        "Remembered. A partition has one replica, so that there is nothing to elect."
    ),
    kept!(
        "leader.replication.throttled.replicas",
        "",
        TopicKind::Texts,
        "Remembered. There is no replication to throttle."
    ),
    kept!(
        "follower.replication.throttled.replicas",
        "",
        TopicKind::Texts,
        "Remembered. There is no replication to throttle."
    ),
    fixed!(
        "remote.storage.enable",
        "false",
        TopicKind::Boolean,
        "Whether old segments go to remote storage. There is none.",
        "since there is no remote storage here"
    ),
    fixed!(
        "local.retention.ms",
        "-2",
        long(-2, Unit::Milliseconds),
        "How long records stay on local disks where they are in remote storage too; -2 is as long as retention.ms says.",
        "since there is no remote storage here: set retention.ms"
    ),
    fixed!(
        "local.retention.bytes",
        "-2",
        long(-2, Unit::Bytes),
        "How many bytes stay on local disks where they are in remote storage too; -2 is as many as retention.bytes says.",
        "since there is no remote storage here: set retention.bytes"
    ),
    fixed!(
        "remote.log.copy.disable",
        "false",
        TopicKind::Boolean,
        "Whether segments are copied to remote storage no more. There is none.",
        "since there is no remote storage here"
    ),
    fixed!(
        "remote.copy.lag.ms",
        "0",
        long(-1, Unit::Milliseconds),
        "The age at which a segment is copied to remote storage. There is none.",
        "since there is no remote storage here"
    ),
    fixed!(
        "remote.copy.lag.bytes",
        "-1",
        long(-1, Unit::Bytes),
        "The bytes behind a segment at which it is copied to remote storage. There is none.",
        "since there is no remote storage here"
    ),
    fixed!(
        "remote.log.delete.on.disable",
        "false",
        TopicKind::Boolean,
        "Whether what is in remote storage goes when that is switched off. There is none.",
        "since there is no remote storage here"
    ),
    fixed!(
        "errors.deadletterqueue.group.enable",
        "false",
        TopicKind::Boolean,
        "Whether share groups may write records here that they could not process. There are no share groups.",
        "since there are no share groups here"
    ),
];
