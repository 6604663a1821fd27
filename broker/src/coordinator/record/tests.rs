use super::*;

/// Parses `0001 0002 "ab" …`: hexadecimal digits, and text in quotes, with blanks between.
fn bytes(written: &str) -> Bytes {
    let mut out = Vec::new();
    for word in written.split_whitespace() {
        match word.strip_prefix('"') {
            Some(text) => out.extend_from_slice(text.trim_end_matches('"').as_bytes()),
            None => {
                for digits in word.as_bytes().chunks(2) {
                    let digits = std::str::from_utf8(digits).unwrap();
                    out.push(u8::from_str_radix(digits, 16).unwrap());
                }
            }
        }
    }
    out.into()
}

/// For fuzzing: every kind of record.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let newest_group = r#"0004 09 "consumer" 00000007 06 "range" 04 "a-1" 0000000000000009 02
        04 "a-1" 00 02 "a" 03 "/h" 000493e0 00002710 03 0102 02 03 01 05 02 ffff 00"#;
    let table = [
        ("offset", 0, OFFSET_KEY_BYTES, OFFSET_VALUE_BYTES),
        ("offset-gone", 1, OFFSET_KEY_BYTES, ""),
        ("group", 0, GROUP_KEY_BYTES, GROUP_VALUE_BYTES),
        ("group-flexible", 0, GROUP_KEY_BYTES, newest_group),
    ];
    table
        .iter()
        .map(|(name, flags, key, value)| {
            let (key, value) = (bytes(key), bytes(value));
            let front = [*flags, u8::try_from(key.len()).unwrap()];
            ((*name).to_owned(), [&front, &key[..], &value[..]].concat())
        })
        .collect()
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: 258,
        leader_epoch: 5,
        metadata: "meta".into(),
        committed_ms: 0x0102_0304,
        expires_ms: None,
    }
}

fn group() -> GroupRecord {
    GroupRecord {
        protocol_type: "consumer".into(),
        generation: 7,
        protocol: Some("range".into()),
        leader: Some("a-1".into()),
        changed_ms: Some(9),
        members: vec![
            MemberRecord {
                member_id: "a-1".into(),
                instance_id: Some("i".into()),
                client_id: "a".into(),
                client_host: "/h".into(),
                rebalance_timeout: Duration::from_millis(300_000),
                session_timeout: Duration::from_millis(10_000),
                subscription: Bytes::from_static(&[1, 2]),
                assignment: Bytes::from_static(&[3]),
            },
            MemberRecord {
                member_id: "b-2".into(),
                ..MemberRecord::default()
            },
        ],
    }
}

const OFFSET_KEY_BYTES: &str = r#"0001 0005 "group" 0006 "orders" 00000003"#;
const OFFSET_VALUE_BYTES: &str = r#"0003 0000000000000102 00000005 0004 "meta" 0000000001020304"#;
const GROUP_KEY_BYTES: &str = r#"0002 0005 "group""#;
const GROUP_VALUE_BYTES: &str = r#"
    0003 0008 "consumer" 00000007 0005 "range" 0003 "a-1" 0000000000000009 00000002
    0003 "a-1" 0001 "i" 0001 "a" 0002 "/h" 000493e0 00002710 00000002 0102 00000001 03
    0003 "b-2" ffff 0000 0000 00000000 00000000 00000000 00000000"#;

#[test]
fn written_records_have_the_published_bytes() {
    assert_eq!(
        offset_key("group", "orders", 3).unwrap(),
        bytes(OFFSET_KEY_BYTES)
    );
    assert_eq!(
        offset_value(&committed()).unwrap(),
        bytes(OFFSET_VALUE_BYTES)
    );
    assert_eq!(group_key("group").unwrap(), bytes(GROUP_KEY_BYTES));
    assert_eq!(group_value(&group()).unwrap(), bytes(GROUP_VALUE_BYTES));
}

fn check_offset(value: &str, expected: &CommittedOffset) {
    let entry = decode(bytes(OFFSET_KEY_BYTES), Some(bytes(value))).unwrap();
    let expected = Entry::Offset {
        group: "group".into(),
        topic: "orders".into(),
        partition: 3,
        value: Some(expected.clone()),
    };
    assert_eq!(entry, Some(expected), "{value}");
}

