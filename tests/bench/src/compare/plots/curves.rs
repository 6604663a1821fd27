//! Latency over its percentiles: the further to the right, the rarer; both axes are logarithmic, so that the last thousandth shows.

use std::path::Path;

use anyhow::Result;

use super::canvas::{Align, Canvas, FAINT, GRID, INK, colour};
use crate::servers::Name;

const WIDTH: i32 = 960;
const HEIGHT: i32 = 500;
const LEFT: i32 = 90;
const RIGHT: i32 = 110;
const TOP: i32 = 84;
const BOTTOM: i32 = 60;
const PERCENTILES: [f64; 6] = [1.0, 50.0, 90.0, 99.0, 99.9, 99.99];
/// Round values of a decade.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
/// Of two logarithms that are meant to be the same.
const NEAR: f64 = 1e-9;
/// Labels of lines that end near each other are kept this far apart.
const LABEL: i32 = 18;

/// Percentiles and their microseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct Curve {
    pub server: Name,
    pub points: Vec<(f64, f64)>,
}

/// `absent` names those that have no curve.
pub fn draw(file: &Path, title: &str, curves: &[Curve], absent: &str) -> Result<()> {
    let canvas = Canvas::new(file, WIDTH, HEIGHT)?;
    canvas.bold(title, (20, 24), 20)?;
    let unit = "µs from the time a record was due until the consumer had it, less is better";
    canvas.text(unit, (20, 48), (15, FAINT), Align::Left)?;
    let values = || {
        curves
            .iter()
            .flat_map(|curve| curve.points.iter().map(|(_, value)| *value))
    };
    let (least, most) = ends(
        values().fold(f64::MAX, f64::min),
        values().fold(1.0, f64::max),
    );
    let plot = f64::from(HEIGHT - TOP - BOTTOM);
    let y = |value: f64| {
        HEIGHT - BOTTOM - ((decade(value.max(1.0)) - least) / (most - least) * plot) as i32
    };
    axes(&canvas, (least, most), y)?;
    canvas.text(absent, (WIDTH - RIGHT, TOP - 14), (14, FAINT), Align::Right)?;
    for curve in curves {
        let points: Vec<(i32, i32)> = curve
            .points
            .iter()
            .map(|(percentile, value)| (x(*percentile), y(*value)))
            .collect();
        for point in &points {
            canvas.dot(*point, colour(curve.server))?;
        }
        let width = if curve.server == Name::Tidegate { 3 } else { 2 };
        canvas.line(points, colour(curve.server), width)?;
    }
    let ends = curves.iter().filter_map(|curve| {
        let (_, value) = curve.points.last()?;
        Some((curve.server, y(*value)))
    });
    for (server, at) in apart(ends.collect()) {
        canvas.text(
            server.title(),
            (WIDTH - RIGHT + 10, at),
            (15, colour(server)),
            Align::Left,
        )?;
    }
    canvas.finish()
}

fn axes(canvas: &Canvas, (least, most): (f64, f64), y: impl Fn(f64) -> i32) -> Result<()> {
    canvas.text("µs", (LEFT - 8, TOP - 18), (14, INK), Align::Right)?;
    for power in least.floor() as i32..=most.ceil() as i32 {
        for step in STEPS {
            let value = step * 10_f64.powi(power);
            if decade(value) > most + NEAR || decade(value) < least - NEAR {
                continue;
            }
            let at = y(value);
            canvas.line(vec![(LEFT, at), (WIDTH - RIGHT, at)], GRID, 1)?;
            let text = super::canvas::shown(value);
            let text = text.trim_end_matches('0').trim_end_matches('.');
            let text = if value >= 100.0 {
                super::canvas::shown(value)
            } else {
                text.to_owned()
            };
            canvas.text(&text, (LEFT - 8, at), (14, FAINT), Align::Right)?;
        }
    }
    for percentile in PERCENTILES {
        let at = x(percentile);
        canvas.line(vec![(at, TOP), (at, HEIGHT - BOTTOM)], GRID, 1)?;
        let text = format!("p{percentile}");
        canvas.text(
            &text,
            (at, HEIGHT - BOTTOM + 14),
            (14, FAINT),
            Align::Middle,
        )?;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2;
    canvas.text(
        "percentile of records",
        (middle, HEIGHT - 20),
        (14, INK),
        Align::Middle,
    )
}

/// Where the axis begins and ends, in decades: the next round values.
fn ends(least: f64, most: f64) -> (f64, f64) {
    let rounds = || (0..=8).flat_map(|power| STEPS.map(|step| decade(step) + f64::from(power)));
    let (least, most) = (decade(least.max(1.0)), decade(most.max(1.0)));
    let first = rounds().rfind(|round| *round <= least + NEAR);
    let last = rounds().find(|round| *round >= most - NEAR);
    let first = first.unwrap_or(0.0);
    (first, last.unwrap_or(9.0).max(first + 1.0))
}

fn decade(value: f64) -> f64 {
    value.log10()
}

/// One step for each nine.
fn x(percentile: f64) -> i32 {
    let nines = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let (first, last) = (nines(PERCENTILES[0]), nines(PERCENTILES[5]));
    let share = (nines(percentile) - first) / (last - first);
    LEFT + (share * f64::from(WIDTH - LEFT - RIGHT)) as i32
}

/// Moves labels down until none covers another.
fn apart(mut ends: Vec<(Name, i32)>) -> Vec<(Name, i32)> {
    ends.sort_by_key(|(_, at)| *at);
    for place in 1..ends.len() {
        ends[place].1 = ends[place].1.max(ends[place - 1].1 + LABEL);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_cover_each_other() {
        let ends = vec![(Name::Kafka, 101), (Name::Tidegate, 100), (Name::Nats, 300)];
        assert_eq!(
            apart(ends),
            [(Name::Tidegate, 100), (Name::Kafka, 118), (Name::Nats, 300)]
        );
    }

    #[test]
    fn the_axis_ends_at_round_values() {
        let (least, most) = ends(130.0, 4_100.0);
        assert!((least - 2.0).abs() < 1e-6 && (most - 5_000_f64.log10()).abs() < 1e-6);
        let (least, most) = ends(100.0, 150.0);
        assert!((most - least - 1.0).abs() < 1e-6, "a decade at least");
    }

    #[test]
    fn each_nine_is_a_step() {
        assert_eq!(x(1.0), LEFT);
        assert_eq!(x(99.99), WIDTH - RIGHT);
        let (nine, two, three) = (x(90.0), x(99.0), x(99.9));
        assert!(((three - two) - (two - nine)).abs() <= 1);
    }
}
