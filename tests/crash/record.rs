//! What every process of a load shares: the clock, its part of the history, and the content of its records.

use std::io;
use std::time::{Duration, Instant};

use harness::Seed;
use tidegate_checker::{Action, History, OperationId, Outcome, Time, Value};

const MAX_FILLER_BYTES: u64 = 600;

/// The moment from which all times of a run count.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Time {
        self.0.elapsed().as_nanos() as Time
    }
}

/// Writes down what one process does.
#[derive(Debug)]
pub struct Recorder {
    process: u32,
    clock: Clock,
    history: History,
}

impl Recorder {
    pub fn new(process: u32, clock: Clock) -> Self {
        Self {
            process,
            clock,
            history: History::default(),
        }
    }

    /// Notes the beginning of something; unless [`Self::end`] follows, nobody knows how it ended.
    pub fn begin(&mut self, action: Action) -> OperationId {
        self.begin_at(self.now(), action)
    }

    /// As [`Self::begin`], of something that began before it was known to be worth noting.
    pub fn begin_at(&mut self, time: Time, action: Action) -> OperationId {
        self.history.invoke(self.process, time, action)
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    pub fn end(&mut self, id: OperationId, outcome: Outcome) {
        self.history.complete(id, self.clock.now(), outcome);
    }

    /// What was begun, to add what the answer told.
    pub fn action_mut(&mut self, id: OperationId) -> &mut Action {
        self.history.action_mut(id)
    }

    /// Ends a window: what was recorded since the last.
    pub fn take(&mut self) -> History {
        std::mem::take(&mut self.history)
    }
}

/// The content of a record follows from its value: eight bytes of it, then a filler of an odd length.
pub fn content_of(value: Value) -> Vec<u8> {
    let mut seed = Seed::new(value);
    let length = seed.between(0, MAX_FILLER_BYTES) as usize;
    let mut content = value.to_be_bytes().to_vec();
    content.extend(seed.bytes(length));
    content
}

/// The value of a record, if its content is what was sent with it.
pub fn value_of(content: &[u8]) -> Option<Value> {
    let bytes = content.get(..8)?.try_into().ok()?;
    let value = Value::from_be_bytes(bytes);
    (content == content_of(value)).then_some(value)
}

/// The broker's own refusal, as opposed to a connection that broke.
#[derive(Debug)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// How long a client waits for an answer before it takes another connection; `None`: as long as a broker may take.
pub type Patience = Option<Duration>;

/// Whether the answer did not come in time, as opposed to a connection that broke.
pub fn timed_out(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        )
    })
}
