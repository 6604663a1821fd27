//! One connection: frames in, answers out, whatever the bytes travel over.
//!
//! A connection is one task that owns reader, handler and writer. It takes a frame, starts it, takes the next; while it
//! waits for anything, answers that are ready go out. Several frames that arrived together are started before anything is
//! written, so that their answers leave in one write.
//!
//! What a request holds in memory is paid for: small ones that came whole from an allowance of the connection, others from
//! pools that all connections share. While others wait for such a pool, a peer must send and take at a pace (`Pressure`).
//!
//! Invariants: starts never overlap and follow the order of arrival. Answers follow the order of the starts. No bound of
//! the configuration is exceeded by waiting for it to be noticed: a length is checked before memory is taken for it.
//! Whatever ends the connection, its waiting answers are dropped with it, and no other connection notices.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::{debug, error};

use super::deadline::{self, Activity, Deadlines, Expiry, Window};
use super::frame::{self, Arrival, FrameReader};
use super::limits::Seat;
use super::listener::Listener;
use super::outgoing::{Backlog, Outgoing, Stop};
use super::{ConnectionInfo, FrameHandler, Service, Started};
use crate::config::{NetConfig, Transport};
use crate::env::budget::{Allowance, Memory, Owner, Party, Permit, Place, Pool, Wanted};
use crate::observe::Metrics;

/// Frames started in a row before answers get a turn, however many have arrived.
const MAX_BURST: usize = 32;
/// How long the requests of a peer that has closed its side may still be answered: it may be listening or be gone.
const HALF_CLOSED_GRACE: Duration = Duration::from_secs(5);
/// After a last word the peer's bytes are read and dropped so long, or so many: a system that closes a socket with
/// unread bytes resets it, and the peer would lose the last word.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1 << 20;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Everything that was started is answered, and the answers are written.
    Finished,
    /// A handler closed it.
    Closed(String),
    /// The transport failed, most often because the peer is gone.
    Failed(io::Error),
    /// The peer kept it waiting.
    Expired(Expiry),
    /// A frame that is not taken.
    Refused {
        reason: &'static str,
        message: String,
    },
    /// A handler panicked.
    Panicked(String),
}

/// What carries one connection's bytes, and what is known of it.
pub(super) struct Carrier<R, W> {
    pub(super) reader: R,
    pub(super) writer: W,
    pub(super) info: ConnectionInfo,
    pub(super) authenticate_by: Instant,
    /// Called once, when the handler first says that the peer is authenticated.
    pub(super) on_authenticated: Option<Box<dyn FnOnce() + Send>>,
    pub(super) seat: Arc<Seat>,
}

/// Serves one connection to its end, and tells the log how it ended.
pub(super) async fn serve<S, R, W>(listener: &Listener<S>, carrier: Carrier<R, W>) -> End
where
    S: Service,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let peer = carrier.info.peer;
    let shared = &listener.shared;
    let _open = OpenGauge::new(&shared.metrics, &listener.name);
    let serving = async {
        let lingers = carrier.info.transport != Transport::Quic;
        let party = Party::of_peer(carrier.info.peer);
        let handler = shared.service.connect(carrier.info);
        let now = Instant::now();
        let mut connection = Connection {
            reader: FrameReader::new(carrier.reader),
            handler,
            outgoing: Outgoing::new(carrier.writer, shared.backlog.clone()),
            deadlines: Deadlines::new(now, carrier.authenticate_by, shared.limits.idle_timeout),
            drain: Box::pin(shared.drain.child_token().cancelled_owned()),
            limits: &shared.limits,
            memory: &shared.memory,
            backlog: &shared.backlog,
            party,
            allowance: Allowance::default(),
            arriving: None,
            metrics: &shared.metrics,
            on_authenticated: carrier.on_authenticated,
            seat: carrier.seat,
        };
        let end = connection.run().await;
        connection.close(end, lingers).await
    };
    let end = match AssertUnwindSafe(serving).catch_unwind().await {
        Ok(end) => end,
        Err(panic) => End::Panicked(panic_message(&*panic)),
    };
    report(listener, peer, &end);
    end
}

