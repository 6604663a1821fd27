//! The loop over an in-memory pipe, with the clock standing still except while everybody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::net::Finished;
use crate::net::testing::{
    self, SOON, TestService, frame, is_closed, later, listener, peer, receive, send,
};

struct Client {
    io: DuplexStream,
    end: JoinHandle<End>,
}

fn connect(listener: &Arc<Listener<TestService>>) -> Client {
    let (io, server) = tokio::io::duplex(64 << 10);
    let listener = Arc::clone(listener);
    let end = tokio::spawn(async move {
        let (reader, writer) = tokio::io::split(server);
        let peer = peer();
        let slot = listener.admit(peer, true).expect("there is room");
        let carrier = Carrier {
            reader,
            writer,
            seat: slot.seat(),
            info: listener.info(peer, None, None),
            authenticate_by: listener.handshake_deadline(),
            on_authenticated: None,
        };
        serve(&listener, carrier).await
    });
    Client { io, end }
}

fn echo(limits: NetConfig) -> Client {
    connect(&listener(TestService::echo(), limits))
}

impl Client {
    /// Waits for the end of the connection, which the client has not closed.
    async fn end(self) -> End {
        tokio::time::timeout(SOON * 100, self.end)
            .await
            .unwrap()
            .unwrap()
    }

    async fn ask(&mut self, payload: &[u8]) -> Vec<u8> {
        send(&mut self.io, payload).await;
        receive(&mut self.io).await.unwrap()
    }
}

/// A service that tells when a frame was started and answers it with what is sent back.
fn controlled() -> (
    Arc<TestService>,
    mpsc::UnboundedReceiver<(Bytes, oneshot::Sender<Finished>)>,
) {
    let (tell, told) = mpsc::unbounded_channel();
    let service = TestService::new(move |frame| {
        let (answer, answered) = oneshot::channel();
        tell.send((frame, answer)).unwrap();
        later(async move { answered.await.unwrap_or(Finished::Silent) })
    });
    (service, told)
}

fn reply(text: &[u8]) -> Finished {
    Finished::Reply(vec![Bytes::copy_from_slice(text)])
}

