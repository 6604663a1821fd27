//! Produce: versions 3 to 12 (record batches of magic 2; version 0 is advertised for old librdkafka, see the table).
//!
//! - Every batch is checked and appended when the request is started, in the order of arrival, so that pipelined requests
//!   keep their order; `acks=1` is answered then, `acks=all` when the records are below the high watermark, `acks=0` never.
//! - One batch for each partition, as Kafka demands. A partition that is refused does not stop the others.
//! - Every record is looked at before (`log::validate`): a batch that is not what its header says is INVALID_RECORD, a record out of
//!   the topic's times INVALID_TIMESTAMP, one without a key in a compacted topic INVALID_RECORD, with the records' indexes (KIP-467).
//! - A topic with plugins goes through `placement`. What a plugin refuses, and the single record that it cannot take, is
//!   INVALID_RECORD with the records' indexes (KIP-467); a batch that a plugin refuses as a whole POLICY_VIOLATION. A plugin that
//!   fails, is suspended, missing or overloaded is NOT_ENOUGH_REPLICAS with its name and the reason: a failure that passes must not
//!   lose the record, and this is the code on which every client tries again (`plugin_code` says why).
//! - A batch is stored in its topic's codec (`compression.type`); where its producer used another, it is compressed again.
//! - zstd below version 7 is UNSUPPORTED_COMPRESSION_TYPE (KIP-110).
//! - `acks=0` with an error closes the connection, the only sign that the protocol leaves.
//!
//! A transactional batch is appended while its transaction is held open. Up to version 11 its partition must have been added
//! (AddPartitionsToTxn); from 12 on producing adds it (KIP-890). Needs WRITE on the transactional id besides.
//! A fenced producer is INVALID_PRODUCER_EPOCH; a partition outside the transaction TRANSACTION_ABORTABLE, INVALID_TXN_STATE before
//! version 11; and while the last transaction is being ended CONCURRENT_TRANSACTIONS, before version 12 NOT_ENOUGH_REPLICAS, on
//! which old clients try again.

use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::{Operation, ResourceType};
use crate::coordinator::transaction::{ClientVersion, Producer, Target, TransactionError};
use crate::kafka::ResponseError;
use crate::kafka::apis::{Answer, FirstError, IntoAnswer, ServeError};
use crate::kafka::context::Context;
use crate::kafka::error::{append_code, plugin_code, transaction_code};
use crate::kafka::lanes::{Later, Membership, Passage, Passing};
use crate::kafka::placement::{Placed, PlacementError};
use crate::kafka::resources;
use crate::kafka::topics::TopicHandle;
use crate::log::batch::{Batch, BatchHeader, Compression};
use crate::log::{AppendError, Appended, Commit, PartitionLog, RecordError};
use crate::plugin::RecordReject;
use crate::types::Offset;

pub const VERSIONS: RangeInclusive<i16> = 3..=12;

const ZSTD_FROM: i16 = 7;
const ABORTABLE_FROM: i16 = 11;
const ADDS_PARTITIONS_FROM: i16 = 12;

/// The answer, or with `acks=0` the lack of one.
#[derive(Debug)]
pub struct ProduceAnswer {
    response: ProduceResponse,
    silent: bool,
}

impl IntoAnswer for ProduceAnswer {
    fn into_answer(self, context: &Context, correlation_id: i32) -> Result<Answer, ServeError> {
        let error = self.response.first_error();
        match (self.silent, error) {
            (false, _) => self.response.into_answer(context, correlation_id),
            (true, 0) => Ok(Answer { reply: None, error }),
            (true, _) => Err(ServeError::Close(
                "a produce request with acks=0 failed".to_owned(),
            )),
        }
    }
}

/// Why one partition's records were not accepted.
struct Refusal {
    code: ResponseError,
    message: String,
    records: Vec<RecordError>,
}

impl Refusal {
    fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            records: Vec::new(),
        }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let mut refusal = Self::new(append_code(&error), error.to_string());
        if let AppendError::Records(refused) = error {
            refusal.records = refused.records;
        }
        refusal
    }
}

impl Refusal {
    fn of_placement(version: i16, error: PlacementError) -> Self {
        match error {
            PlacementError::Append(error) => error.into(),
            PlacementError::Transaction(error) => {
                Self::new(transaction_refusal(version, &error), error.to_string())
            }
            PlacementError::Plugin(failure) => {
                Self::new(plugin_code(&failure.kind), failure.to_string())
            }
            PlacementError::Rejected(records) => {
                let message = format!(
                    "{} of the batch's records were rejected by a plugin",
                    records.len()
                );
                let record = |RecordReject { index, message, .. }| RecordError { index, message };
                Self {
                    code: ResponseError::InvalidRecord,
                    message,
                    records: records.into_iter().map(record).collect(),
                }
            }
        }
    }
}

