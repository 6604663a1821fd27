//! Cost that grows as work grows: what partitions, connections, groups, members, topics, readers and plugins cost a broker,
//! one axis at a time, at several sizes.
//!
//! Every point has a fresh broker. It is given so many *units* and left alone; then its own memory and open files are read,
//! its CPU time at rest, a *probe* (the same small load at every point), the *operation* of the axis, and a scrape of its
//! metrics.

mod bed;
mod groups;
mod load;
mod partitions;
mod readers;
mod table;
mod wire;

use std::fmt;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tidegate_client::Transport;

use bed::Bed;
use groups::{Groups, Members};
use load::Load;
use partitions::{Connections, Partitions, Topics};
use readers::Readers;
use table::{Point, Series};

use crate::broker::Broker;
use crate::options::{Options, Settings};
use crate::plugins::{self, Plugin};

/// Operations a second where one is a small request.
const RATE: u64 = 500;
/// Operations a second where each is synced before anybody hears of it: a busy disk has not much more to give.
const SYNCED_RATE: u64 = 100;
/// What operations that grow with the units come to together, a second.
const UNITS_A_SECOND: u64 = 10_000;

/// What of a broker there is more and more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Axis {
    /// Partitions of one topic, with a record each
    Partitions,
    /// Open connections
    Connections,
    /// Groups of one member each
    Groups,
    /// Members of one group
    Members,
    /// Topics of one partition each
    Topics,
    /// Consumers that wait at the end of one partition
    Readers,
    /// Topics with an identity transform
    Plugins,
}

#[derive(Debug, Args)]
pub struct ScaleOptions {
    #[command(flatten)]
    pub settings: Settings,
    /// What is made more of
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "partitions,connections,groups,members,topics,readers"
    )]
    pub axes: Vec<Axis>,
    /// How many of them, the least first; by default what fits the axis
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub points: Vec<u64>,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Axis {
    fn points(self) -> &'static [u64] {
        match self {
            Self::Partitions => &[1, 10, 100, 1_000, 10_000],
            Self::Connections => &[1, 10, 100, 1_000, 5_000],
            _ => &[1, 10, 100, 1_000],
        }
    }

    /// Whether an operation is about every unit at once.
    fn concerns_all(self) -> bool {
        matches!(self, Self::Members | Self::Topics)
    }

    /// What one operation is.
    fn operation(self) -> &'static str {
        match self {
            Self::Partitions => "a record to one partition after the other",
            Self::Connections => "a record on one connection after the other",
            Self::Groups => "a commit of an offset in one group after the other",
            Self::Members => "a rebalance of the whole group",
            Self::Topics => "Metadata of all topics",
            Self::Readers => "a record to one reader",
            Self::Plugins => "a record to one topic after the other, through the transform",
        }
    }
}

/// Runs the axes that were asked for, and prints a table of each.
///
/// # Errors
/// When a broker does not start, refuses what it must take, or cannot hold a rate.
pub async fn run(options: &Options, scale: &ScaleOptions) -> Result<()> {
    for axis in &scale.axes {
        let points = if scale.points.is_empty() {
            axis.points()
        } else {
            &scale.points
        };
        let mut series = Series::new(*axis);
        for units in points {
            eprintln!("{axis}: {units}");
            let point = point(options, *axis, *units).await;
            series.add(point.with_context(|| format!("{axis}: {units}: the run is void"))?);
        }
        series.print(options.markdown);
    }
    Ok(())
}

async fn point(options: &Options, axis: Axis, units: u64) -> Result<Point> {
    let broker = Broker::open(options, Transport::Tcp).await?;
    if axis == Axis::Plugins {
        plugins::deploy(Plugin::Identity, options, &broker).await?;
    }
    let bed = Bed::make(broker).await?;
    tokio::task::spawn_blocking({
        let (seconds, megabytes) = (options.seconds, options.megabytes);
        move || measure(&bed, axis, units, (seconds, megabytes))
    })
    .await?
}

fn measure(bed: &Bed, axis: Axis, units: u64, (seconds, megabytes): (u64, u64)) -> Result<Point> {
    // What a first request costs is not the units'.
    bed.probe(RATE, 1)?;
    let empty = bed.footprint()?;
    let mut held = Held::set_up(bed, axis, units)?;
    let full = bed.footprint()?;
    let rest = bed.rest()?;
    let probe = bed.probe(RATE, seconds)?;
    let operation = held.operate(bed, units, seconds)?;
    let (scrape_ms, scrape_bytes) = bed.scrape()?;
    let throughput = held.throughput(megabytes)?;
    Ok(Point {
        units,
        memory: full.memory as f64 - empty.memory as f64,
        open_files: full.open_files as f64 - empty.open_files as f64,
        rest,
        probe,
        operation,
        throughput,
        scrape_ms,
        scrape_bytes,
    })
}

/// The units of a point, which last as long as it.
enum Held {
    Partitions(Partitions),
    Connections(Connections),
    Groups(Groups),
    Members(Members),
    Topics(Topics),
    Readers(Readers),
    Plugins(Topics),
}

impl Held {
    fn set_up(bed: &Bed, axis: Axis, units: u64) -> Result<Self> {
        Ok(match axis {
            Axis::Partitions => Self::Partitions(Partitions::set_up(bed, units)?),
            Axis::Connections => Self::Connections(Connections::set_up(bed, units)?),
            Axis::Groups => Self::Groups(Groups::set_up(bed, units)?),
            Axis::Members => Self::Members(Members::set_up(bed, units)?),
            Axis::Topics => Self::Topics(Topics::set_up(bed, units, false)?),
            Axis::Readers => Self::Readers(Readers::set_up(bed, units)?),
            Axis::Plugins => Self::Plugins(Topics::set_up(bed, units, true)?),
        })
    }

    fn operate(&mut self, bed: &Bed, units: u64, seconds: u64) -> Result<Option<Load>> {
        // Where one operation concerns every unit, fewer of them do.
        let shared = (UNITS_A_SECOND / units).clamp(5, SYNCED_RATE);
        match self {
            Self::Partitions(held) => held.operate(bed, RATE, seconds),
            Self::Connections(held) => held.operate(bed, RATE, seconds),
            Self::Groups(held) => held.operate(bed, SYNCED_RATE, seconds),
            Self::Members(held) => held.operate(bed, seconds),
            Self::Topics(held) => held.ask_for_all(bed, shared, seconds),
            Self::Readers(held) => held.operate(bed, shared, seconds),
            Self::Plugins(held) => held.write_each(bed, RATE, seconds),
        }
    }

    /// Where how much can be written is a question of the axis.
    fn throughput(&mut self, megabytes: u64) -> Result<Option<f64>> {
        match self {
            Self::Partitions(held) => held.throughput(megabytes).map(Some),
            Self::Connections(held) => held.throughput(megabytes).map(Some),
            _ => Ok(None),
        }
    }
}
