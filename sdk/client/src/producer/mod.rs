//! Sends records: batched by partition, idempotent, with retries that keep order and never duplicate.
//!
//! [`Producer::send`] puts a record into the buffer of its partition ([`buffer`]); one task takes batches that are ready
//! to the partitions' leaders ([`sender`]) and keeps their order through failures ([`lane`]). The buffer's memory is
//! bounded: `send` waits while it is full.

mod buffer;
mod delivery;
mod frame;
mod lane;
mod partitioner;
mod sender;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::net::transport::lock;
use crate::records::{Compression, Record};
use buffer::{Buffer, reservation};
pub use delivery::{Delivery, RecordMetadata};
pub(crate) use frame::{TopicBatches, encode as encode_produce};
pub use partitioner::partition_of_key;
use sender::Sender;

/// When the broker answers for a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Acks {
    /// Never: a record counts as sent when it was written to the connection. Not idempotent.
    None,
    /// When the leader has appended it.
    Leader,
    /// When every in-sync replica has it; on Tidegate, when it is on disk.
    #[default]
    All,
}

impl Acks {
    /// The protocol's number.
    pub fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

impl std::str::FromStr for Acks {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "0" | "none" => Ok(Self::None),
            "1" | "leader" => Ok(Self::Leader),
            "-1" | "all" => Ok(Self::All),
            other => Err(Error::Config(format!(
                "unknown acks {other}: use 0, 1 or all"
            ))),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ProducerOptions {
    pub acks: Acks,
    pub idempotent: bool,
    pub compression: Compression,
    pub linger: Duration,
    pub batch_bytes: usize,
    pub buffer_bytes: usize,
    pub delivery_timeout: Duration,
    pub max_in_flight: usize,
}

/// Options of a [`Producer`]; made by [`Client::producer`].
#[derive(Debug)]
pub struct ProducerBuilder {
    client: Client,
    options: ProducerOptions,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            options: ProducerOptions {
                acks: Acks::All,
                idempotent: true,
                compression: Compression::None,
                linger: Duration::from_millis(5),
                batch_bytes: 128 << 10,
                buffer_bytes: 32 << 20,
                delivery_timeout: Duration::from_secs(120),
                max_in_flight: 5,
            },
        }
    }

    /// Default [`Acks::All`].
    pub fn acks(mut self, acks: Acks) -> Self {
        self.options.acks = acks;
        self
    }

    /// Whether retries are kept from storing a record twice. Default on; off with `acks=0`, which has no retries.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.options.idempotent = idempotent;
        self
    }

    /// Default none.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.options.compression = compression;
        self
    }

    /// How long a batch that is not full waits for more records. Default 5 ms.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.linger = linger;
        self
    }

    /// A batch's size before compression; a larger record makes a batch of its own. Default 128 KiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.options.batch_bytes = bytes;
        self
    }

    /// Memory for records that are not delivered yet; `send` waits when it is used up. Default 32 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.options.buffer_bytes = bytes;
        self
    }

    /// A record that is not delivered by then, retries included, has failed. Default 2 minutes.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.options.delivery_timeout = timeout;
        self
    }

    /// Requests in flight at each broker, 1 to 5. Default 5.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.options.max_in_flight = requests;
        self
    }

    /// Starts the producer. Nothing is sent before the first record.
    pub fn build(mut self) -> Result<Producer> {
        let options = &mut self.options;
        if !(1..=lane::MAX_IN_FLIGHT).contains(&options.max_in_flight) {
            return Err(Error::Config(format!(
                "producer: max_in_flight is {}; use 1 to {}, as many as brokers remember of a producer",
                options.max_in_flight,
                lane::MAX_IN_FLIGHT
            )));
        }
        if options.buffer_bytes < options.batch_bytes || options.buffer_bytes > u32::MAX as usize {
            return Err(Error::Config(format!(
                "producer: buffer_bytes is {}; use at least batch_bytes ({}) and less than 4 GiB",
                options.buffer_bytes, options.batch_bytes
            )));
        }
        options.idempotent &= options.acks != Acks::None;
        let shared = Arc::new(Shared {
            buffer: Mutex::new(Buffer::new(options.batch_bytes, options.linger)),
            memory: Semaphore::new(options.buffer_bytes),
            wake: Notify::new(),
            buffer_bytes: options.buffer_bytes,
        });
        let sender = Sender::new(self.client.clone(), self.options, shared.clone());
        tokio::spawn(sender.run());
        Ok(Producer {
            handle: Arc::new(Handle {
                client: self.client,
                shared,
            }),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub buffer: Mutex<Buffer>,
    pub memory: Semaphore,
    /// Something is new for the sender.
    pub wake: Notify,
    pub buffer_bytes: usize,
}

/// Sends records. A cheap handle: clone it for every task that sends. When the last handle is dropped, what is buffered
/// is still sent; [`close`](Self::close) waits for it.
#[derive(Clone, Debug)]
pub struct Producer {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    client: Client,
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.shared.buffer).closed = true;
        self.shared.wake.notify_one();
    }
}

