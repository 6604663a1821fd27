use bytes::Bytes;

use super::*;
use crate::log::batch::Compression;
use crate::log::records::BatchTemplate;

const NOW: TimestampMs = 1_000_000;
const RETENTION: i64 = 500;

fn record(delta: i32, key: Option<&str>, value: Option<&str>) -> Record {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Record {
        offset_delta: delta,
        timestamp: 100 + i64::from(delta),
        key: key.map(bytes),
        value: value.map(bytes),
        headers: vec![(bytes("h"), Some(bytes("x")))],
    }
}

fn batch(base_offset: Offset, template: BatchTemplate, records: &[Record]) -> Batch {
    let mut batch = records::encode(template, records).expect("encodes");
    batch.header.base_offset = base_offset;
    let mut bytes = batch.header.write().to_vec();
    bytes.extend_from_slice(&batch.bytes[HEADER_SIZE..]);
    batch.bytes = bytes.into();
    batch
}

/// Rules under which these keys have a later offset, up to `latest`.
fn rules(later: &[(&str, Offset)], latest: Offset) -> Rules {
    let mut map = OffsetMap::new(1 << 20, 100);
    for (key, offset) in later {
        assert!(map.put(key.as_bytes(), *offset));
    }
    map.set_latest(latest);
    Rules {
        map,
        transactions: Transactions::default(),
        producers: HashMap::new(),
        now: NOW,
        delete_retention_ms: RETENTION,
    }
}

fn rewritten(kept: Kept) -> Batch {
    match kept {
        Kept::Rewritten(batch) => batch,
        other => panic!("{other:?}"),
    }
}

fn left(batch: &Batch) -> Vec<i32> {
    let records = records::decode(batch, 1 << 20).expect("decodes");
    records.iter().map(|record| record.offset_delta).collect()
}

#[test]
fn only_the_latest_record_of_a_key_stays_with_everything_that_it_carried() {
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let template = BatchTemplate {
            compression,
            producer_id: 4,
            producer_epoch: 2,
            base_sequence: 9,
            ..BatchTemplate::PLAIN
        };
        let records = [
            record(0, Some("a"), Some("1")),
            record(1, Some("b"), Some("1")),
            record(2, Some("a"), Some("2")),
            record(3, None, Some("no key")),
        ];
        let old = batch(50, template, &records);
        let mut rules = rules(&[("a", 52), ("b", 51)], 80);
        let new = rewritten(rules.clean(&old, None));
        assert_eq!(
            records::decode(&new, 1 << 20).expect("decodes"),
            records[1..3]
        );
        let (from, to) = (&old.header, &new.header);
        assert_eq!((to.base_offset, to.last_offset()), (50, 53));
        assert_eq!(to.base_timestamp, from.base_timestamp);
        assert_eq!((to.max_timestamp, to.record_count), (102, 2));
        assert_eq!((to.producer_id, to.producer_epoch), (4, 2));
        assert_eq!((to.base_sequence, to.attributes), (9, from.attributes));
        let again = rules.clean(&new, None);
        assert!(matches!(again, Kept::Whole), "{again:?}");
    }
}

#[test]
fn what_lies_behind_the_map_stays() {
    let records = [
        record(0, Some("a"), Some("1")),
        record(1, Some("a"), Some("2")),
    ];
    let old = batch(50, BatchTemplate::PLAIN, &records);
    let kept = rules(&[("a", 99)], 50).clean(&old, None);
    assert_eq!(left(&rewritten(kept)), [1]);
    let kept = rules(&[("a", 99)], 49).clean(&old, None);
    assert!(matches!(kept, Kept::Whole));
}

