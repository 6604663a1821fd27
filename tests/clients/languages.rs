//! The same scenarios in every language: all codecs, an idempotent producer, a group that grows and shrinks, offsets
//! and times, and (where the client has it) administration.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use harness::{Broker, Suite, repository_root, suite};

use crate::stored::check_stored_codecs;

/// How long all scenarios of one client may take together.
pub const SCRIPT_LIMIT: Duration = Duration::from_secs(240);

pub const ALL_CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];
/// What KafkaJS has plugins for.
pub const KAFKAJS_CODECS: &[&str] = &["none", "gzip", "snappy", "lz4"];

pub fn clients_directory() -> PathBuf {
    repository_root().join("tests/clients")
}

pub fn python(script: &str) -> Result<Command> {
    let directory = clients_directory().join("python");
    let mut command = Command::new(suite::python(&directory.join("requirements.txt"))?);
    command.arg(directory.join(script));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

pub fn kafkajs() -> Result<Command> {
    let directory = clients_directory().join("node");
    let modules = suite::node(&directory.join("package.json"))?;
    let mut command = Command::new("node");
    command.arg(directory.join("kafkajs.js"));
    command.env("NODE_PATH", modules.join("node_modules"));
    Ok(command)
}

pub fn java() -> Result<Command> {
    let directory = clients_directory().join("java");
    let class_path = suite::java(&directory.join("pom.xml"))?;
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-cp", &class_path]);
    command.arg(directory.join("Client.java"));
    Ok(command)
}

fn franz_go() -> Result<Command> {
    Ok(Command::new(suite::go(&clients_directory().join("go"))?))
}

/// Runs every scenario of one client on a broker of its own, then looks at what was stored.
fn check(name: &'static str, command: Result<Command>, codecs: &[&str]) {
    let Some(mut command) = (Suite { name }).need(command) else {
        return;
    };
    let broker = Broker::start();
    command.env("BOOTSTRAP", broker.tcp().to_string());
    command.env("CODECS", codecs.join(" "));
    run(&mut command, &broker);
    check_stored_codecs(&broker, codecs);
}

pub fn run(command: &mut Command, broker: &Broker) -> String {
    suite::run(command, SCRIPT_LIMIT)
        .unwrap_or_else(|error| panic!("{error:#}\nthe broker's log ends:\n{}", broker.log_tail()))
}

#[test]
fn confluent_kafka() {
    check("confluent-kafka", python("confluent.py"), ALL_CODECS);
}

#[test]
fn kafka_python() {
    check("kafka-python", python("kafka_python.py"), ALL_CODECS);
}

#[test]
fn aiokafka() {
    check("aiokafka", python("aio_kafka.py"), ALL_CODECS);
}

#[test]
fn kafka_js() {
    check("KafkaJS", kafkajs(), KAFKAJS_CODECS);
}

#[test]
fn kafka_clients_java() {
    check("Java kafka-clients", java(), ALL_CODECS);
}

#[test]
fn franz_go_client() {
    check("franz-go", franz_go(), ALL_CODECS);
}
