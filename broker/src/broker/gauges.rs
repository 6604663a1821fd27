//! The values that are read at each scrape instead of being counted as they change: sizes, lag, states.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::config::Durability;
use crate::kafka::context::Services;
use crate::log::{LogStats, PartitionLog};
use crate::observe::GaugeSink;
use crate::observe::health::{Reason, stopped_partitions, waiting_for_memory};
use crate::observe::table::Metric;
use crate::types::{Offset, PartitionId, TopicId};

/// Gives the metrics what to read. It holds the services weakly: they hold the metrics.
pub fn collector(services: &Arc<Services>) -> Box<dyn Fn(&mut GaugeSink<'_>) + Send + Sync> {
    let services: Weak<Services> = Arc::downgrade(services);
    Box::new(move |sink| {
        if let Some(services) = services.upgrade() {
            collect(&services, sink);
        }
    })
}

/// What keeps the broker from being ready besides its stage of life.
pub fn readiness(services: &Arc<Services>) -> Box<dyn Fn() -> Vec<Reason> + Send + Sync> {
    let services: Weak<Services> = Arc::downgrade(services);
    Box::new(move || {
        let Some(services) = services.upgrade() else {
            return Vec::new();
        };
        let (lines, total) = stopped(&services);
        let starved = services.memory.starved().into_iter();
        starved
            .map(|(pool, setting, waited)| waiting_for_memory(pool, setting, waited))
            .chain(stopped_partitions(&lines, total))
            .collect()
    })
}

/// Which partitions have stopped accepting and why, and how many there are in all.
fn stopped(services: &Services) -> (Vec<String>, usize) {
    let logs = services.logs.partitions();
    let mut lines = Vec::new();
    for log in &logs {
        let stats = log.stats();
        let Some(reason) = stats.stopped else {
            continue;
        };
        let id = log.id();
        let handle = services.topics.get_by_id(id.topic);
        let topic = handle.map_or_else(
            || id.topic.to_string(),
            |handle| handle.topic.name.to_string(),
        );
        let damaged = stats.damaged.first().map_or_else(String::new, |range| {
            format!(" (damaged: offsets {} to {})", range.first, range.until - 1)
        });
        lines.push(format!("{topic} [{}]: {reason}{damaged}", id.index));
    }
    (lines, logs.len())
}

const STATES: [&str; 3] = ["accepting", "stopped", "damaged"];

fn state(stats: &LogStats) -> &'static str {
    match stats {
        LogStats {
            is_damaged: true, ..
        } => "damaged",
        LogStats {
            stopped: Some(_), ..
        } => "stopped",
        LogStats { .. } => "accepting",
    }
}

/// Sums over partitions, of which there may be very many: one walk makes all of them.
#[derive(Default)]
struct Sums {
    stopped: usize,
    damaged_ranges: usize,
    damage_skips: u64,
    by_state: HashMap<(&'static str, &'static str), usize>,
    topic_bytes: HashMap<TopicId, u64>,
}

impl Sums {
    fn of(logs: &[Arc<PartitionLog>]) -> Self {
        let mut sums = Self::default();
        for log in logs {
            let stats = log.stats();
            sums.stopped += usize::from(stats.stopped.is_some());
            sums.damaged_ranges += stats.damaged.len();
            sums.damage_skips += stats.damage_skips;
            let kind = (log.durability().config_name(), state(&stats));
            *sums.by_state.entry(kind).or_default() += 1;
            *sums.topic_bytes.entry(log.id().topic).or_default() += stats.size_bytes;
        }
        sums
    }
}