fn refusal(end: End) -> (&'static str, String) {
    match end {
        End::Refused { reason, message } => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_holds_up_neither_the_next_start_nor_the_order_of_answers() {
    let (service, mut started) = controlled();
    let mut client = connect(&listener(service, NetConfig::default()));
    send(&mut client.io, b"request1").await;
    send(&mut client.io, b"request2").await;
    let (first, answer_first) = started.recv().await.unwrap();
    let (second, answer_second) = started.recv().await.unwrap();
    assert_eq!(
        (&first[..], &second[..]),
        (&b"request1"[..], &b"request2"[..])
    );
    answer_second.send(reply(b"second")).unwrap_or(());
    let early = tokio::time::timeout(SOON, receive(&mut client.io)).await;
    assert!(early.is_err(), "the second answer came before the first");
    answer_first.send(reply(b"first")).unwrap_or(());
    assert_eq!(receive(&mut client.io).await.unwrap(), b"first");
    assert_eq!(receive(&mut client.io).await.unwrap(), b"second");
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_does_not_hold_up_earlier_answers() {
    let (answer, answered) = oneshot::channel();
    let answered = Mutex::new(Some(answered));
    let service = TestService::starting(move |frame| match answered.lock().take() {
        Some(answered) => Box::pin(async { later(async { answered.await.unwrap() }) }),
        None => Box::pin(async move {
            tokio::time::sleep(SOON).await;
            Started::Ready(vec![frame])
        }),
    });
    let limits = NetConfig {
        handshake_timeout: SOON * 4,
        ..NetConfig::default()
    };
    let mut client = connect(&listener(service, limits));
    send(&mut client.io, b"request1").await;
    send(&mut client.io, b"request2").await;
    tokio::time::sleep(SOON / 4).await;
    let before = Instant::now();
    answer.send(reply(b"first")).unwrap_or(());
    assert_eq!(receive(&mut client.io).await.unwrap(), b"first");
    assert!(before.elapsed() < SOON / 4);
    assert_eq!(receive(&mut client.io).await.unwrap(), b"request2");
}

#[tokio::test(start_paused = true)]
async fn many_pipelined_frames_of_all_sizes_are_answered_in_order() {
    let mut client = echo(NetConfig::default());
    let payloads: Vec<Vec<u8>> = (0..500_usize)
        .map(|at| vec![at as u8; 8 + at * at % 90_000])
        .collect();
    let (mut read, mut write) = tokio::io::split(&mut client.io);
    let writing = async {
        for payload in &payloads {
            send(&mut write, payload).await;
        }
    };
    let reading = async {
        for payload in &payloads {
            assert!(receive(&mut read).await.unwrap() == *payload);
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_leaves_no_gap() {
    let service = TestService::new(|frame| match &frame[..] {
        b"silent--" => Started::Silent,
        b"later---" => later(async { Finished::Silent }),
        _ => Started::Ready(vec![frame]),
    });
    let mut client = connect(&listener(service, NetConfig::default()));
    for payload in [b"silent--", b"later---", b"silent--"] {
        send(&mut client.io, payload).await;
    }
    assert_eq!(client.ask(b"answered").await, b"answered");
}

#[tokio::test(start_paused = true)]
async fn a_length_outside_the_bounds_closes_with_the_reason() {
    let limits = NetConfig {
        max_frame_bytes: 1000,
        ..NetConfig::default()
    };
    for (prefix, reason, named) in [
        (
            1001_i32.to_be_bytes(),
            "frame-too-large",
            "net.max_frame_bytes allows 1000",
        ),
        (
            i32::MAX.to_be_bytes(),
            "frame-too-large",
            "2147483647 bytes",
        ),
        ((-1_i32).to_be_bytes(), "bad-frame", "-1 bytes"),
        (0_i32.to_be_bytes(), "bad-frame", "at least 8"),
        (7_i32.to_be_bytes(), "bad-frame", "at least 8"),
        (*b"GET ", "other-protocol", "HTTP: wrong port?"),
        ([0x16, 3, 1, 2], "other-protocol", "TLS: wrong port?"),
    ] {
        let mut client = echo(limits.clone());
        assert_eq!(client.ask(&[1; 1000]).await, [1; 1000]);
        client.io.write_all(&prefix).await.unwrap();
        assert!(is_closed(&mut client.io).await);
        let (got, message) = refusal(client.end().await);
        assert_eq!(got, reason, "{prefix:?}");
        assert!(message.contains(named), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_smaller_bound_holds_until_authentication_and_not_after() {
    let service = TestService::echo();
    service.authenticated.store(false, Ordering::Relaxed);
    let limits = NetConfig {
        max_unauthenticated_frame_bytes: 100,
        ..NetConfig::default()
    };
    let listener = listener(service.clone(), limits);
    let mut client = connect(&listener);
    assert_eq!(client.ask(&[1; 100]).await.len(), 100);
    client.io.write_all(&frame(&[1; 101])[..50]).await.unwrap();
    let (reason, message) = refusal(client.end().await);
    assert_eq!(reason, "frame-too-large");
    assert!(
        message.contains("net.max_unauthenticated_frame_bytes allows 100"),
        "{message}"
    );

    // Authenticated by an answer while the connection waits for its next frame already.
    let mut client = connect(&listener);
    client.ask(&[1; 100]).await;
    service.authenticated.store(true, Ordering::Relaxed);
    assert_eq!(client.ask(&[1; 5000]).await.len(), 5000);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_authenticate_in_time_is_closed_however_it_dribbles() {
    let service = TestService::echo();
    service.authenticated.store(false, Ordering::Relaxed);
    let listener = listener(service.clone(), NetConfig::default());
    let mut client = connect(&listener);
    let start = Instant::now();
    client.ask(b"12345678").await;
    let mut dribble = frame(&[1; 1000]).into_iter();
    while !client.end.is_finished() {
        let _ = client.io.write_all(&[dribble.next().unwrap()]).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(start.elapsed().as_secs(), 10);
    let end = client.end().await;
    assert!(
        matches!(end, End::Expired(Expiry::Authentication)),
        "{end:?}"
    );

    let mut client = connect(&listener);
    client.ask(b"12345678").await;
    service.authenticated.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(client.ask(b"12345678").await, b"12345678");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let (service, mut started) = controlled();
    let mut client = connect(&listener(service, NetConfig::default()));
    send(&mut client.io, b"longpoll").await;
    let (_, answer) = started.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5000)).await;
    answer.send(reply(b"at last")).unwrap_or(());
    assert_eq!(receive(&mut client.io).await.unwrap(), b"at last");
    let since = Instant::now();
    assert!(is_closed(&mut client.io).await);
    assert_eq!(since.elapsed().as_secs(), 600);
    let end = client.end().await;
    assert!(matches!(end, End::Expired(Expiry::Idle)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_come_is_given_up() {
    let mut client = echo(NetConfig::default());
    client
        .io
        .write_all(&frame(&[1; 1000])[..900])
        .await
        .unwrap();
    let since = Instant::now();
    assert!(is_closed(&mut client.io).await);
    assert_eq!(since.elapsed().as_secs(), 30);
    let end = client.end().await;
    assert!(matches!(end, End::Expired(Expiry::SlowFrame)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_closed_and_starts_no_more_requests() {
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    let service = TestService::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Started::Ready(vec![Bytes::from(vec![0; 100_000])])
    });
    let mut client = connect(&listener(service, NetConfig::default()));
    let _ = client.io.write_all(&frame(b"12345678").repeat(200)).await;
    let Client {
        io: _kept_open,
        end,
    } = client;
    let end = end.await.unwrap();
    assert!(matches!(end, End::Expired(Expiry::NotReading)), "{end:?}");
    assert!(starts.load(Ordering::Relaxed) < 10, "{starts:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_stop_the_reading_of_bodies_over_all_connections() {
    let (service, mut started) = controlled();
    let limits = NetConfig {
        max_in_flight_bytes: 64 << 10,
        ..NetConfig::default()
    };
    let listener = listener(service, limits);
    let (mut one, mut other) = (connect(&listener), connect(&listener));
    send(&mut one.io, &[1; 50_000]).await;
    let (_, answer) = started.recv().await.unwrap();
    send(&mut other.io, &[2; 20_000]).await;
    let early = tokio::time::timeout(SOON, started.recv()).await;
    assert!(
        early.is_err(),
        "the second frame was started over the bound"
    );
    answer.send(reply(b"done")).unwrap_or(());
    assert_eq!(receive(&mut one.io).await.unwrap(), b"done");
    assert_eq!(started.recv().await.unwrap().0.len(), 20_000);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_bounded_for_each_connection() {
    let (service, mut started) = controlled();
    let limits = NetConfig {
        max_in_flight_requests: 2,
        ..NetConfig::default()
    };
    let mut client = connect(&listener(service, limits));
    client
        .io
        .write_all(&frame(b"12345678").repeat(3))
        .await
        .unwrap();
    let (_, answer) = started.recv().await.unwrap();
    let _second = started.recv().await.unwrap();
    assert!(tokio::time::timeout(SOON, started.recv()).await.is_err());
    answer.send(reply(b"done")).unwrap_or(());
    assert!(started.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_panic_closes_its_own_connection_alone() {
    let service = TestService::new(|frame| match &frame[..] {
        b"at start" => panic!("on purpose, {}", "at start"),
        b"in later" => later(async { panic!("on purpose") }),
        _ => Started::Ready(vec![frame]),
    });
    let listener = listener(service, NetConfig::default());
    let mut bystander = connect(&listener);
    for payload in [b"at start", b"in later"] {
        let mut client = connect(&listener);
        send(&mut client.io, payload).await;
        assert!(is_closed(&mut client.io).await);
        match client.end().await {
            End::Panicked(message) => assert!(message.contains("on purpose"), "{message}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(bystander.ask(b"12345678").await, b"12345678");
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_word_follows_the_answers_before_it_and_nothing_is_started_after_it() {
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    let service = TestService::new(move |frame| {
        counted.fetch_add(1, Ordering::Relaxed);
        match &frame[..] {
            b"slow----" => later(async {
                tokio::time::sleep(SOON).await;
                reply(b"slow answer")
            }),
            _ => Started::Close {
                reply: Some(vec![frame]),
                reason: "test".into(),
            },
        }
    });
    let mut client = connect(&listener(service, NetConfig::default()));
    for payload in [b"slow----", b"close---", b"never---"] {
        send(&mut client.io, payload).await;
    }
    assert_eq!(receive(&mut client.io).await.unwrap(), b"slow answer");
    assert_eq!(receive(&mut client.io).await.unwrap(), b"close---");
    assert!(receive(&mut client.io).await.is_none());
    assert_eq!(starts.load(Ordering::Relaxed), 2);
    match client.end().await {
        End::Closed(reason) => assert_eq!(reason, "test"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_was_started_and_starts_nothing_more() {
    let (service, mut started) = controlled();
    let listener = listener(service, NetConfig::default());
    let (idle, mut busy) = (connect(&listener), connect(&listener));
    send(&mut busy.io, b"12345678").await;
    let (_, answer) = started.recv().await.unwrap();
    listener.shared.drain.cancel();
    let end = idle.end().await;
    assert!(matches!(end, End::Finished), "{end:?}");
    send(&mut busy.io, b"too late").await;
    assert!(tokio::time::timeout(SOON, started.recv()).await.is_err());
    answer.send(reply(b"done")).unwrap_or(());
    assert_eq!(receive(&mut busy.io).await.unwrap(), b"done");
    assert!(is_closed(&mut busy.io).await);
    let end = busy.end().await;
    assert!(matches!(end, End::Finished), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closed_its_side_still_gets_its_answers_for_a_while() {
    let (service, mut started) = controlled();
    let listener = listener(service, NetConfig::default());
    let mut client = connect(&listener);
    send(&mut client.io, b"12345678").await;
    client.io.shutdown().await.unwrap();
    let (_, answer) = started.recv().await.unwrap();
    tokio::time::sleep(HALF_CLOSED_GRACE / 2).await;
    answer.send(reply(b"done")).unwrap_or(());
    assert_eq!(receive(&mut client.io).await.unwrap(), b"done");
    assert!(is_closed(&mut client.io).await);

    let mut client = connect(&listener);
    send(&mut client.io, b"12345678").await;
    let (_, mut answer) = started.recv().await.unwrap();
    client.io.shutdown().await.unwrap();
    let since = Instant::now();
    // The waiting answer is dropped with its connection.
    answer.closed().await;
    assert_eq!(since.elapsed(), HALF_CLOSED_GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_drops_its_waiting_answers_and_returns_their_bytes() {
    let (service, mut started) = controlled();
    let listener = listener(service, NetConfig::default());
    let mut client = connect(&listener);
    send(&mut client.io, &[1; 60_000]).await;
    let (_, mut answer) = started.recv().await.unwrap();
    let pool = &listener.shared.memory.frames.small;
    assert_eq!(pool.used(), 60_000);
    client.end.abort();
    answer.closed().await;
    drop(client);
    assert_eq!(pool.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_follows_authentication_is_told_once() {
    let service = TestService::echo();
    service.authenticated.store(false, Ordering::Relaxed);
    let listener = testing::listener(service.clone(), NetConfig::default());
    let told = Arc::new(AtomicUsize::new(0));
    let (mut io, server) = tokio::io::duplex(1024);
    let counted = told.clone();
    let serving = tokio::spawn(async move {
        let (reader, writer) = tokio::io::split(server);
        let peer = peer();
        let slot = listener.admit(peer, true).expect("there is room");
        let carrier = Carrier {
            reader,
            writer,
            seat: slot.seat(),
            info: listener.info(peer, None, None),
            authenticate_by: listener.handshake_deadline(),
            on_authenticated: Some(Box::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            })),
        };
        serve(&listener, carrier).await
    });
    for expected in [0, 1, 1] {
        send(&mut io, b"12345678").await;
        receive(&mut io).await.unwrap();
        assert_eq!(told.load(Ordering::Relaxed), expected);
        service.authenticated.store(true, Ordering::Relaxed);
    }
    drop(io);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn peers_that_have_not_authenticated_cannot_use_up_the_bytes_of_those_that_have() {
    let (service, mut started) = controlled();
    let limits = NetConfig {
        max_in_flight_bytes: 64 << 10,
        ..NetConfig::default()
    };
    let listener = listener(service.clone(), limits);
    let (mut stranger, mut another) = (connect(&listener), connect(&listener));
    service.authenticated.store(false, Ordering::Relaxed);
    send(&mut stranger.io, &[1; 16 << 10]).await;
    let (_, _held) = started.recv().await.unwrap();
    send(&mut another.io, &[2; 16 << 10]).await;
    let early = tokio::time::timeout(Duration::from_secs(1), started.recv()).await;
    assert!(early.is_err(), "strangers were given more than their share");
    service.authenticated.store(true, Ordering::Relaxed);
    let mut known = connect(&listener);
    send(&mut known.io, &[3; 50_000]).await;
    assert_eq!(started.recv().await.unwrap().0.len(), 50_000);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_once_a_waiting_answer_has_closed_the_connection() {
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    let (close, closed) = oneshot::channel::<()>();
    let closed = Mutex::new(Some(closed));
    let service = TestService::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        let closed = closed.lock().take();
        later(async move {
            if let Some(closed) = closed {
                closed.await.unwrap();
            }
            Finished::Close {
                // More than the pipe holds: the end is decided, and not yet written.
                reply: Some(vec![Bytes::from(vec![0; 100_000])]),
                reason: "test".into(),
            }
        })
    });
    let mut client = connect(&listener(service, NetConfig::default()));
    send(&mut client.io, b"12345678").await;
    close.send(()).unwrap_or(());
    tokio::time::sleep(Duration::from_secs(1)).await;
    send(&mut client.io, b"too late").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(receive(&mut client.io).await.unwrap().len(), 100_000);
    assert!(receive(&mut client.io).await.is_none());
    assert_eq!(starts.load(Ordering::Relaxed), 1);
}

/// Has another frame ready at every read, for ever.
struct Tireless;

impl AsyncRead for Tireless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let frames = frame(b"12345678").repeat(buffer.remaining() / 12);
        buffer.put_slice(&frames);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_pauses_does_not_hold_up_the_drain() {
    let most = 100_000;
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    let drain = Arc::new(Mutex::new(None::<tokio_util::sync::CancellationToken>));
    let cancelled = drain.clone();
    let service = TestService::new(move |_| {
        let count = counted.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 100 {
            cancelled.lock().as_ref().unwrap().cancel();
        }
        if count < most {
            return Started::Silent;
        }
        Started::Close {
            reply: None,
            reason: "the drain was not noticed".into(),
        }
    });
    let listener = listener(service, NetConfig::default());
    *drain.lock() = Some(listener.shared.drain.clone());
    let slot = listener.admit(peer(), true).expect("there is room");
    let carrier = Carrier {
        reader: Tireless,
        writer: tokio::io::sink(),
        info: listener.info(peer(), None, None),
        authenticate_by: listener.handshake_deadline(),
        on_authenticated: None,
        seat: slot.seat(),
    };
    let end = serve(&listener, carrier).await;
    assert!(matches!(end, End::Finished), "{end:?}");
    assert!(
        starts.load(Ordering::Relaxed) <= 100 + MAX_BURST + 1,
        "{starts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_last_word_the_peer_may_go_on_sending_for_a_moment() {
    let service = TestService::new(|frame| Started::Close {
        reply: Some(vec![frame]),
        reason: "test".into(),
    });
    let mut client = connect(&listener(service, NetConfig::default()));
    assert_eq!(client.ask(b"12345678").await, b"12345678");
    assert!(is_closed(&mut client.io).await);
    // More than the pipe holds: goes through only while somebody reads.
    client.io.write_all(&[0; 200_000]).await.unwrap();
    tokio::time::sleep(LINGER * 2).await;
    assert!(client.io.write_all(&[0; 200_000]).await.is_err());
    assert!(matches!(client.end().await, End::Closed(_)));
}

/// Limits with room for two frames of the largest size, one of it the reserve.
fn narrow() -> NetConfig {
    NetConfig {
        max_frame_bytes: 4 << 20,
        max_in_flight_bytes: 10 << 20,
        ..NetConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_announced_and_do_not_come_hold_up_nobody() {
    let listener = listener(TestService::echo(), NetConfig::default());
    let mut announcing = Vec::new();
    for sent in [0, 8, 1000] {
        for _ in 0..20 {
            let mut client = connect(&listener);
            client.io.write_i32(100 << 20).await.unwrap();
            client.io.write_all(&vec![1; sent]).await.unwrap();
            announcing.push(client);
        }
    }
    let since = Instant::now();
    for length in [8, 40_000, 1 << 20, 90 << 20] {
        let mut client = connect(&listener);
        let payload = vec![7; length];
        let (mut reader, mut writer) = tokio::io::split(&mut client.io);
        let (sent, got) = tokio::join!(send(&mut writer, &payload), receive(&mut reader));
        let () = sent;
        assert!(got.unwrap() == payload, "{length}");
    }
    assert!(since.elapsed() < Duration::from_secs(1));
    assert_eq!(listener.shared.memory.frames.large.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_stalls_while_others_wait_for_its_memory_is_given_up_within_seconds() {
    let listener = listener(TestService::echo(), narrow());
    let mut stalled = Vec::new();
    for _ in 0..6 {
        let mut client = connect(&listener);
        client.io.write_i32(4 << 20).await.unwrap();
        client.io.write_all(&vec![1; 3 << 20]).await.unwrap_or(());
        stalled.push(client);
    }
    let since = Instant::now();
    let mut client = connect(&listener);
    let payload = vec![7; 4 << 20];
    let (mut reader, mut writer) = tokio::io::split(&mut client.io);
    let (sent, got) = tokio::join!(send(&mut writer, &payload), receive(&mut reader));
    let () = sent;
    assert!(got.unwrap() == payload);
    assert!(since.elapsed() < Duration::from_secs(20), "{since:?}");
    // The last of them stalls as well, and nobody waits for what it holds.
    let held_up = stalled.into_iter().map(|client| client.end);
    let ends = futures_util::future::join_all(
        held_up.map(|end| tokio::time::timeout(Duration::from_secs(5), end)),
    );
    let ends: Vec<End> = ends
        .await
        .into_iter()
        .flatten()
        .map(Result::unwrap)
        .collect();
    let given_up = ends
        .iter()
        .filter(|end| matches!(end, End::Expired(Expiry::FrameHeldUpOthers)));
    assert!(given_up.count() >= 4, "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_may_take_its_time_while_nobody_waits() {
    let mut client = echo(NetConfig::default());
    client.io.write_i32(1 << 20).await.unwrap();
    for _ in 0..16 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        client.io.write_all(&[1; 64 << 10]).await.unwrap();
    }
    assert_eq!(receive(&mut client.io).await.unwrap().len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_take_its_answers_is_closed_once_others_wait_for_their_memory() {
    let service = TestService::new(|_| Started::Ready(vec![Bytes::from(vec![0; 200_000])]));
    let listener = listener(service, NetConfig::default());
    let mut deaf = connect(&listener);
    send(&mut deaf.io, b"12345678").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!deaf.end.is_finished(), "nobody waits");
    let answers = &listener.shared.memory.answers.large;
    let party = |address: [u8; 4]| Party::of_peer((address, 1).into());
    let mut all = answers.open(party([10, 0, 0, 1]));
    all.take(1 << 40);
    let waits = tokio::spawn({
        let mut permit = answers.open(party([10, 0, 0, 2]));
        async move { permit.draw(Wanted::exactly(100_000)).await }
    });
    let since = Instant::now();
    let end = deaf.end.await.unwrap();
    assert!(
        matches!(end, End::Expired(Expiry::AnswersHeldUpOthers)),
        "{end:?}"
    );
    assert!(since.elapsed() <= Duration::from_secs(4));
    drop(all);
    assert_eq!(waits.await.unwrap(), 100_000);
}
