use std::io::Write;

use super::*;
use crate::log::batch;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn sample() -> Vec<Record> {
    let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    vec![
        Record {
            offset_delta: 0,
            timestamp: 1_700_000_000_000,
            key: text("key"),
            value: text("value"),
            headers: vec![
                (Bytes::from_static(b"trace"), text("abc")),
                (Bytes::from_static(b"empty"), text("")),
                (Bytes::from_static(b"null"), None),
                (Bytes::new(), None),
            ],
        },
        Record {
            offset_delta: 1,
            timestamp: 1_699_999_999_000,
            key: None,
            value: None,
            headers: Vec::new(),
        },
        Record {
            offset_delta: 2,
            timestamp: 1_700_000_001_000,
            key: text(""),
            value: Some(Bytes::from(vec![b'x'; 100_000])),
            headers: Vec::new(),
        },
    ]
}

fn template(compression: Compression) -> BatchTemplate {
    BatchTemplate {
        compression,
        ..BatchTemplate::PLAIN
    }
}

/// A batch of one record claimed, over a body that the test made.
fn raw(compression: Compression, body: &[u8]) -> Batch {
    let mut header = encode(BatchTemplate::PLAIN, &sample())
        .expect("encodes")
        .header;
    header.attributes = compression.code();
    header.size = HEADER_SIZE + body.len();
    header.crc = checksum(&header.write(), body);
    let bytes = [&header.write()[..], body].concat();
    Batch {
        header,
        bytes: bytes.into(),
    }
}

/// The body of the sample, before compression.
fn plain_body() -> Vec<u8> {
    let batch = encode(BatchTemplate::PLAIN, &sample()).expect("encodes");
    batch.bytes[HEADER_SIZE..].to_vec()
}

#[test]
fn what_is_encoded_with_any_codec_is_decoded_again() {
    for codec in CODECS {
        let made = encode(template(codec), &sample()).expect("encodes");
        let parsed = batch::parse(made.bytes, 1 << 20).expect("a valid batch");
        assert_eq!(parsed[0].header.compression(), Some(codec));
        assert_eq!(parsed[0].header.base_timestamp, 1_700_000_000_000);
        assert_eq!(parsed[0].header.max_timestamp, 1_700_000_001_000);
        assert_eq!(
            decode(&parsed[0], 1 << 20).expect("decodes"),
            sample(),
            "{codec:?}"
        );
    }
}

#[test]
fn bodies_as_other_clients_write_them_are_decoded() {
    let body = plain_body();
    let raw_snappy = snap::raw::Encoder::new()
        .compress_vec(&body)
        .expect("compresses");
    let mut members = Vec::new();
    for part in body.chunks(body.len() / 2 + 1) {
        let level = flate2::Compression::fast();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(part).expect("compresses");
        members.extend(encoder.finish().expect("compresses"));
    }
    let info = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .content_checksum(true)
        .block_checksums(true);
    let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    lz4.write_all(&body).expect("compresses");
    let lz4 = lz4.finish().expect("compresses");
    let zstd = zstd::stream::encode_all(&body[..], 19).expect("compresses");
    for (what, codec, bytes) in [
        ("raw snappy (librdkafka)", Compression::Snappy, raw_snappy),
        ("gzip of two members", Compression::Gzip, members),
        ("lz4 with checksums", Compression::Lz4, lz4),
        ("zstd at level 19", Compression::Zstd, zstd),
    ] {
        let records = decode(&raw(codec, &bytes), 1 << 20);
        assert_eq!(records.expect(what), sample(), "{what}");
    }
}

#[test]
fn the_bound_on_decompressed_bytes_is_exact() {
    let bytes = plain_body().len();
    for codec in CODECS {
        let made = encode(template(codec), &sample()).expect("encodes");
        assert_eq!(
            decode(&made, bytes).expect("just fits").len(),
            3,
            "{codec:?}"
        );
        let error = decode(&made, bytes - 1).expect_err("one too many");
        assert!(
            matches!(&error, AppendError::Invalid(text) if text.contains("decompresses to more")),
            "{codec:?}: {error}"
        );
    }
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0_u8; 64 << 20];
    for codec in CODECS.into_iter().skip(1) {
        let bomb = compress(codec, zeros.clone()).expect("compresses");
        assert!(bomb.len() < 4 << 20, "{codec:?}: {} bytes", bomb.len());
        let error = decode(&raw(codec, &bomb), 1 << 20).expect_err("a bomb");
        assert!(
            matches!(error, AppendError::Invalid(_)),
            "{codec:?}: {error}"
        );
    }
    // A snappy header that promises 4 GB in a few bytes.
    let lie = raw(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    assert!(decode(&lie, usize::MAX).is_err());
}

