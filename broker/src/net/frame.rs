//! Frames: a length of four bytes, big-endian and signed, then so many bytes.
//!
//! Small frames are cut without copying from a *buffer* that is filled by one read for as many frames as have arrived. A frame that does not fit
//! the buffer gets memory of its own, into which its bytes are read directly, so that keeping a slice of a large frame keeps
//! no other frame alive.
//!
//! Invariants: memory grows with the bytes that arrived, never with the length that was announced. A frame with memory of its own is
//! paid for in steps, each before its bytes are read (`Arrival::Needs`). Every `poll_…` keeps its state in the reader: it may be
//! given up and called again.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::env::buffers::Buffer;

/// The smallest request there is: API key, version and correlation id.
pub(super) const MIN_FRAME_BYTES: usize = 8;

const PREFIX_BYTES: usize = 4;
/// Room that a read gets: the least is what an idle connection holds, the most bounds what a small frame that is kept
/// for long (a batch in the log's cache) can keep alive beside it.
const MIN_ROOM_BYTES: usize = 4 << 10;
const MAX_ROOM_BYTES: usize = 32 << 10;
/// So much of a large frame arrives in the buffer before the frame gets memory of its own.
const FRONT_BYTES: usize = 16 << 10;
/// What a large frame pays for first; from there on it pays for twice as much each time, up to its length.
const FIRST_PAYMENT_BYTES: usize = 128 << 10;
/// Room that a large frame begins with. From there on it grows as it is paid for. Pages that nothing was read into are no memory yet.
const FIRST_ROOM_BYTES: usize = 1 << 20;

pub(super) struct FrameReader<R> {
    io: R,
    /// What was read and not yet taken.
    buffer: BytesMut,
    /// Room for the next read: doubled by reads that fill it, halved by reads that leave most of it.
    room: usize,
    body: Body,
}

enum Body {
    /// Between frames, or inside a length.
    None,
    /// Comes from the buffer, so many bytes.
    Buffered(usize),
    /// Is to have memory of its own, once its front has arrived in the buffer.
    Front(usize),
    /// Has memory of its own.
    Own {
        bytes: Buffer,
        length: usize,
        paid: usize,
    },
}