/// A partition's place in the answer: the topic's and its own.
type Place = (usize, usize);

/// What `acks=all` waits for, and where in the answer it belongs.
struct Wait {
    place: Place,
    log: Arc<PartitionLog>,
    offset: Offset,
}

/// What is to be awaited before the answer.
#[derive(Default)]
struct Awaited {
    commits: Vec<Wait>,
    /// Batches whose turn to go through plugins has not come.
    passing: Vec<(Place, Later)>,
}

impl Awaited {
    fn commit(&mut self, place: Place, waits: Vec<(Arc<PartitionLog>, Offset)>) {
        let wait = |(log, offset)| Wait { place, log, offset };
        self.commits.extend(waits.into_iter().map(wait));
    }
}

/// What all partitions of a request have in common.
struct Request<'a> {
    context: &'a Context,
    transactional_id: Option<String>,
    /// `acks=all`
    is_awaited: bool,
}

pub async fn handle(context: &Context, request: ProduceRequest) -> ProduceAnswer {
    let acks = request.acks;
    let is_awaited = acks == -1;
    let mut awaited = Awaited::default();
    let mut response = ProduceResponse::default();
    let (common, refused) = match check(context, &request) {
        Ok(common) => (common, None),
        Err(refusal) => (
            Request {
                context,
                transactional_id: None,
                is_awaited,
            },
            Some(refusal),
        ),
    };
    let writable = writable_topics(context, &request.topic_data);
    for (index, (topic, writable)) in request.topic_data.into_iter().zip(writable).enumerate() {
        let handle = match &refused {
            Some(refusal) => Err(Refusal::new(refusal.code, refusal.message.as_str())),
            None => writable,
        };
        response
            .responses
            .push(produce_topic(&common, index, topic, handle, &mut awaited));
    }
    await_passing(context.version, &mut awaited, &mut response).await;
    if is_awaited {
        await_commits(context, awaited.commits, &mut response).await;
    }
    ProduceAnswer {
        response,
        silent: acks == 0,
    }
}

/// What can be said of the request as a whole.
fn check<'a>(context: &'a Context, request: &ProduceRequest) -> Result<Request<'a>, Refusal> {
    if !(-1..=1).contains(&request.acks) {
        let message = format!("acks must be -1 (all), 0 or 1, not {}", request.acks);
        return Err(Refusal::new(ResponseError::InvalidRequiredAcks, message));
    }
    let id = request.transactional_id.as_ref();
    let transactional_id = id
        .map(|id| resources::transactional_id(context, Operation::Write, id))
        .transpose()
        .map_err(|code| Refusal::new(code, "writing with this transactional id is refused"))?;
    Ok(Request {
        context,
        transactional_id,
        is_awaited: request.acks == -1,
    })
}

/// For each topic of the request its handle, if the principal may write to it.
fn writable_topics(
    context: &Context,
    topics: &[TopicProduceData],
) -> Vec<Result<Arc<TopicHandle>, Refusal>> {
    let inner: Vec<Result<String, ResponseError>> = topics
        .iter()
        .map(|topic| context.topic_in(&topic.name))
        .collect();
    let names: Vec<&str> = inner.iter().flatten().map(String::as_str).collect();
    let mut allowed = context
        .authorize_each(Operation::Write, ResourceType::Topic, &names)
        .into_iter();
    let handle = |name: &Result<String, ResponseError>| {
        let name = name
            .as_ref()
            .map_err(|error| Refusal::new(*error, "illegal topic name"))?;
        if !allowed.next().unwrap_or(false) {
            let message = format!("{} may not write to topic {name}", context.principal());
            return Err(Refusal::new(
                ResponseError::TopicAuthorizationFailed,
                message,
            ));
        }
        let handle = context.services.topics.get(name).ok_or_else(|| {
            Refusal::new(
                ResponseError::UnknownTopicOrPartition,
                format!("topic {name} does not exist"),
            )
        })?;
        if handle.topic.internal {
            let message = format!("{name} is written by the broker alone");
            return Err(Refusal::new(ResponseError::InvalidTopicException, message));
        }
        Ok(handle)
    };
    inner.iter().map(handle).collect()
}

fn produce_topic(
    request: &Request<'_>,
    index: usize,
    topic: TopicProduceData,
    handle: Result<Arc<TopicHandle>, Refusal>,
    awaited: &mut Awaited,
) -> TopicProduceResponse {
    let version = request.context.version;
    let mut partitions = Vec::with_capacity(topic.partition_data.len());
    for data in topic.partition_data {
        let produced = match &handle {
            Ok(handle) => produce_partition(request, handle, &data),
            Err(refusal) => Err(Refusal::new(refusal.code, refusal.message.as_str())),
        };
        let place = (index, partitions.len());
        partitions.push(match produced {
            Ok(Passing::Done(Ok(placed))) => {
                awaited.commit(place, placed.waits);
                written(version, data.index, &placed.appended)
            }
            Ok(Passing::Done(Err(error))) => {
                let refusal = Refusal::of_placement(version, error);
                refuse(version, &topic.name, data.index, refusal)
            }
            Ok(Passing::Later(later)) => {
                awaited.passing.push((place, later));
                accepted(version, data.index)
            }
            Err(refusal) => refuse(version, &topic.name, data.index, refusal),
        });
    }
    TopicProduceResponse::default()
        .with_name(topic.name)
        .with_partition_responses(partitions)
}