/// One record with so many headers, the shortest there are, in zstd: a few hundred bytes for millions.
fn header_bomb(headers: usize) -> Batch {
    let mut record = vec![0, 0, 0, 1, 1];
    put_length(&mut record, headers);
    record.resize(record.len() + 2 * headers, 0);
    let mut body = Vec::new();
    put_length(&mut body, record.len());
    body.extend_from_slice(&record);
    let mut batch = raw(
        Compression::Zstd,
        &compress(Compression::Zstd, body).expect("compresses"),
    );
    batch.header.record_count = 1;
    batch
}

#[test]
fn what_records_take_in_memory_is_bounded_before_it_is_allocated() {
    let bounds = |memory| Bounds {
        decompressed: 8 << 20,
        memory,
        setting: "plugins.max-decompressed-bytes",
    };
    let bomb = header_bomb(3_900_000);
    assert!(bomb.bytes.len() < 1000, "{} bytes", bomb.bytes.len());
    let error = decode_within(&bomb, bounds(32 << 20)).expect_err("250 MB of headers");
    let AppendError::Invalid(text) = error else {
        panic!("{error}");
    };
    assert_eq!(
        text,
        "record 0 of 1 has 3900000 headers: taken apart, the batch would need more than 33554432 bytes of memory \
         (plugins.max-decompressed-bytes)"
    );
    let honest = header_bomb(10_000);
    let records = decode_within(&honest, bounds(32 << 20)).expect("ten thousand headers fit");
    assert_eq!(records[0].headers.len(), 10_000);

    let made = encode(BatchTemplate::PLAIN, &sample()).expect("encodes");
    let exact = made.bytes.len() - HEADER_SIZE + 3 * size_of::<Record>() + 4 * size_of::<Header>();
    assert_eq!(decode_within(&made, bounds(exact)).expect("fits").len(), 3);
    for memory in [exact - 1, exact - 4 * size_of::<Header>(), 100, 0] {
        let error = decode_within(&made, bounds(memory)).expect_err("no room");
        assert!(
            matches!(&error, AppendError::Invalid(text) if text.contains("plugins.max-decompressed-bytes")),
            "{memory}: {error}"
        );
    }
    let small = Bounds {
        decompressed: 1000,
        ..bounds(1 << 20)
    };
    let error = decode_within(&made, small).expect_err("too long");
    assert!(
        error
            .to_string()
            .contains("(plugins.max-decompressed-bytes)"),
        "{error}"
    );
}

#[test]
fn a_record_count_beyond_the_body_allocates_nothing() {
    let mut batch = encode(template(Compression::Zstd), &sample()).expect("encodes");
    batch.header.record_count = i32::MAX;
    let error = decode(&batch, 1 << 20).expect_err("impossible");
    assert!(matches!(error, AppendError::Corrupt(_)), "{error}");
}

#[test]
fn malformed_records_are_named() {
    let one = [12_u8, 0, 0, 0, 1, 1, 0];
    let check = |what: &str, body: &[u8], count: i32| {
        let mut batch = raw(Compression::None, body);
        batch.header.record_count = count;
        batch.header.last_offset_delta = count - 1;
        let error = decode(&batch, 1 << 20).expect_err(what);
        assert!(matches!(error, AppendError::Corrupt(_)), "{what}: {error}");
    };
    let mut good = raw(Compression::None, &one);
    good.header.record_count = 1;
    good.header.last_offset_delta = 0;
    assert_eq!(decode(&good, 100).expect("decodes").len(), 1);
    check("two for one", &one.repeat(2), 1);
    check("the same delta again", &one.repeat(2), 2);
    check("a length that reaches too far", &[14, 0, 0, 0, 1, 1, 0], 1);
    check("a length that falls short", &[10, 0, 0, 0, 1, 1, 0], 1);
    check("a negative length", &[1, 0, 0, 0, 1, 1, 0], 1);
    check("a key length below -1", &[12, 0, 0, 0, 3, 1, 0], 1);
    check("a negative header count", &[12, 0, 0, 0, 1, 1, 1], 1);
    check(
        "a header count that cannot be",
        &[12, 0, 0, 0, 1, 1, 126],
        1,
    );
    check("a varint without end", &[0xff; 20], 1);
    check(
        "an offset delta beyond the last",
        &[12, 0, 0, 2, 1, 1, 0],
        1,
    );
}

