//! The consumer's fetching task: one Fetch in flight at each leader, ahead of the application by a bounded queue.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
};
use tokio::time::Instant;

use super::partitions::{Fetched, Partition, PartitionKey, Partitions, StartAt};
use super::{ConsumerOptions, OffsetReset};
use crate::client::{Client, topic_name};
use crate::cluster::pool::Connections;
use crate::error::{Error, ErrorCode, Result, check};
use crate::net::api::Api;
use crate::options::Endpoint;
use crate::records::BatchHeader;

const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// After errors that an application has to mend (a missing permission).
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

type Asked = Vec<(PartitionKey, Partition)>;

enum Event {
    Fetched {
        endpoint: Endpoint,
        broker: Arc<str>,
        asked: Asked,
        result: Result<FetchResponse>,
    },
    Listed {
        endpoint: Endpoint,
        broker: Arc<str>,
        asked: Asked,
        result: Result<ListOffsetsResponse>,
    },
    Refreshed,
}

pub(crate) struct Fetcher {
    client: Client,
    options: ConsumerOptions,
    partitions: Arc<Partitions>,
    connections: Arc<Connections>,
    busy: HashSet<Endpoint>,
    /// Turned on with each request, so that no partition is always the last to fit in an answer.
    turn: usize,
    stale_topics: HashSet<Arc<str>>,
    refreshing: bool,
    events: FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>,
}

impl Fetcher {
    pub fn new(client: Client, options: ConsumerOptions, partitions: Arc<Partitions>) -> Self {
        Self {
            connections: Arc::new(client.connections()),
            client,
            options,
            partitions,
            busy: HashSet::new(),
            turn: 0,
            stale_topics: HashSet::new(),
            refreshing: false,
            events: FuturesUnordered::new(),
        }
    }

