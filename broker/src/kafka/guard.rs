//! Decodes requests from peers that nobody trusts.
//!
//! The crate's array decoders reserve room for as many elements as the wire *announces*: four bytes that lie ask for a
//! hundred gigabytes and end the process. A [`Guard`] stands between the frame and those decoders, hands out slices of
//! the frame without copying, and checks each announcement before a decoder can act on it.
//!
//! - **Flexible versions** (KIP-482) announce lengths and counts as unsigned varints, which only the numbers of tagged
//!   fields are besides. A varint must fit in what is left of the frame. One that turns out to be the length of the bytes read next costs nothing; every
//!   other one counts as elements, and all elements of a request together may be no more than its bytes (an element takes
//!   at least one; the varint right before is left out, for it may be a tagged field's number), and no more than [`MAX_ELEMENTS`].
//! - **Numbers of tagged fields** may be anything, and a peer may send fields that are unknown here. What follows tells them
//!   from counts: only behind such a number comes a varint that is, as it stands, the length of the bytes read next (the
//!   lengths of strings are written one higher). A number that was taken for elements gives them back then. One that is
//!   too large to be a count is answered as [`STAND_IN`], which reserves next to nothing, until that proof has come; without
//!   it the request is refused. With it the frame is decoded again as it stands.
//! - **Older versions** announce them as 32-bit integers, which scalars such as `max_bytes` are too. A value above the
//!   bytes that are left is answered as one more than those: were it a count or a length, decoding fails. When decoding
//!   succeeds it was a scalar, and the frame is decoded again as it stands. Where that proof would itself need room for
//!   more than [`MAX_ELEMENTS`], the request is refused: a frame of over a megabyte, in an old version, not Produce.
//!
//! What a request may reserve is bounded by that: the widest element of the served APIs takes 136 bytes in memory, so a
//! flexible request reserves at most 136 times its size and 143 MB for its last array, 18 MB for those before; an older one,
//! whose arrays nest three deep, three times 143 MB. It is address space alone: only elements that are really there are ever written to, and those take about
//! 35 times their bytes at worst (a list of empty strings, one byte each).

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::buf::{ByteBuf, NotEnoughBytesError};
use kafka_protocol::protocol::{Decodable, Request};

/// Elements that one array may announce; also the longest bytes field outside Produce.
pub const MAX_ELEMENTS: usize = 1 << 20;

/// Elements that all arrays of one request may have together: more than a client has partitions, and few enough that
/// decoding them takes milliseconds. In old versions, which do not tell counts from other numbers, they are counted when they
/// are decoded (`lists.rs`).
pub const MAX_ITEMS: usize = 1 << 17;

/// The longest string, Kafka's own bound: older versions count its bytes with 16 bits, and what was stored by a newer
/// version must be answerable in an older.
const MAX_STRING: usize = i16::MAX as usize;

/// The numbers of tagged fields that are known here lie below. Never taken for too large; as a count too small to do harm.
const KNOWN_TAGS: usize = 64;

/// Given to the decoder in place of a number that can only be a tagged field's: one that is unknown to it, and that does no
/// harm as a count.
const STAND_IN: u8 = KNOWN_TAGS as u8 + 1;

/// The bytes of a varint of 32 bits.
const MAX_VARINT_BYTES: usize = 5;

/// Why a frame is not a request. Fit for the log and for the peer: it says nothing of the frame's contents.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("byte {position} of the request announces {announced} {what}; {limit} are possible")]
    Announced {
        position: usize,
        what: &'static str,
        announced: u64,
        limit: usize,
    },
    #[error("the request is malformed at byte {position}: {reason}")]
    Malformed { position: usize, reason: String },
}

/// Takes the header off the front of a frame. What remains in `frame` is the request.
///
/// # Errors
/// When the bytes are no header.
pub fn decode_prefix(frame: &mut Bytes, header_version: i16) -> Result<RequestHeader, DecodeError> {
    let size = frame.len();
    // Headers have no arrays: what they announce is taken from the frame as it is read, never reserved.
    RequestHeader::decode(frame, header_version).map_err(|error| DecodeError::Malformed {
        position: size - frame.len(),
        reason: error.to_string(),
    })
}

/// Decodes a whole request of a supported version.
///
/// # Errors
/// When it is malformed, announces more than can be there, or bytes follow it.
pub fn decode<T: Request>(frame: Bytes, version: i16) -> Result<T, DecodeError> {
    let flexible = T::header_version(version) >= 2;
    let mut guard = Guard::new(frame.clone(), flexible, T::KEY);
    let decoded = T::decode(&mut guard, version);
    guard.convict();
    if let Some(refusal) = guard.refusal.take() {
        return Err(refusal);
    }
    let position = guard.position();
    let request = whole(decoded, position, &guard.rest)?;
    if !guard.clamped {
        return Ok(request);
    }
    let mut plain = frame;
    let decoded = T::decode(&mut plain, version);
    whole(decoded, position, &plain)
}

