use super::*;
use crate::log::batch::{BatchHeader, HEADER_SIZE, at, checksum, parse};

/// A client's batch with header bytes overwritten and the checksum made right again.
fn altered(position: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch_of(&[b"one", b"two"]).bytes.to_vec();
    batch[position..position + bytes.len()].copy_from_slice(bytes);
    let (head, body) = batch
        .split_first_chunk_mut::<HEADER_SIZE>()
        .expect("a header");
    let crc = checksum(head, body).to_be_bytes();
    head[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc);
    batch.into()
}

#[test]
fn refuses_what_a_client_may_not_send() {
    let check = |what: &str, bytes: Bytes, expected: &str| {
        let error = parse(bytes, 1 << 20).expect_err(what);
        let kind = match &error {
            AppendError::Corrupt(_) => "corrupt",
            AppendError::Invalid(_) => "invalid",
            AppendError::InvalidTimestamp(_) => "timestamp",
            AppendError::TooLarge { .. } => "large",
            _ => "other",
        };
        assert_eq!(kind, expected, "{what}: {error}");
    };
    let good = batch_of(&[b"one", b"two"]).bytes;
    check("nothing", Bytes::new(), "invalid");
    check("a few bytes", good.slice(..10), "corrupt");
    check("half a header", good.slice(..40), "corrupt");
    check("half a body", good.slice(..good.len() - 1), "corrupt");
    check(
        "trailing bytes",
        [&good[..], b"x"].concat().into(),
        "corrupt",
    );
    check("magic 0", altered(at::MAGIC, &[0]), "invalid");
    check("magic 1", altered(at::MAGIC, &[1]), "invalid");
    check("magic 3", altered(at::MAGIC, &[3]), "corrupt");
    check(
        "negative length",
        altered(at::LENGTH, &(-1_i32).to_be_bytes()),
        "corrupt",
    );
    check(
        "short length",
        altered(at::LENGTH, &48_i32.to_be_bytes()),
        "corrupt",
    );
    check(
        "codec 5",
        altered(at::ATTRIBUTES, &5_i16.to_be_bytes()),
        "invalid",
    );
    check(
        "append time",
        altered(at::ATTRIBUTES, &8_i16.to_be_bytes()),
        "timestamp",
    );
    check(
        "transactional without a producer",
        altered(at::ATTRIBUTES, &16_i16.to_be_bytes()),
        "invalid",
    );
    check(
        "control",
        altered(at::ATTRIBUTES, &32_i16.to_be_bytes()),
        "invalid",
    );
    check(
        "unused bit",
        altered(at::ATTRIBUTES, &64_i16.to_be_bytes()),
        "invalid",
    );
    check(
        "high bit",
        altered(at::ATTRIBUTES, &i16::MIN.to_be_bytes()),
        "invalid",
    );
    check(
        "count 0",
        altered(at::RECORD_COUNT, &0_i32.to_be_bytes()),
        "invalid",
    );
    check(
        "count 3",
        altered(at::RECORD_COUNT, &3_i32.to_be_bytes()),
        "invalid",
    );
    check(
        "delta 5",
        altered(at::LAST_OFFSET_DELTA, &5_i32.to_be_bytes()),
        "invalid",
    );
    let time = (-2_i64).to_be_bytes();
    check(
        "base time -2",
        altered(at::BASE_TIMESTAMP, &time),
        "timestamp",
    );
    check(
        "max time -2",
        altered(at::MAX_TIMESTAMP, &time),
        "timestamp",
    );
    let producer = 5_i64.to_be_bytes();
    check(
        "producer without epoch",
        altered(at::PRODUCER_ID, &producer),
        "invalid",
    );
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("a byte") ^= 1;
    check("wrong checksum", flipped.into(), "corrupt");
    let error = parse(good.clone(), good.len() - 1).expect_err("too large");
    assert!(matches!(error, AppendError::TooLarge { .. }));
    assert_eq!(parse(good, 1 << 20).expect("parses").len(), 1);
}

#[test]
fn many_records_cannot_be_claimed_for_few_bytes() {
    let mut batch = altered(at::RECORD_COUNT, &1_000_000_i32.to_be_bytes()).to_vec();
    batch[at::LAST_OFFSET_DELTA..at::BASE_TIMESTAMP].copy_from_slice(&999_999_i32.to_be_bytes());
    let (head, body) = batch
        .split_first_chunk_mut::<HEADER_SIZE>()
        .expect("a header");
    let crc = checksum(head, body).to_be_bytes();
    head[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc);
    let error = parse(batch.into(), 1 << 20).expect_err("refused");
    assert!(matches!(error, AppendError::Invalid(_)), "{error}");
}

#[test]
fn the_message_about_old_formats_names_the_clients_that_work() {
    let error = parse(altered(at::MAGIC, &[1]), 1 << 20).expect_err("refused");
    let text = error.to_string();
    assert!(
        text.contains("librdkafka") && text.contains("Java"),
        "{text}"
    );
}

#[test]
fn several_batches_share_the_request_buffer() {
    let one = batch_of(&[b"one"]).bytes;
    let two = batch_of(&[b"two", b"three"]).bytes;
    let request: Bytes = [&one[..], &two[..]].concat().into();
    let parsed = parse(request.clone(), 1 << 20).expect("parses");
    assert_eq!(parsed.len(), 2);
    assert_eq!(parsed[0].bytes.as_ptr(), request.as_ptr());
    assert_eq!(parsed[1].bytes, two);
    assert_eq!(parsed[1].header.record_count, 2);
}

#[test]
fn a_header_written_is_the_header_read() {
    let header = numbered(9, 3, 70, 4).header;
    assert_eq!(BatchHeader::read(&header.write()), Some(header));
}

#[test]
fn any_bytes_are_answered_without_a_panic() {
    let mut random = Random::seeded("any_bytes_are_answered_without_a_panic");
    let good = batch_of(&[b"one", b"two"]).bytes;
    for _ in 0..20_000 {
        let mut bytes = good.to_vec();
        for _ in 0..=random.below(4) {
            let position = random.size(bytes.len());
            bytes[position] = random.next() as u8;
        }
        bytes.truncate(random.size(bytes.len() + 1));
        let _ = parse(bytes.into(), 1 << 20);
    }
}
