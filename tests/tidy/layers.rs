//! Imports go down only. The table is the architecture: a new edge is a decision, not an import.

use crate::paths::{module_of, named};
use crate::{Source, report, sources};

struct Layer {
    module: &'static str,
    /// Modules of the broker, or parts of them, beside itself.
    may_import: &'static [&'static str],
    /// What it must never know, though the crate depends on it.
    must_not_name: &'static [&'static str],
}

const SOCKETS: [&str; 4] = [
    "tokio::net",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
];

#[rustfmt::skip]
const LAYERS: &[Layer] = &[
    Layer { module: "types", may_import: &["env", "config", "observe"], must_not_name: &SOCKETS },
    Layer { module: "env", may_import: &["types", "config", "observe"], must_not_name: &SOCKETS },
    Layer { module: "config", may_import: &["types", "env", "observe"], must_not_name: &SOCKETS },
    Layer { module: "observe", may_import: &["types", "env", "config"], must_not_name: &SOCKETS },
    Layer { module: "catalog", may_import: &["types", "env", "config", "observe"], must_not_name: &SOCKETS },
    Layer { module: "log", may_import: &["types", "env", "config", "observe"], must_not_name: &SOCKETS },
    Layer {
        module: "coordinator",
        may_import: &["types", "env", "config", "observe", "log", "catalog"],
        must_not_name: &["tokio::net", "std::net", "std::fs", "std::time::SystemTime"],
    },
    Layer {
        module: "plugin",
        may_import: &["types", "env", "config", "observe", "catalog", "log::records"],
        must_not_name: &SOCKETS,
    },
    Layer {
        module: "security",
        may_import: &["types", "env", "config", "observe", "catalog"],
        must_not_name: &SOCKETS,
    },
    Layer {
        module: "kafka",
        // Of `net` only the seam that it hands frames over by: values and a trait, no socket.
        may_import: &[
            "types", "env", "config", "observe", "log", "catalog", "coordinator", "plugin", "security",
            "net::ConnectionInfo", "net::Finished", "net::FrameHandler", "net::Reply", "net::Service", "net::Started",
        ],
        must_not_name: &[
            "tokio::net", "tokio::fs", "std::fs", "std::net::TcpListener", "std::net::TcpStream", "std::net::UdpSocket",
        ],
    },
    Layer {
        module: "net",
        may_import: &["types", "env", "config", "observe", "security::certificate"],
        must_not_name: &[],
    },
    Layer {
        module: "admin",
        may_import: &["types", "env", "config", "observe", "log", "catalog", "coordinator", "plugin", "security"],
        must_not_name: &[],
    },
    Layer {
        module: "broker",
        may_import: &[
            "types", "env", "config", "observe", "log", "catalog", "coordinator", "plugin", "security", "kafka", "net",
            "admin",
        ],
        must_not_name: &[],
    },
    Layer {
        module: "cli",
        may_import: &[
            "types", "env", "config", "observe", "log", "broker",
            // Offline inspection finds topics by name; --dev makes certificates, and the demo users; a broker's child compiles.
            "catalog", "net::dev_certificate", "security::sasl::new_user", "plugin::compile_in_child",
        ],
        must_not_name: &[],
    },
    // Only in unit tests and fuzz builds: calls the readers of untrusted bytes.
    Layer {
        module: "fuzz",
        may_import: &["env", "log::fuzz", "coordinator::record", "coordinator::transaction::record", "kafka::guard", "kafka::apis"],
        must_not_name: &SOCKETS,
    },
];

const ROOT: &str = "broker/src/";

fn complaints(source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path, ROOT) else {
        return Vec::new();
    };
    // The crate's root only lists its modules, and `main` starts them.
    if ["lib", "main"].contains(&module[0].as_str()) {
        return Vec::new();
    }
    let Some(layer) = LAYERS.iter().find(|layer| layer.module == module[0]) else {
        return vec![format!(
            "{}: the module `{}` has no layer in tests/tidy/layers.rs",
            source.path, module[0]
        )];
    };
    let mut complaints = Vec::new();
    for path in named(&source.parse(), &module) {
        let place = format!("{}:{}", source.path, path.line);
        let own = path.is_in(&format!("crate::{}", layer.module));
        let is_module = |name: &String| LAYERS.iter().any(|layer| layer.module == name);
        let of_a_module = path.is_in("crate") && path.segments.get(1).is_some_and(is_module);
        let may = |allowed: &&str| path.is_in(&format!("crate::{allowed}"));
        if of_a_module && !own && !layer.may_import.iter().any(may) {
            complaints.push(format!(
                "{place}: `{}` may not import {}",
                layer.module,
                path.segments[1..].join("::")
            ));
        }
        if let Some(banned) = layer.must_not_name.iter().find(|banned| path.is_in(banned)) {
            complaints.push(format!(
                "{place}: `{}` must not know {banned}",
                layer.module
            ));
        }
    }
    complaints
}

#[test]
fn imports_go_down_only() {
    let sources = sources(".rs");
    let broker = sources
        .iter()
        .filter(|source| source.path.starts_with(ROOT));
    report(
        broker.flat_map(complaints).collect(),
        "The table in tests/tidy/layers.rs says who may import whom.",
    );
}

#[test]
fn an_import_upwards_is_found() {
    let sample = |path: &str, text: &str| {
        complaints(&Source {
            path: path.into(),
            text: text.into(),
        })
    };
    let found = sample(
        "broker/src/log/read.rs",
        "use crate::catalog::Topic;\nuse crate::types::Offset;",
    );
    assert_eq!(
        found,
        ["broker/src/log/read.rs:1: `log` may not import catalog::Topic"]
    );
    let found = sample(
        "broker/src/plugin/hook.rs",
        "use crate::log::{records, segment};",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    let found = sample(
        "broker/src/kafka/apis.rs",
        "fn f() { std::fs::read(path); }",
    );
    assert_eq!(
        found,
        ["broker/src/kafka/apis.rs:1: `kafka` must not know std::fs"]
    );
    assert_eq!(sample("broker/src/attic.rs", "").len(), 1);
}