fn accepted(version: i16, index: i32) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    if version >= 5 {
        answer.with_log_start_offset(-1)
    } else {
        answer
    }
}

fn written(version: i16, index: i32, appended: &Appended) -> PartitionProduceResponse {
    accepted(version, index)
        .with_base_offset(appended.base_offset)
        .with_log_append_time_ms(appended.log_append_time.unwrap_or(-1))
        .with_log_start_offset(if version >= 5 {
            appended.log_start_offset
        } else {
            -1
        })
}

fn refuse(
    version: i16,
    topic: &TopicName,
    index: i32,
    refusal: Refusal,
) -> PartitionProduceResponse {
    tracing::debug!(topic = topic.as_str(), partition = index, code = %refusal.code, message = %refusal.message, "produce refused");
    let mut answer = accepted(version, index)
        .with_error_code(refusal.code.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1);
    if version >= 8 {
        let record = |reject: RecordError| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(i32::try_from(reject.index).unwrap_or(i32::MAX))
                .with_batch_index_error_message(Some(StrBytes::from_string(reject.message)))
        };
        answer.record_errors = refusal.records.into_iter().map(record).collect();
        answer.error_message = Some(StrBytes::from_string(refusal.message));
    }
    answer
}

fn produce_partition(
    request: &Request<'_>,
    handle: &Arc<TopicHandle>,
    data: &PartitionProduceData,
) -> Result<Passing, Refusal> {
    let log = handle.log(data.index).ok_or_else(|| {
        let count = handle.logs.len();
        let message = format!(
            "topic {} has {count} partitions, no partition {}",
            handle.topic.name, data.index
        );
        Refusal::new(ResponseError::UnknownTopicOrPartition, message)
    })?;
    let batch = only_batch(request, (handle, data.index), log, data.records.clone())?;
    let transaction = match batch.header.is_transactional() {
        true => Some(membership(request)?),
        false => None,
    };
    let index = usize::try_from(data.index).unwrap_or(usize::MAX);
    let plugins = handle.is_placed || handle.plugins().next().is_some();
    match handle.lanes.get(index) {
        Some(lane) if plugins || lane.is_busy() => {
            let passage = Passage {
                services: request.context.services.clone(),
                topic: handle.clone(),
                partition: data.index,
                batch,
                transaction,
            };
            Ok(passage.start(lane, request.context.session.number))
        }
        _ => append(request, (handle, data.index, log), batch, transaction)
            .map(|placed| Passing::Done(Ok(placed))),
    }
}

/// The way of a batch without plugins: appended as it came, at once.
fn append(
    request: &Request<'_>,
    (handle, partition, log): (&TopicHandle, i32, &Arc<PartitionLog>),
    batch: Batch,
    transaction: Option<Membership>,
) -> Result<Placed, Refusal> {
    let (bytes, records) = (
        batch.bytes.len() as u64,
        u64::try_from(batch.header.record_count).unwrap_or(0),
    );
    let producer = Producer {
        id: batch.header.producer_id,
        epoch: batch.header.producer_epoch,
    };
    let write = || match request.is_awaited {
        true => log.append_awaited(batch),
        false => log.append(batch),
    };
    let services = &request.context.services;
    let appended = match &transaction {
        None => write()?,
        Some(membership) => {
            let target = Target {
                transactional_id: &membership.transactional_id,
                producer,
                topic: handle.topic.name.as_str(),
                partition,
                version: membership.version,
            };
            // While the transaction cannot end.
            services
                .transactions
                .write(&target, write)
                .map_err(|error| {
                    let code = transaction_refusal(request.context.version, &error);
                    Refusal::new(code, error.to_string())
                })??
        }
    };
    if !appended.duplicate {
        services
            .metrics
            .produced(handle.topic.name.as_str(), bytes, records);
    }
    Ok(Placed {
        appended,
        waits: vec![(log.clone(), appended.last_offset)],
    })
}

fn membership(request: &Request<'_>) -> Result<Membership, Refusal> {
    let id = request.transactional_id.clone().ok_or_else(|| {
        Refusal::new(
            ResponseError::TransactionalIdAuthorizationFailed,
            "a transactional batch needs a request with a transactional id",
        )
    })?;
    Ok(Membership {
        transactional_id: id,
        version: match request.context.version < ADDS_PARTITIONS_FROM {
            true => ClientVersion::KeepsEpoch,
            false => ClientVersion::BumpsEpoch,
        },
    })
}

