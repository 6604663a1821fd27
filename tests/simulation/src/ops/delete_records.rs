//! DeleteRecords: once it was answered the log begins there or later, whatever ends the broker; what lies above stays.

use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};

use super::Surroundings;
use crate::network::Request;
use crate::shadow::{Kind, code};
use crate::wire;

const VERSION: i16 = 2;
/// Deletes whatever can be seen.
const ALL: i64 = -1;

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let target = around.any_target()?;
    let (start, end) = around.shadow.partition(&target)?.ends();
    let span = u64::try_from(end - start).unwrap_or(0);
    let below = match around.random.below(20) {
        0 => ALL,
        1 => end + 10_000,
        _ => start + i64::try_from(around.random.below(span + 1)).unwrap_or(0),
    };
    let partition = around.shadow.partition(&target)?;
    let held_end = partition.held_end();
    partition.ask_delete(if below == ALL {
        i64::MAX
    } else {
        below.min(end)
    });
    let topic = around.shadow.same(&target)?;
    topic.flights += 1;
    let is_refused = topic.kind == Kind::Compacted;
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(target.partition)
        .with_offset(below);
    let topic = DeleteRecordsTopic::default()
        .with_name(wire::topic_name(&target.topic))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    let line = around.line();
    let label = format!(
        "delete records of {}-{} below {below}",
        target.topic, target.partition
    );
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            let had_fault = shadow.had_fault;
            let Some(topic) = shadow.same(&target) else {
                return Ok(());
            };
            topic.flights -= 1;
            let Some(answer) = answer else { return Ok(()) };
            let topic = answer.topics.first();
            let answered = topic
                .and_then(|topic| topic.partitions.first())
                .ok_or("the answer names no partition")?;
            let partition = shadow.partition(&target).ok_or("no such partition")?;
            match answered.error_code {
                code::NONE if is_refused => Err("a compacted topic lost records".into()),
                code::NONE if answered.low_watermark < below.max(start) => Err(format!(
                    "the log starts at {} after it",
                    answered.low_watermark
                )),
                code::NONE => {
                    shadow.count("deletions");
                    let partition = shadow.partition(&target).ok_or("no such partition")?;
                    partition.begin_at(answered.low_watermark);
                    Ok(())
                }
                code::POLICY_VIOLATION if is_refused => Ok(()),
                // It may not have been appended yet, or not synced within the request's time.
                code::OFFSET_OUT_OF_RANGE | code::REQUEST_TIMED_OUT if below > held_end => Ok(()),
                code::KAFKA_STORAGE_ERROR if had_fault => Ok(()),
                error => Err(format!(
                    "refused with error {error} ({:?})",
                    partition.ends()
                )),
            }
        }),
    )
}
