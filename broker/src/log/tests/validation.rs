//! What is admitted of a Produce request: one table for each kind of lie, for every codec.

use std::io::Write as _;

use super::*;
use crate::config::{TimestampType, Validation};
use crate::log::batch::{BatchHeader, Compression, HEADER_SIZE, at, checksum};
use crate::log::compression::compress;
use crate::log::records::encode_body;
use crate::log::validate::walker::{Deltas, Expected, Facts, Fault, MAX_OFFENCES, Walker};
use crate::log::validate::{Rules, Turns, admit, examine};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const BOUND: usize = 16 << 20;

/// What a client claims in the header around a body of its own.
#[derive(Clone, Copy)]
struct Claim {
    codec: Compression,
    count: i32,
    last_offset_delta: i32,
    max_timestamp: TimestampMs,
}

impl Claim {
    fn of(count: i32) -> Self {
        Self {
            codec: Compression::None,
            count,
            last_offset_delta: count - 1,
            max_timestamp: NOW,
        }
    }

    /// The batch around a body that is compressed already, with the right checksum.
    fn around(self, body: &[u8]) -> Bytes {
        let mut header = batch_of(&[b"x"]).header;
        header.size = HEADER_SIZE + body.len();
        header.attributes = self.codec.code();
        header.record_count = self.count;
        header.last_offset_delta = self.last_offset_delta;
        header.max_timestamp = self.max_timestamp;
        header.crc = checksum(&header.write(), body);
        [&header.write()[..], body].concat().into()
    }

    fn compressing(self, codec: Compression, body: &[u8]) -> Bytes {
        let body = compress(codec, body.to_vec()).expect("compresses");
        Self { codec, ..self }.around(&body)
    }
}

/// The plain body of records with these deltas and times, each with a key.
fn body_of(places: &[(i32, TimestampMs)]) -> Vec<u8> {
    let records: Vec<Record> = places
        .iter()
        .map(|(delta, time)| Record {
            key: Some(Bytes::from_static(b"k")),
            headers: vec![(Bytes::from_static(b"h"), None)],
            ..record(*delta, *time, b"value")
        })
        .collect();
    encode_body(&records, NOW, Compression::None).expect("encodes")
}

fn in_order(count: i32) -> Vec<u8> {
    let places: Vec<_> = (0..count).map(|delta| (delta, NOW)).collect();
    body_of(&places)
}

fn admitted(records: Bytes, config: &TopicConfig) -> Result<Batch, AppendError> {
    let turns = Turns::default();
    let rules = Rules {
        config,
        now: NOW,
        max_decompressed: BOUND,
        turns: &turns,
    };
    admit(records, &rules)
}

fn kind(error: &AppendError) -> &'static str {
    match error {
        AppendError::Corrupt(_) => "corrupt",
        AppendError::Invalid(_) => "invalid",
        AppendError::Records(records) if records.has_wrong_time => "timestamp",
        AppendError::Records(_) => "record",
        AppendError::InvalidTimestamp(_) => "header timestamp",
        AppendError::TooLarge { .. } | AppendError::InflatedTooFar { .. } => "large",
        _ => "other",
    }
}

/// The records that were refused one by one.
fn indexes(error: &AppendError) -> Vec<u32> {
    match error {
        AppendError::Records(records) => records.records.iter().map(|one| one.index).collect(),
        _ => Vec::new(),
    }
}

/// A batch of three records that lies, how it is refused, and at which record.
struct Lie {
    what: &'static str,
    claim: Claim,
    body: Vec<u8>,
    expected: &'static str,
    record: Option<u32>,
}

/// Batches that are wrong as a whole.
fn lies_of_batches() -> Vec<Lie> {
    let lie = |what, count, body| Lie {
        what,
        claim: Claim::of(count),
        body,
        expected: if count == i32::MAX {
            "large"
        } else {
            "invalid"
        },
        record: None,
    };
    vec![
        lie("two records fewer", 5, in_order(3)),
        lie("one record more", 2, in_order(3)),
        lie("no record", 3, Vec::new()),
        lie("2³¹−1 records", i32::MAX, in_order(3)),
        lie("trailing bytes", 3, [in_order(3), vec![0xff; 9]].concat()),
        lie("a trailing zero", 3, [in_order(3), vec![0]].concat()),
    ]
}

