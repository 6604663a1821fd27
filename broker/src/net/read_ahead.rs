//! Reads a socket in larger pieces than its reader asks for.
//!
//! rustls asks for 4 KiB at a time, which would be four system calls and more for each record of TLS. The bytes ahead lie in a
//! buffer that a connection has only while there are some: an idle one holds none.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::env::buffers::{Buffer, LARGE_BYTES};

/// What carries bytes both ways, with those that were read and not asked for yet.
pub(super) struct ReadAhead<S> {
    io: S,
    ahead: Bytes,
}

impl<S> ReadAhead<S> {
    pub(super) fn new(io: S) -> Self {
        Self {
            io,
            ahead: Bytes::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        wanted: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let mut buffer = Buffer::with_capacity(LARGE_BYTES);
            ready!(pin!(self.io.read_buf(buffer.bytes())).poll(cx))?;
            self.ahead = buffer.freeze();
        }
        let count = self.ahead.len().min(wanted.remaining());
        wanted.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn every_byte_comes_once_and_in_order_and_then_the_end() {
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let (mut ours, theirs) = tokio::io::duplex(100_000);
        let all = sent.clone();
        let sending = tokio::spawn(async move {
            ours.write_all(&all).await.expect("sent");
        });
        let mut reader = ReadAhead::new(theirs);
        let mut came = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match reader.read(&mut piece).await.expect("read") {
                0 => break,
                count => came.extend_from_slice(&piece[..count]),
            }
        }
        sending.await.expect("the sender ended well");
        assert_eq!(came, sent);
        assert!(reader.ahead.is_empty());
    }
}
