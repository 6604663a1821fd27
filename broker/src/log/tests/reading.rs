use super::*;
use crate::log::{OffsetQuery, ReadError};

#[test]
fn a_read_begins_with_the_batch_that_holds_the_offset() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for _ in 0..10 {
        append(&log, &[b"a", b"b", b"c"]);
    }
    commit(&log);
    for from in 0..30 {
        let read = log
            .read(from, 1 << 20, true, Isolation::ReadUncommitted)
            .expect("reads");
        let batches = batch::split(read.bytes, usize::MAX).expect("whole batches");
        assert_eq!(batches[0].header.base_offset, from / 3 * 3, "offset {from}");
        assert_eq!(
            batches.len(),
            usize::try_from(10 - from / 3).expect("small")
        );
    }
}

#[test]
fn sizes_bound_a_read_at_whole_batches() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let size = batch_of(&[&[1; 100]]).header.size;
    for _ in 0..10 {
        append(&log, &[&[1; 100]]);
    }
    commit(&log);
    for (max_bytes, at_least_one, batches) in [
        (0, false, 0),
        (0, true, 1),
        (60, false, 0),
        (60, true, 1),
        (size - 1, false, 0),
        (size - 1, true, 1),
        (size, false, 1),
        (size + 70, false, 1),
        (3 * size, false, 3),
        (usize::MAX, true, 10),
    ] {
        let read = log
            .read(0, max_bytes, at_least_one, Isolation::ReadUncommitted)
            .expect("reads");
        assert_eq!(
            read.bytes.len(),
            batches * size,
            "{max_bytes} {at_least_one}"
        );
    }
}

#[test]
fn offsets_outside_the_log_are_told_from_its_end() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a", b"b"]);
    commit(&log);
    assert!(
        log.read(2, 1000, true, Isolation::ReadUncommitted)
            .expect("the end")
            .bytes
            .is_empty()
    );
    for offset in [-1, 3, i64::MAX, i64::MIN] {
        let expected = ReadError::OutOfRange {
            offset,
            start: 0,
            end: 2,
        };
        assert_eq!(
            log.read(offset, 1000, true, Isolation::ReadUncommitted)
                .expect_err("outside"),
            expected
        );
    }
}

#[test]
fn any_offset_is_found_across_segments_with_and_without_the_index() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 300_000;
    fixture.topic.index_interval_bytes = 1000;
    let mut random = Random::seeded("any_offset_is_found");
    let mut values = Vec::new();
    {
        let logs = fixture.open();
        let log = fixture.partition(&logs, 1);
        for number in 0..3000_u32 {
            let mut value = number.to_be_bytes().to_vec();
            value.resize(4 + random.size(600), 1);
            append(&log, &[&value]);
            values.push(value);
        }
        commit(&log);
        assert!(log.stats().segments >= 3);
        logs.shutdown();
    }
    let check = |log: &PartitionLog, random: &mut Random| {
        for _ in 0..200 {
            let from = random.size(values.len());
            let read = log
                .read(
                    i64::try_from(from).expect("small"),
                    1,
                    true,
                    Isolation::ReadUncommitted,
                )
                .expect("reads");
            let batches = batch::split(read.bytes, usize::MAX).expect("a batch");
            let found = records::decode(&batches[0], 1 << 20).expect("decodes");
            assert_eq!(found[0].value.as_deref(), Some(&values[from][..]));
        }
        let all: Vec<_> = read_all(log).into_iter().map(|(_, value)| value).collect();
        assert!(all == values, "every record once, in order");
    };
    let logs = fixture.open();
    check(&fixture.partition(&logs, 1), &mut random);
    drop(logs);
    let index_files = |damage: &dyn Fn(PathBuf)| {
        for entry in std::fs::read_dir(fixture.folder(1)).expect("folder") {
            let path = entry.expect("entry").path();
            if path
                .extension()
                .is_some_and(|extension| extension == "index")
            {
                damage(path);
            }
        }
    };
    index_files(&|path| std::fs::remove_file(path).expect("removed"));
    let logs = fixture.open();
    check(&fixture.partition(&logs, 1), &mut random);
    drop(logs);
    let rebuilt = std::cell::Cell::new(0);
    index_files(&|path| {
        rebuilt.set(rebuilt.get() + 1);
        let mut bytes = std::fs::read(&path).expect("index");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(path, bytes).expect("written");
    });
    assert!(
        rebuilt.get() >= 3,
        "a missing index comes back when it was needed"
    );
    let logs = fixture.open();
    check(&fixture.partition(&logs, 1), &mut random);
}

