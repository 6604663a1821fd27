//! Fetch: versions 4 to 17. Topic names to version 12, topic ids from 13 (KIP-516).
//!
//! - Long poll: waits until `min_bytes` (or `max_bytes`, when that is less) are there, a partition errs, or `max_wait_ms` is over,
//!   and not at all for a reader with more before it in a later segment than it was given. The wait is woken by the logs; nothing
//!   polls.
//! - What was acknowledged before it was synced (`acks=1`) is synced now, when otherwise the answer would be empty: at most the
//!   longer of `max_wait_ms` and a second.
//! - `max_bytes` bounds the answer and `partition_max_bytes` each partition, both under the broker's own bound; the first
//!   partition with data gives at least one batch, however large (KIP-74). Partitions are served in the order asked for.
//! - Consumers see records below the high watermark; with `read_committed` (KIP-98) below the last stable offset, and with the
//!   list of aborted transactions whose records the client has to pass over. Batches go out as they were stored, without a copy.
//! - What is going to be read is reserved from the answers' budget before, and held until the answer is written. Where that is used up
//!   an answer is smaller than asked for, and waits for one batch's memory at least. Who waits for records holds nothing.
//! - Incremental sessions (KIP-227) are refused as the protocol allows: the answer's session id is 0, and a request that
//!   continues a session is FETCH_SESSION_ID_NOT_FOUND.
//!
//! Left out: replicas' fetches, leader epochs other than 0, preferred read replicas.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::Encodable;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::catalog::Operation;
use crate::env::budget::{Permit, SMALL_BYTES, Wanted};
use crate::env::{self, buffers};
use crate::kafka::ResponseError;
use crate::kafka::apis::{Answer, IntoAnswer, ServeError};
use crate::kafka::context::Context;
use crate::kafka::error::read_code;
use crate::kafka::resources::{self, TopicReference};
use crate::kafka::topics::TopicHandle;
use crate::log::{Isolation, PartitionLog, ReadError, Records, catch_up};
use crate::types::TopicId;

pub const VERSIONS: RangeInclusive<i16> = 4..=17;

/// Longer waits would only hold connections; Kafka's clients ask for half a second.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The longest that a request which would wait less is held up for the disk.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(1);

/// One topic as asked for.
struct Target {
    name: TopicName,
    id: Uuid,
    handle: Result<Arc<TopicHandle>, ResponseError>,
    partitions: Vec<FetchPartition>,
}

/// One partition's answer: the fields around the records, and the records.
struct Partition {
    data: PartitionData,
    records: Bytes,
}

/// The answer. It writes its own bytes, so that records are not copied into it.
pub struct FetchAnswer {
    error: i16,
    topics: Vec<(TopicName, Uuid, Vec<Partition>)>,
}

pub async fn handle(context: &Context, request: FetchRequest) -> FetchAnswer {
    // Epoch 0 asks for a new session, −1 for none; every other continues one, and none was ever given.
    if request.session_id != 0 && request.session_epoch > 0 {
        return FetchAnswer {
            error: ResponseError::FetchSessionIdNotFound.code(),
            topics: Vec::new(),
        };
    }
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
    let begun = Instant::now();
    let deadline = begun + wait;
    let isolation = Isolation::from_code(request.isolation_level);
    let max_bytes = u32::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(context.services.config.broker.fetch_max_bytes) as usize;
    let min_bytes = usize::try_from(request.min_bytes)
        .unwrap_or(0)
        .min(max_bytes);
    let targets = resolve(context, request);
    let waiter = Arc::new(Notify::new());
    let mut has_caught_up = false;
    loop {
        // Registered before the read: what is appended in between wakes the wait below.
        if !wait.is_zero() {
            targets
                .iter()
                .flat_map(Target::logs)
                .for_each(|log| log.wake_on_progress(&waiter));
        }
        let (mut read, mut reserved) = read_reserved(context, &targets, max_bytes, isolation).await;
        let enough = read.bytes >= min_bytes.min(reserved.enough())
            || read.failed
            || read.is_behind
            || targets.is_empty();
        if !enough && Instant::now() < deadline {
            // Who waits holds nothing: what was read is read again.
            let nothing = Some((read, reserved)).filter(|(read, _)| read.bytes == 0);
            let is_woken = timeout_at(deadline, waiter.notified()).await.is_ok();
            match nothing {
                Some(nothing) if !is_woken => (read, reserved) = nothing,
                _ => continue,
            }
        }
        // Who waits is not held up for one partition when there is something of another.
        let is_patient = !wait.is_zero() && min_bytes > 0;
        if has_caught_up || (is_patient && read.bytes > 0) {
            return answer(context, &targets, read, reserved);
        }
        let unseen: Vec<_> = unseen(&targets, &read).cloned().collect();
        if unseen.is_empty() {
            return answer(context, &targets, read, reserved);
        }
        drop((read, reserved));
        let limit = wait.max(CATCH_UP_LIMIT).saturating_sub(begun.elapsed());
        catch_up(&unseen, limit).await;
        has_caught_up = true;
    }
}

