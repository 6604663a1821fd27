//! CreatePartitions (key 37), versions 0–3: raises topics' partition counts.
//!
//! Needs ALTER on each topic. The count is the new total; a smaller or equal one is INVALID_PARTITIONS. An explicit
//! assignment may name this node alone, once for each new partition. The broker's own topics keep their partitions, because
//! groups hash to them. A topic that is named twice is refused once. `validate_only` checks and changes nothing; the timeout
//! has nothing to bound. Version 2 is flexible; 1 and 3 differ in codes alone.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, TopicName,
};

use crate::catalog::Operation;
use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::kafka::resources;
use crate::kafka::settings::{refusal, topic};
use crate::kafka::topics::TopicError;

pub const VERSIONS: RangeInclusive<i16> = 0..=3;

pub async fn handle(
    context: &Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let names = request.topics.iter().map(|topic| topic.name.clone());
    let twice = resources::duplicates(names);
    let mut results = Vec::new();
    for topic in resources::distinct(request.topics, |topic| topic.name.clone()) {
        let outcome = if twice.contains(&topic.name) {
            Err(refusal(
                ResponseError::InvalidRequest,
                "the topic is named more than once",
            ))
        } else {
            grow(context, &topic, request.validate_only).await
        };
        results.push(result(topic.name, outcome));
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn grow(
    context: &Context,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), TopicError> {
    let handle = topic(context, Operation::Alter, &asked.name)?;
    let name = handle.topic.name.as_str();
    if handle.topic.internal {
        return Err(refusal(
            ResponseError::InvalidTopicException,
            format!("topic {name} is the broker's own and keeps its partitions"),
        ));
    }
    let node = BrokerId(context.services.config.broker.id);
    check_assignments(asked, handle.topic.partitions, node)?;
    let topics = &context.services.topics;
    topics.grow(name, asked.count, validate_only).await
}

fn check_assignments(
    asked: &CreatePartitionsTopic,
    partitions: i32,
    node: BrokerId,
) -> Result<(), TopicError> {
    let Some(assignments) = &asked.assignments else {
        return Ok(());
    };
    let more = asked.count.saturating_sub(partitions);
    let one_each = usize::try_from(more) == Ok(assignments.len());
    // A count that is too small is told as such, by who grows the topic.
    if more <= 0 || (one_each && assignments.iter().all(|a| a.broker_ids == [node])) {
        return Ok(());
    }
    Err(refusal(
        ResponseError::InvalidReplicaAssignment,
        format!(
            "an assignment must name node {} alone for each of {more} new partitions",
            node.0
        ),
    ))
}

fn result(name: TopicName, outcome: Result<(), TopicError>) -> CreatePartitionsTopicResult {
    let result = CreatePartitionsTopicResult::default().with_name(name);
    match outcome {
        Ok(()) => result,
        Err(error) => result
            .with_error_code(error.code.code())
            .with_error_message(message(error.message)),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;

    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn both_shapes_encode_in_every_version() {
        for version in VERSIONS {
            let error = refusal(ResponseError::InvalidPartitions, "fewer than there are");
            let name = || TopicName("orders".into());
            let results = vec![result(name(), Ok(())), result(name(), Err(error))];
            encodes(
                version,
                &CreatePartitionsResponse::default().with_results(results),
            );
        }
    }

    #[test]
    fn an_assignment_names_this_node_once_for_each_new_partition() {
        let check = |count: i32, nodes: &[i32]| {
            let assignments = nodes.iter().map(|node| {
                CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(*node)])
            });
            let asked = CreatePartitionsTopic::default()
                .with_count(count)
                .with_assignments(Some(assignments.collect()));
            check_assignments(&asked, 4, BrokerId(0)).is_ok()
        };
        assert!(check(6, &[0, 0]));
        assert!(!check(6, &[0]));
        assert!(!check(6, &[0, 1]));
        assert!(
            check(4, &[0]),
            "the count is what is wrong, and is told elsewhere"
        );
        let asked = CreatePartitionsTopic::default()
            .with_count(9)
            .with_assignments(None);
        assert!(check_assignments(&asked, 4, BrokerId(0)).is_ok());
    }
}
