//! Transactions that hang: open in a partition, and known to no coordinator that would ever end them (KIP-664). Committed
//! readers of the partition stop there, and compaction too.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tidegate_client::{PartitionProducer, TransactionDescription, TransactionFilter};

use super::{CliError, Clock, Listing, Shell, print_json, print_line};
use crate::config::parse_duration;
use crate::types::TimestampMs;

#[derive(Debug, Args)]
pub struct Place {
    topic: String,
    /// Only this partition
    #[arg(long)]
    partition: Option<i32>,
}

#[derive(Debug, Args)]
pub struct FindArguments {
    /// Only this topic; otherwise every topic, internal ones too
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition
    #[arg(long, requires = "topic")]
    partition: Option<i32>,
    /// Leave alone whose producer was heard of since: the longest timeout that a transaction may have
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "15m")]
    older_than: u64,
}

#[derive(Debug, Args)]
pub struct AbortArguments {
    #[arg(long)]
    topic: String,
    #[arg(long)]
    partition: i32,
    /// The first offset of what is open, as find-hanging tells it
    #[arg(long, value_name = "OFFSET")]
    start_offset: i64,
    /// Also when a coordinator knows it: aborted in this partition alone, while the rest may be committed
    #[arg(long)]
    force: bool,
}

/// The transaction, of those that coordinators know, that will end what is open here.
fn owner<'a>(
    open: &PartitionProducer,
    known: &'a [TransactionDescription],
) -> Option<&'a TransactionDescription> {
    // Epochs differ between the two while an end is under way.
    known.iter().find(|transaction| {
        let partitions = transaction.partitions.get(&open.topic);
        transaction.producer_id == open.producer_id
            && partitions.is_some_and(|partitions| partitions.contains(&open.partition))
    })
}

/// Whether it is open, and its producer silent for that long.
fn is_overdue(producer: &PartitionProducer, now_ms: TimestampMs, older_than: Duration) -> bool {
    let silent = now_ms.saturating_sub(producer.last_timestamp_ms);
    let silent = Duration::from_millis(u64::try_from(silent).unwrap_or(0));
    producer.transaction_start.is_some() && silent >= older_than
}

impl Shell {
    async fn producers(&self, topic: &str) -> Result<Vec<PartitionProducer>, CliError> {
        let found = self.admin.partition_producers(topic).await;
        found.map_err(|error| self.explain(error))
    }

    pub(super) async fn describe_producers(&self, place: &Place) -> Result<(), CliError> {
        let mut listing = Listing::new(&[
            "partition",
            "producer",
            "epoch",
            "last-sequence",
            "coordinator-epoch",
            "open-from",
            "silent-s",
        ]);
        let now_ms = Clock::system().now_ms();
        for producer in self.producers(&place.topic).await? {
            if place
                .partition
                .is_some_and(|only| only != producer.partition)
            {
                continue;
            }
            listing.row(vec![
                json!(producer.partition),
                json!(producer.producer_id),
                json!(producer.producer_epoch),
                json!(producer.last_sequence),
                json!(producer.coordinator_epoch),
                json!(producer.transaction_start),
                json!((now_ms - producer.last_timestamp_ms).max(0) / 1000),
            ]);
        }
        if listing.is_empty() && !self.json {
            return print_line("no producers");
        }
        listing.print(self.json)
    }

    /// The transactions of these producers.
    async fn known(
        &self,
        producers: &[PartitionProducer],
    ) -> Result<Vec<TransactionDescription>, CliError> {
        let mut producer_ids: Vec<_> = producers.iter().map(|it| it.producer_id).collect();
        producer_ids.sort_unstable();
        producer_ids.dedup();
        let filter = TransactionFilter {
            producer_ids,
            ..TransactionFilter::default()
        };
        self.transactions(&filter).await
    }

    pub(super) async fn find_hanging(&self, arguments: &FindArguments) -> Result<(), CliError> {
        let topics = match &arguments.topic {
            Some(topic) => vec![topic.clone()],
            None => {
                let all = self.admin.list_topics().await;
                let all = all.map_err(|error| self.explain(error))?;
                all.into_iter().map(|topic| topic.name).collect()
            }
        };
        let mut hanging = Vec::new();
        for topic in topics {
            hanging.extend(self.hanging_in(&topic, arguments).await?);
        }
        self.print_hanging(&hanging)
    }

