//! Recording, and the values that are read when Prometheus asks.

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use super::export::export;
use super::process::Process;
use super::store::Store;
use super::table::{Group, Metric, MetricKind, TABLE};

/// The default of `observe.max-series`.
const DEFAULT_MAX_SERIES: usize = 10_000;

/// Every metric of the broker. Recording is wait-free or nearly so; exporting is bounded by the series budget.
pub struct Metrics {
    max_series: usize,
    /// One for each group, in the table's order.
    stores: Vec<Store>,
    /// The first slot of each metric in its group's entries, by metric.
    slots: Vec<usize>,
    collector: OnceLock<Collector>,
    /// Held through a scrape.
    scrape: Mutex<()>,
}

/// Gives the values that are read at scrapes.
pub type Collector = Box<dyn Fn(&mut GaugeSink<'_>) + Send + Sync>;

impl Default for Metrics {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_SERIES)
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("max_series", &self.max_series)
            .finish_non_exhaustive()
    }
}

/// Time in nanoseconds; five centuries are enough.
fn nanoseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

impl Metrics {
    /// `max_series` bounds every scrape; it is raised to what the metrics without labels and one `_other` a group need.
    pub fn new(max_series: usize) -> Self {
        let least: usize = TABLE.iter().map(super::table::GroupRow::series).sum();
        let metrics = Self {
            max_series: max_series.max(least),
            stores: TABLE.iter().map(Store::new).collect(),
            slots: TABLE
                .iter()
                .flat_map(|group| group.places().map(|(slot, _)| slot))
                .collect(),
            collector: OnceLock::new(),
            scrape: Mutex::new(()),
        };
        // Counters without labels stand at zero from the start.
        for group in TABLE.iter().filter(|group| group.labels.is_empty()) {
            metrics.store(group.group).with(&[], |_| {});
        }
        metrics
    }

    fn store(&self, group: Group) -> &Store {
        &self.stores[group as usize]
    }

    fn slot(&self, metric: Metric) -> usize {
        self.slots[metric as usize]
    }

    /// Adds to several counters of one label set.
    fn add(&self, group: Group, labels: &[&str], counters: &[(Metric, u64)]) {
        self.store(group).with(labels, |entry| {
            for (metric, by) in counters {
                entry.add(self.slot(*metric), *by);
            }
        });
    }

    /// Counts one call of which a histogram keeps the time.
    fn observe(
        &self,
        group: Group,
        labels: &[&str],
        (histogram, elapsed): (Metric, Duration),
        counters: &[(Metric, u64)],
    ) {
        let store = self.store(group);
        store.with(labels, |entry| {
            for (metric, by) in counters {
                entry.add(self.slot(*metric), *by);
            }
            let row = store.row.metrics.iter().find(|row| row.metric == histogram);
            if let Some(MetricKind::Histogram(bounds)) = row.map(|row| row.kind) {
                entry.observe(self.slot(histogram), bounds, nanoseconds(elapsed));
            }
        });
    }

    /// One answered request. `error` is the protocol's name of the first error in the response, if any.
    pub fn request(&self, api: &'static str, elapsed: Duration, error: Option<&'static str>) {
        self.observe(
            Group::Api,
            &[api],
            (Metric::RequestDuration, elapsed),
            &[(Metric::Requests, 1)],
        );
        if let Some(error) = error {
            self.add(
                Group::ApiError,
                &[api, error],
                &[(Metric::RequestErrors, 1)],
            );
        }
    }

    /// Records appended to a topic.
    pub fn produced(&self, topic: &str, bytes: u64, records: u64) {
        let counters = [
            (Metric::TopicBytesIn, bytes),
            (Metric::TopicRecordsIn, records),
        ];
        self.add(Group::Topic, &[topic], &counters);
    }

    /// Bytes of a topic sent to a consumer.
    pub fn fetched(&self, topic: &str, bytes: u64) {
        self.add(Group::Topic, &[topic], &[(Metric::TopicBytesOut, bytes)]);
    }

    pub fn connection_opened(&self, listener: &str) {
        let counters = [(Metric::Connections, 1), (Metric::ConnectionsOpened, 1)];
        self.add(Group::Listener, &[listener], &counters);
    }

    pub fn connection_closed(&self, listener: &str) {
        let slot = self.slot(Metric::Connections);
        self.store(Group::Listener)
            .with(&[listener], |entry| entry.subtract(slot, 1));
    }

    /// A connection or request turned away; `reason` such as `too-many-connections`, `frame-too-large`, `handshake-timeout`.
    pub fn refused(&self, listener: &str, reason: &'static str) {
        self.add(
            Group::Refused,
            &[listener, reason],
            &[(Metric::Refusals, 1)],
        );
    }

