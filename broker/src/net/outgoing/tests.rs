use futures_util::task::noop_waker_ref;
use tokio::sync::oneshot;

use super::*;
use crate::env::budget::{Bounds, Party, Pool};

/// Takes at most `grain` bytes a write, and nothing while it is full.
struct Sink {
    taken: Vec<u8>,
    writes: usize,
    grain: usize,
    full: bool,
    vectored: bool,
}

impl Sink {
    fn new(grain: usize, vectored: bool) -> Self {
        Self {
            taken: Vec::new(),
            writes: 0,
            grain,
            full: false,
            vectored,
        }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.full {
            return Poll::Pending;
        }
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let taken = all.len().min(self.grain);
        self.taken.extend_from_slice(&all[..taken]);
        self.writes += 1;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A pool in which each request takes one byte.
fn permits() -> Pool {
    Pool::new(Bounds {
        whole: 100,
        reserve: 0,
        owner: 100,
        account: 100,
    })
}

fn permit(permits: &Pool) -> Place {
    let mut permit = permits.open(Party::of_peer(([127, 0, 0, 1], 1).into()));
    permit.take(1);
    Place::Drawn(permit)
}

fn new(io: Sink) -> Outgoing<Sink> {
    Outgoing::new(io, Backlog::new(1 << 30))
}

fn poll(outgoing: &mut Outgoing<Sink>) -> Poll<Stop> {
    outgoing.poll(&mut Context::from_waker(noop_waker_ref()))
}

fn reply(chunks: &[&[u8]]) -> Reply {
    chunks
        .iter()
        .map(|chunk| Bytes::copy_from_slice(chunk))
        .collect()
}

/// The answers in what was written.
fn answers(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.get_i32() as usize;
        answers.push(bytes[..length].to_vec());
        bytes.advance(length);
    }
    answers
}

#[tokio::test]
async fn chunks_of_every_size_go_out_in_order() {
    let large = vec![3; 2000];
    let chunks: [&[u8]; 5] = [b"head", &large, b"", b"tail", &large];
    for vectored in [true, false] {
        for grain in [1, 7, 511, 100_000] {
            let permits = permits();
            let mut outgoing = new(Sink::new(grain, vectored));
            outgoing.accept(Started::Ready(reply(&chunks)), permit(&permits));
            outgoing.accept(Started::Ready(reply(&[b"second"])), permit(&permits));
            assert!(poll(&mut outgoing).is_pending());
            let expected = vec![chunks.concat(), b"second".to_vec()];
            assert!(
                answers(&outgoing.io.taken) == expected,
                "{vectored} {grain}"
            );
            assert_eq!((100 - permits.used()), 100);
        }
    }
}

#[tokio::test]
async fn answers_that_are_ready_together_leave_in_one_write() {
    let permits = permits();
    let mut outgoing = new(Sink::new(usize::MAX, true));
    let large = vec![5; 4000];
    let (tell, told) = oneshot::channel();
    let waits = async move { told.await.unwrap() };
    outgoing.accept(Started::Later(Box::pin(waits)), permit(&permits));
    for _ in 0..10 {
        outgoing.accept(Started::Ready(reply(&[b"head", &large])), permit(&permits));
    }
    assert!(poll(&mut outgoing).is_pending());
    assert_eq!(outgoing.io.writes, 0);
    tell.send(Finished::Reply(reply(&[b"first"]))).unwrap_or(());
    assert!(poll(&mut outgoing).is_pending());
    assert_eq!(outgoing.io.writes, 1);
    assert_eq!(answers(&outgoing.io.taken).len(), 11);
    assert_eq!(answers(&outgoing.io.taken)[0], b"first");
}

#[tokio::test]
async fn a_permit_is_given_back_when_its_answer_is_written_and_not_before() {
    let permits = permits();
    let mut outgoing = new(Sink::new(usize::MAX, true));
    outgoing.io.full = true;
    outgoing.accept(Started::Ready(reply(&[b"answer"])), permit(&permits));
    assert!(poll(&mut outgoing).is_pending());
    assert_eq!(((100 - permits.used()), outgoing.in_flight()), (99, 1));
    outgoing.io.full = false;
    assert!(poll(&mut outgoing).is_pending());
    assert_eq!(((100 - permits.used()), outgoing.in_flight()), (100, 0));
    outgoing.accept(Started::Silent, permit(&permits));
    assert_eq!(((100 - permits.used()), outgoing.in_flight()), (100, 0));
}

#[tokio::test]
async fn a_peer_that_does_not_read_stops_the_turning_of_answers_into_output() {
    let permits = permits();
    let mut outgoing = new(Sink::new(usize::MAX, true));
    outgoing.io.full = true;
    let (tell, told) = oneshot::channel::<()>();
    let waits = async move {
        told.await.unwrap();
        Finished::Silent
    };
    outgoing.accept(Started::Later(Box::pin(waits)), permit(&permits));
    assert!(outgoing.has_room(12));
    for _ in 0..10 {
        let answer = vec![1; MAX_OUTPUT_BYTES];
        outgoing.accept(Started::Ready(reply(&[&answer])), permit(&permits));
    }
    tell.send(()).unwrap();
    assert!(poll(&mut outgoing).is_pending());
    assert!(outgoing.output.len() < 2 * MAX_OUTPUT_BYTES);
    assert!(!outgoing.has_room(12));
    outgoing.io.full = false;
    assert!(poll(&mut outgoing).is_pending());
    assert_eq!(answers(&outgoing.io.taken).len(), 10);
    assert!(outgoing.has_room(12));
}

#[tokio::test]
async fn what_is_answered_in_turn_begins_when_everything_before_it_is_finished() {
    let permits = permits();
    let mut outgoing = new(Sink::new(usize::MAX, true));
    let (tell, told) = oneshot::channel();
    let waits = async move { told.await.unwrap() };
    outgoing.accept(Started::Later(Box::pin(waits)), permit(&permits));
    let begun = Arc::new(AtomicU64::new(0));
    let mut finish = Vec::new();
    for number in 0..3 {
        let (tell, told) = oneshot::channel();
        finish.push(tell);
        let begun = begun.clone();
        let answer = async move {
            begun.fetch_add(1, Ordering::Relaxed);
            told.await.unwrap();
            Finished::Reply(vec![Bytes::from(vec![number; 8])])
        };
        outgoing.accept(Started::InTurn(Box::pin(answer)), permit(&permits));
    }
    assert!(poll(&mut outgoing).is_pending());
    assert_eq!(begun.load(Ordering::Relaxed), 0);
    tell.send(Finished::Reply(reply(&[b"first"]))).unwrap_or(());
    for number in 1..=3 {
        assert!(poll(&mut outgoing).is_pending());
        assert_eq!(begun.load(Ordering::Relaxed), number, "one at a time");
        finish.remove(0).send(()).unwrap();
    }
    assert!(poll(&mut outgoing).is_pending());
    assert_eq!(answers(&outgoing.io.taken).len(), 4);
    assert_eq!(permits.used(), 0);
}

#[tokio::test]
async fn answers_that_are_ready_behind_a_waiting_one_count_against_the_room() {
    let permits = permits();
    let mut outgoing = new(Sink::new(usize::MAX, true));
    let (tell, told) = oneshot::channel();
    let waits = async move { told.await.unwrap() };
    outgoing.accept(Started::Later(Box::pin(waits)), permit(&permits));
    outgoing.accept(Started::Ready(reply(&[&[1; 1000]])), permit(&permits));
    assert!(outgoing.has_room(9));
    let answer = vec![1; MAX_OUTPUT_BYTES];
    outgoing.accept(Started::Ready(reply(&[&answer])), permit(&permits));
    assert!(!outgoing.has_room(9));
    tell.send(Finished::Silent).unwrap_or(());
    assert!(poll(&mut outgoing).is_pending());
    assert!(outgoing.has_room(9));
}

#[tokio::test]
async fn over_the_backlog_only_those_with_nothing_unwritten_start_more() {
    let permits = permits();
    let backlog = Backlog::new(10_000);
    let mut deaf = Outgoing::new(Sink::new(usize::MAX, true), backlog.clone());
    let mut idle = Outgoing::new(Sink::new(usize::MAX, true), backlog.clone());
    deaf.io.full = true;
    deaf.accept(Started::Ready(reply(&[&[1; 10_000]])), permit(&permits));
    assert!(poll(&mut deaf).is_pending());
    assert!(backlog.is_over());
    assert!(!deaf.has_room(9) && idle.has_room(9));
    assert!(deaf.window().is_some());
    idle.accept(Started::Ready(reply(&[&[1; 10_000]])), permit(&permits));
    assert!(poll(&mut idle).is_pending());
    assert!(idle.has_room(9) && idle.window().is_none());
    drop(deaf);
    assert!(!backlog.is_over());
}

#[tokio::test]
async fn a_close_lets_earlier_answers_out_and_drops_later_ones() {
    let permits = permits();
    let mut outgoing = new(Sink::new(usize::MAX, true));
    let (tell, told) = oneshot::channel();
    let waits = async move { told.await.unwrap() };
    outgoing.accept(Started::Later(Box::pin(waits)), permit(&permits));
    let close = Started::Close {
        reply: Some(reply(&[b"last word"])),
        reason: "enough".into(),
    };
    outgoing.accept(close, permit(&permits));
    outgoing.accept(Started::Ready(reply(&[b"never"])), permit(&permits));
    assert!(poll(&mut outgoing).is_pending());
    tell.send(Finished::Reply(reply(&[b"first"]))).unwrap_or(());
    match poll(&mut outgoing) {
        Poll::Ready(Stop::Closed(reason)) => assert_eq!(reason, "enough"),
        other => panic!("{other:?}"),
    }
    let expected = [b"first".to_vec(), b"last word".to_vec()];
    assert_eq!(answers(&outgoing.io.taken), expected);
    assert_eq!((100 - permits.used()), 100);
}
