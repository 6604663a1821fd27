//! Produce without an identity: each batch is sent once, with any acks.

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use tidegate::log::records::BatchTemplate;

use super::Surroundings;
use crate::network::Request;
use crate::recording::Sender;
use crate::shadow::{Kind, Target, code};
use crate::wire;

pub(crate) const VERSION: i16 = 9;
const MAX_RECORDS: u64 = 8;
/// Of a hundred records of a compacted topic.
const TOMBSTONES: u64 = 25;

/// One batch for one partition.
pub(super) fn request(target: &Target, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(target.partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(wire::topic_name(&target.topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// What was answered about the one partition.
pub(super) fn outcome(answer: ProduceResponse) -> Result<PartitionProduceResponse, String> {
    let topic = answer.responses.into_iter().next();
    topic
        .and_then(|topic| topic.partition_responses.into_iter().next())
        .ok_or_else(|| "the answer names no partition".to_owned())
}

/// Some records.
pub(super) fn numbers(around: &mut Surroundings<'_>) -> Vec<u64> {
    let count = match around.random.percent(5) {
        true => 40,
        false => around.random.between(1, MAX_RECORDS),
    };
    around.shadow.numbers(usize::try_from(count).unwrap_or(1))
}

/// Some records for a partition; on a compacted topic tombstones are among them.
pub(super) fn numbers_for(around: &mut Surroundings<'_>, target: &Target) -> Vec<u64> {
    let mut numbers = numbers(around);
    let topic = around.shadow.topics.get(&target.topic);
    if topic.is_some_and(|topic| topic.kind == Kind::Compacted) {
        for number in &mut numbers {
            if around.random.percent(TOMBSTONES) {
                *number |= wire::TOMBSTONE;
            }
        }
    }
    numbers
}

/// Numbers for the trace.
pub(super) fn named(numbers: &[u64]) -> String {
    let first = numbers.first().map_or(0, |first| first & !wire::TOMBSTONE);
    format!("{first}..{}", first + numbers.len() as u64)
}

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let target = around.any_target()?;
    let numbers = numbers_for(around, &target);
    let acks = *around.random.pick(&[-1, -1, 1, 1, 0])?;
    let now = around.now_ms;
    let topic = around.shadow.same(&target)?;
    topic.flights += 1;
    let (synced, changes) = (topic.is_synced(), topic.durability_changes);
    around.shadow.partition(&target)?.send(&numbers, now, false);
    let batch = wire::batch(BatchTemplate::PLAIN, now, &numbers);
    let line = around.line();
    let label = format!(
        "produce {} to {}-{} with acks {acks}",
        named(&numbers),
        target.topic,
        target.partition
    );
    let request = request(&target, acks, batch);
    let sender = Sender::Plain { acks };
    let sent = around.shadow.recording.send(sender, &target, &numbers);
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            let Some(topic) = shadow.same(&target) else {
                return Ok(());
            };
            topic.flights -= 1;
            let held = acks == -1 && synced && topic.durability_changes == changes;
            let Some(answer) = answer else { return Ok(()) };
            let outcome = outcome(answer)?;
            match outcome.error_code {
                code::NONE => {
                    shadow.recording.acknowledge(sent, outcome.base_offset);
                    let partition = shadow.partition(&target).ok_or("no such partition")?;
                    partition.acknowledge(&numbers, outcome.base_offset, held)?;
                    shadow.count(if held { "held" } else { "acknowledged" });
                }
                // It may have been written.
                code::KAFKA_STORAGE_ERROR if shadow.had_fault => shadow.count("storage errors"),
                error => return Err(format!("refused with error {error}")),
            }
            Ok(())
        }),
    )
}
