//! The end of listeners: connections that are left get until the deadline, then they are dropped.

use std::time::Duration;

use quinn::Endpoint;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{deadline, quic};

/// What a listener that no longer accepts leaves behind. Dropping it drops the connections.
pub(super) struct Remaining {
    connections: JoinSet<()>,
    endpoint: Option<Endpoint>,
}

impl Remaining {
    pub(super) fn new(connections: JoinSet<()>) -> Self {
        Self {
            connections,
            endpoint: None,
        }
    }

    pub(super) fn of_endpoint(connections: JoinSet<()>, endpoint: Endpoint) -> Self {
        Self {
            connections,
            endpoint: Some(endpoint),
        }
    }

    /// Waits for the connections to end, until the deadline; returns how many had to be dropped.
    async fn finish(mut self, deadline: Instant) -> usize {
        let ended = async { while self.connections.join_next().await.is_some() {} };
        let dropped = match timeout_at(deadline, ended).await {
            Ok(()) => 0,
            Err(_) => {
                let left = self.connections.len();
                self.connections.shutdown().await;
                left
            }
        };
        if let Some(endpoint) = self.endpoint {
            quic::close(endpoint).await;
        }
        dropped
    }
}

/// Finishes every listener, given tasks that stop accepting by themselves.
pub(super) async fn finish(mut accepting: JoinSet<Remaining>, limit: Duration) {
    let deadline = deadline::after(Instant::now(), limit);
    let mut finishing = JoinSet::new();
    while let Some(stopped) = accepting.join_next().await {
        match stopped {
            Ok(remaining) => {
                finishing.spawn(remaining.finish(deadline));
            }
            Err(fault) => warn!("a listener's task failed: {fault}"),
        }
    }
    let dropped: usize = finishing.join_all().await.into_iter().sum();
    if dropped > 0 {
        warn!(
            dropped,
            "connections dropped: not finished within broker.shutdown_deadline"
        );
    } else {
        info!("listeners closed, every request that was started is answered");
    }
}
