//! The producer's one task: takes ready batches to the leaders of their partitions and settles the answers.
//!
//! Whatever takes time (a connection, metadata, a producer id, an answer) runs as an *event* to come; the task itself
//! waits only for the next event, for new records, or for the next moment that something is due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProduceResponse, ProducerId,
};
use tokio::time::Instant;

use super::buffer::OpenBatch;
use super::delivery::{Failure, Placed};
use super::frame::{TopicBatches, encode};
use super::lane::{BatchAnswer, Lane, LaneBatch, Settled};
use super::{Acks, ProducerOptions, Shared};
use crate::client::Client;
use crate::cluster::pool::Connections;
use crate::error::{Error, ErrorCode, Result, check};
use crate::net::api::Api;
use crate::net::connection::Connection;
use crate::net::transport::lock;
use crate::options::Endpoint;
use crate::records::ProducerStamp;

/// Between attempts at the same thing.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Batches of one request, together.
const MAX_REQUEST_BYTES: usize = 16 << 20;

type LaneKey = (Arc<str>, i32);

enum Event {
    Connected(Endpoint, Result<Connection>),
    Refreshed(Result<()>),
    ProducerId(Result<(i64, i16)>),
    Answered {
        endpoint: Endpoint,
        broker: Arc<str>,
        batches: Vec<(LaneKey, u64)>,
        /// `None`: acks=0, written.
        result: Result<Option<ProduceResponse>>,
    },
}

#[derive(Default)]
struct Broker {
    connection: Option<Connection>,
    connecting: bool,
    /// Requests without an answer.
    in_flight: usize,
}

enum Identity {
    /// Not idempotent.
    Anonymous,
    Wanted,
    Asked,
    Known {
        producer_id: i64,
        epoch: i16,
    },
}

/// One request in the making.
#[derive(Default)]
struct Draft {
    bytes: usize,
    batches: BTreeMap<LaneKey, (u64, Vec<Bytes>)>,
}

pub(crate) struct Sender {
    client: Client,
    shared: Arc<Shared>,
    options: ProducerOptions,
    connections: Arc<Connections>,
    lanes: HashMap<LaneKey, Lane>,
    brokers: HashMap<Endpoint, Broker>,
    identity: Identity,
    /// The id is spent: once all lanes are quiet, a new one is asked for.
    renew: bool,
    stale_topics: BTreeSet<Arc<str>>,
    refreshing: bool,
    /// No connection, metadata or id is asked for before.
    rest_until: Option<Instant>,
    events: FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>,
}

impl Sender {
    pub fn new(client: Client, options: ProducerOptions, shared: Arc<Shared>) -> Self {
        let identity = if options.idempotent {
            Identity::Wanted
        } else {
            Identity::Anonymous
        };
        Self {
            connections: Arc::new(client.connections()),
            client,
            shared,
            options,
            lanes: HashMap::new(),
            brokers: HashMap::new(),
            identity,
            renew: false,
            stale_topics: BTreeSet::new(),
            refreshing: false,
            rest_until: None,
            events: FuturesUnordered::new(),
        }
    }