#[test]
fn a_damaged_batch_is_never_served_and_the_others_are() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let size = u64::try_from(batch_of(&[&[1; 100]]).header.size).expect("small");
    for _ in 0..5 {
        append(&log, &[&[1; 100]]);
    }
    commit(&log);
    let path = segment_file(fixture.directory.path(), 1, 0);
    let good = std::fs::read(&path).expect("segment");
    let third = usize::try_from(4096 + 2 * size).expect("small");
    for at in [third + 3, third + 12, third + 16, third + 30, third + 100] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).expect("written");
        let read = log
            .read(0, 1 << 20, true, Isolation::ReadUncommitted)
            .expect("the batches in front");
        assert_eq!(read.bytes.len() as u64, 2 * size, "byte {at}");
        let error = log
            .read(2, 1 << 20, true, Isolation::ReadUncommitted)
            .expect_err("the damaged one");
        assert!(
            matches!(error, ReadError::Corrupt { offset: 2, .. }),
            "byte {at}: {error}"
        );
    }
    // The file's end is gone: never mistaken for an empty answer.
    std::fs::write(&path, &good[..third + 20]).expect("written");
    let error = log
        .read(2, 1 << 20, true, Isolation::ReadUncommitted)
        .expect_err("cut short");
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
}

#[test]
fn foreign_bytes_in_a_file_that_was_given_away_are_no_damage() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[&[1; 100]]);
    commit(&log);
    log.read(0, 1000, true, Isolation::ReadUncommitted)
        .expect("reads");
    log.segments.load()[0].retire();
    let path = segment_file(fixture.directory.path(), 1, 0);
    std::fs::write(path, [7; 10_000]).expect("written");
    let error = log
        .read(0, 1000, true, Isolation::ReadUncommitted)
        .expect_err("gone");
    assert!(matches!(error, ReadError::Storage(_)), "{error}");
}

#[test]
fn consumers_that_read_on_are_not_mixed_up() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 20_000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for number in 0..400_u32 {
        append(&log, &[&number.to_be_bytes()]);
    }
    commit(&log);
    let mut places = [0_i64; 20];
    let mut random = Random::seeded("consumers_that_read_on");
    while places.iter().any(|place| *place < 400) {
        let place = &mut places[random.size(20)];
        if *place == 400 {
            continue;
        }
        let max_bytes = random.size(2000);
        let read = log
            .read(*place, max_bytes, true, Isolation::ReadUncommitted)
            .expect("reads");
        for batch in batch::split(read.bytes, usize::MAX).expect("whole") {
            assert_eq!(batch.header.base_offset, *place);
            *place += 1;
        }
    }
}

#[test]
fn times_are_answered_to_the_record() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 6000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let times = |times: &[TimestampMs]| {
        let records: Vec<_> = times
            .iter()
            .zip(0..)
            .map(|(time, delta)| record(delta, *time, &[0; 300]))
            .collect();
        let template = BatchTemplate {
            compression: batch::Compression::Lz4,
            ..BatchTemplate::PLAIN
        };
        encode(template, &records)
    };
    for batch in [&[10, 20, 30][..], &[25, 60, 50], &[70, 70], &[40, 40]] {
        log.append(times(batch)).expect("appended");
        append_filler(&log);
    }
    commit(&log);
    for (query, expected) in [
        (OffsetQuery::Earliest, Some((0, -1))),
        (OffsetQuery::Latest, Some((14, -1))),
        (OffsetQuery::AtTime(0), Some((0, 10))),
        (OffsetQuery::AtTime(10), Some((0, 10))),
        (OffsetQuery::AtTime(11), Some((1, 20))),
        (OffsetQuery::AtTime(30), Some((2, 30))),
        (OffsetQuery::AtTime(31), Some((5, 60))),
        (OffsetQuery::AtTime(61), Some((8, 70))),
        (OffsetQuery::AtTime(71), None),
        (OffsetQuery::MaxTimestamp, Some((8, 70))),
    ] {
        assert_eq!(
            log.find_offset(query, Isolation::ReadUncommitted)
                .expect("answers"),
            expected,
            "{query:?}"
        );
    }
}

/// Fills a segment with a batch without a time, so that the times lie in several segments.
fn append_filler(log: &PartitionLog) {
    log.append(batch_at(-1, &[&[0; 1500]])).expect("appended");
}

#[test]
fn an_empty_log_answers_no_time() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let ask = |query| {
        log.find_offset(query, Isolation::ReadUncommitted)
            .expect("answers")
    };
    assert_eq!(ask(OffsetQuery::MaxTimestamp), None);
    assert_eq!(ask(OffsetQuery::AtTime(0)), None);
    assert_eq!(ask(OffsetQuery::Earliest), Some((0, -1)));
    assert_eq!(ask(OffsetQuery::Latest), Some((0, -1)));
}

#[test]
fn the_recent_end_is_hot_and_the_past_is_not() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(log.is_hot(0));
    let batch = batch_of(&[&[0; 1_000_000]]);
    for _ in 0..100 {
        log.append(batch.clone()).expect("appended");
    }
    assert!(!log.is_hot(0));
    assert!(log.is_hot(90));
    assert!(log.is_hot(100));
}
