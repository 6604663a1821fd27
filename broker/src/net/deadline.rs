//! When a connection has waited long enough for its peer.
//!
//! The *phase* tells whom the connection waits for. One timer serves all deadlines: it is moved only when an earlier deadline
//! appears or when it fires, so that a busy connection does not touch the runtime's timers for each frame.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A frame that was announced must come at this pace after a grace, so that a peer cannot hold a share of the
/// in-flight bytes by sending nothing. Half a megabit a second is slower than any link that a broker is used over.
const BODY_GRACE: Duration = Duration::from_secs(30);
const BODY_BYTES_PER_SECOND: u64 = 64 << 10;

/// "Never", for durations that a clock cannot add.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expiry {
    /// No frame came, and nothing was in flight.
    Idle,
    /// Answers lie ready, and the peer takes none.
    NotReading,
    /// A frame was announced and does not come.
    SlowFrame,
    /// The peer has not authenticated in time.
    Authentication,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The next frame is the peer's turn.
    Peer,
    /// The broker's own: memory, room among the answers, a request's start.
    Broker,
    /// A frame's body must have come by then.
    Body(Instant),
}

/// What the outgoing side says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    pub(super) in_flight: bool,
    pub(super) has_output: bool,
    pub(super) last_write: Instant,
}

pub(super) struct Deadlines {
    timer: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    authenticate_by: Option<Instant>,
    phase: Phase,
    /// When a frame came last.
    last_frame: Instant,
}

impl Deadlines {
    pub(super) fn new(now: Instant, authenticate_by: Instant, idle_timeout: Duration) -> Self {
        Self {
            timer: Box::pin(tokio::time::sleep_until(authenticate_by)),
            idle_timeout,
            authenticate_by: Some(authenticate_by),
            phase: Phase::Peer,
            last_frame: now,
        }
    }

    pub(super) fn authenticated(&mut self) {
        self.authenticate_by = None;
    }

    pub(super) fn waits_for_authentication(&self) -> bool {
        self.authenticate_by.is_some()
    }

    pub(super) fn wait_for_peer(&mut self) {
        self.phase = Phase::Peer;
    }

    pub(super) fn wait_for_broker(&mut self) {
        self.phase = Phase::Broker;
    }

    pub(super) fn wait_for_body(&mut self, now: Instant, length: usize) {
        let pace = Duration::from_secs(length as u64 / BODY_BYTES_PER_SECOND);
        self.phase = Phase::Body(after(now, BODY_GRACE + pace));
    }

    pub(super) fn frame_came(&mut self, now: Instant) {
        self.last_frame = now;
        self.phase = Phase::Broker;
    }

    /// Ready when a deadline has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, activity: Activity) -> Poll<Expiry> {
        let Some((at, expiry)) = self.next(activity) else {
            return Poll::Pending;
        };
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= at {
                return Poll::Ready(expiry);
            }
            self.timer.as_mut().reset(at);
        }
    }

    /// The deadline that comes first.
    fn next(&self, activity: Activity) -> Option<(Instant, Expiry)> {
        let stall = after(self.last_frame.max(activity.last_write), self.idle_timeout);
        let waiting = match self.phase {
            Phase::Body(by) => Some((by, Expiry::SlowFrame)),
            Phase::Peer if !activity.in_flight => Some((stall, Expiry::Idle)),
            Phase::Peer | Phase::Broker => None,
        };
        let not_reading = activity.has_output.then_some((stall, Expiry::NotReading));
        let authentication = self.authenticate_by.map(|by| (by, Expiry::Authentication));
        let deadlines = [waiting, not_reading, authentication];
        deadlines.into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// Never panics, however long the duration.
pub(super) fn after(instant: Instant, duration: Duration) -> Instant {
    instant
        .checked_add(duration)
        .unwrap_or_else(|| instant + FAR)
}

#[cfg(test)]
mod tests;