#[test]
fn a_tombstone_goes_when_its_horizon_is_over() {
    let records = [record(0, Some("a"), None), record(1, Some("b"), Some("1"))];
    let old = batch(50, BatchTemplate::PLAIN, &records);
    let mut rules = rules(&[("a", 50), ("b", 51)], 80);
    let marked = rewritten(rules.clean(&old, None));
    assert_eq!(marked.header.delete_horizon(), Some(NOW + RETENTION));
    assert_eq!(records::decode(&marked, 1 << 20).expect("decodes"), records);
    rules.now = NOW + RETENTION - 1;
    assert!(matches!(rules.clean(&marked, None), Kept::Whole));
    rules.now += 1;
    let without = rewritten(rules.clean(&marked, None));
    assert_eq!(left(&without), [1]);
    let alone = batch(50, BatchTemplate::PLAIN, &records[..1]);
    let marked = rewritten(rules.clean(&alone, None));
    rules.now += RETENTION;
    assert!(matches!(rules.clean(&marked, None), Kept::Nothing));
}

#[test]
fn an_empty_batch_stays_only_for_its_producers_sequence_or_as_the_end() {
    let template = BatchTemplate {
        producer_id: 4,
        producer_epoch: 2,
        base_sequence: 9,
        compression: Compression::Zstd,
        ..BatchTemplate::PLAIN
    };
    let old = batch(50, template, &[record(0, Some("a"), Some("1"))]);
    let mut rules = rules(&[("a", 70)], 80);
    assert!(matches!(rules.clean(&old, None), Kept::Nothing));
    let last = LastBatch {
        producer_epoch: 2,
        last_offset: Some(50),
    };
    rules.producers.insert(4, last);
    let empty = rewritten(rules.clean(&old, None));
    assert_eq!((empty.header.record_count, empty.header.size), (0, 61));
    assert_eq!(
        (empty.header.producer_id, empty.header.base_sequence),
        (4, 9)
    );
    assert_eq!(empty.header.attributes, 0);
    assert!(matches!(rules.clean(&empty, None), Kept::Whole));
    rules.producers.clear();
    assert!(matches!(rules.clean(&empty, None), Kept::Nothing));
    rules.map.set_latest(80);
    let end = batch(80, template, &[record(0, Some("z"), Some("1"))]);
    assert!(rules.map.put(b"z", 90));
    assert_eq!(rewritten(rules.clean(&end, None)).header.record_count, 0);
}

#[test]
fn aborted_records_go_and_a_marker_goes_after_them() {
    let template = |producer_id, is_control| BatchTemplate {
        producer_id,
        producer_epoch: 0,
        base_sequence: if is_control { -1 } else { 0 },
        is_transactional: true,
        is_control,
        ..BatchTemplate::PLAIN
    };
    let data = |producer, offset| {
        batch(
            offset,
            template(producer, false),
            &[record(0, Some("k"), Some("1"))],
        )
    };
    let marker = |producer, offset| {
        batch(
            offset,
            template(producer, true),
            &[record(0, Some("type"), Some("epoch"))],
        )
    };
    let aborted = Aborted {
        producer_id: 1,
        first_offset: 50,
        last_offset: 60,
        last_stable_offset: 61,
    };
    let mut rules = rules(&[], 100);
    let begin = |rules: &mut Rules| rules.transactions = Transactions::new(vec![aborted], 0);
    let abort = Some(MarkerOutcome::Abort);
    let commit = Some(MarkerOutcome::Commit);
    begin(&mut rules);
    assert!(matches!(rules.clean(&data(1, 50), None), Kept::Nothing));
    assert!(matches!(rules.clean(&data(2, 51), None), Kept::Whole));
    let kept = rules.clean(&marker(1, 60), abort);
    assert!(matches!(kept, Kept::Whole), "its data was there this time");
    assert!(matches!(rules.clean(&marker(2, 61), commit), Kept::Whole));
    assert!(matches!(rules.clean(&data(1, 70), None), Kept::Whole));
    begin(&mut rules);
    let marked = rewritten(rules.clean(&marker(1, 60), abort));
    assert_eq!(marked.header.delete_horizon(), Some(NOW + RETENTION));
    rules.now += RETENTION;
    begin(&mut rules);
    assert!(matches!(rules.clean(&marked, abort), Kept::Nothing));
    let last = LastBatch {
        producer_epoch: 0,
        last_offset: None,
    };
    rules.producers.insert(1, last);
    let empty = rewritten(rules.clean(&marked, abort));
    assert_eq!(empty.header.record_count, 0);
}
