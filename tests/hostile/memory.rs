//! What is in memory for clients is within what is configured, and whoever fills it holds up nobody else: each attack runs while an
//! honest client is served, and the broker's resident memory is watched all along.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::batch::{self, Producer};
use harness::{Broker, RawClient, encode};
use kafka_protocol::messages::{MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use crate::{TOPIC, serve};

/// The budgets are small, so that an attack which gets past one shows on any machine.
const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[net]
max-frame-bytes = "16MiB"
max-in-flight-bytes = "64MiB"
max-unsent-bytes = "32MiB"
max-work-bytes = "16MiB"

[[listener]]
name = "locked"
transport = "tcp"
bind = "127.0.0.1:0"
sasl-mechanisms = ["SCRAM-SHA-256"]

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[admin]
bind = "127.0.0.1:0"
"#;

const MAX_FRAME_BYTES: u32 = 16 << 20;
/// What is configured above, and as much again as allocators, threads and connections may take.
const ALLOWED_BYTES: u64 = (64 + 32 + 16 + 64) << 20;
/// An honest client is served within this, on a busy machine and by a debug build: far below what the attacks held it up for.
const SERVED_WITHIN: Duration = Duration::from_secs(8);
const ATTACKED_FOR: Duration = Duration::from_secs(6);

struct Victim {
    broker: Broker,
    before: u64,
}

impl Victim {
    fn start() -> Self {
        let broker = Broker::builder()
            .config(CONFIG)
            .start()
            .unwrap_or_else(|error| panic!("{error:#}"));
        create(&broker, TOPIC);
        for _ in 0..5 {
            serve(&broker);
        }
        let before = broker.memory_rss().unwrap_or_default();
        Self { broker, before }
    }

    /// A topic with so many batches of nearly a megabyte.
    fn fill(&mut self, topic: &str, batches: usize) {
        create(&self.broker, topic);
        let value = vec![7_u8; 900 << 10];
        let mut client = self.broker.connect();
        for _ in 0..batches {
            let sent = client
                .produce(topic, 0, -1, batch::of_values(&[&value]))
                .unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(sent.error_code, 0);
        }
        self.before = self.broker.memory_rss().unwrap_or_default();
    }

    /// Serves an honest client while the attack stands, and watches the memory.
    fn withstand<T>(&mut self, what: &str, attack: impl FnOnce(&Broker) -> T) {
        let is_over = Arc::new(AtomicBool::new(false));
        let watched = watch(self.broker.pid(), is_over.clone());
        let standing = attack(&self.broker);
        let start = Instant::now();
        while start.elapsed() < ATTACKED_FOR {
            let asked = Instant::now();
            serve(&self.broker);
            assert!(
                asked.elapsed() < SERVED_WITHIN,
                "{what}: an honest client waited {:?}\n{}",
                asked.elapsed(),
                self.broker.log_tail()
            );
        }
        is_over.store(true, Ordering::Relaxed);
        let peak = watched.join().expect("the watcher ends");
        assert!(
            self.broker.running(),
            "{what}: the broker died\n{}",
            self.broker.log_tail()
        );
        assert!(
            peak < self.before + ALLOWED_BYTES,
            "{what}: {} MiB resident, {} MiB before\n{}",
            peak >> 20,
            self.before >> 20,
            self.broker.log_tail()
        );
        drop(standing);
        serve(&self.broker);
    }
}

/// The most resident memory of a process until told to stop.
fn watch(pid: u32, is_over: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut peak = 0;
        while !is_over.load(Ordering::Relaxed) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            let line = status.unwrap_or_default();
            let resident = line.lines().find(|line| line.starts_with("VmRSS:"));
            let kilobytes = resident.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            peak = peak.max(kilobytes.unwrap_or(0_u64) << 10);
            // The operating system tells of no change: memory can only be looked at again.
            thread::sleep(Duration::from_millis(5));
        }
        peak
    })
}

