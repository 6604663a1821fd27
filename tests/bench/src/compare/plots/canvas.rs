//! A sheet that is drawn on in pixels.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::servers::Name;

pub const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
pub const FAINT: RGBColor = RGBColor(0x5f, 0x66, 0x6e);
pub const GRID: RGBColor = RGBColor(0xdf, 0xe2, 0xe6);

/// A server's colour, from a palette that the colour-blind can tell apart.
pub fn colour(server: Name) -> RGBColor {
    match server {
        Name::Tidegate => RGBColor(0x00, 0x72, 0xb2),
        Name::Floor => RGBColor(0x9a, 0xa0, 0xa6),
        Name::Kafka => RGBColor(0xd5, 0x5e, 0x00),
        Name::Krabka => RGBColor(0xe6, 0x9f, 0x00),
        Name::Nats => RGBColor(0x00, 0x9e, 0x73),
        Name::Redis => RGBColor(0xcc, 0x79, 0xa7),
    }
}

/// Where a text's point lies in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    Left,
    Middle,
    Right,
}

pub struct Canvas<'c> {
    area: DrawingArea<SVGBackend<'c>, Shift>,
}

impl<'c> Canvas<'c> {
    pub fn new(file: &'c Path, width: i32, height: i32) -> Result<Self> {
        let area = SVGBackend::new(file, (width as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE).map_err(told)?;
        Ok(Self { area })
    }

    pub fn text(
        &self,
        text: &str,
        at: (i32, i32),
        (size, colour): (u32, RGBColor),
        align: Align,
    ) -> Result<()> {
        let horizontal = match align {
            Align::Left => HPos::Left,
            Align::Middle => HPos::Center,
            Align::Right => HPos::Right,
        };
        let style = ("sans-serif", size)
            .into_font()
            .color(&colour)
            .pos(Pos::new(horizontal, VPos::Center));
        self.area.draw_text(text, &style, at).map_err(told)
    }

    pub fn bold(&self, text: &str, at: (i32, i32), size: u32) -> Result<()> {
        let style = ("sans-serif", size)
            .into_font()
            .style(FontStyle::Bold)
            .color(&INK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        self.area.draw_text(text, &style, at).map_err(told)
    }

    pub fn block(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
        let shape = Rectangle::new([from, to], colour.filled());
        self.area.draw(&shape).map_err(told)
    }

    pub fn line(&self, points: Vec<(i32, i32)>, colour: RGBColor, width: u32) -> Result<()> {
        let shape = PathElement::new(points, colour.stroke_width(width));
        self.area.draw(&shape).map_err(told)
    }

    pub fn dot(&self, at: (i32, i32), colour: RGBColor) -> Result<()> {
        self.area
            .draw(&Circle::new(at, 3, colour.filled()))
            .map_err(told)
    }

    pub fn finish(self) -> Result<()> {
        self.area.present().map_err(told)
    }
}

fn told(error: impl Display) -> anyhow::Error {
    anyhow!("drawing a plot: {error}")
}

/// Round numbers from nought to at least `most`, some five of them.
pub fn ticks(most: f64) -> Vec<f64> {
    if most <= 0.0 || !most.is_finite() {
        return vec![0.0, 1.0];
    }
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let count = (most / step - 1e-9).ceil() as i32;
    (0..=count).map(|number| f64::from(number) * step).collect()
}

/// A number with as many digits as a reader needs, thousands apart.
pub fn shown(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 && whole.as_bytes()[place - 1] != b'-' {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match rest {
        Some(rest) => format!("{grouped}.{rest}"),
        None => grouped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_most() {
        assert_eq!(ticks(1720.0), [0.0, 500.0, 1000.0, 1500.0, 2000.0]);
        assert_eq!(ticks(0.5), [0.0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5]);
        assert_eq!(ticks(0.0), [0.0, 1.0]);
    }

    #[test]
    fn numbers_are_shown_as_a_reader_wants_them() {
        assert_eq!(shown(1720.4), "1,720");
        assert_eq!(shown(43.21), "43.2");
        assert_eq!(shown(0.4321), "0.43");
        assert_eq!(shown(1_234_567.0), "1,234,567");
        assert_eq!(shown(-123.0), "-123");
    }
}
