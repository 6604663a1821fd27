//! `tidegate log`: look at log files and mend them while no broker uses them, and let a running broker verify a log that
//! stopped.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use reqwest::Method;
use serde_json::Value;

use super::CliError;
use super::admin_client::{AdminOptions, Call};
use super::output::{counted, print_line};
use crate::catalog::{self, Catalog};
use crate::log::inspect::{self, BatchInfo, Finding, SegmentInfo};
use crate::log::repair;
use crate::types::PartitionId;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidegate log inspect --data ./data\n  \
                  tidegate log inspect --data ./data --topic orders --partition 0 --batches\n  \
                  tidegate log verify --data ./data\n  \
                  tidegate log repair --data ./data --topic orders --partition 0 --dry-run\n  \
                  tidegate log recover orders 0\n\n\
                  inspect, verify and repair use the broker's files: stop it first. recover asks a running broker.")]
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
    /// Check every byte and every record of every partition; exits with 1 and says what to do when something is damaged, or cannot be read by clients
    Verify {
        /// The broker's data folder
        #[arg(long, value_name = "DIR", default_value = "tidegate-data")]
        data: PathBuf,
    },
    /// Mend a partition's files: keep every batch that is whole, take out and set aside what is damaged
    Repair {
        /// The broker's data folder
        #[arg(long, value_name = "DIR", default_value = "tidegate-data")]
        data: PathBuf,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        partition: i32,
        /// Say what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Let a running broker verify a partition that stopped accepting, from the disk, and accept again
    Recover {
        topic: String,
        partition: i32,
        /// Give up what is damaged between whole records: it stays unreadable, and the log goes on behind it
        #[arg(long)]
        accept_damage: bool,
        #[command(flatten)]
        admin: AdminOptions,
    },
}

pub async fn run(command: LogCommand) -> Result<(), CliError> {
    match command.action {
        LogAction::Inspect {
            data,
            topic,
            partition,
            batches,
        } => {
            let only = topic.as_deref().map(|topic| (topic, partition));
            inspect_all(&data, only, batches)
        }
        LogAction::Verify { data } => {
            // Opened for its lock: a broker that writes would make whole files look damaged.
            let _catalog = match data.join(catalog::STORE_FILE).exists() {
                true => Some(open_catalog(&data)?),
                // Where there is none no broker runs, and the records are there all the same.
                false => None,
            };
            verify(&data.join("log"))
        }
        LogAction::Repair {
            data,
            topic,
            partition,
            dry_run,
        } => mend(&data, &topic, partition, dry_run),
        LogAction::Recover {
            topic,
            partition,
            accept_damage,
            admin,
        } => recover(&topic, partition, accept_damage, &admin).await,
    }
}

fn mend(data: &Path, topic: &str, index: i32, dry_run: bool) -> Result<(), CliError> {
    // Opened for its lock, too: nobody else may write meanwhile.
    let catalog = open_catalog(data)?;
    let found = catalog
        .topic(topic)
        .filter(|found| (0..found.partitions).contains(&index));
    let Some(found) = found else {
        let message = format!(
            "no partition {index} of a topic {topic} in {}",
            data.display()
        );
        return Err(CliError::new(message));
    };
    let id = PartitionId {
        topic: found.id,
        index,
    };
    let log_folder = data.join("log");
    let actions = repair::repair(&log_folder, id, dry_run).map_err(CliError::new)?;
    for action in &actions {
        print_line(&format!("{}: {}", action.path.display(), action.message))?;
    }
    print_line(match (actions.len(), dry_run) {
        (0, _) => "nothing to repair",
        (_, true) => "nothing was changed: run again without --dry-run",
        (_, false) => {
            "repaired; verify with `tidegate log verify`, and remove the .damaged files when nobody needs them"
        }
    })
}

async fn recover(
    topic: &str,
    partition: i32,
    accept_damage: bool,
    admin: &AdminOptions,
) -> Result<(), CliError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if topic.is_empty() || !topic.chars().all(legal) {
        let message = format!("topic {topic:?}: names have letters, digits and . _ -");
        return Err(CliError::new(message));
    }
    let path = format!("/v1/log/{topic}/{partition}/recover");
    let mut call = Call::new(Method::POST, &path);
    if accept_damage {
        call.query.push(("accept-damage", "true".to_owned()));
    }
    let answer = admin.send(call).await?;
    let was_stopped = answer.get("recovered").and_then(Value::as_bool);
    print_line(&match was_stopped {
        Some(false) => format!("{topic} [{partition}] had not stopped: nothing was done"),
        _ => format!("{topic} [{partition}] was verified from the disk and accepts again"),
    })
}

