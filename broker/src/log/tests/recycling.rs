use std::os::unix::fs::FileExt;

use super::*;

/// A set whose pool holds one file of a deleted topic, full of valid batches of `value`'s shape.
fn with_spare_file(fixture: &mut Fixture, value: &[u8]) -> Arc<LogSet> {
    fixture.topic.segment_bytes = 200_000;
    fixture.config.recycle_bytes = 300_000;
    let logs = fixture.open();
    let old = fixture.partition(&logs, 9);
    let size = batch_of(&[value]).header.size;
    for _ in 0..150_000 / size {
        append(&old, &[value]);
    }
    commit(&old);
    logs.delete_topic(topic_id(9)).expect("deleted");
    assert!(logs.pool_bytes() >= 150_000);
    logs
}

#[test]
fn old_batches_of_the_same_shape_offsets_and_positions_are_never_records() {
    let mut fixture = Fixture::new();
    let logs = with_spare_file(&mut fixture, &[1; 100]);
    let spare = logs.pool_bytes();
    let log = fixture.partition(&logs, 1);
    for _ in 0..5 {
        append(&log, &[&[2; 100]]);
    }
    commit(&log);
    assert!(logs.pool_bytes() < spare, "the spare file was taken");
    let file = segment_file(fixture.directory.path(), 1, 0);
    let bytes = std::fs::read(&file).expect("segment");
    let size = batch_of(&[&[2; 100]]).header.size;
    let sixth = 4096 + 5 * size;
    let old = batch::BatchHeader::read(&bytes[sixth..]).expect("an old header");
    assert_eq!(
        old.base_offset, 5,
        "the old batch is where the next would be, and next in order"
    );
    let end = sixth + size;
    let (head, body) = bytes[sixth..end].split_first_chunk().expect("a header");
    assert_eq!(
        batch::checksum(head, body),
        old.crc,
        "and its checksum is right"
    );
    assert_eq!(read_all(&log).len(), 5);
    drop((log, logs));
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    let records = read_all(&log);
    assert_eq!(records.len(), 5);
    assert!(records.iter().all(|(_, value)| value == &[2; 100]));
    assert!(log.stats().stopped.is_none());
}

#[test]
fn a_recycled_file_torn_at_any_byte_shows_no_old_batch() {
    let mut fixture = Fixture::new();
    let logs = with_spare_file(&mut fixture, &[1; 30]);
    let file = segment_file(fixture.directory.path(), 1, 0);
    let log = fixture.partition(&logs, 1);
    append(&log, &[&[2; 30]]);
    append(&log, &[&[3; 30]]);
    commit(&log);
    let size = batch_of(&[&[1; 30]]).header.size as u64;
    let whole = std::fs::read(&file).expect("segment");
    let old_third = usize::try_from(4096 + 2 * size).expect("small");
    drop((log, logs));
    let last = usize::try_from(4096 + size).expect("small");
    // The last byte, a record's count of headers, is the same in both: with the old one the batch is whole.
    for torn in last..old_third - 1 {
        // The last batch's front reached the disk; behind it stands what the file had held there before: here the same bytes
        // as one place further on.
        let copy = fixture.copy();
        let mut bytes = whole.clone();
        let old = bytes[old_third + torn - last..].to_vec();
        bytes.truncate(torn);
        bytes.extend_from_slice(&old);
        let path = segment_file(copy.path(), 1, 0);
        std::fs::write(path, bytes).expect("written");
        let logs = fixture.open_at(copy.path());
        let log = fixture.partition(&logs, 1);
        let values: Vec<_> = read_all(&log).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [vec![2; 30]], "torn at {torn}");
    }
}

