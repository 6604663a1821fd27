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

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::CommittedOffset;
use crate::types::{PartitionIndex, TimestampMs};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const VALUE: i16 = 3;
const FIRST_FLEXIBLE: i16 = 4;
/// Members that one value may claim: a bound on what a damaged count can make a reader reserve.
const MAX_MEMBERS: usize = 1 << 20;

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

/// Why a record could not be read or written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{0} ends too early")]
    Truncated(&'static str),
    #[error("{0} has an impossible length")]
    Length(&'static str),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("{0} has version {1}, which this version cannot read")]
    Version(&'static str, i16),
    #[error("{0} has {1} bytes; at most {max} can be stored", max = i16::MAX)]
    TooLong(&'static str, usize),
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
    let mut key = Reader::new(key)?;
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
    let mut value = Reader::new(value)?.of_known_version("offset value")?;
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
    let mut value = Reader::new(value)?.of_known_version("group value")?;
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

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn put_string(out: &mut BytesMut, what: &'static str, value: &str) -> Result<(), RecordError> {
    let length = i16::try_from(value.len()).map_err(|_| RecordError::TooLong(what, value.len()))?;
    out.put_i16(length);
    out.put_slice(value.as_bytes());
    Ok(())
}

fn put_nullable(
    out: &mut BytesMut,
    what: &'static str,
    value: Option<&str>,
) -> Result<(), RecordError> {
    match value {
        Some(value) => put_string(out, what, value),
        None => {
            out.put_i16(-1);
            Ok(())
        }
    }
}

fn put_count(out: &mut BytesMut, what: &'static str, count: usize) -> Result<(), RecordError> {
    let count = i32::try_from(count).map_err(|_| RecordError::Length(what))?;
    out.put_i32(count);
    Ok(())
}

fn put_bytes(out: &mut BytesMut, what: &'static str, value: &[u8]) -> Result<(), RecordError> {
    put_count(out, what, value.len())?;
    out.put_slice(value);
    Ok(())
}

/// Reads fields in order. The version that heads the bytes decides how lengths are written.
struct Reader {
    buffer: Bytes,
    version: i16,
}

impl Reader {
    fn new(mut buffer: Bytes) -> Result<Self, RecordError> {
        let version = buffer
            .try_get_i16()
            .map_err(|_| RecordError::Truncated("version"))?;
        Ok(Self { buffer, version })
    }

    fn of_known_version(self, what: &'static str) -> Result<Self, RecordError> {
        match self.version {
            0..=FIRST_FLEXIBLE => Ok(self),
            other => Err(RecordError::Version(what, other)),
        }
    }

    fn is_flexible(&self) -> bool {
        self.version >= FIRST_FLEXIBLE
    }

    fn int32(&mut self, what: &'static str) -> Result<i32, RecordError> {
        self.buffer
            .try_get_i32()
            .map_err(|_| RecordError::Truncated(what))
    }

    fn int64(&mut self, what: &'static str) -> Result<i64, RecordError> {
        self.buffer
            .try_get_i64()
            .map_err(|_| RecordError::Truncated(what))
    }

    fn duration(&mut self, what: &'static str) -> Result<Duration, RecordError> {
        let milliseconds =
            u64::try_from(self.int32(what)?).map_err(|_| RecordError::Length(what))?;
        Ok(Duration::from_millis(milliseconds))
    }

    fn varint(&mut self, what: &'static str) -> Result<u32, RecordError> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = self
                .buffer
                .try_get_u8()
                .map_err(|_| RecordError::Truncated(what))?;
            value |= u32::from(byte & 0x7f)
                .checked_shl(shift)
                .ok_or(RecordError::Length(what))?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Length(what))
    }

    /// A length: −1 (or a compact 0) is null, and anything else below 0 is damage.
    fn length(
        &mut self,
        what: &'static str,
        is_string: bool,
    ) -> Result<Option<usize>, RecordError> {
        let length = if self.is_flexible() {
            i64::from(self.varint(what)?) - 1
        } else if is_string {
            let short = self.buffer.try_get_i16();
            i64::from(short.map_err(|_| RecordError::Truncated(what))?)
        } else {
            i64::from(self.int32(what)?)
        };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length)
                .map(Some)
                .map_err(|_| RecordError::Length(what)),
        }
    }

    fn take(&mut self, what: &'static str, length: usize) -> Result<Bytes, RecordError> {
        if length > self.buffer.len() {
            return Err(RecordError::Truncated(what));
        }
        Ok(self.buffer.split_to(length))
    }

    fn nullable_string(&mut self, what: &'static str) -> Result<Option<String>, RecordError> {
        let Some(length) = self.length(what, true)? else {
            return Ok(None);
        };
        let bytes = self.take(what, length)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| RecordError::NotUtf8(what))?;
        Ok(Some(text.to_owned()))
    }

    fn string(&mut self, what: &'static str) -> Result<String, RecordError> {
        self.nullable_string(what)?.ok_or(RecordError::Length(what))
    }

    /// Copied, so that a member does not keep the whole batch in memory that it was read from.
    fn bytes(&mut self, what: &'static str) -> Result<Bytes, RecordError> {
        let length = self.length(what, false)?.ok_or(RecordError::Length(what))?;
        Ok(Bytes::copy_from_slice(&self.take(what, length)?))
    }

    fn count(&mut self, what: &'static str) -> Result<usize, RecordError> {
        self.length(what, false)?
            .filter(|&count| count <= MAX_MEMBERS)
            .ok_or(RecordError::Length(what))
    }

    fn skip_tags(&mut self) -> Result<(), RecordError> {
        if self.is_flexible() {
            for _ in 0..self.varint("tags")? {
                self.varint("tag")?;
                let length = self.varint("tag length")?;
                self.take("tag", length as usize)?;
            }
        }
        Ok(())
    }
}
