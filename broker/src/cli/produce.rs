//! `tidegate produce`: lines of standard input, or of a file, become records.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use clap::Args;
use tidegate_client::{Acks, Compression, Delivery, Producer, Record};
use tokio::sync::mpsc;

use super::CliError;
use super::client::{ClientOptions, key_value};
use super::output::counted;

/// A line longer than this is refused: what is read is hardly text.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// Records whose delivery is not known yet, at most.
const MAX_PENDING: usize = 20_000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  echo hello | tidegate produce orders\n  \
                  tidegate produce orders --key-separator : --compression zstd --file orders.txt\n  \
                  tail -f app.log | tidegate produce logs --acks 1")]
pub struct ProduceCommand {
    topic: String,
    /// Split each line here into key and value
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// When a record counts as written: 0, 1 or all
    #[arg(long, default_value = "all")]
    acks: Acks,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value = "none")]
    compression: Compression,
    /// Read this file in place of standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write to this partition alone
    #[arg(long, short = 'p', value_name = "N")]
    partition: Option<i32>,
    /// A header for every record; repeatable
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = key_value)]
    header: Vec<(String, String)>,
    #[command(flatten)]
    client: ClientOptions,
}

pub async fn run(command: ProduceCommand) -> Result<(), CliError> {
    let lines = read_lines(command.file.clone())?;
    let client = command.client.connect().await?;
    let producer = client
        .producer()
        .acks(command.acks)
        .compression(command.compression)
        .build()
        .map_err(|error| command.client.explain(error))?;
    let written = send_all(&command, &producer, lines).await?;
    eprintln!(
        "{} written to {}",
        counted(written, "record"),
        command.topic
    );
    Ok(())
}

async fn send_all(
    command: &ProduceCommand,
    producer: &Producer,
    mut lines: mpsc::Receiver<Result<Vec<u8>, CliError>>,
) -> Result<u64, CliError> {
    let explain = |error| command.client.explain(error);
    let mut pending: VecDeque<Delivery> = VecDeque::new();
    let (mut number, mut written) = (0u64, 0u64);
    while let Some(line) = lines.recv().await {
        number += 1;
        let record = command.record(line?, number)?;
        pending.push_back(producer.enqueue(record).await.map_err(explain)?);
        if pending.len() >= MAX_PENDING
            && let Some(oldest) = pending.pop_front()
        {
            oldest.wait().await.map_err(explain)?;
            written += 1;
        }
    }
    for delivery in pending {
        delivery.wait().await.map_err(|error| {
            let CliError(text) = explain(error);
            CliError::new(format!(
                "{text}\n  {written} of {number} records were written before"
            ))
        })?;
        written += 1;
    }
    Ok(written)
}

impl ProduceCommand {
    fn record(&self, line: Vec<u8>, number: u64) -> Result<Record, CliError> {
        let mut record = Record::to(self.topic.as_str());
        record.partition = self.partition;
        for (name, value) in &self.header {
            record = record.header(name, value.clone());
        }
        let Some(separator) = self
            .key_separator
            .as_deref()
            .filter(|text| !text.is_empty())
        else {
            return Ok(record.value(line));
        };
        let at = line
            .windows(separator.len())
            .position(|window| window == separator.as_bytes());
        match at {
            Some(at) => {
                let value = line[at + separator.len()..].to_vec();
                Ok(record.key(line[..at].to_vec()).value(value))
            }
            None => Err(CliError::new(format!(
                "line {number} has no {separator:?} between key and value"
            ))),
        }
    }
}

/// Reads on a thread of its own: standard input blocks.
fn read_lines(
    file: Option<PathBuf>,
) -> Result<mpsc::Receiver<Result<Vec<u8>, CliError>>, CliError> {
    let input: Box<dyn Read + Send> = match &file {
        None => Box::new(std::io::stdin()),
        Some(path) => Box::new(
            std::fs::File::open(path)
                .map_err(|error| CliError::new(format!("--file {}: {error}", path.display())))?,
        ),
    };
    let (sender, lines) = mpsc::channel(1_000);
    std::thread::spawn(move || {
        let mut input = BufReader::new(input);
        loop {
            let line = next_line(&mut input);
            let last = matches!(line, Ok(None) | Err(_));
            let sent = match line {
                Ok(None) => Ok(()),
                Ok(Some(line)) => sender.blocking_send(Ok(line)),
                Err(error) => sender.blocking_send(Err(error)),
            };
            if last || sent.is_err() {
                return;
            }
        }
    });
    Ok(lines)
}

fn next_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, CliError> {
    let mut line = Vec::new();
    let read = input
        .take(MAX_LINE_BYTES + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| CliError::new(format!("reading the input: {error}")))?;
    if read == 0 {
        return Ok(None);
    }
    if line.len() as u64 > MAX_LINE_BYTES {
        return Err(CliError::new(
            "a line is longer than 64 MiB: is the input text?",
        ));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        command: ProduceCommand,
    }

    fn command(arguments: &[&str]) -> ProduceCommand {
        let arguments = ["produce", "orders"].iter().chain(arguments);
        Alone::parse_from(arguments).command
    }

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        let record = command(&["--key-separator", "::"])
            .record(b"k::v::w".to_vec(), 1)
            .unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"v::w"[..]));
    }

    #[test]
    fn a_line_without_the_separator_is_named() {
        let error = command(&["--key-separator", ":"])
            .record(b"abc".to_vec(), 7)
            .unwrap_err();
        assert!(error.to_string().contains("line 7"), "{error}");
    }

    #[test]
    fn line_ends_are_taken_off() {
        let mut input = &b"one\ntwo\r\n\nfour"[..];
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["one", "two", "", "four"]);
    }
}
