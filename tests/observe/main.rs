//! What is shipped for Prometheus and Grafana under `broker/deploy` fits what the broker exports: by name always, and by
//! evaluation where a real Prometheus is installed.

mod deployed;
mod durability;
mod prometheus;
mod touched;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use harness::suite::program;
use harness::{Broker, Suite};
use tidegate::observe::table::{MetricKind, TABLE};

use deployed::{alert_rules, dashboard, metric_names, queries};
use prometheus::Prometheus;

/// How long a query may stay without data after the first scrape: rates need a second one.
const DATA_LIMIT: Duration = Duration::from_secs(30);

/// Every name that the table can export.
fn exported_names() -> BTreeSet<String> {
    let rows = TABLE.iter().flat_map(|group| group.metrics);
    rows.flat_map(|row| match row.kind {
        MetricKind::Histogram(_) => ["_bucket", "_sum", "_count"]
            .map(|suffix| format!("{}{suffix}", row.name))
            .to_vec(),
        _ => vec![row.name.to_owned()],
    })
    .collect()
}

#[test]
fn dashboard_and_alerts_name_only_metrics_that_exist() {
    let exported = exported_names();
    let texts = queries(&dashboard())
        .into_iter()
        .map(|query| (query.place, query.expression))
        .chain([("alerts.yml".to_owned(), alert_rules())]);
    for (place, text) in texts {
        for name in metric_names(&text) {
            assert!(
                exported.contains(&name),
                "{place}: there is no metric {name}"
            );
        }
    }
}

#[test]
fn every_metric_is_on_the_dashboard_or_in_an_alert() {
    let dashboard = dashboard().to_string();
    let alerts = alert_rules();
    let used: BTreeSet<String> = metric_names(&dashboard)
        .union(&metric_names(&alerts))
        .cloned()
        .collect();
    for row in TABLE.iter().flat_map(|group| group.metrics) {
        assert!(
            used.iter().any(|name| name.starts_with(row.name)),
            "nothing shows {}",
            row.name
        );
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut places: Vec<(String, [u64; 4])> = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title").to_owned();
        assert!(
            ids.insert(panel["id"].as_u64().expect("an id")),
            "{title}: its id is taken"
        );
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a place"));
        for (other, [ox, oy, ow, oh]) in &places {
            let apart = x + w <= *ox || ox + ow <= x || y + h <= *oy || oy + oh <= y;
            assert!(apart, "{title} covers {other}");
        }
        assert!(x + w <= 24, "{title} is outside the grid");
        places.push((title.clone(), [x, y, w, h]));
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|text| text.ends_with('.')),
            "{title}: no description"
        );
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title}: no unit"
        );
        assert_eq!(
            panel["datasource"]["uid"], "${datasource}",
            "{title}: its data source is fixed"
        );
    }
    for row in [
        "Overview",
        "Requests",
        "Topics",
        "Log and flush",
        "Consumer groups",
        "Connections and security",
        "Plugins",
        "Process and exporter",
        "Bounds",
    ] {
        assert!(
            places.iter().any(|(title, _)| title == row),
            "the row {row} is missing"
        );
    }
}

/// What a broker is expected to have done before it is scraped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exports {
    /// Every metric of the table has a value: every query must have data.
    Everything,
    /// Only what it has done: queries must evaluate.
    WhatItHasDone,
}

/// Lets a real Prometheus scrape the admin port at `admin`, then evaluates every query of the dashboard and every alert.
async fn check_with_prometheus(admin: SocketAddr, exports: Exports) {
    let suite = Suite { name: "prometheus" };
    let Some(_) = suite.need(program("prometheus", "--version")) else {
        return;
    };
    let exposition = prometheus::get_text(&format!("http://{admin}/metrics")).await;
    let exported: BTreeSet<&str> = exposition
        .lines()
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let dashboard = queries(&dashboard());
    if exports == Exports::Everything {
        for query in &dashboard {
            for name in metric_names(&query.expression) {
                assert!(
                    exported.contains(name.as_str()),
                    "{}: {name} is not exported",
                    query.place
                );
            }
        }
    }
    let prometheus = Prometheus::start(admin);
    prometheus.scraped().await;
    for query in &dashboard {
        let wanted = if exports == Exports::Everything {
            Some(DATA_LIMIT)
        } else {
            None
        };
        prometheus.evaluate(query, wanted).await;
    }
    let alerts = prometheus.evaluated_alerts().await;
    let written = alert_rules().matches("- alert:").count();
    assert_eq!(alerts.len(), written, "Prometheus did not load every rule");
    for alert in &alerts {
        prometheus.evaluate(alert, None).await;
    }
    if let Some(promtool) = suite.need(program("promtool", "--version")) {
        prometheus::check_rules(promtool);
        prometheus::check_metrics(promtool, &exposition);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_evaluates_every_query_and_alert() {
    let port = touched::admin_port().await;
    check_with_prometheus(port.server.address(), Exports::Everything).await;
    port.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_broker_exports_what_prometheus_evaluates() {
    let broker = tokio::task::spawn_blocking(Broker::start)
        .await
        .expect("a broker");
    check_with_prometheus(broker.admin(), Exports::WhatItHasDone).await;
}
