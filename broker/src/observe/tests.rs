use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::table::{Metric, MetricKind, TABLE, reference};
use super::*;

/// The samples of an exposition by name and labels. Fails on anything that Prometheus would refuse or drop.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut described = BTreeSet::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let (word, name) = (words.next(), words.next().expect("a metric's name"));
            if word == Some("TYPE") {
                assert!(
                    described.insert(name.to_owned()),
                    "{name} is described twice"
                );
                current = name;
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        assert!(series.starts_with(current), "{line} stands under {current}");
        let value: f64 = value.parse().expect("a number");
        assert!(
            samples.insert(series.to_owned(), value).is_none(),
            "{series} is there twice"
        );
    }
    samples
}

/// The sum of a metric's series.
fn total(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    let of_metric = |series: &str| series.split('{').next() == Some(name);
    samples
        .iter()
        .filter(|(series, _)| of_metric(series))
        .map(|(_, value)| value)
        .sum()
}

/// A small generator (SplitMix64), so that a failing run can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn names_help_and_labels_follow_prometheus_conventions() {
    let mut names = BTreeSet::new();
    for (index, group) in TABLE.iter().enumerate() {
        assert_eq!(group.group as usize, index);
        for row in group.metrics {
            assert!(names.insert(row.name), "{}", row.name);
            assert!(
                row.name.starts_with("tidegate_") || row.name.starts_with("process_"),
                "{}",
                row.name
            );
            assert!(
                row.help.ends_with('.') && !row.help.contains(['\n', '\\', '|']),
                "{}",
                row.name
            );
            assert_eq!(
                row.name.ends_with("_total"),
                row.kind.type_name() == "counter",
                "{}",
                row.name
            );
            if let MetricKind::Histogram(bounds) = row.kind {
                assert!(
                    row.name.ends_with("_seconds") && bounds.is_sorted(),
                    "{}",
                    row.name
                );
            }
        }
    }
}

/// Metrics of which each has a value.
fn touched() -> Metrics {
    let metrics = Metrics::default();
    metrics.request("Produce", Duration::from_micros(300), None);
    metrics.request(
        "Produce",
        Duration::from_secs(60),
        Some("NOT_LEADER_OR_FOLLOWER"),
    );
    metrics.produced("orders", 100, 3);
    metrics.produced("orders", 50, 1);
    metrics.fetched("orders", 70);
    metrics.connection_opened("plain");
    metrics.connection_opened("plain");
    metrics.connection_closed("plain");
    metrics.refused("plain", "frame-too-large");
    metrics.throttled("in-flight-bytes", Duration::from_millis(1500));
    metrics.authentication("SCRAM-SHA-256", false);
    metrics.authorization_denied("Write", 1);
    metrics.bounded("broker.max-answer-bytes");
    metrics.lines_left_out(1);
    metrics.flushed(Duration::from_millis(2), 4096);
    metrics.plugin_call("mask", "transform", Duration::from_micros(7), 20);
    metrics.plugin_records("mask", "kept", 19);
    metrics.plugin_fault("mask", "trap");
    metrics.set_collector(Box::new(|sink| {
        sink.partitions(8, 1);
        sink.log_partitions("fsync", "accepting", 7);
        sink.log_partitions("fsync", "damaged", 1);
        sink.log_partitions("os", "stopped", 0);
        sink.damage(2, 3);
        sink.memory("work", 10, 20);
        sink.topic_log_bytes("orders", 1000);
        sink.topic_log_bytes("orders", 24);
        sink.group_lag("readers", "orders", 0, 5);
        sink.group_lag("readers", "orders", 1, -1);
        sink.group_state("Stable");
        sink.transaction_state("Ongoing");
        sink.coordinator_bytes("groups", 1000);
        sink.coordinator_refused("groups.max-groups", 1);
        sink.plugin("mask", 3, true);
        sink.plugin_host(4096, 65536);
        for (metric, value) in [
            (Metric::CleanerReadBytes, 10.0),
            (Metric::CleanerWrittenBytes, 4.0),
            (Metric::CleanerRounds, 2.0),
            (Metric::CleanerLastRound, 1_700_000_000.5),
            (Metric::CleanerDirtyRatio, 0.25),
            (Metric::CleanerImpossible, 0.0),
        ] {
            sink.cleaner(metric, value);
        }
        for (metric, value) in [
            (Metric::OpenSegments, 5.0),
            (Metric::OpenSegmentsLimit, 448.0),
            (Metric::ClosedSegments, 7.0),
            (Metric::RefusedOpens, 0.0),
            (Metric::DiskReserve, 16_777_216.0),
            (Metric::DiskReserveReleases, 1.0),
        ] {
            sink.log_files(metric, value);
        }
        sink.connection_limit("plain", 500);
    }));
    metrics
}