/// The logs that have something at the offset asked for which nobody sees yet, for it is not synced.
fn unseen<'a>(
    targets: &'a [Target],
    read: &'a ReadPass,
) -> impl Iterator<Item = &'a Arc<PartitionLog>> {
    let asked = targets.iter().flat_map(|target| {
        let partitions = target.partitions.iter();
        partitions.map(move |partition| (target, partition))
    });
    asked
        .zip(&read.partitions)
        .filter_map(|((target, partition), read)| {
            let seen = read.as_ref().ok()?.high_watermark;
            let log = target.handle.as_ref().ok()?.log(partition.partition)?;
            let held = seen..log.offsets().log_end;
            held.contains(&partition.fetch_offset).then_some(log)
        })
}

/// Up to this size an answer takes no part in the budget: what a connection has of such answers unwritten is bounded.
const FREE_BYTES: usize = 4 << 10;
/// Where the budget is used up, an answer waits for so much at least: a batch of the usual largest size, in a buffer for it.
const LEAST_BYTES: u64 = 2 << 20;

/// A wait that is none: the memory was there.
const SHORT_WAIT: Duration = Duration::from_millis(1);

/// Memory for an answer: how much may be read, and the permit for it.
struct Reserved {
    bytes: usize,
    /// Less than was asked for.
    is_tight: bool,
    permit: Option<Permit>,
}

impl Reserved {
    const NONE: Self = Self {
        bytes: 0,
        is_tight: false,
        permit: None,
    };

    /// Reserves memory to read so many bytes into buffers of such a footprint; less of it where that is all there is, but `least`.
    async fn reserve(context: &Context, bytes: usize, footprint: usize, least: usize) -> Self {
        if footprint <= FREE_BYTES {
            return Self {
                bytes,
                ..Self::NONE
            };
        }
        let most = footprint as u64;
        let answers = &context.services.memory.answers;
        let mut permit = answers.of(most).open(context.party());
        let least = if most <= SMALL_BYTES {
            most
        } else {
            most.min(LEAST_BYTES.max(least as u64))
        };
        let since = Instant::now();
        let granted = permit.draw(Wanted { least, most }).await;
        let waited = since.elapsed();
        if granted < most || waited > SHORT_WAIT {
            let metrics = &context.services.metrics;
            metrics.throttled("answer-bytes", waited);
        }
        let is_tight = granted < most;
        let tight = usize::try_from(granted / 2).unwrap_or(usize::MAX);
        Self {
            bytes: if is_tight { tight.max(1) } else { bytes },
            is_tight,
            permit: Some(permit),
        }
    }

    /// From how many bytes on an answer is not worth to wait with, whatever the client asks for.
    fn enough(&self) -> usize {
        if self.is_tight { 1 } else { usize::MAX }
    }
}

/// One pass over the partitions, with memory reserved for what it read.
async fn read_reserved(
    context: &Context,
    targets: &[Target],
    max_bytes: usize,
    isolation: Isolation,
) -> (ReadPass, Reserved) {
    let (bytes, footprint) = demand(targets, max_bytes, isolation);
    let mut reserved = Reserved::reserve(context, bytes, footprint, 0).await;
    loop {
        let read = read_all(targets, reserved.bytes, isolation).await;
        let Some(size) = read.larger else {
            return (read, reserved);
        };
        // The first batch alone is more than was reserved.
        drop((read, reserved));
        let footprint = buffers::footprint(size);
        reserved = Reserved::reserve(context, size, footprint, footprint).await;
    }
}

