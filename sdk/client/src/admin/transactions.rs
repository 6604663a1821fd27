//! Transactional ids and their transactions, and what partitions know of them.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, InitProducerIdRequest,
    ListTransactionsRequest, ProducerId, TransactionalId, WriteTxnMarkersRequest,
};

use super::{Admin, Outcome, Target, has_moved};
use crate::client::{str_bytes, topic_name};
use crate::cluster::retry::Retry;
use crate::error::{Error, ErrorCode, Result};
use crate::net::api::Api;
use crate::options::Endpoint;

/// Which transactional ids; the default is all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TransactionFilter {
    /// Any of these, by the names in [`TransactionDescription::state`]; empty: all.
    pub states: Vec<String>,
    /// Any of these; empty: all.
    pub producer_ids: Vec<i64>,
    /// Those whose transaction has been open for longer (KIP-994).
    pub open_for_longer_than: Option<Duration>,
    /// Those that this regular expression matches as a whole (KIP-1152).
    pub id_pattern: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionDescription {
    pub transactional_id: String,
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit` or `CompleteAbort`.
    pub state: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub timeout_ms: i32,
    /// In ms since 1970; `None` when there was no transaction yet.
    pub started_ms: Option<i64>,
    /// By topic: what the transaction that is open has written to.
    pub partitions: BTreeMap<String, Vec<i32>>,
}

/// What a partition knows of one idempotent or transactional producer (KIP-664).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionProducer {
    pub topic: String,
    pub partition: i32,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// `None` when nothing was numbered in its epoch.
    pub last_sequence: Option<i32>,
    /// Of the coordinator that wrote the last marker; `None` before the first.
    pub coordinator_epoch: Option<i32>,
    /// When it was last heard of, in ms since 1970.
    pub last_timestamp_ms: i64,
    /// The first offset of the transaction that is open here.
    pub transaction_start: Option<i64>,
}

impl Admin {
    /// The transactional ids of every broker that the filter lets pass, sorted.
    pub async fn transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<Vec<TransactionDescription>> {
        self.client.refresh(Some(&[]), false).await?;
        let metadata = self.client.metadata();
        let mut all = Vec::new();
        for endpoint in metadata.brokers.values() {
            let target = Target::Broker(endpoint);
            let ids = self.list_transactions(target, filter).await?;
            if ids.is_empty() {
                continue;
            }
            let describe = DescribeTransactionsRequest::default().with_transactional_ids(ids);
            let (broker, described) = self.ask(target, &describe).await?;
            let outcome = Outcome {
                broker: &broker,
                api: DescribeTransactionsRequest::NAME,
            };
            for state in described.transaction_states {
                let subject = format!("transactional id {}", &*state.transactional_id);
                match outcome.of(subject, state.error_code, None) {
                    Ok(()) => all.push(description(state)),
                    // Forgotten since it was listed.
                    Err(error) if error.code() == Some(ErrorCode::TransactionalIdNotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        all.sort_by(|one, other| one.transactional_id.cmp(&other.transactional_id));
        Ok(all)
    }

    async fn list_transactions(
        &self,
        target: Target<'_>,
        filter: &TransactionFilter,
    ) -> Result<Vec<TransactionalId>> {
        let longest = filter.open_for_longer_than;
        let longest = longest.map_or(-1, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX));
        let states = filter.states.iter().map(|state| str_bytes(state));
        let ids = filter.producer_ids.iter().map(|id| ProducerId(*id));
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.collect())
            .with_producer_id_filters(ids.collect())
            .with_duration_filter(longest)
            .with_transactional_id_pattern(filter.id_pattern.as_deref().map(str_bytes));
        let (broker, listed) = self.ask(target, &request).await?;
        let outcome = Outcome {
            broker: &broker,
            api: ListTransactionsRequest::NAME,
        };
        outcome.of("its transactions".into(), listed.error_code, None)?;
        if let Some(unknown) = listed.unknown_state_filters.first() {
            let message = format!("{} is no state of a transaction", unknown.as_str());
            return Err(Error::InvalidInput(message));
        }
        let ids = listed.transaction_states.into_iter();
        Ok(ids.map(|state| state.transactional_id).collect())
    }

    /// The producers that the partitions of a topic know, by partition.
    pub async fn partition_producers(&self, topic: &str) -> Result<Vec<PartitionProducer>> {
        let known = self.client.topic(topic, false).await?;
        let mut by_leader: BTreeMap<Endpoint, Vec<i32>> = BTreeMap::new();
        for partition in &known.partitions {
            let leader = self.client.find_leader(topic, partition.index).await?;
            by_leader.entry(leader).or_default().push(partition.index);
        }
        let mut found = Vec::new();
        for (leader, partitions) in by_leader {
            let wanted = TopicRequest::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(partitions);
            let request = DescribeProducersRequest::default().with_topics(vec![wanted]);
            let (broker, response) = self.ask(Target::Broker(&leader), &request).await?;
            let outcome = Outcome {
                broker: &broker,
                api: DescribeProducersRequest::NAME,
            };
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let index = partition.partition_index;
                let message = partition.error_message.as_deref();
                outcome.of(format!("{topic}-{index}"), partition.error_code, message)?;
                found.extend(partition.active_producers.iter().map(|producer| {
                    PartitionProducer {
                        topic: topic.to_owned(),
                        partition: index,
                        producer_id: producer.producer_id.0,
                        // Epochs are two bytes long wherever they are used.
                        producer_epoch: producer.producer_epoch as i16,
                        last_sequence: Some(producer.last_sequence).filter(|it| *it >= 0),
                        coordinator_epoch: Some(producer.coordinator_epoch).filter(|it| *it >= 0),
                        last_timestamp_ms: producer.last_timestamp,
                        transaction_start: Some(producer.current_txn_start_offset)
                            .filter(|offset| *offset >= 0),
                    }
                }));
            }
        }
        found.sort_by_key(|producer| (producer.partition, producer.producer_id));
        Ok(found)
    }

    /// Takes a transactional id over: its open transaction is aborted as a whole, and whoever holds the id is fenced. An id
    /// that does not exist is made.
    pub async fn fence_producer(&self, id: &str) -> Result<()> {
        let timeout = self.client.options().request_timeout;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(str_bytes(id))))
            .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let mut retry = Retry::within(self.client.options().retry_timeout);
        loop {
            let coordinator = self.client.find_transaction_coordinator(id).await?;
            let (broker, response) = self.ask(Target::Broker(&coordinator), &request).await?;
            let outcome = Outcome {
                broker: &broker,
                api: InitProducerIdRequest::NAME,
            };
            let subject = format!("transactional id {id}");
            match outcome.of(subject, response.error_code, None) {
                Ok(()) => return Ok(()),
                // The coordinator has moved, or has an end under way.
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// Aborts what a producer has open in one partition, past its coordinator: for what hangs because no coordinator knows it.
    /// Of a transaction that is known, the rest may still be committed.
    pub async fn abort_in_partition(&self, producer: &PartitionProducer) -> Result<()> {
        let (topic, index) = (producer.topic.as_str(), producer.partition);
        let written = WritableTxnMarkerTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![index]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(producer.producer_id))
            .with_producer_epoch(producer.producer_epoch)
            .with_coordinator_epoch(producer.coordinator_epoch.unwrap_or(0))
            .with_transaction_result(false)
            .with_topics(vec![written]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        let mut retry = Retry::within(self.client.options().retry_timeout);
        loop {
            let leader = self.client.find_leader(topic, index).await?;
            let (broker, response) = self.ask(Target::Broker(&leader), &request).await?;
            let outcome = Outcome {
                broker: &broker,
                api: WriteTxnMarkersRequest::NAME,
            };
            let subject = format!("{topic}-{index}");
            let topics = response.markers.iter().flat_map(|marker| &marker.topics);
            let Some(written) = topics.flat_map(|topic| &topic.partitions).next() else {
                return Err(outcome.missing(&subject));
            };
            match outcome.of(subject, written.error_code, None) {
                Err(error) if has_moved(&error) => {
                    retry.after(error).await?;
                    self.client.refresh(Some(&[topic]), false).await?;
                }
                done => return done,
            }
        }
    }
}

fn description(state: TransactionState) -> TransactionDescription {
    let topics = state.topics.into_iter();
    TransactionDescription {
        transactional_id: state.transactional_id.to_string(),
        state: state.transaction_state.to_string(),
        producer_id: state.producer_id.0,
        producer_epoch: state.producer_epoch,
        timeout_ms: state.transaction_timeout_ms,
        started_ms: Some(state.transaction_start_time_ms).filter(|at| *at >= 0),
        partitions: topics
            .map(|topic| (topic.topic.to_string(), topic.partitions))
            .collect(),
    }
}