    pub async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let now = Instant::now();
            self.expire(now);
            let due = self.dispatch(now);
            {
                let buffer = lock(&shared.buffer);
                if buffer.closed && buffer.is_settled() {
                    return;
                }
            }
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = self.events.next(), if !self.events.is_empty() => self.handle(event),
                () = shared.wake.notified() => {}
                () = timer => {}
            }
        }
    }

    /// Sends all that can be sent now; returns when something will be due that no event announces.
    fn dispatch(&mut self, now: Instant) -> Option<Instant> {
        let quiet = self.lanes.values().all(Lane::is_quiet);
        if self.renew && quiet {
            self.renew = false;
            self.identity = Identity::Wanted;
            self.lanes.values_mut().for_each(Lane::restart);
        }
        let waiting = lock(&self.shared.buffer).waiting();
        if waiting.is_empty() && quiet {
            return None;
        }
        let rested = self.rest_until.is_none_or(|until| until <= now);
        if rested {
            self.rest_until = None;
            self.ask_identity();
        }
        if !matches!(self.identity, Identity::Wanted | Identity::Asked) {
            while self.dispatch_round(&waiting, now, rested) {}
        }
        if rested {
            self.refresh_stale_topics();
        }
        let lingering = waiting
            .iter()
            .map(|(_, _, ready_at)| *ready_at)
            .filter(|ready_at| *ready_at > now);
        let expiring = waiting
            .iter()
            .map(|(_, _, ready_at)| *ready_at + self.options.delivery_timeout);
        let lanes = self.lanes.values().filter_map(Lane::due);
        let lanes = lanes.filter(|due| *due > now);
        lingering
            .chain(expiring)
            .chain(lanes)
            .chain(self.rest_until)
            .min()
    }

    /// Makes at most one request for each broker; says whether it sent any.
    fn dispatch_round(
        &mut self,
        waiting: &[(Arc<str>, i32, Instant)],
        now: Instant,
        rested: bool,
    ) -> bool {
        let mut drafts: HashMap<Endpoint, Draft> = HashMap::new();
        let resendable: Vec<LaneKey> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.can_resend(now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in resendable {
            let Some(endpoint) = self.ready_broker(&key, rested) else {
                continue;
            };
            let draft = drafts.entry(endpoint).or_default();
            let stamp = self.stamp();
            if draft.bytes < MAX_REQUEST_BYTES
                && let Some(lane) = self.lanes.get_mut(&key)
                && let Some(batch) = lane.resend()
            {
                draft.add(key, batch, stamp);
            }
        }
        for (topic, partition, ready_at) in waiting {
            if self.renew || *ready_at > now {
                continue;
            }
            let key = (topic.clone(), *partition);
            let lane = self.lanes.entry(key.clone()).or_default();
            if lane.has_again() || !lane.has_room() {
                continue;
            }
            let Some(endpoint) = self.ready_broker(&key, rested) else {
                continue;
            };
            let draft = drafts.entry(endpoint).or_default();
            if draft.bytes >= MAX_REQUEST_BYTES || draft.batches.contains_key(&key) {
                continue;
            }
            let open = lock(&self.shared.buffer).take_ready(topic, *partition, now);
            if let Some(batch) = open.and_then(|open| self.seal(open)) {
                let stamp = self.stamp();
                let lane = self.lanes.entry(key.clone()).or_default();
                draft.add(key, lane.send(batch), stamp);
            }
        }
        let mut sent = false;
        for (endpoint, draft) in drafts {
            if !draft.batches.is_empty() {
                sent = true;
                self.send(endpoint, draft);
            }
        }
        sent
    }

    fn seal(&mut self, open: OpenBatch) -> Option<LaneBatch> {
        let deadline = open.created + self.options.delivery_timeout;
        match open.builder.seal(self.options.compression) {
            Ok(sealed) => Some(LaneBatch::new(
                open.id,
                sealed,
                open.outcome,
                deadline,
                open.reserved,
            )),
            Err(error) => {
                let error = Error::InvalidInput(format!("compression failed: {error}"));
                open.outcome.settle(Err(error.into()));
                self.release(open.id, open.reserved);
                None
            }
        }
    }

    /// With the sequence left open.
    fn stamp(&self) -> ProducerStamp {
        match self.identity {
            Identity::Known { producer_id, epoch } => ProducerStamp {
                producer_id,
                epoch,
                base_sequence: 0,
            },
            _ => ProducerStamp::NONE,
        }
    }

    /// The leader's address when a request can go there now; what is missing for that is asked for.
    fn ready_broker(&mut self, key: &LaneKey, rested: bool) -> Option<Endpoint> {
        let Some(endpoint) = self.client.leader(&key.0, key.1) else {
            self.stale_topics.insert(key.0.clone());
            return None;
        };
        let broker = self.brokers.entry(endpoint.clone()).or_default();
        match &broker.connection {
            Some(connection) if !connection.is_ended() => {
                (broker.in_flight < self.options.max_in_flight).then_some(endpoint)
            }
            _ => {
                if rested && !broker.connecting {
                    broker.connecting = true;
                    let connections = self.connections.clone();
                    self.events.push(Box::pin(async move {
                        let connection = connections.get(&endpoint).await;
                        Event::Connected(endpoint, connection)
                    }));
                }
                None
            }
        }
    }

    fn send(&mut self, endpoint: Endpoint, draft: Draft) {
        let broker = self.brokers.entry(endpoint.clone()).or_default();
        let Some(connection) = broker.connection.clone() else {
            return;
        };
        broker.in_flight += 1;
        let ids = draft
            .batches
            .iter()
            .map(|(key, (id, _))| (key.clone(), *id))
            .collect();
        let timeout = self.client.options().request_timeout;
        let acks = self.options.acks;
        let started = connection.version::<ProduceRequest>().and_then(|version| {
            let body = encode(
                version,
                acks.code(),
                timeout.as_millis() as i32,
                &draft.topics(),
            );
            if acks == Acks::None {
                let written = connection.start_unanswered::<ProduceRequest>(version, body)?;
                Ok(Started::Unanswered(written))
            } else {
                let answer = connection.start_encoded::<ProduceRequest>(version, body)?;
                Ok(Started::Answered(answer))
            }
        });
        self.events.push(Box::pin(async move {
            let result = match started {
                Err(error) => Err(error),
                Ok(Started::Unanswered(written)) => match written.await {
                    Ok(()) => Ok(None),
                    Err(_) => Err(Error::Disconnected {
                        broker: connection.broker().clone(),
                        reason: "it ended before the records were written".into(),
                    }),
                },
                Ok(Started::Answered(answer)) => {
                    // The broker itself waits as long for its replicas: give its answer time to arrive.
                    let patience = timeout + Duration::from_secs(5);
                    let answer = connection.within(patience, ProduceRequest::NAME, answer.wait());
                    answer.await.map(Some)
                }
            };
            Event::Answered {
                endpoint,
                broker: connection.broker().clone(),
                batches: ids,
                result,
            }
        }));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(endpoint, result) => {
                let broker = self.brokers.entry(endpoint).or_default();
                broker.connecting = false;
                match result {
                    Ok(connection) => broker.connection = Some(connection),
                    Err(error) => self.troubled(&error),
                }
            }
            Event::Refreshed(result) => {
                self.refreshing = false;
                if let Err(error) = result {
                    self.troubled(&error);
                }
            }
            Event::ProducerId(Ok((producer_id, epoch))) => {
                self.identity = Identity::Known { producer_id, epoch };
            }
            Event::ProducerId(Err(error)) => {
                self.identity = Identity::Wanted;
                self.troubled(&error);
            }
            Event::Answered {
                endpoint,
                broker,
                batches,
                result,
            } => {
                let state = self.brokers.entry(endpoint).or_default();
                state.in_flight = state.in_flight.saturating_sub(1);
                self.settle_request(&broker, batches, result);
            }
        }
    }

    /// Something that every batch needs failed: rest before the next attempt, or give up on what waits when no attempt
    /// can succeed.
    fn troubled(&mut self, error: &Error) {
        tracing::debug!(%error, "the producer rests");
        self.rest_until = Some(Instant::now() + RETRY_PAUSE);
        if error.is_retriable() {
            // The leader may have moved: what is known of every topic in use is in doubt.
            self.stale_topics
                .extend(self.lanes.keys().map(|(topic, _)| topic.clone()));
            return;
        }
        let failure = Failure::from(error.clone());
        let waiting = lock(&self.shared.buffer).take_expired(None);
        for (_, _, open) in waiting {
            open.outcome.settle(Err(failure.clone()));
            self.release(open.id, open.reserved);
        }
        let lanes: Vec<_> = self
            .lanes
            .values_mut()
            .filter(|lane| lane.has_again())
            .map(|lane| lane.abandon(&failure))
            .collect();
        lanes.into_iter().for_each(|settled| self.finish(settled));
    }

    fn settle_request(
        &mut self,
        broker: &Arc<str>,
        batches: Vec<(LaneKey, u64)>,
        result: Result<Option<ProduceResponse>>,
    ) {
        let mut answers: HashMap<(&str, i32), &PartitionProduceResponse> = HashMap::new();
        if let Ok(Some(response)) = &result {
            for topic in &response.responses {
                for partition in &topic.partition_responses {
                    answers.insert((topic.name.as_str(), partition.index), partition);
                }
            }
        }
        for (key, id) in batches {
            let answer = match (&result, answers.get(&(&*key.0, key.1))) {
                (Err(error), _) => self.request_failed(&key, error),
                (Ok(None), _) => BatchAnswer::Stored(Placed::default()),
                (Ok(Some(_)), Some(partition)) => self.partition_answer(broker, &key, partition),
                (Ok(Some(_)), None) => BatchAnswer::Again(Failure::from(Error::Malformed {
                    broker: broker.clone(),
                    what: ProduceRequest::NAME,
                    reason: format!("it says nothing of {}-{}", key.0, key.1),
                })),
            };
            let retry_at = Instant::now() + RETRY_PAUSE;
            if let Some(lane) = self.lanes.get_mut(&key) {
                let settled = lane.settle(id, answer, retry_at);
                self.finish(settled);
            }
        }
    }

    fn request_failed(&mut self, key: &LaneKey, error: &Error) -> BatchAnswer {
        self.stale_topics.insert(key.0.clone());
        let failure = Failure::from(error.clone());
        if error.is_retriable() && self.options.acks != Acks::None {
            BatchAnswer::Again(failure)
        } else {
            BatchAnswer::Refused(failure)
        }
    }

    fn partition_answer(
        &mut self,
        broker: &Arc<str>,
        key: &LaneKey,
        answer: &PartitionProduceResponse,
    ) -> BatchAnswer {
        let known = |value: i64| (value >= 0).then_some(value);
        let checked = check(
            answer.error_code,
            broker,
            ProduceRequest::NAME,
            || format!("{}-{}", key.0, key.1),
            answer.error_message.as_deref(),
        );
        let Err(error) = checked else {
            return BatchAnswer::Stored(Placed {
                base_offset: known(answer.base_offset),
                append_time: known(answer.log_append_time_ms),
            });
        };
        let blamed = answer.record_errors.iter().map(|record| {
            let reason = record.batch_index_error_message.as_deref();
            (record.batch_index, reason.unwrap_or("refused").to_owned())
        });
        let failure = Failure {
            blamed: blamed.collect(),
            error: error.clone(),
        };
        match error.code() {
            Some(ErrorCode::DuplicateSequenceNumber) => BatchAnswer::Stored(Placed::default()),
            Some(
                ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::ProducerFenced,
            ) if self.options.idempotent => BatchAnswer::SequenceGap(failure),
            _ if error.is_retriable() => {
                self.stale_topics.insert(key.0.clone());
                BatchAnswer::Again(failure)
            }
            _ => BatchAnswer::Refused(failure),
        }
    }

    fn expire(&mut self, now: Instant) {
        let timeout = self.options.delivery_timeout;
        let expired = match now.checked_sub(timeout) {
            Some(oldest) => lock(&self.shared.buffer).take_expired(Some(oldest)),
            None => Vec::new(),
        };
        for (topic, partition, open) in expired {
            let error = Error::Timeout {
                what: format!("delivery to {topic}-{partition}"),
                after: timeout,
            };
            open.outcome.settle(Err(error.into()));
            self.release(open.id, open.reserved);
        }
        let lanes: Vec<_> = self
            .lanes
            .iter_mut()
            .map(|((topic, partition), lane)| {
                lane.expire(now, timeout, || format!("{topic}-{partition}"))
            })
            .collect();
        lanes.into_iter().for_each(|settled| self.finish(settled));
    }

    fn finish(&mut self, settled: Settled) {
        self.renew |= settled.needs_new_id && self.options.idempotent;
        for (batch, fate) in settled.finished {
            batch.outcome.settle(fate);
            self.release(batch.id, batch.reserved);
        }
    }

    fn release(&self, id: u64, reserved: usize) {
        lock(&self.shared.buffer).settled(id);
        self.shared.memory.add_permits(reserved);
    }

    fn ask_identity(&mut self) {
        if !matches!(self.identity, Identity::Wanted) {
            return;
        }
        self.identity = Identity::Asked;
        let client = self.client.clone();
        self.events.push(Box::pin(async move {
            Event::ProducerId(ask_producer_id(&client).await)
        }));
    }

    fn refresh_stale_topics(&mut self) {
        if self.refreshing || self.stale_topics.is_empty() {
            return;
        }
        self.refreshing = true;
        self.rest_until = Some(Instant::now() + RETRY_PAUSE);
        let topics = std::mem::take(&mut self.stale_topics);
        let client = self.client.clone();
        self.events.push(Box::pin(async move {
            let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            Event::Refreshed(client.refresh(Some(&names), false).await.map(|_| ()))
        }));
    }
}

