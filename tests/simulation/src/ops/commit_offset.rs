//! OffsetCommit of a consumer that assigns its partitions itself: a position that was answered is the group's, until the next.

use kafka_protocol::messages::OffsetCommitRequest;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use super::Surroundings;
use crate::network::Request;
use crate::shadow::{Position, code};
use crate::wire;

const VERSION: i16 = 8;
const GROUPS: u64 = 2;

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let target = around.any_target()?;
    let position = Position {
        group: format!("group-{}", around.random.below(GROUPS)),
        topic: target.topic.clone(),
        partition: target.partition,
    };
    let committed = around.shadow.positions.entry(position.clone()).or_default();
    if committed.is_committing {
        return None;
    }
    // No position is committed twice, so that each tells its commit.
    let offset = i64::try_from(around.shadow.numbers(1)[0]).unwrap_or(0);
    around.shadow.positions.get_mut(&position)?.ask(offset);
    around.shadow.same(&target)?.flights += 1;
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(position.partition)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(wire::topic_name(&position.topic))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(wire::text(&position.group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let line = around.line();
    let label = format!(
        "commit {offset} of {}-{} for {}",
        position.topic, position.partition, position.group
    );
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            if let Some(topic) = shadow.same(&target) {
                topic.flights -= 1;
            }
            let had_fault = shadow.had_fault;
            let Some(committed) = shadow.positions.get_mut(&position) else {
                return Ok(());
            };
            committed.is_committing = false;
            let Some(answer) = answer else { return Ok(()) };
            let topic = answer.topics.first();
            let partition = topic.and_then(|topic| topic.partitions.first());
            match partition.map_or(-1, |partition| partition.error_code) {
                code::NONE => committed.acknowledge(offset),
                _ if had_fault => {}
                error => return Err(format!("refused with error {error}")),
            }
            shadow.count("positions");
            Ok(())
        }),
    )
}