struct Connection<'a, R, W, H> {
    reader: FrameReader<R>,
    handler: H,
    outgoing: Outgoing<W>,
    deadlines: Deadlines,
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    limits: &'a NetConfig,
    memory: &'a Memory,
    backlog: &'a Backlog,
    party: Party,
    allowance: Allowance,
    /// The pool that the frame which is arriving draws on, and what it holds of it.
    arriving: Option<(Pool, u64)>,
    metrics: &'a Metrics,
    on_authenticated: Option<Box<dyn FnOnce() + Send>>,
    seat: Arc<Seat>,
}

/// Why the loop over frames stopped.
enum Leave {
    /// The peer closed its side between frames.
    PeerClosed,
    /// The listener drains: what was started is finished, and nothing more is started.
    Draining,
    /// The connection is over.
    Over(End),
}

impl From<Stop> for Leave {
    fn from(stop: Stop) -> Self {
        Self::Over(match stop {
            Stop::Closed(reason) => End::Closed(reason),
            Stop::Failed(fault) => End::Failed(fault),
        })
    }
}

impl From<io::Error> for Leave {
    fn from(fault: io::Error) -> Self {
        Self::Over(End::Failed(fault))
    }
}

impl<R, W, H> Connection<'_, R, W, H>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    H: FrameHandler,
{
    /// Takes and starts frames until something stops it.
    async fn run(&mut self) -> Leave {
        let mut burst = 0;
        loop {
            if self.reader.has_frame() && burst < MAX_BURST {
                burst += 1;
            } else {
                burst = 0;
                if let Some(leave) = self.turn_of_answers().await {
                    return leave;
                }
            }
            if let Err(leave) = self.one_frame().await {
                return leave;
            }
        }
    }

    async fn one_frame(&mut self) -> Result<(), Leave> {
        self.room().await?;
        let length = self.length().await?;
        let (frame, place) = self.body(length).await?;
        if !self.outgoing.is_ending() {
            let started = self.start(frame).await?;
            let closes = matches!(started, Started::Close { .. });
            self.outgoing.accept(started, place);
            if !closes {
                return Ok(());
            }
        }
        // Nothing more is started; the answers before the last word still have to come.
        self.deadlines.wait_for_broker();
        Err(self
            .drained()
            .await
            .map_or(Leave::Over(End::Finished), Leave::from))
    }