#[test]
fn every_version_of_an_offset_is_read() {
    let without_epoch = CommittedOffset {
        leader_epoch: -1,
        ..committed()
    };
    let expiring = CommittedOffset {
        expires_ms: Some(16),
        ..without_epoch.clone()
    };
    let table = [
        (
            r#"0000 0000000000000102 0004 "meta" 0000000001020304"#,
            &without_epoch,
        ),
        (
            r#"0001 0000000000000102 0004 "meta" 0000000001020304 0000000000000010"#,
            &expiring,
        ),
        (
            r#"0001 0000000000000102 0004 "meta" 0000000001020304 ffffffffffffffff"#,
            &without_epoch,
        ),
        (
            r#"0002 0000000000000102 0004 "meta" 0000000001020304"#,
            &without_epoch,
        ),
        (OFFSET_VALUE_BYTES, &committed()),
        (
            r#"0004 0000000000000102 00000005 05 "meta" 0000000001020304 00"#,
            &committed(),
        ),
        // A tagged topic id, as newer writers add it.
        (
            r#"0004 0000000000000102 00000005 05 "meta" 0000000001020304 01 00 10 000102030405060708090a0b0c0d0e0f"#,
            &committed(),
        ),
    ];
    for (value, expected) in table {
        check_offset(value, expected);
    }
}

#[test]
fn every_version_of_a_group_is_read() {
    let member = MemberRecord {
        instance_id: None,
        ..group().members.remove(0)
    };
    let at = |changed_ms, rebalance_ms| GroupRecord {
        changed_ms,
        members: vec![MemberRecord {
            rebalance_timeout: Duration::from_millis(rebalance_ms),
            ..member.clone()
        }],
        ..group()
    };
    let table = [
        (
            r#"0000 0008 "consumer" 00000007 0005 "range" 0003 "a-1" 00000001
               0003 "a-1" 0001 "a" 0002 "/h" 00002710 00000002 0102 00000001 03"#,
            at(None, 10_000),
        ),
        (
            r#"0001 0008 "consumer" 00000007 0005 "range" 0003 "a-1" 00000001
               0003 "a-1" 0001 "a" 0002 "/h" 000493e0 00002710 00000002 0102 00000001 03"#,
            at(None, 300_000),
        ),
        (
            r#"0002 0008 "consumer" 00000007 0005 "range" 0003 "a-1" 0000000000000009 00000001
               0003 "a-1" 0001 "a" 0002 "/h" 000493e0 00002710 00000002 0102 00000001 03"#,
            at(Some(9), 300_000),
        ),
        (GROUP_VALUE_BYTES, group()),
        (
            r#"0004 09 "consumer" 00000007 06 "range" 04 "a-1" 0000000000000009 02
               04 "a-1" 00 02 "a" 03 "/h" 000493e0 00002710 03 0102 02 03 01 05 02 ffff 00"#,
            at(Some(9), 300_000),
        ),
    ];
    for (value, expected) in table {
        let entry = decode(bytes(GROUP_KEY_BYTES), Some(bytes(value))).unwrap();
        let expected = Entry::Group {
            group: "group".into(),
            value: Some(expected),
        };
        assert_eq!(entry, Some(expected), "{value}");
    }
}

#[test]
fn a_tombstone_has_a_key_and_no_value() {
    let entry = decode(bytes(OFFSET_KEY_BYTES), None).unwrap();
    assert!(matches!(entry, Some(Entry::Offset { value: None, .. })));
    let entry = decode(bytes(GROUP_KEY_BYTES), None).unwrap();
    assert!(matches!(entry, Some(Entry::Group { value: None, .. })));
}

#[test]
fn keys_of_unknown_kinds_are_passed_over() {
    let key = bytes(r#"0003 0005 "group""#);
    assert_eq!(decode(key, Some(Bytes::from_static(b"?"))), Ok(None));
}

#[test]
fn values_of_newer_versions_are_named() {
    let error = decode(bytes(GROUP_KEY_BYTES), Some(bytes("0005"))).unwrap_err();
    assert_eq!(error, RecordError::Version("group value", 5));
}

#[test]
fn every_truncation_is_an_error_and_never_a_panic() {
    for (key, value) in [
        (OFFSET_KEY_BYTES, OFFSET_VALUE_BYTES),
        (GROUP_KEY_BYTES, GROUP_VALUE_BYTES),
    ] {
        let (key, value) = (bytes(key), bytes(value));
        for length in 0..value.len() {
            assert!(decode(key.clone(), Some(value.slice(..length))).is_err());
        }
        for length in 0..key.len() {
            assert!(decode(key.slice(..length), None).is_err(), "{length}");
        }
    }
}

#[test]
fn every_flipped_byte_is_survived() {
    let key = bytes(GROUP_KEY_BYTES);
    let value = bytes(GROUP_VALUE_BYTES);
    for position in 0..value.len() {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut damaged = value.to_vec();
            damaged[position] = byte;
            // Either outcome is fine; the call has to return.
            let _ = decode(key.clone(), Some(damaged.into()));
        }
    }
}

#[test]
fn text_that_does_not_fit_is_refused_when_written() {
    let long = "x".repeat(40_000);
    let error = offset_key("group", &long, 0).unwrap_err();
    assert_eq!(error, RecordError::TooLong("topic name", 40_000));
}
