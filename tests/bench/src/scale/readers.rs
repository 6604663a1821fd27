//! Consumers of one partition, each waiting at its end.

use anyhow::{Result, ensure};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use tidegate_client::NewTopic;

use super::bed::{Bed, produce, small_batch, topic_name, write};
use super::load::{Load, at_rate};
use super::wire::Wire;

const TOPIC: &str = "units";
const FETCH: i16 = 12;
/// Longer than any record is away.
const WAIT_MS: i32 = 30_000;
const MAX_BYTES: i32 = 1 << 20;

/// Connections with a fetch each that has no answer yet.
pub struct Readers {
    wires: Vec<Wire>,
    writer: Wire,
    next: i64,
}

impl Readers {
    pub fn set_up(bed: &Bed, units: u64) -> Result<Self> {
        bed.create_now(NewTopic::new(TOPIC).partitions(1))?;
        let mut wires = Vec::new();
        for _ in 0..units {
            let mut wire = bed.connect()?;
            wire.send(&fetch(0), FETCH)?;
            wires.push(wire);
        }
        Ok(Self {
            wires,
            writer: bed.connect()?,
            next: 0,
        })
    }

    /// Writes a record and waits until everybody has it. A time is one reader's, from when the record was due.
    pub fn operate(&mut self, bed: &Bed, rate: u64, seconds: u64) -> Result<Option<Load>> {
        let request = produce(TOPIC, [0], &small_batch()?, 1);
        at_rate(bed, rate, seconds, |_, due, times| {
            write(&mut self.writer, &request)?;
            self.next += 1;
            for wire in &mut self.wires {
                let answer = wire.receive::<FetchRequest>(FETCH)?;
                let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
                let bytes: usize = partitions
                    .map(|one| one.records.as_ref().map_or(0, |r| r.len()))
                    .sum();
                ensure!(bytes > 0, "a reader was answered without a record");
                times.note(due)?;
            }
            let next = fetch(self.next);
            self.wires
                .iter_mut()
                .try_for_each(|wire| wire.send(&next, FETCH))
        })
    }
}

fn fetch(offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(MAX_BYTES);
    let topic = FetchTopic::default()
        .with_topic(topic_name(TOPIC))
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(WAIT_MS)
        .with_min_bytes(1)
        .with_max_bytes(MAX_BYTES)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}
