//! Plugins of the running broker: deployed, listed, rolled back and removed; compilations ended. Every call that changes something answers when
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
use crate::plugin::{Compiling, DeployError};

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let host = &shared.state.plugins;
    Json(json!({ "plugins": described(&shared), "compiling": compiling(&host.compiling()) }))
}

/// One plugin, or a component of that name that is on its way.
pub(super) async fn describe(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let mut plugin = described(&shared)
        .into_iter()
        .find(|plugin| plugin["name"] == name.as_str());
    let all = shared.state.plugins.compiling();
    if let Some(one) = all.iter().find(|one| one.plugin == name) {
        let status = json!({ "since_ms": one.since_ms, "size_bytes": one.size_bytes });
        let plugin = plugin.get_or_insert_with(|| json!({ "name": name, "revisions": [] }));
        plugin["compiling"] = status;
    }
    let missing = || DeployError::Missing(name.clone()).into();
    plugin.map(Json).ok_or_else(missing)
}

fn described(shared: &Shared) -> Vec<Value> {
    let host = &shared.state.plugins;
    let status: BTreeMap<_, _> = host
        .status()
        .into_iter()
        .map(|status| (status.name.clone(), status))
        .collect();
    host.list()
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
        .collect()
}

fn compiling(all: &[Compiling]) -> Vec<Value> {
    let one = |one: &Compiling| json!({ "name": one.plugin, "since_ms": one.since_ms, "size_bytes": one.size_bytes });
    all.iter().map(one).collect()
}

/// Ends the compilation of a component; its deployment is refused.
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    if !shared.state.plugins.cancel(&name) {
        let detail = format!("nothing is being compiled for plugin {name}");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not-found", detail));
    }
    audit::changed("plugin compilation cancelled", &name, &peer.to_string());
    Ok(Json(json!({ "cancelled": name })))
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
    let place = Arc::clone(&shared.deployments).try_acquire_owned();
    let place = place.map_err(|_| {
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
    // A task of its own: it goes on, and its end is in the audit trail, also when whoever asked for it has gone.
    let deployment = tokio::spawn(async move {
        let (deployed, _place) = (name.clone(), place);
        let outcome =
            tokio::task::spawn_blocking(move || host.deploy(&deployed, &component, config))
                .await
                .map_err(ApiError::internal)
                .and_then(|outcome| outcome.map_err(ApiError::from));
        let what = match &outcome {
            Ok(_) => "plugin deployed",
            Err(_) => "plugin deployment refused",
        };
        audit::changed(what, &name, &peer.to_string());
        outcome
    });
    let entry = deployment.await.map_err(ApiError::internal)??;
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