    async fn hanging_in(
        &self,
        topic: &str,
        arguments: &FindArguments,
    ) -> Result<Vec<PartitionProducer>, CliError> {
        let older_than = Duration::from_millis(arguments.older_than);
        let only = arguments.partition;
        let mut open = self.producers(topic).await?;
        let now_ms = Clock::system().now_ms();
        open.retain(|producer| {
            only.is_none_or(|only| only == producer.partition)
                && is_overdue(producer, now_ms, older_than)
        });
        if open.is_empty() {
            return Ok(open);
        }
        let known = self.known(&open).await?;
        open.retain(|producer| owner(producer, &known).is_none());
        if !open.is_empty() {
            // What has ended meanwhile was no longer known, and does not hang.
            let now = self.producers(topic).await?;
            open.retain(|producer| now.contains(producer));
        }
        Ok(open)
    }

    fn print_hanging(&self, hanging: &[PartitionProducer]) -> Result<(), CliError> {
        let mut listing = Listing::new(&[
            "topic",
            "partition",
            "producer",
            "epoch",
            "start-offset",
            "silent-s",
        ]);
        let now_ms = Clock::system().now_ms();
        for producer in hanging {
            listing.row(vec![
                json!(producer.topic),
                json!(producer.partition),
                json!(producer.producer_id),
                json!(producer.producer_epoch),
                json!(producer.transaction_start),
                json!((now_ms - producer.last_timestamp_ms).max(0) / 1000),
            ]);
        }
        if self.json {
            return print_json(&listing.to_json());
        }
        let Some(first) = hanging.first() else {
            return print_line("no hanging transactions");
        };
        listing.print(false)?;
        print_line(&format!(
            "abort one with: tidegate transaction abort --topic {} --partition {} --start-offset {}",
            first.topic,
            first.partition,
            first.transaction_start.unwrap_or(-1)
        ))
    }

    pub(super) async fn abort(&self, arguments: &AbortArguments) -> Result<(), CliError> {
        let AbortArguments {
            topic,
            partition,
            start_offset,
            force,
        } = arguments;
        let producers = self.producers(topic).await?.into_iter();
        let mut open = producers.filter(|producer| {
            producer.partition == *partition && producer.transaction_start == Some(*start_offset)
        });
        let Some(open) = open.next() else {
            return Err(CliError::new(format!(
                "nothing that is open in {topic}-{partition} starts at offset {start_offset}; \
                 see tidegate transaction find-hanging --topic {topic}"
            )));
        };
        let known = self.known(std::slice::from_ref(&open)).await?;
        if let (Some(owner), false) = (owner(&open, &known), force) {
            let (id, state) = (&owner.transactional_id, &owner.state);
            return Err(CliError::new(format!(
                "it does not hang: the coordinator knows it as {id}, {state}, and ends it when its timeout of {} ms is over\n  \
                 `tidegate transaction terminate {id}` aborts all of it now; --force aborts it in this partition alone",
                owner.timeout_ms
            )));
        }
        if !self.producers(topic).await?.contains(&open) {
            let message = "it does not hang: it has just ended, or its producer goes on";
            return Err(CliError::new(message));
        }
        let aborted = self.admin.abort_in_partition(&open).await;
        aborted.map_err(|error| self.explain(error))?;
        print_line(&format!(
            "{topic}-{partition}: what producer {} had open from offset {start_offset} is aborted",
            open.producer_id
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(partition: i32) -> PartitionProducer {
        PartitionProducer {
            topic: "orders".into(),
            partition,
            producer_id: 7,
            producer_epoch: 1,
            last_sequence: Some(0),
            coordinator_epoch: None,
            last_timestamp_ms: 1_000,
            transaction_start: Some(40),
        }
    }

    fn known(producer_id: i64, partitions: &[i32]) -> TransactionDescription {
        TransactionDescription {
            transactional_id: "billing".into(),
            state: "Ongoing".into(),
            producer_id,
            producer_epoch: 2,
            timeout_ms: 60_000,
            started_ms: Some(0),
            partitions: [("orders".to_owned(), partitions.to_vec())].into(),
        }
    }

    #[test]
    fn what_hangs_is_in_no_transaction_of_its_producer() {
        assert!(owner(&open(3), &[known(7, &[0, 3])]).is_some());
        for others in [known(7, &[0]), known(7, &[]), known(8, &[0, 3])] {
            assert_eq!(owner(&open(3), &[others]), None);
        }
        assert_eq!(owner(&open(3), &[]), None);
    }

    #[test]
    fn only_what_is_open_and_silent_is_overdue() {
        let bound = Duration::from_secs(1);
        assert!(is_overdue(&open(0), 2_000, bound));
        assert!(!is_overdue(&open(0), 1_999, bound));
        assert!(
            !is_overdue(&open(0), 500, bound),
            "clocks differ by a little"
        );
        let ended = PartitionProducer {
            transaction_start: None,
            ..open(0)
        };
        assert!(!is_overdue(&ended, 2_000, bound));
    }
}
