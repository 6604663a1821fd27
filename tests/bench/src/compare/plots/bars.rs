//! Bars: a panel for each case, in it a bar for each server, with the range of its rounds as a thin line.

use std::path::Path;

use anyhow::Result;

use super::canvas::{Align, Canvas, FAINT, GRID, INK, colour, shown, ticks};
use crate::compare::results::Spread;
use crate::servers::Name;

const WIDTH: i32 = 960;
const LEFT: i32 = 110;
const RIGHT: i32 = 130;
const TOP: i32 = 64;
const BOTTOM: i32 = 56;
const ROW: i32 = 22;
const BAR: i32 = 15;
const HEADING: i32 = 28;
const GAP: i32 = 12;

#[derive(Clone, PartialEq, Debug)]
pub struct Bar {
    pub server: Name,
    /// Or why there is no figure, in a word or two.
    pub spread: Result<Spread, &'static str>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Panel {
    pub title: String,
    pub bars: Vec<Bar>,
}

impl Panel {
    fn height(&self) -> i32 {
        HEADING + self.bars.len() as i32 * ROW + GAP
    }
}

pub fn draw(file: &Path, title: &str, unit: &str, panels: &[Panel]) -> Result<()> {
    let plot: i32 = panels.iter().map(Panel::height).sum();
    let height = TOP + plot + BOTTOM;
    let canvas = Canvas::new(file, WIDTH, height)?;
    canvas.bold(title, (20, 24), 20)?;
    let spreads = || {
        let bars = panels.iter().flat_map(|panel| &panel.bars);
        bars.filter_map(|bar| bar.spread.as_ref().ok())
    };
    let ranges = match spreads().any(|spread| spread.least < spread.most) {
        true => "; medians of the rounds, each with a line from the least to the most",
        false => "",
    };
    let below = format!("{unit}{ranges}");
    canvas.text(&below, (20, 48), (15, FAINT), Align::Left)?;
    let most = spreads().map(|spread| spread.most).fold(0.0, f64::max);
    let ticks = ticks(most);
    let end = ticks.last().copied().unwrap_or(1.0);
    let x = |value: f64| LEFT + (value / end * f64::from(WIDTH - LEFT - RIGHT)) as i32;
    axis(&canvas, &ticks, x, (TOP, TOP + plot), unit)?;
    let mut y = TOP;
    for panel in panels {
        // The heading covers the grid, which would run through its letters.
        canvas.block(
            (LEFT - 4, y),
            (WIDTH - 4, y + HEADING - 2),
            plotters::style::WHITE,
        )?;
        canvas.bold(&panel.title, (LEFT, y + HEADING / 2 + 1), 16)?;
        y += HEADING;
        for bar in &panel.bars {
            row(&canvas, bar, x, y)?;
            y += ROW;
        }
        y += GAP;
    }
    canvas.finish()
}

fn axis(
    canvas: &Canvas,
    ticks: &[f64],
    x: impl Fn(f64) -> i32,
    (top, bottom): (i32, i32),
    unit: &str,
) -> Result<()> {
    for tick in ticks {
        let at = x(*tick);
        canvas.line(vec![(at, top), (at, bottom)], GRID, 1)?;
        canvas.text(&shown(*tick), (at, bottom + 14), (14, FAINT), Align::Middle)?;
    }
    canvas.line(vec![(x(0.0), top), (x(0.0), bottom)], FAINT, 1)?;
    let (name, _) = unit.split_once(',').unwrap_or((unit, ""));
    let middle = (x(0.0) + x(ticks.last().copied().unwrap_or(1.0))) / 2;
    canvas.text(name, (middle, bottom + 36), (14, INK), Align::Middle)
}

fn row(canvas: &Canvas, bar: &Bar, x: impl Fn(f64) -> i32, y: i32) -> Result<()> {
    let middle = y + ROW / 2;
    let top = middle - BAR / 2;
    canvas.text(
        bar.server.title(),
        (LEFT - 10, middle),
        (15, INK),
        Align::Right,
    )?;
    let Spread {
        median,
        least,
        most,
    } = match bar.spread {
        Ok(spread) => spread,
        Err(why) => return canvas.text(why, (LEFT + 8, middle), (14, FAINT), Align::Left),
    };
    let end = x(median).max(LEFT + 1);
    canvas.block((LEFT, top), (end, top + BAR), colour(bar.server))?;
    let mut label = end;
    if most > least {
        canvas.line(vec![(x(least), middle), (x(most), middle)], INK, 1)?;
        for value in [least, most] {
            let at = x(value);
            canvas.line(vec![(at, middle - 4), (at, middle + 4)], INK, 1)?;
        }
        label = label.max(x(most));
    }
    canvas.text(&shown(median), (label + 8, middle), (15, INK), Align::Left)
}