/// What a pass would read at most, and the footprint of the buffers for it.
fn demand(targets: &[Target], max_bytes: usize, isolation: Isolation) -> (usize, usize) {
    let mut demand = (0, 0);
    for target in targets {
        let Ok(handle) = &target.handle else { continue };
        for partition in &target.partitions {
            let Some(log) = handle.log(partition.partition) else {
                continue;
            };
            let readable = log.readable_bytes(partition.fetch_offset, isolation);
            // The first batch comes even if it is larger than the client asks for.
            let asked = usize::try_from(partition.partition_max_bytes).unwrap_or(0);
            let bytes = readable
                .min(asked.max(1))
                .min(max_bytes.saturating_sub(demand.0).max(1));
            demand.0 += bytes;
            demand.1 += buffers::footprint(bytes);
        }
    }
    demand
}

impl Target {
    fn logs(&self) -> impl Iterator<Item = &Arc<PartitionLog>> {
        let handle = self.handle.as_ref().ok();
        self.partitions
            .iter()
            .filter_map(move |partition| handle?.log(partition.partition))
    }
}

fn resolve(context: &Context, request: FetchRequest) -> Vec<Target> {
    let by_id = context.version >= 13;
    let references = request.topics.iter().map(|topic| match by_id {
        true => TopicReference::Id(TopicId(topic.topic_id)),
        false => TopicReference::Name(&topic.topic),
    });
    let handles = resources::handles(context, Operation::Read, references);
    let targets = request.topics.into_iter().zip(handles);
    let target = |(topic, handle): (FetchTopic, _)| Target {
        handle,
        name: topic.topic,
        id: topic.topic_id,
        partitions: topic.partitions,
    };
    targets.map(target).collect()
}

/// What one pass over the partitions read, in the order asked for.
struct ReadPass {
    partitions: Vec<Result<Records, ResponseError>>,
    bytes: usize,
    failed: bool,
    /// More of a partition lies in a later segment.
    is_behind: bool,
    isolation: Isolation,
    /// The size of a first batch that there was no room for.
    larger: Option<usize>,
}

async fn read_all(targets: &[Target], max_bytes: usize, isolation: Isolation) -> ReadPass {
    let mut pass = ReadPass {
        partitions: Vec::new(),
        bytes: 0,
        failed: false,
        is_behind: false,
        isolation,
        larger: None,
    };
    for target in targets {
        for partition in &target.partitions {
            let limits = Limits {
                max_bytes: max_bytes.saturating_sub(pass.bytes),
                first_up_to: if pass.bytes == 0 { max_bytes } else { 0 },
                isolation,
            };
            let read = match read_one(target, partition, limits).await {
                Ok(read) => read,
                Err(size) => {
                    pass.larger = Some(size);
                    return pass;
                }
            };
            match &read {
                Ok(records) => {
                    pass.bytes += records.bytes.len();
                    pass.is_behind |= records.is_behind;
                }
                Err(_) => pass.failed = true,
            }
            pass.partitions.push(read);
        }
    }
    pass
}

/// What the request allows the next read.
#[derive(Clone, Copy)]
struct Limits {
    max_bytes: usize,
    /// The size up to which a first batch is given that is larger than was asked for.
    first_up_to: usize,
    isolation: Isolation,
}

/// `Err`: the size of a first batch that there is no room for.
async fn read_one(
    target: &Target,
    partition: &FetchPartition,
    limits: Limits,
) -> Result<Result<Records, ResponseError>, usize> {
    let (handle, log) = match opened(target, partition) {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    let from = partition.fetch_offset;
    let max_bytes = usize::try_from(partition.partition_max_bytes)
        .unwrap_or(0)
        .min(limits.max_bytes);
    let read = move |log: &PartitionLog| {
        log.read_within(from, max_bytes, limits.first_up_to, limits.isolation)
    };
    let read = if log.is_hot(from) {
        read(log)
    } else {
        let log = log.clone();
        let read = env::blocking(move || read(&log)).await;
        read.unwrap_or_else(|error| Err(ReadError::Storage(error.to_string())))
    };
    if let Err(ReadError::Larger { size }) = read {
        return Err(size);
    }
    Ok(read.map_err(|error| {
        if !matches!(error, ReadError::OutOfRange { .. }) {
            tracing::warn!(topic = %handle.topic.name, partition = partition.partition, %error, "fetch failed");
        }
        read_code(&error)
    }))
}

fn opened<'a>(
    target: &'a Target,
    partition: &FetchPartition,
) -> Result<(&'a TopicHandle, &'a Arc<PartitionLog>), ResponseError> {
    let handle = target.handle.as_ref().map_err(|error| *error)?;
    let log = handle
        .log(partition.partition)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    if partition.current_leader_epoch > 0 {
        return Err(ResponseError::UnknownLeaderEpoch);
    }
    Ok((handle, log))
}

