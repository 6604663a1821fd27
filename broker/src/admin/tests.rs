use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::{Client, Method, StatusCode as Status};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::catalog::Topic;
use crate::config::{LogConfig, PluginConfig};
use crate::env::Clock;
use crate::observe::health::stopped_partitions;
use crate::types::{PartitionId, TopicId};

/// An admin port on a catalog and a plugin host of its own.
struct Port {
    server: AdminServer,
    state: AdminState,
    client: Client,
    folder: TempDir,
    /// What calls carry, unless they say otherwise.
    token: String,
}

async fn port(token: Option<&str>) -> Port {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let catalog = Catalog::open(folder.path()).expect("a catalog");
    let metrics = Arc::new(Metrics::default());
    let plugins = PluginHost::open(
        &folder.path().join("plugins"),
        PluginConfig::default(),
        catalog.clone(),
        metrics.clone(),
        Clock::system(),
    )
    .expect("a plugin host");
    let logs = LogSet::open(
        &folder.path().join("log"),
        LogConfig::default(),
        Clock::system(),
    )
    .expect("a log folder");
    let state = AdminState {
        catalog,
        logs,
        plugins,
        metrics,
        health: Arc::new(Health::new()),
        logins: Logins::new(Clock::system(), b"secret"),
        data_dir: folder.path().to_owned(),
        broker_id: 7,
        cluster_id: "test".to_owned(),
        addresses: vec![(
            "plain".to_owned(),
            Transport::Tcp,
            ([127, 0, 0, 1], 9092).into(),
        )],
        max_artifact_bytes: 64 << 10,
        scram_iterations: 4096,
        in_use_by: Arc::new(|plugin| match plugin {
            "busy" => vec!["topic orders".to_owned(), "security.authorizers".to_owned()],
            _ => Vec::new(),
        }),
    };
    let token_file: Option<PathBuf> = token.map(|token| {
        let file = folder.path().join("token");
        std::fs::write(&file, token).expect("a token file");
        file
    });
    let config = AdminConfig {
        bind: Some(([127, 0, 0, 1], 0).into()),
        token_file: token_file.clone(),
        host_names: Vec::new(),
    };
    let server = start(&config, state.clone()).await.expect("an admin port");
    let token_file = token_file.unwrap_or(folder.path().join(TOKEN_FILE));
    Port {
        server,
        state,
        client: Client::new(),
        token: read_token(&token_file).expect("a token"),
        folder,
    }
}

