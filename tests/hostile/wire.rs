//! Wire fuzzing: every API in every version that the broker advertises, well-formed, mutated, cut and pipelined, while three
//! honest clients work beside. None of those fails once, and the broker never panics.
//!
//! `TIDEGATE_WIRE_FUZZ_SECONDS` sets the length: 10 in every `cargo test`, 3600 in the full run. The seed is printed.

mod honest;
mod requests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Broker, RawClient, Seed, say, setting};

use self::requests::Generator;
use crate::requests::{advertised, frame};

/// Fuzzing connections at once.
const FUZZERS: usize = 2;
/// An answer is not owed to a fuzzer: it goes on after so long.
const PATIENCE: Duration = Duration::from_millis(250);
/// Requests sent over one connection, if the broker leaves it open.
const REQUESTS_OF_CONNECTION: u64 = 20;

/// What is common to the threads of a run.
struct Run {
    address: SocketAddr,
    apis: Vec<(i16, i16, i16)>,
    over: AtomicBool,
    requests: AtomicU64,
    answers: AtomicU64,
    /// Requests by API and version.
    covered: Mutex<BTreeMap<(i16, i16), u64>>,
}

#[test]
fn honest_clients_notice_nothing_of_a_fuzzer() {
    let mut seed = Seed::from_env("wire fuzzing");
    let seconds = setting("TIDEGATE_WIRE_FUZZ_SECONDS", 10);
    let mut broker = Broker::start();
    let apis = advertised(&mut broker.connect());
    let run = Run {
        address: broker.tcp(),
        apis,
        over: AtomicBool::new(false),
        requests: AtomicU64::new(0),
        answers: AtomicU64::new(0),
        covered: Mutex::default(),
    };
    let ends = Instant::now() + Duration::from_secs(seconds);
    let reports = thread::scope(|scope| {
        for _ in 0..FUZZERS {
            let seed = seed.fork();
            scope.spawn(|| fuzz(&run, seed));
        }
        let clients: Vec<_> = honest::CLIENTS
            .iter()
            .map(|(name, work)| {
                (
                    *name,
                    scope.spawn(|| honest::work(run.address, ends, *work)),
                )
            })
            .collect();
        let reports: Vec<_> = clients
            .into_iter()
            .map(|(name, client)| (name, client.join()))
            .collect();
        run.over.store(true, Ordering::Relaxed);
        reports
    });
    assert!(broker.running(), "the broker died\n{}", broker.log_tail());
    for (name, report) in reports {
        match report.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok(report) => say(&format!("wire fuzzing: {name}: {report}")),
            Err(error) => panic!("{name} failed: {error:#}\n{}", broker.log_tail()),
        }
    }
    let covered = run.covered.into_inner().expect("no fuzzer panicked");
    say(&format!(
        "wire fuzzing: {} requests in {seconds} s, {} answered, {} APIs and versions, each at least {} times",
        run.requests.into_inner(),
        run.answers.into_inner(),
        covered.len(),
        covered.values().min().copied().unwrap_or(0),
    ));
    let wanted = run.apis.iter().map(|(_, low, high)| high - low + 1);
    let wanted: i16 = wanted.sum();
    assert_eq!(covered.len(), wanted as usize, "not every version was sent");
    let log = broker.log_tail();
    assert!(!log.contains("panicked"), "a handler panicked:\n{log}");
}

/// Goes through all APIs and versions again and again.
fn fuzz(run: &Run, mut seed: Seed) {
    let mut versions: Vec<_> = run
        .apis
        .iter()
        .flat_map(|(key, low, high)| (*low..=*high).map(|version| (*key, version)))
        .collect();
    while !run.over.load(Ordering::Relaxed) {
        for index in (1..versions.len()).rev() {
            versions.swap(index, seed.between(0, index as u64) as usize);
        }
        for part in versions.chunks(REQUESTS_OF_CONNECTION as usize) {
            if run.over.load(Ordering::Relaxed) {
                return;
            }
            // A broker that refuses connections would show at the honest clients.
            if let Ok(client) = RawClient::connect(run.address) {
                converse(run, client, part, &mut seed);
            }
        }
    }
}

/// One connection: requests of these APIs and versions, until the broker has had enough.
fn converse(run: &Run, mut client: RawClient, apis: &[(i16, i16)], seed: &mut Seed) {
    if client.set_answer_limit(PATIENCE).is_err() {
        return;
    }
    let mut open = true;
    for &(key, version) in apis {
        if !open {
            match RawClient::connect(run.address) {
                Ok(again) if again.set_answer_limit(PATIENCE).is_ok() => client = again,
                _ => return,
            }
        }
        let body = Generator(seed).body(key, version);
        let body = body.unwrap_or_else(|| {
            panic!("tests/hostile/wire/requests.rs has no request of API {key}")
        });
        let Some(mut bytes) = frame(key, version, &mutated(body, seed)) else {
            panic!("API {key} has no header");
        };
        if seed.between(0, 31) == 0 {
            // Less than was announced, and then the next request's bytes.
            bytes.truncate(seed.between(1, bytes.len() as u64) as usize);
        }
        *run.covered
            .lock()
            .expect("no fuzzer panicked")
            .entry((key, version))
            .or_default() += 1;
        run.requests.fetch_add(1, Ordering::Relaxed);
        open = client.send_raw(&bytes).is_ok();
        // One in four is not waited for: the next one is pipelined behind it.
        if open && seed.between(0, 3) > 0 {
            open = client.receive_raw().is_ok();
            run.answers.fetch_add(u64::from(open), Ordering::Relaxed);
        }
    }
}

/// The body as it is, or with some bytes changed, cut, doubled or put in.
fn mutated(mut body: Vec<u8>, seed: &mut Seed) -> Vec<u8> {
    const EDGES: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0x80, 0x80, 0x80, 0x80, 0x0f],
        &[0],
    ];
    if seed.between(0, 2) == 0 {
        return body;
    }
    for _ in 0..seed.between(1, 4) {
        let at = seed.between(0, body.len() as u64) as usize;
        let end = body.len().min(at + seed.between(1, 16) as usize);
        match seed.between(0, 5) {
            0 if at < body.len() => body[at] ^= 1 << seed.between(0, 7),
            1 if at < body.len() => body[at] = seed.number() as u8,
            2 => body.truncate(at),
            3 => {
                let edge = EDGES[seed.between(0, EDGES.len() as u64 - 1) as usize];
                let end = body.len().min(at + edge.len());
                body.splice(at..end, edge.iter().copied());
            }
            4 => {
                let piece = body[at..end].to_vec();
                body.splice(at..at, piece);
            }
            _ => {
                let noise = seed.bytes(end - at);
                body.splice(at..end, noise);
            }
        }
    }
    body
}
