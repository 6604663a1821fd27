//! A Prometheus of the test's own: it scrapes one admin port, and is asked through its HTTP API.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::free_port;
use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;

use crate::deployed::{Query, alert_rules_path};

/// How long Prometheus may take to start, scrape and evaluate its rules once, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at something that Prometheus does in its own time.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

pub struct Prometheus {
    process: Child,
    base: String,
    folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Starts it with the shipped rules; it scrapes every second.
    pub fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: ['{}']\n\
             scrape_configs:\n  - job_name: tidegate\n    static_configs:\n      - targets: ['{target}']\n",
            alert_rules_path().display()
        );
        fs::write(&config, text).expect("a configuration");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let address = format!("127.0.0.1:{}", free_port());
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus runs");
        Self {
            process,
            base: format!("http://{address}"),
            folder,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Asks until `ready` makes something of the answer, or the limit is over.
    async fn until<T>(
        &self,
        path: &str,
        limit: Duration,
        ready: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        let url = Url::parse(&format!("{}{path}", self.base)).expect("a URL");
        loop {
            let answer = get(&url).await;
            if let Ok(answer) = &answer
                && let Some(found) = ready(answer)
            {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{path} was not as expected within {limit:?}; last: {answer:?}\nPrometheus' log:\n{}",
                self.log()
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits for a scrape that succeeded.
    pub async fn scraped(&self) {
        self.until("/api/v1/targets", START_LIMIT, |answer| {
            let target = &answer["data"]["activeTargets"][0];
            (target["health"] == "up").then_some(())
        })
        .await;
    }

    /// Evaluates a query, which must not fail. With a limit it must have data by then.
    pub async fn evaluate(&self, query: &Query, data_within: Option<Duration>) {
        let mut url = Url::parse(&format!("{}/api/v1/query", self.base)).expect("a URL");
        url.query_pairs_mut()
            .append_pair("query", &query.expression);
        let deadline = data_within.map(|limit| Instant::now() + limit);
        loop {
            let answer = get(&url)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", query.place));
            assert_eq!(
                answer["status"], "success",
                "{}: {}\n{answer}",
                query.place, query.expression
            );
            let empty = answer["data"]["result"]
                .as_array()
                .is_some_and(Vec::is_empty);
            match deadline {
                Some(deadline) if empty => {
                    assert!(
                        Instant::now() < deadline,
                        "{} has no data: {}",
                        query.place,
                        query.expression
                    );
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                _ => return,
            }
        }
    }

    /// The alerts that Prometheus loaded, each evaluated at least once without an error.
    pub async fn evaluated_alerts(&self) -> Vec<Query> {
        self.until("/api/v1/rules", START_LIMIT, |answer| {
            let groups = answer["data"]["groups"].as_array()?;
            let rules: Vec<&Value> = groups
                .iter()
                .filter_map(|group| group["rules"].as_array())
                .flatten()
                .collect();
            for rule in &rules {
                assert_ne!(
                    rule["health"], "err",
                    "{}: {}",
                    rule["name"], rule["lastError"]
                );
            }
            let done = !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok");
            done.then(|| {
                let query = |rule: &&Value| Query {
                    place: format!("alert {}", rule["name"]),
                    expression: rule["query"].as_str().unwrap_or_default().to_owned(),
                };
                rules.iter().map(query).collect()
            })
        })
        .await
    }
}

async fn get(url: &Url) -> Result<Value, String> {
    let response = reqwest::get(url.clone())
        .await
        .map_err(|error| error.to_string())?;
    response.json().await.map_err(|error| error.to_string())
}

pub async fn get_text(url: &str) -> String {
    let response = reqwest::get(url)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    assert!(
        response.status().is_success(),
        "{url}: {}",
        response.status()
    );
    response
        .text()
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// `promtool check rules` on the shipped alerts.
pub fn check_rules(promtool: &str) {
    let output = Command::new(promtool)
        .args(["check", "rules"])
        .arg(alert_rules_path())
        .output()
        .expect("promtool runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `promtool check metrics` on an exposition: its format, and Prometheus' conventions.
pub fn check_metrics(promtool: &str, exposition: &str) {
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(exposition.as_bytes())
        .expect("promtool reads");
    drop(input);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool check metrics:\n{said}");
}