/// Ends a flush's hurry, also when the flush is given up.
struct Hurry<'a>(&'a Shared);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        lock(&self.0.buffer).flushing -= 1;
    }
}

impl Producer {
    /// Sends a record and waits until it is stored. To have many on the way at once use [`enqueue`](Self::enqueue), or
    /// poll many of these futures together.
    pub async fn send(&self, record: Record) -> Result<RecordMetadata> {
        self.enqueue(record).await?.wait().await
    }

    /// Hands a record over, waiting only while the buffer is full or the topic is unknown. Records go out in the order of
    /// these calls, partition by partition. The [`Delivery`] tells the record's fate.
    pub async fn enqueue(&self, record: Record) -> Result<Delivery> {
        let shared = &self.handle.shared;
        let reserved = reservation(&record);
        if reserved > shared.buffer_bytes {
            return Err(Error::InvalidInput(format!(
                "a record of {reserved} bytes for topic {} exceeds the producer's buffer of {} bytes",
                record.topic, shared.buffer_bytes
            )));
        }
        let topic = match self.handle.client.cached_topic(&record.topic) {
            Some(topic) => topic,
            None => self.handle.client.topic(&record.topic, true).await?,
        };
        let permits = reserved as u32;
        let memory = match shared.memory.try_acquire_many(permits) {
            Ok(memory) => memory,
            Err(_) => {
                // Batches that linger hold the memory that this record waits for.
                lock(&shared.buffer).flushing += 1;
                let _hurry = Hurry(shared);
                shared.wake.notify_one();
                let acquired = shared.memory.acquire_many(permits).await;
                acquired.map_err(|_| Error::Closed)?
            }
        };
        let now = (Instant::now(), milliseconds_now());
        let appended = lock(&shared.buffer).append(&record, &topic, reserved, now)?;
        // The sender gives it back when the batch has its fate.
        memory.forget();
        if appended.wake {
            shared.wake.notify_one();
        }
        Ok(appended.delivery)
    }

    /// Sends everything that was handed over before, and waits for it. Errs with the first record that failed.
    pub async fn flush(&self) -> Result<()> {
        let shared = &self.handle.shared;
        let unsettled = {
            let mut buffer = lock(&shared.buffer);
            buffer.flushing += 1;
            buffer.unsettled()
        };
        let _hurry = Hurry(shared);
        shared.wake.notify_one();
        let mut first = Ok(());
        for outcome in unsettled {
            if let Err(failure) = outcome.wait().await
                && first.is_ok()
            {
                first = Err(failure.error.clone());
            }
        }
        first
    }

    /// Flushes and ends. Other handles of this producer can send no more.
    pub async fn close(self) -> Result<()> {
        lock(&self.handle.shared.buffer).closed = true;
        self.flush().await
    }
}

fn milliseconds_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