    /// Runs until its task is aborted.
    pub async fn run(mut self) {
        let partitions = self.partitions.clone();
        loop {
            let due = self.ask(Instant::now());
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = self.events.next(), if !self.events.is_empty() => self.handle(event),
                () = partitions.wanted.notified() => {}
                () = timer => {}
            }
        }
    }

    fn ask(&mut self, now: Instant) -> Option<Instant> {
        let (ready, due) = self.partitions.to_ask(now, self.options.prefetch_bytes);
        let mut by_leader: HashMap<Endpoint, Asked> = HashMap::new();
        for (key, partition) in ready {
            match self.client.leader(&key.0, key.1) {
                None => {
                    self.stale_topics.insert(key.0);
                }
                Some(endpoint) if !self.busy.contains(&endpoint) => {
                    by_leader
                        .entry(endpoint)
                        .or_default()
                        .push((key, partition));
                }
                Some(_) => {}
            }
        }
        for (endpoint, asked) in by_leader {
            self.ask_leader(endpoint, asked);
        }
        self.refresh_stale_topics();
        due
    }

    fn ask_leader(&mut self, endpoint: Endpoint, asked: Asked) {
        let (mut known, unknown): (Asked, Asked) = asked
            .into_iter()
            .partition(|(_, partition)| partition.fetch_from.query().is_none());
        self.busy.insert(endpoint.clone());
        let asked = if unknown.is_empty() {
            self.turn = self.turn.wrapping_add(1);
            let turn = self.turn % known.len().max(1);
            known.rotate_left(turn);
            known
        } else {
            unknown
        };
        let listing = asked
            .iter()
            .any(|(_, partition)| partition.fetch_from.query().is_some());
        for (key, partition) in &asked {
            self.partitions.asked(key, partition.term);
        }
        let connections = self.connections.clone();
        let timeout = self.client.options().request_timeout;
        if listing {
            let request = list_request(&asked, self.options.isolation_level());
            self.events.push(Box::pin(async move {
                let (broker, result) = call(&connections, &endpoint, &request, timeout).await;
                Event::Listed {
                    endpoint,
                    broker,
                    asked,
                    result,
                }
            }));
        } else {
            let request = fetch_request(&asked, &self.options);
            let patience = timeout + self.options.fetch_max_wait;
            self.events.push(Box::pin(async move {
                let (broker, result) = call(&connections, &endpoint, &request, patience).await;
                Event::Fetched {
                    endpoint,
                    broker,
                    asked,
                    result,
                }
            }));
        }
    }

    fn refresh_stale_topics(&mut self) {
        if self.refreshing || self.stale_topics.is_empty() {
            return;
        }
        self.refreshing = true;
        let topics = std::mem::take(&mut self.stale_topics);
        let client = self.client.clone();
        let create = self.options.allow_create;
        self.events.push(Box::pin(async move {
            let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            if let Err(error) = client.refresh(Some(&names), create).await {
                tracing::debug!(%error, "metadata is not to be had");
            }
            // A leader is elected in its own time.
            tokio::time::sleep(RETRY_PAUSE).await;
            Event::Refreshed
        }));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Refreshed => self.refreshing = false,
            Event::Fetched {
                endpoint,
                broker,
                asked,
                result,
            } => {
                self.busy.remove(&endpoint);
                let result = result.and_then(|response| {
                    check(
                        response.error_code,
                        &broker,
                        FetchRequest::NAME,
                        || "its partitions".into(),
                        None,
                    )?;
                    Ok(response)
                });
                match result {
                    Ok(response) => self.fetched(&broker, asked, response),
                    Err(error) => self.failed(&asked, &error),
                }
            }
            Event::Listed {
                endpoint,
                broker,
                asked,
                result,
            } => {
                self.busy.remove(&endpoint);
                match result {
                    Ok(response) => self.listed(&broker, asked, &response),
                    Err(error) => self.failed(&asked, &error),
                }
            }
        }
    }

    /// A whole request failed.
    fn failed(&mut self, asked: &Asked, error: &Error) {
        for (key, partition) in asked {
            self.troubled(key, partition, error.clone());
        }
    }

    /// Asks again after a rest; errors that do not pass by themselves are told to the application.
    fn troubled(&mut self, key: &PartitionKey, partition: &Partition, error: Error) {
        let retriable = error.is_retriable() || is_about_leader(&error);
        let pause = if retriable {
            RETRY_PAUSE
        } else {
            TROUBLE_PAUSE
        };
        self.partitions
            .ask_again(key, partition.term, Some(Instant::now() + pause));
        self.stale_topics.insert(key.0.clone());
        if retriable {
            tracing::debug!(%error, topic = %key.0, partition = key.1, "fetching again");
        } else {
            self.partitions.report(error);
        }
    }

    fn fetched(&mut self, broker: &Arc<str>, asked: Asked, response: FetchResponse) {
        let mut answers: HashMap<(String, i32), PartitionData> = HashMap::new();
        for topic in response.responses {
            let name = topic.topic.to_string();
            for partition in topic.partitions {
                answers.insert((name.clone(), partition.partition_index), partition);
            }
        }
        for (key, partition) in asked {
            match answers.remove(&(key.0.to_string(), key.1)) {
                None => self.partitions.ask_again(&key, partition.term, None),
                Some(data) => self.partition_fetched(broker, key, &partition, data),
            }
        }
    }

    fn partition_fetched(
        &mut self,
        broker: &Arc<str>,
        key: PartitionKey,
        partition: &Partition,
        data: PartitionData,
    ) {
        let subject = || format!("{}-{}", key.0, key.1);
        let checked = check(data.error_code, broker, FetchRequest::NAME, subject, None);
        match checked {
            Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
                return self.out_of_range(&key, partition, error);
            }
            Err(error) => return self.troubled(&key, partition, error),
            Ok(()) => {}
        }
        let StartAt::Offset(from) = partition.fetch_from else {
            return self.partitions.ask_again(&key, partition.term, None);
        };
        let bytes = data.records.unwrap_or_default();
        match next_offset(&bytes) {
            Next::Nothing => self.partitions.ask_again(&key, partition.term, None),
            Next::Offset(next) => {
                let mut aborted: Vec<(i64, i64)> = data
                    .aborted_transactions
                    .unwrap_or_default()
                    .iter()
                    .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
                    .collect();
                aborted.sort_by_key(|(_, first)| *first);
                let fetched = Fetched {
                    key,
                    term: partition.term,
                    bytes,
                    aborted,
                };
                self.partitions.fetched(fetched, next.max(from));
            }
            Next::TooLarge(size) => {
                let error = Error::Config(format!(
                    "{}-{}: the batch at offset {from} has {size} bytes, more than a fetch brings; raise partition_max_bytes",
                    key.0, key.1
                ));
                self.troubled(&key, partition, error);
            }
        }
    }

    fn out_of_range(&mut self, key: &PartitionKey, partition: &Partition, error: Error) {
        let start = match self.options.offset_reset {
            OffsetReset::Earliest => StartAt::Earliest,
            OffsetReset::Latest => StartAt::Latest,
            OffsetReset::Error => return self.troubled(key, partition, error),
        };
        tracing::info!(topic = %key.0, partition = key.1, from = ?partition.fetch_from, to = ?start, "offset out of range");
        self.partitions.reset(key, partition.term, start);
    }

    fn listed(&mut self, broker: &Arc<str>, asked: Asked, response: &ListOffsetsResponse) {
        let mut answers = BTreeMap::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                answers.insert(
                    (topic.name.to_string(), partition.partition_index),
                    partition,
                );
            }
        }
        for (key, partition) in asked {
            let Some(answer) = answers.get(&(key.0.to_string(), key.1)) else {
                let pause = Some(Instant::now() + RETRY_PAUSE);
                self.partitions.ask_again(&key, partition.term, pause);
                continue;
            };
            let subject = || format!("{}-{}", key.0, key.1);
            match check(
                answer.error_code,
                broker,
                ListOffsetsRequest::NAME,
                subject,
                None,
            ) {
                Err(error) => self.troubled(&key, &partition, error),
                // No record is as young as the time that was asked for: begin behind the newest.
                Ok(()) if answer.offset < 0 => {
                    self.partitions.reset(&key, partition.term, StartAt::Latest);
                }
                Ok(()) => self
                    .partitions
                    .resolved(&key, partition.term, answer.offset),
            }
        }
    }
}

