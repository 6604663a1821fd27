//! Calls of guests.

use std::hint::black_box;

use anyhow::Result;
use bytes::Bytes;
use tidegate::log::records::Record;
use tidegate::plugin::{BatchOrigin, Effort, OnPoison, Terms, Transformed};

use super::Case;
use crate::bed::{Bed, NOW};

const RECORDS: i32 = 1_000;
const PARTITIONS: u32 = 12;
const ORIGIN: BatchOrigin<'static> = BatchOrigin {
    topic: "measured",
    partition: 0,
    partition_count: PARTITIONS,
    base_sequence: None,
};

const TERMS: Terms = Terms {
    on_poison: OnPoison::Reject,
    effort: Effort::Full,
};

/// A call of a plugin on one batch, by an instance that is already running.
pub struct Call {
    bed: Bed,
    records: Vec<Record>,
    is_partitioner: bool,
}

impl Call {
    pub fn transform() -> Result<Self> {
        let bed = Bed::make()?;
        bed.deploy("measured", "identity", &[])?;
        Ok(Self::of(bed, false))
    }

    pub fn partitioner() -> Result<Self> {
        let bed = Bed::make()?;
        bed.deploy(
            "measured",
            "partition-by-field",
            &[("field", "customer.id")],
        )?;
        Ok(Self::of(bed, true))
    }

    fn of(bed: Bed, is_partitioner: bool) -> Self {
        let records = (0..RECORDS)
            .map(|index| Record {
                offset_delta: index,
                timestamp: NOW,
                key: None,
                value: Some(order(index)),
                headers: Vec::new(),
            })
            .collect();
        Self {
            bed,
            records,
            is_partitioner,
        }
    }
}

/// About a hundred bytes of JSON.
fn order(index: i32) -> Bytes {
    let text = format!(
        r#"{{"order":{},"customer":{{"id":"customer-{:04}","since":2019}},"items":[{{"article":4711,"count":2}}]}}"#,
        100_000 + index,
        index % 100
    );
    text.into()
}

impl Case for Call {
    fn run(&mut self) {
        let plugins = &self.bed.services().plugins;
        if self.is_partitioner {
            let assigned = plugins.assign("measured", &ORIGIN, &self.records, TERMS);
            black_box(assigned.expect("the plugin assigns"));
        } else {
            let answer = plugins.transform("measured", &ORIGIN, &self.records, TERMS);
            assert_eq!(answer.expect("the plugin answers"), Transformed::Unchanged);
        }
    }
}