impl Port {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.without_token(method, path).bearer_auth(&self.token)
    }

    fn without_token(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.server.address());
        self.client.request(method, url)
    }

    async fn get(&self, path: &str) -> (Status, Value) {
        answer(self.request(Method::GET, path)).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (Status, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    (status, response.json().await.expect("JSON"))
}

/// Checks an error's status and word, and that its detail holds `detail`.
#[track_caller]
fn refused((status, body): (Status, Value), expected: Status, error: &str, detail: &str) {
    assert_eq!(
        (status, body["error"].as_str()),
        (expected, Some(error)),
        "{body}"
    );
    assert!(
        body["detail"]
            .as_str()
            .is_some_and(|text| text.contains(detail)),
        "{body}"
    );
}

#[tokio::test]
async fn metrics_and_health_are_open_to_all() {
    let port = port(Some("0123456789abcdef")).await;
    port.state.metrics.produced("orders", 5, 1);
    let get = |path: &str| port.without_token(Method::GET, path);
    let response = get("/metrics").send().await.expect("an answer");
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = response.text().await.expect("a text");
    assert!(
        text.contains("tidegate_topic_bytes_in_total{topic=\"orders\"} 5\n"),
        "{text}"
    );
    assert_eq!(
        answer(get("/healthz")).await,
        (Status::OK, json!({ "alive": true }))
    );
    let (status, broker) = port.get("/v1/broker").await;
    assert_eq!(status, Status::OK);
    assert_eq!(broker["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        broker["listeners"][0],
        json!({ "name": "plain", "transport": "tcp", "address": "127.0.0.1:9092" })
    );
    port.server.shutdown().await;
}

#[tokio::test]
async fn readiness_gives_its_reasons() {
    let port = port(None).await;
    let (status, body) = port.get("/readyz").await;
    assert_eq!(
        (status, &body["reasons"][0]["reason"]),
        (Status::SERVICE_UNAVAILABLE, &json!("starting"))
    );
    port.state.health.serving();
    assert_eq!(
        port.get("/readyz").await,
        (Status::OK, json!({ "ready": true, "reasons": [] }))
    );
    port.state.health.set_check(Box::new(|| {
        stopped_partitions(&["orders [0]".to_owned()], 8)
            .into_iter()
            .collect()
    }));
    let (status, body) = port.get("/readyz").await;
    assert_eq!(
        (status, &body["reasons"][0]["reason"]),
        (Status::SERVICE_UNAVAILABLE, &json!("partitions-stopped"))
    );
}

#[tokio::test]
async fn the_operators_calls_need_the_token_as_it_stands_in_the_file_now() {
    let port = port(Some("0123456789abcdef\n")).await;
    let with = |token: &str| {
        let call = port.without_token(Method::GET, "/v1/users");
        answer(call.bearer_auth(token))
    };
    for wrong in ["0123456789abcdeF", "0123456789abcde", ""] {
        refused(
            with(wrong).await,
            Status::UNAUTHORIZED,
            "unauthorized",
            "the admin token",
        );
    }
    assert_eq!(with("0123456789abcdef").await.0, Status::OK);
    std::fs::write(port.folder.path().join("token"), "fedcba9876543210").expect("a new token");
    refused(
        with("0123456789abcdef").await,
        Status::UNAUTHORIZED,
        "unauthorized",
        "",
    );
    assert_eq!(with("fedcba9876543210").await.0, Status::OK);
    std::fs::remove_file(port.folder.path().join("token")).expect("removed");
    refused(
        with("fedcba9876543210").await,
        Status::SERVICE_UNAVAILABLE,
        "no-token",
        "cannot read its token",
    );
}

#[tokio::test]
async fn without_a_configured_token_there_is_one_that_its_file_alone_tells() {
    let port = port(None).await;
    let file = port.folder.path().join(TOKEN_FILE);
    let (status, told) = answer(port.without_token(Method::GET, "/v1/users")).await;
    assert_eq!(status, Status::UNAUTHORIZED);
    assert_eq!(told["token_file"], json!(file));
    assert!(!told.to_string().contains(&port.token), "{told}");
    assert_eq!(port.get("/v1/users").await.0, Status::OK);
    let metadata = std::fs::metadata(&file).expect("the token's file");
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// Every path with parameters filled in, and every method that HTTP knows for it.
fn every_call() -> impl Iterator<Item = (Method, String)> {
    let paths = routes::all().into_iter().map(|(path, _)| path.to_owned());
    let paths = paths.chain(["/nowhere".to_owned()]).map(|path| {
        let filled = path.replace("{partition}", "0");
        filled.replace("{topic}", "x").replace("{name}", "x")
    });
    let methods = [
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::DELETE,
        Method::PATCH,
        Method::HEAD,
    ];
    paths.flat_map(move |path| methods.clone().map(|method| (method, path.clone())))
}

#[tokio::test]
async fn every_path_wants_the_token_but_for_those_that_are_open() {
    let port = port(None).await;
    for (method, path) in every_call() {
        let bare = port.without_token(method.clone(), &path);
        let status = bare.send().await.expect("an answer").status();
        let open = routes::OPEN.contains(&path.as_str());
        assert_eq!(status != Status::UNAUTHORIZED, open, "{method} {path}");
        let with = port.request(method.clone(), &path);
        let status = with.send().await.expect("an answer").status();
        assert_ne!(status, Status::UNAUTHORIZED, "{method} {path}");
    }
    assert!(port.state.catalog.users().is_empty());
}

#[tokio::test]
async fn no_path_answers_a_page_of_another_site() {
    let port = port(None).await;
    for (method, path) in every_call() {
        for (header, value) in [
            ("host", "evil.example"),
            ("host", "evil.example:9644"),
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let call = port.request(method.clone(), &path).header(header, value);
            let call = call.body("{\"password\":\"secret\"}");
            let response = call.send().await.expect("an answer");
            assert_eq!(
                response.status(),
                Status::FORBIDDEN,
                "{method} {path} {header}: {value}"
            );
            if method != Method::HEAD {
                let told: Value = response.json().await.expect("JSON");
                assert_eq!(told["error"], "cross-site", "{method} {path}");
            }
        }
    }
    assert!(port.state.catalog.users().is_empty());
}

#[tokio::test]
async fn users_are_set_listed_and_removed_and_passwords_never_come_back() {
    let port = port(None).await;
    let put = |body: &'static str| answer(port.request(Method::PUT, "/v1/users/alice").body(body));
    assert_eq!(
        put("{\"password\": \"hunter2hunter2\"}").await,
        (Status::OK, json!({ "user": "alice" }))
    );
    assert_eq!(port.get("/v1/users").await.1, json!({ "users": ["alice"] }));
    let user = port.state.catalog.user("alice").expect("alice");
    assert_eq!(user.sha256.iterations, 4096);

    for body in [
        "{\"password\": 77777777}",
        "{\"password\": \"hunter2\", \"x\": 1}",
        "hunter2",
        "",
    ] {
        let (status, answer) = put(body).await;
        refused(
            (status, answer.clone()),
            Status::BAD_REQUEST,
            "bad-request",
            "the body is no password",
        );
        assert!(
            !answer.to_string().contains("hunter2") && !answer.to_string().contains("7777"),
            "{answer}"
        );
    }
    refused(
        put("{\"password\": \"\"}").await,
        Status::BAD_REQUEST,
        "bad-request",
        "password",
    );
    let large = port
        .request(Method::PUT, "/v1/users/alice")
        .body("x".repeat(100_000));
    refused(
        answer(large).await,
        Status::PAYLOAD_TOO_LARGE,
        "too-large",
        "16384 bytes",
    );

    let delete = || answer(port.request(Method::DELETE, "/v1/users/alice"));
    assert_eq!(delete().await, (Status::OK, json!({ "removed": "alice" })));
    refused(delete().await, Status::NOT_FOUND, "not-found", "alice");
}

#[tokio::test]
async fn a_plugin_that_cannot_be_is_refused_with_every_reason() {
    let port = port(None).await;
    let put = |path: &str, body: Vec<u8>| answer(port.request(Method::PUT, path).body(body));
    let (status, body) = put("/v1/plugins/mask", b"no component".to_vec()).await;
    refused(
        (status, body.clone()),
        Status::UNPROCESSABLE_ENTITY,
        "refused",
        "refused",
    );
    assert!(
        body["reasons"]
            .as_array()
            .is_some_and(|reasons| !reasons.is_empty()),
        "{body}"
    );
    refused(
        put("/v1/plugins/mask", vec![0; 100_000]).await,
        Status::PAYLOAD_TOO_LARGE,
        "too-large",
        "plugins.max-artifact-bytes (65536)",
    );
    refused(
        put("/v1/plugins/mask?config=%7B%22key%22:1%7D", Vec::new()).await,
        Status::BAD_REQUEST,
        "bad-request",
        "no JSON object of texts",
    );
    assert_eq!(
        port.get("/v1/plugins").await,
        (Status::OK, json!({ "plugins": [], "compiling": [] }))
    );
    refused(
        port.get("/v1/plugins/mask").await,
        Status::NOT_FOUND,
        "not-found",
        "mask",
    );
    let cancel = port.request(Method::DELETE, "/v1/plugins/mask/compilation");
    refused(
        answer(cancel).await,
        Status::NOT_FOUND,
        "not-found",
        "nothing is being compiled for plugin mask",
    );
}

#[tokio::test]
async fn a_plugin_in_use_stays_and_a_missing_one_is_named() {
    let port = port(None).await;
    let call = |method, path: &str| answer(port.request(method, path));
    refused(
        call(Method::DELETE, "/v1/plugins/busy").await,
        Status::CONFLICT,
        "in-use",
        "topic orders, security.authorizers",
    );
    refused(
        call(Method::DELETE, "/v1/plugins/none").await,
        Status::NOT_FOUND,
        "not-found",
        "none",
    );
    refused(
        call(Method::POST, "/v1/plugins/none/rollback?revision=3").await,
        Status::NOT_FOUND,
        "not-found",
        "none",
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let port = port(None).await;
    refused(
        port.get("/v2").await,
        Status::NOT_FOUND,
        "not-found",
        "nothing at this path",
    );
    let post = answer(port.request(Method::POST, "/metrics")).await;
    refused(post, Status::METHOD_NOT_ALLOWED, "method-not-allowed", "");
    assert_eq!(
        port.get("/v1/topics").await,
        (Status::OK, json!({ "topics": [] }))
    );
}

#[tokio::test]
async fn a_port_that_others_can_reach_wants_the_token_and_does_not_tell_where_it_lies() {
    let port = port(None).await;
    let config = AdminConfig {
        bind: Some(([0, 0, 0, 0], 0).into()),
        ..AdminConfig::default()
    };
    let server = start(&config, port.state.clone())
        .await
        .expect("an admin port");
    let base = format!("http://127.0.0.1:{}", server.address().port());
    let get = |path: &str| port.client.get(format!("{base}{path}"));
    assert_eq!(answer(get("/healthz")).await.0, Status::OK);
    let (status, told) = answer(get("/v1/users")).await;
    assert_eq!(status, Status::UNAUTHORIZED);
    assert!(told.get("token_file").is_none(), "{told}");
    assert!(
        !told.to_string().contains(TOKEN_FILE),
        "no path of this machine: {told}"
    );
    let with = get("/v1/users").bearer_auth(&port.token);
    assert_eq!(answer(with).await.0, Status::OK);
}

#[tokio::test]
async fn a_port_in_use_and_a_bad_token_are_named() {
    let port = port(None).await;
    let mut config = AdminConfig {
        bind: Some(port.server.address()),
        ..AdminConfig::default()
    };
    let error = start(&config, port.state.clone()).await.expect_err("taken");
    assert!(
        error.contains("admin.bind: cannot listen on 127.0.0.1:"),
        "{error}"
    );
    config.token_file = Some(port.folder.path().join("none"));
    let error = start(&config, port.state.clone())
        .await
        .expect_err("no token");
    assert!(error.contains("admin.token-file: cannot read"), "{error}");
}

#[tokio::test]
async fn a_stopped_log_is_shown_and_recovered_by_name() {
    let port = port(None).await;
    let topic = Topic {
        id: TopicId(uuid::Uuid::from_bytes([7; 16])),
        name: "orders".into(),
        partitions: 2,
        internal: false,
        configs: BTreeMap::new(),
        created_ms: 0,
        created_by: None,
    };
    let topic = port.state.catalog.create_topic(topic).expect("created");
    let id = PartitionId {
        topic: topic.id,
        index: 1,
    };
    let opened = port.state.logs.open_partition(id, Arc::default());
    opened.expect("opened");
    let empty = json!({ "stopped": [], "damaged": [] });
    assert_eq!(port.get("/v1/log").await, (Status::OK, empty));
    let recover = |path: &str| answer(port.request(Method::POST, path));
    let (status, body) = recover("/v1/log/orders/1/recover").await;
    assert_eq!((status, &body["recovered"]), (Status::OK, &json!(false)));
    let answer = recover("/v1/log/orders/2/recover").await;
    refused(answer, Status::NOT_FOUND, "not-found", "orders");
    let answer = recover("/v1/log/missing/0/recover").await;
    refused(answer, Status::NOT_FOUND, "not-found", "missing");
}
