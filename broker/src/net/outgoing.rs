//! Answers on their way out: in the order of their requests, joined into as few writes as the peer takes.
//!
//! A *waiting* answer belongs to a request that was started and not finished; all of them make progress, yet they leave in order. A
//! finished answer becomes *output*: chunks that a vectored write takes together. Each answer carries the *permit* of its request's
//! bytes, given back when its last byte was written.
//!
//! Invariant: answers turn into output only while there is less than `MAX_OUTPUT_BYTES` of it, and no request is started
//! above that, so that a peer that does not read costs a bounded amount.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::io::AsyncWrite;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Finished, Reply, Started};

const MAX_OUTPUT_BYTES: usize = 256 << 10;
/// Chunks up to this size are copied together: cheaper than an entry of their own in the list that the kernel walks.
const COPIED_BYTES: usize = 512;
/// Memory for copied chunks is taken in steps of this size.
const COPY_STEP_BYTES: usize = 2 << 10;
/// Chunks given to one write.
const MAX_SLICES: usize = 64;

pub(super) struct Outgoing<W> {
    io: W,
    waiting: FuturesOrdered<Waiting>,
    output: Output,
    /// Requests whose answer is output, by the position at which it ends.
    unwritten: VecDeque<(u64, OwnedSemaphorePermit)>,
    needs_flush: bool,
    /// Why the connection ends after the output, when it does.
    ending: Option<String>,
    last_write: Instant,
}

