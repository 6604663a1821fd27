//! What is seen to at the start and at intervals so that folder, descriptors and disk stay as they must be.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::env::descriptors::Shares;
use crate::env::files;
use crate::kafka::context::Services;
use crate::observe::trace;

/// How often it is said that lines were left out.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// Whatever lies in the data folder is its owner's alone, also where an older version or a wide umask has left it open.
pub fn keep_private(data: &Path) {
    match files::make_private(data) {
        Ok(None) => {}
        Ok(Some(mode)) => {
            tracing::warn!(folder = %data.display(), from = format!("{mode:o}"), "the data folder was open to others than its owner; it is the owner's alone now");
        }
        Err(error) => {
            tracing::warn!(folder = %data.display(), %error, "the data folder is open to others than its owner, and stays so; make it mode 0700");
        }
    }
}

/// Bounds connections and open segment files by the descriptors that there are.
pub fn share_descriptors(mut config: Config, limit: usize) -> Config {
    let shares = Shares::of(limit, config.net.max_connections);
    if shares.connections < config.net.max_connections {
        tracing::warn!(
            limit,
            configured = config.net.max_connections,
            connections = shares.connections,
            "fewer connections than net.max-connections are taken: the limit of open files (ulimit -n) has no room for more"
        );
        config.net.max_connections = shares.connections;
    }
    let segments = &mut config.log.max_open_segments;
    *segments = match *segments {
        0 => shares.segments,
        configured => configured.min(shares.segments),
    };
    config
}

/// Looks after the log's files at the configured interval.
pub async fn check_files(services: Arc<Services>) {
    let mut interval = tokio::time::interval(services.config.log.file_check_interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let logs = services.logs.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || logs.check_files()).await {
            tracing::error!(%error, "the check of the log's files was interrupted");
        }
    }
}

/// Applies retention at the configured interval.
pub async fn enforce_retention(services: Arc<Services>) {
    let mut interval = tokio::time::interval(services.config.log.retention_check_interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let logs = services.logs.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || logs.enforce_retention()).await {
            tracing::error!(%error, "retention was interrupted");
        }
    }
}

/// Says at times how many lines of the log and the audit trail were left out.
pub async fn summarize_lines(services: Arc<Services>) {
    let mut interval = tokio::time::interval(SUMMARY_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let now = Instant::now();
        services.bounds.denials.summarize(now);
        services.metrics.lines_left_out(trace::summarize(now));
    }
}
