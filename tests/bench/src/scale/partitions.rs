//! Partitions of one topic, connections, and topics with a plugin: where to writes go.

use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use tidegate_client::NewTopic;

use super::bed::{Bed, PRODUCE_VERSION, produce, small_batch, write, written};
use super::load::{Load, at_rate};
use super::wire::Wire;
use crate::options::Values;
use crate::payload;
use crate::plugins::Plugin;

const TOPIC: &str = "units";
/// Partitions that one request fills.
const FILLED_AT_ONCE: u64 = 500;
/// A batch of a throughput run, and how many are on the way at once.
const BATCH_BYTES: u64 = 100_000;
const IN_FLIGHT: u64 = 16;
/// Values in it.
const VALUE_BYTES: u32 = 1000;
const API_VERSIONS: i16 = 3;
const METADATA: i16 = 9;

/// A topic whose partitions hold a record each.
pub struct Partitions {
    units: u64,
    wire: Wire,
}

impl Partitions {
    pub fn set_up(bed: &Bed, units: u64) -> Result<Self> {
        bed.create_now(NewTopic::new(TOPIC).partitions(i32::try_from(units)?))?;
        let mut wire = bed.connect()?;
        let batch = small_batch()?;
        let mut first = 0;
        while first < units {
            let last = units.min(first + FILLED_AT_ONCE);
            write(
                &mut wire,
                &produce(TOPIC, first as i32..last as i32, &batch, -1),
            )?;
            first = last;
        }
        Ok(Self { units, wire })
    }

    /// Writes a record to one partition after the other.
    pub fn operate(&mut self, bed: &Bed, rate: u64, seconds: u64) -> Result<Option<Load>> {
        let batch = small_batch()?;
        at_rate(bed, rate, seconds, |number, due, times| {
            let partition = (number % self.units) as i32;
            write(&mut self.wire, &produce(TOPIC, [partition], &batch, 1))?;
            times.note(due)
        })
    }

    /// Megabytes a second of batches that go to one partition after the other.
    pub fn throughput(&mut self, megabytes: u64) -> Result<f64> {
        let wires = std::slice::from_mut(&mut self.wire);
        throughput(wires, TOPIC, self.units, megabytes)
    }
}

/// Connections that have said what clients say first, and then nothing.
pub struct Connections {
    wires: Vec<Wire>,
}

impl Connections {
    pub fn set_up(bed: &Bed, units: u64) -> Result<Self> {
        bed.create_now(NewTopic::new(TOPIC).partitions(1))?;
        let mut wires = Vec::new();
        for _ in 0..units {
            let mut wire = bed.connect()?;
            wire.call(&ApiVersionsRequest::default(), API_VERSIONS)?;
            wires.push(wire);
        }
        Ok(Self { wires })
    }

    /// Writes a record on one connection after the other.
    pub fn operate(&mut self, bed: &Bed, rate: u64, seconds: u64) -> Result<Option<Load>> {
        let request = produce(TOPIC, [0], &small_batch()?, 1);
        let count = self.wires.len() as u64;
        at_rate(bed, rate, seconds, |number, due, times| {
            write(&mut self.wires[(number % count) as usize], &request)?;
            times.note(due)
        })
    }

    /// Megabytes a second of batches that come by one connection after the other, all to one partition.
    pub fn throughput(&mut self, megabytes: u64) -> Result<f64> {
        throughput(&mut self.wires, TOPIC, 1, megabytes)
    }
}

/// Sends batches, a bounded number on the way, by one connection after the other and to one partition after the other.
fn throughput(wires: &mut [Wire], topic: &str, partitions: u64, megabytes: u64) -> Result<f64> {
    let batches = payload::batches(Values::Random, VALUE_BYTES, BATCH_BYTES)?;
    let batches: Vec<Bytes> = batches
        .iter()
        .map(|batch| batch.chunks.concat().into())
        .collect();
    let total = megabytes * 1_000_000 / BATCH_BYTES;
    let (wire_count, batch_count) = (wires.len() as u64, batches.len() as u64);
    let begin = Instant::now();
    for number in 0..total + IN_FLIGHT {
        if let Some(oldest) = number.checked_sub(IN_FLIGHT) {
            written(&mut wires[(oldest % wire_count) as usize])?;
        }
        if number < total {
            let batch = &batches[(number % batch_count) as usize];
            let request = produce(topic, [(number % partitions) as i32], batch, 1);
            wires[(number % wire_count) as usize].send(&request, PRODUCE_VERSION)?;
        }
    }
    Ok((total * BATCH_BYTES) as f64 / 1e6 / begin.elapsed().as_secs_f64())
}

/// Topics of one partition each, perhaps with a plugin bound to each.
pub struct Topics {
    units: u64,
    wire: Wire,
}

impl Topics {
    pub fn set_up(bed: &Bed, units: u64, has_plugin: bool) -> Result<Self> {
        for number in 0..units {
            let mut topic = NewTopic::new(name(number)).partitions(1);
            if has_plugin {
                topic = topic.config(Plugin::Identity.topic_setting(), Plugin::Identity.name());
            }
            bed.create_now(topic)?;
        }
        let mut wire = bed.connect()?;
        let batch = small_batch()?;
        for number in 0..units {
            write(&mut wire, &produce(&name(number), [0], &batch, 1))?;
        }
        Ok(Self { units, wire })
    }

    /// Writes a record to one topic after the other.
    pub fn write_each(&mut self, bed: &Bed, rate: u64, seconds: u64) -> Result<Option<Load>> {
        let batch = small_batch()?;
        at_rate(bed, rate, seconds, |number, due, times| {
            let topic = name(number % self.units);
            write(&mut self.wire, &produce(&topic, [0], &batch, 1))?;
            times.note(due)
        })
    }

    /// Asks for all topics.
    pub fn ask_for_all(&mut self, bed: &Bed, rate: u64, seconds: u64) -> Result<Option<Load>> {
        let request = MetadataRequest::default().with_topics(None);
        at_rate(bed, rate, seconds, |_, due, times| {
            let answer = self.wire.call(&request, METADATA)?;
            if (answer.topics.len() as u64) < self.units {
                bail!(
                    "Metadata names {} of {} topics",
                    answer.topics.len(),
                    self.units
                );
            }
            times.note(due)
        })
    }
}

fn name(number: u64) -> String {
    format!("units-{number}")
}
