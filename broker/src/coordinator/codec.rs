//! Fields of the records that coordinators keep in the log, in Kafka's encoding: big-endian numbers, and strings and arrays
//! behind their length. Versions below a record's first **flexible** one write lengths with 16 or 32 bits, the others as
//! varints one above the length, with **tagged fields** at the end of each structure (KIP-482).

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Elements that one value may claim: a bound on what a damaged count can make a reader reserve.
const MAX_ELEMENTS: usize = 1 << 20;

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

pub(super) fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

pub(super) fn put_string(
    out: &mut BytesMut,
    what: &'static str,
    value: &str,
) -> Result<(), RecordError> {
    let length = i16::try_from(value.len()).map_err(|_| RecordError::TooLong(what, value.len()))?;
    out.put_i16(length);
    out.put_slice(value.as_bytes());
    Ok(())
}

pub(super) fn put_nullable(
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

pub(super) fn put_count(
    out: &mut BytesMut,
    what: &'static str,
    count: usize,
) -> Result<(), RecordError> {
    let count = i32::try_from(count).map_err(|_| RecordError::Length(what))?;
    out.put_i32(count);
    Ok(())
}

pub(super) fn put_bytes(
    out: &mut BytesMut,
    what: &'static str,
    value: &[u8],
) -> Result<(), RecordError> {
    put_count(out, what, value.len())?;
    out.put_slice(value);
    Ok(())
}

/// An unsigned varint, as flexible versions write lengths.
pub(super) fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        // The cast keeps the low seven bits, which is what is wanted.
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A count or length as flexible versions write it.
pub(super) fn put_compact_count(
    out: &mut BytesMut,
    what: &'static str,
    count: usize,
) -> Result<(), RecordError> {
    let count = u32::try_from(count)
        .ok()
        .and_then(|count| count.checked_add(1));
    put_varint(out, count.ok_or(RecordError::Length(what))?);
    Ok(())
}

pub(super) fn put_compact_string(
    out: &mut BytesMut,
    what: &'static str,
    value: &str,
) -> Result<(), RecordError> {
    if i16::try_from(value.len()).is_err() {
        return Err(RecordError::TooLong(what, value.len()));
    }
    put_compact_count(out, what, value.len())?;
    out.put_slice(value.as_bytes());
    Ok(())
}

/// Reads fields in order. The version that heads the bytes decides how lengths are written.
pub(super) struct Reader {
    buffer: Bytes,
    pub version: i16,
    is_flexible: bool,
}

impl Reader {
    pub fn new(mut buffer: Bytes, first_flexible: i16) -> Result<Self, RecordError> {
        let version = buffer
            .try_get_i16()
            .map_err(|_| RecordError::Truncated("version"))?;
        Ok(Self {
            buffer,
            version,
            is_flexible: version >= first_flexible,
        })
    }

    /// Refuses a version above `last`, or a negative one.
    pub fn up_to(self, last: i16, what: &'static str) -> Result<Self, RecordError> {
        match (0..=last).contains(&self.version) {
            true => Ok(self),
            false => Err(RecordError::Version(what, self.version)),
        }
    }

    pub fn int8(&mut self, what: &'static str) -> Result<i8, RecordError> {
        self.buffer
            .try_get_i8()
            .map_err(|_| RecordError::Truncated(what))
    }

    pub fn int16(&mut self, what: &'static str) -> Result<i16, RecordError> {
        self.buffer
            .try_get_i16()
            .map_err(|_| RecordError::Truncated(what))
    }

    pub fn int32(&mut self, what: &'static str) -> Result<i32, RecordError> {
        self.buffer
            .try_get_i32()
            .map_err(|_| RecordError::Truncated(what))
    }

    pub fn int64(&mut self, what: &'static str) -> Result<i64, RecordError> {
        self.buffer
            .try_get_i64()
            .map_err(|_| RecordError::Truncated(what))
    }

    pub fn duration(&mut self, what: &'static str) -> Result<Duration, RecordError> {
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
        let length = if self.is_flexible {
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

    pub fn nullable_string(&mut self, what: &'static str) -> Result<Option<String>, RecordError> {
        let Some(length) = self.length(what, true)? else {
            return Ok(None);
        };
        let bytes = self.take(what, length)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| RecordError::NotUtf8(what))?;
        Ok(Some(text.to_owned()))
    }

    pub fn string(&mut self, what: &'static str) -> Result<String, RecordError> {
        self.nullable_string(what)?.ok_or(RecordError::Length(what))
    }

    /// Copied, so that a value does not keep the whole batch in memory that it was read from.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, RecordError> {
        let length = self.length(what, false)?.ok_or(RecordError::Length(what))?;
        Ok(Bytes::copy_from_slice(&self.take(what, length)?))
    }

    pub fn count(&mut self, what: &'static str) -> Result<usize, RecordError> {
        self.nullable_count(what)?.ok_or(RecordError::Length(what))
    }

    pub fn nullable_count(&mut self, what: &'static str) -> Result<Option<usize>, RecordError> {
        match self.length(what, false)? {
            Some(count) if count > MAX_ELEMENTS => Err(RecordError::Length(what)),
            count => Ok(count),
        }
    }

    pub fn skip_tags(&mut self) -> Result<(), RecordError> {
        self.tags(|_, _| Ok(()))
    }

    /// Hands each tagged field (KIP-482) to `read`: its number, and a reader of its bytes alone.
    pub fn tags(
        &mut self,
        mut read: impl FnMut(u32, &mut Self) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        if self.is_flexible {
            for _ in 0..self.varint("tags")? {
                let tag = self.varint("tag")?;
                let length = self.varint("tag length")?;
                let mut field = Self {
                    buffer: self.take("tag", length as usize)?,
                    ..*self
                };
                read(tag, &mut field)?;
            }
        }
        Ok(())
    }
}