fn answer(
    context: &Context,
    targets: &[Target],
    pass: ReadPass,
    reserved: Reserved,
) -> FetchAnswer {
    let mut reads = pass.partitions.into_iter();
    let mut topics = Vec::with_capacity(targets.len());
    for target in targets {
        let mut bytes = 0;
        let mut partitions = Vec::with_capacity(target.partitions.len());
        for partition in &target.partitions {
            let read = reads
                .next()
                .unwrap_or(Err(ResponseError::UnknownServerError));
            bytes += read.as_ref().map_or(0, |records| records.bytes.len());
            let mut answer = partition_answer(context.version, partition.partition, read);
            if pass.isolation == Isolation::ReadUncommitted {
                answer.data.aborted_transactions = None;
            }
            partitions.push(answer);
        }
        if let (Ok(handle), true) = (&target.handle, bytes > 0) {
            context
                .services
                .metrics
                .fetched(handle.topic.name.as_str(), bytes as u64);
        }
        topics.push((target.name.clone(), target.id, partitions));
    }
    hold(&mut topics, reserved);
    FetchAnswer { error: 0, topics }
}

/// Lets the last records of an answer hold what is reserved for all of them, until they are written.
fn hold(topics: &mut [(TopicName, Uuid, Vec<Partition>)], reserved: Reserved) {
    let Some(mut permit) = reserved.permit else {
        return;
    };
    let partitions = || topics.iter().flat_map(|(_, _, partitions)| partitions);
    let lengths = partitions().map(|partition| partition.records.len());
    let footprint: usize = lengths.map(buffers::footprint).sum();
    permit.shrink_to(footprint as u64);
    let partitions = topics.iter_mut().flat_map(|(_, _, partitions)| partitions);
    let last = partitions.filter(|partition| !partition.records.is_empty());
    if let Some(last) = last.last() {
        last.records = permit.keep(std::mem::take(&mut last.records));
    }
}

fn partition_answer(version: i16, index: i32, read: Result<Records, ResponseError>) -> Partition {
    let data = PartitionData::default()
        .with_partition_index(index)
        .with_records(None);
    match read {
        Ok(records) => {
            let aborted = records.aborted.iter().map(|one| {
                AbortedTransaction::default()
                    .with_producer_id(one.producer_id.into())
                    .with_first_offset(one.first_offset)
            });
            let data = data
                .with_high_watermark(records.high_watermark)
                .with_last_stable_offset(records.last_stable_offset)
                .with_aborted_transactions(Some(aborted.collect()))
                .with_log_start_offset(if version >= 5 {
                    records.log_start_offset
                } else {
                    -1
                });
            Partition {
                data,
                records: records.bytes,
            }
        }
        Err(error) => {
            let data = data
                .with_error_code(error.code())
                .with_high_watermark(-1)
                .with_last_stable_offset(-1);
            Partition {
                data,
                records: Bytes::new(),
            }
        }
    }
}

impl IntoAnswer for FetchAnswer {
    fn into_answer(self, context: &Context, correlation_id: i32) -> Result<Answer, ServeError> {
        let partitions = || self.topics.iter().flat_map(|(_, _, partitions)| partitions);
        let first = partitions()
            .map(|partition| partition.data.error_code)
            .find(|code| *code != 0);
        let error = if self.error != 0 {
            self.error
        } else {
            first.unwrap_or(0)
        };
        let reply = encode(&self, context.version, correlation_id).map_err(ServeError::Encode)?;
        Ok(Answer {
            reply: Some(reply),
            error,
        })
    }
}

