//! Plugins of the running broker: deployed, listed, rolled back and removed. Every call that changes something answers when
//! the change is in effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Shared;
use crate::admin::error::ApiError;
use crate::admin::listener::Peer;
use crate::catalog::PluginEntry;
use crate::observe::audit;

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let host = &shared.state.plugins;
    let status: BTreeMap<_, _> = host
        .status()
        .into_iter()
        .map(|status| (status.name.clone(), status))
        .collect();
    let plugins: Vec<Value> = host
        .list()
        .iter()
        .map(|entry| {
            let status = status.get(&entry.name);
            json!({
                "name": entry.name,
                "active": entry.active,
                "suspended": status.is_some_and(|status| !status.suspended_topics.is_empty()),
                "suspended_topics": status.map(|status| &status.suspended_topics),
                "unavailable": status.and_then(|status| status.unavailable.as_deref()),
                "used_by": (shared.state.in_use_by)(&entry.name),
                "revisions": entry.revisions,
            })
        })
        .collect();
    Json(json!({ "plugins": plugins }))
}

#[derive(Deserialize)]
pub(super) struct Deployment {
    /// A JSON object of texts.
    config: Option<String>,
}

pub(super) async fn deploy(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Query(deployment): Query<Deployment>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let config = plugin_config(deployment.config.as_deref())?;
    let _place = shared.deployments.try_acquire().map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "other plugins are being deployed at this moment",
        )
        .fix("try again in a few seconds")
    })?;
    let bound = usize::try_from(shared.state.max_artifact_bytes).unwrap_or(usize::MAX);
    let component = to_bytes(body, bound).await.map_err(|_| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!(
                "the component broke off, or is larger than plugins.max-artifact-bytes ({bound})"
            ),
        )
        .fix(
            "build the component in release mode and strip it, or raise plugins.max-artifact-bytes",
        )
    })?;
    let host = shared.state.plugins.clone();
    let deployed = name.clone();
    let entry = tokio::task::spawn_blocking(move || host.deploy(&deployed, &component, config))
        .await
        .map_err(ApiError::internal)??;
    audit::changed("plugin deployed", &name, &peer.to_string());
    Ok(Json(answer(&entry)))
}

#[derive(Deserialize)]
pub(super) struct Rollback {
    revision: Option<u32>,
}

pub(super) async fn roll_back(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Query(rollback): Query<Rollback>,
) -> Result<Json<Value>, ApiError> {
    let host = shared.state.plugins.clone();
    let rolled_back = name.clone();
    let entry = tokio::task::spawn_blocking(move || host.rollback(&rolled_back, rollback.revision))
        .await
        .map_err(ApiError::internal)??;
    audit::changed("plugin rolled back", &name, &peer.to_string());
    Ok(Json(answer(&entry)))
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let users = (shared.state.in_use_by)(&name);
    if !users.is_empty() {
        let detail = format!("plugin {name} is in use by {}", users.join(", "));
        return Err(ApiError::new(StatusCode::CONFLICT, "in-use", detail)
            .fix("take it out of these first, for example: tidegate topic alter TOPIC --config tidegate.transform="));
    }
    let host = shared.state.plugins.clone();
    let removed = name.clone();
    tokio::task::spawn_blocking(move || host.remove(&removed))
        .await
        .map_err(ApiError::internal)??;
    audit::changed("plugin removed", &name, &peer.to_string());
    Ok(Json(json!({ "removed": name })))
}

fn answer(entry: &PluginEntry) -> Value {
    json!({ "name": entry.name, "active": entry.active, "revisions": entry.revisions })
}

fn plugin_config(config: Option<&str>) -> Result<BTreeMap<String, String>, ApiError> {
    match config {
        None | Some("") => Ok(BTreeMap::new()),
        Some(json) => serde_json::from_str(json).map_err(|error| {
            // The place alone: the text may hold secrets.
            let detail = format!(
                "config is no JSON object of texts (column {})",
                error.column()
            );
            ApiError::bad_request(detail).fix("write ?config={\"key\":\"value\"}, URL-encoded")
        }),
    }
}
