//! Bytes that no well-behaved client sends. After each the broker serves a normal client on a fresh connection, and its
//! memory is back where it was.

mod access;
mod batches;
mod connections;
mod coordinators;
mod frames;
mod lists;
mod memory;
mod requests;
mod unauthenticated;
mod wire;

use std::thread;
use std::time::{Duration, Instant};

use harness::{Broker, RawClient, batch};

/// Memory may end this much higher: a tenth, and what an allocator keeps in its arenas.
const ALLOWED_GROWTH: f64 = 1.10;
const ALLOCATOR_NOISE: u64 = 8 << 20;
/// How long freed memory may take to show. Connections are torn down on tasks of their own.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

const TOPIC: &str = "witness";

/// A broker that has served once, so that what it allocates for that is not taken for a leak.
struct Victim {
    broker: Broker,
    memory: Option<u64>,
}

impl Victim {
    fn start() -> Self {
        let broker = Broker::start();
        broker
            .connect()
            .create_topic(TOPIC, 1, &[])
            .unwrap_or_else(|error| panic!("{error:#}"));
        for _ in 0..20 {
            serve(&broker);
        }
        let memory = broker.memory_rss();
        Self { broker, memory }
    }

    fn connect(&self) -> RawClient {
        self.broker.connect()
    }

    /// The broker still serves, and holds no more memory than before.
    fn check(&mut self, what: &str) {
        assert!(
            self.broker.running(),
            "{what}: the broker died\n{}",
            self.broker.log_tail()
        );
        serve(&self.broker);
        let Some(before) = self.memory else { return };
        let allowed = (before as f64 * ALLOWED_GROWTH) as u64 + ALLOCATOR_NOISE;
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            let now = self.broker.memory_rss().unwrap_or_default();
            if now <= allowed {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {} KiB resident, {} KiB before, {} KiB allowed\n{}",
                now >> 10,
                before >> 10,
                allowed >> 10,
                self.broker.log_tail()
            );
            // The operating system tells of no change: memory can only be looked at again.
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A normal client: one record in, the same record out.
fn serve(broker: &Broker) {
    let mut client = broker.connect();
    let outcome = (|| {
        let value = b"served".as_slice();
        let sent = client.produce(TOPIC, 0, -1, batch::of_values(&[value]))?;
        anyhow::ensure!(sent.error_code == 0, "produce: error {}", sent.error_code);
        let wait = Duration::from_secs(5);
        let fetched = client.fetch(TOPIC, 0, sent.base_offset, wait)?;
        anyhow::ensure!(
            fetched.error_code == 0,
            "fetch: error {}",
            fetched.error_code
        );
        let records = batch::records(&fetched.records.unwrap_or_default())?;
        let found = records.iter().any(|record| {
            record.offset == sent.base_offset && record.value.as_deref() == Some(value)
        });
        anyhow::ensure!(found, "the record is not there");
        Ok(())
    })();
    outcome.unwrap_or_else(|error| {
        panic!(
            "a normal client is not served: {error:#}\n{}",
            broker.log_tail()
        )
    });
}