/// Batches of which one record is wrong.
fn lies_of_records() -> Vec<Lie> {
    let lie = |what, record, body| Lie {
        what,
        claim: Claim::of(3),
        body,
        expected: "record",
        record: Some(record),
    };
    let deltas = |deltas: [i32; 3]| body_of(&deltas.map(|delta| (delta, NOW)));
    let cut = |by: usize| in_order(3)[..in_order(3).len() - by].to_vec();
    let changed = |position: usize, byte: u8| {
        let mut body = in_order(3);
        body[position] = byte;
        body
    };
    // A record of the body: length, attributes, time, delta, key length, key, value length, value (5), header count, header
    // name length, name, header value length.
    vec![
        lie("deltas 0, 2, 1", 1, deltas([0, 2, 1])),
        lie("deltas 0, 0, 0", 1, deltas([0, 0, 0])),
        lie("deltas 1, 2, 3", 0, deltas([1, 2, 3])),
        lie("a delta of a million", 2, deltas([0, 1, 1 << 20])),
        lie("a negative delta", 0, deltas([-1, 1, 2])),
        lie("cut short", 2, cut(1)),
        lie("cut short by a record and a half", 1, cut(20)),
        lie("a record's length past the end", 0, changed(0, 126)),
        lie("a negative length", 0, changed(0, 1)),
        lie("a length of nothing", 0, changed(0, 0)),
        lie("a key past the record's end", 0, changed(4, 124)),
        lie("a key length of -2", 0, changed(4, 3)),
        lie("a value past the record's end", 0, changed(6, 124)),
        lie("a value length of -2", 0, changed(6, 3)),
        lie("a negative header count", 0, changed(12, 1)),
        lie("more headers than bytes", 0, changed(12, 124)),
        lie("a header without a name", 0, changed(13, 1)),
        lie("a header's value past the end", 0, changed(15, 124)),
        lie("bytes left over in a record", 0, changed(12, 0)),
        lie("garbage", 0, vec![0xff; 40]),
    ]
}

#[test]
fn what_the_records_are_not_is_refused_in_every_codec() {
    let config = TopicConfig::default();
    for codec in CODECS {
        let honest = Claim::of(3).compressing(codec, &in_order(3));
        admitted(honest, &config).expect("an honest batch is taken");
        for lie in lies_of_batches().into_iter().chain(lies_of_records()) {
            let Lie {
                what,
                claim,
                body,
                expected,
                record,
            } = lie;
            let is_large = expected == "large" && codec == Compression::None;
            let expected = if is_large { "invalid" } else { expected };
            let bytes = claim.compressing(codec, &body);
            let error = admitted(bytes, &config).expect_err(what);
            assert_eq!(kind(&error), expected, "{codec:?}, {what}: {error}");
            assert_eq!(
                indexes(&error),
                record.into_iter().collect::<Vec<_>>(),
                "{codec:?}, {what}"
            );
        }
    }
}

#[test]
fn a_body_that_is_not_its_codec_is_refused_and_damage_can_be_sent_again() {
    let config = TopicConfig::default();
    for codec in &CODECS[1..] {
        let claim = Claim {
            codec: *codec,
            ..Claim::of(3)
        };
        let whole = compress(*codec, in_order(3)).expect("compresses");
        let bodies = [
            b"this is no compressed data at all, honestly!".to_vec(),
            Vec::new(),
            whole[..whole.len() / 2].to_vec(),
            [&whole[..], b"and more"].concat(),
        ];
        for body in bodies {
            let error = admitted(claim.around(&body), &config).expect_err("refused");
            assert!(
                ["invalid", "record"].contains(&kind(&error)),
                "{codec:?}: {error}"
            );
        }
    }
    // A wrong checksum comes first, whatever else is wrong.
    for claim in [Claim::of(3), Claim::of(5), Claim::of(-1)] {
        let mut bytes = claim.around(&in_order(3)).to_vec();
        bytes[at::CRC] ^= 1;
        let error = admitted(bytes.into(), &config).expect_err("refused");
        assert_eq!(kind(&error), "corrupt", "{error}");
    }
}