async fn call<R: Api + Sync>(
    connections: &Connections,
    endpoint: &Endpoint,
    request: &R,
    timeout: Duration,
) -> (Arc<str>, Result<R::Response>) {
    match connections.get(endpoint).await {
        Ok(connection) => {
            let result = connection.call(request, timeout).await;
            (connection.broker().clone(), result)
        }
        Err(error) => (endpoint.to_string().into(), Err(error)),
    }
}

fn is_about_leader(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::OffsetNotAvailable
                | ErrorCode::UnknownTopicId
        )
    )
}

/// Consecutive partitions of one topic share an entry.
fn grouped<T>(
    asked: &Asked,
    mut entry: impl FnMut(&PartitionKey, &Partition) -> T,
) -> Vec<(Arc<str>, Vec<T>)> {
    let mut topics: Vec<(Arc<str>, Vec<T>)> = Vec::new();
    for (key, partition) in asked {
        let one = entry(key, partition);
        match topics.iter_mut().find(|(topic, _)| *topic == key.0) {
            Some((_, list)) => list.push(one),
            None => topics.push((key.0.clone(), vec![one])),
        }
    }
    topics
}

fn fetch_request(asked: &Asked, options: &ConsumerOptions) -> FetchRequest {
    let topics = grouped(asked, |key, partition| {
        let from = match partition.fetch_from {
            StartAt::Offset(offset) => offset,
            _ => 0,
        };
        FetchPartition::default()
            .with_partition(key.1)
            .with_fetch_offset(from)
            .with_partition_max_bytes(options.partition_max_bytes)
    });
    let topics = topics.into_iter().map(|(topic, partitions)| {
        FetchTopic::default()
            .with_topic(topic_name(&topic))
            .with_partitions(partitions)
    });
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(options.fetch_max_wait.as_millis() as i32)
        .with_min_bytes(options.fetch_min_bytes)
        .with_max_bytes(options.fetch_max_bytes)
        .with_isolation_level(options.isolation_level())
        // Without a fetch session (KIP-227): every request names its partitions.
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics.collect())
}

fn list_request(asked: &Asked, isolation_level: i8) -> ListOffsetsRequest {
    let topics = grouped(asked, |key, partition| {
        ListOffsetsPartition::default()
            .with_partition_index(key.1)
            .with_timestamp(partition.fetch_from.query().unwrap_or(-2))
    });
    let topics = topics.into_iter().map(|(topic, partitions)| {
        ListOffsetsTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(partitions)
    });
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(isolation_level)
        .with_topics(topics.collect())
}

#[derive(PartialEq, Eq, Debug)]
enum Next {
    Nothing,
    /// Behind the last whole batch; damage is left for the reader to report.
    Offset(i64),
    /// Not even one whole batch of so many bytes.
    TooLarge(usize),
}

fn next_offset(bytes: &Bytes) -> Next {
    let mut rest = bytes.clone();
    let mut next = Next::Nothing;
    while let Some(header) = BatchHeader::read(&rest) {
        match header {
            Err(error) => {
                return match next {
                    Next::Nothing => Next::Offset(error.offset),
                    known => known,
                };
            }
            Ok(header) if header.length > rest.len() => {
                return match next {
                    Next::Nothing => Next::TooLarge(header.length),
                    known => known,
                };
            }
            Ok(header) => {
                next = Next::Offset(header.next_offset());
                rest = rest.slice(header.length..);
            }
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchBuilder, Compression, ProducerStamp};

    #[test]
    fn the_next_fetch_begins_behind_the_last_whole_batch() {
        let mut builder = BatchBuilder::new();
        for _ in 0..3 {
            builder.push(0, None, None, &[]);
        }
        let batch = builder
            .seal(Compression::None)
            .unwrap()
            .stamped(ProducerStamp::NONE)
            .concat();
        let mut second = batch.clone();
        second[..8].copy_from_slice(&10i64.to_be_bytes());
        let both = [batch.clone(), second].concat();
        for (bytes, expected) in [
            (&[][..], Next::Nothing),
            (&batch[..], Next::Offset(3)),
            (&both[..], Next::Offset(13)),
            (&both[..both.len() - 1], Next::Offset(3)),
            (&batch[..batch.len() - 1], Next::TooLarge(batch.len())),
        ] {
            assert_eq!(next_offset(&Bytes::copy_from_slice(bytes)), expected);
        }
    }
}
