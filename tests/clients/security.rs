//! Clients over TLS with the development authority, and over SASL SCRAM with a user made by the command line.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use harness::{Broker, Suite, suite};

use crate::languages::{ALL_CODECS, KAFKAJS_CODECS, SCRIPT_LIMIT, java, kafkajs, python, run};

/// Two listeners that ask for a password. Without TLS only SCRAM is spoken: it never sends the password.
const SCRAM_CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"
sasl-mechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-512"]

[admin]
bind = "127.0.0.1:0"
"#;

const PASSWORD: &str = "alice-secret";

fn check_tls(name: &'static str, command: Result<Command>, codecs: &[&str]) {
    let Some(mut command) = (Suite { name }).need(command) else {
        return;
    };
    let broker = Broker::start();
    let address = broker
        .addresses()
        .tls
        .expect("the development broker speaks TLS");
    command
        .arg("codecs")
        .env("BOOTSTRAP", format!("localhost:{}", address.port()))
        .env("CA_FILE", broker.certificate_authority())
        .env("CODECS", codecs.join(" "));
    run(&mut command, &broker);
}

#[test]
fn confluent_kafka_over_tls() {
    check_tls(
        "confluent-kafka over TLS",
        python("confluent.py"),
        ALL_CODECS,
    );
}

#[test]
fn kafka_js_over_tls() {
    check_tls("KafkaJS over TLS", kafkajs(), KAFKAJS_CODECS);
}

#[test]
fn java_over_tls() {
    check_tls("Java kafka-clients over TLS", java(), ALL_CODECS);
}

/// A broker that asks for a password and knows one user, `alice`.
fn broker_with_user() -> Broker {
    let broker = Broker::builder()
        .config(SCRAM_CONFIG)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(&file, PASSWORD).expect("a temporary file can be written");
    let path = file.path().display().to_string();
    broker
        .command(&["user", "create", "alice", "--password-file", &path])
        .unwrap_or_else(|error| panic!("{error:#}"));
    broker
}

fn as_alice<'a>(
    command: &'a mut Command,
    broker: &Broker,
    mechanism: &str,
    password: &str,
) -> &'a mut Command {
    command
        .env("BOOTSTRAP", broker.tcp().to_string())
        .env("SASL_MECHANISM", mechanism)
        .env("SASL_USERNAME", "alice")
        .env("SASL_PASSWORD", password)
}

fn check_scram(name: &'static str, command: impl Fn() -> Result<Command>) {
    let Some(mut first) = (Suite { name }).need(command()) else {
        return;
    };
    let broker = broker_with_user();
    first.arg("codecs").env("CODECS", "none gzip");
    run(
        as_alice(&mut first, &broker, "SCRAM-SHA-256", PASSWORD),
        &broker,
    );
    let mut second = command().expect("it was found a moment ago");
    second.arg("idempotent");
    run(
        as_alice(&mut second, &broker, "SCRAM-SHA-512", PASSWORD),
        &broker,
    );
}

#[test]
fn confluent_kafka_with_scram() {
    check_scram("confluent-kafka with SCRAM", || python("confluent.py"));
}

#[test]
fn kafka_python_with_scram() {
    check_scram("kafka-python with SCRAM", || python("kafka_python.py"));
}

#[test]
fn aiokafka_with_scram() {
    check_scram("aiokafka with SCRAM", || python("aio_kafka.py"));
}

#[test]
fn kafka_js_with_scram() {
    check_scram("KafkaJS with SCRAM", kafkajs);
}

#[test]
fn java_with_scram() {
    check_scram("Java kafka-clients with SCRAM", java);
}

#[test]
fn a_wrong_password_is_an_authentication_error_in_java() {
    let suite = Suite {
        name: "Java kafka-clients with a wrong password",
    };
    let Some(mut command) = suite.need(java()) else {
        return;
    };
    let broker = broker_with_user();
    command.arg("admin");
    as_alice(&mut command, &broker, "SCRAM-SHA-256", "not-her-secret");
    let limit = SCRIPT_LIMIT.min(Duration::from_secs(60));
    let error = suite::run(&mut command, limit).expect_err("a wrong password is refused");
    let message = format!("{error:#}");
    assert!(message.contains("SaslAuthenticationException"), "{message}");
    assert!(
        !broker.log_tail().contains("not-her-secret"),
        "the log tells a password"
    );
}
