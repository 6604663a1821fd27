//! An admin port whose metrics all have values, as if a broker had seen everything once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::admin::{AdminServer, AdminState, start};
use tidegate::catalog::Catalog;
use tidegate::config::{AdminConfig, Config};
use tidegate::env::Clock;
use tidegate::log::LogSet;
use tidegate::observe::table::Metric;
use tidegate::observe::{Health, Metrics};
use tidegate::plugin::PluginHost;
use tidegate::security::logins::Logins;

pub struct Port {
    pub server: AdminServer,
    _folder: TempDir,
}

pub async fn admin_port() -> Port {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = Config::default();
    let catalog = Catalog::open(folder.path()).expect("a catalog");
    let metrics = Arc::new(touched_metrics());
    let plugins = PluginHost::open(
        &folder.path().join("plugins"),
        config.plugins.clone(),
        catalog.clone(),
        metrics.clone(),
        Clock::system(),
    )
    .expect("a plugin host");
    let logs = LogSet::open(&folder.path().join("log"), config.log, Clock::system())
        .expect("a log folder");
    let state = AdminState {
        catalog,
        logs,
        plugins,
        metrics,
        health: Arc::new(Health::new()),
        logins: Logins::new(Clock::system(), b"secret"),
        data_dir: folder.path().to_owned(),
        broker_id: config.broker.id,
        cluster_id: config.broker.cluster_id,
        addresses: Vec::new(),
        max_artifact_bytes: config.plugins.max_artifact_bytes,
        scram_iterations: config.security.scram_iterations,
        in_use_by: Arc::new(|_| Vec::new()),
    };
    let admin = AdminConfig {
        bind: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        ..AdminConfig::default()
    };
    Port {
        server: start(&admin, state).await.expect("an admin port"),
        _folder: folder,
    }
}

fn touched_metrics() -> Metrics {
    let metrics = Metrics::default();
    metrics.request("Produce", Duration::from_micros(300), None);
    metrics.request(
        "Fetch",
        Duration::from_millis(500),
        Some("OffsetOutOfRange"),
    );
    metrics.produced("orders", 100, 3);
    metrics.fetched("orders", 70);
    metrics.connection_opened("plain");
    metrics.refused("plain", "frame-too-large");
    metrics.throttled("in-flight-bytes", Duration::from_millis(1500));
    metrics.authentication("SCRAM-SHA-256", false);
    metrics.authentication("SCRAM-SHA-256", true);
    metrics.authorization_denied("Write", 1);
    metrics.bounded("broker.max-answer-bytes");
    metrics.lines_left_out(1);
    metrics.flushed(Duration::from_millis(2), 4096);
    metrics.plugin_call("mask", "transform", Duration::from_micros(7), 20);
    metrics.plugin_records("mask", "kept", 19);
    metrics.plugin_fault("mask", "trap");
    metrics.set_collector(Box::new(|sink| {
        sink.partitions(8, 0);
        sink.log_partitions("fsync", "accepting", 8);
        sink.log_partitions("fsync", "stopped", 0);
        sink.log_partitions("fsync", "damaged", 0);
        sink.damage(0, 0);
        sink.memory("work", 1, 2);
        for metric in [
            Metric::CleanerReadBytes,
            Metric::CleanerWrittenBytes,
            Metric::CleanerRounds,
            Metric::CleanerLastRound,
            Metric::CleanerDirtyRatio,
            Metric::CleanerImpossible,
        ] {
            sink.cleaner(metric, 1.0);
        }
        for metric in [
            Metric::OpenSegments,
            Metric::OpenSegmentsLimit,
            Metric::ClosedSegments,
            Metric::RefusedOpens,
            Metric::DiskReserve,
            Metric::DiskReserveReleases,
        ] {
            sink.log_files(metric, 1.0);
        }
        sink.plugin_host(1, 1);
        sink.topic_log_bytes("orders", 1000);
        sink.group_lag("readers", "orders", 0, 5);
        sink.group_state("Stable");
        sink.transaction_state("Ongoing");
        sink.coordinator_bytes("groups", 1000);
        sink.coordinator_refused("groups.max-groups", 1);
        sink.plugin("mask", 3, false);
        sink.connection_limit("plain", 500);
    }));
    metrics
}
