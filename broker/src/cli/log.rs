//! `tidegate log`: look at log files while no broker uses them. Reads only.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::CliError;
use crate::catalog::Catalog;
use crate::log::inspect::{self, BatchInfo, Finding};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidegate log inspect --data ./data\n  \
                  tidegate log inspect --data ./data --topic orders --partition 0 --batches\n  \
                  tidegate log verify --data ./data\n\nStop the broker first: both read its files.")]
pub struct LogCommand {
    #[command(subcommand)]
    action: LogAction,
}

#[derive(Debug, Subcommand)]
enum LogAction {
    /// List partitions and segments, and with --batches every batch
    Inspect {
        /// The broker's data folder
        #[arg(long, value_name = "DIR", default_value = "tidegate-data")]
        data: PathBuf,
        /// Only this topic
        #[arg(long)]
        topic: Option<String>,
        /// Only this partition
        #[arg(long, requires = "topic")]
        partition: Option<i32>,
        /// Print each batch: position, offsets, records, codec, producer, checksum
        #[arg(long, requires = "topic")]
        batches: bool,
    },
    /// Check every batch of every partition; exits with 1 and says what to do when something is damaged
    Verify {
        /// The broker's data folder
        #[arg(long, value_name = "DIR", default_value = "tidegate-data")]
        data: PathBuf,
    },
}

pub fn run(command: LogCommand) -> Result<(), CliError> {
    match command.action {
        LogAction::Inspect {
            data,
            topic,
            partition,
            batches,
        } => {
            let catalog = open_catalog(&data)?;
            let topics = catalog.topics();
            let wanted = |name: &str| topic.as_deref().is_none_or(|topic| topic == name);
            let chosen: Vec<_> = topics
                .iter()
                .filter(|topic| wanted(topic.name.as_str()))
                .collect();
            if let (Some(topic), true) = (&topic, chosen.is_empty()) {
                return Err(CliError::new(format!(
                    "no topic {topic} in {}",
                    data.display()
                )));
            }
            for topic in chosen {
                for index in (0..topic.partitions)
                    .filter(|index| partition.is_none_or(|only| only == *index))
                {
                    println!("{}-{index}", topic.name);
                    let folder = data
                        .join("log")
                        .join(topic.id.to_string())
                        .join(index.to_string());
                    inspect_partition(&folder, batches)?;
                }
            }
            Ok(())
        }
        LogAction::Verify { data } => {
            // Opened for its lock: a broker that writes would make whole files look damaged.
            let _catalog = open_catalog(&data)?;
            verify(&data.join("log"))
        }
    }
}

fn open_catalog(data: &Path) -> Result<std::sync::Arc<Catalog>, CliError> {
    if !data.join("log").is_dir() {
        let message = format!(
            "{} is not a data folder (it has no log/); name it with --data",
            data.display()
        );
        return Err(CliError::new(message));
    }
    Catalog::open(data).map_err(|error| CliError::new(error.to_string()))
}

fn inspect_partition(folder: &Path, batches: bool) -> Result<(), CliError> {
    if !folder.is_dir() {
        println!("  nothing was ever written");
        return Ok(());
    }
    for segment in inspect::segments(folder).map_err(CliError::new)? {
        let name = segment
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let index = if segment.has_index {
            "indexed"
        } else {
            "no index"
        };
        let header = segment
            .header
            .as_ref()
            .err()
            .map_or_else(String::new, |wrong| format!(", {wrong}"));
        println!(
            "  {name}  from offset {}, {} bytes, {index}{header}",
            segment.base_offset, segment.file_bytes
        );
        if batches && segment.header.is_ok() {
            let end = inspect::batches(&segment.path, |batch| {
                println!("    {}", describe(&batch));
                true
            });
            let end = end.map_err(CliError::new)?;
            println!(
                "    ends at {}, {} bytes behind",
                end.position, end.bytes_behind
            );
        }
    }
    Ok(())
}

fn describe(batch: &BatchInfo) -> String {
    let codec = batch.compression.map_or_else(
        || "unknown codec".to_owned(),
        |codec| format!("{codec:?}").to_lowercase(),
    );
    let producer = match batch.producer_id {
        -1 => String::new(),
        id => format!(
            ", producer {id} epoch {} sequence {}",
            batch.producer_epoch, batch.base_sequence
        ),
    };
    let checksum = if batch.is_whole {
        "checksum right"
    } else {
        "CHECKSUM WRONG"
    };
    format!(
        "at {} offsets {}..={} records {} bytes {} {codec}{producer}, {checksum}",
        batch.position, batch.base_offset, batch.last_offset, batch.record_count, batch.size
    )
}

fn verify(log_folder: &Path) -> Result<(), CliError> {
    let report = inspect::verify(log_folder).map_err(CliError::new)?;
    println!(
        "{} partitions, {} segments, {} batches, {} records, {} bytes",
        report.partitions, report.segments, report.batches, report.records, report.bytes
    );
    if report.findings.is_empty() {
        println!("every batch is whole");
        return Ok(());
    }
    report
        .findings
        .iter()
        .for_each(|finding| println!("{}", explain(finding)));
    Err(CliError::new(format!("{} findings", report.findings.len())))
}

fn explain(finding: &Finding) -> String {
    let at = finding
        .position
        .map_or_else(String::new, |position| format!(" at {position}"));
    let from = finding
        .offset
        .map_or_else(String::new, |offset| format!(", from offset {offset}"));
    let until = finding.whole_from.map_or_else(String::new, |offset| {
        format!(", whole again from offset {offset}")
    });
    format!(
        "{}{at}{from}{until}: {}\n    {}",
        finding.path.display(),
        finding.message,
        finding.advice
    )
}