/// Writes FetchResponse around the records, which stay the buffers that the log read them into. `PartitionData` is encoded
/// with null records, whose few bytes at its end are then replaced by the length of the real ones.
fn encode(answer: &FetchAnswer, version: i16, correlation_id: i32) -> Result<Vec<Bytes>, String> {
    let flexible = version >= 12;
    let mut chunks = Vec::new();
    let mut buffer = BytesMut::with_capacity(256);
    buffer.put_i32(correlation_id);
    if flexible {
        put_varint(&mut buffer, 0);
    }
    buffer.put_i32(0); // throttle time
    if version >= 7 {
        buffer.put_i16(answer.error);
        buffer.put_i32(0); // session id: none is given
    }
    put_count(&mut buffer, answer.topics.len(), flexible);
    for (name, id, partitions) in &answer.topics {
        match version {
            13.. => buffer.put_slice(id.as_bytes()),
            12 => {
                put_varint(&mut buffer, name.len() + 1);
                buffer.put_slice(name.as_bytes());
            }
            _ => {
                buffer
                    .put_i16(i16::try_from(name.len()).map_err(|_| "a topic's name is too long")?);
                buffer.put_slice(name.as_bytes());
            }
        }
        put_count(&mut buffer, partitions.len(), flexible);
        for partition in partitions {
            partition
                .data
                .encode(&mut buffer, version)
                .map_err(|error| error.to_string())?;
            let length = partition.records.len();
            if flexible {
                buffer.truncate(buffer.len() - 2); // null records and no tagged fields
                put_varint(&mut buffer, length + 1);
            } else {
                buffer.truncate(buffer.len() - 4); // null records
                buffer.put_i32(
                    i32::try_from(length).map_err(|_| "a partition's records are too large")?,
                );
            }
            if length > 0 {
                chunks.push(buffer.split().freeze());
                chunks.push(partition.records.clone());
            }
            if flexible {
                put_varint(&mut buffer, 0);
            }
        }
        if flexible {
            put_varint(&mut buffer, 0);
        }
    }
    if flexible {
        put_varint(&mut buffer, 0);
    }
    chunks.push(buffer.freeze());
    Ok(chunks)
}

fn put_count(buffer: &mut BytesMut, count: usize, flexible: bool) {
    if flexible {
        put_varint(buffer, count + 1);
    } else {
        buffer.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
    }
}

/// An unsigned varint (KIP-482): seven bits a byte, the lowest first.
fn put_varint(buffer: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        buffer.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{FetchResponse, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, HeaderVersion, StrBytes};

    use super::*;

    #[test]
    fn every_version_decodes_to_what_was_meant() {
        for version in VERSIONS {
            let records = Records {
                bytes: Bytes::from(vec![7; 300]),
                high_watermark: 9,
                ..Records::default()
            };
            let partitions = vec![
                partition_answer(version, 0, Ok(records)),
                partition_answer(version, 1, Err(ResponseError::OffsetOutOfRange)),
                partition_answer(version, 2, Ok(Records::default())),
            ];
            let name = TopicName(StrBytes::from_static_str("orders"));
            let answer = FetchAnswer {
                error: 0,
                topics: vec![(name, Uuid::from_u128(5), partitions)],
            };
            let mut bytes = Bytes::from(encode(&answer, version, 42).expect("encodes").concat());
            let header = ResponseHeader::decode(&mut bytes, FetchResponse::header_version(version))
                .expect("a header");
            let response = FetchResponse::decode(&mut bytes, version).expect("a response");
            assert!(
                bytes.is_empty(),
                "version {version} leaves {} bytes",
                bytes.len()
            );
            assert_eq!(header.correlation_id, 42);
            let partitions = &response.responses[0].partitions;
            assert_eq!(
                partitions[0].records.as_ref().map(Bytes::len),
                Some(300),
                "version {version}"
            );
            assert_eq!(partitions[0].high_watermark, 9);
            assert_eq!(
                partitions[1].error_code,
                ResponseError::OffsetOutOfRange.code()
            );
            assert_eq!(partitions[2].records.as_ref().map(Bytes::len), Some(0));
        }
    }
}
