//! Inputs that the log's readers accept.

use bytes::Bytes;

use super::super::batch::Compression;
use super::super::index::Index;
use super::super::records::{BatchTemplate, Record, encode};
use crate::types::TimestampMs;

const NOW: TimestampMs = 1_700_000_000_000;

type Seeds = Vec<(String, Vec<u8>)>;

fn record(delta: i32) -> Record {
    Record {
        offset_delta: delta,
        timestamp: NOW + i64::from(delta),
        key: (delta % 2 == 0).then(|| Bytes::from_static(b"key")),
        value: (delta != 1).then(|| Bytes::from(format!("value {delta}"))),
        headers: vec![(Bytes::from_static(b"h"), (delta == 0).then(Bytes::new))],
    }
}

/// The bytes of one batch with three records.
fn batch_bytes(template: BatchTemplate) -> Bytes {
    let records: Vec<_> = (0..3).map(record).collect();
    encode(template, &records).expect("encodes").bytes
}

pub fn batch() -> Seeds {
    let numbered = BatchTemplate {
        producer_id: 4_000,
        producer_epoch: 1,
        base_sequence: 7,
        ..BatchTemplate::PLAIN
    };
    let gap = BatchTemplate {
        last_offset_delta: Some(9),
        ..numbered
    };
    let empty = encode(gap, &[]).expect("encodes").bytes;
    let mut seeds = vec![
        ("plain".to_owned(), batch_bytes(BatchTemplate::PLAIN)),
        ("numbered".to_owned(), batch_bytes(numbered)),
        ("gap".to_owned(), batch_bytes(gap)),
        ("empty".to_owned(), empty.clone()),
        (
            "two".to_owned(),
            [batch_bytes(numbered), empty].concat().into(),
        ),
    ];
    for code in 1..=4 {
        let compression = Compression::from_code(code).expect("a codec");
        let template = BatchTemplate {
            compression,
            ..BatchTemplate::PLAIN
        };
        let name = format!("{compression:?}").to_lowercase();
        seeds.push((name, batch_bytes(template)));
    }
    seeds
        .into_iter()
        .map(|(name, bytes)| (name, [&[1], &bytes[..]].concat()))
        .collect()
}

pub fn index() -> Seeds {
    let mut index = Index::new(1_000, 100);
    for number in 0..5_u32 {
        let place = u64::from(number) * 150;
        index.note(1_000 + i64::from(number), 5_000 + place, NOW);
    }
    let salt = 0x0102_0304_0506_0708_u64;
    let file = index.encode(salt, 9_000);
    let content = &file[16..file.len() - 4];
    let salt = salt.to_be_bytes();
    vec![
        ("content".into(), [&[0], &salt[..], content].concat()),
        ("file".into(), [&[1], &salt[..], &file].concat()),
    ]
}