    /// Waits until another request may be started.
    async fn room(&mut self) -> Result<(), Leave> {
        let max = self.limits.max_in_flight_requests.max(1);
        if self.outgoing.has_room(max) {
            return Ok(());
        }
        self.deadlines.wait_for_broker();
        poll_fn(|cx| {
            let background = self.poll_background(cx);
            // Looked at last: answers that just went out made the room.
            match background {
                Poll::Ready(leave) => Poll::Ready(Err(leave)),
                Poll::Pending if self.outgoing.has_room(max) => Poll::Ready(Ok(())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Waits for the next frame's length, and checks it.
    async fn length(&mut self) -> Result<usize, Leave> {
        self.deadlines.wait_for_peer();
        let announced = self.wait(|reader, cx| reader.poll_length(cx)).await??;
        let Some(announced) = announced else {
            return Err(Leave::PeerClosed);
        };
        // Only now: what was started before may have authenticated the peer while this one waited.
        let authenticated = self.authenticated();
        let peer = (authenticated, self.handler.min_frame_bytes());
        check_length(announced, peer, self.limits).map_err(Leave::Over)
    }

    /// Waits for the frame, and for the memory that it takes.
    async fn body(&mut self, length: usize) -> Result<(Bytes, Place), Leave> {
        self.reader.begin(length);
        let mut by = deadline::of_body(Instant::now(), length);
        let mut paying: Option<Permit> = None;
        loop {
            let window = self.arriving.as_ref().map(|_| Window {
                since: Instant::now(),
                moved: self.reader.arrived() as u64,
            });
            self.deadlines.wait_for_body(by, window);
            match self.wait(|reader, cx| reader.poll_body(cx)).await?? {
                Arrival::Whole(frame) => {
                    let now = Instant::now();
                    self.deadlines.frame_came(now);
                    self.seat.mark(now);
                    self.arriving = None;
                    let place = self.place(paying, length).await?;
                    return Ok((frame, place));
                }
                Arrival::Needs(total) => {
                    let permit = match &mut paying {
                        Some(permit) => permit,
                        none => none.insert(self.pool(length).open(self.party)),
                    };
                    let missing = (total as u64).saturating_sub(permit.held());
                    by += self.pay(permit, missing).await?;
                    self.arriving = Some((permit.pool().clone(), permit.held()));
                    self.reader.paid(total);
                }
            }
        }
    }

    /// The place of a frame that has come whole.
    async fn place(&mut self, paid: Option<Permit>, length: usize) -> Result<Place, Leave> {
        if let Some(mut permit) = paid {
            permit.settle();
            return Ok(Place::Drawn(permit));
        }
        if let Some(place) = self.allowance.place(length as u64) {
            return Ok(place);
        }
        let mut permit = self.pool(length).open(self.party);
        self.pay(&mut permit, length as u64).await?;
        permit.settle();
        Ok(Place::Drawn(permit))
    }

    fn pool(&self, length: usize) -> &Pool {
        if self.deadlines.waits_for_authentication() {
            &self.memory.strangers
        } else {
            self.memory.frames.of(length as u64)
        }
    }

    /// Waits for so much more memory; returns for how long.
    async fn pay(&mut self, permit: &mut Permit, amount: u64) -> Result<Duration, Leave> {
        let wanted = Wanted::exactly(amount);
        let first = poll_fn(|cx| Poll::Ready(permit.poll_draw(cx, wanted))).await;
        if first.is_ready() {
            return Ok(Duration::ZERO);
        }
        self.deadlines.wait_for_broker();
        let since = Instant::now();
        let drawn = self.wait(|_, cx| permit.poll_draw(cx, wanted)).await;
        let waited = since.elapsed();
        self.metrics.throttled("in-flight-bytes", waited);
        drawn.map(|_| waited)
    }

    /// Starts a request. Not given up for a drain: what has begun is finished.
    async fn start(&mut self, frame: Bytes) -> Result<Started, Leave> {
        let started = {
            let Self {
                handler,
                outgoing,
                deadlines,
                ..
            } = self;
            let pressure = Pressure {
                memory: self.memory,
                backlog: self.backlog,
                frame: None,
            };
            let mut start = pin!(handler.start(frame));
            poll_fn(|cx| {
                if let Poll::Ready(started) = start.as_mut().poll(cx) {
                    return Poll::Ready(Ok(started));
                }
                if let Poll::Ready(stop) = outgoing.poll(cx) {
                    return Poll::Ready(Err(stop.into()));
                }
                let expired = pressure.poll_expiry(cx, deadlines, outgoing);
                expired.map(|expiry| Err(Leave::Over(End::Expired(expiry))))
            })
            .await
        };
        self.authenticated();
        started
    }

    /// Waits for the reader, or for whatever else `ready` waits for, while answers go out.
    async fn wait<T>(
        &mut self,
        mut ready: impl FnMut(&mut FrameReader<R>, &mut Context<'_>) -> Poll<T> + Send,
    ) -> Result<T, Leave> {
        poll_fn(|cx| {
            if let Poll::Ready(value) = ready(&mut self.reader, cx) {
                return Poll::Ready(Ok(value));
            }
            self.poll_background(cx).map(Err)
        })
        .await
    }

    /// Answers, deadlines and the drain: ready when the connection must leave its loop.
    fn poll_background(&mut self, cx: &mut Context<'_>) -> Poll<Leave> {
        if let Poll::Ready(stop) = self.outgoing.poll(cx) {
            return Poll::Ready(stop.into());
        }
        if self.drain.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Leave::Draining);
        }
        if let Poll::Ready(reason) = self.handler.poll_ended(cx) {
            return Poll::Ready(Leave::Over(End::Closed(reason)));
        }
        loop {
            let expiry = ready!(self.poll_expiry(cx));
            // An answer that was waited for may have authenticated the peer since the last frame.
            if expiry != Expiry::Authentication || !self.authenticated() {
                return Poll::Ready(Leave::Over(End::Expired(expiry)));
            }
        }
    }

    fn poll_expiry(&mut self, cx: &mut Context<'_>) -> Poll<Expiry> {
        let arrived = self.reader.arrived() as u64;
        let pressure = Pressure {
            memory: self.memory,
            backlog: self.backlog,
            frame: self
                .arriving
                .as_ref()
                .map(|(pool, held)| (pool, *held, arrived)),
        };
        pressure.poll_expiry(cx, &mut self.deadlines, &mut self.outgoing)
    }

    /// Lets ready answers out without waiting for any, and looks whether the listener drains: a peer that always has another
    /// frame ready would otherwise never let the loop come to either.
    async fn turn_of_answers(&mut self) -> Option<Leave> {
        poll_fn(|cx| {
            if let Poll::Ready(stop) = self.outgoing.poll(cx) {
                return Poll::Ready(Some(stop.into()));
            }
            let drains = self.drain.as_mut().poll(cx).is_ready();
            Poll::Ready(drains.then_some(Leave::Draining))
        })
        .await
    }

    /// Waits until every started request is answered and written.
    async fn drained(&mut self) -> Option<Stop> {
        poll_fn(|cx| {
            if let Poll::Ready(stop) = self.outgoing.poll_drained(cx) {
                return Poll::Ready(stop);
            }
            let expired = self.poll_expiry(cx);
            expired.map(|_| Some(Stop::Failed(io::ErrorKind::TimedOut.into())))
        })
        .await
    }

    /// Whether the peer is authenticated, with what follows from that the first time.
    fn authenticated(&mut self) -> bool {
        if self.deadlines.waits_for_authentication() && self.handler.authenticated() {
            self.deadlines.authenticated();
            if let Some(principal) = self.handler.principal() {
                self.party = self.party.owned_by(&Owner::Principal(principal));
            }
            if let Some(tell) = self.on_authenticated.take() {
                tell();
            }
        }
        !self.deadlines.waits_for_authentication()
    }

    /// Brings the connection to its end: last answers, end of stream.
    async fn close(mut self, leave: Leave, lingers: bool) -> End {
        self.deadlines.wait_for_broker();
        let end = match leave {
            Leave::Over(end) => end,
            Leave::Draining => over(self.drained().await),
            Leave::PeerClosed => {
                let drained = tokio::time::timeout(HALF_CLOSED_GRACE, self.drained()).await;
                drained.map_or(End::Finished, over)
            }
        };
        if matches!(end, End::Finished | End::Closed(_)) {
            let shutdown = poll_fn(|cx| self.outgoing.poll_shutdown(cx));
            // The peer may be gone already, or never read: the end stays what it was.
            let shut = tokio::time::timeout(LINGER, shutdown).await;
            if lingers && matches!(end, End::Closed(_)) && matches!(shut, Ok(Ok(()))) {
                linger(self.reader.into_inner()).await;
            }
        }
        end
    }
}

fn over(stop: Option<Stop>) -> End {
    match stop {
        None => End::Finished,
        Some(Stop::Closed(reason)) => End::Closed(reason),
        Some(Stop::Failed(fault)) => End::Failed(fault),
    }
}

/// Whether others wait for memory, and so what is asked of the peer.
struct Pressure<'a> {
    memory: &'a Memory,
    backlog: &'a Backlog,
    /// The frame that is arriving: its pool, what it holds of it, and how much of it has arrived.
    frame: Option<(&'a Pool, u64, u64)>,
}

impl Pressure<'_> {
    /// Ready when a deadline has passed. Windows in which the peer kept its pace, or in which nobody waited, are none.
    fn poll_expiry<W: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        deadlines: &mut Deadlines,
        outgoing: &mut Outgoing<W>,
    ) -> Poll<Expiry> {
        loop {
            match ready!(deadlines.poll(cx, activity(outgoing))) {
                Expiry::FrameWindow => {
                    let now = Instant::now();
                    let (pool, held, arrived) = match self.frame {
                        Some((pool, held, arrived)) => (Some(pool), held, arrived),
                        None => (None, 0, 0),
                    };
                    let kept_pace = deadlines
                        .frame_window()
                        .is_none_or(|window| window.kept_pace(arrived, held));
                    if !kept_pace && pool.is_some_and(Pool::is_pressed) {
                        return Poll::Ready(Expiry::FrameHeldUpOthers);
                    }
                    deadlines.next_frame_window(Window {
                        since: now,
                        moved: arrived,
                    });
                }
                Expiry::AnswerWindow => {
                    let held = outgoing.unwritten_bytes() as u64;
                    let kept_pace = outgoing
                        .window()
                        .is_none_or(|window| window.kept_pace(outgoing.written(), held));
                    let answers = &self.memory.answers;
                    let is_pressed = answers.small.is_pressed()
                        || answers.large.is_pressed()
                        || self.backlog.is_over();
                    if !kept_pace && is_pressed {
                        return Poll::Ready(Expiry::AnswersHeldUpOthers);
                    }
                    outgoing.next_window(Instant::now());
                }
                expiry => return Poll::Ready(expiry),
            }
        }
    }
}

fn activity<W: AsyncWrite + Unpin>(outgoing: &Outgoing<W>) -> Activity {
    Activity {
        in_flight: outgoing.in_flight() > 0,
        has_output: outgoing.has_output(),
        last_write: outgoing.last_write(),
        window: outgoing.window(),
    }
}

/// Reads and drops what the peer still sends.
async fn linger<R: AsyncRead + Unpin>(reader: R) {
    let mut rest = reader.take(LINGER_BYTES);
    let mut nothing = tokio::io::sink();
    // Whether the peer closes, sends more or fails: there is nothing left to say to it.
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut nothing)).await;
}

