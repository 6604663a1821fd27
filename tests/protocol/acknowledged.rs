//! What `acks=1` has answered, every API knows at once, although it is synced later: one row an API that reads partitions.

use std::time::Duration;

use harness::{Broker, RawClient, batch};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::{DeleteRecordsRequest, FetchRequest};

use crate::fetch::request_of;
use crate::list_offsets::{SOME_TIME, at};
use crate::support::{ask, topic};

/// Nothing is synced that nobody asks for: an API that does not ask never knows.
const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[log]
flush-max-delay = "60s"

[admin]
bind = "127.0.0.1:0"
"#;

const TRIES: i64 = 50;

fn delete_records(client: &mut RawClient, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic("orders"))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    let answer = ask(client, 2, &request);
    let answer = &answer.topics[0].partitions[0];
    (answer.error_code, answer.low_watermark)
}

fn first_fetched(client: &mut RawClient, request: &FetchRequest) -> Option<i64> {
    let answer = ask(client, 12, request);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    let records = batch::records(partition.records.as_ref()?).expect("a batch");
    Some(records.first()?.offset)
}

/// Whether an API knows the record at an offset, the last of its partition, which has just been acknowledged.
type Knows = fn(&mut RawClient, i64) -> bool;

const APIS: [(&str, Knows); 9] = [
    ("Fetch without a wait", |client, offset| {
        first_fetched(client, &request_of("orders", offset, 0, 1)) == Some(offset)
    }),
    ("Fetch with a short wait", |client, offset| {
        first_fetched(client, &request_of("orders", offset, 1, 1)) == Some(offset)
    }),
    ("Fetch of no bytes at least", |client, offset| {
        first_fetched(client, &request_of("orders", offset, 500, 0)) == Some(offset)
    }),
    ("Fetch with a long wait", |client, offset| {
        first_fetched(client, &request_of("orders", offset, 20_000, 1)) == Some(offset)
    }),
    ("ListOffsets, the end", |client, offset| {
        client.list_offset("orders", 0, -1).ok() == Some(offset + 1)
    }),
    ("ListOffsets, the largest time", |client, offset| {
        client.list_offset("orders", 0, -3).ok() == Some(offset)
    }),
    ("ListOffsets by time", |client, offset| {
        client.list_offset("orders", 0, SOME_TIME + offset).ok() == Some(offset)
    }),
    ("DeleteRecords to an offset", |client, offset| {
        delete_records(client, offset + 1) == (0, offset + 1)
    }),
    ("DeleteRecords to the end", |client, offset| {
        delete_records(client, -1) == (0, offset + 1)
    }),
];

#[test]
fn every_api_knows_a_record_that_was_acknowledged_before_it_was_synced() {
    let broker = Broker::builder().config(CONFIG).start().expect("starts");
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    let mut next = 0;
    for (api, knows) in APIS {
        let mut unknown = 0;
        for _ in 0..TRIES {
            let answer = client
                .produce("orders", 0, 1, at(SOME_TIME + next))
                .expect("an answer");
            assert_eq!((answer.error_code, answer.base_offset), (0, next));
            unknown += i64::from(!knows(&mut client, next));
            next += 1;
        }
        assert_eq!(unknown, 0, "{api}: of {TRIES} records");
    }
}

#[test]
fn a_record_of_one_partition_is_seen_beside_those_of_another() {
    let broker = Broker::builder().config(CONFIG).start().expect("starts");
    let mut client = broker.connect();
    client.create_topic("orders", 2, &[]).expect("created");
    for (partition, acks) in [(0, -1), (1, 1)] {
        let batch = batch::of_values(&["order"]);
        client
            .produce("orders", partition, acks, batch)
            .expect("an answer");
    }
    let mut request = request_of("orders", 0, 0, 1);
    let mut other = request.topics[0].partitions[0].clone();
    other.partition = 1;
    request.topics[0].partitions.push(other);
    let answer = ask(&mut client, 12, &request);
    for partition in &answer.responses[0].partitions {
        assert_eq!(partition.high_watermark, 1, "{}", partition.partition_index);
        assert!(partition.records.as_ref().is_some_and(|r| !r.is_empty()));
    }
}

/// Consumers that wait for records of a topic that is written to all the time ask for no more syncs than they did.
#[test]
fn an_answer_with_records_is_not_held_up_for_what_is_not_synced() {
    let broker = Broker::builder().config(CONFIG).start().expect("starts");
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    let send = |client: &mut RawClient, acks| {
        let batch = batch::of_values(&["order"]);
        client.produce("orders", 0, acks, batch).expect("an answer");
    };
    send(&mut client, -1);
    send(&mut client, 1);
    for wait in [0, 500] {
        let answer = ask(&mut client, 12, &request_of("orders", 0, wait, 1));
        let partition = &answer.responses[0].partitions[0];
        let records = batch::records(partition.records.as_ref().expect("records")).expect("whole");
        assert_eq!(records[0].offset, 0);
        assert!(client.fetch("orders", 0, 0, Duration::ZERO).is_ok());
    }
}
