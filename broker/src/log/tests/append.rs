use super::*;
use crate::config::TimestampType;
use crate::log::batch::at;

#[test]
fn what_is_appended_is_read_back_byte_for_byte() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let sent = [
        batch_of(&[b"a", b"bb"]),
        batch_of(&[&[7; 200_000]]),
        batch_of(&[b"c"]),
    ];
    let mut offsets = Vec::new();
    for batch in &sent {
        let appended = log.append(batch.clone()).expect("appended");
        offsets.push((appended.base_offset, appended.last_offset));
    }
    assert_eq!(offsets, [(0, 1), (2, 2), (3, 3)]);
    commit(&log);
    let read = log
        .read(0, 1 << 20, true, Isolation::ReadUncommitted)
        .expect("reads");
    let got = batch::split(read.bytes, usize::MAX).expect("whole batches");
    assert_eq!(got.len(), 3);
    for ((sent, got), (base, _)) in sent.iter().zip(&got).zip(&offsets) {
        assert_eq!(got.header.base_offset, *base);
        assert_eq!(
            got.header.leader_epoch, 0,
            "the seal does not leave the disk"
        );
        assert_eq!(got.bytes[at::MAGIC..], sent.bytes[at::MAGIC..]);
    }
}

#[test]
fn the_file_carries_a_seal_and_not_the_epoch() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"a"]);
    let bytes = std::fs::read(segment_file(fixture.directory.path(), 1, 0)).expect("segment");
    assert_eq!(&bytes[..8], b"TGSEGMNT");
    let header: &[u8; 61] = bytes[4096..].first_chunk().expect("a header");
    assert_ne!(header[at::LEADER_EPOCH..at::MAGIC], [0; 4]);
    let salt = u64::from_be_bytes(*bytes[24..].first_chunk().expect("a salt"));
    assert!(crate::log::seal::open(salt, 4096, header).is_some());
    assert!(crate::log::seal::open(salt, 4097, header).is_none());
    assert!(crate::log::seal::open(salt ^ 1, 4096, header).is_none());
}

#[test]
fn every_bit_of_a_sealed_header_is_protected() {
    let header = batch_of(&[b"a"]).header.write();
    let mut sealed = header;
    crate::log::seal::apply(99, 4096, &mut sealed);
    assert!(crate::log::seal::open(99, 4096, &sealed).is_some());
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(
            crate::log::seal::open(99, 4096, &damaged).is_none(),
            "bit {bit}"
        );
    }
}

#[test]
fn an_idle_partition_costs_no_file() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(!fixture.folder(1).exists());
    assert_eq!(log.offsets(), crate::log::Offsets::default());
    assert!(
        log.read(0, 1000, true, Isolation::ReadUncommitted)
            .expect("reads")
            .bytes
            .is_empty()
    );
    logs.shutdown();
    assert!(!fixture.folder(1).exists());
}

#[test]
fn a_partition_that_has_rolled_many_times_keeps_one_file_open() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 20_000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for number in 0..50 {
        append(&log, &[&[1; 3000]]);
        if number % 2 == 0 {
            commit(&log);
        }
    }
    commit(&log);
    assert!(log.stats().segments > 5);
    let folder = fixture.folder(1);
    let open_files = || {
        let open = std::fs::read_dir("/proc/self/fd").expect("open files");
        open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|path| path.starts_with(&folder))
            .count()
    };
    eventually("sealed segments are closed", || open_files() <= 1);
    assert_eq!(read_all(&log).len(), 50);
    eventually("readers close their files", || open_files() <= 1);
}

