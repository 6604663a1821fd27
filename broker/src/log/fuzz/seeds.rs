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

/// Scripts of [`super::recovery`]: batches, flushes and checkpoints, and then one kind of change each.
pub fn recovery() -> Seeds {
    let write = [
        20, 3, 2, 9, 0, 4, 1, 30, 3, 0, 1, 5, 2, 60, 1, 6, 1, 60, 2, 0, 7, 3, 90, 3,
    ];
    let many: Vec<u8> = (0..22).flat_map(|number| [3, number, 90, number]).collect();
    let changes: [(&str, &[u8]); 7] = [
        ("overwritten", &[3, 0, 0, 200, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("header", &[3, 1, 0, 20, 4, 0, 0, 0, 0]),
        ("cut", &[3, 2, 17, 0]),
        ("longer", &[3, 3, 2, 0]),
        ("removed", &[2, 4]),
        ("copied", &[3, 5, 9]),
        ("forged", &[3, 0, 0, 57, 4, 0, 0, 0, 9, 3, 8, 0, 0]),
    ];
    let mut seeds: Seeds = changes
        .iter()
        .zip(0..)
        .map(|((name, change), manner)| ((*name).into(), [&[manner], &write[..], change].concat()))
        .collect();
    seeds.push((
        "rolled".into(),
        [&[1, 22], &many[..], &[1, 6, 0, 30, 1]].concat(),
    ));
    seeds.push(("unclean".into(), [&[0, 22], &many[..]].concat()));
    let keys: Vec<u8> = (0..19).flat_map(|key| [4, 0, 90 + key % 5, 3]).collect();
    let compact = [&[22], &keys[..], &[0, 3, 1]].concat();
    for (name, manner, change) in [
        ("compacted", 16, &[][..]),
        ("compacted-cut", 17, &[2, 2, 18, 0]),
        ("compacted-checkpoint-gone", 18, &[0, 4]),
    ] {
        seeds.push((name.into(), [&[manner], &compact[..], change].concat()));
    }
    seeds
}

/// The files of a small partition with an open and an aborted transaction: its checkpoint and its first segment's header.
fn files() -> (Vec<u8>, Vec<u8>) {
    let disk = super::recovery::sample();
    let read = |ending: &str| {
        let found = disk.files().into_iter().find(|path| path.ends_with(ending));
        let mut content = Vec::new();
        disk.change(&found.expect("it was written"), |bytes| {
            content.clone_from(bytes)
        });
        content
    };
    let mut block = read("00000000000000000000.log");
    block.truncate(4096);
    (read("checkpoint"), block)
}

pub fn checkpoint() -> Seeds {
    let file = files().0;
    vec![
        ("content".into(), [&[0], &file[8..file.len() - 4]].concat()),
        ("file".into(), [&[1], &file[..]].concat()),
    ]
}

pub fn segment_header() -> Seeds {
    let block = files().1;
    let mut first = block[..64].to_vec();
    first[8..12].copy_from_slice(&[0, 0, 0, 1]);
    vec![
        ("both".into(), [&[3], &block[..2200]].concat()),
        ("first".into(), [&[1], &block[..100]].concat()),
        ("version-1".into(), [&[1], &first[..]].concat()),
    ]
}