fn whole<T, E: std::fmt::Display>(
    decoded: Result<T, E>,
    position: usize,
    rest: &Bytes,
) -> Result<T, DecodeError> {
    let request = decoded.map_err(|error| DecodeError::Malformed {
        position,
        reason: error.to_string(),
    })?;
    if !rest.is_empty() {
        // librdkafka leaves bytes behind some of its requests, and Kafka's broker takes no notice.
        tracing::debug!(bytes = rest.len(), "bytes follow the end of a request");
    }
    Ok(request)
}

/// The longest bytes or string field of a request.
fn longest_field(api_key: i16) -> usize {
    match ApiKey::try_from(api_key) {
        Ok(ApiKey::Produce) => usize::MAX,
        Ok(ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::SaslAuthenticate) => MAX_ELEMENTS,
        _ => MAX_STRING,
    }
}

/// A number that only a tagged field can have, and what must be read next to show that it is one.
struct Suspect {
    /// What it is else.
    refusal: DecodeError,
    /// The field's length, once it is read; then as many bytes must follow.
    length: Option<usize>,
}

/// A frame that is read under suspicion.
struct Guard {
    rest: Bytes,
    size: usize,
    flexible: bool,
    longest_field: usize,
    /// Elements announced so far, in a flexible version.
    elements: usize,
    /// How many bytes of a varint that was judged by its first one are still to be read.
    varint_left: usize,
    /// The last varint, until the next read tells whether it was a length.
    announced: Option<usize>,
    /// The elements that the varint right before it was taken for.
    before: usize,
    suspect: Option<Suspect>,
    /// In Produce, the 32-bit integers read in a row, but for the first of all, the timeout. After a partition's index
    /// comes the length of its records, which may be most of the frame; a count never follows an index.
    integers: u32,
    timeout_read: bool,
    clamped: bool,
    refusal: Option<DecodeError>,
}

impl Guard {
    fn new(rest: Bytes, flexible: bool, api_key: i16) -> Self {
        Self {
            size: rest.len(),
            rest,
            flexible,
            longest_field: longest_field(api_key),
            elements: 0,
            varint_left: 0,
            announced: None,
            before: 0,
            suspect: None,
            integers: 0,
            timeout_read: false,
            clamped: false,
            refusal: None,
        }
    }

    fn position(&self) -> usize {
        self.size - self.rest.len()
    }

    fn is_produce(&self) -> bool {
        self.longest_field == usize::MAX
    }

    /// Called before every read that is no part of a varint.
    fn settle(&mut self) {
        self.convict();
        self.count_announced();
        self.before = 0;
        self.varint_left = 0;
        self.integers = 0;
    }

    fn count_announced(&mut self) {
        self.before = self.announced.take().unwrap_or(0).saturating_sub(1);
        self.elements = self.elements.saturating_add(self.before);
        if self.elements > MAX_ITEMS {
            self.refuse_elements();
        }
    }

    #[cold]
    fn refuse_elements(&mut self) {
        self.refuse("elements in all arrays", self.elements as u64, MAX_ITEMS);
        // Nothing more can be read.
        self.rest.clear();
    }

    /// No proof came that the suspect is a tagged field's number, if there is one.
    fn convict(&mut self) {
        if self.suspect.is_some() {
            self.convict_suspect();
        }
    }

    #[cold]
    fn convict_suspect(&mut self) {
        if let Some(suspect) = self.suspect.take() {
            self.refusal.get_or_insert(suspect.refusal);
        }
    }

    fn refusal_of(&self, what: &'static str, announced: u64, limit: usize) -> DecodeError {
        DecodeError::Announced {
            position: self.position(),
            what,
            announced,
            limit,
        }
    }

    fn refuse(&mut self, what: &'static str, announced: u64, limit: usize) -> TryGetError {
        let refusal = self.refusal_of(what, announced, limit);
        self.refusal.get_or_insert(refusal);
        TryGetError {
            requested: usize::try_from(announced).unwrap_or(usize::MAX),
            available: limit,
        }
    }

