use super::*;

const ALL: Columns = Columns {
    key: true,
    value: true,
    headers: true,
    timestamps: true,
};
const NONE: Columns = Columns {
    key: false,
    value: false,
    headers: false,
    timestamps: false,
};

fn field(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

fn records() -> Vec<Record> {
    vec![
        Record {
            offset_delta: 0,
            timestamp: 10,
            key: field("key"),
            value: field("value"),
            headers: vec![
                (Bytes::from_static(b"a"), field("1")),
                (Bytes::from_static(b"b"), None),
            ],
        },
        Record {
            offset_delta: 7,
            timestamp: 20,
            key: None,
            value: field(""),
            headers: Vec::new(),
        },
    ]
}

fn encoded(wanted: Columns) -> RecordBatch {
    let mut batch = RecordBatch {
        data: b"stale".to_vec(),
        lengths: vec![9],
        timestamps: vec![9],
    };
    encode(&records(), wanted, 1000, &mut batch).unwrap();
    batch
}

#[test]
fn records_are_written_as_the_interface_says() {
    let batch = encoded(ALL);
    assert_eq!(batch.data, b"keyvaluea1b");
    assert_eq!(batch.lengths, [3, 5, 2, 1, 1, 1, -1, -1, 0, 0]);
    assert_eq!(batch.timestamps, [10, 20]);
}

#[test]
fn unwanted_columns_are_not_written() {
    for (wanted, data, lengths) in [
        (NONE, "", [-1, -1, 0, -1, -1, 0]),
        (Columns { key: true, ..NONE }, "key", [3, -1, 0, -1, -1, 0]),
        (
            Columns {
                value: true,
                ..NONE
            },
            "value",
            [-1, 5, 0, -1, 0, 0],
        ),
    ] {
        let batch = encoded(wanted);
        assert_eq!(batch.data, data.as_bytes());
        assert_eq!(batch.lengths, lengths);
        assert!(batch.timestamps.is_empty());
    }
}

#[test]
fn a_batch_over_its_bound_is_refused() {
    let mut batch = RecordBatch::default();
    assert!(encode(&records(), ALL, 11, &mut batch).is_ok());
    assert!(encode(&records(), ALL, 10, &mut batch).is_err());
}

#[test]
fn what_is_written_is_read_back() {
    let given = encoded(ALL);
    let answer = Replacement {
        batch: encoded(ALL),
        sources: vec![0, 1],
    };
    let expected: Vec<_> = (0..).zip(records()).collect();
    assert_eq!(replaced(answer, ALL, &records(), &given), Ok(expected));

    let input = records();
    let answer = Replacement {
        batch: RecordBatch {
            data: b"new".to_vec(),
            lengths: vec![-1, 3, 0],
            timestamps: Vec::new(),
        },
        sources: vec![1],
    };
    let value_only = Columns {
        value: true,
        ..NONE
    };
    let changed = Record {
        value: field("new"),
        ..input[1].clone()
    };
    assert_eq!(
        replaced(answer, value_only, &input, &encoded(value_only)),
        Ok(vec![(1, changed)])
    );
}

#[test]
fn any_answer_is_taken_or_refused_without_a_panic() {
    // Each small number in each place, among them those that would overflow or point outside.
    let input = records();
    let given = encoded(ALL);
    let numbers = [i32::MIN, -2, -1, 0, 1, 2, 3, i32::MAX];
    let mut taken = 0;
    for first in numbers {
        for second in numbers {
            for third in numbers {
                for fourth in numbers {
                    let answer = Replacement {
                        batch: RecordBatch {
                            data: b"abc".to_vec(),
                            lengths: vec![first, second, third, fourth, fourth],
                            timestamps: vec![1],
                        },
                        sources: vec![1],
                    };
                    taken += usize::from(replaced(answer, ALL, &input, &given).is_ok());
                }
            }
        }
    }
    // Five lengths are those of one header, whose two are equal here. Without bytes in it, key and value have 3 (six ways, null
    // and empty being two); with two bytes in it, they have 1 (four ways).
    assert_eq!(taken, 6 + 4);
}

#[test]
fn bitmaps_have_exactly_the_bits_of_their_records() {
    let keep = |bits: &[u8], count| kept(bits, count);
    assert_eq!(keep(&[], 0), Ok(Transformed::Unchanged));
    assert_eq!(keep(&[0xff], 8), Ok(Transformed::Unchanged));
    assert_eq!(keep(&[0b111], 3), Ok(Transformed::Unchanged));
    assert_eq!(
        keep(&[0b101], 3),
        Ok(Transformed::Keep(vec![true, false, true]))
    );
    assert_eq!(
        keep(&[0, 1], 9),
        Ok(Transformed::Keep([[false; 8].as_slice(), &[true]].concat()))
    );
    assert!(keep(&[0b1000], 3).is_err());
    assert!(keep(&[0, 0], 8).is_err());
    assert!(keep(&[], 1).is_err());
}

#[test]
fn texts_are_cut_at_a_character() {
    assert_eq!(truncated("aé".into(), 2), "a");
    assert_eq!(truncated("aé".into(), 3), "aé");
}