fn create(broker: &Broker, topic: &str) {
    broker
        .connect()
        .create_topic(topic, 1, &[])
        .unwrap_or_else(|error| panic!("{error:#}\n{}", broker.log_tail()));
}

/// A connection that sends so much of a frame and stops; a broker that reads no further is not waited for.
fn half_frame(address: SocketAddr, announced: u32, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker accepts");
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .expect("the limit is not zero");
    // The broker may close, or stop to read, before it has everything: that is its good right.
    let _ = stream.write_all(&announced.to_be_bytes());
    let piece = vec![0; 64 << 10];
    let mut left = sent;
    while left > 0 {
        let count = left.min(piece.len());
        if stream.write_all(&piece[..count]).is_err() {
            break;
        }
        left -= count;
    }
    stream
}

#[test]
fn frames_that_are_announced_and_never_come_hold_up_nobody() {
    let mut victim = Victim::start();
    victim.withstand("announced frames", |broker| -> Vec<TcpStream> {
        let lengths = [0, 60].into_iter().cycle().take(60);
        lengths
            .map(|sent| half_frame(broker.tcp(), MAX_FRAME_BYTES, sent))
            .collect()
    });
}

#[test]
fn frames_that_stop_half_way_hold_up_nobody() {
    let mut victim = Victim::start();
    victim.withstand("half frames", |broker| -> Vec<TcpStream> {
        (0..40)
            .map(|_| half_frame(broker.tcp(), MAX_FRAME_BYTES, 12 << 20))
            .collect()
    });
    // A large frame of somebody else gets through as well.
    let value = vec![1_u8; 900 << 10];
    let sent = victim
        .broker
        .connect()
        .produce(TOPIC, 0, -1, batch::of_values(&[&value]));
    assert_eq!(sent.expect("it is answered").error_code, 0);
}

#[test]
fn fetches_that_are_pipelined_behind_a_long_poll_hold_nothing() {
    let mut victim = Victim::start();
    victim.fill("heavy", 30);
    create(&victim.broker, "idle");
    victim.withstand("pipelined fetches", |broker| -> Vec<RawClient> {
        let mut client = broker.connect();
        client
            .send_long_poll("idle", 0, 0, Duration::from_secs(60))
            .expect("bytes can be sent");
        for _ in 0..130 {
            client.send_fetch("heavy", 0, 0).expect("bytes can be sent");
        }
        vec![client]
    });
}

#[test]
fn answers_that_nobody_reads_hold_no_more_than_is_configured() {
    let mut victim = Victim::start();
    victim.fill("heavy", 30);
    victim.withstand("unread answers", |broker| -> Vec<RawClient> {
        (0..60)
            .map(|_| {
                let mut client = broker.connect();
                for _ in 0..20 {
                    client.send_fetch("heavy", 0, 0).expect("bytes can be sent");
                }
                client
            })
            .collect()
    });
}

#[test]
fn small_answers_that_nobody_reads_hold_no_more_than_is_configured() {
    let mut victim = Victim::start();
    for number in 0..100 {
        create(&victim.broker, &format!("one-of-many-{number}"));
    }
    let frame = encode(3, 9, &MetadataRequest::default().with_topics(None));
    let burst = frame.expect("the request can be encoded").repeat(200);
    victim.withstand("unread listings", |broker| -> Vec<TcpStream> {
        (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(broker.tcp()).expect("the broker accepts");
                let limit = Some(Duration::from_millis(20));
                stream.set_write_timeout(limit).expect("it is not zero");
                // The broker stops to read from a peer that does not read.
                let _ = stream.write_all(&burst);
                stream
            })
            .collect()
    });
}

#[test]
fn many_honest_readers_of_one_topic_share_what_is_configured_and_all_get_everything() {
    const READERS: u64 = 50;
    let mut victim = Victim::start();
    victim.fill("heavy", 30);
    let got_all = Arc::new(AtomicU64::new(0));
    victim.withstand("honest readers", |broker| {
        let address = broker.tcp();
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let got_all = got_all.clone();
                thread::spawn(move || read_to_the_end(address, "heavy", 30, &got_all))
            })
            .collect();
        for reader in readers {
            reader.join().expect("every reader gets everything");
        }
    });
    assert_eq!(got_all.load(Ordering::Relaxed), READERS);
}

