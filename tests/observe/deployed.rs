//! The files under `broker/deploy`, and the queries in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use harness::repository_root;
use serde_json::Value;

/// A PromQL expression and where it stands.
#[derive(Debug)]
pub struct Query {
    pub place: String,
    pub expression: String,
}

fn read(path: &str) -> String {
    let path = repository_root().join("broker/deploy").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn dashboard() -> Value {
    serde_json::from_str(&read("grafana/tidegate.json")).expect("the dashboard is JSON")
}

pub fn alert_rules_path() -> PathBuf {
    repository_root().join("broker/deploy/prometheus/alerts.yml")
}

pub fn alert_rules() -> String {
    read("prometheus/alerts.yml")
}

/// Every query of the dashboard, with Grafana's variables replaced.
pub fn queries(dashboard: &Value) -> Vec<Query> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut queries = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("a query");
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$instance", ".*");
            assert!(
                !expression.contains('$'),
                "{title}: an unknown variable in {expression}"
            );
            queries.push(Query {
                place: format!("dashboard, {title}"),
                expression,
            });
        }
    }
    assert!(
        queries.len() > 40,
        "only {} queries were found",
        queries.len()
    );
    queries
}

/// Every word that looks like a metric of the broker.
pub fn metric_names(text: &str) -> BTreeSet<String> {
    let of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !of_word(c))
        .filter(|word| word.starts_with("tidegate_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn metric_names_are_found_in_queries() {
    let names =
        metric_names("rate(tidegate_a_total{tidegate=\"x\"}[1m]) / on (instance) process_b");
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["process_b", "tidegate_a_total"]
    );
}