fn open_catalog(data: &Path) -> Result<std::sync::Arc<Catalog>, CliError> {
    if !data.join("log").is_dir() {
        let message = format!(
            "{} is not a data folder (it has no log/); name it with --data",
            data.display()
        );
        return Err(CliError::new(message));
    }
    if !data.join(catalog::STORE_FILE).exists() {
        let message = format!(
            "{} has no {}: bring back the one that belongs to it",
            data.display(),
            catalog::STORE_FILE
        );
        return Err(CliError::new(message));
    }
    Catalog::open(data).map_err(|error| CliError::new(catalog_fix(&error.to_string())))
}

fn catalog_fix(message: &str) -> String {
    if message.contains("Permission denied") {
        return format!("{message}\n  run it as the user that the broker runs as");
    }
    if message.contains("another tidegate process") {
        return format!(
            "{message}\n  stop it first; `tidegate log recover TOPIC PARTITION` lets a running broker verify a partition"
        );
    }
    message.to_owned()
}

/// Shows every partition, or those of one topic, or one alone.
fn inspect_all(
    data: &Path,
    only: Option<(&str, Option<i32>)>,
    batches: bool,
) -> Result<(), CliError> {
    let catalog = open_catalog(data)?;
    let (mut shown, mut unwritten) = (0, 0);
    for topic in catalog.topics() {
        for index in 0..topic.partitions {
            let is_wanted = only.is_none_or(|(name, partition)| {
                name == topic.name.as_str() && partition.is_none_or(|only| only == index)
            });
            if !is_wanted {
                continue;
            }
            shown += 1;
            let folder = data.join("log").join(topic.id.to_string());
            let segments = segments(&folder.join(index.to_string()))?;
            if segments.is_empty() && only.is_none() {
                unwritten += 1;
                continue;
            }
            print_line(&format!("{}-{index}", topic.name))?;
            inspect_partition(segments, batches)?;
        }
    }
    match only {
        Some((topic, partition)) if shown == 0 => {
            let partition =
                partition.map_or_else(String::new, |it| format!(" with a partition {it}"));
            Err(CliError::new(format!(
                "no topic {topic}{partition} in {}",
                data.display()
            )))
        }
        _ if unwritten > 0 => print_line(&format!(
            "{} never written to",
            counted(unwritten, "partition")
        )),
        _ => Ok(()),
    }
}

/// Those of a partition; none when its folder was not made yet.
fn segments(folder: &Path) -> Result<Vec<SegmentInfo>, CliError> {
    match std::fs::metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(CliError::new(format!("{}: {error}", folder.display()))),
        Ok(_) => inspect::segments(folder).map_err(CliError::new),
    }
}

fn inspect_partition(segments: Vec<SegmentInfo>, batches: bool) -> Result<(), CliError> {
    if segments.is_empty() {
        return print_line("  nothing was ever written");
    }
    for segment in segments {
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
        let compacted = segment.compacted_until.map_or_else(String::new, |offset| {
            format!(", compacted up to offset {offset}")
        });
        let header = segment
            .header
            .as_ref()
            .err()
            .map_or_else(String::new, |wrong| format!(", {wrong}"));
        print_line(&format!(
            "  {name}  from offset {}, {} bytes, {index}{compacted}{header}",
            segment.base_offset, segment.file_bytes
        ))?;
        if batches && segment.header.is_ok() {
            let mut printed = Ok(());
            let end = inspect::batches(&segment.path, |batch| {
                printed = print_line(&format!("    {}", describe(&batch)));
                printed.is_ok()
            });
            let end = end.map_err(CliError::new)?;
            printed?;
            print_line(&format!(
                "    ends at {}, {} bytes behind",
                end.position, end.bytes_behind
            ))?;
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
    let kind = match (batch.is_control, batch.is_transactional) {
        (true, true) => ", end of a transaction",
        (true, false) => ", control",
        (false, true) => ", transactional",
        (false, false) => "",
    };
    let checksum = if batch.is_whole {
        "checksum right"
    } else {
        "CHECKSUM WRONG"
    };
    format!(
        "at {} offsets {}..={} records {} bytes {} {codec}{producer}{kind}, {checksum}",
        batch.position, batch.base_offset, batch.last_offset, batch.record_count, batch.size
    )
}

fn verify(log_folder: &Path) -> Result<(), CliError> {
    let report = inspect::verify(log_folder).map_err(CliError::new)?;
    print_line(&format!(
        "{} partitions, {} segments, {} batches, {} records, {} bytes",
        report.partitions, report.segments, report.batches, report.records, report.bytes
    ))?;
    for finding in &report.findings {
        print_line(&explain(finding))?;
    }
    let needs_care = |finding: &&Finding| finding.kind.needs_care();
    match report.findings.iter().filter(needs_care).count() {
        0 => print_line("every batch is whole"),
        count => Err(CliError::new(format!("{count} findings"))),
    }
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
