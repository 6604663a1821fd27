//! The routes, by resource.

mod log;
mod plugins;
mod status;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post, put};

use super::Shared;

/// What everybody who reaches the port may read.
pub(super) fn open() -> Router<Arc<Shared>> {
    Router::new()
        .route("/metrics", get(status::metrics))
        .route("/healthz", get(status::alive))
        .route("/readyz", get(status::ready))
        .route("/v1/broker", get(status::broker))
}

/// What the guard stands before.
pub(super) fn guarded() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/topics", get(status::topics))
        .route("/v1/log", get(log::list))
        .route("/v1/log/{topic}/{partition}/recover", post(log::recover))
        .route("/v1/plugins", get(plugins::list))
        .route(
            "/v1/plugins/{name}",
            get(plugins::describe)
                .put(plugins::deploy)
                .delete(plugins::remove),
        )
        .route("/v1/plugins/{name}/compilation", delete(plugins::cancel))
        .route("/v1/plugins/{name}/rollback", post(plugins::roll_back))
        .route("/v1/users", get(users::list))
        .route(
            "/v1/users/{name}",
            put(users::set_password).delete(users::remove),
        )
}