    /// Time that reading from connections stood still because a bound (in-flight bytes) was reached.
    pub fn throttled(&self, reason: &'static str, elapsed: Duration) {
        let counters = [
            (Metric::ThrottleTime, nanoseconds(elapsed)),
            (Metric::Throttles, 1),
        ];
        self.add(Group::Throttle, &[reason], &counters);
    }

    pub fn authentication(&self, mechanism: &'static str, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.add(
            Group::Authentication,
            &[mechanism, result],
            &[(Metric::Authentications, 1)],
        );
    }

    pub fn authorization_denied(&self, operation: &'static str, times: u64) {
        self.add(
            Group::Authorization,
            &[operation],
            &[(Metric::AuthorizationDenied, times)],
        );
    }

    /// A request, or a part of one, that was refused because of a bound; `setting` is what holds the bound.
    pub fn bounded(&self, setting: &'static str) {
        self.add(Group::Bound, &[setting], &[(Metric::BoundRefusals, 1)]);
    }

    /// Lines of the log and of the audit trail that were not written.
    pub fn lines_left_out(&self, lines: u64) {
        self.add(Group::Lines, &[], &[(Metric::LinesLeftOut, lines)]);
    }

    /// One fdatasync and the bytes it covered.
    pub fn flushed(&self, elapsed: Duration, bytes: u64) {
        self.observe(
            Group::Flush,
            &[],
            (Metric::FlushDuration, elapsed),
            &[(Metric::FlushedBytes, bytes)],
        );
    }

    pub fn plugin_call(&self, plugin: &str, world: &'static str, elapsed: Duration, records: u64) {
        let counters = [(Metric::PluginCalls, 1), (Metric::PluginInput, records)];
        self.observe(
            Group::PluginWorld,
            &[plugin, world],
            (Metric::PluginDuration, elapsed),
            &counters,
        );
    }

    /// `fault` such as `trap`, `deadline`, `memory`, `bad-output`, `call-error`, `suspended`, `overloaded`.
    pub fn plugin_fault(&self, plugin: &str, fault: &'static str) {
        self.add(
            Group::PluginFault,
            &[plugin, fault],
            &[(Metric::PluginFaults, 1)],
        );
    }

    pub fn plugin_records(&self, plugin: &str, outcome: &'static str, records: u64) {
        self.add(
            Group::PluginOutcome,
            &[plugin, outcome],
            &[(Metric::PluginRecords, records)],
        );
    }

    /// Sets once what gives the values that are read at scrapes. It runs inside every scrape and must not block on the
    /// network or call `render`. A second collector is refused with `false`.
    pub fn set_collector(&self, collector: Collector) -> bool {
        self.collector.set(collector).is_ok()
    }

    /// Everything as Prometheus reads it (text format 0.0.4), within the series budget. Blocking: at ten thousand
    /// partitions tens of milliseconds; scrapes exclude each other.
    pub fn render(&self) -> String {
        let _scrape = self.scrape.lock();
        for store in self.stores.iter().filter(|store| store.is_read()) {
            store.other.forget_read_values(store.row);
            for entry in store.entries() {
                entry.forget_read_values(store.row);
            }
        }
        let mut sink = GaugeSink { metrics: self };
        sink.broker_itself();
        if let Some(collector) = self.collector.get() {
            collector(&mut sink);
        }
        export(&self.stores, self.max_series, |folded| {
            sink.add(Group::Exporter, &[], Metric::FoldedSeries, folded as f64);
        })
    }
}

/// Where a collector puts the values that are read at scrapes. What is given twice is added up.
pub struct GaugeSink<'m> {
    metrics: &'m Metrics,
}

