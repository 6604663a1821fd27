use super::*;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn batch(compression: Compression, records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for index in 0..records {
        let key = (index % 3 != 0).then(|| Bytes::from(format!("key-{index}")));
        let value = (index % 5 != 0).then(|| Bytes::from("value ".repeat(index % 40)));
        let headers: Vec<_> = (0..index % 4)
            .map(|header| Header::new(format!("h{header}"), "x".repeat(header)))
            .collect();
        builder.push(
            1_000 + index as i64 * 7,
            key.as_ref(),
            value.as_ref(),
            &headers,
        );
    }
    let stamp = ProducerStamp {
        producer_id: 42,
        epoch: 3,
        base_sequence: 17,
    };
    builder.seal(compression).unwrap().stamped(stamp).concat()
}

fn decoded(bytes: &[u8], limit: usize) -> Result<Vec<decode::DecodedRecord>, DecodeError> {
    let mut records = Vec::new();
    for batch in Batches::new(Bytes::copy_from_slice(bytes)) {
        for record in batch?.records(limit)? {
            records.push(record?);
        }
    }
    Ok(records)
}

#[test]
fn records_survive_every_codec() {
    for codec in CODECS {
        let records = decoded(&batch(codec, 200), 1 << 20).unwrap();
        assert_eq!(records.len(), 200, "{codec}");
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record.offset, index as i64);
            assert_eq!(record.timestamp, 1_000 + index as i64 * 7);
            assert_eq!(record.key.is_none(), index % 3 == 0);
            assert_eq!(record.value.is_none(), index % 5 == 0);
            assert_eq!(record.headers.len(), index % 4);
        }
    }
}

#[test]
fn compression_is_used_where_it_helps() {
    let plain = batch(Compression::None, 200).len();
    for codec in &CODECS[1..] {
        let size = batch(*codec, 200).len();
        assert!(size < plain, "{codec}: {size} of {plain}");
    }
    assert_eq!(
        batch(Compression::Gzip, 1)[22] & 7,
        0,
        "one tiny record stays as it is"
    );
}

#[test]
fn any_flipped_bit_is_noticed() {
    let good = batch(Compression::Lz4, 50);
    for position in CRC_FROM..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        let error = decoded(&bad, 1 << 20).unwrap_err();
        assert!(
            error.reason.contains("checksum"),
            "byte {position}: {error}"
        );
    }
}

#[test]
fn damage_behind_a_right_checksum_is_an_error_and_never_a_panic() {
    for codec in CODECS {
        let good = batch(codec, 20);
        for position in 21..good.len() {
            let mut bad = good.clone();
            bad[position] = bad[position].wrapping_add(0x55);
            let crc = crc32c::crc32c(&bad[CRC_FROM..]);
            bad[17..21].copy_from_slice(&crc.to_be_bytes());
            // Some changes only alter values: what counts is that each ends in records or an error.
            let _ = decoded(&bad, 1 << 20);
        }
    }
}

#[test]
fn a_batch_that_was_cut_off_is_left_for_the_next_fetch() {
    let whole = batch(Compression::None, 10);
    let mut two = whole.clone();
    two.extend(&whole);
    for cut in whole.len()..two.len() {
        assert_eq!(
            decoded(&two[..cut], 1 << 20).unwrap().len(),
            10,
            "cut at {cut}"
        );
    }
}

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    for codec in &CODECS[1..] {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(&vec![0u8; 4 << 20].into()), &[]);
        let bytes = builder
            .seal(*codec)
            .unwrap()
            .stamped(ProducerStamp::NONE)
            .concat();
        let error = decoded(&bytes, 1 << 20).unwrap_err();
        assert!(error.reason.contains("more than"), "{codec}: {error}");
    }
}

#[test]
fn impossible_headers_are_refused() {
    let good = batch(Compression::None, 1);
    for (position, value, expected) in [
        (16, &[1u8][..], "format version 1"),
        (8, &[0, 0, 0, 1][..], "length"),
        (8, &[0xff, 0, 0, 1][..], "length"),
        (57, &[0xff; 4][..], "negative"),
    ] {
        let mut bad = good.clone();
        bad[position..position + value.len()].copy_from_slice(value);
        let error = decoded(&bad, 1 << 20).unwrap_err();
        assert!(error.reason.contains(expected), "{error}");
    }
}

#[test]
fn a_header_count_cannot_size_an_allocation() {
    let mut body = bytes::BytesMut::new();
    let mut record = bytes::BytesMut::from(&[0u8][..]);
    for value in [0, 0, -1, -1, i64::from(i32::MAX)] {
        varint::put(&mut record, value);
    }
    varint::put(&mut body, record.len() as i64);
    body.extend_from_slice(&record);
    let good = batch(Compression::None, 1);
    let mut bad = good[..HEADER_BYTES].to_vec();
    bad.extend_from_slice(&body);
    let length = (bad.len() - LENGTH_OVERHEAD) as i32;
    bad[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bad[CRC_FROM..]);
    bad[17..21].copy_from_slice(&crc.to_be_bytes());
    let error = decoded(&bad, 1 << 20).unwrap_err();
    assert!(error.reason.contains("record 0 is malformed"), "{error}");
}

#[test]
fn a_new_stamp_changes_the_stamp_alone() {
    let mut builder = BatchBuilder::new();
    builder.push(5, None, Some(&Bytes::from_static(b"v")), &[]);
    let sealed = builder.seal(Compression::None).unwrap();
    let first = sealed.stamped(ProducerStamp::NONE).concat();
    let second = sealed
        .stamped(ProducerStamp {
            producer_id: 9,
            epoch: 1,
            base_sequence: 0,
        })
        .concat();
    assert_eq!(first[..17], second[..17]);
    assert_eq!(first[57..], second[57..]);
    assert_eq!(decoded(&first, 99).unwrap(), decoded(&second, 99).unwrap());
}

#[test]
fn varints_round_trip_at_their_edges() {
    for value in [
        0,
        1,
        -1,
        63,
        64,
        -64,
        -65,
        8191,
        8192,
        i64::from(i32::MAX),
        i64::MAX,
        i64::MIN,
    ] {
        let mut buffer = bytes::BytesMut::new();
        varint::put(&mut buffer, value);
        assert_eq!(buffer.len(), varint::size(value), "{value}");
        let mut bytes = buffer.freeze();
        assert_eq!(varint::take(&mut bytes), Some(value));
        assert!(bytes.is_empty());
    }
    assert_eq!(varint::take(&mut Bytes::from_static(&[0xff; 10])), None);
    assert_eq!(varint::take(&mut Bytes::from_static(&[0x80])), None);
}

#[test]
fn no_record_is_larger_than_its_bound() {
    for (key, value) in [(0, 0), (1, 70_000), (300, 5)] {
        let key = Bytes::from(vec![1; key]);
        let value = Bytes::from(vec![2; value]);
        let headers = [
            Header::new("name", "value"),
            Header {
                name: "n".into(),
                value: None,
            },
        ];
        let mut builder = BatchBuilder::new();
        builder.push(i64::MAX, Some(&key), Some(&value), &headers);
        builder.push(i64::MIN, Some(&key), Some(&value), &headers);
        let bound = 2 * record_size_bound(Some(&key), Some(&value), &headers);
        assert!(builder.bytes() - HEADER_BYTES <= bound);
    }
}