#[test]
fn headers_that_lie_are_refused_whatever_is_behind_them() {
    let config = TopicConfig::default();
    let altered = |change: fn(&mut BatchHeader)| {
        let batch = batch_of(&[b"one", b"two"]);
        let mut header = batch.header;
        change(&mut header);
        let body = &batch.bytes[HEADER_SIZE..];
        header.crc = checksum(&header.write(), body);
        Bytes::from([&header.write()[..], body].concat())
    };
    type Change = fn(&mut BatchHeader);
    let table: [(&str, Change); 6] = [
        ("base offset 77", |header| header.base_offset = 77),
        ("count 0", |header| header.record_count = 0),
        ("a negative count", |header| header.record_count = -1),
        ("last offset delta", |header| header.last_offset_delta = 7),
        ("codec 5", |header| header.attributes = 5),
        ("control", |header| header.attributes = 32),
    ];
    for (what, change) in table {
        let error = admitted(altered(change), &config).expect_err(what);
        assert_eq!(kind(&error), "invalid", "{what}: {error}");
    }
    let one = batch_of(&[b"one"]).bytes;
    let two = Bytes::from([&one[..], &one[..]].concat());
    assert_eq!(
        kind(&admitted(two, &config).expect_err("two batches")),
        "invalid"
    );
    assert_eq!(
        kind(&admitted(Bytes::new(), &config).expect_err("none")),
        "invalid"
    );
}

#[test]
fn the_largest_time_of_the_header_is_that_of_the_records() {
    let config = TopicConfig::default();
    let body = body_of(&[(0, NOW), (1, NOW + 5_000), (2, NOW + 1_000)]);
    for codec in CODECS {
        for claimed in [-1, NOW, NOW + 10_000_000, NOW + 5_000] {
            let claim = Claim {
                max_timestamp: claimed,
                ..Claim::of(3)
            };
            let sent = claim.compressing(codec, &body);
            let batch = admitted(sent.clone(), &config).expect("taken");
            assert_eq!(
                batch.header.max_timestamp,
                NOW + 5_000,
                "{codec:?} {claimed}"
            );
            let is_kept = batch.bytes.as_ptr() == sent.as_ptr();
            assert_eq!(
                is_kept,
                claimed == NOW + 5_000,
                "only what is wrong is copied"
            );
            let again = batch::split(batch.bytes.clone(), 1 << 20).expect("a right checksum");
            assert_eq!(again[0].header, batch.header);
            assert_eq!(batch.bytes[HEADER_SIZE..], sent[HEADER_SIZE..]);
        }
    }
    // Nobody has a time.
    let claim = Claim {
        max_timestamp: NOW,
        ..Claim::of(2)
    };
    let bytes = claim.compressing(Compression::Zstd, &body_of(&[(0, -1), (1, -1)]));
    let batch = admitted(bytes, &config).expect("taken");
    assert_eq!(batch.header.max_timestamp, -1);
    // Where the broker stamps, it writes the header anyway.
    let stamped = TopicConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..TopicConfig::default()
    };
    let sent = Claim::of(3).compressing(Compression::None, &body);
    let batch = admitted(sent.clone(), &stamped).expect("taken");
    assert_eq!(batch.bytes.as_ptr(), sent.as_ptr());
}

