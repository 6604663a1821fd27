//! The records of `__consumer_offsets`, in Kafka's own formats, so that existing tools read them.
//!
//! A **key** is a version (int16) and fields; the version tells the kind: 0 and 1 an offset (`OffsetCommitKey`), 2 a group
//! (`GroupMetadataKey`). A **value** is a version and fields; versions 0 to 3 use fixed lengths, version 4 compact ones with
//! tagged fields (KIP-482). A key without a value (a tombstone) says that the thing is gone. What is written here has
//! key versions 1 and 2 and value version 3; versions 0 to 4 are read.
//!
//! Schemas: `OffsetCommitKey.json`, `OffsetCommitValue.json`, `GroupMetadataKey.json`, `GroupMetadataValue.json` of Apache
//! Kafka's `group-coordinator` module.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::CommittedOffset;
pub use super::codec::RecordError;
use super::codec::{Reader, milliseconds, put_bytes, put_count, put_nullable, put_string};
use crate::types::{PartitionIndex, TimestampMs};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const VALUE: i16 = 3;
const FIRST_FLEXIBLE: i16 = 4;

/// A group's generation as it is stored: what members need to go on after a restart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupRecord {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// When the group came into its state; `None` in records older than version 2.
    pub changed_ms: Option<TimestampMs>,
    pub members: Vec<MemberRecord>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberRecord {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout: Duration,
    pub session_timeout: Duration,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// One record, read. `None` is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    Offset {
        group: String,
        topic: String,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
    },
    Group {
        group: String,
        value: Option<GroupRecord>,
    },
}

pub fn offset_key(
    group: &str,
    topic: &str,
    partition: PartitionIndex,
) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::with_capacity(10 + group.len() + topic.len());
    out.put_i16(OFFSET_KEY);
    put_string(&mut out, "group id", group)?;
    put_string(&mut out, "topic name", topic)?;
    out.put_i32(partition);
    Ok(out.freeze())
}

pub fn offset_value(committed: &CommittedOffset) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::with_capacity(24 + committed.metadata.len());
    out.put_i16(VALUE);
    out.put_i64(committed.offset);
    out.put_i32(committed.leader_epoch);
    put_string(&mut out, "offset metadata", &committed.metadata)?;
    out.put_i64(committed.committed_ms);
    Ok(out.freeze())
}

pub fn group_key(group: &str) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::with_capacity(4 + group.len());
    out.put_i16(GROUP_KEY);
    put_string(&mut out, "group id", group)?;
    Ok(out.freeze())
}

pub fn group_value(record: &GroupRecord) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::new();
    out.put_i16(VALUE);
    put_string(&mut out, "protocol type", &record.protocol_type)?;
    out.put_i32(record.generation);
    put_nullable(&mut out, "protocol", record.protocol.as_deref())?;
    put_nullable(&mut out, "leader", record.leader.as_deref())?;
    out.put_i64(record.changed_ms.unwrap_or(-1));
    put_count(&mut out, "members", record.members.len())?;
    for member in &record.members {
        put_string(&mut out, "member id", &member.member_id)?;
        put_nullable(&mut out, "instance id", member.instance_id.as_deref())?;
        put_string(&mut out, "client id", &member.client_id)?;
        put_string(&mut out, "client host", &member.client_host)?;
        out.put_i32(milliseconds(member.rebalance_timeout));
        out.put_i32(milliseconds(member.session_timeout));
        put_bytes(&mut out, "subscription", &member.subscription)?;
        put_bytes(&mut out, "assignment", &member.assignment)?;
    }
    Ok(out.freeze())
}

/// Reads one record. `Ok(None)`: a kind of key that this version does not know and may pass over.
pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Entry>, RecordError> {
    let mut key = Reader::new(key, FIRST_FLEXIBLE)?;
    match key.version {
        0 | OFFSET_KEY => {
            let group = key.string("group id")?;
            let topic = key.string("topic name")?;
            let partition = key.int32("partition")?;
            let value = value.map(decode_offset).transpose()?;
            Ok(Some(Entry::Offset {
                group,
                topic,
                partition,
                value,
            }))
        }
        GROUP_KEY => {
            let group = key.string("group id")?;
            let value = value.map(decode_group).transpose()?;
            Ok(Some(Entry::Group { group, value }))
        }
        _ => Ok(None),
    }
}

fn decode_offset(value: Bytes) -> Result<CommittedOffset, RecordError> {
    let mut value = Reader::new(value, FIRST_FLEXIBLE)?.up_to(FIRST_FLEXIBLE, "offset value")?;
    let offset = value.int64("offset")?;
    let leader_epoch = match value.version {
        0..3 => -1,
        _ => value.int32("leader epoch")?,
    };
    let metadata = value.string("offset metadata")?;
    let committed_ms = value.int64("commit timestamp")?;
    let expires_ms = match value.version {
        1 => Some(value.int64("expire timestamp")?).filter(|&at| at >= 0),
        _ => None,
    };
    Ok(CommittedOffset {
        offset,
        leader_epoch,
        metadata,
        committed_ms,
        expires_ms,
    })
}

fn decode_group(value: Bytes) -> Result<GroupRecord, RecordError> {
    let mut value = Reader::new(value, FIRST_FLEXIBLE)?.up_to(FIRST_FLEXIBLE, "group value")?;
    let protocol_type = value.string("protocol type")?;
    let generation = value.int32("generation")?;
    let protocol = value.nullable_string("protocol")?;
    let leader = value.nullable_string("leader")?;
    let changed_ms = match value.version {
        0 | 1 => None,
        _ => Some(value.int64("state timestamp")?).filter(|&at| at >= 0),
    };
    let count = value.count("members")?;
    let members = (0..count)
        .map(|_| decode_member(&mut value))
        .collect::<Result<_, _>>()?;
    Ok(GroupRecord {
        protocol_type,
        generation,
        protocol,
        leader,
        changed_ms,
        members,
    })
}

fn decode_member(value: &mut Reader) -> Result<MemberRecord, RecordError> {
    let member_id = value.string("member id")?;
    let instance_id = match value.version {
        0..3 => None,
        _ => value.nullable_string("instance id")?,
    };
    let client_id = value.string("client id")?;
    let client_host = value.string("client host")?;
    let rebalance_timeout = match value.version {
        0 => None,
        _ => Some(value.duration("rebalance timeout")?),
    };
    let session_timeout = value.duration("session timeout")?;
    let subscription = value.bytes("subscription")?;
    let assignment = value.bytes("assignment")?;
    value.skip_tags()?;
    Ok(MemberRecord {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout: rebalance_timeout.unwrap_or(session_timeout),
        session_timeout,
        subscription,
        assignment,
    })
}
