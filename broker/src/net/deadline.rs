//! When a connection has waited long enough for its peer.
//!
//! The *phase* tells whom the connection waits for. One timer serves all deadlines: it is moved only when an earlier deadline
//! appears or when it fires, so that a busy connection does not touch the runtime's timers for each frame.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A frame that was announced must come at this pace after a grace, whether or not anybody waits for what it holds. Half a megabit a
/// second is slower than any link that a broker is used over.
const BODY_GRACE: Duration = Duration::from_secs(30);
const BODY_BYTES_PER_SECOND: u64 = 64 << 10;

/// While others wait for what a frame that arrives, or answers that are not taken, hold, these are looked at so often. In that time
/// they must have moved by `LEAST_PROGRESS_BYTES`, and by a part of what they hold: who holds much has to be quick.
const FRAME_WINDOW: Duration = Duration::from_secs(1);
const ANSWER_WINDOW: Duration = Duration::from_secs(2);
const LEAST_PROGRESS_BYTES: u64 = 64 << 10;
const PROGRESS_PART: u64 = 8;

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
    /// It is time to see whether a frame that holds memory keeps its pace; and whether the peer takes its answers.
    FrameWindow,
    AnswerWindow,
    /// Others waited for the memory that a frame held which came too slowly, or answers that were taken too slowly.
    FrameHeldUpOthers,
    AnswersHeldUpOthers,
    /// The peer has not authenticated in time.
    Authentication,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The next frame is the peer's turn.
    Peer,
    /// The broker's own: memory, room among the answers, a request's start.
    Broker,
    /// A frame's body must have come by then; the window, where it holds memory that others may wait for.
    Body { by: Instant, window: Option<Window> },
}

/// A stretch of time in which something must move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub(super) since: Instant,
    /// The count of bytes, arrived or taken, when it began.
    pub(super) moved: u64,
}

impl Window {
    /// Whether what holds so much has moved enough within the window, up to the count `moved`.
    pub(super) fn kept_pace(&self, moved: u64, held: u64) -> bool {
        moved.saturating_sub(self.moved) >= LEAST_PROGRESS_BYTES.max(held / PROGRESS_PART)
    }
}

/// What the outgoing side says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    pub(super) in_flight: bool,
    pub(super) has_output: bool,
    pub(super) last_write: Instant,
    /// Since when the peer has been given answers that it did not take at once.
    pub(super) window: Option<Window>,
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

    pub(super) fn wait_for_body(&mut self, by: Instant, window: Option<Window>) {
        self.phase = Phase::Body { by, window };
    }

    /// The window of the frame that is arriving.
    pub(super) fn frame_window(&self) -> Option<Window> {
        match self.phase {
            Phase::Body { window, .. } => window,
            Phase::Peer | Phase::Broker => None,
        }
    }

    /// Begins the next window of the frame that is arriving.
    pub(super) fn next_frame_window(&mut self, next: Window) {
        if let Phase::Body { window, .. } = &mut self.phase {
            *window = Some(next);
        }
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
        let mut deadlines = [None; 5];
        match self.phase {
            Phase::Body { by, window } => {
                deadlines[0] = Some((by, Expiry::SlowFrame));
                deadlines[1] =
                    window.map(|window| (window.since + FRAME_WINDOW, Expiry::FrameWindow));
            }
            Phase::Peer if !activity.in_flight => deadlines[0] = Some((stall, Expiry::Idle)),
            Phase::Peer | Phase::Broker => {}
        }
        if activity.has_output {
            deadlines[2] = Some((stall, Expiry::NotReading));
            let window = activity.window;
            deadlines[3] =
                window.map(|window| (window.since + ANSWER_WINDOW, Expiry::AnswerWindow));
        }
        deadlines[4] = self.authenticate_by.map(|by| (by, Expiry::Authentication));
        deadlines.into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// When a frame of this length, announced now, must have come.
pub(super) fn of_body(now: Instant, length: usize) -> Instant {
    let pace = Duration::from_secs(length as u64 / BODY_BYTES_PER_SECOND);
    after(now, BODY_GRACE + pace)
}

/// Never panics, however long the duration.
pub(super) fn after(instant: Instant, duration: Duration) -> Instant {
    instant
        .checked_add(duration)
        .unwrap_or_else(|| instant + FAR)
}

#[cfg(test)]
mod tests;
