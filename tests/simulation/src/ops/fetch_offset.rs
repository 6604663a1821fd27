//! OffsetFetch: a group is told the position that it committed last.

use kafka_protocol::messages::OffsetFetchRequest;
use kafka_protocol::messages::OffsetFetchResponse;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;

use super::Surroundings;
use crate::network::Request;
use crate::shadow::{Position, Presence, Shadow, code};
use crate::wire;

pub(crate) const VERSION: i16 = 7;

/// Asks for one position.
pub(crate) fn request(position: &Position) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopic::default()
        .with_name(wire::topic_name(&position.topic))
        .with_partition_indexes(vec![position.partition]);
    OffsetFetchRequest::default()
        .with_group_id(wire::text(&position.group).into())
        .with_topics(Some(vec![topic]))
}

/// Compares the answer with what is known.
pub(crate) fn check(
    shadow: &Shadow,
    position: &Position,
    answer: &OffsetFetchResponse,
) -> Result<(), String> {
    let topic = answer.topics.first();
    let partition = topic.and_then(|topic| topic.partitions.first());
    let (found, error) = partition.map_or((-1, answer.error_code), |partition| {
        (partition.committed_offset, partition.error_code)
    });
    if error != code::NONE {
        return Err(format!("error {error}"));
    }
    match shadow.positions.get(position) {
        Some(committed) => committed
            .check(found)
            .map_err(|error| format!("{position:?}: {error}")),
        None => Ok(()),
    }
}

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let known: Vec<_> = around.shadow.positions.keys().cloned().collect();
    let position = around.random.pick(&known)?.clone();
    // What is on its way may be seen before or after.
    if around.shadow.positions.get(&position)?.is_committing {
        return None;
    }
    let request = request(&position);
    let line = around.line();
    let label = format!(
        "position of {} in {}-{}",
        position.group, position.topic, position.partition
    );
    let before = around.shadow.positions.get(&position)?.clone();
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            let Some(answer) = answer else { return Ok(()) };
            // Another commit came in between, or the topic's end.
            let is_there = shadow
                .topics
                .get(&position.topic)
                .is_some_and(|topic| topic.presence == Presence::Present);
            if !is_there || shadow.positions.get(&position) != Some(&before) {
                return Ok(());
            }

            check(shadow, &position, &answer)
        }),
    )
}
