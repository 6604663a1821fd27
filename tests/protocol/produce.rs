//! Produce: what is accepted, in which order, and how each wrong batch is refused.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use harness::Broker;
use harness::batch::{self, Producer};

use crate::support::broker_with_orders;
use crate::transactions::{add, batch_of, end, init, produce as produce_in};

const NO_WAIT: Duration = Duration::ZERO;

#[test]
fn offsets_follow_each_other_and_what_was_sent_is_read_back() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    for (acks, base) in [(1, 0), (-1, 2), (1, 4)] {
        let answer = client
            .produce("orders", 0, acks, batch::of_values(&["one", "two"]))
            .expect("an answer");
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, base),
            "acks={acks}"
        );
    }
    let fetched = client
        .fetch("orders", 0, 0, Duration::from_secs(5))
        .expect("an answer");
    let records = batch::records(&fetched.records.expect("records")).expect("whole batches");
    let values: Vec<_> = records
        .iter()
        .map(|record| record.value.clone().expect("a value"))
        .collect();
    assert!(values.starts_with(&[Bytes::from("one"), Bytes::from("two")]));
}

#[test]
fn pipelined_requests_are_appended_and_answered_in_their_order() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    let sent: Vec<i32> = (0..50)
        .map(|n| {
            client
                .send_produce(
                    "orders",
                    0,
                    if n % 2 == 0 { -1 } else { 1 },
                    batch::of_values(&["x"]),
                )
                .expect("sent")
        })
        .collect();
    for (offset, correlation) in sent.into_iter().enumerate() {
        let (answered, partition) = client.receive_produce().expect("an answer");
        assert_eq!(
            (answered, partition.error_code, partition.base_offset),
            (correlation, 0, offset as i64)
        );
    }
}

#[test]
fn each_wrong_batch_is_refused_with_its_code_and_nothing_is_written() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client
        .create_topic("orders", 1, &[("max.message.bytes", "1048576")])
        .expect("created");
    let good = batch::of_values(&["one"]);
    let change = |at: usize, to: u8, seal: bool| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = to;
        if seal {
            batch::seal(&mut bytes);
        }
        bytes.freeze()
    };
    let large = vec![b'x'; 2 << 20];
    let two = Bytes::from([&good[..], &good[..]].concat());
    let cases: [(&str, Bytes, i16); 7] = [
        (
            "wrong checksum",
            change(batch::CRC_AT, good[batch::CRC_AT] ^ 1, false),
            2,
        ),
        ("truncated", good.slice(..good.len() - 1), 2),
        (
            "a count that is not the span",
            change(batch::COUNT_AT + 3, 9, true),
            87,
        ),
        (
            "control batch",
            change(batch::ATTRIBUTES_AT + 1, 0x20, true),
            87,
        ),
        ("too large", batch::of_values(&[&large[..]]), 10),
        ("two batches", two, 87),
        ("nothing", Bytes::new(), 87),
    ];
    for (case, bytes, code) in cases {
        let answer = client.produce("orders", 0, 1, bytes).expect("an answer");
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (code, -1),
            "{case}: {:?}",
            answer.error_message
        );
        assert!(answer.error_message.is_some(), "{case} says what is wrong");
    }
    assert_eq!(
        client
            .produce("orders", 0, 1, good)
            .expect("an answer")
            .base_offset,
        0
    );
}

#[test]
fn unknown_topics_partitions_and_acks_have_their_codes() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    for (topic, partition, acks, code) in [
        ("nowhere", 0, 1, 3),
        ("orders", 1, 1, 3),
        ("orders", -1, 1, 3),
        ("a/b", 0, 1, 17),
        ("orders", 0, 2, 21),
        ("__consumer_offsets", 0, 1, 17),
    ] {
        let answer = client
            .produce(topic, partition, acks, batch::of_values(&["one"]))
            .expect("an answer");
        assert_eq!(answer.error_code, code, "{topic} {partition} acks={acks}");
    }
}

#[test]
fn an_idempotent_producer_s_retry_is_answered_as_the_first_try() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    let (id, epoch) = client.init_producer_id().expect("a producer id");
    let build = |base_sequence| {
        batch::build(
            &[(None, b"one"), (None, b"two")],
            Producer {
                id,
                epoch,
                base_sequence,
            },
        )
    };
    let mut produce = |sequence| {
        let answer = client
            .produce("orders", 0, -1, build(sequence))
            .expect("an answer");
        (answer.error_code, answer.base_offset)
    };
    assert_eq!(produce(0), (0, 0));
    assert_eq!(produce(2), (0, 2));
    assert_eq!(produce(0), (0, 0), "a duplicate");
    assert_eq!(produce(2), (0, 2), "a duplicate");
    assert_eq!(produce(6).0, 45, "OUT_OF_ORDER_SEQUENCE_NUMBER");
    assert_eq!(produce(4), (0, 4));
    assert_eq!(client.list_offset("orders", 0, -1).expect("an offset"), 6);
}

#[test]
fn acks_zero_has_no_answer_and_an_error_closes_the_connection() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    client
        .send_produce("orders", 0, 0, batch::of_values(&["one"]))
        .expect("sent");
    let answer = client
        .produce("orders", 0, -1, batch::of_values(&["two"]))
        .expect("the next request's answer");
    assert_eq!(answer.base_offset, 1);
    client
        .send_produce("nowhere", 0, 0, batch::of_values(&["one"]))
        .expect("sent");
    assert!(client.closed_by_broker(Duration::from_secs(10)));
    let fetched = broker
        .connect()
        .fetch("orders", 0, 0, NO_WAIT)
        .expect("an answer");
    assert_eq!(fetched.high_watermark, 2);
}

#[test]
fn transactional_batches_need_their_transaction() {
    let (_broker, mut client) = broker_with_orders();
    let producer = init(&mut client, "t");
    let batch = || batch_of(producer, 0, "value");
    let anonymous = produce_in(&mut client, 12, None, (0, batch()));
    assert_eq!(anonymous, 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED");
    let outside = produce_in(&mut client, 10, Some("t"), (0, batch()));
    assert_eq!(outside, 48, "INVALID_TXN_STATE");
    let outside = produce_in(&mut client, 11, Some("t"), (0, batch()));
    assert_eq!(outside, 120, "TRANSACTION_ABORTABLE");
    let unknown = produce_in(&mut client, 12, Some("other"), (0, batch()));
    assert_eq!(unknown, 49, "INVALID_PRODUCER_ID_MAPPING");
    assert_eq!(add(&mut client, "t", producer, 0), 0);
    assert_eq!(produce_in(&mut client, 10, Some("t"), (0, batch())), 0);
    let implicit = produce_in(&mut client, 12, Some("t"), (1, batch()));
    assert_eq!(implicit, 0, "producing adds the partition");
    let next = end(&mut client, "t", producer, true);
    let late = produce_in(
        &mut client,
        12,
        Some("t"),
        (1, batch_of(producer, 1, "late")),
    );
    assert_eq!(late, 47, "INVALID_PRODUCER_EPOCH");
    assert_eq!(
        produce_in(&mut client, 12, Some("t"), (1, batch_of(next, 0, "next"))),
        0
    );
}
