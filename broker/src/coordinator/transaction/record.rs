//! The records of `__transaction_state`, in Kafka's own formats: one key for each transactional id, whose value is its state.
//!
//! A **key** is version 0 and the id. A **value** has version 0 (fixed lengths) or 1 (compact lengths, and tagged fields: 0 the
//! previous producer id, 1 the next one, 2 the client's transaction version). Version 1 is written, both are read.
//! A key without a value says that the id was forgotten.
//!
//! Schemas: `TransactionLogKey.json`, `TransactionLogValue.json` of Apache Kafka's `transaction-coordinator` module.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
pub(crate) mod tests;

use bytes::{BufMut, Bytes, BytesMut};

use super::machine::{
    ClientVersion, NO_EPOCH, NO_PRODUCER, Partitions, Producer, State, Transaction,
};
use crate::coordinator::codec::{
    Reader, RecordError, put_compact_count, put_compact_string, put_string, put_varint,
};

const KEY: i16 = 0;
const VALUE: i16 = 1;
const FIRST_FLEXIBLE: i16 = 1;

const PREVIOUS_PRODUCER_ID: u32 = 0;
const NEXT_PRODUCER_ID: u32 = 1;
const CLIENT_VERSION: u32 = 2;

pub fn key(transactional_id: &str) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::with_capacity(4 + transactional_id.len());
    out.put_i16(KEY);
    put_string(&mut out, "transactional id", transactional_id)?;
    Ok(out.freeze())
}

pub fn value(transaction: &Transaction) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(VALUE);
    out.put_i64(transaction.producer.id);
    out.put_i16(transaction.producer.epoch);
    out.put_i32(transaction.timeout_ms);
    out.put_i8(transaction.state.code());
    put_partitions(&mut out, transaction)?;
    out.put_i64(transaction.updated_ms);
    out.put_i64(transaction.started_ms);
    put_tags(&mut out, transaction);
    Ok(out.freeze())
}

/// An empty transaction has null for its partitions, as Kafka writes it.
fn put_partitions(out: &mut BytesMut, transaction: &Transaction) -> Result<(), RecordError> {
    if transaction.state == State::Empty {
        put_varint(out, 0);
        return Ok(());
    }
    let topics = transaction.partitions.topics();
    put_compact_count(out, "topics", topics.len())?;
    for (topic, partitions) in topics {
        put_compact_string(out, "topic name", topic)?;
        put_compact_count(out, "partitions", partitions.len())?;
        for partition in partitions {
            out.put_i32(*partition);
        }
        put_varint(out, 0);
    }
    Ok(())
}

fn put_tags(out: &mut BytesMut, transaction: &Transaction) {
    let ids = [
        (PREVIOUS_PRODUCER_ID, transaction.previous_producer_id),
        (NEXT_PRODUCER_ID, transaction.next_producer_id),
    ];
    let ids = ids.into_iter().filter(|(_, id)| *id != NO_PRODUCER);
    let bumps_epoch = transaction.client_version == ClientVersion::BumpsEpoch;
    let count = ids.clone().count() + usize::from(bumps_epoch);
    // Three at most.
    put_varint(out, count as u32);
    for (tag, id) in ids {
        put_varint(out, tag);
        put_varint(out, 8);
        out.put_i64(id);
    }
    if bumps_epoch {
        put_varint(out, CLIENT_VERSION);
        put_varint(out, 2);
        out.put_i16(ClientVersion::BumpsEpoch as i16);
    }
}

/// Reads one record: the transactional id and its state, `None` for one that was forgotten. `Ok(None)`: a kind of key that
/// this version does not know and may pass over.
pub fn decode(
    key: Bytes,
    value: Option<Bytes>,
) -> Result<Option<(String, Option<Transaction>)>, RecordError> {
    // Keys were never flexible.
    let mut key = Reader::new(key, i16::MAX)?;
    if key.version != KEY {
        return Ok(None);
    }
    let id = key.string("transactional id")?;
    let value = value.map(decode_value).transpose()?;
    Ok(Some((id, value)))
}

fn decode_value(value: Bytes) -> Result<Transaction, RecordError> {
    let mut value = Reader::new(value, FIRST_FLEXIBLE)?.up_to(VALUE, "transaction value")?;
    let producer = Producer {
        id: value.int64("producer id")?,
        epoch: value.int16("producer epoch")?,
    };
    let timeout_ms = value.int32("timeout")?;
    let state = value.int8("status")?;
    let state = State::from_code(state).ok_or(RecordError::Length("status"))?;
    let mut transaction = Transaction {
        producer,
        previous_producer_id: NO_PRODUCER,
        next_producer_id: NO_PRODUCER,
        last_epoch: NO_EPOCH,
        timeout_ms,
        state,
        partitions: read_partitions(&mut value)?,
        updated_ms: value.int64("last update")?,
        started_ms: value.int64("start")?,
        client_version: ClientVersion::KeepsEpoch,
    };
    value.tags(|tag, field| {
        match tag {
            PREVIOUS_PRODUCER_ID => {
                transaction.previous_producer_id = field.int64("previous producer id")?;
            }
            NEXT_PRODUCER_ID => transaction.next_producer_id = field.int64("next producer id")?,
            CLIENT_VERSION
                if field.int16("client version")? >= ClientVersion::BumpsEpoch as i16 =>
            {
                transaction.client_version = ClientVersion::BumpsEpoch;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(transaction.restored())
}

fn read_partitions(value: &mut Reader) -> Result<Partitions, RecordError> {
    let mut partitions = Partitions::default();
    for _ in 0..value.nullable_count("topics")?.unwrap_or(0) {
        let topic = value.string("topic name")?;
        for _ in 0..value.count("partitions")? {
            partitions.add(&topic, value.int32("partition")?);
        }
        value.skip_tags()?;
    }
    Ok(partitions)
}
