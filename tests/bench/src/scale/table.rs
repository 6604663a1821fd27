//! One table an axis: a row for each point, what a unit adds, and what bends first.

use comfy_table::{Table, presets};

use super::Axis;
use super::load::Load;

/// A figure bends when it is this multiple of the least that it was with fewer units.
const BEND: f64 = 2.0;

/// What one size of an axis showed.
#[derive(Clone, Debug)]
pub struct Point {
    pub units: u64,
    /// Bytes and open files that came with the units.
    pub memory: f64,
    pub open_files: f64,
    /// CPU time without any request, in milliseconds a second.
    pub rest: f64,
    /// `None` where the rate was not held.
    pub probe: Option<Load>,
    /// As `probe`.
    pub operation: Option<Load>,
    /// Megabytes a second.
    pub throughput: Option<f64>,
    pub scrape_ms: f64,
    pub scrape_bytes: usize,
}

/// A column: its heading, what it shows, and with how many digits behind the point.
type Column = (&'static str, fn(&Point) -> Option<f64>, usize);

const COLUMNS: [Column; 12] = [
    ("own memory KB", |point| Some(point.memory / 1e3), 0),
    ("open files", |point| Some(point.open_files), 0),
    ("CPU at rest ms/s", |point| Some(point.rest), 1),
    ("probe p50 µs", |point| point.probe.map(|load| load.p50), 0),
    ("probe p99 µs", |point| point.probe.map(|load| load.p99), 0),
    ("probe CPU µs", |point| point.probe.map(|load| load.cpu), 1),
    (
        "operation p50 µs",
        |point| point.operation.map(|load| load.p50),
        0,
    ),
    (
        "operation p99 µs",
        |point| point.operation.map(|load| load.p99),
        0,
    ),
    (
        "operation CPU µs",
        |point| point.operation.map(|load| load.cpu),
        1,
    ),
    ("MB/s", |point| point.throughput, 0),
    ("scrape ms", |point| Some(point.scrape_ms), 1),
    (
        "scrape KB",
        |point| Some(point.scrape_bytes as f64 / 1e3),
        0,
    ),
];

/// Figures that stay as they are where units cost nothing but memory. Not the 99th percentile: what a few seconds show of
/// that is the machine's scheduler before it is the units.
const FLAT: [&str; 4] = [
    "probe p50 µs",
    "probe CPU µs",
    "operation p50 µs",
    "operation CPU µs",
];

/// The points of one axis, the fewest units first.
#[derive(Debug)]
pub struct Series {
    axis: Axis,
    points: Vec<Point>,
}

impl Series {
    pub fn new(axis: Axis) -> Self {
        Self {
            axis,
            points: Vec::new(),
        }
    }

    pub fn add(&mut self, point: Point) {
        self.points.push(point);
    }

    pub fn print(&self, markdown: bool) {
        let mut table = Table::new();
        table.load_style(if markdown {
            presets::ASCII_MARKDOWN
        } else {
            presets::UTF8_HORIZONTAL_ONLY
        });
        let columns = || {
            COLUMNS
                .iter()
                .filter(|(_, value, _)| self.points.iter().any(|point| value(point).is_some()))
        };
        table.set_header(
            std::iter::once(self.axis.to_string())
                .chain(columns().map(|(heading, ..)| (*heading).to_owned())),
        );
        for point in &self.points {
            let cells = columns().map(|(_, value, digits)| {
                value(point).map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            });
            table.add_row(std::iter::once(point.units.to_string()).chain(cells));
        }
        let slopes = columns().map(|(_, value, _)| {
            self.slope(*value)
                .map_or_else(|| "-".to_owned(), significant)
        });
        table.add_row(std::iter::once("each more".to_owned()).chain(slopes));
        println!(
            "\nThe operation is {}.\n\n{}\n\n{}",
            self.axis.operation(),
            table.trim_fmt(),
            self.bend()
        );
    }

    /// What one more unit adds, from the fewest to the most.
    fn slope(&self, value: impl Fn(&Point) -> Option<f64>) -> Option<f64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        if first.units == last.units {
            return None;
        }
        Some((value(last)? - value(first)?) / (last.units as f64 - first.units as f64))
    }

    /// Which figures bend and with how many units, the first first. An operation that concerns every unit is taken for each.
    fn bend(&self) -> String {
        let flat = COLUMNS
            .iter()
            .filter(|(heading, ..)| FLAT.contains(heading));
        let bends = flat.filter_map(|(heading, value, _)| {
            let for_each = self.axis.concerns_all() && heading.starts_with("operation");
            let mut least = f64::INFINITY;
            for point in &self.points {
                let shared = if for_each { point.units as f64 } else { 1.0 };
                let Some(now) = value(point).map(|value| value / shared) else {
                    continue;
                };
                if now >= BEND * least {
                    return Some((point.units, *heading));
                }
                least = least.min(now);
            }
            None
        });
        let mut bends: Vec<_> = bends.collect();
        bends.sort_by_key(|(units, _)| *units);
        let told = bends
            .iter()
            .map(|(units, heading)| format!("{heading} by {units}"));
        let told: Vec<_> = told.collect();
        let shared = match self.axis.concerns_all() {
            true => " (of an operation: for each unit)",
            false => "",
        };
        match told.is_empty() {
            true => format!(
                "Nothing bends: no median and no CPU time{shared} is {BEND} times what it was with fewer."
            ),
            false => format!(
                "At {BEND} times what it was with fewer{shared}: {}.",
                told.join(", ")
            ),
        }
    }
}

/// Three digits that count.
fn significant(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        some if some >= 1.0 => 2,
        small if small >= 0.001 => 4,
        _ => 6,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(axis: Axis, costs: &[(u64, f64)]) -> Series {
        let mut series = Series::new(axis);
        for (units, cost) in costs {
            let load = |cpu| Load {
                p50: 100.0,
                p99: 200.0,
                cpu,
            };
            series.add(Point {
                units: *units,
                memory: *units as f64 * 1000.0,
                open_files: 0.0,
                rest: 0.0,
                probe: Some(load(50.0)),
                operation: Some(load(*cost)),
                throughput: None,
                scrape_ms: 1.0,
                scrape_bytes: 1000,
            });
        }
        series
    }

    #[test]
    fn a_slope_is_what_each_more_adds() {
        let slope = series(Axis::Groups, &[(1, 10.0), (101, 60.0)])
            .slope(|point| point.operation.map(|load| load.cpu));
        assert_eq!(slope, Some(0.5));
        assert_eq!(
            series(Axis::Groups, &[(1, 10.0)]).slope(|point| Some(point.memory)),
            None
        );
    }

    #[test]
    fn what_has_doubled_first_bends_first() {
        let bent = series(Axis::Groups, &[(1, 10.0), (10, 19.0), (100, 20.0)]).bend();
        assert_eq!(
            bent,
            "At 2 times what it was with fewer: operation CPU µs by 100."
        );
        let flat = series(Axis::Groups, &[(1, 10.0), (100, 19.0)]).bend();
        assert!(flat.starts_with("Nothing bends"), "{flat}");
    }

    #[test]
    fn what_concerns_every_unit_is_taken_for_each() {
        let linear = series(Axis::Topics, &[(1, 10.0), (10, 60.0), (100, 900.0)]).bend();
        assert!(linear.starts_with("Nothing bends"), "{linear}");
        let more = series(Axis::Topics, &[(1, 10.0), (10, 60.0), (100, 1_200.0)]).bend();
        assert!(more.ends_with("operation CPU µs by 100."), "{more}");
    }
}
