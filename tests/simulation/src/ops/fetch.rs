//! Fetch: what a reader sees is whole, in order, and stays.

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use kafka_protocol::messages::fetch_response::PartitionData;
use tidegate_checker::Isolation;

use super::Surroundings;
use crate::network::Request;
use crate::shadow::transaction::Committed;
use crate::shadow::{Shadow, Target, code};
use crate::wire::{self, Read};

pub(crate) const VERSION: i16 = 12;

/// Asks for one partition from an offset on.
pub(crate) fn request(target: &Target, from: i64, max_bytes: i32) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(target.partition)
        .with_fetch_offset(from)
        .with_partition_max_bytes(max_bytes);
    let topic = FetchTopic::default()
        .with_topic(wire::topic_name(&target.topic))
        .with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(32 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// What a reader of committed records makes of an answer.
///
/// # Errors
/// When it shows what is not stable yet.
pub(crate) fn committed(data: &PartitionData, records: &[Read]) -> Result<Committed, String> {
    let last_stable = data.last_stable_offset;
    if last_stable > data.high_watermark {
        return Err(format!(
            "the last stable offset {last_stable} is past the high watermark {}",
            data.high_watermark
        ));
    }
    if let Some(last) = records.last().filter(|last| last.offset >= last_stable) {
        return Err(format!(
            "offset {} was given to a reader of what is committed; stable is what is below {last_stable}",
            last.offset
        ));
    }
    Ok(taken(data, records))
}

/// The answer as a reader of committed records takes it apart, whether it may be shown that or not.
fn taken(data: &PartitionData, records: &[Read]) -> Committed {
    let aborted = data.aborted_transactions.iter().flatten();
    let aborted = aborted.map(|one| (one.producer_id.0, one.first_offset));
    Committed::of(records, aborted.collect())
}

/// Compares what was read with the transactions' outcomes.
fn observe(shadow: &mut Shadow, target: &Target, seen: &Committed) -> Result<(), String> {
    if shadow.tells_outcomes(target) {
        shadow.transactions.observe(seen)?;
        shadow.count("fetched committed");
    }
    Ok(())
}

fn check_end(records: &[Read], high_watermark: i64) -> Result<(), String> {
    match records.last() {
        Some(last) if last.offset >= high_watermark => Err(format!(
            "records at or past the high watermark {high_watermark}"
        )),
        _ => Ok(()),
    }
}

fn may_be_unreadable(shadow: &mut Shadow, target: &Target, offset: i64) -> bool {
    let faults = (shadow.may_stop, shadow.now_ms);
    let partition = shadow.partition(target);
    partition.is_some_and(|partition| partition.may_be_unreadable(offset, faults))
}

/// Nothing is missing that must be there.
fn check_lost(
    shadow: &mut Shadow,
    target: &Target,
    (from, until): (i64, i64),
    records: &[Read],
) -> Result<(), String> {
    let now_ms = shadow.now_ms;
    let found = records.iter().filter_map(Read::number).collect();
    let partition = shadow.partition(target).ok_or("no such partition")?;
    match partition.lost(from..until, &found, now_ms) {
        Some((offset, number)) => Err(format!("record {number} at offset {offset} is missing")),
        None => Ok(()),
    }
}

/// Where a reader begins: near the end more often than not, and now and then below the first record.
fn beginning(around: &mut Surroundings<'_>, target: &Target) -> Option<i64> {
    let (start, end) = around.shadow.partition(target)?.ends();
    let span = u64::try_from(end - start).unwrap_or(0);
    let back = match around.random.percent(60) {
        true => around.random.below(span.min(10) + 1),
        false => around.random.below(span + 1),
    };
    let is_below = start > 0 && around.random.percent(5);
    Some(match is_below {
        true => start - 1,
        false => end - i64::try_from(back).unwrap_or(0),
    })
}

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let target = around.any_target()?;
    let start = around.shadow.partition(&target)?.ends().0;
    let from = beginning(around, &target)?;
    // What was deleted stays so.
    let is_below = from < start;
    let max_bytes = *around.random.pick(&[1, 1000, 1 << 20])?;
    let wait = *around.random.pick(&[0, 0, 50])?;
    let topic = around.shadow.same(&target)?;
    topic.flights += 1;
    let (synced, changes) = (!topic.ever_os, topic.durability_changes);
    let is_committed = around.random.percent(40);
    let isolation = match is_committed {
        true => Isolation::ReadCommitted,
        false => Isolation::ReadUncommitted,
    };
    let asked = around.shadow.recording.ask(&target, isolation, from);
    let request = request(&target, from, max_bytes)
        .with_isolation_level(i8::from(is_committed))
        .with_max_wait_ms(wait)
        .with_min_bytes(i32::from(wait > 0));
    let line = around.line();
    let label = format!(
        "fetch {}-{} from {from}, committed: {is_committed}",
        target.topic, target.partition
    );
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            let Some(topic) = shadow.same(&target) else {
                return Ok(());
            };
            topic.flights -= 1;
            let held = synced && topic.durability_changes == changes;
            let Some(answer) = answer else { return Ok(()) };
            let topic = answer.responses.into_iter().next();
            let data = topic
                .and_then(|topic| topic.partitions.into_iter().next())
                .ok_or("the answer names no partition")?;
            match data.error_code {
                code::NONE if is_below => return Err(format!("the log starts at {start}")),
                code::NONE => {}
                code::CORRUPT_MESSAGE if may_be_unreadable(shadow, &target, from) => return Ok(()),
                // Retention may have passed, and what was only appended may be gone.
                code::OFFSET_OUT_OF_RANGE => return Ok(()),
                code::KAFKA_STORAGE_ERROR if shadow.had_fault => return Ok(()),
                error => return Err(format!("error {error}")),
            }
            let bytes = data.records.clone().unwrap_or_default();
            let until = wire::next_offset(&bytes).unwrap_or(from);
            let records = wire::read_from(bytes, from)?;
            let shown = is_committed.then(|| taken(&data, &records));
            let recording = &mut shadow.recording;
            recording.read(asked, (&records, shown.as_ref()), until);
            check_end(&records, data.high_watermark)?;
            let partition = shadow.partition(&target).ok_or("no such partition")?;
            partition.read((from, until), &records, held)?;
            check_lost(shadow, &target, (from, until), &records)?;
            if is_committed {
                let seen = committed(&data, &records)?;
                observe(shadow, &target, &seen)?;
            }
            shadow.count("fetched");
            Ok(())
        }),
    )
}