/// The length as a size, when it lies within the bounds.
fn check_length(
    announced: i32,
    (authenticated, least): (bool, usize),
    limits: &NetConfig,
) -> Result<usize, End> {
    let (bound, setting) = if authenticated {
        (limits.max_frame_bytes, "net.max_frame_bytes")
    } else {
        (
            limits
                .max_unauthenticated_frame_bytes
                .min(limits.max_frame_bytes),
            "net.max_unauthenticated_frame_bytes",
        )
    };
    match u32::try_from(announced) {
        Ok(length) if length as usize >= least && length <= bound => {
            return Ok(length as usize);
        }
        _ => {}
    }
    if let Some(protocol) = frame::greeting(announced) {
        return Err(End::Refused {
            reason: "other-protocol",
            message: format!("the first bytes look like {protocol}: wrong port?"),
        });
    }
    Err(if announced < i32::try_from(least).unwrap_or(i32::MAX) {
        End::Refused {
            reason: "bad-frame",
            message: format!(
                "a frame of {announced} bytes was announced: at least {least} are expected"
            ),
        }
    } else {
        End::Refused {
            reason: "frame-too-large",
            message: format!(
                "a frame of {announced} bytes was announced: {setting} allows {bound}"
            ),
        }
    })
}

/// Tells the log how a connection ended, as loudly as somebody should care.
fn report<S>(listener: &Listener<S>, peer: SocketAddr, end: &End) {
    let name = &listener.name;
    match end {
        End::Finished => debug!(listener = %name, %peer, "connection ended"),
        End::Failed(fault) => debug!(listener = %name, %peer, "connection failed: {fault}"),
        End::Closed(reason) => {
            listener.complain(peer, "closed", &format_args!("connection closed: {reason}"));
        }
        End::Refused { reason, message } => {
            listener.refuse(peer, reason, &format_args!("connection closed: {message}"));
        }
        End::Expired(Expiry::Idle) => {
            debug!(listener = %name, %peer, "connection closed: idle for net.idle_timeout");
        }
        End::Expired(Expiry::NotReading) => listener.refuse(
            peer,
            "not-reading",
            &"connection closed: the peer took no byte of its answers for net.idle_timeout",
        ),
        End::Expired(Expiry::AnswersHeldUpOthers | Expiry::AnswerWindow) => listener.refuse(
            peer,
            "slow-reader",
            &"connection closed: others waited for the memory of answers that the peer took too slowly; net.max-unsent-bytes bounds it",
        ),
        End::Expired(Expiry::FrameHeldUpOthers | Expiry::FrameWindow) => listener.refuse(
            peer,
            "frame-held-up-others",
            &"connection closed: others waited for the memory of a frame that came too slowly; net.max-in-flight-bytes bounds it",
        ),
        End::Expired(Expiry::SlowFrame) => listener.refuse(
            peer,
            "slow-frame",
            &"connection closed: a frame was announced and came too slowly",
        ),
        End::Expired(Expiry::Authentication) => listener.refuse(
            peer,
            "handshake-timeout",
            &"connection closed: not authenticated within net.handshake_timeout",
        ),
        End::Panicked(message) => {
            error!(listener = %name, %peer, "connection closed: its handler panicked: {message}");
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".into())
}

/// Counts a connection as open while it lives.
struct OpenGauge<'a> {
    metrics: &'a Metrics,
    listener: &'a str,
}

impl<'a> OpenGauge<'a> {
    fn new(metrics: &'a Metrics, listener: &'a str) -> Self {
        metrics.connection_opened(listener);
        Self { metrics, listener }
    }
}

impl Drop for OpenGauge<'_> {
    fn drop(&mut self) {
        self.metrics.connection_closed(self.listener);
    }
}

#[cfg(test)]
mod tests;
