//! Operations at a fixed rate, one after the other, and what they took.
//!
//! The loop is open: an operation's time counts from when it was due. One that is late because another took long has
//! waited, too.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::bed::Bed;
use crate::latency::sleep_exactly;

/// What operations took, and what they cost the broker.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Load {
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
    /// The broker's CPU time for each, in microseconds.
    pub cpu: f64,
}

/// Times of operations.
#[derive(Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    cpu_before: f64,
}

impl Times {
    /// Begins to count the broker's time.
    pub fn begin(bed: &Bed) -> Result<Self> {
        Ok(Self {
            histogram: Histogram::new(3)?,
            cpu_before: bed.cpu_seconds()?,
        })
    }

    pub fn note(&mut self, since: Instant) -> Result<()> {
        let nanoseconds = u64::try_from(since.elapsed().as_nanos())?;
        Ok(self.histogram.record(nanoseconds.max(1))?)
    }

    /// What the operations took that were noted.
    pub fn end(self, bed: &Bed) -> Result<Load> {
        let cpu = bed.cpu_seconds()? - self.cpu_before;
        let microseconds = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Load {
            p50: microseconds(0.5),
            p99: microseconds(0.99),
            cpu: cpu * 1e6 / self.histogram.len().max(1) as f64,
        })
    }
}

/// Does an operation at a rate for some seconds. It is told its number; what it notes, it notes from when it was due.
/// `None` when the rate could not be held: times would then only tell for how long it was tried.
///
/// # Errors
/// Of the operation.
pub fn at_rate(
    bed: &Bed,
    rate: u64,
    seconds: u64,
    mut operation: impl FnMut(u64, Instant, &mut Times) -> Result<()>,
) -> Result<Option<Load>> {
    sleep_exactly();
    let mut times = Times::begin(bed)?;
    let begin = Instant::now();
    let total = rate * seconds;
    for number in 0..total {
        let due = begin + Duration::from_nanos(number * 1_000_000_000 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        operation(number, due, &mut times)?;
    }
    let (planned, taken) = (Duration::from_secs(seconds), begin.elapsed());
    if taken > planned.mul_f64(1.1) {
        eprintln!(
            "overloaded: {total} operations in {planned:?} were asked for, and took {taken:?}"
        );
        return Ok(None);
    }
    times.end(bed).map(Some)
}
