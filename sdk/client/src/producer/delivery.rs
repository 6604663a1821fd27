//! What becomes of a record that was handed over.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::error::{Error, Result};

/// Where a record was stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordMetadata {
    pub topic: Arc<str>,
    /// The partition that the record was sent to.
    pub partition: i32,
    /// `None` when the broker did not say: with `acks=0`, for a batch that it had stored already, and on topics whose
    /// records the broker's own partitioner places.
    pub offset: Option<i64>,
    /// Milliseconds since 1970: the broker's time where the topic uses it, else the record's.
    pub timestamp: i64,
}

/// Where a batch was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Placed {
    pub base_offset: Option<i64>,
    pub append_time: Option<i64>,
}

/// Why a batch was not stored, and which of its records the broker blames (index in the batch, reason).
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub error: Error,
    pub blamed: BTreeMap<i32, String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            blamed: BTreeMap::new(),
        }
    }
}

/// One batch's fate, shared by the records in it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    fate: OnceLock<Result<Placed, Failure>>,
    known: Notify,
}

impl Outcome {
    /// The first fate stays.
    pub fn settle(&self, fate: Result<Placed, Failure>) {
        if self.fate.set(fate).is_ok() {
            self.known.notify_waiters();
        }
    }

    pub async fn wait(&self) -> &Result<Placed, Failure> {
        loop {
            let known = self.known.notified();
            if let Some(fate) = self.fate.get() {
                return fate;
            }
            known.await;
        }
    }
}

/// A record on its way. Dropping it does not stop the record.
#[derive(Debug)]
#[must_use = "wait for it, or flush the producer, to learn whether the record was stored"]
pub struct Delivery {
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) index: i32,
    pub(crate) timestamp: i64,
}

impl Delivery {
    /// The partition that the record was sent to.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Waits until the record is stored, to the degree that the producer's `acks` asks for, or has failed for good.
    pub async fn wait(self) -> Result<RecordMetadata> {
        match self.outcome.wait().await {
            Ok(placed) => Ok(RecordMetadata {
                topic: self.topic,
                partition: self.partition,
                offset: placed.base_offset.map(|base| base + i64::from(self.index)),
                timestamp: placed.append_time.unwrap_or(self.timestamp),
            }),
            Err(failure) => Err(failure.of_record(self.index)),
        }
    }
}

impl IntoFuture for Delivery {
    type Output = Result<RecordMetadata>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// As [`wait`](Self::wait).
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

impl Failure {
    fn of_record(&self, index: i32) -> Error {
        let mut error = self.error.clone();
        if let Error::Broker { message, .. } = &mut error
            && !self.blamed.is_empty()
        {
            *message = Some(match self.blamed.get(&index) {
                Some(reason) => reason.clone(),
                None => "another record of its batch was refused".into(),
            });
        }
        error
    }
}
