//! The HTTP side: metrics, health, and the operator's API. The one home of `axum`.
//!
//! | path | method | what |
//! |---|---|---|
//! | `/metrics` | GET | the exposition for Prometheus |
//! | `/healthz` | GET | 200 while the process answers |
//! | `/readyz` | GET | 200 when clients should be sent here, else 503; the reasons as JSON |
//! | `/v1/broker` | GET | version, ids, addresses |
//! | `/v1/topics` | GET | topics with id and partitions |
//! | `/v1/log` | GET | partitions that stopped accepting, and what is damaged |
//! | `/v1/log/{topic}/{partition}/recover` | POST | verifies a partition that stopped from the disk, and lets it accept again; with `?accept-damage=true` damage is given up |
//! | `/v1/plugins` | GET | deployed plugins with their revisions, and what is being compiled |
//! | `/v1/plugins/{name}` | GET | one of them |
//! | `/v1/plugins/{name}` | PUT | deploys the component in the body; `?config=` is a JSON object of texts |
//! | `/v1/plugins/{name}` | DELETE | removes it, unless a topic or a setting uses it |
//! | `/v1/plugins/{name}/compilation` | DELETE | ends it; the deployment is refused |
//! | `/v1/plugins/{name}/rollback` | POST | makes the revision before active again, or `?revision=` |
//! | `/v1/users` | GET | names of SCRAM users |
//! | `/v1/users/{name}` | PUT | sets the password: `{"password": "…"}` |
//! | `/v1/users/{name}` | DELETE | removes the user |
//!
//! The first three are open to whoever reaches the port; every other path needs the token, which the broker makes for itself
//! (`admin.token` in the data folder) where none is configured.
//!
//! Errors are JSON: `error` (a stable word), `detail` and `fix` for people. `guard` stands before every path and says who may
//! call; everything a caller can send or hold is bounded, by `listener` (connections and their time), by `start` (time of a
//! call) and by the routes (bodies).

mod error;
mod guard;
mod listener;
mod routes;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use self::error::ApiError;
use self::guard::Guard;
use self::listener::{BoundedListener, Caller, Peer, Stage};
use crate::catalog::Catalog;
use crate::config::{AdminConfig, Transport, read_token};
use crate::log::LogSet;
use crate::observe::{Health, Metrics};
use crate::plugin::PluginHost;
use crate::security::logins::Logins;
use crate::security::secret;

/// The token that the broker makes where none is configured, in its data folder.
pub const TOKEN_FILE: &str = "admin.token";

/// The longest that a call may take, its body included.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Components that may be received or compiled at once: each is held in memory whole.
const CONCURRENT_DEPLOYMENTS: usize = 2;

/// Scrapes and readiness checks that may run at once: each takes a thread. The next ones wait for them.
const CONCURRENT_SCRAPES: usize = 2;
const CONCURRENT_CHECKS: usize = 2;

/// How long calls that have started may go on when the broker stops.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);

/// Tells which topics and settings refer to a plugin, each in a few words such as `topic orders`.
pub type InUseBy = Arc<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// The parts of the broker that the admin port shows and changes.
#[derive(Clone)]
pub struct AdminState {
    pub catalog: Arc<Catalog>,
    pub logs: Arc<LogSet>,
    pub plugins: Arc<PluginHost>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub logins: Arc<Logins>,
    /// Where a token is kept that the broker makes for itself.
    pub data_dir: PathBuf,
    pub broker_id: i32,
    pub cluster_id: String,
    /// Name, transport and bound address of each listener.
    pub addresses: Vec<(String, Transport, SocketAddr)>,
    pub max_artifact_bytes: u64,
    /// Rounds of key derivation for new passwords.
    pub scram_iterations: u32,
    pub in_use_by: InUseBy,
}

/// What handlers share.
struct Shared {
    state: AdminState,
    guard: Guard,
    deployments: Arc<Semaphore>,
    scrapes: Semaphore,
    checks: Semaphore,
}

/// A running admin port.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// Binds the admin port and serves it. Fails when the address cannot be bound, or the token cannot be read or made.
pub async fn start(config: &AdminConfig, state: AdminState) -> Result<AdminServer, String> {
    let bind = config
        .bind
        .ok_or("admin.bind is empty: there is no admin port to start")?;
    let token_file = token_file(config, &state)?;
    let listener = TcpListener::bind(bind)
        .await
        .map_err(|error| format!("admin.bind: cannot listen on {bind}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let shared = Arc::new(Shared {
        guard: Guard {
            on_loopback: bind.ip().is_loopback(),
            host_names: config.host_names.clone(),
            token_file,
            logins: state.logins.clone(),
        },
        state,
        deployments: Arc::new(Semaphore::new(CONCURRENT_DEPLOYMENTS)),
        scrapes: Semaphore::new(CONCURRENT_SCRAPES),
        checks: Semaphore::new(CONCURRENT_CHECKS),
    });
    let (stop, stopped) = oneshot::channel();
    let service = router(shared).into_make_service_with_connect_info::<Caller>();
    let server =
        axum::serve(BoundedListener::new(listener), service).with_graceful_shutdown(async {
            // A dropped sender stops the server, too.
            let _ = stopped.await;
        });
    let server = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the admin port stopped");
        }
    });
    Ok(AdminServer {
        address,
        stop,
        server,
    })
}

/// The file with the token: the configured one, else one that is made.
fn token_file(config: &AdminConfig, state: &AdminState) -> Result<PathBuf, String> {
    let Some(file) = &config.token_file else {
        return secret::kept(&state.data_dir, TOKEN_FILE)
            .map_err(|message| format!("the admin token: {message}"));
    };
    read_token(file).map_err(|message| format!("admin.token-file: {message}"))?;
    Ok(std::path::absolute(file).unwrap_or_else(|_| file.clone()))
}

impl AdminServer {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and lets started calls finish for a moment.
    pub async fn shutdown(mut self) {
        // The server is gone already when nobody listens.
        let _ = self.stop.send(());
        if tokio::time::timeout(SHUTDOWN_DEADLINE, &mut self.server)
            .await
            .is_err()
        {
            self.server.abort();
        }
    }
}

/// The guard is laid around everything, what is at no path included: a new route cannot be left out.
fn router(shared: Arc<Shared>) -> Router {
    let routes = routes::all().into_iter();
    routes
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(|| async {
            ApiError::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path")
                .fix("the paths are /metrics, /healthz, /readyz, /v1/broker, /v1/topics, /v1/log, /v1/plugins and /v1/users")
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this path does not take this method",
            )
        })
        .layer(middleware::from_fn_with_state(shared.clone(), guard::check))
        .layer(middleware::from_fn(called))
        .with_state(shared)
}

/// Bounds the time of a call, and lets its connection keep its place meanwhile.
async fn called(mut request: Request, next: Next) -> Result<Response, ApiError> {
    let caller = request.extensions().get::<ConnectInfo<Caller>>().cloned();
    let Some(ConnectInfo(caller)) = caller else {
        return Ok(next.run(request).await);
    };
    let peer = ConnectInfo(Peer(caller.peer));
    request.extensions_mut().insert(peer);
    caller.place.set(Stage::Call);
    let outcome = bounded_in_time(request, next).await;
    caller.place.set(Stage::Idle);
    outcome
}

async fn bounded_in_time(request: Request, next: Next) -> Result<Response, ApiError> {
    tokio::time::timeout(CALL_TIMEOUT, next.run(request))
        .await
        .map_err(|_| {
            ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                format!(
                    "the call took longer than {} s; a change may still take effect",
                    CALL_TIMEOUT.as_secs()
                ),
            )
        })
}
