//! The table: one row a variant, the median of its rounds.

use std::time::Duration;

use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::options::Variant;

/// What one run of one variant showed; `None` where it shows nothing of the kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    pub megabytes_per_second: Option<f64>,
    pub records_per_second: Option<f64>,
    /// Microseconds.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
    /// Percentiles, and their microseconds.
    pub curve: Vec<(f64, f64)>,
    pub syncs_per_second: Option<f64>,
    pub records_per_sync: Option<f64>,
    /// Mean time of one sync, in microseconds.
    pub sync_time: Option<f64>,
    pub cpu_per_gigabyte: Option<f64>,
    pub client_cpu_per_gigabyte: Option<f64>,
    pub peak_bytes: Option<u64>,
    pub idle_bytes: Option<u64>,
    pub start: Option<Duration>,
}

/// Percentiles that a latency curve is drawn through.
const CURVE: [f64; 12] = [
    1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99,
];

/// What a histogram of nanoseconds says.
pub fn latencies(histogram: &Histogram<u64>) -> Measured {
    let at = |percentile: f64| histogram.value_at_quantile(percentile / 100.0) as f64 / 1e3;
    Measured {
        p50: Some(at(50.0)),
        p99: Some(at(99.0)),
        p999: Some(at(99.9)),
        max: Some(histogram.max() as f64 / 1e3),
        curve: CURVE
            .iter()
            .map(|percentile| (*percentile, at(*percentile)))
            .collect(),
        ..Measured::default()
    }
}

/// A column: its heading, what it shows of a run, and with how many digits behind the point.
type Column = (&'static str, fn(&Measured) -> Option<f64>, usize);

const COLUMNS: [Column; 14] = [
    ("MB/s", |run| run.megabytes_per_second, 1),
    ("records/s", |run| run.records_per_second, 0),
    ("p50 µs", |run| run.p50, 0),
    ("p99 µs", |run| run.p99, 0),
    ("p99.9 µs", |run| run.p999, 0),
    ("max µs", |run| run.max, 0),
    ("syncs/s", |run| run.syncs_per_second, 0),
    ("records/sync", |run| run.records_per_sync, 1),
    ("mean sync µs", |run| run.sync_time, 0),
    ("broker CPU s/GB", |run| run.cpu_per_gigabyte, 2),
    ("client CPU s/GB", |run| run.client_cpu_per_gigabyte, 2),
    (
        "peak MB",
        |run| run.peak_bytes.map(|bytes| bytes as f64 / 1e6),
        0,
    ),
    (
        "idle MB",
        |run| run.idle_bytes.map(|bytes| bytes as f64 / 1e6),
        1,
    ),
    (
        "start ms",
        |run| run.start.map(|start| start.as_secs_f64() * 1e3),
        0,
    ),
];

pub struct Report {
    rows: Vec<(String, Vec<Measured>)>,
}

impl Report {
    pub fn new(variants: &[Variant]) -> Self {
        let row = |variant: &Variant| (variant.to_string(), Vec::new());
        Self {
            rows: variants.iter().map(row).collect(),
        }
    }

    pub fn add(&mut self, index: usize, measured: Measured) {
        if let Some((_, runs)) = self.rows.get_mut(index) {
            runs.push(measured);
        }
    }

    pub fn print(&self, markdown: bool) {
        let mut table = Table::new();
        table.load_style(if markdown {
            presets::ASCII_MARKDOWN
        } else {
            presets::UTF8_HORIZONTAL_ONLY
        });
        let runs = || self.rows.iter().flat_map(|(_, runs)| runs);
        let columns: Vec<&Column> = COLUMNS
            .iter()
            .filter(|(_, value, _)| runs().any(|run| value(run).is_some()))
            .collect();
        let headings = columns.iter().map(|(heading, ..)| *heading);
        table.set_header(std::iter::once("run").chain(headings));
        for (name, runs) in &self.rows {
            let cells = columns.iter().map(|column| cell(column, runs));
            table.add_row(std::iter::once(name.clone()).chain(cells));
        }
        println!("{}", table.trim_fmt());
    }
}

/// The median, and the range when there were several rounds.
fn cell((_, value, digits): &Column, runs: &[Measured]) -> String {
    let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => "-".into(),
        [one] => format!("{one:.digits$}"),
        [least, .., most] => {
            let median = median(&values);
            format!("{median:.digits$} [{least:.digits$}-{most:.digits$}]")
        }
    }
}

/// Of sorted values, at least one.
pub fn median(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(values: &[f64]) -> Vec<Measured> {
        let run = |value: &f64| Measured {
            p50: Some(*value),
            ..Measured::default()
        };
        values.iter().map(run).collect()
    }

    #[test]
    fn a_cell_shows_the_median_and_its_range() {
        let column = &COLUMNS[2];
        assert_eq!(cell(column, &runs(&[])), "-");
        assert_eq!(cell(column, &runs(&[7.4])), "7");
        assert_eq!(cell(column, &runs(&[9.0, 1.0, 4.0])), "4 [1-9]");
        assert_eq!(cell(column, &runs(&[2.0, 4.0])), "3 [2-4]");
        assert_eq!(cell(&COLUMNS[0], &runs(&[1.0])), "-", "not measured");
    }
}
