//! `floor`: the least that a broker can be, to measure others against.
//!
//! A thread for each connection, a file for each partition, and just enough of the Kafka protocol that ordinary clients can
//! produce and consume with assigned partitions. It frames requests and appends bytes; it keeps nothing over a restart, knows no
//! groups, no access control, no quotas, no retention. What a real broker costs on top of it is what that broker's
//! features cost.
//!
//! It prints what it listens on and `ready`, as `tidegate serve` does. `README.md` of this package says how it is used.

mod certificate;
mod connection;
mod control;
mod fetch;
mod files;
mod input;
mod log;
mod produce;
mod quic;
mod stream;
#[cfg(test)]
mod tests;
mod topics;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use rustls::ServerConfig;

use connection::Connection;
use files::Files;
use stream::Stream;
use topics::Topics;

#[derive(Debug, Parser)]
#[command(
    name = "floor",
    about = "The least that a broker can be: frames requests and appends bytes"
)]
struct Options {
    /// What is done with a batch before it is acknowledged
    #[arg(long, default_value = "log")]
    mode: Mode,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Also listen here for TLS, with a certificate of its own; clients trust certificates/ca.pem in the data folder
    #[arg(long, value_name = "ADDR")]
    tls: Option<SocketAddr>,
    /// Also take and send plain bytes over QUIC here: no Kafka, but what `bench quic` measures
    #[arg(long, value_name = "ADDR")]
    quic: Option<SocketAddr>,
    /// The folder of the logs; made when it is missing
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Bytes that the recycle modes write before they listen, in 10⁶, over all files together
    #[arg(long, value_name = "MB", default_value_t = 2200)]
    megabytes: u64,
    /// Partitions of a topic whose creator does not say, and files that are written before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partitions: u32,
}

/// How much of a broker's work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Mode {
    /// Reads and answers requests; stores nothing, so that there is nothing to consume
    Null,
    /// Checks the checksum, writes the batch to a fresh file; answers from the page cache
    Log,
    /// As log, over files that were written before
    Recycle,
    /// As log, but syncs before it answers: once for all requests that have arrived
    Gc,
    /// As gc, over files that were written before
    GcRecycle,
}

impl Mode {
    pub fn stores(self) -> bool {
        self != Self::Null
    }

    pub fn syncs(self) -> bool {
        matches!(self, Self::Gc | Self::GcRecycle)
    }

    pub fn recycles(self) -> bool {
        matches!(self, Self::Recycle | Self::GcRecycle)
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    allow_many_files()?;
    let files = Files::open(&options.data)?;
    if options.mode.recycles() {
        files.prepare(options.partitions, options.megabytes * 1_000_000)?;
    }
    let topics = Arc::new(Topics::new(options.mode, files, options.partitions as i32));
    let encrypted: Vec<SocketAddr> = options.tls.into_iter().chain(options.quic).collect();
    let config = if encrypted.is_empty() {
        None
    } else {
        Some(certificate::server_config(&options.data, &encrypted)?)
    };
    let plain = listen("--listen", options.listen)?;
    println!("listening tcp {}", plain.local_addr()?);
    if let (Some(address), Some(config)) = (options.tls, &config) {
        let (config, topics) = (Arc::new(config.clone()), topics.clone());
        let listener = listen("--tls", address)?;
        println!("listening tls {}", listener.local_addr()?);
        std::thread::spawn(move || accept(&listener, Some(config), &topics));
    }
    if let (Some(address), Some(config)) = (options.quic, config) {
        println!("listening quic {}", quic::start(address, config)?);
    }
    println!("ready");
    accept(&plain, None, &topics);
    Ok(())
}

fn listen(option: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("{option} {address}"))
}

/// Gives each connection a thread.
fn accept(listener: &TcpListener, tls: Option<Arc<ServerConfig>>, topics: &Arc<Topics>) {
    for stream in listener.incoming() {
        let (tls, topics) = (tls.clone(), topics.clone());
        std::thread::spawn(move || {
            let served = stream
                .map_err(anyhow::Error::from)
                .and_then(|stream| Stream::new(stream, tls))
                .and_then(|stream| Connection::open(stream, topics))
                .and_then(Connection::serve);
            if let Err(error) = served {
                eprintln!("a connection ended: {error:#}");
            }
        });
    }
}

/// Each partition keeps a file open: the usual soft limit of 1,024 would be too few.
fn allow_many_files() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}
