//! Batches and partitions.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tidegate::log::batch::{self, Batch};
use tidegate::log::{Isolation, OffsetQuery, PartitionLog};

use super::Case;
use crate::bed::{Bed, NOW};
use crate::payload;

/// More than any batch here has.
const MAX_BYTES: usize = 16 << 20;
/// Batches of the segment in which is looked up.
const LOOKED_UP: i64 = 20_000;
/// Goes through that segment in leaps, so that no read is where the last one ended.
const LEAP: i64 = 7_919;

/// The checks of a batch on its way in.
pub struct Validate {
    bytes: Bytes,
}

impl Validate {
    pub fn new(records: usize, size: usize) -> Result<Self> {
        let bytes = payload::batch_of(records, size)?;
        Ok(Self { bytes })
    }
}

impl Case for Validate {
    fn run(&mut self) {
        let batches = batch::parse(self.bytes.clone(), MAX_BYTES).expect("the batch is valid");
        black_box(batches);
    }
}

/// A partition with the broker that it is of.
struct Partition {
    bed: Bed,
    log: Arc<PartitionLog>,
}

impl Partition {
    fn make() -> Result<Self> {
        let bed = Bed::make()?;
        let handle = bed.topic("measured", 1)?;
        let log = handle.log(0).context("the topic has a partition")?.clone();
        Ok(Self { bed, log })
    }
}

/// An append. Nobody waits for it, so that no sync is in it.
pub struct Append {
    partition: Partition,
    batch: Batch,
}

impl Append {
    pub fn new(records: usize, size: usize) -> Result<Self> {
        let batch = payload::checked(payload::batch_of(records, size)?)?;
        let partition = Partition::make()?;
        Ok(Self { partition, batch })
    }
}

impl Case for Append {
    fn prepare(&mut self, _count: usize) {
        self.partition.bed.flush();
        self.partition.bed.services().logs.enforce_retention();
    }

    fn run(&mut self) {
        let appended = self.partition.log.append(self.batch.clone());
        black_box(appended.expect("the log accepts"));
    }
}

/// Finding a place in a segment.
pub struct LookUp {
    partition: Partition,
    offset: i64,
    is_by_time: bool,
}

impl LookUp {
    pub fn offset() -> Result<Self> {
        Self::new(false)
    }

    pub fn time() -> Result<Self> {
        Self::new(true)
    }

    fn new(is_by_time: bool) -> Result<Self> {
        let partition = Partition::make()?;
        let value = Bytes::from_static(&[7; 1000]);
        for number in 0..LOOKED_UP {
            // The newest batch is as old as the clock says.
            let wire = payload::wire_batch([value.clone()], NOW - LOOKED_UP + number)?;
            partition.log.append(payload::checked(wire)?)?;
        }
        partition.bed.flush();
        let offset = 0;
        Ok(Self {
            partition,
            offset,
            is_by_time,
        })
    }
}

impl Case for LookUp {
    fn run(&mut self) {
        self.offset = (self.offset + LEAP) % LOOKED_UP;
        let log = &self.partition.log;
        if self.is_by_time {
            let query = OffsetQuery::AtTime(NOW - LOOKED_UP + self.offset);
            let found = log.find_offset(query, Isolation::ReadUncommitted);
            let (offset, _) = found
                .expect("the log is whole")
                .expect("a record has the time");
            assert_eq!(offset, self.offset);
        } else {
            let records = log.read(self.offset, 1, true, Isolation::ReadUncommitted);
            black_box(records.expect("the log is whole"));
        }
    }
}

/// A reader at the end of the log, which has read everything before: it comes upon the one batch that is new.
pub struct Read {
    partition: Partition,
    batch: Batch,
    next: i64,
}

impl Read {
    pub fn new(records: usize, size: usize) -> Result<Self> {
        let batch = payload::checked(payload::batch_of(records, size)?)?;
        let partition = Partition::make()?;
        let mut read = Self {
            partition,
            batch,
            next: 0,
        };
        read.prepare(1);
        read.run();
        ensure!(
            read.partition.log.is_hot(read.next),
            "a read at the end of a log is hot"
        );
        Ok(read)
    }
}

impl Case for Read {
    fn prepare(&mut self, count: usize) {
        for _ in 0..count {
            let appended = self.partition.log.append(self.batch.clone());
            appended.expect("the log accepts");
        }
        self.partition.bed.flush();
        self.partition.bed.services().logs.enforce_retention();
    }

    fn run(&mut self) {
        let size = self.batch.bytes.len();
        let read = self
            .partition
            .log
            .read(self.next, size, true, Isolation::ReadUncommitted);
        let records = read.expect("the log is whole");
        assert_eq!(records.bytes.len(), size);
        self.next += i64::from(self.batch.header.last_offset_delta) + 1;
        black_box(records);
    }
}
