//! ListOffsets: the ends of a log, and the first record of a time.

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::Surroundings;
use crate::network::Request;
use crate::shadow::{Shadow, Target, code};
use crate::wire;

const VERSION: i16 = 7;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NOTHING: i64 = -1;
/// How far back times are asked for, in milliseconds.
const BACK_MS: u64 = 100_000;

/// What was known when it was asked.
#[derive(Clone, Copy, Debug)]
struct Known {
    timestamp: i64,
    /// The log began here or later.
    start: i64,
    /// All below could be seen.
    held_end: i64,
    /// At the time or later, and surely seen.
    first: Option<i64>,
}

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let target = around.any_target()?;
    let back = i64::try_from(around.random.below(BACK_MS)).unwrap_or(0);
    let timestamp = *around.random.pick(&[
        LATEST,
        EARLIEST,
        around.now_ms - back,
        around.now_ms - back / 1000,
    ])?;
    let partition = around.shadow.partition(&target)?;
    let known = Known {
        timestamp,
        start: partition.ends().0,
        held_end: partition.held_end(),
        first: partition.first_from(timestamp),
    };
    around.shadow.same(&target)?.flights += 1;
    let wanted = ListOffsetsPartition::default()
        .with_partition_index(target.partition)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(wire::topic_name(&target.topic))
        .with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![topic]);
    let line = around.line();
    let label = format!(
        "offset of time {timestamp} in {}-{}",
        target.topic, target.partition
    );
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            if let Some(topic) = shadow.same(&target) {
                topic.flights -= 1;
            }
            match answer {
                Some(answer) => settle(shadow, &target, known, &answer),
                None => Ok(()),
            }
        }),
    )
}

fn settle(
    shadow: &mut Shadow,
    target: &Target,
    known: Known,
    answer: &ListOffsetsResponse,
) -> Result<(), String> {
    let (had_fault, may_stop, now_ms) = (shadow.had_fault, shadow.may_stop, shadow.now_ms);
    let Some(topic) = shadow.same(target) else {
        return Ok(());
    };
    let expires = topic.ever_bounded || topic.min_retention_ms < now_ms - known.timestamp;
    let Some(partition) = shadow.partition(target) else {
        return Ok(());
    };
    let topic = answer.topics.first();
    let found = topic
        .and_then(|topic| topic.partitions.first())
        .ok_or("the answer names no partition")?;
    let must_stay = |first: &i64| !expires && !partition.may_be_removed(*first);
    let first = known.first.filter(must_stay);
    // Behind all that is held a search may meet what a failed call has left.
    let may_meet_hole = may_stop && known.timestamp >= 0 && first.is_none();
    match found.error_code {
        code::NONE => {}
        code::CORRUPT_MESSAGE if partition.has_damage() || may_meet_hole => return Ok(()),
        code::KAFKA_STORAGE_ERROR if had_fault => return Ok(()),
        error => return Err(format!("error {error}")),
    }
    let is_right = match known.timestamp {
        LATEST => found.offset >= known.held_end,
        EARLIEST => found.offset >= known.start,
        time => {
            let is_early = first.is_none_or(|first| (0..=first).contains(&found.offset));
            is_early && is_of_time(found, time, partition.timestamp_at(found.offset))
        }
    };
    if !is_right {
        return Err(format!(
            "the answer is offset {} of time {}; {known:?}",
            found.offset, found.timestamp
        ));
    }
    shadow.count("listed");
    Ok(())
}

fn is_of_time(found: &ListOffsetsPartitionResponse, time: i64, sent: Option<i64>) -> bool {
    found.offset == NOTHING
        || (found.timestamp >= time && sent.is_none_or(|sent| sent == found.timestamp))
}