/// What `touched` exports, the process and most buckets left out.
#[rustfmt::skip]
const TOUCHED: &[(&str, f64)] = &[
("tidegate_requests_total{api=\"Produce\"}", 2.0),
(
    "tidegate_request_duration_seconds_bucket{api=\"Produce\",le=\"0.00025\"}",
    0.0,
),
(
    "tidegate_request_duration_seconds_bucket{api=\"Produce\",le=\"0.0005\"}",
    1.0,
),
(
    "tidegate_request_duration_seconds_bucket{api=\"Produce\",le=\"10\"}",
    1.0,
),
(
    "tidegate_request_duration_seconds_bucket{api=\"Produce\",le=\"+Inf\"}",
    2.0,
),
(
    "tidegate_request_duration_seconds_sum{api=\"Produce\"}",
    60.0003,
),
(
    "tidegate_request_duration_seconds_count{api=\"Produce\"}",
    2.0,
),
(
    "tidegate_request_errors_total{api=\"Produce\",error=\"NOT_LEADER_OR_FOLLOWER\"}",
    1.0,
),
("tidegate_topic_bytes_in_total{topic=\"orders\"}", 150.0),
("tidegate_topic_records_in_total{topic=\"orders\"}", 4.0),
("tidegate_topic_bytes_out_total{topic=\"orders\"}", 70.0),
("tidegate_topic_log_bytes{topic=\"orders\"}", 1024.0),
("tidegate_connections{listener=\"plain\"}", 1.0),
("tidegate_connections_total{listener=\"plain\"}", 2.0),
("tidegate_connections_limit{listener=\"plain\"}", 500.0),
(
    "tidegate_refused_total{listener=\"plain\",reason=\"frame-too-large\"}",
    1.0,
),
(
    "tidegate_throttle_seconds_total{reason=\"in-flight-bytes\"}",
    1.5,
),
("tidegate_throttles_total{reason=\"in-flight-bytes\"}", 1.0),
(
    "tidegate_authentications_total{mechanism=\"SCRAM-SHA-256\",result=\"failure\"}",
    1.0,
),
(
    "tidegate_authorization_denied_total{operation=\"Write\"}",
    1.0,
),
(
    "tidegate_bound_refusals_total{setting=\"broker.max-answer-bytes\"}",
    1.0,
),
("tidegate_log_lines_left_out_total", 1.0),
("tidegate_flush_duration_seconds_bucket{le=\"0.0025\"}", 1.0),
("tidegate_flush_duration_seconds_count", 1.0),
("tidegate_flushed_bytes_total", 4096.0),
(
    "tidegate_plugin_calls_total{plugin=\"mask\",world=\"transform\"}",
    1.0,
),
(
    "tidegate_plugin_input_records_total{plugin=\"mask\",world=\"transform\"}",
    20.0,
),
(
    "tidegate_plugin_records_total{plugin=\"mask\",outcome=\"kept\"}",
    19.0,
),
(
    "tidegate_plugin_faults_total{plugin=\"mask\",fault=\"trap\"}",
    1.0,
),
("tidegate_plugin_suspended{plugin=\"mask\"}", 1.0),
("tidegate_plugin_revision{plugin=\"mask\"}", 3.0),
("tidegate_plugin_queued_bytes", 4096.0),
("tidegate_plugin_memory_bytes", 65536.0),
("tidegate_partitions", 8.0),
("tidegate_partitions_stopped", 1.0),
("tidegate_cleaner_read_bytes_total", 10.0),
("tidegate_cleaner_last_round_timestamp_seconds", 1_700_000_000.5),
("tidegate_cleaner_max_dirty_ratio", 0.25),
(
    "tidegate_log_partitions{durability=\"fsync\",state=\"accepting\"}",
    7.0,
),
(
    "tidegate_log_partitions{durability=\"fsync\",state=\"damaged\"}",
    1.0,
),
(
    "tidegate_log_partitions{durability=\"os\",state=\"stopped\"}",
    0.0,
),
("tidegate_log_damaged_ranges", 2.0),
("tidegate_log_damage_skips_total", 3.0),
("tidegate_groups{state=\"Stable\"}", 1.0),
(
    "tidegate_group_lag{group=\"readers\",topic=\"orders\"}",
    5.0,
),
(
    "tidegate_group_partition_lag{group=\"readers\",topic=\"orders\",partition=\"0\"}",
    5.0,
),
(
    "tidegate_group_partition_lag{group=\"readers\",topic=\"orders\",partition=\"1\"}",
    0.0,
),
("tidegate_metrics_folded_series", 0.0),
("tidegate_metrics_series_limit", 10_000.0),
(
    concat!(
        "tidegate_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\"}"
    ),
    1.0,
),
];