fn log(services: &Services, sink: &mut GaugeSink<'_>) {
    let logs = services.logs.partitions();
    let sums = Sums::of(&logs);
    sink.partitions(logs.len(), sums.stopped);
    sink.damage(sums.damaged_ranges, sums.damage_skips);
    // Every combination is told, so that a rule can tell none from not known.
    for durability in [Durability::Fsync, Durability::Os] {
        for state in STATES {
            let kind = (durability.config_name(), state);
            let count = sums.by_state.get(&kind).copied().unwrap_or(0);
            sink.log_partitions(kind.0, kind.1, count);
        }
    }
    for handle in services.topics.all() {
        let bytes = sums.topic_bytes.get(&handle.topic.id).copied();
        sink.topic_log_bytes(handle.topic.name.as_str(), bytes.unwrap_or(0));
    }
}

fn collect(services: &Services, sink: &mut GaugeSink<'_>) {
    log(services, sink);
    cleaner(services, sink);
    log_files(services, sink);
    for (name, _, pool) in services.memory.pools() {
        sink.memory(name, pool.used(), pool.whole());
    }
    for state in services.coordinator.states() {
        sink.group_state(state);
    }
    coordinators(services, sink);
    for state in services.transactions.states() {
        sink.transaction_state(state.name());
    }
    group_lag(services, sink);
    for plugin in services.plugins.status() {
        sink.plugin(
            &plugin.name,
            plugin.revision,
            !plugin.suspended_topics.is_empty(),
        );
    }
    let plugins = &services.plugins;
    sink.plugin_host(plugins.workers().queued_bytes(), plugins.memory_bytes());
    for listener in &services.config.listeners {
        sink.connection_limit(&listener.name, listener.max_connections);
    }
}

/// What groups and transactional ids take, and what was refused to them.
fn coordinators(services: &Services, sink: &mut GaugeSink<'_>) {
    let groups = services.coordinator.usage();
    let transactions = services.transactions.usage();
    for (kind, (bytes, refused)) in [("groups", groups), ("transactions", transactions)] {
        sink.coordinator_bytes(kind, bytes);
        for (setting, count) in refused {
            sink.coordinator_refused(setting, count);
        }
    }
}

/// What compaction has done.
fn cleaner(services: &Services, sink: &mut GaugeSink<'_>) {
    let stats = services.logs.cleaner_stats();
    sink.cleaner(Metric::CleanerReadBytes, stats.bytes_read as f64);
    sink.cleaner(Metric::CleanerWrittenBytes, stats.bytes_written as f64);
    sink.cleaner(Metric::CleanerRounds, stats.rounds as f64);
    if let Some(time) = stats.last_round {
        sink.cleaner(Metric::CleanerLastRound, time as f64 / 1_000.0);
    }
    sink.cleaner(Metric::CleanerDirtyRatio, stats.max_dirty_ratio);
    sink.cleaner(Metric::CleanerImpossible, stats.impossible as f64);
}

/// What is open, and what is kept for a full disk.
fn log_files(services: &Services, sink: &mut GaugeSink<'_>) {
    let handles = services.logs.handle_stats();
    sink.log_files(Metric::OpenSegments, handles.open as f64);
    sink.log_files(Metric::OpenSegmentsLimit, handles.bound as f64);
    sink.log_files(Metric::ClosedSegments, handles.closed as f64);
    sink.log_files(Metric::RefusedOpens, handles.refused as f64);
    let reserve = services.logs.reserve_stats();
    sink.log_files(Metric::DiskReserve, reserve.kept as f64);
    sink.log_files(Metric::DiskReserveReleases, reserve.released as f64);
}

/// What each group has still to read: the high watermark less what it committed.
fn group_lag(services: &Services, sink: &mut GaugeSink<'_>) {
    let mut ends: HashMap<PartitionId, Offset> = HashMap::new();
    for (group, topic, partition, committed) in services.coordinator.committed() {
        let Some(handle) = services.topics.get(&topic) else {
            continue;
        };
        let Some(log) = handle.log(partition) else {
            continue;
        };
        let end = *ends.entry(log.id()).or_insert_with(|| high_watermark(log));
        sink.group_lag(&group, &topic, partition, end - committed);
    }
}

fn high_watermark(log: &PartitionLog) -> Offset {
    log.offsets().high_watermark
}