fn read_to_the_end(address: SocketAddr, topic: &str, end: i64, got_all: &AtomicU64) {
    let mut client = RawClient::connect(address).expect("the broker accepts");
    let mut next = 0;
    while next < end {
        let fetched = client
            .fetch(topic, 0, next, Duration::from_secs(5))
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(fetched.error_code, 0);
        let records = fetched.records.unwrap_or_default();
        let batches = batch::batches(&records).unwrap_or_else(|error| panic!("{error:#}"));
        next = batches
            .last()
            .map_or(next, |last| last.header.next_offset());
    }
    got_all.fetch_add(1, Ordering::Relaxed);
}

/// A record of 60 MiB of zeros in some 60 KiB.
fn inflating() -> Bytes {
    let mut record = BytesMut::new();
    batch::put_record(&mut record, 0, None, &vec![0; 60 << 20]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&record).expect("memory can be written");
    let body = encoder.finish().expect("memory can be written");
    batch::with_header(&body, 1, 1, Producer::default())
}

#[test]
fn searches_for_a_time_in_a_batch_that_inflates_take_no_memory_of_its_size() {
    let mut victim = Victim::start();
    create(&victim.broker, "inflating");
    let sent = victim
        .broker
        .connect()
        .produce("inflating", 0, -1, inflating())
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(sent.error_code, 0);
    victim.withstand("searches", |broker| -> Vec<RawClient> {
        (0..100)
            .map(|_| {
                let mut client = broker.connect();
                client
                    .send_list_offset("inflating", 0, 1)
                    .expect("bytes can be sent");
                client
            })
            .collect()
    });
    let found = victim
        .broker
        .connect()
        .list_offset("inflating", 0, 1)
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(found, 0);
}

/// As far as a client comes without a password: the broker's challenge.
fn begin_login(address: SocketAddr) {
    let mut client = RawClient::connect(address).expect("the broker accepts");
    let handshake =
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("SCRAM-SHA-256"));
    let answer = client
        .request(1, &handshake)
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(answer.error_code, 0);
    let first = Bytes::from_static(b"n,,n=somebody,r=0123456789abcdef");
    let authenticate = SaslAuthenticateRequest::default().with_auth_bytes(first);
    let answer = client
        .request(2, &authenticate)
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(answer.error_code, 0);
}

#[test]
fn strangers_that_come_back_again_and_again_do_not_delay_a_login() {
    let victim = Victim::start();
    // Listeners are told in their order, by their transports.
    let locked = victim.broker.addresses().by_name[0].1;
    assert_ne!(locked, victim.broker.tcp());
    let is_over = Arc::new(AtomicBool::new(false));
    let strangers: Vec<_> = (0..140)
        .map(|number| {
            let is_over = is_over.clone();
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // Refused for its length, or waited for: both kinds come back.
                    let announced = if number % 2 == 0 { 500 << 10 } else { 15 << 10 };
                    let mut stream = half_frame(locked, announced, 14 << 10);
                    let limit = Some(Duration::from_millis(200));
                    stream.set_read_timeout(limit).expect("it is not zero");
                    // Until the broker closes, or it is time to come again.
                    let _ = stream.read(&mut [0; 1]);
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let asked = Instant::now();
        begin_login(locked);
        assert!(
            asked.elapsed() < SERVED_WITHIN,
            "a login took {:?}\n{}",
            asked.elapsed(),
            victim.broker.log_tail()
        );
        thread::sleep(Duration::from_millis(200));
    }
    is_over.store(true, Ordering::Relaxed);
    for stranger in strangers {
        stranger.join().expect("a stranger ends");
    }
}