#[test]
fn what_is_recorded_is_exported() {
    let samples = samples(&touched().render());
    for (series, value) in TOUCHED {
        assert_eq!(samples.get(*series), Some(value), "{series}");
    }
    for row in TABLE.iter().flat_map(|group| group.metrics) {
        let exported = samples.keys().any(|series| series.starts_with(row.name));
        assert!(exported, "{} was touched and is not exported", row.name);
    }
}

/// What `load` did.
#[derive(Default)]
struct Loaded {
    bytes: u64,
    open: i64,
    requests: u64,
}

/// Records what many clients do between two scrapes. Few topics are busy, and in other rounds others: label sets win and
/// lose series of their own.
fn load(metrics: &Metrics, random: &mut Random, round: u64, loaded: &mut Loaded) {
    for _ in 0..500 {
        let topic = format!("topic-{}", random.below(500));
        let busy = random.below(20) == round % 20;
        let bytes = if busy { random.below(1 << 20) } else { 1 };
        metrics.produced(&topic, bytes, 1);
        loaded.bytes += bytes;
        metrics.request("Fetch", Duration::from_micros(random.below(20_000)), None);
        loaded.requests += 1;
        let plugin = format!("plugin-{}", random.below(90));
        metrics.plugin_call(&plugin, "transform", Duration::ZERO, 1);
        let listener = format!("listener-{}", random.below(300));
        metrics.connection_opened(&listener);
        loaded.open += 1;
        if random.below(2) == 0 {
            metrics.connection_closed(&listener);
            loaded.open -= 1;
        }
    }
}

#[test]
fn a_scrape_never_passes_the_budget_and_loses_nothing() {
    let seed = 0x7469_6465;
    println!("seed {seed}");
    let mut random = Random(seed);
    let metrics = Metrics::new(600);
    metrics.set_collector(Box::new(|sink| {
        for partition in 0..2_000 {
            sink.topic_log_bytes(&format!("topic-{}", partition % 500), 10);
            sink.group_lag(
                &format!("group-{}", partition % 40),
                "topic-1",
                partition,
                2,
            );
        }
    }));
    let mut loaded = Loaded::default();
    // The last value of every series that was ever exported.
    let mut known: BTreeMap<String, f64> = BTreeMap::new();
    for round in 0..30 {
        load(&metrics, &mut random, round, &mut loaded);
        let now = samples(&metrics.render());
        assert!(now.len() <= 600, "{} series in round {round}", now.len());
        assert!(now["tidegate_metrics_folded_series"] > 500.0);
        for (series, value) in &now {
            let before = known.insert(series.clone(), *value).unwrap_or(0.0);
            let counts = series.contains("_total") || series.contains("_count");
            assert!(
                !counts || *value >= before,
                "{series} fell from {before} to {value}"
            );
        }
        assert_eq!(
            total(&known, "tidegate_topic_bytes_in_total"),
            loaded.bytes as f64
        );
        assert_eq!(
            total(&known, "tidegate_requests_total"),
            loaded.requests as f64
        );
        assert_eq!(
            total(&known, "tidegate_plugin_call_duration_seconds_count"),
            loaded.requests as f64
        );
        for (name, sum) in [
            ("tidegate_topic_log_bytes", 20_000.0),
            ("tidegate_group_lag", 4_000.0),
            ("tidegate_group_partition_lag", 4_000.0),
            ("tidegate_connections", loaded.open as f64),
        ] {
            assert_eq!(total(&now, name), sum, "{name} in round {round}");
        }
    }
}

#[test]
fn the_busiest_keep_series_of_their_own() {
    let metrics = Metrics::new(400);
    for topic in 0..1_000 {
        metrics.produced(&format!("quiet-{topic}"), 1, 1);
    }
    metrics.produced("busy", 1_000_000, 1_000);
    let samples = samples(&metrics.render());
    assert_eq!(
        samples["tidegate_topic_bytes_in_total{topic=\"busy\"}"],
        1_000_000.0
    );
    assert!(samples["tidegate_topic_bytes_in_total{topic=\"_other\"}"] > 0.0);
    assert_eq!(
        total(&samples, "tidegate_topic_bytes_in_total"),
        1_001_000.0
    );
}

