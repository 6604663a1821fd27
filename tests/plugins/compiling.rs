//! Compiling a component is bounded in time and memory, can be seen and ended, and disturbs nobody.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Broker, batch, tidegate_binary};
use serde_json::Value;

/// A broker with these settings for plugins.
fn broker(settings: &str) -> Broker {
    let config = format!(
        "[broker]\ndata-dir = \"{{data}}\"\n\n[[listener]]\nname = \"tcp\"\ntransport = \"tcp\"\nbind = \"127.0.0.1:0\"\n\n\
         [admin]\nbind = \"127.0.0.1:0\"\n\n[plugins]\n{settings}\n"
    );
    let broker = Broker::builder().config(config).start();
    broker.unwrap_or_else(|error| panic!("{error:#}"))
}

/// A transform, legal and small, that takes a compiler many seconds and hundreds of megabytes: nothing but arithmetic.
fn heavy(folder: &Path) -> PathBuf {
    const FUNCTIONS: usize = 16;
    const STATEMENTS: usize = 40_000;
    let mut text = String::from("(component (core module");
    for function in 0..FUNCTIONS {
        text.push_str("(func (param i32 i32) (result i32)");
        for statement in 0..STATEMENTS {
            let number = function * STATEMENTS + statement;
            let _ = write!(
                text,
                "local.get {} local.get 1 i32.const {number} i32.mul i32.add local.set {} ",
                statement % 2,
                (statement + 1) % 2
            );
        }
        text.push_str("local.get 0)");
    }
    text.push_str(
        ") (instance $empty) (export \"tidegate:plugin/transformation@0.1.0\" (instance $empty)))",
    );
    let file = folder.join("heavy.wasm");
    fs::write(&file, wat::parse_str(text).expect("a component")).expect("a file");
    file
}

fn deploy(broker: &Broker, file: &Path) -> Result<String, String> {
    let deployed = broker.command(&["plugin", "deploy", "heavy", &file.display().to_string()]);
    deployed.map_err(|error| format!("{error:#}"))
}

fn listed(broker: &Broker) -> Value {
    let list = broker.command(&["plugin", "list", "--json"]);
    serde_json::from_str(&list.expect("a list")).expect("JSON")
}

#[test]
fn what_does_not_compile_within_its_time_or_memory_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let heavy = heavy(folder.path());
    for (settings, told) in [
        (
            "compile-timeout = \"1s\"",
            "it does not compile within 1s (plugins.compile-timeout)",
        ),
        (
            "compile-memory = \"64MiB\"",
            "it does not compile within 67108864 bytes of memory (plugins.compile-memory)",
        ),
    ] {
        let broker = broker(settings);
        let refusal = deploy(&broker, &heavy).expect_err("it is refused");
        assert!(refusal.contains(told), "{refusal}");
        assert_eq!(listed(&broker)["plugins"], Value::Array(Vec::new()));
    }
}

#[test]
fn a_compilation_is_seen_and_cancelled_and_its_end_is_told_though_the_caller_has_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let heavy = heavy(folder.path());
    let broker = broker("compile-timeout = \"10m\"");
    let mut caller = Command::new(tidegate_binary())
        .args(["plugin", "deploy", "heavy"])
        .arg(&heavy)
        .args(["--admin", &broker.admin().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command runs");
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_compiling = || {
        let list = listed(&broker);
        list["compiling"][0]["name"] == "heavy"
    };
    while !is_compiling() {
        assert!(Instant::now() < deadline, "{}", broker.log_tail());
    }
    caller.kill().expect("it runs");
    caller.wait().expect("it has run");
    let table = broker.command(&["plugin", "list"]).expect("a list");
    assert!(table.contains("compiling for"), "{table}");
    let again = deploy(&broker, &heavy).expect_err("it is compiled already");
    assert!(again.contains("is being compiled already"), "{again}");

    // Others deploy, roll back and produce meanwhile.
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).expect("created");
    let answer = client.produce("t", 0, -1, batch::of_values(&["x"]));
    assert_eq!(answer.expect("an answer").error_code, 0);

    broker
        .command(&["plugin", "cancel", "heavy"])
        .unwrap_or_else(|error| panic!("{error:#}"));
    // The one that came second, and the one whose caller has gone.
    let refusals = || {
        broker
            .log_tail()
            .matches("plugin deployment refused")
            .count()
    };
    while refusals() < 2 {
        assert!(Instant::now() < deadline, "{}", broker.log_tail());
        // A log can only be looked at again.
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!is_compiling());
    assert!(broker.command(&["plugin", "cancel", "heavy"]).is_err());
}
