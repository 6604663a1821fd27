//! `tidegate transaction`: transactional ids, and what their transactions hold open.

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_client::TransactionDescription;

use super::CliError;
use super::client::ClientOptions;
use super::output::{Listing, print_json, print_line};
use crate::env::Clock;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate transaction list\n  tidegate transaction list --state Ongoing\n  \
                  tidegate transaction describe billing-1"
)]
pub struct TransactionCommand {
    #[command(subcommand)]
    action: TransactionAction,
    #[command(flatten)]
    client: ClientOptions,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TransactionAction {
    /// List transactional ids
    List {
        /// Only those in this state: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit or CompleteAbort
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
    },
    /// Show one transactional id and the partitions of its open transaction
    Describe { id: String },
}

pub async fn run(command: TransactionCommand) -> Result<(), CliError> {
    let client = command.client.connect().await?;
    let all = client.admin().transactions().await;
    let all = all.map_err(|error| command.client.explain(error))?;
    match command.action {
        TransactionAction::List { state } => list(all, state.as_deref(), command.json),
        TransactionAction::Describe { id } => {
            let found = all.into_iter().find(|found| found.transactional_id == id);
            let found = found.ok_or_else(|| {
                CliError::new(format!(
                    "there is no transactional id {id}; see tidegate transaction list"
                ))
            })?;
            describe(&found, command.json)
        }
    }
}

/// How long an open transaction has been open, in seconds.
fn open_for(transaction: &TransactionDescription) -> Option<i64> {
    let started = transaction.started_ms?;
    let is_open = !transaction.partitions.is_empty();
    is_open.then(|| (Clock::system().now_ms() - started).max(0) / 1000)
}

fn list(
    all: Vec<TransactionDescription>,
    state: Option<&str>,
    as_json: bool,
) -> Result<(), CliError> {
    let mut listing = Listing::new(&["id", "state", "producer", "epoch", "partitions", "open-s"]);
    let wanted = |found: &&TransactionDescription| {
        state.is_none_or(|state| found.state.eq_ignore_ascii_case(state))
    };
    for found in all.iter().filter(wanted) {
        let partitions: usize = found.partitions.values().map(Vec::len).sum();
        listing.row(vec![
            json!(found.transactional_id),
            json!(found.state),
            json!(found.producer_id),
            json!(found.producer_epoch),
            json!(partitions),
            json!(open_for(found)),
        ]);
    }
    if listing.is_empty() && !as_json {
        return print_line("no transactional ids");
    }
    listing.print(as_json)
}

fn describe(found: &TransactionDescription, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return print_json(&json!({
            "id": found.transactional_id,
            "state": found.state,
            "producer": found.producer_id,
            "epoch": found.producer_epoch,
            "timeout-ms": found.timeout_ms,
            "open-s": open_for(found),
            "partitions": found.partitions,
        }));
    }
    print_line(&format!(
        "{}: {}, producer {} with epoch {}, timeout {} ms",
        found.transactional_id,
        found.state,
        found.producer_id,
        found.producer_epoch,
        found.timeout_ms
    ))?;
    if let Some(seconds) = open_for(found) {
        print_line(&format!("open for {seconds} s"))?;
    }
    if found.partitions.is_empty() {
        return Ok(());
    }
    let mut listing = Listing::new(&["topic", "partitions"]);
    for (topic, partitions) in &found.partitions {
        listing.row(vec![json!(topic), json!(partitions)]);
    }
    listing.print(false)
}
