//! Partition logs that need an operator: those that stopped accepting, and those with damage.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Shared;
use crate::admin::error::ApiError;
use crate::admin::listener::Peer;
use crate::observe::audit;
use crate::types::{PartitionId, TopicId};

/// Damaged ranges that an answer lists at most.
const MAX_LISTED: usize = 10_000;

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, ApiError> {
    let listed = tokio::task::spawn_blocking(move || needing_care(&shared)).await;
    listed.map(Json).map_err(ApiError::internal)
}

fn needing_care(shared: &Shared) -> Value {
    let topics = shared.state.catalog.topics();
    let names: HashMap<TopicId, &str> = topics
        .iter()
        .map(|topic| (topic.id, topic.name.as_str()))
        .collect();
    let (mut stopped, mut damaged) = (Vec::new(), Vec::new());
    for log in shared.state.logs.partitions() {
        let (id, stats) = (log.id(), log.stats());
        let topic = names.get(&id.topic).copied().unwrap_or_default();
        if let Some(reason) = &stats.stopped {
            stopped.push(json!({ "topic": topic, "partition": id.index, "reason": reason }));
        }
        for range in stats.damaged.iter().take(MAX_LISTED - damaged.len()) {
            damaged.push(json!({
                "topic": topic,
                "partition": id.index,
                "first_offset": range.first,
                "last_offset": range.until - 1,
                "message": range.message,
            }));
        }
    }
    json!({ "stopped": stopped, "damaged": damaged })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Recover {
    #[serde(default)]
    accept_damage: bool,
}

pub(super) async fn recover(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path((topic, index)): Path<(String, i32)>,
    Query(Recover { accept_damage }): Query<Recover>,
) -> Result<Json<Value>, ApiError> {
    let found = shared.state.catalog.topic(&topic);
    let id = found
        .filter(|found| (0..found.partitions).contains(&index))
        .map(|found| PartitionId {
            topic: found.id,
            index,
        })
        .ok_or_else(|| {
            let detail = format!("there is no partition {index} of a topic {topic}");
            ApiError::new(StatusCode::NOT_FOUND, "not-found", detail)
        })?;
    let logs = shared.state.logs.clone();
    let recovered = tokio::task::spawn_blocking(move || logs.recover_partition(id, accept_damage))
        .await
        .map_err(ApiError::internal)?
        .map_err(|reason| {
            ApiError::new(StatusCode::CONFLICT, "stays-stopped", reason).fix(
                "where damage is the reason, `tidegate log recover --accept-damage` goes on behind it; with the broker stopped, \
                 `tidegate log verify` explains it and `tidegate log repair` mends what can be mended",
            )
        })?;
    let what = if accept_damage {
        "log recovered, damage accepted"
    } else {
        "log recovered"
    };
    audit::changed(what, &format!("{topic} [{index}]"), &peer.to_string());
    Ok(Json(json!({ "recovered": recovered })))
}