#[test]
fn label_values_of_any_kind_keep_the_exposition_whole() {
    let metrics = Metrics::default();
    let long = "x".repeat(100_000);
    let longer = "x".repeat(100_001);
    metrics.set_collector(Box::new(move |sink| {
        for group in [
            "a\"b",
            "a\\b",
            "a\nb",
            "a b} 1",
            "",
            "é",
            long.as_str(),
            longer.as_str(),
        ] {
            sink.group_lag(group, "t", 0, 1);
        }
    }));
    // What looks like the fold is added to it, not exported beside it.
    metrics.produced("_other", 5, 1);
    let text = metrics.render();
    assert!(text.lines().all(|line| line.len() < 1_000));
    let samples = samples(&text);
    assert_eq!(total(&samples, "tidegate_group_lag"), 8.0);
    assert_eq!(
        samples["tidegate_group_lag{group=\"a\\\"b\",topic=\"t\"}"],
        1.0
    );
    assert_eq!(
        samples["tidegate_group_lag{group=\"a\\nb\",topic=\"t\"}"],
        1.0
    );
    assert_eq!(
        samples["tidegate_topic_bytes_in_total{topic=\"_other\"}"],
        5.0
    );
}

#[test]
fn a_deleted_topic_is_forgotten_and_a_used_one_is_not() {
    let metrics = Metrics::default();
    let deleted = Arc::new(AtomicBool::new(false));
    let gone = deleted.clone();
    metrics.set_collector(Box::new(move |sink| {
        sink.topic_log_bytes("kept", 1);
        if !gone.load(Ordering::Relaxed) {
            sink.topic_log_bytes("deleted", 1);
            sink.group_lag("readers", "deleted", 0, 1);
        }
    }));
    metrics.produced("deleted", 1, 1);
    metrics.produced("unknown", 1, 1);
    assert!(metrics.render().contains("topic=\"deleted\""));
    deleted.store(true, Ordering::Relaxed);
    let after = metrics.render();
    assert!(
        !after.contains("group=\"readers\""),
        "a gauge that is not read any more is gone at once"
    );
    assert!(
        after.contains("topic=\"deleted\""),
        "its counters stay for a while"
    );
    for _ in 0..25 {
        metrics.produced("unknown", 1, 1);
        metrics.render();
    }
    let after = metrics.render();
    assert!(!after.contains("topic=\"deleted\""), "{after}");
    assert!(after.contains("topic=\"kept\""));
    assert!(after.contains("tidegate_topic_bytes_in_total{topic=\"unknown\"} 26"));
}

#[test]
fn recording_from_many_threads_loses_nothing() {
    let metrics = Metrics::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2_000 {
                    metrics.produced(["a", "b", "c"][round % 3], 2, 1);
                    metrics.request("Produce", Duration::from_millis(1), None);
                    if round % 500 == 0 {
                        metrics.render();
                    }
                }
            });
        }
    });
    let samples = samples(&metrics.render());
    assert_eq!(total(&samples, "tidegate_topic_bytes_in_total"), 16_000.0);
    assert_eq!(samples["tidegate_requests_total{api=\"Produce\"}"], 8_000.0);
    assert_eq!(
        samples["tidegate_request_duration_seconds_count{api=\"Produce\"}"],
        8_000.0
    );
}

#[test]
fn a_scrape_of_ten_thousand_partitions_takes_less_than_a_tenth_of_a_second() {
    let metrics = Metrics::default();
    metrics.set_collector(Box::new(|sink| {
        for partition in 0..10_000 {
            let topic = format!("topic-{}", partition / 4);
            sink.topic_log_bytes(&topic, 1);
            sink.group_lag(&format!("group-{}", partition / 100), &topic, partition, 1);
        }
    }));
    for topic in 0..2_500 {
        metrics.produced(&format!("topic-{topic}"), 1, 1);
    }
    // The best of several: other work on the machine only ever adds.
    let best = (0..7)
        .map(|_| {
            let start = Instant::now();
            let text = metrics.render();
            assert!(text.lines().filter(|line| !line.starts_with('#')).count() <= 10_000);
            start.elapsed()
        })
        .min()
        .expect("a round");
    println!("a scrape took {best:?}");
    // Without optimisation the same work takes some ten times as long.
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 100 });
    assert!(best < bound, "{best:?}");
}

#[test]
fn the_documentation_is_the_table() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/METRICS.md");
    let expected = reference();
    if std::env::var_os("UPDATE_METRICS_MD").is_some() {
        std::fs::write(file, &expected).expect("METRICS.md can be written");
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is not what the table says; UPDATE_METRICS_MD=1 cargo test -p tidegate --lib observe:: writes it"
    );
}
