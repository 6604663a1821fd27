//! Requests as they come out of a stream, each in one piece of one buffer.

use anyhow::{Result, bail};

use crate::stream::Stream;

/// Read at once while no large request is known to be on its way: small ones come many at a time then.
const AHEAD: usize = 64 << 10;
/// No client sends more in one request; it would be a broken one.
const MOST: usize = 256 << 20;

/// Whether to wait for the next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Until it is there, or the stream has ended.
    Long,
    /// Not at all: take what the socket holds.
    Arrived,
    /// Not even look at the socket.
    Buffered,
}

#[derive(Debug, Default)]
pub struct Input {
    /// `begin..end` was read and not taken.
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Input {
    /// The next request, behind its length; `None` when there is none, after [`Wait::Long`] because the stream ended.
    pub fn next(&mut self, stream: &mut Stream, wait: Wait) -> Result<Option<&mut [u8]>> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                let begin = self.begin + 4;
                self.begin = begin + self.announced().unwrap_or(0);
                return Ok(Some(&mut self.buffer[begin..self.begin]));
            }
            let into = self.room(missing);
            let read = match wait {
                Wait::Long => Some(stream.read(into)?),
                Wait::Arrived => stream.read_arrived(into)?,
                Wait::Buffered => None,
            };
            match read {
                Some(0) if self.begin < self.end => bail!("the client left within a request"),
                Some(0) | None => return Ok(None),
                Some(read) => self.end += read,
            }
        }
    }

    /// The length that the next request gives itself.
    fn announced(&self) -> Option<usize> {
        let length = self.buffer[self.begin..self.end].first_chunk()?;
        Some(u32::from_be_bytes(*length) as usize)
    }

    /// Bytes of the next request that are not here yet; of its length, while that is not known.
    fn missing(&self) -> Result<usize> {
        let here = self.end - self.begin;
        let Some(length) = self.announced() else {
            return Ok(4 - here);
        };
        if length > MOST {
            bail!("a request says that it has {length} bytes");
        }
        Ok((length + 4).saturating_sub(here))
    }

    /// Where to read to. Of a large request exactly the rest, so that what follows need not be moved.
    fn room(&mut self, missing: usize) -> &mut [u8] {
        let wanted = missing.max(AHEAD);
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        if self.buffer.len() - self.end < wanted {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            let length = self.buffer.len().max(self.end + wanted);
            self.buffer.resize(length, 0);
        }
        &mut self.buffer[self.end..self.end + wanted]
    }
}
