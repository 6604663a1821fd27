//! The two requests that carry records, Produce and Fetch, are read and answered by hand: nothing is copied, and nothing is
//! allocated for a record. Everything else goes through a library (`control.rs`).

use anyhow::{Context, Result, bail};
use kafka_protocol::protocol::Encodable;

/// Reads fields of a request one after the other.
pub struct Fields<'f> {
    frame: &'f [u8],
    at: usize,
    /// Compact lengths and tagged fields.
    pub flexible: bool,
}

impl<'f> Fields<'f> {
    pub fn new(frame: &'f [u8]) -> Self {
        Self {
            frame,
            at: 0,
            flexible: false,
        }
    }

    /// Where the next field begins.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn skip(&mut self, bytes: usize) -> Result<&'f [u8]> {
        let rest = self.frame.get(self.at..).unwrap_or_default();
        let field = rest.get(..bytes).context("a request ends early")?;
        self.at += bytes;
        Ok(field)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.skip(N)?.try_into()?)
    }

    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array_of()?))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array_of()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array_of()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array_of()?))
    }

    fn varint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.skip(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a length has more than five bytes")
    }

    /// The number of elements, or of bytes; none of an absent array.
    pub fn length(&mut self) -> Result<usize> {
        let length = if self.flexible {
            self.varint()?.saturating_sub(1)
        } else {
            usize::try_from(self.i32()?).unwrap_or(0)
        };
        Ok(length)
    }

    /// A string; an absent one is empty.
    pub fn string(&mut self) -> Result<&'f [u8]> {
        let length = if self.flexible {
            self.varint()?.saturating_sub(1)
        } else {
            usize::try_from(self.i16()?).unwrap_or(0)
        };
        self.skip(length)
    }

    pub fn tags(&mut self) -> Result<()> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.skip(length)?;
            }
        }
        Ok(())
    }
}

/// What stands before every request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub api: i16,
    pub version: i16,
    pub correlation: i32,
}

impl Header {
    /// Reads up to the client's name; tagged fields of flexible versions follow.
    pub fn read(fields: &mut Fields<'_>) -> Result<Self> {
        let header = Self {
            api: fields.i16()?,
            version: fields.i16()?,
            correlation: fields.i32()?,
        };
        // Not compact in any version.
        fields.string()?;
        Ok(header)
    }
}

/// Writes an answer behind others.
pub struct Answer<'o> {
    out: &'o mut Vec<u8>,
    begin: usize,
    pub flexible: bool,
}

impl<'o> Answer<'o> {
    /// Begins with a length that [`end`](Self::end) fills in, and the header.
    pub fn begin(out: &'o mut Vec<u8>, correlation: i32, flexible: bool) -> Self {
        let begin = out.len();
        let mut answer = Self {
            out,
            begin,
            flexible,
        };
        answer.i32(0);
        answer.i32(correlation);
        answer.tags();
        answer
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub fn i16(&mut self, value: i16) {
        self.bytes(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes(&value.to_be_bytes());
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// Of an array, or of bytes.
    pub fn length(&mut self, length: usize) {
        if self.flexible {
            self.varint(length + 1);
        } else {
            self.i32(length as i32);
        }
    }

    pub fn string(&mut self, text: &[u8]) {
        if self.flexible {
            self.varint(text.len() + 1);
        } else {
            self.i16(text.len() as i16);
        }
        self.bytes(text);
    }

    pub fn absent_string(&mut self) {
        if self.flexible {
            self.out.push(0);
        } else {
            self.i16(-1);
        }
    }

    pub fn tags(&mut self) {
        if self.flexible {
            self.out.push(0);
        }
    }

    /// How much was written, over all answers.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Ends with a body that a library writes.
    pub fn encode(self, body: &impl Encodable, version: i16) -> Result<()> {
        body.encode(self.out, version)?;
        self.end(0);
        Ok(())
    }

    /// Fills the length in; `elsewhere` bytes of the answer come from a file.
    pub fn end(self, elsewhere: usize) {
        let length = (self.out.len() - self.begin - 4 + elsewhere) as i32;
        self.out[self.begin..self.begin + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Error codes of the protocol.
pub mod code {
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const UNSUPPORTED_VERSION: i16 = 35;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const STORAGE_ERROR: i16 = 56;
}
