//! Metadata: this node, its topics, and topics made on first use.

use harness::{Broker, RawClient};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tidegate::kafka::handlers::metadata::VERSIONS;

fn named(names: &[&'static str]) -> MetadataRequest {
    let topic = |name: &&'static str| {
        MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(name))))
    };
    MetadataRequest::default()
        .with_topics(Some(names.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(true)
}

#[test]
fn every_version_names_this_node_and_an_existing_topic() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 3, &[]).expect("created");
    for version in VERSIONS {
        let response = client
            .request(version, &named(&["orders"]))
            .expect("an answer");
        assert_eq!(response.brokers.len(), 1, "version {version}");
        assert_eq!(response.brokers[0].port, i32::from(broker.tcp().port()));
        let topic = &response.topics[0];
        assert_eq!(
            (topic.error_code, topic.partitions.len()),
            (0, 3),
            "version {version}"
        );
        assert!(
            topic
                .partitions
                .iter()
                .all(|partition| partition.leader_id == response.brokers[0].node_id)
        );
        assert_eq!(topic.topic_id.is_nil(), version < 10);
    }
}

#[test]
fn an_unknown_topic_is_created_when_the_request_allows_it() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let refused = client
        .request(12, &named(&["later"]).with_allow_auto_topic_creation(false))
        .expect("an answer");
    assert_eq!(
        refused.topics[0].error_code, 3,
        "UNKNOWN_TOPIC_OR_PARTITION"
    );
    let created = client.request(12, &named(&["later"])).expect("an answer");
    assert_eq!(
        (
            created.topics[0].error_code,
            created.topics[0].partitions.len()
        ),
        (0, 4)
    );
}

#[test]
fn an_illegal_name_is_refused() {
    let broker = Broker::start();
    let response = broker
        .connect()
        .request(12, &named(&["a/b"]))
        .expect("an answer");
    assert_eq!(response.topics[0].error_code, 17, "INVALID_TOPIC_EXCEPTION");
}

#[test]
fn a_topic_is_found_by_its_id_and_an_unknown_id_is_not() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let created = client.request(12, &named(&["orders"])).expect("an answer");
    let by_id = |id| {
        MetadataRequest::default().with_topics(Some(vec![
            MetadataRequestTopic::default()
                .with_topic_id(id)
                .with_name(None),
        ]))
    };
    let found = client
        .request(12, &by_id(created.topics[0].topic_id))
        .expect("an answer");
    assert_eq!(
        found.topics[0].name.as_ref().map(|name| name.as_str()),
        Some("orders")
    );
    let unknown = client
        .request(
            12,
            &by_id(
                kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
                    .topic_id,
            ),
        )
        .expect("an answer");
    assert_eq!(unknown.topics[0].error_code, 100, "UNKNOWN_TOPIC_ID");
}

#[test]
fn null_lists_every_topic_and_empty_none() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    let all = client
        .request(12, &MetadataRequest::default().with_topics(None))
        .expect("an answer");
    assert!(all.topics.iter().any(|topic| {
        topic
            .name
            .as_ref()
            .is_some_and(|name| name.as_str() == "orders")
    }));
    let none = client
        .request(
            12,
            &MetadataRequest::default().with_topics(Some(Vec::new())),
        )
        .expect("an answer");
    assert!(none.topics.is_empty());
}

/// A broker in which everybody may do everything, with more of `[broker]`.
fn broker_with(settings: &str) -> Broker {
    let config = format!(
        r#"
[broker]
data-dir = "{{data}}"
{settings}

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[admin]
bind = "127.0.0.1:0"
"#
    );
    let broker = Broker::builder().config(config).start();
    broker.unwrap_or_else(|error| panic!("{error:#}"))
}

const LEADER_NOT_AVAILABLE: i16 = 5;
const POLICY_VIOLATION: i16 = 44;

#[track_caller]
fn codes(client: &mut RawClient, names: &[&'static str]) -> Vec<i16> {
    let response = client.request(12, &named(names)).expect("an answer");
    let codes = response.topics.iter().map(|topic| topic.error_code);
    codes.collect()
}

#[test]
fn what_has_no_room_in_an_answer_is_refused_and_answered_alone() {
    let broker = broker_with("max-answer-bytes = \"64KiB\"");
    let mut client = broker.connect();
    for name in ["wide", "wider"] {
        client.create_topic(name, 200, &[]).expect("created");
    }
    assert_eq!(
        codes(&mut client, &["wide", "wider"]),
        [0, POLICY_VIOLATION]
    );
    assert_eq!(codes(&mut client, &["wider"]), [0]);
    let labels = "setting=\"broker.max-answer-bytes\"";
    let counted = broker.metric("tidegate_bound_refusals_total", labels);
    assert_eq!(counted.expect("it is counted"), 1.0);
}

#[test]
fn topics_made_on_first_use_are_bounded_in_time() {
    let broker = broker_with("auto-create-topics-per-minute = 3");
    let mut client = broker.connect();
    let wait = LEADER_NOT_AVAILABLE;
    let seen = codes(&mut client, &["a", "b", "c", "d", "e"]);
    assert_eq!(seen, [0, 0, 0, wait, wait]);
    client
        .create_topic("d", 1, &[])
        .expect("who creates it may");
    assert_eq!(codes(&mut client, &["c", "d"]), [0, 0]);
}

#[test]
fn topics_made_on_first_use_do_not_fill_what_there_is_for_all() {
    let broker = broker_with("max-topics-per-principal = 2");
    let mut client = broker.connect();
    let seen = codes(&mut client, &["a", "b", "c"]);
    assert_eq!(seen, [0, 0, POLICY_VIOLATION]);
    let created = client.create_topic("c", 1, &[]);
    created.expect("nothing is denied to anybody here, who may delete topics as well");
}