#[test]
fn records_are_refused_one_by_one_for_their_time_or_their_key() {
    let config = TopicConfig {
        timestamp_before_max_ms: 1_000,
        timestamp_after_max_ms: 10,
        ..TopicConfig::default()
    };
    let table: [(&[TimestampMs], &[u32]); 7] = [
        (&[NOW, NOW - 1_000, NOW + 10], &[]),
        (&[-1, -1], &[]),
        (&[NOW, NOW - 1_001, NOW], &[1]),
        (&[NOW + 11, NOW, NOW + 5_000], &[0, 2]),
        (&[NOW, -1, 0], &[2]),
        (&[NOW / 1_000, NOW], &[0]),
        (&[-2, NOW], &[0]),
    ];
    for codec in CODECS {
        for (times, refused) in table {
            let places: Vec<_> = (0..).zip(times.iter().copied()).collect();
            let count = i32::try_from(times.len()).expect("few");
            let bytes = Claim::of(count).compressing(codec, &body_of(&places));
            let outcome = admitted(bytes, &config);
            let found = outcome.as_ref().err().map(indexes).unwrap_or_default();
            assert_eq!(found, refused, "{codec:?} {times:?}");
            if let Err(error) = outcome {
                assert_eq!(kind(&error), "timestamp");
                assert!(error.to_string().contains("1970"), "{error}");
            }
        }
    }
    let compacted = TopicConfig {
        cleanup_compact: true,
        validation: Validation::Frames,
        ..TopicConfig::default()
    };
    let many = i32::try_from(MAX_OFFENCES).expect("small") + 5;
    let keyless: Vec<Record> = (0..many).map(|delta| record(delta, NOW, b"v")).collect();
    for codec in CODECS {
        let mut records = keyless.clone();
        records[0].key = Some(Bytes::new());
        records[2].key = Some(Bytes::from_static(b"key"));
        let body = encode_body(&records, NOW, Compression::None).expect("encodes");
        let error = admitted(Claim::of(many).compressing(codec, &body), &compacted);
        let error = error.expect_err("keys are missing");
        assert_eq!(kind(&error), "record");
        assert_eq!(indexes(&error).len(), MAX_OFFENCES);
        assert_eq!(indexes(&error)[..3], [1, 3, 4]);
        let text = error.to_string();
        assert!(
            text.contains("no key") && text.contains("103 records"),
            "{text}"
        );
    }
}

#[test]
fn frames_alone_are_checked_where_the_topic_says_so() {
    let config = TopicConfig {
        validation: Validation::Frames,
        timestamp_after_max_ms: 10,
        ..TopicConfig::default()
    };
    for codec in &CODECS[1..] {
        let bytes = Claim::of(5).compressing(*codec, &in_order(3));
        admitted(bytes, &config).expect("a frame is whole");
    }
    let mut damaged = batch_of(&[b"x"]).bytes.to_vec();
    *damaged.last_mut().expect("a byte") ^= 1;
    let error = admitted(damaged.into(), &config).expect_err("damaged");
    assert_eq!(kind(&error), "corrupt");
    let late = admitted(batch_at(NOW + 11, &[b"x"]).bytes, &config);
    assert_eq!(kind(&late.expect_err("too late")), "header timestamp");
}

/// A batch of one record with a value of so many zeros.
fn inflating_to(codec: Compression, bytes: usize) -> Bytes {
    let records = [record(0, NOW, &vec![0; bytes])];
    let body = encode_body(&records, NOW, Compression::None).expect("encodes");
    Claim::of(1).compressing(codec, &body)
}