enum Started {
    Unanswered(tokio::sync::oneshot::Receiver<()>),
    Answered(crate::net::connection::Answer<ProduceRequest>),
}

impl Draft {
    fn add(&mut self, key: LaneKey, batch: &LaneBatch, stamp: ProducerStamp) {
        let base_sequence = if stamp == ProducerStamp::NONE {
            stamp.base_sequence
        } else {
            batch.sequence
        };
        let chunks = batch.sealed.stamped(ProducerStamp {
            base_sequence,
            ..stamp
        });
        self.bytes += batch.sealed.bytes();
        self.batches.insert(key, (batch.id, chunks.to_vec()));
    }

    fn topics(&self) -> Vec<TopicBatches> {
        let mut topics: Vec<TopicBatches> = Vec::new();
        for ((topic, partition), (_, chunks)) in &self.batches {
            let batch = (*partition, chunks.clone());
            match topics.last_mut().filter(|last| last.topic == *topic) {
                Some(last) => last.partitions.push(batch),
                None => topics.push(TopicBatches {
                    topic: topic.clone(),
                    partitions: vec![batch],
                }),
            }
        }
        topics
    }
}

async fn ask_producer_id(client: &Client) -> Result<(i64, i16)> {
    let connection = client.any_broker().await?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let response = connection
        .call(&request, client.options().request_timeout)
        .await?;
    check(
        response.error_code,
        connection.broker(),
        InitProducerIdRequest::NAME,
        || "an idempotent producer".into(),
        None,
    )?;
    Ok((response.producer_id.0, response.producer_epoch))
}

/// However the task ends, every record has its fate.
impl Drop for Sender {
    fn drop(&mut self) {
        let mut buffer = lock(&self.shared.buffer);
        buffer.closed = true;
        for outcome in buffer.unsettled() {
            outcome.settle(Err(Error::Closed.into()));
        }
        self.shared.memory.close();
    }
}
