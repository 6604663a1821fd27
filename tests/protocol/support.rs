//! Short forms of what the tests of every API say.

use bytes::Bytes;
use harness::{Broker, RawClient};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

pub fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// A development broker, a connection to it, and a topic `orders` with four partitions.
pub fn broker_with_orders() -> (Broker, RawClient) {
    let broker = Broker::start();
    let mut client = broker.connect();
    client
        .create_topic("orders", 4, &[])
        .unwrap_or_else(|error| panic!("{error:#}"));
    (broker, client)
}

/// Sends a request and takes its answer.
#[track_caller]
pub fn ask<R: Request>(client: &mut RawClient, version: i16, request: &R) -> R::Response {
    client
        .request(version, request)
        .unwrap_or_else(|error| panic!("API {} version {version}: {error:#}", R::KEY))
}

/// A request to join as a consumer with the protocol `range`.
pub fn join_request(group_name: &str, member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"subscription"));
    JoinGroupRequest::default()
        .with_group_id(group(group_name))
        .with_member_id(text(member_id))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Joins a group as its only member and becomes stable: the answer to the join.
#[track_caller]
pub fn settle(client: &mut RawClient, group_name: &str) -> JoinGroupResponse {
    let joined = ask(client, 3, &join_request(group_name, ""));
    assert_eq!(joined.error_code, 0, "join {group_name}");
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"everything"));
    let sync = SyncGroupRequest::default()
        .with_group_id(group(group_name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment]);
    assert_eq!(ask(client, 3, &sync).error_code, 0, "sync {group_name}");
    joined
}

/// A commit of one offset by a consumer that assigns its partitions itself.
pub fn commit_request(group_name: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    let orders = OffsetCommitRequestTopic::default()
        .with_name(topic("orders"))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(group_name))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![orders])
}

/// Commits one offset of `orders`.
#[track_caller]
pub fn commit(client: &mut RawClient, group_name: &str, partition: i32, offset: i64) {
    let response = ask(client, 8, &commit_request(group_name, partition, offset));
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}
