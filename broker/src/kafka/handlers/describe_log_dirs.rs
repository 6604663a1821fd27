//! DescribeLogDirs (key 35), versions 1–4: how many bytes each partition takes in the data directory.
//!
//! Needs DESCRIBE on the cluster; without it the answer is empty, and from version 3 on carries the code. No topic list
//! (null) means every topic. There is one directory and no copy in the making, so the lag is 0. Version 2 is flexible.
//! Left out: the volume's size of version 4 is unknown (−1).

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};

use crate::catalog::Operation;
use crate::kafka::context::Context;
use crate::kafka::topics::TopicHandle;

pub const VERSIONS: RangeInclusive<i16> = 1..=4;

pub async fn handle(context: &Context, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    if !context.authorize_cluster(Operation::Describe) {
        let code = ResponseError::ClusterAuthorizationFailed.code();
        return DescribeLogDirsResponse::default().with_error_code(code);
    }
    let topics: Result<_, ResponseError> = match request.topics {
        Some(asked) => asked
            .iter()
            .filter_map(|topic| some(context, topic))
            .collect(),
        None => every(context),
    };
    let topics = match topics {
        Ok(topics) => topics,
        Err(code) => return DescribeLogDirsResponse::default().with_error_code(code.code()),
    };
    let directory = context.services.config.broker.data_dir.display();
    let result = DescribeLogDirsResult::default()
        .with_log_dir(directory.to_string().into())
        .with_topics(topics);
    DescribeLogDirsResponse::default().with_results(vec![result])
}

type Topic = Result<DescribeLogDirsTopic, ResponseError>;

fn every(context: &Context) -> Result<Vec<DescribeLogDirsTopic>, ResponseError> {
    let handles = context.services.topics.all();
    let topics = handles.iter().filter_map(|handle| {
        let name = TopicName(context.topic_out(handle.topic.name.as_str())?);
        Some(topic(context, name, handle, 0..handle.topic.partitions))
    });
    topics.collect()
}

/// A topic that was named; those that are not there are left out.
fn some(context: &Context, asked: &DescribableLogDirTopic) -> Option<Topic> {
    let name = context.topic_in(&asked.topic).ok()?;
    let handle = context.services.topics.get(&name)?;
    let partitions = asked.partitions.iter().copied();
    Some(topic(context, asked.topic.clone(), &handle, partitions))
}

fn topic(
    context: &Context,
    name: TopicName,
    handle: &TopicHandle,
    partitions: impl ExactSizeIterator<Item = i32>,
) -> Topic {
    let room = partitions.len() * size_of::<DescribeLogDirsPartition>();
    context.take_room(size_of::<DescribeLogDirsTopic>() + room)?;
    let partitions = partitions.filter_map(|index| {
        let size = handle.log(index)?.stats().size_bytes;
        let partition = DescribeLogDirsPartition::default().with_partition_index(index);
        Some(partition.with_partition_size(i64::try_from(size).unwrap_or(i64::MAX)))
    });
    Ok(DescribeLogDirsTopic::default()
        .with_name(name)
        .with_partitions(partitions.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn both_shapes_encode_in_every_version() {
        for version in VERSIONS {
            let partition = DescribeLogDirsPartition::default().with_partition_size(7);
            let topic = DescribeLogDirsTopic::default().with_partitions(vec![partition]);
            let result = DescribeLogDirsResult::default().with_topics(vec![topic]);
            encodes(
                version,
                &DescribeLogDirsResponse::default().with_results(vec![result]),
            );
            let refused = DescribeLogDirsResponse::default().with_error_code(31);
            let code = encodes(version, &refused).error_code;
            assert_eq!(code, if version >= 3 { 31 } else { 0 });
        }
    }
}