#[test]
fn what_inflates_without_end_is_refused() {
    let config = TopicConfig {
        max_message_bytes: u32::MAX >> 1,
        ..TopicConfig::default()
    };
    for codec in &CODECS[1..] {
        admitted(inflating_to(*codec, 9 << 20), &config).expect("below the bound");
        let error = admitted(inflating_to(*codec, BOUND + 1), &config).expect_err("a bomb");
        assert_eq!(kind(&error), "large", "{codec:?}: {error}");
        assert!(
            error
                .to_string()
                .contains("log.max-decompressed-batch-bytes"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn other_tasks_of_a_thread_go_on_beside_a_large_batch() {
    let config = TopicConfig {
        max_message_bytes: u32::MAX >> 1,
        ..TopicConfig::default()
    };
    let turns = Arc::new(Turns::default());
    let (begun, wait) = std::sync::mpsc::channel();
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    let held = Arc::clone(&turns);
    let holder = std::thread::spawn(move || {
        held.take(true, || {
            begun.send(()).expect("the test waits");
            finished.recv().expect("the test ends it");
        })
    });
    wait.recv().expect("the turn is held");
    let bytes = inflating_to(Compression::Zstd, 9 << 20);
    let waiting = tokio::spawn(async move {
        let rules = Rules {
            config: &config,
            now: NOW,
            max_decompressed: BOUND,
            turns: &turns,
        };
        admit(bytes, &rules).map(|batch| batch.header.record_count)
    });
    // The only thread is taken by the batch that waits; another takes its place.
    let other = tokio::spawn(async move { finish.send(()).expect("the holder waits") });
    other.await.expect("ran");
    assert_eq!(waiting.await.expect("ran"), Ok(1));
    assert_eq!(holder.join().expect("ended"), Some(()));
}

#[test]
fn who_finds_too_many_waiting_is_sent_away() {
    let turns = Arc::new(Turns::default());
    let (begun, wait) = std::sync::mpsc::channel();
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    let held = Arc::clone(&turns);
    let holder = std::thread::spawn(move || {
        held.take(true, || {
            begun.send(()).expect("the test waits");
            finished.recv().expect("the test ends it");
        })
    });
    wait.recv().expect("the turn is held");
    let waiters: Vec<_> = (0..64)
        .map(|_| {
            let turns = Arc::clone(&turns);
            std::thread::spawn(move || turns.take(false, || ()))
        })
        .collect();
    eventually("everybody waits", || turns.waiting() == 64);
    assert_eq!(turns.take(false, || ()), None);
    finish.send(()).expect("the holder waits");
    for waiter in waiters {
        assert_eq!(waiter.join().expect("ended"), Some(()));
    }
    holder.join().expect("ended");
    assert_eq!(turns.take(true, || 7), Some(7));
}

#[test]
fn forms_of_the_codecs_that_clients_write_are_taken_and_others_are_not() {
    let config = TopicConfig::default();
    let body = in_order(3);
    let claim = |codec| Claim {
        codec,
        ..Claim::of(3)
    };
    let raw = snap::raw::Encoder::new()
        .compress_vec(&body)
        .expect("compresses");
    let raw = claim(Compression::Snappy).around(&raw);
    admitted(raw, &config).expect("snappy as librdkafka writes it");
    let gzip = |part: &[u8]| compress(Compression::Gzip, part.to_vec()).expect("compresses");
    let (one, two) = body.split_at(body.len() / 2);
    let members = claim(Compression::Gzip).around(&[gzip(one), gzip(two)].concat());
    admitted(members, &config).expect("gzip of two members");
    let zstd = |part: &[u8]| compress(Compression::Zstd, part.to_vec()).expect("compresses");
    let frames = claim(Compression::Zstd).around(&[zstd(one), zstd(two)].concat());
    admitted(frames, &config).expect("zstd of two frames");
    let mut wide = zstd::stream::Encoder::new(Vec::new(), 3).expect("an encoder");
    wide.window_log(26).expect("64 MiB");
    wide.write_all(&body).expect("compresses");
    let wide = claim(Compression::Zstd).around(&wide.finish().expect("compresses"));
    admitted(wide, &config).expect("a window that needs a turn of its own");
    let info = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
    let mut linked = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    linked.write_all(&body).expect("compresses");
    let linked = claim(Compression::Lz4).around(&linked.finish().expect("compresses"));
    let error = admitted(linked, &config).expect_err("Java does not read it");
    assert_eq!(kind(&error), "invalid", "{error}");
}

/// Walks a plain body in pieces of at most so many bytes.
fn walk(header: &BatchHeader, body: &[u8], piece: usize) -> Result<Facts, Fault> {
    let mut walker = Walker::new(Expected {
        count: u32::try_from(header.record_count).unwrap_or(0),
        deltas: Deltas::Consecutive,
        base_timestamp: header.base_timestamp,
        times: NOW - 100..=NOW + 100,
        needs_keys: true,
    });
    for piece in body.chunks(piece) {
        walker.feed(piece)?;
    }
    walker.finish()
}

/// Records of every shape, in order.
fn shapes(random: &mut Random) -> Vec<Record> {
    let bytes = |random: &mut Random| {
        let length = [0, 1, 5, 63, 64, 200, 9_000][random.size(7)];
        (random.below(5) > 0).then(|| Bytes::from(vec![7_u8; length]))
    };
    let count = i32::try_from(1 + random.below(6)).expect("few");
    (0..count)
        .map(|offset_delta| Record {
            offset_delta,
            timestamp: [NOW, NOW + 100, NOW - 100, NOW + 101, -1, 0][random.size(6)],
            key: bytes(random),
            value: bytes(random),
            headers: (0..random.below(3))
                .map(|_| (bytes(random).unwrap_or_default(), bytes(random)))
                .collect(),
        })
        .collect()
}

/// The walker against a plain decoder that builds the records, over batches of which some bytes have changed.
#[test]
fn pieces_of_any_size_and_a_plain_decoder_come_to_the_same() {
    let mut random = Random::seeded("pieces_of_any_size_and_a_plain_decoder_come_to_the_same");
    let mut taken = 0;
    for round in 0..3_000 {
        let made = records::encode(BatchTemplate::PLAIN, &shapes(&mut random)).expect("encodes");
        let (header, mut body) = (made.header, made.bytes[HEADER_SIZE..].to_vec());
        for _ in 0..random.below(3) {
            let position = random.size(body.len().min(40));
            body[position] = random.next() as u8;
        }
        let bytes = [&header.write()[..], &body].concat();
        let batch = Batch {
            header,
            bytes: bytes.into(),
        };
        let whole = walk(&header, &body, usize::MAX);
        for piece in [1, 2, 3, 7, 1 + random.size(body.len())] {
            assert_eq!(
                walk(&header, &body, piece),
                whole,
                "round {round}, pieces of {piece}"
            );
        }
        let decoded = records::decode(&batch, 1 << 20);
        let Ok(facts) = whole else {
            let again = decoded.is_ok_and(|records| {
                let body_again = encode_body(&records, header.base_timestamp, Compression::None);
                body_again.is_ok_and(|again| again == body)
            });
            assert!(
                !again,
                "round {round}: a body that is as we would write it is refused"
            );
            continue;
        };
        taken += 1;
        let decoded = decoded.expect("what was walked can be decoded");
        let largest = decoded.iter().map(|record| record.timestamp).max();
        assert_eq!(facts.max_timestamp, largest.unwrap_or(-1).max(-1));
        let offends = |record: &&Record| {
            let is_late = record.timestamp != -1 && (record.timestamp - NOW).abs() > 100;
            record.key.is_none() || is_late
        };
        let offending = decoded.iter().filter(offends).count();
        assert_eq!(
            usize::try_from(facts.offences_total),
            Ok(offending),
            "round {round}"
        );
    }
    assert!(taken > 500, "{taken} batches were whole");
}

#[test]
fn stored_batches_are_examined_with_their_gaps() {
    type Places = &'static [(i32, TimestampMs)];
    let table: [(Places, Option<TimestampMs>); 4] = [
        (&[(0, NOW), (3, NOW + 7)], Some(NOW + 7)),
        (&[], Some(-1)),
        (&[(0, NOW), (10, NOW)], None),
        (&[(1, NOW), (1, NOW)], None),
    ];
    for codec in CODECS {
        for (places, expected) in table {
            let claim = Claim {
                last_offset_delta: 9,
                ..Claim::of(i32::try_from(places.len()).expect("few"))
            };
            let bytes = match places {
                [] => claim.around(&[]),
                places => claim.compressing(codec, &body_of(places)),
            };
            let header = BatchHeader::read(&bytes).expect("a header");
            let found = examine(&header, &bytes, BOUND).ok();
            assert_eq!(found, expected, "{codec:?} {places:?}");
        }
    }
}
