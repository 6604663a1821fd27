//! Answers on their way out: in the order of their requests, joined into as few writes as the peer takes.
//!
//! Requests stand in *line* from their start until their answer is finished and its turn has come. Those that *run* all make
//! progress, yet their answers leave in order; those to be answered *in turn* do not begin before they are first in line. A
//! finished answer becomes *output*: chunks that a vectored write takes together. Each answer carries the *place* of its request's
//! bytes, given back when its last byte was written.
//!
//! Invariant: answers turn into output only while there is less than `MAX_OUTPUT_BYTES` of it, and no request is started while
//! there is more than that of output and of answers that are ready in line, so that a peer that does not read costs a bounded amount. What
//! all connections have of both is the *backlog*: above its bound a connection that has something unwritten starts nothing more.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::deadline::Window;
use super::{Finished, Reply, Started};
use crate::env::budget::Place;

const MAX_OUTPUT_BYTES: usize = 256 << 10;
/// Chunks up to this size are copied together: cheaper than an entry of their own in the list that the kernel walks.
const COPIED_BYTES: usize = 512;
/// Memory for copied chunks is taken in steps of this size.
const COPY_STEP_BYTES: usize = 2 << 10;
/// Chunks given to one write.
const MAX_SLICES: usize = 64;

/// The bytes of answers that all connections have ready and not written.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: AtomicU64,
    bound: u64,
}

impl Backlog {
    pub(super) fn new(bound: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicU64::new(0),
            bound,
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bound
    }
}

pub(super) struct Outgoing<W> {
    io: W,
    line: VecDeque<InLine>,
    /// The number of the first in line; they are numbered without gaps.
    first: u64,
    running: FuturesUnordered<Running>,
    /// Bytes of the answers in line that are ready.
    ready_bytes: usize,
    output: Output,
    /// Requests whose answer is output, by the position at which it ends.
    unwritten: VecDeque<(u64, Place)>,
    needs_flush: bool,
    /// Why the connection ends after the output, when it does.
    ending: Option<String>,
    last_write: Instant,
    /// While the peer has not taken all that it was given.
    window: Option<Window>,
    backlog: Arc<Backlog>,
    /// What the backlog counts of this connection.
    in_backlog: u64,
}