#[test]
fn segments_roll_by_size_and_by_age() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 5000;
    fixture.topic.segment_ms = 1000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[&[1; 3000]]);
    append(&log, &[&[2; 1500]]);
    assert_eq!(log.stats().segments, 1);
    append(&log, &[&[3; 3000]]);
    assert_eq!(log.stats().segments, 2, "by size");
    fixture.clock.advance(999);
    append(&log, &[b"x"]);
    assert_eq!(log.stats().segments, 2);
    fixture.clock.advance(1);
    append(&log, &[b"y"]);
    assert_eq!(log.stats().segments, 3, "by age");
    append(&log, &[&[4; 20_000]]);
    assert_eq!(
        log.stats().segments,
        4,
        "a batch larger than a segment has one to itself"
    );
    commit(&log);
    assert_eq!(read_all(&log).len(), 6);
}

#[test]
fn log_append_time_stamps_the_batch_and_keeps_it_valid() {
    let mut fixture = Fixture::new();
    fixture.topic.timestamp_type = TimestampType::LogAppendTime;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let appended = log.append(batch_at(5, &[b"a", b"b"])).expect("appended");
    assert_eq!(appended.log_append_time, Some(NOW));
    commit(&log);
    let read = log
        .read(0, 1 << 20, true, Isolation::ReadUncommitted)
        .expect("reads");
    let got = batch::split(read.bytes, usize::MAX).expect("checksums are right");
    assert!(got[0].header.is_log_append_time());
    assert_eq!(got[0].header.max_timestamp, NOW);
    let times: Vec<_> = records::decode(&got[0], 1000)
        .expect("decodes")
        .iter()
        .map(|record| record.timestamp)
        .collect();
    assert_eq!(times, [NOW, NOW]);
}

#[test]
fn a_batch_that_lost_records_keeps_its_offsets() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let whole = numbered(7, 0, 0, 5);
    let template = BatchTemplate::like(&whole.header);
    let thinned = records::encode(template, &[record(1, NOW, b"x"), record(3, NOW, b"y")]);
    let empty = BatchTemplate {
        base_sequence: 5,
        ..template
    };
    log.append(thinned.expect("encodes")).expect("appended");
    let emptied = records::encode(empty, &[]).expect("encodes");
    let appended = log.append(emptied).expect("appended");
    assert_eq!((appended.base_offset, appended.last_offset), (5, 9));
    log.append(numbered(7, 0, 10, 1))
        .expect("sequences went on");
    commit(&log);
    let offsets: Vec<_> = read_all(&log)
        .into_iter()
        .map(|(offset, _)| offset)
        .collect();
    assert_eq!(offsets, [1, 3, 10]);
}

#[test]
fn too_large_a_batch_is_refused_whoever_made_it() {
    let mut fixture = Fixture::new();
    fixture.topic.max_message_bytes = 1000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let error = log.append(batch_of(&[&[0; 2000]])).expect_err("refused");
    assert!(
        matches!(error, AppendError::TooLarge { limit: 1000, .. }),
        "{error}"
    );
    assert_eq!(log.offsets().log_end, 0);
}

#[test]
fn a_second_process_is_kept_out() {
    let fixture = Fixture::new();
    let logs = fixture.open();
    let second = LogSet::open(
        fixture.directory.path(),
        LogConfig::default(),
        Clock::system(),
    );
    let error = second.expect_err("refused");
    assert!(error.contains("in use by another process"), "{error}");
    drop(logs);
    fixture.open();
}

#[test]
fn times_too_far_from_the_brokers_are_refused() {
    let mut fixture = Fixture::new();
    fixture.topic.timestamp_before_max_ms = 1_000;
    fixture.topic.timestamp_after_max_ms = 10;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for (time, is_taken) in [
        (NOW, true),
        (NOW - 1_000, true),
        (NOW - 1_001, false),
        (NOW + 10, true),
        (NOW + 11, false),
        (-1, true),
    ] {
        let outcome = log.append(batch_at(time, &[b"x"]));
        let is_refused = matches!(outcome, Err(AppendError::InvalidTimestamp(_)));
        assert_eq!(
            (outcome.is_ok(), is_refused),
            (is_taken, !is_taken),
            "{time}"
        );
    }
}