/// How the outgoing side came to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// A handler closed the connection, and what it had to say was written.
    Closed(String),
    Failed(io::Error),
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub(super) fn new(io: W) -> Self {
        Self {
            io,
            waiting: FuturesOrdered::new(),
            output: Output::default(),
            unwritten: VecDeque::new(),
            needs_flush: false,
            ending: None,
            last_write: Instant::now(),
        }
    }

    /// Takes what a request's start led to.
    pub(super) fn accept(&mut self, started: Started, permit: OwnedSemaphorePermit) {
        let finished = match started {
            Started::Later(answer) => {
                self.waiting
                    .push_back(Waiting::new(Answer::Later(answer), permit));
                return;
            }
            Started::Silent => Finished::Silent,
            Started::Ready(reply) => Finished::Reply(reply),
            Started::Close { reply, reason } => Finished::Close { reply, reason },
        };
        if self.waiting.is_empty() {
            self.finish(finished, permit);
        } else if !matches!(finished, Finished::Silent) {
            self.waiting
                .push_back(Waiting::new(Answer::Ready(finished), permit));
        }
    }

    /// Requests started whose answer is not written.
    pub(super) fn in_flight(&self) -> usize {
        self.waiting.len() + self.unwritten.len()
    }

    /// Whether another request may be started.
    pub(super) fn has_room(&self, max_in_flight: usize) -> bool {
        self.in_flight() < max_in_flight && self.output.len() < MAX_OUTPUT_BYTES
    }

    /// A handler has closed the connection: no request is to be started any more.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn has_output(&self) -> bool {
        self.output.len() > 0
    }

    pub(super) fn last_write(&self) -> Instant {
        self.last_write
    }

    /// Makes what progress there is to make. Ready only at the end of the connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            self.collect(cx);
            if self.output.len() == 0 {
                if self.needs_flush {
                    if let Err(fault) = ready!(Pin::new(&mut self.io).poll_flush(cx)) {
                        return Poll::Ready(Stop::Failed(fault));
                    }
                    self.needs_flush = false;
                }
                return match self.ending.take() {
                    Some(reason) => Poll::Ready(Stop::Closed(reason)),
                    None => Poll::Pending,
                };
            }
            match ready!(self.output.poll_write(&mut self.io, cx)) {
                Ok(0) => return Poll::Ready(Stop::Failed(io::ErrorKind::WriteZero.into())),
                Ok(_) => self.wrote(),
                Err(fault) => return Poll::Ready(Stop::Failed(fault)),
            }
        }
    }

    /// As `poll`, and ready as well (with `None`) when every started request is answered and the answers are written.
    pub(super) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<Option<Stop>> {
        match self.poll(cx) {
            Poll::Ready(stop) => Poll::Ready(Some(stop)),
            Poll::Pending if self.in_flight() == 0 && !self.needs_flush => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Turns answers that are ready, and whose turn it is, into output.
    fn collect(&mut self, cx: &mut Context<'_>) {
        while self.ending.is_none() && self.output.len() < MAX_OUTPUT_BYTES {
            match self.waiting.poll_next_unpin(cx) {
                Poll::Ready(Some((finished, permit))) => self.finish(finished, permit),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    fn finish(&mut self, finished: Finished, permit: OwnedSemaphorePermit) {
        let (reply, reason) = match finished {
            Finished::Reply(reply) => (Some(reply), None),
            Finished::Silent => return,
            Finished::Close { reply, reason } => (reply, Some(reason)),
        };
        self.ending = reason;
        if let Some(reply) = reply {
            match self.output.push(reply) {
                Ok(end) => self.unwritten.push_back((end, permit)),
                Err(fault) => self.ending = Some(fault),
            }
        }
        if self.ending.is_some() {
            // What comes after the end is not answered.
            self.waiting = FuturesOrdered::new();
        }
    }

    fn wrote(&mut self) {
        self.needs_flush = true;
        self.last_write = Instant::now();
        while let Some((end, _)) = self.unwritten.front()
            && *end <= self.output.written
        {
            self.unwritten.pop_front();
        }
    }
}

/// A request's answer and the permit of its bytes.
struct Waiting {
    answer: Answer,
    permit: Option<OwnedSemaphorePermit>,
}

enum Answer {
    Later(Pin<Box<dyn Future<Output = Finished> + Send>>),
    /// Ready, but not its turn.
    Ready(Finished),
    Taken,
}

impl Waiting {
    fn new(answer: Answer, permit: OwnedSemaphorePermit) -> Self {
        Self {
            answer,
            permit: Some(permit),
        }
    }
}

impl Future for Waiting {
    type Output = (Finished, OwnedSemaphorePermit);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let finished = match &mut self.answer {
            Answer::Later(answer) => ready!(answer.as_mut().poll(cx)),
            _ => match std::mem::replace(&mut self.answer, Answer::Taken) {
                Answer::Ready(finished) => finished,
                Answer::Later(_) | Answer::Taken => return Poll::Pending,
            },
        };
        match self.permit.take() {
            Some(permit) => Poll::Ready((finished, permit)),
            None => Poll::Pending,
        }
    }
}

/// Bytes to write, with the positions (counted from the connection's first byte) that tell which answers are out.
#[derive(Default)]
struct Output {
    chunks: VecDeque<Bytes>,
    /// Lengths and small chunks that stand after `chunks`.
    copied: BytesMut,
    pushed: u64,
    written: u64,
}

impl Output {
    fn len(&self) -> usize {
        usize::try_from(self.pushed - self.written).unwrap_or(usize::MAX)
    }

    /// Adds an answer with its length in front; returns the position at which it ends.
    fn push(&mut self, reply: Reply) -> Result<u64, String> {
        let length: usize = reply.iter().map(Bytes::len).sum();
        let prefix = i32::try_from(length)
            .map_err(|_| format!("an answer of {length} bytes does not fit a frame"))?;
        self.copy(&prefix.to_be_bytes());
        for chunk in reply {
            if chunk.len() <= COPIED_BYTES {
                self.copy(&chunk);
            } else {
                self.seal();
                self.pushed += chunk.len() as u64;
                self.chunks.push_back(chunk);
            }
        }
        Ok(self.pushed)
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.copied.capacity() - self.copied.len() < bytes.len() {
            self.copied.reserve(COPY_STEP_BYTES);
        }
        self.copied.put_slice(bytes);
        self.pushed += bytes.len() as u64;
    }

    fn seal(&mut self) {
        if !self.copied.is_empty() {
            self.chunks.push_back(self.copied.split().freeze());
        }
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.seal();
        let io = Pin::new(io);
        let written = if io.is_write_vectored() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut used = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
                used += 1;
            }
            ready!(io.poll_write_vectored(cx, &slices[..used]))?
        } else {
            let first = self.chunks.front().map_or(&[][..], |chunk| chunk);
            ready!(io.poll_write(cx, first))?
        };
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        self.written += written as u64;
        while let Some(chunk) = self.chunks.front_mut() {
            if chunk.len() > written {
                chunk.advance(written);
                return;
            }
            written -= chunk.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
