//! Every metric of the broker, in one table: name, kind, help and labels. The exposition, the documentation
//! (`broker/deploy/METRICS.md`) and the tests of dashboard and alerts derive from it.
//!
//! A *group* is a set of metrics that share their labels. A *label set* is one combination of label values; every group
//! keeps one entry for each, with the values of all the group's metrics side by side.

use std::fmt::Write as _;

/// What a metric's values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Counts events or bytes.
    Counter,
    /// Counts time: kept in nanoseconds, exported in seconds.
    SecondsCounter,
    /// Goes up and down as events happen.
    Level,
    /// Read at each scrape.
    Gauge,
    /// A counter that something else keeps, read at each scrape.
    ReadCounter,
    /// Times, counted into buckets with these upper bounds in nanoseconds; exported in seconds.
    Histogram(&'static [u64]),
}

/// Who goes first when the series budget is too small for all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    Normal,
    /// Only what the others leave.
    Detail,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricRow {
    pub metric: Metric,
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
}

/// Metrics that share their labels.
#[derive(Clone, Copy, Debug)]
pub struct GroupRow {
    pub group: Group,
    pub labels: &'static [&'static str],
    pub class: Class,
    pub metrics: &'static [MetricRow],
}

/// Declares groups and metrics together, so that there is one list alone.
macro_rules! metrics {
    ($($group:ident $labels:expr, $class:ident { $($metric:ident $name:literal $kind:expr, $help:literal;)+ })+) => {
        /// A group, as an index into `TABLE`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Group { $($group),+ }

        /// A metric, as an index over all rows of `TABLE`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Metric { $($($metric),+),+ }

        /// Every metric, by group.
        pub const TABLE: &[GroupRow] = &[$(GroupRow {
            group: Group::$group,
            labels: &$labels,
            class: Class::$class,
            metrics: &[$(MetricRow { metric: Metric::$metric, name: $name, kind: $kind, help: $help }),+],
        }),+];
    };
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// 100 µs to 10 s: from an answer out of memory to a long poll.
const REQUEST_BUCKETS: &[u64] = &[
    100 * MICROSECOND,
    250 * MICROSECOND,
    500 * MICROSECOND,
    MILLISECOND,
    2_500 * MICROSECOND,
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
    100 * MILLISECOND,
    250 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    2_500 * MILLISECOND,
    5 * SECOND,
    10 * SECOND,
];

/// 50 µs to 5 s: from a disk with a safe cache to one that is failing.
const FLUSH_BUCKETS: &[u64] = &[
    50 * MICROSECOND,
    100 * MICROSECOND,
    250 * MICROSECOND,
    500 * MICROSECOND,
    MILLISECOND,
    2_500 * MICROSECOND,
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
    100 * MILLISECOND,
    250 * MILLISECOND,
    SECOND,
    5 * SECOND,
];

/// 1 µs to 100 ms: deadlines lie at 5 and 20 ms.
const PLUGIN_BUCKETS: &[u64] = &[
    MICROSECOND,
    5 * MICROSECOND,
    10 * MICROSECOND,
    25 * MICROSECOND,
    50 * MICROSECOND,
    100 * MICROSECOND,
    250 * MICROSECOND,
    MILLISECOND,
    5 * MILLISECOND,
    20 * MILLISECOND,
    100 * MILLISECOND,
];

metrics! {
    Build ["version"], Normal {
        BuildInfo "tidegate_build_info" MetricKind::Gauge, "Always 1; the label says which version runs.";
    }
    Process [], Normal {
        ProcessCpu "process_cpu_seconds_total" MetricKind::ReadCounter, "CPU time of the process, user and system, in seconds.";
        ProcessMemory "process_resident_memory_bytes" MetricKind::Gauge, "Memory of the process that is in RAM, in bytes.";
        ProcessVirtual "process_virtual_memory_bytes" MetricKind::Gauge, "Address space of the process in bytes; the plugin pool reserves much of it without using it.";
        ProcessDescriptors "process_open_fds" MetricKind::Gauge, "Open file descriptors.";
        ProcessMaxDescriptors "process_max_fds" MetricKind::Gauge, "Most file descriptors that may be open.";
        ProcessThreads "process_threads" MetricKind::Gauge, "Threads of the process.";
        ProcessStart "process_start_time_seconds" MetricKind::Gauge, "When the process started, in seconds since the Unix epoch.";
    }
    Exporter [], Normal {
        FoldedSeries "tidegate_metrics_folded_series" MetricKind::Gauge, "Label sets without series of their own in this scrape, because observe.max-series was reached; they are added up under the label value _other.";
        MaxSeries "tidegate_metrics_series_limit" MetricKind::Gauge, "observe.max-series: the most series that a scrape exports.";
    }
    Broker [], Normal {
        Partitions "tidegate_partitions" MetricKind::Gauge, "Partitions of this broker.";
        PartitionsStopped "tidegate_partitions_stopped" MetricKind::Gauge, "Partitions whose log does not accept: stopped after a failed write or sync, or found damaged.";
        DamagedRanges "tidegate_log_damaged_ranges" MetricKind::Gauge, "Stretches of offsets that are known to be damaged, in all partitions.";
        DamageSkips "tidegate_log_damage_skips_total" MetricKind::ReadCounter, "Reads that went on behind damaged records, where tidegate.damaged-records is skip.";
    }
    LogState ["durability", "state"], Normal {
        LogPartitions "tidegate_log_partitions" MetricKind::Gauge, "Partitions by tidegate.durability (fsync: acks=all is answered after fdatasync; os: from the page cache) and by state: accepting; stopped after a failed write or sync; damaged, as recovery found it.";
    }
    Flush [], Normal {
        FlushDuration "tidegate_flush_duration_seconds" MetricKind::Histogram(FLUSH_BUCKETS), "Time of one fdatasync.";
        FlushedBytes "tidegate_flushed_bytes_total" MetricKind::Counter, "Bytes of records that were synced.";
    }
    LogFiles [], Normal {
        OpenSegments "tidegate_log_open_segments" MetricKind::Gauge, "Segment files that are open for writing.";
        OpenSegmentsLimit "tidegate_log_open_segments_limit" MetricKind::Gauge, "Segment files that may be open for writing at once (log.max-open-segments, or what the limit of open files leaves).";
        ClosedSegments "tidegate_log_segments_closed_total" MetricKind::ReadCounter, "Segment files that were closed so that those of other partitions could be opened.";
        RefusedOpens "tidegate_log_open_refused_total" MetricKind::ReadCounter, "Appends that were refused, to be tried again, because no more segment files could be open (log.max-open-segments).";
        DiskReserve "tidegate_log_disk_reserve_bytes" MetricKind::Gauge, "Bytes that are kept for deleting on a full disk (log.disk-reserve); 0 while they are released.";
        DiskReserveReleases "tidegate_log_disk_reserve_released_total" MetricKind::ReadCounter, "Times that the disk's reserve was released because the disk was full.";
    }
    Cleaner [], Normal {
        CleanerReadBytes "tidegate_cleaner_read_bytes_total" MetricKind::ReadCounter, "Bytes of records that compaction read.";
        CleanerWrittenBytes "tidegate_cleaner_written_bytes_total" MetricKind::ReadCounter, "Bytes of records that compaction wrote.";
        CleanerRounds "tidegate_cleaner_rounds_total" MetricKind::ReadCounter, "Rounds of compaction that were finished, each of one partition.";
        CleanerLastRound "tidegate_cleaner_last_round_timestamp_seconds" MetricKind::Gauge, "When the last round of compaction ended, in seconds since the Unix epoch; absent before the first.";
        CleanerDirtyRatio "tidegate_cleaner_max_dirty_ratio" MetricKind::Gauge, "The part of the dirtiest compacted partition that is new since it was compacted, from 0 to 1.";
        CleanerImpossible "tidegate_cleaner_impossible_partitions" MetricKind::Gauge, "Partitions that cannot be compacted: damaged, or with too many keys for log.cleaner-buffer-bytes.";
    }
    Api ["api"], Normal {
        Requests "tidegate_requests_total" MetricKind::Counter, "Requests answered.";
        RequestDuration "tidegate_request_duration_seconds" MetricKind::Histogram(REQUEST_BUCKETS), "Time from the start of a request to its answer; a Fetch includes its long poll, an acks=all Produce its sync.";
    }
    ApiError ["api", "error"], Normal {
        RequestErrors "tidegate_request_errors_total" MetricKind::Counter, "Requests whose answer carried an error, by the protocol's name of the first.";
    }
    Listener ["listener"], Normal {
        Connections "tidegate_connections" MetricKind::Level, "Connections that are open; on QUIC, streams.";
        ConnectionsOpened "tidegate_connections_total" MetricKind::Counter, "Connections that were opened; on QUIC, streams.";
        ConnectionLimit "tidegate_connections_limit" MetricKind::Gauge, "Connections that the listener takes at most.";
    }
    Refused ["listener", "reason"], Normal {
        Refusals "tidegate_refused_total" MetricKind::Counter, "Connections and requests turned away because of a bound.";
    }
    Bound ["setting"], Normal {
        BoundRefusals "tidegate_bound_refusals_total" MetricKind::Counter, "Requests of which all or a part was refused because of a bound, by the setting that holds it.";
    }
    Lines [], Normal {
        LinesLeftOut "tidegate_log_lines_left_out_total" MetricKind::Counter, "Lines of the log and of the audit trail that were left out because one client or one cause made too many; a line says how many.";
    }
    Throttle ["reason"], Normal {
        ThrottleTime "tidegate_throttle_seconds_total" MetricKind::SecondsCounter, "Time for which reading from connections stood still because a bound was reached.";
        Throttles "tidegate_throttles_total" MetricKind::Counter, "Times that reading from a connection stood still because a bound was reached.";
    }
    Memory ["pool"], Normal {
        MemoryUsed "tidegate_memory_used_bytes" MetricKind::Gauge, "Bytes that requests (frames), answers and work hold in memory, by the pool they draw on.";
        MemoryLimit "tidegate_memory_limit_bytes" MetricKind::Gauge, "Bytes that a pool has.";
    }
    Authentication ["mechanism", "result"], Normal {
        Authentications "tidegate_authentications_total" MetricKind::Counter, "Authentications, by mechanism and result (success or failure).";
    }
    Authorization ["operation"], Normal {
        AuthorizationDenied "tidegate_authorization_denied_total" MetricKind::Counter, "Operations that authorization denied.";
    }
    Topic ["topic"], Normal {
        TopicBytesIn "tidegate_topic_bytes_in_total" MetricKind::Counter, "Bytes of record batches appended, as compressed by the producer.";
        TopicRecordsIn "tidegate_topic_records_in_total" MetricKind::Counter, "Records appended.";
        TopicBytesOut "tidegate_topic_bytes_out_total" MetricKind::Counter, "Bytes of record batches sent to consumers.";
        TopicLogBytes "tidegate_topic_log_bytes" MetricKind::Gauge, "Bytes of the topic's logs on disk.";
    }
    GroupState ["state"], Normal {
        Groups "tidegate_groups" MetricKind::Gauge, "Consumer groups, by state.";
    }
    TransactionState ["state"], Normal {
        Transactions "tidegate_transactions" MetricKind::Gauge, "Transactional ids, by the state of their transaction; Ongoing are open.";
    }
    CoordinatorMemory ["kind"], Normal {
        CoordinatorBytes "tidegate_coordinator_bytes" MetricKind::Gauge, "Memory that counts against groups.max-bytes (members, assignments and offsets of groups) and transactions.max-bytes (transactional ids and their partitions), in bytes.";
    }
    CoordinatorRefused ["setting"], Normal {
        CoordinatorRefusals "tidegate_coordinator_refusals_total" MetricKind::ReadCounter, "Groups, members, offsets, transactional ids and producer ids that were refused because of a bound, by the setting that holds it.";
    }
    GroupLag ["group", "topic"], Normal {
        GroupTopicLag "tidegate_group_lag" MetricKind::Gauge, "Records between a group's committed offsets and the high watermarks, over a topic's partitions.";
    }
    GroupPartitionLag ["group", "topic", "partition"], Detail {
        PartitionLag "tidegate_group_partition_lag" MetricKind::Gauge, "Records between a group's committed offset and a partition's high watermark; as far as the series budget allows.";
    }
    Plugin ["plugin"], Normal {
        PluginSuspended "tidegate_plugin_suspended" MetricKind::Gauge, "1 while a plugin is suspended after repeated faults for at least one topic, else 0.";
        PluginRevision "tidegate_plugin_revision" MetricKind::Gauge, "The revision of the plugin that is active.";
    }
    PluginHost [], Normal {
        PluginQueuedBytes "tidegate_plugin_queued_bytes" MetricKind::Gauge, "Bytes of batches that wait for the threads of plugins; plugins.max-queued-bytes is the bound.";
        PluginMemory "tidegate_plugin_memory_bytes" MetricKind::Gauge, "Memory of all plugin instances; plugins.max-total-memory-bytes is the bound.";
    }
    PluginWorld ["plugin", "world"], Normal {
        PluginCalls "tidegate_plugin_calls_total" MetricKind::Counter, "Calls into a plugin.";
        PluginInput "tidegate_plugin_input_records_total" MetricKind::Counter, "Records (for authorizers: actions) that a plugin was given.";
        PluginDuration "tidegate_plugin_call_duration_seconds" MetricKind::Histogram(PLUGIN_BUCKETS), "Time of one call into a plugin, encoding included.";
    }
    PluginOutcome ["plugin", "outcome"], Normal {
        PluginRecords "tidegate_plugin_records_total" MetricKind::Counter, "Records by what a plugin made of them.";
    }
    PluginFault ["plugin", "fault"], Normal {
        PluginFaults "tidegate_plugin_faults_total" MetricKind::Counter, "Calls that gave no answer, by fault.";
    }
}

impl MetricKind {
    /// Values that an entry holds for the metric: for a histogram one for each bucket, the last without a bound, and the sum.
    pub(super) fn slots(self) -> usize {
        match self {
            Self::Histogram(bounds) => bounds.len() + 2,
            _ => 1,
        }
    }

    /// Series that one label set exports: a histogram has a count besides its slots.
    pub(super) fn series(self) -> usize {
        match self {
            Self::Histogram(_) => self.slots() + 1,
            _ => 1,
        }
    }

    /// True when the value is given anew at each scrape.
    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Gauge | Self::ReadCounter)
    }

    /// The exposition format's word.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Counter | Self::SecondsCounter | Self::ReadCounter => "counter",
            Self::Level | Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl GroupRow {
    pub(super) fn slots(&self) -> usize {
        self.metrics.iter().map(|row| row.kind.slots()).sum()
    }

    /// Series that one label set exports at most.
    pub(super) fn series(&self) -> usize {
        self.metrics.iter().map(|row| row.kind.series()).sum()
    }

    /// The group's metrics, each with its first slot.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, &'static MetricRow)> {
        let mut next = 0;
        self.metrics.iter().map(move |row| {
            let slot = next;
            next += row.kind.slots();
            (slot, row)
        })
    }
}

/// `broker/deploy/METRICS.md`: the table as a page of Markdown.
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         What `/metrics` on the admin port exports. Generated from the table in `broker/src/observe/table.rs`; to write it anew:\n\
         `UPDATE_METRICS_MD=1 cargo test -p tidegate --lib observe::`.\n\n\
         At most `observe.max-series` series are ever exported. When there are more label sets, the busiest keep series of their own\n\
         and the rest are added up in one with the label value `_other`, so that sums and rates stay true;\n\
         `tidegate_metrics_folded_series` counts them.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for group in TABLE {
        let labels: Vec<_> = group
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        for row in group.metrics {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                row.name,
                row.kind.type_name(),
                labels.join(", "),
                row.help
            );
        }
    }
    text
}
