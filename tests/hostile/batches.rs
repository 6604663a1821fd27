//! Record batches that are damaged or lie: refused, never stored, never expanded.

use std::io::Write;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::batch::{self, Producer};

use crate::{TOPIC, Victim};

const CORRUPT_MESSAGE: i16 = 2;
const INVALID_RECORD: i16 = 87;
/// What Kafka answers to a batch that is not as the format says.
const REFUSALS: &[i16] = &[CORRUPT_MESSAGE, INVALID_RECORD, 42, 43, 76];

const GZIP: u8 = 1;

fn three_records() -> Vec<u8> {
    batch::of_values(&["one", "two", "three"]).to_vec()
}

/// A batch with a change, and a right checksum over it.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut batch = three_records();
    change(&mut batch);
    batch::seal(&mut batch);
    batch.into()
}

fn set_i32(batch: &mut [u8], at: usize, value: i32) {
    batch[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// The batch is refused, or its connection closed, and the log has not grown.
fn check_refused(cases: Vec<(&str, Bytes)>) {
    let mut victim = Victim::start();
    for (what, batch) in cases {
        let mut client = victim.connect();
        let end = client
            .list_offset(TOPIC, 0, -1)
            .unwrap_or_else(|error| panic!("{error:#}"));
        match client.produce(TOPIC, 0, -1, batch) {
            Ok(answer) => assert!(
                REFUSALS.contains(&answer.error_code),
                "{what}: answered with {}",
                answer.error_code
            ),
            Err(error) => assert!(
                client.closed_by_broker(Duration::from_secs(1)),
                "{what}: {error:#}"
            ),
        }
        let after = victim
            .connect()
            .list_offset(TOPIC, 0, -1)
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(after, end, "{what}: it was stored");
    }
    victim.check("refused batches");
}

#[test]
fn damaged_batches_are_refused() {
    let flipped = |at: usize| {
        let mut batch = three_records();
        batch[at] ^= 0x10;
        Bytes::from(batch)
    };
    let last = three_records().len() - 1;
    check_refused(vec![
        ("a bit of the checksum", flipped(batch::CRC_AT)),
        ("a bit of the attributes", flipped(batch::ATTRIBUTES_AT)),
        ("a bit of the last record", flipped(last)),
        ("no header", Bytes::from_static(&[0; 12])),
        ("half a header", Bytes::from(three_records()).slice(..30)),
        ("a cut tail", Bytes::from(three_records()).slice(..last)),
    ]);
}

#[test]
fn lengths_and_counts_that_disagree_with_the_batch_are_refused() {
    let count = |count: i32| changed(move |batch| set_i32(batch, batch::COUNT_AT, count));
    let both = |count: i32| {
        changed(move |batch| {
            set_i32(batch, batch::COUNT_AT, count);
            set_i32(batch, batch::LAST_OFFSET_DELTA_AT, count - 1);
        })
    };
    check_refused(vec![
        ("more records counted than offsets", count(4)),
        ("fewer records counted than offsets", count(2)),
        ("no record counted", count(0)),
        ("a negative count", count(-3)),
        ("more records than the bytes can hold", both(1000)),
        ("two thousand million records", both(i32::MAX)),
        (
            "a negative last offset",
            changed(|batch| set_i32(batch, batch::LAST_OFFSET_DELTA_AT, -1)),
        ),
        (
            "a length past the end",
            changed(|batch| set_i32(batch, 8, 1 << 20)),
        ),
        ("a negative length", changed(|batch| set_i32(batch, 8, -1))),
        ("magic 9", changed(|batch| batch[16] = 9)),
        (
            "a codec that does not exist",
            changed(|batch| batch[22] = 7),
        ),
        (
            "a control batch from a client",
            changed(|batch| batch[22] = 0x20),
        ),
        (
            "two batches in one partition's records",
            [three_records(), three_records()].concat().into(),
        ),
    ]);
}

/// 256 MiB of zeros in some 256 KiB.
fn bomb() -> Bytes {
    const ZEROS: usize = 256 << 20;
    let mut record = BytesMut::new();
    batch::put_record(&mut record, 0, None, &vec![0; ZEROS]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&record).expect("memory can be written");
    let body = encoder.finish().expect("memory can be written");
    let bomb = batch::with_header(&body, GZIP, 1, Producer::default());
    assert!(bomb.len() < 1 << 20, "the bomb fits into a message");
    bomb
}

/// Looked into piece by piece up to `log.max-decompressed-batch-bytes`, and refused there with the code on which producers
/// split a batch.
#[test]
fn a_decompression_bomb_is_refused_at_the_bound() {
    let bomb = bomb();
    let mut victim = Victim::start();
    let mut client = victim.connect();
    client
        .create_topic("bombed", 1, &[])
        .unwrap_or_else(|error| panic!("{error:#}"));
    for _ in 0..8 {
        let refused = client
            .produce("bombed", 0, -1, bomb.clone())
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(refused.error_code, 10, "{:?}", refused.error_message);
    }
    victim.check("a decompression bomb");
}

/// A topic with a transform has a reason to look inside: the batch is refused where its bytes pass the bound, and the next
/// one is transformed.
#[test]
fn a_decompression_bomb_is_refused_before_a_transform_sees_it() {
    let guest = harness::guests::build_guest("identity");
    let bomb = bomb();
    let mut victim = Victim::start();
    let component = guest.display().to_string();
    victim
        .broker
        .command(&["plugin", "deploy", "identity", &component])
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut client = victim.connect();
    client
        .create_topic("viewed", 1, &[("tidegate.transform", "identity")])
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut produce = |batch: Bytes| {
        client
            .produce("viewed", 0, -1, batch)
            .unwrap_or_else(|error| panic!("{error:#}"))
    };
    // The first call brings the plugin's engine up, which is not the bomb's doing.
    assert_eq!(produce(batch::of_values(&["before"])).error_code, 0);
    victim.memory = victim.broker.memory_rss();
    for _ in 0..8 {
        let refused = produce(bomb.clone());
        assert_ne!(refused.error_code, 0);
        assert!(refused.error_message.is_some(), "the refusal says why");
    }
    let after = produce(batch::of_values(&["after"]));
    assert_eq!((after.error_code, after.base_offset), (0, 1));
    victim.check("a decompression bomb before a transform");
}
