//! How each server is started.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::{Line, Process};
use super::{Durability, FloorFiles, Probe, Setup, await_answer, free_port};

/// One server's start: what comes before it, the process itself, and where it listens.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Run to their end, in this order, before the first start.
    pub prepare: Vec<Line>,
    pub serve: Line,
    pub probe: Probe,
    /// By transport; empty when the server prints `listening NAME ADDRESS` lines and then `ready`.
    pub listening: Vec<(String, String)>,
    pub ca: Option<PathBuf>,
    /// Whether the first start on a folder makes what later ones find.
    pub starts_twice: bool,
}

impl Recipe {
    pub fn new(serve: Line, probe: Probe) -> Self {
        Self {
            prepare: Vec::new(),
            serve,
            probe,
            listening: Vec::new(),
            ca: None,
            starts_twice: false,
        }
    }

    /// Starts the process; tells its listeners and the time to its first answer.
    pub async fn open(&self, data: &Path) -> Result<(Process, Vec<(String, String)>, Duration)> {
        let begun = Instant::now();
        let announces = self.listening.is_empty();
        let (mut process, lines) = Process::spawn(&self.serve, data, announces)?;
        let listening = match lines {
            Some(lines) => read_listeners(lines)
                .with_context(|| format!("the server's log:\n{}", process.log()))?,
            None => self.listening.clone(),
        };
        let tcp = listening.iter().find(|(name, _)| name == "tcp");
        let (_, tcp) = tcp.context("the server has no tcp listener")?;
        await_answer(self.probe, tcp, &mut process).await?;
        Ok((process, listening, begun.elapsed()))
    }
}

/// Reads until the server says that it is ready.
fn read_listeners(
    mut lines: impl Iterator<Item = String> + Send + 'static,
) -> Result<Vec<(String, String)>> {
    let mut listening = Vec::new();
    for line in &mut lines {
        if line == "ready" {
            // Whatever it prints later must not fill the pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(listening);
        }
        let mut words = line.split_whitespace();
        if let (Some("listening"), Some(name), Some(address)) =
            (words.next(), words.next(), words.next())
        {
            listening.push((name.to_owned(), address.to_owned()));
        }
    }
    bail!("the server ended before it was ready")
}

pub fn tidegate(program: &Path, setup: &Setup) -> Recipe {
    let any = "127.0.0.1:0";
    let serve = Line::new(program)
        .args(["serve", "--dev", "--data"])
        .path(&setup.data)
        .args(["--tcp", any, "--tls", any, "--quic", any, "--admin", any]);
    Recipe {
        ca: Some(setup.data.join("certificates/ca.pem")),
        starts_twice: true,
        ..Recipe::new(serve, Probe::Kafka)
    }
}

pub fn floor(program: &Path, setup: &Setup) -> Recipe {
    let mode = match (setup.durability, setup.floor_files) {
        (Durability::Os, FloorFiles::Fresh) => "log",
        (Durability::Os, FloorFiles::Recycled) => "recycle",
        (Durability::Sync, FloorFiles::Fresh) => "gc",
        (Durability::Sync, FloorFiles::Recycled) => "gc-recycle",
    };
    let serve = Line::new(program)
        .args([
            "--mode",
            mode,
            "--tls",
            "127.0.0.1:0",
            "--quic",
            "127.0.0.1:0",
        ])
        .arg("--data")
        .path(&setup.data)
        .args(["--partitions".to_owned(), setup.partitions.to_string()])
        .args(["--megabytes".to_owned(), setup.megabytes.to_string()]);
    Recipe {
        ca: Some(setup.data.join("certificates/ca.pem")),
        ..Recipe::new(serve, Probe::Kafka)
    }
}

pub fn krabka(program: &Path, setup: &Setup) -> Result<Recipe> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let serve = Line::new(program)
        .args(["--listen-addr", &address, "--advertised-listener", &address])
        .arg("--log-dir")
        .path(&setup.data);
    Ok(Recipe {
        listening: vec![("tcp".into(), address)],
        ..Recipe::new(serve, Probe::Kafka)
    })
}

pub fn nats(program: &Path, setup: &Setup) -> Result<Recipe> {
    let port = free_port()?;
    let sync = match setup.durability {
        // What it does unless told otherwise: every two minutes.
        Durability::Os => "\"2m\"",
        Durability::Sync => "always",
    };
    let store = setup.data.display();
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\nmax_payload: 8MB\njetstream {{\n  store_dir: \"{store}\"\n  sync_interval: {sync}\n}}\n"
    );
    let file = setup.data.join("nats.conf");
    std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    let serve = Line::new(program).arg("-c").path(&file);
    Ok(Recipe {
        listening: vec![("tcp".into(), format!("127.0.0.1:{port}"))],
        ..Recipe::new(serve, Probe::Greeting)
    })
}

pub fn redis(program: &Path, setup: &Setup) -> Result<Recipe> {
    let port = free_port()?;
    let sync = match setup.durability {
        Durability::Os => "everysec",
        Durability::Sync => "always",
    };
    let serve = Line::new(program)
        .args(["--bind", "127.0.0.1", "--port"])
        .arg(port.to_string())
        .arg("--dir")
        .path(&setup.data)
        .args(["--save", "", "--appendonly", "yes", "--appendfsync", sync]);
    Ok(Recipe {
        listening: vec![("tcp".into(), format!("127.0.0.1:{port}"))],
        ..Recipe::new(serve, Probe::Ping)
    })
}