/// How a frame's body comes along.
#[derive(Debug)]
pub(super) enum Arrival {
    Whole(Bytes),
    /// Nothing more is read before `paid` says that so many bytes in all are paid for.
    Needs(usize),
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            room: MIN_ROOM_BYTES,
            body: Body::None,
        }
    }

    /// The length that the peer announces, unchecked; `None` when it closed between frames.
    pub(super) fn poll_length(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<i32>>> {
        while self.buffer.len() < PREFIX_BYTES {
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(match self.buffer.len() {
                    0 => Ok(None),
                    _ => Err(torn()),
                });
            }
        }
        Poll::Ready(Ok(Some(self.buffer.get_i32())))
    }

    /// Says that the length just read is taken: `poll_body` reads so many bytes.
    pub(super) fn begin(&mut self, length: usize) {
        self.body = if length <= MAX_ROOM_BYTES.max(self.buffer.len()) {
            Body::Buffered(length)
        } else {
            Body::Front(length)
        };
    }

    /// The frame whose length was announced by `begin`, or what it must pay for next.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        let whole = loop {
            match &mut self.body {
                Body::None => break Bytes::new(),
                &mut Body::Buffered(length) if self.buffer.len() >= length => {
                    break self.buffer.split_to(length).freeze();
                }
                &mut Body::Front(length) if self.buffer.len() >= length => {
                    self.body = Body::Buffered(length);
                }
                &mut Body::Front(length) if self.buffer.len() >= FRONT_BYTES => {
                    let first = length.min(FIRST_PAYMENT_BYTES.max(self.buffer.len()));
                    return Poll::Ready(Ok(Arrival::Needs(first)));
                }
                Body::Buffered(_) | Body::Front(_) => {
                    if ready!(self.poll_fill(cx))? == 0 {
                        return Poll::Ready(Err(torn()));
                    }
                }
                Body::Own { bytes, length, .. } if bytes.filled() == *length => {
                    match std::mem::replace(&mut self.body, Body::None) {
                        Body::Own { bytes, .. } => break bytes.freeze(),
                        Body::None | Body::Buffered(_) | Body::Front(_) => break Bytes::new(),
                    }
                }
                Body::Own {
                    bytes,
                    length,
                    paid,
                } if bytes.filled() == *paid => {
                    return Poll::Ready(Ok(Arrival::Needs((*paid * 2).min(*length))));
                }
                Body::Own { bytes, paid, .. } => {
                    if ready!(poll_read_up_to(&mut self.io, cx, bytes, *paid))? == 0 {
                        return Poll::Ready(Err(torn()));
                    }
                }
            }
        };
        self.body = Body::None;
        Poll::Ready(Ok(Arrival::Whole(whole)))
    }

    /// So many bytes of the frame, in all, are paid for: `poll_body` may go on.
    pub(super) fn paid(&mut self, total: usize) {
        match &mut self.body {
            &mut Body::Front(length) => {
                let mut bytes = Buffer::with_capacity(length.min(FIRST_ROOM_BYTES));
                bytes.bytes().extend_from_slice(&self.buffer);
                self.buffer.clear();
                self.body = Body::Own {
                    bytes,
                    length,
                    paid: total,
                };
            }
            Body::Own { paid, .. } => *paid = total,
            Body::None | Body::Buffered(_) => {}
        }
    }

    /// Bytes of the frame that have arrived into memory of its own.
    pub(super) fn arrived(&self) -> usize {
        match &self.body {
            Body::Own { bytes, .. } => bytes.filled(),
            Body::None | Body::Buffered(_) | Body::Front(_) => 0,
        }
    }

    /// Whether the next frame has arrived whole: taking it needs no read.
    pub(super) fn has_frame(&self) -> bool {
        let mut arrived = &self.buffer[..];
        match arrived.try_get_i32().map(usize::try_from) {
            Ok(Ok(length)) => arrived.len() >= length,
            // A negative length is refused without a read as well.
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    pub(super) fn into_inner(self) -> R {
        self.io
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // A read into the last few bytes of room would cost a system call for next to nothing.
        if self.buffer.capacity() - self.buffer.len() < self.room / 4 {
            self.buffer.reserve(self.room);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let read = ready!(pin!(self.io.read_buf(&mut self.buffer)).poll(cx))?;
        if read == room {
            self.room = (self.room * 2).min(MAX_ROOM_BYTES);
        } else if read < self.room / 4 {
            self.room = (self.room / 2).max(MIN_ROOM_BYTES);
        }
        Poll::Ready(Ok(read))
    }
}

/// Reads into a frame's own memory, never past what is paid for.
fn poll_read_up_to<R: AsyncRead + Unpin>(
    io: &mut R,
    cx: &mut Context<'_>,
    buffer: &mut Buffer,
    paid: usize,
) -> Poll<io::Result<usize>> {
    if buffer.filled() == buffer.capacity() {
        buffer.grow(paid);
    }
    let bytes = buffer.bytes();
    let missing = paid - bytes.len();
    pin!(io.read_buf(&mut bytes.limit(missing))).poll(cx)
}

fn torn() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer closed in the middle of a frame",
    )
}

/// What speaks another protocol on a plain port, told by the four bytes that stand where a length belongs.
pub(super) fn greeting(prefix: i32) -> Option<&'static str> {
    const HTTP: [&[u8; 4]; 8] = [
        b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"CONN", b"PRI ",
    ];
    let bytes = prefix.to_be_bytes();
    match bytes {
        // A TLS record of the handshake type, whatever version it claims.
        [0x16, 0x03, _, _] => Some("TLS"),
        _ if HTTP.contains(&&bytes) => Some("HTTP"),
        [b'S', b'S', b'H', b'-'] => Some("SSH"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
