//! The routes, by resource.

mod log;
mod plugins;
mod status;
mod users;

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post, put};

use super::Shared;

/// What everybody who reaches the port may read. Every other path needs the token, those that do not exist, too.
pub(super) const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// Every path with its methods.
pub(super) fn all() -> Vec<(&'static str, MethodRouter<Arc<Shared>>)> {
    vec![
        ("/metrics", get(status::metrics)),
        ("/healthz", get(status::alive)),
        ("/readyz", get(status::ready)),
        ("/v1/broker", get(status::broker)),
        ("/v1/topics", get(status::topics)),
        ("/v1/log", get(log::list)),
        ("/v1/log/{topic}/{partition}/recover", post(log::recover)),
        ("/v1/plugins", get(plugins::list)),
        (
            "/v1/plugins/{name}",
            get(plugins::describe)
                .put(plugins::deploy)
                .delete(plugins::remove),
        ),
        ("/v1/plugins/{name}/compilation", delete(plugins::cancel)),
        ("/v1/plugins/{name}/rollback", post(plugins::roll_back)),
        ("/v1/users", get(users::list)),
        (
            "/v1/users/{name}",
            put(users::set_password).delete(users::remove),
        ),
    ]
}
