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

/// The plain body of records with these offset deltas.
fn body_of(deltas: &[i64]) -> BytesMut {
    let mut body = BytesMut::new();
    for delta in deltas {
        batch::put_record(&mut body, *delta, Some(b"key"), b"value");
    }
    body
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, body).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

/// The checksum is right and the inside is not: Kafka refuses each, and a consumer would stop at it for good.
#[test]
fn a_batch_whose_records_are_not_what_it_says_is_refused() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    let frames = [("tidegate.validation", "frames")];
    client.create_topic("trusted", 1, &frames).expect("created");
    let trailing = [&body_of(&[0, 1, 2])[..], &[0xff; 9]].concat();
    let cases: [(&str, Vec<u8>, i32, &[i32]); 5] = [
        ("fewer records", body_of(&[0, 1, 2]).to_vec(), 5, &[]),
        ("more records", body_of(&[0, 1, 2]).to_vec(), 2, &[]),
        ("deltas 0, 0, 0", body_of(&[0, 0, 0]).to_vec(), 3, &[1]),
        ("trailing bytes", trailing, 3, &[]),
        ("garbage", vec![0xff; 40], 1, &[0]),
    ];
    for (case, body, count, indexes) in cases {
        for (codec, body) in [(0, body.clone()), (1, gzipped(&body))] {
            let bytes = batch::with_header(&body, codec, count, Producer::default());
            let taken = client
                .produce("trusted", 0, 1, bytes.clone())
                .expect("an answer");
            assert_eq!(taken.error_code, 0, "{case}: a whole frame");
            let answer = client.produce("orders", 0, 1, bytes).expect("an answer");
            let message = answer.error_message.unwrap_or_default();
            assert_eq!(answer.error_code, 87, "{case}, codec {codec}: {message}");
            assert!(message.contains("orders partition 0"), "{message}");
            let found: Vec<_> = answer
                .record_errors
                .iter()
                .map(|it| it.batch_index)
                .collect();
            assert_eq!(found, indexes, "{case}, codec {codec}");
        }
    }
    let honest = batch::with_header(&gzipped(&body_of(&[0, 1])), 1, 2, Producer::default());
    let answer = client.produce("orders", 0, 1, honest).expect("an answer");
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
}

/// As Sarama before 1.45.1 sends it: found by time, and right where it is read.
#[test]
fn a_largest_time_that_the_client_left_unset_is_made_that_of_the_records() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    let body = body_of(&[0, 1]);
    for (codec, body) in [(0, body.to_vec()), (1, gzipped(&body))] {
        let mut bytes = batch::with_header(&body, codec, 2, Producer::default()).to_vec();
        let time: [u8; 8] = bytes[27..35].try_into().expect("eight bytes");
        bytes[35..43].copy_from_slice(&(-1_i64).to_be_bytes());
        batch::seal(&mut bytes);
        let answer = client
            .produce("orders", 0, -1, bytes.into())
            .expect("an answer");
        assert_eq!(answer.error_code, 0);
        let offset = answer.base_offset;
        let time = i64::from_be_bytes(time);
        let found = client.list_offset("orders", 0, time).expect("an answer");
        assert!((0..=offset).contains(&found), "codec {codec}: {found}");
        let fetched = client
            .fetch("orders", 0, offset, NO_WAIT)
            .expect("an answer");
        let stored = fetched.records.expect("records");
        assert_eq!(stored[35..43], time.to_be_bytes());
        batch::headers(&stored).expect("a right checksum");
    }
    assert_ne!(client.list_offset("orders", 0, -3).expect("an answer"), -1);
}

#[test]
fn records_that_a_topic_does_not_take_are_named_one_by_one() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let limits = [("message.timestamp.after.max.ms", "60000")];
    client.create_topic("timed", 1, &limits).expect("created");
    let compacted = [("cleanup.policy", "compact")];
    client
        .create_topic("keyed", 1, &compacted)
        .expect("created");
    let mut late = BytesMut::from(&batch::of_values(&["one", "two"])[..]);
    // The header's largest time says nothing of it.
    let base = i64::from_be_bytes(late[27..35].try_into().expect("eight bytes"));
    late[27..35].copy_from_slice(&(base + 3_600_000).to_be_bytes());
    batch::seal(&mut late);
    let keyless = batch::build(
        &[(Some(b"k"), b"v"), (None, b"v"), (Some(b""), b"v")],
        Producer::default(),
    );
    for (topic, bytes, code, indexes) in [
        ("timed", late.freeze(), 32, vec![0, 1]),
        ("keyed", keyless, 87, vec![1]),
    ] {
        let answer = client.produce(topic, 0, 1, bytes).expect("an answer");
        assert_eq!(answer.error_code, code, "{:?}", answer.error_message);
        let errors = answer.record_errors;
        let found: Vec<_> = errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(found, indexes, "{topic}");
        assert!(
            errors
                .iter()
                .all(|error| error.batch_index_error_message.is_some())
        );
    }
}

#[test]
fn zstd_needs_a_version_that_knows_it() {
    let (_broker, mut client) = broker_with_orders();
    let body = zstd::encode_all(&body_of(&[0])[..], 3).expect("compresses");
    let zstd = || batch::with_header(&body, 4, 1, Producer::default());
    for (version, code) in [(3, 76), (6, 76), (7, 0), (12, 0)] {
        let found = produce_in(&mut client, version, None, (0, zstd()));
        assert_eq!(found, code, "version {version}");
    }
}