/// How the outgoing side came to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// A handler closed the connection, and what it had to say was written.
    Closed(String),
    Failed(io::Error),
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub(super) fn new(io: W, backlog: Arc<Backlog>) -> Self {
        Self {
            io,
            line: VecDeque::new(),
            first: 0,
            running: FuturesUnordered::new(),
            ready_bytes: 0,
            output: Output::default(),
            unwritten: VecDeque::new(),
            needs_flush: false,
            ending: None,
            last_write: Instant::now(),
            window: None,
            backlog,
            in_backlog: 0,
        }
    }

    /// Takes what a request's start led to.
    pub(super) fn accept(&mut self, started: Started, place: Place) {
        let finished = match started {
            Started::Later(answer) => {
                let number = self.first + self.line.len() as u64;
                self.running.push(Running { number, answer });
                self.stand(Answer::Running, place);
                return;
            }
            Started::InTurn(answer) => {
                self.stand(Answer::InTurn(answer), place);
                return;
            }
            Started::Silent => Finished::Silent,
            Started::Ready(reply) => Finished::Reply(reply),
            Started::Close { reply, reason } => Finished::Close { reply, reason },
        };
        if self.line.is_empty() {
            self.finish(finished, place);
        } else if !matches!(finished, Finished::Silent) {
            self.ready_bytes += finished.len();
            self.stand(Answer::Ready(finished), place);
        }
    }

    /// Requests started whose answer is not written.
    pub(super) fn in_flight(&self) -> usize {
        self.line.len() + self.unwritten.len()
    }

    /// Whether another request may be started.
    pub(super) fn has_room(&self, max_in_flight: usize) -> bool {
        let unwritten = self.unwritten_bytes();
        self.in_flight() < max_in_flight
            && unwritten < MAX_OUTPUT_BYTES
            && (unwritten == 0 || !self.backlog.is_over())
    }

    /// Bytes of answers that are ready and not written.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.output.len() + self.ready_bytes
    }

    /// Bytes written since the connection began.
    pub(super) fn written(&self) -> u64 {
        self.output.written
    }

    /// Since when the peer has been given bytes that it has not taken.
    pub(super) fn window(&self) -> Option<Window> {
        self.window
    }

    /// Begins the next window.
    pub(super) fn next_window(&mut self, now: Instant) {
        self.window = Some(Window {
            since: now,
            moved: self.output.written,
        });
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
        let stop = self.progress(cx);
        if self.output.len() == 0 {
            self.window = None;
        } else if self.window.is_none() {
            self.next_window(Instant::now());
        }
        self.count_backlog();
        stop
    }

    fn progress(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
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
            while let Poll::Ready(Some((number, finished))) = self.running.poll_next_unpin(cx) {
                let place = usize::try_from(number - self.first).unwrap_or(usize::MAX);
                if let Some(request) = self.line.get_mut(place) {
                    self.ready_bytes += finished.len();
                    request.answer = Answer::Ready(finished);
                }
            }
            let Some(front) = self.line.front_mut() else {
                return;
            };
            let finished = match std::mem::replace(&mut front.answer, Answer::Running) {
                Answer::Running => return,
                Answer::Ready(finished) => {
                    self.ready_bytes -= finished.len();
                    finished
                }
                // Most need not wait once it is their turn: then they are spared the list of those that run.
                Answer::InTurn(mut answer) => match answer.as_mut().poll(cx) {
                    Poll::Ready(finished) => finished,
                    Poll::Pending => {
                        let number = self.first;
                        self.running.push(Running { number, answer });
                        continue;
                    }
                },
            };
            self.first += 1;
            if let Some(InLine { place, .. }) = self.line.pop_front() {
                self.finish(finished, place);
            }
        }
    }

    fn stand(&mut self, answer: Answer, place: Place) {
        self.line.push_back(InLine { answer, place });
    }

    fn count_backlog(&mut self) {
        let now = self.unwritten_bytes() as u64;
        if now != self.in_backlog {
            let bytes = &self.backlog.bytes;
            bytes.fetch_add(now.wrapping_sub(self.in_backlog), Ordering::Relaxed);
            self.in_backlog = now;
        }
    }

    fn finish(&mut self, finished: Finished, place: Place) {
        let (reply, reason) = match finished {
            Finished::Reply(reply) => (Some(reply), None),
            Finished::Silent => return,
            Finished::Close { reply, reason } => (reply, Some(reason)),
        };
        self.ending = reason;
        if let Some(reply) = reply {
            match self.output.push(reply) {
                Ok(end) => self.unwritten.push_back((end, place)),
                Err(fault) => self.ending = Some(fault),
            }
        }
        if self.ending.is_some() {
            // What comes after the end is not answered.
            self.line.clear();
            self.running.clear();
            self.ready_bytes = 0;
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

impl<W> Drop for Outgoing<W> {
    fn drop(&mut self) {
        let bytes = &self.backlog.bytes;
        bytes.fetch_sub(self.in_backlog, Ordering::Relaxed);
    }
}

/// A request in line: its answer and the place of its bytes.
struct InLine {
    answer: Answer,
    place: Place,
}

type Answering = Pin<Box<dyn Future<Output = Finished> + Send>>;

enum Answer {
    Running,
    /// Has not begun: it begins when it is the first in line.
    InTurn(Answering),
    Ready(Finished),
}

/// An answer that is being made, and the number of its request.
struct Running {
    number: u64,
    answer: Answering,
}

impl Future for Running {
    type Output = (u64, Finished);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let finished = ready!(self.answer.as_mut().poll(cx));
        Poll::Ready((self.number, finished))
    }
}

impl Finished {
    /// Bytes of the answer.
    fn len(&self) -> usize {
        match self {
            Self::Reply(reply)
            | Self::Close {
                reply: Some(reply), ..
            } => reply.iter().map(Bytes::len).sum(),
            Self::Silent | Self::Close { reply: None, .. } => 0,
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