/// Old versions are told with codes on which their clients do the right thing.
fn transaction_refusal(version: i16, error: &TransactionError) -> ResponseError {
    match transaction_code(error) {
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        ResponseError::TransactionAbortable if version < ABORTABLE_FROM => {
            ResponseError::InvalidTxnState
        }
        ResponseError::ConcurrentTransactions if version < ADDS_PARTITIONS_FROM => {
            ResponseError::NotEnoughReplicas
        }
        ResponseError::CoordinatorNotAvailable => ResponseError::NotEnoughReplicas,
        code => code,
    }
}

/// The batch for a partition, checked as its topic says.
fn only_batch(
    request: &Request<'_>,
    (handle, index): (&TopicHandle, i32),
    log: &PartitionLog,
    records: Option<Bytes>,
) -> Result<Batch, Refusal> {
    let records = records.unwrap_or_default();
    let version = request.context.version;
    let compression = BatchHeader::read(&records).and_then(|header| header.compression());
    if compression == Some(Compression::Zstd) && version < ZSTD_FROM {
        return Err(Refusal::new(
            ResponseError::UnsupportedCompressionType,
            format!("zstd needs Produce version {ZSTD_FROM} or newer, not {version} (KIP-110)"),
        ));
    }
    let admitted = log.admit(records);
    let admitted = admitted.and_then(|batch| log.in_topics_codec(batch));
    admitted.map_err(|error| {
        let mut refusal = Refusal::from(error);
        let name = &handle.topic.name;
        refusal.message = format!("topic {name} partition {index}: {}", refusal.message);
        refusal
    })
}

/// Answers when what was appended is durable. All partitions are registered first and synced side by side, after the
/// requests that arrived together with this one were started: then one sync is for all of them.
async fn await_commits(context: &Context, waits: Vec<Wait>, response: &mut ProduceResponse) {
    let commit = |wait: Wait| (wait.log.commit(wait.offset), wait);
    let mut commits: Vec<_> = waits.into_iter().map(commit).collect();
    let is_pending =
        |(commit, _): &(Result<Commit, _>, _)| commit.as_ref().is_ok_and(Commit::is_pending);
    if commits.iter().any(is_pending) {
        polled_again().await;
        let made = commits
            .iter_mut()
            .filter_map(|(commit, _)| commit.as_mut().ok());
        made.for_each(Commit::hurry);
    }
    for (commit, wait) in commits {
        let outcome = match commit {
            Ok(mut commit) => commit.wait().await,
            Err(error) => Err(error),
        };
        let Err(error) = outcome else {
            continue;
        };
        answer_at(response, wait.place, |topic, index| {
            refuse(context.version, topic, index, error.into())
        });
    }
}

/// Answers for the batches that went through plugins elsewhere, in whatever order they come.
async fn await_passing(version: i16, awaited: &mut Awaited, response: &mut ProduceResponse) {
    for (place, later) in std::mem::take(&mut awaited.passing) {
        let outcome = later.outcome().await;
        answer_at(response, place, |topic, index| match outcome {
            Ok(placed) => {
                awaited.commit(place, placed.waits);
                written(version, index, &placed.appended)
            }
            Err(error) => refuse(version, topic, index, Refusal::of_placement(version, error)),
        });
    }
}

fn answer_at(
    response: &mut ProduceResponse,
    (topic, partition): Place,
    answer: impl FnOnce(&TopicName, i32) -> PartitionProduceResponse,
) {
    let topic = &mut response.responses[topic];
    let index = topic.partition_responses[partition].index;
    topic.partition_responses[partition] = answer(&topic.name, index);
}

/// Lets the caller go on: it starts the requests that have arrived, and then asks for the answers.
async fn polled_again() {
    let mut is_first = true;
    poll_fn(|cx| match std::mem::replace(&mut is_first, false) {
        true => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        false => Poll::Ready(()),
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::transaction::Refusal as Refused;

    #[test]
    fn old_versions_are_told_with_the_codes_that_they_know() {
        let code = |version, refused: Refused| transaction_refusal(version, &refused.into()).code();
        let table = [
            (3, Refused::Fenced, 47),
            (12, Refused::Fenced, 47),
            (10, Refused::NotInTransaction, 48),
            (11, Refused::NotInTransaction, 120),
            (11, Refused::Concurrent, 19),
            (12, Refused::Concurrent, 51),
            (12, Refused::ProducerIdMapping, 49),
        ];
        for (version, refused, expected) in table {
            assert_eq!(
                code(version, refused.clone()),
                expected,
                "{version} {refused}"
            );
        }
    }
}
