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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, Stream::new(server, None).unwrap())
    }

    fn framed(content: &[u8]) -> Vec<u8> {
        let length = content.len() as u32;
        [&length.to_be_bytes()[..], content].concat()
    }

    #[test]
    fn requests_come_whole_whatever_their_size_and_wherever_they_are_cut() {
        let sizes = [
            0,
            1,
            70_000,
            3,
            AHEAD - 4,
            AHEAD,
            1_000_003,
            5,
            5,
            5,
            300_000,
        ];
        let contents: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(number, size)| vec![number as u8; *size])
            .collect();
        let bytes: Vec<u8> = contents
            .iter()
            .flat_map(|content| framed(content))
            .collect();
        for cut in [7, 1_000, 64 << 10, bytes.len()] {
            let (mut client, mut stream) = pair();
            let bytes = bytes.clone();
            let writer = std::thread::spawn(move || {
                for piece in bytes.chunks(cut) {
                    client.write_all(piece).unwrap();
                }
            });
            let mut input = Input::default();
            for content in &contents {
                let frame = input.next(&mut stream, Wait::Long).unwrap().unwrap();
                assert!(frame == content.as_slice());
            }
            writer.join().unwrap();
            assert!(input.next(&mut stream, Wait::Long).unwrap().is_none());
        }
    }

    #[test]
    fn a_part_of_a_request_is_not_waited_for_unless_told_so() {
        let (mut client, mut stream) = pair();
        let mut input = Input::default();
        assert!(input.next(&mut stream, Wait::Arrived).unwrap().is_none());
        client.write_all(&framed(b"whole")).unwrap();
        client.write_all(&framed(b"cut")[..5]).unwrap();
        assert!(input.next(&mut stream, Wait::Buffered).unwrap().is_none());
        let frame = input.next(&mut stream, Wait::Long).unwrap().unwrap();
        assert_eq!(frame, b"whole");
        assert!(input.next(&mut stream, Wait::Arrived).unwrap().is_none());
        client.write_all(b"ut").unwrap();
        let frame = input.next(&mut stream, Wait::Long).unwrap().unwrap();
        assert_eq!(frame, b"cut");
    }

    #[test]
    fn a_client_that_leaves_within_a_request_or_asks_for_too_much_is_an_error() {
        let (mut client, mut stream) = pair();
        client.write_all(&framed(b"whole")[..6]).unwrap();
        drop(client);
        assert!(Input::default().next(&mut stream, Wait::Long).is_err());
        let (mut client, mut stream) = pair();
        client.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(Input::default().next(&mut stream, Wait::Long).is_err());
    }
}
