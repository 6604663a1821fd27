//! OffsetDelete: what a group committed and does not read is forgotten.

use bytes::{BufMut, Bytes, BytesMut};
use harness::RawClient;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest};
use tidegate::kafka::handlers::offset_delete::VERSIONS;

use crate::support::{
    ask, broker_with_orders, commit, commit_request, group, join_request, settle, text, topic,
};

const SUBSCRIBED: i16 = 86;

fn delete_request(group_name: &str, topics: &[(&str, &[i32])]) -> OffsetDeleteRequest {
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = partitions
            .iter()
            .map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
        OffsetDeleteRequestTopic::default()
            .with_name(topic(name))
            .with_partitions(partitions.collect())
    });
    OffsetDeleteRequest::default()
        .with_group_id(group(group_name))
        .with_topics(topics.collect())
}

/// Topic, partition and code of each answer.
fn outcomes(
    client: &mut RawClient,
    version: i16,
    request: &OffsetDeleteRequest,
) -> Vec<(String, i32, i16)> {
    let response = ask(client, version, request);
    assert_eq!(response.error_code, 0);
    let topics = response.topics.iter();
    topics
        .flat_map(|topic| topic.partitions.iter().map(move |it| (topic, it)))
        .map(|(topic, it)| (topic.name.to_string(), it.partition_index, it.error_code))
        .collect()
}

/// Partitions of `orders` that the group has an offset of.
fn committed(client: &mut RawClient, group_name: &str) -> Vec<i32> {
    let request = OffsetFetchRequest::default()
        .with_group_id(group(group_name))
        .with_topics(None);
    let response = ask(client, 7, &request);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|it| it.partition_index).collect()
}

#[test]
fn offsets_of_a_group_without_members_are_forgotten_in_every_version() {
    let (mut broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        for partition in 0..3 {
            commit(&mut client, "idle", partition, 1);
        }
        let wanted: &[(&str, &[i32])] =
            &[("orders", &[0, 2, 0]), ("missing", &[0]), ("orders", &[3])];
        let answers = outcomes(&mut client, version, &delete_request("idle", wanted));
        let expected = [
            ("orders", 0, 0),
            ("orders", 2, 0),
            ("orders", 3, 0),
            ("missing", 0, 3),
        ];
        let expected = expected.map(|(topic, index, code)| (topic.to_owned(), index, code));
        assert_eq!(answers, expected, "each once");
        assert_eq!(committed(&mut client, "idle"), [1]);
        broker.kill9();
        broker.restart().unwrap_or_else(|error| panic!("{error:#}"));
        client = broker.connect();
        assert_eq!(committed(&mut client, "idle"), [1], "for good");
    }
}

/// What a consumer of one topic says when it joins.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(-1);
    bytes.freeze()
}

#[test]
fn topics_that_a_member_reads_keep_their_offsets() {
    let (_broker, mut client) = broker_with_orders();
    client
        .create_topic("read", 1, &[])
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut join = join_request("busy", "");
    join.protocols[0].metadata = subscription("read");
    let joined = ask(&mut client, 3, &join);
    assert_eq!(joined.error_code, 0);
    let assignment = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
    let sync = SyncGroupRequest::default()
        .with_group_id(group("busy"))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment]);
    assert_eq!(ask(&mut client, 3, &sync).error_code, 0);
    let offsets = commit_request("busy", 0, 1)
        .with_generation_id_or_member_epoch(joined.generation_id)
        .with_member_id(joined.member_id);
    let response = ask(&mut client, 8, &offsets);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);

    let wanted: &[(&str, &[i32])] = &[("read", &[0]), ("orders", &[0])];
    let answers = outcomes(&mut client, 0, &delete_request("busy", wanted));
    let expected = [
        ("read".to_owned(), 0, SUBSCRIBED),
        ("orders".to_owned(), 0, 0),
    ];
    assert_eq!(answers, expected);
    assert_eq!(committed(&mut client, "busy"), [0; 0]);
}

#[test]
fn a_group_that_is_missing_or_has_members_of_another_kind_is_told() {
    let (_broker, mut client) = broker_with_orders();
    let wanted: &[(&str, &[i32])] = &[("orders", &[0])];
    let mut code = |name: &str| ask(&mut client, 0, &delete_request(name, wanted)).error_code;
    assert_eq!(code("missing"), 69);
    assert_eq!(code(""), 24);
    let join = join_request("connect", "").with_protocol_type(text("connect"));
    assert_eq!(ask(&mut client, 3, &join).error_code, 0);
    let request = delete_request("connect", wanted);
    assert_eq!(
        ask(&mut client, 0, &request).error_code,
        68,
        "NON_EMPTY_GROUP"
    );
    settle(&mut client, "consumer");
    let request = delete_request("consumer", wanted);
    assert_eq!(
        ask(&mut client, 0, &request).error_code,
        0,
        "it reads nothing"
    );
}
