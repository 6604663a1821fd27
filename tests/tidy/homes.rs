//! One heavy dependency has one home, so that replacing it is one module's work.

use crate::paths::{module_of, named};
use crate::{Source, report, sources};

/// A crate, as it is named in code, and the places that may name it: folders or files.
#[rustfmt::skip]
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["broker/src/admin"]),
    ("clap", &["broker/src/cli", "tests/bench"]),
    ("comfy_table", &["broker/src/cli", "tests/bench"]),
    ("hmac", &["broker/src/security", "sdk/client"]),
    ("indicatif", &["broker/src/cli"]),
    ("kafka_protocol", &["broker/src/kafka", "sdk/client", "tests"]),
    ("pbkdf2", &["broker/src/security", "sdk/client"]),
    ("quinn", &["broker/src/net", "sdk/client"]),
    ("redb", &["broker/src/catalog"]),
    ("rustls", &["broker/src/net", "sdk/client"]),
    ("syn", &["tests/tidy"]),
    ("tokio_rustls", &["broker/src/net", "sdk/client"]),
    ("toml", &["broker/src/config", "tests"]),
    ("wasmparser", &["broker/src/plugin"]),
    ("wasmtime", &["broker/src/plugin"]),
    ("x509_parser", &["broker/src/security"]),
];

fn is_home(path: &str, homes: &[&str]) -> bool {
    homes.iter().any(|home| {
        path.strip_prefix(home)
            .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    })
}

fn complaints(source: &Source) -> Vec<String> {
    // What a test names binds nobody.
    let Some(module) = module_of(&source.path, "") else {
        return Vec::new();
    };
    let mut complaints = Vec::new();
    for path in named(&source.parse(), &module) {
        let home = HOMES.iter().find(|(dependency, _)| path.is_in(dependency));
        if let Some((dependency, homes)) = home
            && !is_home(&source.path, homes)
        {
            complaints.push(format!(
                "{}:{}: {dependency} lives in {}",
                source.path,
                path.line,
                homes.join(", ")
            ));
        }
    }
    complaints
}

#[test]
fn every_heavy_dependency_stays_at_home() {
    report(
        sources(".rs").iter().flat_map(complaints).collect(),
        "The table in tests/tidy/homes.rs says where each dependency lives.",
    );
}

#[test]
fn a_dependency_outside_its_home_is_found() {
    let sample = |path: &str| {
        complaints(&Source {
            path: path.into(),
            text: "use wasmtime::Engine;".into(),
        })
    };
    assert_eq!(sample("broker/src/plugin/engine.rs"), Vec::<String>::new());
    assert_eq!(sample("broker/src/kafka/apis.rs").len(), 1);
    assert_eq!(sample("broker/src/plugins.rs").len(), 1);
}
