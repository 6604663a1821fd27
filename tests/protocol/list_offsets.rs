//! ListOffsets: start, end, and by time.

use bytes::BytesMut;
use harness::{Broker, batch};

/// Times of these records follow it: 2024-01-01, in ms.
pub const SOME_TIME: i64 = 1_704_067_200_000;

/// A batch of one record at this time.
pub fn at(timestamp: i64) -> bytes::Bytes {
    let mut bytes = BytesMut::from(&batch::of_values(&["x"])[..]);
    bytes[27..35].copy_from_slice(&timestamp.to_be_bytes());
    bytes[35..43].copy_from_slice(&timestamp.to_be_bytes());
    batch::seal(&mut bytes);
    bytes.freeze()
}

#[test]
fn start_end_and_times_are_found() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    assert_eq!(client.list_offset("orders", 0, -1).expect("an answer"), 0);
    for timestamp in [1_000, 3_000, 2_000] {
        client
            .produce("orders", 0, -1, at(SOME_TIME + timestamp))
            .expect("an answer");
    }
    let cases = [
        (-1, 3),
        (-2, 0),
        (-3, 1),
        (SOME_TIME, 0),
        (SOME_TIME + 1_001, 1),
        (SOME_TIME + 2_000, 1),
        (SOME_TIME + 3_001, -1),
    ];
    for (query, offset) in cases {
        assert_eq!(
            client.list_offset("orders", 0, query).expect("an answer"),
            offset,
            "query {query}"
        );
    }
}

#[test]
fn an_unknown_partition_is_an_error() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[]).expect("created");
    let error = client
        .list_offset("orders", 5, -1)
        .expect_err("no such partition");
    assert!(error.to_string().contains("error 3"), "{error}");
}
