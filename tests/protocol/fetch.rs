//! Fetch: bounds, the long poll, errors, and sessions refused as the protocol allows.

use std::time::{Duration, Instant};

use harness::{Broker, batch};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

/// A request for partition 0 of a topic.
pub fn request_of(name: &str, offset: i64, max_wait_ms: i32, min_bytes: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(100 << 20);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_string(name.to_owned())))
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(min_bytes)
        .with_max_bytes(100 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn request(offset: i64, max_wait_ms: i32, min_bytes: i32, max_bytes: i32) -> FetchRequest {
    let mut request = request_of("orders", offset, max_wait_ms, min_bytes);
    request.max_bytes = max_bytes;
    request.topics[0].partitions[0].partition_max_bytes = max_bytes;
    request
}

fn with_one_topic() -> (Broker, harness::RawClient) {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    (broker, client)
}

#[test]
fn a_waiting_fetch_is_woken_by_a_produce() {
    let (broker, mut client) = with_one_topic();
    client
        .send(12, &request(0, 20_000, 1, 1 << 20))
        .expect("sent");
    broker
        .connect()
        .produce("orders", 0, 1, batch::of_values(&["one"]))
        .expect("an answer");
    let begun = Instant::now();
    let (_, response) = client.receive::<FetchRequest>(12).expect("an answer");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "woken, not timed out"
    );
    let records = response.responses[0].partitions[0]
        .records
        .clone()
        .expect("records");
    assert_eq!(batch::records(&records).expect("a batch").len(), 1);
}

#[test]
fn an_empty_fetch_answers_when_its_wait_is_over() {
    let (_broker, mut client) = with_one_topic();
    let begun = Instant::now();
    let response = client
        .request(12, &request(0, 300, 1, 1 << 20))
        .expect("an answer");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(
        response.responses[0].partitions[0]
            .records
            .as_ref()
            .is_none_or(|records| records.is_empty())
    );
}

#[test]
fn min_bytes_holds_an_answer_back_until_enough_is_there() {
    let (broker, mut client) = with_one_topic();
    client
        .send(12, &request(0, 20_000, 2_000, 1 << 20))
        .expect("sent");
    let mut producer = broker.connect();
    for _ in 0..3 {
        producer
            .produce("orders", 0, -1, batch::of_values(&[vec![b'x'; 900]]))
            .expect("an answer");
    }
    let (_, response) = client.receive::<FetchRequest>(12).expect("an answer");
    let records = response.responses[0].partitions[0]
        .records
        .clone()
        .expect("records");
    assert!(records.len() >= 2_000, "{} bytes", records.len());
}

/// A wait that no test's patience reaches.
const LONG_WAIT_MS: i32 = 300_000;

#[test]
fn a_reader_behind_the_end_of_a_segment_does_not_wait_for_more_than_it_holds() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client
        .create_topic("orders", 1, &[("segment.bytes", "1048576")])
        .expect("created");
    for _ in 0..12 {
        client
            .produce("orders", 0, -1, batch::of_values(&[vec![b'x'; 300_000]]))
            .expect("an answer");
    }
    let mut next = 0;
    let mut answers = 0;
    // The last segment ends where the log does: there a fetch waits, and is not asked here.
    while next < 9 {
        let answer = client
            .request(12, &request(next, LONG_WAIT_MS, i32::MAX, i32::MAX))
            .expect("an answer at once");
        let partition = &answer.responses[0].partitions[0];
        let records = batch::records(partition.records.as_ref().expect("records")).expect("whole");
        assert_eq!(records.first().map(|record| record.offset), Some(next));
        next += i64::try_from(records.len()).expect("few");
        answers += 1;
    }
    assert!(answers >= 3, "{answers} answers over at least 3 segments");
}

#[test]
fn more_bytes_are_not_waited_for_than_an_answer_may_hold() {
    let (_broker, mut client) = with_one_topic();
    for _ in 0..3 {
        client
            .produce("orders", 0, -1, batch::of_values(&[vec![b'x'; 1_000]]))
            .expect("an answer");
    }
    // The first batch comes however large it is, and is all that fits.
    let answer = client
        .request(12, &request(0, LONG_WAIT_MS, 100_000, 1_000))
        .expect("an answer at once");
    let records = answer.responses[0].partitions[0].records.clone();
    assert!(records.is_some_and(|records| records.len() >= 1_000));
}

#[test]
fn a_bound_smaller_than_a_batch_gives_one_batch() {
    let (_broker, mut client) = with_one_topic();
    for _ in 0..2 {
        client
            .produce("orders", 0, -1, batch::of_values(&[vec![b'x'; 10_000]]))
            .expect("an answer");
    }
    let response = client
        .request(12, &request(0, 0, 1, 10))
        .expect("an answer");
    let records = response.responses[0].partitions[0]
        .records
        .clone()
        .expect("records");
    assert_eq!(batch::records(&records).expect("a batch").len(), 1);
}

#[test]
fn offsets_outside_the_log_are_refused() {
    let (_broker, mut client) = with_one_topic();
    for offset in [1, -1] {
        let response = client
            .request(12, &request(offset, 0, 1, 1 << 20))
            .expect("an answer");
        assert_eq!(
            response.responses[0].partitions[0].error_code, 1,
            "OFFSET_OUT_OF_RANGE at {offset}"
        );
    }
}

#[test]
fn a_session_that_was_never_given_is_not_found() {
    let (_broker, mut client) = with_one_topic();
    let continued = request(0, 0, 1, 1 << 20)
        .with_session_id(7)
        .with_session_epoch(3);
    assert_eq!(
        client
            .request(12, &continued)
            .expect("an answer")
            .error_code,
        70,
        "FETCH_SESSION_ID_NOT_FOUND"
    );
    let asked = request(0, 0, 1, 1 << 20).with_session_epoch(0);
    assert_eq!(client.request(12, &asked).expect("an answer").session_id, 0);
}

#[test]
fn a_topic_is_fetched_by_its_id_from_version_13() {
    let (_broker, mut client) = with_one_topic();
    client
        .produce("orders", 0, -1, batch::of_values(&["one"]))
        .expect("an answer");
    let metadata = client
        .request(12, &MetadataRequest::default().with_topics(None))
        .expect("an answer");
    let topic = metadata.topics.iter().find(|topic| {
        topic
            .name
            .as_ref()
            .is_some_and(|name| name.as_str() == "orders")
    });
    let id = topic.expect("listed").topic_id;
    for version in 13..=17 {
        let mut wanted = request(0, 0, 1, 1 << 20);
        wanted.topics[0].topic = TopicName::default();
        wanted.topics[0].topic_id = id;
        let response = client.request(version, &wanted).expect("an answer");
        assert_eq!(response.responses[0].topic_id, id, "version {version}");
        assert!(
            response.responses[0].partitions[0]
                .records
                .as_ref()
                .is_some_and(|records| !records.is_empty())
        );
    }
}
