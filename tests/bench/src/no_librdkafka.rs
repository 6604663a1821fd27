//! In place of `librdkafka.rs` when this bench was built without it.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::broker::Broker;
use crate::latency::{Plan, Sending, Tally};
use crate::options::{Options, Variant};
use crate::produce::Written;

const ABSENT: &str = "this bench was built without librdkafka: build it with `cargo build --release -p tidegate-bench \
                      --features librdkafka`";

/// Nobody makes one.
pub enum Reader {}

impl Reader {
    pub fn open(_: &Broker, _: &str, _: u32) -> Result<Self> {
        bail!(ABSENT)
    }

    pub fn read(self, _: u64) -> Result<Instant> {
        match self {}
    }

    pub fn read_timed(&self, _: &mut Tally) -> Result<()> {
        match *self {}
    }
}

pub async fn produce(_: &Options, _: &Variant, _: &Broker, _: &str, _: u64) -> Result<Written> {
    bail!(ABSENT)
}

pub fn send_timed(_: &Broker, _: &str, _: Plan) -> Result<Sending> {
    bail!(ABSENT)
}
