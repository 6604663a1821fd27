//! SCRAM users. A password comes in once, in a body; it is never logged, kept or answered.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Shared;
use crate::admin::error::ApiError;
use crate::admin::listener::Peer;
use crate::observe::audit;
use crate::security::sasl::new_user;

/// The largest body of a password call, in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "users": shared.state.catalog.users() }))
}

/// No `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    password: String,
}

pub(super) async fn set_password(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        let detail = format!("the body broke off, or is larger than {MAX_BODY_BYTES} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    })?;
    let NewPassword { password } = serde_json::from_slice(&body).map_err(|error| {
        // The parser's own words may quote the password.
        let detail = format!(
            "the body is no password in JSON (line {}, column {})",
            error.line(),
            error.column()
        );
        ApiError::bad_request(detail).fix("send {\"password\": \"…\"}")
    })?;
    let catalog = shared.state.catalog.clone();
    let iterations = shared.state.scram_iterations;
    let user_name = name.clone();
    let name = tokio::task::spawn_blocking(move || {
        let user = new_user(&user_name, &password, iterations).map_err(ApiError::bad_request)?;
        let name = user.name.clone();
        catalog.put_user(user)?;
        Ok::<_, ApiError>(name)
    })
    .await
    .map_err(ApiError::internal)??;
    audit::changed("user's password set", &name, &peer.to_string());
    Ok(Json(json!({ "user": name })))
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let catalog = shared.state.catalog.clone();
    let removed = name.clone();
    tokio::task::spawn_blocking(move || catalog.delete_user(&removed))
        .await
        .map_err(ApiError::internal)??;
    audit::changed("user removed", &name, &peer.to_string());
    Ok(Json(json!({ "removed": name })))
}