#[test]
fn a_payload_of_valid_batches_is_not_mistaken_for_batches() {
    let mut fixture = Fixture::new();
    fixture.topic.max_message_bytes = 1 << 20;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    append(&log, &[b"real"]);
    log.checkpoint().expect("a clean point");
    let file = segment_file(fixture.directory.path(), 1, 0);
    let sealed = std::fs::read(&file).expect("segment");
    let size = batch_of(&[b"real"]).header.size;
    // The very bytes of a stored batch, under its seal, and batches that carry the next offsets.
    let mut payload = sealed[4096..4096 + size].repeat(50);
    let salt = u64::from_be_bytes(*sealed[24..].first_chunk().expect("a salt"));
    for offset in 1..50_i64 {
        let mut batch = sealed[4096..4096 + size].to_vec();
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        // Sealed even with the file's own salt, but for another place.
        let head = batch.first_chunk_mut().expect("a header");
        crate::log::seal::apply(salt, 4096, head);
        payload.extend_from_slice(&batch);
    }
    append(&log, &[&payload]);
    commit(&log);
    drop((log, logs));
    // The batch around the payload loses its header: what is left is a file that goes on with valid-looking batches.
    let handle = std::fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("file");
    let outer = 4096 + size as u64;
    handle.write_all_at(&[0; 61], outer).expect("written");
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    assert_eq!(read_all(&log), [(0, b"real".to_vec())]);
    assert!(log.stats().stopped.is_none(), "a torn tail, not damage");
}

#[test]
fn a_spare_file_gets_a_salt_of_its_own_each_time() {
    let mut fixture = Fixture::new();
    let logs = with_spare_file(&mut fixture, &[1; 100]);
    let salt = |number: u8| {
        let bytes = std::fs::read(segment_file(fixture.directory.path(), number, 0));
        bytes.expect("segment")[24..32].to_vec()
    };
    append(&fixture.partition(&logs, 1), &[b"a"]);
    append(&fixture.partition(&logs, 2), &[b"a"]);
    assert_ne!(salt(1), salt(2));
}

#[test]
fn a_file_enters_the_pool_without_a_header() {
    let mut fixture = Fixture::new();
    let logs = with_spare_file(&mut fixture, &[1; 100]);
    for entry in std::fs::read_dir(fixture.directory.path().join("recycle")).expect("pool") {
        let bytes = std::fs::read(entry.expect("entry").path()).expect("spare file");
        assert!(bytes[..4096].iter().all(|byte| *byte == 0));
        assert!(bytes[4096..5000].iter().any(|byte| *byte != 0));
    }
    drop(logs);
}

#[test]
fn the_pool_is_bounded_and_outlives_a_restart() {
    let mut fixture = Fixture::new();
    let logs = with_spare_file(&mut fixture, &[1; 100]);
    let log = fixture.partition(&logs, 1);
    for _ in 0..30 {
        append(&log, &[&[1; 50_000]]);
    }
    commit(&log);
    logs.delete_topic(topic_id(1)).expect("deleted");
    let bytes = logs.pool_bytes();
    assert!(bytes <= 300_000, "{bytes}");
    assert!(bytes > 0);
    drop((log, logs));
    assert_eq!(fixture.open().pool_bytes(), bytes);
    fixture.config.recycle_bytes = 0;
    assert_eq!(fixture.open().pool_bytes(), 0);
}

#[test]
fn a_reader_of_a_file_that_was_given_away_is_told_so() {
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 20_000;
    fixture.topic.retention_bytes = 30_000;
    let logs = fixture.open();
    let log = fixture.partition(&logs, 1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut next = 0;
            while next < 2000 {
                match log.read(next, 5000, true, Isolation::ReadUncommitted) {
                    Ok(read) => {
                        for batch in batch::split(read.bytes, usize::MAX).expect("whole batches") {
                            let base = batch.header.base_offset;
                            assert_eq!(base, next);
                            let value = &records::decode(&batch, 10_000).expect("decodes")[0].value;
                            let expected = [u8::try_from(base % 251).expect("small"); 500];
                            assert_eq!(value.as_deref(), Some(&expected[..]));
                            next = base + 1;
                        }
                    }
                    Err(crate::log::ReadError::OutOfRange { start, .. }) => next = start,
                    Err(error) => panic!("at {next}: {error}"),
                }
            }
        });
        for number in 0..2000_u32 {
            let value = [u8::try_from(number % 251).expect("small"); 500];
            append(&log, &[&value]);
            if number % 50 == 0 {
                commit(&log);
                logs.enforce_retention();
            }
        }
        commit(&log);
        reader.join().expect("the reader saw only true records");
    });
}
