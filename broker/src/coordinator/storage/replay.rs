//! Reading a coordinator's partition back at start.

use super::{MAX_BATCH_BYTES, Stored};
use crate::log::batch::{self, Batch};
use crate::log::{Isolation, PartitionLog, control, records};
use crate::types::Offset;

/// What one read asks for.
const READ_BYTES: usize = 1 << 20;
/// Offsets that are tried one by one past a damaged batch before the rest of a partition is given up.
const MAX_PROBES: i64 = 100_000;

/// Reads a partition from its first record to its last. What is damaged is reported and passed over: a group that goes back
/// to an older offset reads some records twice, which is better than no group at all.
pub(super) struct Replay<'a> {
    log: &'a PartitionLog,
    damage: Vec<String>,
}

impl<'a> Replay<'a> {
    pub fn new(log: &'a PartitionLog) -> Self {
        Self {
            log,
            damage: Vec::new(),
        }
    }

    pub fn run(mut self, apply: &mut dyn FnMut(Stored)) -> Vec<String> {
        let bounds = self.log.offsets();
        let mut from = bounds.log_start;
        while from < bounds.high_watermark {
            // One batch alone, when the many could not be taken apart, to lose no more than that one.
            let read = self
                .batches(from, READ_BYTES)
                .or_else(|_| self.batches(from, 1));
            match read {
                Ok(batches) => {
                    for batch in &batches {
                        self.apply(batch, apply);
                    }
                    let ends = batches.iter().map(|batch| batch.header.last_offset() + 1);
                    from = ends.fold(from + 1, Offset::max);
                }
                Err(error) => {
                    self.report(from, &error);
                    match self.next_readable(from, bounds.high_watermark) {
                        Some(next) => from = next,
                        None => break,
                    }
                }
            }
        }
        self.damage
    }

    fn batches(&self, from: Offset, max_bytes: usize) -> Result<Vec<Batch>, String> {
        let isolation = Isolation::ReadUncommitted;
        let read = self.log.read(from, max_bytes, true, isolation);
        let read = read.map_err(|error| error.to_string())?;
        let batches = batch::split(read.bytes, usize::MAX).map_err(|error| error.to_string())?;
        match batches.is_empty() {
            true => Err("the log gave nothing".into()),
            false => Ok(batches),
        }
    }

    fn apply(&mut self, batch: &Batch, apply: &mut dyn FnMut(Stored)) {
        let header = &batch.header;
        if header.is_control() {
            if let Some(marker) = control::decode_marker(header, &batch.bytes) {
                apply(Stored::Marker(marker));
            }
            return;
        }
        match records::decode(batch, MAX_BATCH_BYTES as usize) {
            Ok(records) => {
                for record in records {
                    if let Some(key) = record.key {
                        apply(Stored::Record {
                            offset: header.base_offset + i64::from(record.offset_delta),
                            key,
                            value: record.value,
                            producer_id: header.is_transactional().then_some(header.producer_id),
                        });
                    }
                }
            }
            Err(error) => self.report(header.base_offset, &error.to_string()),
        }
    }

    /// The length of a damaged batch is not to be trusted, so the next sound one is looked for offset by offset.
    fn next_readable(&mut self, damaged: Offset, end: Offset) -> Option<Offset> {
        let last = end.min(damaged.saturating_add(MAX_PROBES));
        let next = (damaged + 1..last).find(|&from| self.batches(from, 1).is_ok());
        if next.is_none() && last < end {
            self.report(last, "nothing readable was found, the rest is given up");
        }
        next
    }

    fn report(&mut self, offset: Offset, message: &str) {
        self.damage
            .push(format!("{} at offset {offset}: {message}", self.log.id()));
    }
}
