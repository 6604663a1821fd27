//! `[log]`: how records reach the disk and how long what is derived from them is kept.

use std::time::Duration;

use super::Config;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Threads that sync; partitions hash to them.
    pub flush_lanes: usize,
    /// The longest an appended batch waits for its sync when nobody waits for it.
    pub flush_max_delay: Duration,
    /// The same for topics with `tidegate.durability=os`.
    pub os_flush_delay: Duration,
    /// Bytes of retired segment files that are kept to be written again.
    pub recycle_bytes: u64,
    /// Bytes behind the clean points of all partitions together: what a start after a crash reads at most, and a little more.
    pub unchecked_bytes: u64,
    /// The most that a produced batch may decompress to.
    pub max_decompressed_batch_bytes: u64,
    pub retention_check_interval: Duration,
    /// Producers remembered for a partition at most (the oldest is forgotten).
    pub max_producers_per_partition: usize,
    pub producer_expiry: Duration,
    /// Memory for the keys that one round of compaction looks at.
    pub cleaner_buffer_bytes: u64,
    /// Bytes that compaction reads and writes in a second at most; 0: no bound.
    pub cleaner_max_bytes_per_second: u64,
    /// How long the cleaner waits when nothing is dirty enough.
    pub cleaner_interval: Duration,
    /// Segment files that are open for writing at once; 0: no bound of the log's own.
    pub max_open_segments: usize,
    /// How often it is looked whether the log's files are still there.
    pub file_check_interval: Duration,
    /// Bytes that are kept for deleting on a full disk; 0: none.
    pub disk_reserve: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            flush_lanes: 2,
            flush_max_delay: Duration::from_millis(5),
            os_flush_delay: Duration::from_secs(1),
            recycle_bytes: 1 << 30,
            unchecked_bytes: 512 << 20,
            max_decompressed_batch_bytes: 64 << 20,
            retention_check_interval: Duration::from_secs(60),
            max_producers_per_partition: 10_000,
            producer_expiry: Duration::from_secs(24 * 3600),
            cleaner_buffer_bytes: 128 << 20,
            cleaner_max_bytes_per_second: 32 << 20,
            cleaner_interval: Duration::from_secs(15),
            max_open_segments: 0,
            file_check_interval: Duration::from_secs(10),
            disk_reserve: 16 << 20,
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        log.flush_lanes,
        "flush-lanes",
        Kind::Count { min: 1, max: 64 },
        "Threads that sync; partitions hash to them. More help only when the disk syncs several files at once faster than one after the other."
    ),
    setting!(
        log.flush_max_delay,
        "flush-max-delay",
        Kind::Duration {
            min: 0,
            max: 60_000
        },
        "The longest an appended batch waits for its sync when nobody waits for it (acks=1). Longer means fewer syncs, and consumers of synced topics see records later."
    ),
    setting!(
        log.os_flush_delay,
        "os-flush-delay",
        Kind::Duration {
            min: 0,
            max: 3_600_000
        },
        "The same for topics with tidegate.durability=os, whose records nobody waits to be synced: about as much may be lost with the power. Longer means fewer and larger writes to the disk."
    ),
    setting!(
        log.recycle_bytes,
        "recycle-bytes",
        Kind::Size {
            min: 0,
            max: 1 << 44
        },
        "Bytes of retired segment files that are kept to be written again. Writing to a used file costs a third of writing to a new one; the price is this much disk."
    ),
    setting!(
        log.unchecked_bytes,
        "unchecked-bytes",
        Kind::Size {
            min: 1 << 20,
            max: 1 << 44
        },
        "What a start after a crash has to check: when so many bytes lie behind the checkpoints of all partitions together, those with most get a new one. Less means a quicker start and more checkpoints, each of three syncs."
    ),
    setting!(
        log.max_decompressed_batch_bytes,
        "max-decompressed-batch-bytes",
        Kind::Size {
            min: 1 << 20,
            max: 1 << 30
        },
        "The most that the records of a produced batch may decompress to; a larger batch is refused with MESSAGE_TOO_LARGE, on which producers split it. Bounds the time that checking a compression bomb takes. What is above 64 MiB is neither compacted nor searched by time."
    ),
    setting!(
        log.retention_check_interval,
        "retention-check-interval",
        Kind::Duration {
            min: 100,
            max: 86_400_000
        },
        "How often retention by time and size is applied. Records may outlive their retention by this much."
    ),
    setting!(
        log.max_producers_per_partition,
        "max-producers-per-partition",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "Idempotent producers remembered for a partition at most; the one that was idle longest is forgotten. Each takes about 200 bytes."
    ),
    setting!(
        log.producer_expiry,
        "producer-expiry",
        Kind::Duration {
            min: 1_000,
            max: 2_592_000_000
        },
        "An idempotent producer that was idle for this long is forgotten; a retry that comes even later is written again."
    ),
    setting!(
        log.cleaner_buffer_bytes,
        "cleaner-buffer-bytes",
        Kind::Size {
            min: 4 << 20,
            max: 1 << 40
        },
        "Memory for the keys that one round of compaction looks at: 24 bytes each and a tenth more. With less, a partition of many keys takes more rounds."
    ),
    setting!(
        log.cleaner_max_bytes_per_second,
        "cleaner-max-bytes-per-second",
        Kind::Size {
            min: 0,
            max: 1 << 40
        },
        "Bytes that compaction reads and writes in a second at most, so that it leaves disk and cores to producers and consumers; 0 is without a bound. Each byte that is new in a compacted topic is read twice, so that topics which take more than about a quarter of this need a higher bound."
    ),
    setting!(
        log.cleaner_interval,
        "cleaner-interval",
        Kind::Duration {
            min: 100,
            max: 86_400_000
        },
        "How long the cleaner waits before it looks again for a compacted partition that is dirty enough."
    ),
    setting!(
        log.max_open_segments,
        "max-open-segments",
        Kind::Count {
            min: 0,
            max: 10_000_000
        },
        "Segment files open for writing at once, one a partition; with 0 what the limit of open files (ulimit -n) leaves beside connections and a reserve. Above it the file that was idle longest is closed, and opened again when its partition is written to."
    ),
    setting!(
        log.file_check_interval,
        "file-check-interval",
        Kind::Duration {
            min: 100,
            max: 86_400_000
        },
        "How often it is looked whether the log's files are still there. A partition whose segment or folder was removed stops accepting at its next sync, or after this time at the latest."
    ),
    setting!(
        log.disk_reserve,
        "disk-reserve",
        Kind::Size {
            min: 0,
            max: 1 << 40
        },
        "Bytes in the data folder that are given to a full disk so that topics and records can be deleted, by clients and by retention. Until there is room to keep them again, records that need new space are refused. 0 keeps none."
    ),
];
