//! What the broker is and how it does.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::admin::Shared;
use crate::admin::error::ApiError;

/// The exposition format, as Prometheus asks for it by default.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
) -> Result<impl IntoResponse, ApiError> {
    let metrics = shared.state.metrics.clone();
    // Waiting for a turn holds no thread. The semaphore is never closed.
    let _turn = shared.scrapes.acquire().await.ok();
    let text = tokio::task::spawn_blocking(move || metrics.render())
        .await
        .map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text))
}

pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "alive": true }))
}

pub(super) async fn ready(
    State(shared): State<Arc<Shared>>,
) -> Result<impl IntoResponse, ApiError> {
    let health = shared.state.health.clone();
    let _turn = shared.checks.acquire().await.ok();
    // The check may look at every partition.
    let reasons = tokio::task::spawn_blocking(move || health.reasons())
        .await
        .map_err(ApiError::internal)?;
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let answer = json!({ "ready": reasons.is_empty(), "reasons": reasons });
    Ok((status, Json(answer)))
}

pub(super) async fn broker(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let state = &shared.state;
    let listeners: Vec<Value> = state
        .addresses
        .iter()
        .map(|(name, transport, address)| {
            json!({ "name": name, "transport": transport.config_name(), "address": address.to_string() })
        })
        .collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "broker_id": state.broker_id,
        "cluster_id": state.cluster_id,
        "listeners": listeners,
    }))
}

pub(super) async fn topics(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let topics: Vec<Value> = shared
        .state
        .catalog
        .topics()
        .iter()
        .map(|topic| {
            json!({
                "name": topic.name.as_str(),
                "id": topic.id.to_string(),
                "partitions": topic.partitions,
                "internal": topic.internal,
                "configs": topic.configs,
            })
        })
        .collect();
    Json(json!({ "topics": topics }))
}
