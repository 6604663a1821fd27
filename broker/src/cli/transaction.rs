//! `tidegate transaction`: transactional ids, what their transactions hold open, and how to end what hangs.

mod hanging;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_client::{Admin, TransactionDescription, TransactionFilter};

use super::CliError;
use super::client::ClientOptions;
use super::output::{Listing, print_json, print_line};
use crate::config::parse_duration;
use crate::env::Clock;

const STATES: [&str; 6] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
];

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate transaction list\n  tidegate transaction list --state Ongoing --open-longer-than 5m\n  \
                  tidegate transaction list --id-pattern 'billing-.*'\n  tidegate transaction describe billing-1\n  \
                  tidegate transaction terminate billing-1\n  tidegate transaction find-hanging\n  tidegate transaction describe-producers orders --partition 3\n  \
                  tidegate transaction abort --topic orders --partition 3 --start-offset 1200"
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
    List(ListArguments),
    /// Show one transactional id and the partitions of its open transaction
    Describe { id: String },
    /// Show the producers that a topic's partitions know, and from which offset on their transactions are open
    DescribeProducers(hanging::Place),
    /// Abort the open transaction of a transactional id as a whole, and fence the producer that holds the id
    Terminate { id: String },
    /// Find what is open in partitions and known to no coordinator, so that nothing but `abort` will ever end it
    FindHanging(hanging::FindArguments),
    /// Abort what is open in one partition and known to no coordinator
    Abort(hanging::AbortArguments),
}

#[derive(Debug, Args)]
struct ListArguments {
    /// Only those in this state: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit or CompleteAbort; repeatable
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    state: Vec<String>,
    /// Only that of this producer id; repeatable
    #[arg(long, value_name = "ID")]
    producer_id: Vec<i64>,
    /// Only those whose transaction has been open for longer, such as 15m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    open_longer_than: Option<u64>,
    /// Only ids that this regular expression matches as a whole
    #[arg(long, value_name = "REGEX")]
    id_pattern: Option<String>,
}

fn parse_state(text: &str) -> Result<String, String> {
    let known = STATES.iter().find(|state| state.eq_ignore_ascii_case(text));
    let known = known.map(|state| (*state).to_owned());
    known.ok_or_else(|| format!("write one of {}", STATES.join(", ")))
}

pub async fn run(command: TransactionCommand) -> Result<(), CliError> {
    let client = command.client.connect().await?;
    let shell = Shell {
        admin: client.admin(),
        options: command.client,
        json: command.json,
    };
    match command.action {
        TransactionAction::List(arguments) => shell.list(arguments).await,
        TransactionAction::Describe { id } => shell.describe(&id).await,
        TransactionAction::DescribeProducers(place) => shell.describe_producers(&place).await,
        TransactionAction::Terminate { id } => shell.terminate(&id).await,
        TransactionAction::FindHanging(arguments) => shell.find_hanging(&arguments).await,
        TransactionAction::Abort(arguments) => shell.abort(&arguments).await,
    }
}

/// What every action needs.
struct Shell {
    admin: Admin,
    options: ClientOptions,
    json: bool,
}

/// How long an open transaction has been open, in seconds.
fn open_for(transaction: &TransactionDescription) -> Option<i64> {
    let started = transaction.started_ms?;
    let is_open = !transaction.partitions.is_empty();
    is_open.then(|| (Clock::system().now_ms() - started).max(0) / 1000)
}

impl Shell {
    fn explain(&self, error: tidegate_client::Error) -> CliError {
        self.options.explain(error)
    }

    async fn transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<Vec<TransactionDescription>, CliError> {
        let found = self.admin.transactions(filter).await;
        found.map_err(|error| self.explain(error))
    }

    async fn existing(&self, id: &str) -> Result<TransactionDescription, CliError> {
        let all = self.transactions(&TransactionFilter::default()).await?;
        let found = all.into_iter().find(|found| found.transactional_id == id);
        found.ok_or_else(|| {
            CliError::new(format!(
                "there is no transactional id {id}; see tidegate transaction list"
            ))
        })
    }

    async fn list(&self, arguments: ListArguments) -> Result<(), CliError> {
        let filter = TransactionFilter {
            states: arguments.state,
            producer_ids: arguments.producer_id,
            open_for_longer_than: arguments.open_longer_than.map(Duration::from_millis),
            id_pattern: arguments.id_pattern,
        };
        let mut listing =
            Listing::new(&["id", "state", "producer", "epoch", "partitions", "open-s"]);
        for found in self.transactions(&filter).await? {
            let partitions: usize = found.partitions.values().map(Vec::len).sum();
            listing.row(vec![
                json!(found.transactional_id),
                json!(found.state),
                json!(found.producer_id),
                json!(found.producer_epoch),
                json!(partitions),
                json!(open_for(&found)),
            ]);
        }
        if listing.is_empty() && !self.json {
            return print_line("no transactional ids");
        }
        listing.print(self.json)
    }

    async fn terminate(&self, id: &str) -> Result<(), CliError> {
        // Asking for an id that does not exist would make it.
        let before = self.existing(id).await?;
        let fenced = self.admin.fence_producer(id).await;
        fenced.map_err(|error| self.explain(error))?;
        let epoch = before.producer_epoch;
        print_line(&format!(
            "{id}: nothing is open, and producer {} with epoch {epoch} is fenced",
            before.producer_id
        ))
    }

    async fn describe(&self, id: &str) -> Result<(), CliError> {
        let found = self.existing(id).await?;
        if self.json {
            return print_json(&json!({
                "id": found.transactional_id,
                "state": found.state,
                "producer": found.producer_id,
                "epoch": found.producer_epoch,
                "timeout-ms": found.timeout_ms,
                "open-s": open_for(&found),
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
        if let Some(seconds) = open_for(&found) {
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
}
