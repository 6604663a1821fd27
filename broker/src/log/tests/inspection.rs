use std::os::unix::fs::FileExt;

use super::*;
use crate::log::inspect::{self, FindingKind};

fn filled() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 1000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    for number in 0..20 {
        append(&log, &[&[number; 200]]);
    }
    log.append(numbered(5, 2, 0, 3)).expect("appended");
    logs.shutdown();
    fixture
}

#[test]
fn shows_segments_and_batches_as_they_stand() {
    let fixture = filled();
    let segments = inspect::segments(&fixture.folder(1)).expect("segments");
    assert!(segments.len() > 3);
    assert!(segments.iter().all(|segment| segment.has_index));
    assert_eq!(segments[0].header, Ok((id(1), NOW)));
    let mut offsets = Vec::new();
    let mut last = None;
    for segment in &segments {
        let end = inspect::batches(&segment.path, |batch| {
            assert!(batch.is_whole);
            offsets.push(batch.base_offset);
            last = Some(batch);
            true
        })
        .expect("batches");
        assert_eq!(end.position, segment.file_bytes);
        assert_eq!(end.bytes_behind, 0);
    }
    assert_eq!(offsets, (0..=20).collect::<Vec<_>>());
    let last = last.expect("a batch");
    assert_eq!((last.producer_id, last.producer_epoch), (5, 2));
    assert_eq!((last.base_sequence, last.record_count), (0, 3));
}

#[test]
fn a_sound_folder_verifies_clean_and_a_running_one_too() {
    let fixture = filled();
    let report = inspect::verify(fixture.directory.path()).expect("report");
    assert_eq!(report.findings, []);
    assert_eq!(
        (report.partitions, report.batches, report.records),
        (1, 21, 23)
    );
    let logs = fixture.open();
    append(
        &fixture.partition(&logs, 1),
        &[b"unsynced, with space reserved behind"],
    );
    let report = inspect::verify(fixture.directory.path()).expect("report");
    assert_eq!(report.findings, []);
    assert_eq!(report.batches, 22);
}

#[test]
fn tells_where_damage_is_what_it_costs_and_what_to_do() {
    let fixture = filled();
    let size = batch_of(&[&[0; 200]]).header.size as u64;
    let check = |what: &str, damage: &dyn Fn(&Path), offset, whole_from| {
        let copy = fixture.copy();
        damage(copy.path());
        let report = inspect::verify(copy.path()).expect("report");
        assert_eq!(report.findings.len(), 1, "{what}: {:?}", report.findings);
        let finding = &report.findings[0];
        assert_eq!(
            (finding.offset, finding.whole_from),
            (offset, whole_from),
            "{what}"
        );
        assert!(!finding.advice.is_empty());
    };
    let write = |base: Offset, position: u64, byte: u8| {
        move |root: &Path| {
            let path = segment_file(root, 1, base);
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .expect("file");
            file.write_all_at(&[byte], position).expect("written");
        }
    };
    check("body", &write(0, 4096 + size + 100, 99), Some(1), Some(2));
    check("header", &write(0, 4096 + size + 16, 99), Some(1), Some(2));
    check(
        "last of a segment",
        &write(0, 4096 + 2 * size + 90, 99),
        Some(2),
        Some(3),
    );
    check(
        "segment header",
        &|root| {
            write(3, 9, 99)(root);
            write(3, 2048 + 9, 99)(root);
        },
        Some(3),
        Some(6),
    );
    check("one copy of it", &write(3, 9, 99), None, None);
    check("padding", &write(3, 4000, 99), None, None);
    let remove = |root: &Path| std::fs::remove_file(segment_file(root, 1, 3)).expect("removed");
    let copy = fixture.copy();
    remove(copy.path());
    let report = inspect::verify(copy.path()).expect("report");
    assert!(!report.findings.is_empty());
    check(
        "checkpoint",
        &|root| {
            let path = folder(root, 1).join("checkpoint");
            std::fs::write(path, b"TGCHECK1 nonsense").expect("written");
        },
        None,
        None,
    );
}

#[test]
fn following_the_advice_gives_a_log_that_works() {
    let fixture = filled();
    let size = batch_of(&[&[0; 200]]).header.size as u64;
    let path = segment_file(fixture.directory.path(), 1, 3);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("file");
    file.write_all_at(&[99; 4], 4096 + size + 20)
        .expect("written");
    let report = inspect::verify(fixture.directory.path()).expect("report");
    let finding = &report.findings[0];
    let position = finding.position.expect("a position");
    assert!(finding.advice.contains(&format!("truncate -s {position}")));
    file.set_len(position).expect("truncated");
    std::fs::remove_file(fixture.folder(1).join("checkpoint")).expect("removed");
    for segment in inspect::segments(&fixture.folder(1)).expect("segments") {
        if segment.base_offset > 3 {
            std::fs::remove_file(segment.path).expect("removed");
        }
    }
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert!(log.stats().stopped.is_none());
    assert_eq!(read_all(&log).len(), 4);
    assert_eq!(append(&log, &[b"on"]).base_offset, 4);
}

#[test]
fn batches_that_are_whole_and_lie_are_found() {
    use crate::log::batch::{BatchHeader, HEADER_SIZE, checksum};
    let lying = |change: fn(&mut BatchHeader)| {
        let mut batch = batch_of(&[b"one", b"two"]);
        change(&mut batch.header);
        let body = batch.bytes.slice(HEADER_SIZE..);
        batch.header.crc = checksum(&batch.header.write(), &body);
        batch.bytes = [&batch.header.write()[..], &body[..]].concat().into();
        batch
    };
    let fixture = Fixture::new();
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"honest"]);
    let claims_one = lying(|header| header.record_count = 1);
    log.append(claims_one).expect("appended");
    log.append(lying(|header| header.max_timestamp = -1))
        .expect("appended");
    for _ in 0..12 {
        let no_codec = lying(|header| header.attributes = 4);
        log.append(no_codec).expect("appended");
    }
    commit(&log);
    logs.shutdown();
    let report = inspect::verify(fixture.directory.path()).expect("report");
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|finding| (finding.kind, finding.offset, finding.whole_from))
        .collect();
    assert_eq!(found[0], (FindingKind::Contents, Some(1), Some(3)));
    assert_eq!(found[1], (FindingKind::Times, Some(3), Some(5)));
    assert_eq!(found[2], (FindingKind::Contents, Some(5), Some(7)));
    assert_eq!(found.len(), 11, "ten, and how many more there are");
    let last = report.findings.last().expect("findings");
    assert!(
        last.message.starts_with("4 more batches"),
        "{}",
        last.message
    );
    assert!(report.findings[0].advice.contains("offset 3"));
    assert_eq!((report.batches, report.records), (15, 28));
}