impl GaugeSink<'_> {
    fn add(&mut self, group: Group, labels: &[&str], metric: Metric, value: f64) {
        let slot = self.metrics.slot(metric);
        self.metrics
            .store(group)
            .with(labels, |entry| entry.add_read_value(slot, value));
    }

    fn broker_itself(&mut self) {
        self.add(
            Group::Build,
            &[env!("CARGO_PKG_VERSION")],
            Metric::BuildInfo,
            1.0,
        );
        self.add(
            Group::Exporter,
            &[],
            Metric::MaxSeries,
            self.metrics.max_series as f64,
        );
        let process = Process::read();
        for (metric, value) in [
            (Metric::ProcessCpu, process.cpu_seconds),
            (Metric::ProcessMemory, process.resident_bytes),
            (Metric::ProcessVirtual, process.virtual_bytes),
            (Metric::ProcessDescriptors, process.open_descriptors),
            (Metric::ProcessMaxDescriptors, process.max_descriptors),
            (Metric::ProcessThreads, process.threads),
            (Metric::ProcessStart, process.start_seconds),
        ] {
            if let Some(value) = value {
                self.add(Group::Process, &[], metric, value);
            }
        }
    }

    /// Partitions of this broker, and how many of them stopped accepting.
    pub fn partitions(&mut self, total: usize, stopped: usize) {
        self.add(Group::Broker, &[], Metric::Partitions, total as f64);
        self.add(
            Group::Broker,
            &[],
            Metric::PartitionsStopped,
            stopped as f64,
        );
    }

    /// How many partitions have this durability (`fsync`, `os`) and are in this state (`accepting`, `stopped`, `damaged`).
    pub fn log_partitions(&mut self, durability: &str, state: &str, count: usize) {
        self.add(
            Group::LogState,
            &[durability, state],
            Metric::LogPartitions,
            count as f64,
        );
    }

    /// What is held of a pool of memory, and what there is.
    pub fn memory(&mut self, pool: &str, used: u64, whole: u64) {
        let group = Group::Memory;
        self.add(group, &[pool], Metric::MemoryUsed, used as f64);
        self.add(group, &[pool], Metric::MemoryLimit, whole as f64);
    }

    /// One of the cleaner's figures.
    pub fn cleaner(&mut self, metric: Metric, value: f64) {
        self.add(Group::Cleaner, &[], metric, value);
    }

    /// One of the figures of the log's files.
    pub fn log_files(&mut self, metric: Metric, value: f64) {
        self.add(Group::LogFiles, &[], metric, value);
    }

    /// Stretches of offsets that are damaged, and reads that went on behind one.
    pub fn damage(&mut self, ranges: usize, skips: u64) {
        self.add(Group::Broker, &[], Metric::DamagedRanges, ranges as f64);
        self.add(Group::Broker, &[], Metric::DamageSkips, skips as f64);
    }

    /// Bytes on disk of a topic's partitions.
    pub fn topic_log_bytes(&mut self, topic: &str, bytes: u64) {
        self.add(Group::Topic, &[topic], Metric::TopicLogBytes, bytes as f64);
    }

    /// One group's state, in Kafka's words.
    pub fn group_state(&mut self, state: &str) {
        self.add(Group::GroupState, &[state], Metric::Groups, 1.0);
    }

    /// One transactional id's state, in Kafka's words.
    pub fn transaction_state(&mut self, state: &str) {
        self.add(Group::TransactionState, &[state], Metric::Transactions, 1.0);
    }

    /// What groups (`groups`) or transactional ids (`transactions`) take in memory.
    pub fn coordinator_bytes(&mut self, kind: &str, bytes: usize) {
        let metric = Metric::CoordinatorBytes;
        self.add(Group::CoordinatorMemory, &[kind], metric, bytes as f64);
    }

    /// How often a coordinator refused something because of the bound that this setting holds.
    pub fn coordinator_refused(&mut self, setting: &str, count: u64) {
        let metric = Metric::CoordinatorRefusals;
        self.add(Group::CoordinatorRefused, &[setting], metric, count as f64);
    }

    /// Records that a group has still to read of one partition; below zero counts as none.
    pub fn group_lag(&mut self, group: &str, topic: &str, partition: i32, lag: i64) {
        let lag = lag.max(0) as f64;
        self.add(Group::GroupLag, &[group, topic], Metric::GroupTopicLag, lag);
        let partition = partition.to_string();
        self.add(
            Group::GroupPartitionLag,
            &[group, topic, &partition],
            Metric::PartitionLag,
            lag,
        );
    }

    /// A deployed plugin.
    pub fn plugin(&mut self, name: &str, revision: u32, suspended: bool) {
        self.add(
            Group::Plugin,
            &[name],
            Metric::PluginRevision,
            f64::from(revision),
        );
        self.add(
            Group::Plugin,
            &[name],
            Metric::PluginSuspended,
            f64::from(u8::from(suspended)),
        );
    }

    /// What plugins have before them, and hold.
    pub fn plugin_host(&mut self, queued_bytes: usize, memory_bytes: usize) {
        self.add(
            Group::PluginHost,
            &[],
            Metric::PluginQueuedBytes,
            queued_bytes as f64,
        );
        self.add(
            Group::PluginHost,
            &[],
            Metric::PluginMemory,
            memory_bytes as f64,
        );
    }

    /// The most connections that a listener takes.
    pub fn connection_limit(&mut self, listener: &str, limit: usize) {
        self.add(
            Group::Listener,
            &[listener],
            Metric::ConnectionLimit,
            limit as f64,
        );
    }
}