#[test]
fn any_body_is_answered_without_a_panic() {
    let mut state = u64::from_be_bytes(crate::env::random_bytes()) | 1;
    println!("seed {state}");
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut short = sample();
    short[2].value = Some(Bytes::from_static(b"short"));
    for codec in CODECS {
        let body = encode(template(codec), &short)
            .expect("encodes")
            .bytes
            .slice(HEADER_SIZE..);
        for _ in 0..3000 {
            let mut bytes = body.to_vec();
            for _ in 0..=next() % 3 {
                let position = usize::try_from(next()).unwrap_or(0) % bytes.len();
                bytes[position] = next() as u8;
            }
            bytes.truncate(1 + usize::try_from(next()).unwrap_or(0) % bytes.len());
            let _ = decode(&raw(codec, &bytes), 1 << 20);
            let _ = offset_of_time(&raw(codec, &bytes), 5, 0, 1 << 20);
        }
    }
}

#[test]
fn varints_hold_every_number() {
    for number in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN, 1 << 40] {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, number);
        let mut cursor = Cursor { rest: bytes.into() };
        assert_eq!(cursor.varint(), Some(number));
        assert!(cursor.rest.is_empty());
    }
}

#[test]
fn like_keeps_identity_and_span_and_an_emptied_batch_has_no_body() {
    let origin = BatchHeader {
        producer_id: 5,
        producer_epoch: 2,
        base_sequence: 40,
        last_offset_delta: 9,
        ..encode(template(Compression::Gzip), &sample())
            .expect("encodes")
            .header
    };
    let like = BatchTemplate::like(&origin);
    assert_eq!(like.compression, Compression::Gzip);
    let empty = encode(like, &[]).expect("encodes");
    assert_eq!(empty.bytes.len(), HEADER_SIZE);
    assert_eq!(
        (empty.header.record_count, empty.header.last_offset_delta),
        (0, 9)
    );
    assert_eq!(empty.header.base_sequence, 40);
    assert_eq!(decode(&empty, 100).expect("decodes"), []);
    assert!(
        batch::parse(empty.bytes.clone(), 1000).is_err(),
        "no client may send it"
    );
    assert_eq!(
        batch::split(empty.bytes, 1000)
            .expect("the broker may")
            .len(),
        1
    );
}

#[test]
fn records_that_cannot_be_a_batch_are_refused() {
    let record = |offset_delta| Record {
        offset_delta,
        ..Record::default()
    };
    let short = BatchTemplate {
        last_offset_delta: Some(0),
        ..BatchTemplate::PLAIN
    };
    for (what, template, records) in [
        ("no span", BatchTemplate::PLAIN, vec![]),
        (
            "the same delta",
            BatchTemplate::PLAIN,
            vec![record(1), record(1)],
        ),
        (
            "a falling delta",
            BatchTemplate::PLAIN,
            vec![record(1), record(0)],
        ),
        ("a negative delta", BatchTemplate::PLAIN, vec![record(-1)]),
        ("beyond the span", short, vec![record(0), record(1)]),
    ] {
        assert!(encode(template, &records).is_err(), "{what}");
    }
}

#[test]
fn a_time_is_found_to_the_record_in_every_codec() {
    for codec in CODECS {
        let mut batch = encode(template(codec), &sample()).expect("encodes");
        batch.header.base_offset = 100;
        let ask = |time, from| offset_of_time(&batch, time, from, 1 << 20).expect("decodes");
        assert_eq!(ask(0, 0), Some((100, 1_700_000_000_000)));
        assert_eq!(ask(0, 101), Some((101, 1_699_999_999_000)));
        assert_eq!(ask(1_700_000_000_001, 0), Some((102, 1_700_000_001_000)));
        assert_eq!(ask(1_700_000_001_001, 0), None);
    }
}