    /// What begins a varint, or a boolean, which reads as a varint of one byte. A boolean above 1, which no client writes,
    /// can only make the check stricter. Returns the byte for the decoder.
    fn varint(&mut self) -> Result<u8, TryGetError> {
        let after_index = self.is_produce() && self.integers > 0;
        self.count_announced();
        self.integers = 0;
        let (value, bytes) = self.peek_varint()?;
        let left = self.rest.len() - bytes;
        let most = if after_index {
            left
        } else {
            // The varint right before may be a tagged field's number, and this one the field's length.
            let spent = self.elements.saturating_sub(self.before);
            let unspent = self.size.saturating_sub(spent);
            let plausible = left.min(unspent).max(KNOWN_TAGS);
            plausible.min(MAX_ELEMENTS.saturating_sub(self.elements))
        };
        // Lengths and counts are written one higher than they are, so that 0 can stand for null.
        if value <= most.saturating_add(1) {
            self.announced = Some(value);
            match &mut self.suspect {
                Some(Suspect { length, .. }) if length.is_none() => *length = Some(value),
                _ => self.convict(),
            }
            self.varint_left = bytes - 1;
            return self.rest.try_get_u8();
        }
        self.convict();
        self.rest.advance(bytes);
        let announced = value.saturating_sub(1);
        let error = TryGetError {
            requested: announced,
            available: most,
        };
        let refusal = self.refusal_of("elements or bytes", announced as u64, most);
        if value <= usize::from(STAND_IN) || i32::try_from(value).is_err() {
            self.refusal.get_or_insert(refusal);
            return Err(error);
        }
        self.suspect = Some(Suspect {
            refusal,
            length: None,
        });
        self.clamped = true;
        Ok(STAND_IN)
    }

    /// The varint that comes next, and how many bytes it takes.
    fn peek_varint(&mut self) -> Result<(usize, usize), TryGetError> {
        if let Some(byte) = self.rest.first()
            && *byte < 0x80
        {
            return Ok((usize::from(*byte), 1));
        }
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().take(MAX_VARINT_BYTES).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                return Ok((usize::try_from(value).unwrap_or(usize::MAX), index + 1));
            }
        }
        if self.rest.len() < MAX_VARINT_BYTES {
            return Err(TryGetError {
                requested: self.rest.len() + 1,
                available: self.rest.len(),
            });
        }
        Err(self.refuse("or more bytes in a varint of 32 bits", 6, 5))
    }

    /// A 32-bit integer in a version in which it may be a count or a length.
    fn integer(&mut self, value: i32, may_be_large: bool) -> Result<i32, TryGetError> {
        let left = self.rest.len();
        let announced = match usize::try_from(value) {
            Ok(announced) if !may_be_large && announced > left.min(MAX_ELEMENTS) => announced,
            _ => return Ok(value),
        };
        if left >= MAX_ELEMENTS {
            return Err(self.refuse("elements", announced as u64, MAX_ELEMENTS));
        }
        self.clamped = true;
        Ok(i32::try_from(left + 1).unwrap_or(i32::MAX))
    }
}

impl Buf for Guard {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.rest
    }

    /// Every read but those overridden below ends here.
    fn advance(&mut self, count: usize) {
        self.settle();
        self.rest.advance(count.min(self.rest.len()));
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        if !self.flexible {
            self.settle();
            return self.rest.try_get_u8();
        }
        if self.varint_left > 0 {
            self.varint_left -= 1;
            return self.rest.try_get_u8();
        }
        if self.refusal.is_some() {
            return Err(TryGetError {
                requested: 1,
                available: 0,
            });
        }
        self.varint()
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let in_a_row = self.integers;
        self.settle();
        let value = self.rest.try_get_i32()?;
        let first = !std::mem::replace(&mut self.timeout_read, true);
        if !first {
            self.integers = in_a_row + 1;
        }
        if self.flexible {
            return Ok(value);
        }
        let may_be_large = self.is_produce() && (first || in_a_row > 0);
        self.integer(value, may_be_large)
    }
}

impl ByteBuf for Guard {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.rest.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        // A tagged field's length is written as it is, every other one higher.
        if self.announced == Some(size) {
            self.announced = None;
            self.elements = self.elements.saturating_sub(self.before);
            if let Some(suspect) = &self.suspect
                && suspect.length == Some(size)
            {
                self.suspect = None;
            }
        } else if self.announced == size.checked_add(1) {
            self.announced = None;
        }
        self.settle();
        self.rest.split_to(size.min(self.rest.len()))
    }

    fn try_get_bytes(&mut self, size: usize) -> Result<Bytes, NotEnoughBytesError> {
        if size > self.longest_field {
            self.refuse("bytes in one field", size as u64, self.longest_field);
            return Err(NotEnoughBytesError);
        }
        if size > self.rest.len() {
            return Err(NotEnoughBytesError);
        }
        Ok(self.get_bytes(size))
    }
}

#[cfg(test)]
pub(crate) mod tests;
