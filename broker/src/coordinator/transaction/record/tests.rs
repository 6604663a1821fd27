use super::*;
use crate::coordinator::transaction::machine::Partitions;

fn transaction(state: State) -> Transaction {
    let mut transaction = Transaction::new(0x0102_0304, 5_000);
    transaction.producer.epoch = 7;
    transaction.timeout_ms = 60_000;
    transaction.state = state;
    transaction.started_ms = 4_000;
    if state != State::Empty {
        transaction.partitions = Partitions::from_iter([("b", 1), ("a", 9), ("b", 0)]);
    }
    transaction
}

/// For fuzzing: every state, and an id that was forgotten.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let key = key("id").unwrap();
    let front = |flags: u8| [&[flags, u8::try_from(key.len()).unwrap()], &key[..]].concat();
    let of_state = |state: State| {
        let mut transaction = transaction(state);
        transaction.next_producer_id = 8;
        transaction.client_version = ClientVersion::BumpsEpoch;
        let value = value(&transaction).unwrap();
        (format!("{state:?}"), [&front(0), &value[..]].concat())
    };
    let mut seeds: Vec<_> = State::ALL.into_iter().map(of_state).collect();
    seeds.push(("forgotten".into(), front(1)));
    seeds
}

fn read(value: &[u8]) -> Result<Transaction, RecordError> {
    let value = Some(Bytes::copy_from_slice(value));
    let decoded = decode(key("id")?, value)?;
    let (id, transaction) = decoded.expect("a key that is known");
    assert_eq!(id, "id");
    Ok(transaction.expect("a value"))
}

#[test]
fn states_are_read_as_they_were_written() {
    for state in State::ALL {
        let mut written = transaction(state);
        assert_eq!(
            read(&value(&written).unwrap()),
            Ok(written.clone().restored())
        );
        written.previous_producer_id = 6;
        written.next_producer_id = 8;
        written.client_version = ClientVersion::BumpsEpoch;
        assert_eq!(read(&value(&written).unwrap()), Ok(written.restored()));
    }
}

/// The bytes that Kafka's generated `TransactionLogValue` writes, version 1 and 0.
#[test]
fn bytes_are_kafkas() {
    let mut ongoing = transaction(State::Ongoing);
    ongoing.client_version = ClientVersion::BumpsEpoch;
    let expected = [
        &[0, 1][..],                              // version
        &[0, 0, 0, 0, 1, 2, 3, 4],                // producer id
        &[0, 7],                                  // epoch
        &[0, 0, 0xea, 0x60],                      // timeout
        &[1],                                     // Ongoing
        &[3],                                     // two topics
        &[2, b'a', 2, 0, 0, 0, 9, 0],             // a: one partition
        &[2, b'b', 3, 0, 0, 0, 0, 0, 0, 0, 1, 0], // b: two partitions
        &[0, 0, 0, 0, 0, 0, 0x13, 0x88],          // last update
        &[0, 0, 0, 0, 0, 0, 0x0f, 0xa0],          // start
        &[1, 2, 2, 0, 2],                         // one tag: client version 2
    ]
    .concat();
    assert_eq!(value(&ongoing).unwrap()[..], expected);
    assert_eq!(key("id").unwrap()[..], [0, 0, 0, 2, b'i', b'd']);

    let old = [
        &[0, 0][..],
        &[0, 0, 0, 0, 1, 2, 3, 4],
        &[0, 7],
        &[0, 0, 0xea, 0x60],
        &[1],
        &[0, 0, 0, 2],
        &[0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 9],
        &[0, 1, b'b', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 0, 0, 0, 0x13, 0x88],
        &[0, 0, 0, 0, 0, 0, 0x0f, 0xa0],
    ]
    .concat();
    assert_eq!(read(&old), Ok(transaction(State::Ongoing)));
    let empty = [
        &old[..17],
        &[0xff, 0xff, 0xff, 0xff],
        &old[old.len() - 16..],
    ]
    .concat();
    let read_empty = read(&[&empty[..16], &[0], &empty[17..]].concat());
    assert_eq!(read_empty, Ok(transaction(State::Empty)));
}

#[test]
fn tombstones_and_unknown_keys_are_told_apart_from_damage() {
    let tombstone = decode(key("id").unwrap(), None);
    assert_eq!(tombstone, Ok(Some(("id".to_owned(), None))));
    let unknown = decode(Bytes::from_static(&[0, 9, 1]), None);
    assert_eq!(unknown, Ok(None));
    let whole = value(&transaction(State::Ongoing)).unwrap();
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
    let newer = [&[0, 2], &whole[2..]].concat();
    assert_eq!(
        read(&newer),
        Err(RecordError::Version("transaction value", 2))
    );
    let mut unknown_state = whole.to_vec();
    unknown_state[16] = 8;
    assert_eq!(read(&unknown_state), Err(RecordError::Length("status")));
}
