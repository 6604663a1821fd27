//! Apache Kafka on one node, broker and controller in one process, from the jars that `bench peers install` puts together.

use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::process::Line;
use super::recipes::Recipe;
use super::{Durability, Probe, Setup, free_port};

/// What Kafka's own start script gives the virtual machine.
const VIRTUAL_MACHINE: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
/// Any identifier will do: the cluster has one node and ends with the run.
const CLUSTER: &str = "dGlkZWdhdGUtYmVuY2gtMQ";
const LOGGING: &str = "status = error
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c %m%n
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
";

/// A Java program of the jars' folder.
pub fn java(jars: &Path, logging: Option<&Path>) -> Line {
    let mut line = Line::new("java");
    if let Some(file) = logging {
        line = line.arg(format!("-Dlog4j2.configurationFile={}", file.display()));
    }
    line.arg("-cp").arg(format!("{}/*", jars.display()))
}

pub fn recipe(jars: &Path, setup: &Setup) -> Result<Recipe> {
    let (plain, tls, controller) = (free_port()?, free_port()?, free_port()?);
    let ca = certificates(&setup.data)?;
    let settings = setup.data.join("server.properties");
    let text = properties(setup, plain, tls, controller);
    std::fs::write(&settings, text).with_context(|| settings.display().to_string())?;
    let logging = setup.data.join("log4j2.properties");
    std::fs::write(&logging, LOGGING).with_context(|| logging.display().to_string())?;
    let format = java(jars, Some(&logging))
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
        .path(&settings);
    let mut serve = Line::new("java").args(VIRTUAL_MACHINE);
    serve.arguments.extend(java(jars, Some(&logging)).arguments);
    Ok(Recipe {
        prepare: vec![format],
        listening: vec![
            ("tcp".into(), format!("127.0.0.1:{plain}")),
            ("tls".into(), format!("127.0.0.1:{tls}")),
        ],
        ca: Some(ca),
        ..Recipe::new(serve.arg("kafka.Kafka").path(&settings), Probe::Kafka)
    })
}

fn properties(setup: &Setup, plain: u16, tls: u16, controller: u16) -> String {
    let data = setup.data.display();
    let mut text = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={data}/server.pem
log.dirs={data}/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"
    );
    if setup.durability == Durability::Sync {
        text.push_str("log.flush.interval.messages=1\n");
    }
    text
}

/// A certificate for the TLS listener, and its authority's, which is answered.
fn certificates(data: &Path) -> Result<std::path::PathBuf> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let chain = format!("{}{}", key.serialize_pem(), certificate.pem());
    std::fs::write(data.join("server.pem"), chain).context("writing Kafka's certificate")?;
    let ca = data.join("ca.pem");
    std::fs::write(&ca, authority.pem()).context("writing Kafka's authority")?;
    Ok(ca)
}
