//! An offsets log in memory: it can hold durability back, fail, and be opened again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::coordinator::storage::{NewRecords, RecordLog, Stored};
use crate::log::{AppendError, TransactionMarker};
use crate::types::Offset;

#[derive(Clone, Debug)]
pub(in crate::coordinator) struct MemoryLog {
    partitions: Arc<Mutex<Vec<Vec<Stored>>>>,
    is_held: watch::Sender<bool>,
    is_failing: Arc<AtomicBool>,
}

impl MemoryLog {
    pub fn new() -> Self {
        Self {
            partitions: Arc::new(Mutex::new(vec![Vec::new(); 3])),
            is_held: watch::Sender::new(false),
            is_failing: Arc::default(),
        }
    }

    /// While held, records are appended and do not become durable.
    pub fn hold(&self, is_held: bool) {
        self.is_held.send_replace(is_held);
    }

    pub fn fail(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Relaxed);
    }

    pub fn put(&self, partition: usize, key: &'static [u8], value: &'static [u8]) {
        let log = &mut self.partitions.lock()[partition];
        log.push(Stored::Record {
            offset: next_offset(log),
            key: Bytes::from_static(key),
            value: Some(Bytes::from_static(value)),
            producer_id: None,
        });
    }

    pub fn records(&self) -> usize {
        self.partitions.lock().iter().map(Vec::len).sum()
    }
}

fn next_offset(log: &[Stored]) -> Offset {
    i64::try_from(log.len()).unwrap()
}

impl RecordLog for MemoryLog {
    fn partitions(&self) -> usize {
        self.partitions.lock().len()
    }

    fn append(&self, partition: usize, new: NewRecords) -> Result<Offset, String> {
        if self.is_failing.load(Ordering::Relaxed) {
            return Err("the disk is full".into());
        }
        let log = &mut self.partitions.lock()[partition];
        for (key, value) in new.records {
            log.push(Stored::Record {
                offset: next_offset(log),
                key,
                value,
                producer_id: new.producer.map(|producer| producer.id),
            });
        }
        Ok(next_offset(log) - 1)
    }

    fn mark(&self, partition: usize, marker: &TransactionMarker) -> Result<Offset, AppendError> {
        if self.is_failing.load(Ordering::Relaxed) {
            return Err(AppendError::Storage("the disk is full".into()));
        }
        let log = &mut self.partitions.lock()[partition];
        log.push(Stored::Marker(*marker));
        Ok(next_offset(log) - 1)
    }

    fn committed(&self, _: usize, _: Offset) -> BoxFuture<'static, Result<(), String>> {
        let mut is_held = self.is_held.subscribe();
        async move {
            let released = is_held.wait_for(|is_held| !is_held).await;
            released.map(|_| ()).map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn replay(&self, partition: usize, apply: &mut dyn FnMut(Stored)) -> Vec<String> {
        let records = self.partitions.lock()[partition].clone();
        records.into_iter().for_each(apply);
        vec![format!("a batch of partition {partition} is damaged")]
    }
}
