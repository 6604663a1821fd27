//! The client that means well: one record of 100 bytes in with acks=all, the same record out, 5 ms of rest, over again.
//! It runs in a process of its own, so that it shares nothing with the attacker but the machine.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::{RawClient, batch};

const REST: Duration = Duration::from_millis(5);
/// An answer that takes longer counts as a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the honest client saw.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub rounds: u64,
    pub failures: u64,
    /// `None` when nothing was served.
    pub p99_us: Option<u64>,
    pub longest_us: Option<u64>,
}

/// Runs the client in a process of its own.
pub fn measure(address: SocketAddr, topic: &str, length: Duration) -> Result<Figures> {
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .args(["honest", &address.to_string(), topic])
        .arg(length.as_secs().to_string())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = || String::from_utf8_lossy(&output.stderr).into_owned();
    let figure = |index: usize| text.split_whitespace().nth(index)?.parse().ok();
    Ok(Figures {
        rounds: figure(0).with_context(complaint)?,
        failures: figure(1).with_context(complaint)?,
        p99_us: figure(2),
        longest_us: figure(3),
    })
}

/// The process: prints rounds, failures, p99 and the longest round, in microseconds.
pub fn main(address: &str, topic: &str, seconds: &str) -> Result<bool> {
    let address = address.parse()?;
    let ends = Instant::now() + Duration::from_secs(seconds.parse()?);
    let (mut taken, mut failures) = (Vec::new(), 0_u64);
    let mut client = None;
    while Instant::now() < ends {
        let begun = Instant::now();
        match round(&mut client, address, topic) {
            Ok(()) => taken.push(begun.elapsed().as_micros() as u64),
            Err(error) => {
                eprintln!("{error:#}");
                failures += 1;
                client = None;
            }
        }
        thread::sleep(REST);
    }
    taken.sort_unstable();
    let at = |part: f64| {
        let index = (taken.len() as f64 * part) as usize;
        taken.get(index.min(taken.len().saturating_sub(1))).copied()
    };
    print!("{} {failures}", taken.len());
    for figure in [at(0.99), at(1.0)].into_iter().flatten() {
        print!(" {figure}");
    }
    println!();
    Ok(true)
}

fn round(client: &mut Option<RawClient>, address: SocketAddr, topic: &str) -> Result<()> {
    let client = match client {
        Some(client) => client,
        None => {
            let new = RawClient::connect(address)?;
            new.set_answer_limit(PATIENCE)?;
            let new = client.insert(new);
            // There already when the connection was lost in between.
            let _ = new.create_topic(topic, 1, &[]);
            new
        }
    };
    let sent = client.produce(topic, 0, -1, batch::of_values(&[[b'v'; 100]]))?;
    ensure!(sent.error_code == 0, "produce: error {}", sent.error_code);
    let read = client.fetch(topic, 0, sent.base_offset, PATIENCE)?;
    ensure!(read.error_code == 0, "fetch: error {}", read.error_code);
    let read = batch::records(&read.records.unwrap_or_default())?;
    ensure!(
        read.iter().any(|record| record.offset == sent.base_offset),
        "the record is not there"
    );
    Ok(())
}
