//! A plot as SVG, with the legend as HTML above it, where it cannot cover the lines.

use super::axis::{Axis, Unit};
use super::escaped;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Size in pixels, before the browser scales the plot.
const SIZE: (u32, u32) = (640, 380);
/// Placeholders. The page's style sheet replaces them with colours that suit a light or dark background.
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// Colours of categories. The style sheet has a dark variant of each.
pub const CATEGORIES: [RGBColor; 4] =
    [RGBColor(0, 0x72, 0xb2), RGBColor(0xd5, 0x5e, 0), RGBColor(0, 0x8a, 0x64), RGBColor(0x93, 0x3d, 0xa8)];
/// Colours of values in an order. The style sheet has a dark variant of each.
pub const SEQUENCE: [RGBColor; 8] = [
    RGBColor(0x3b, 0x0f, 0x70),
    RGBColor(0x3f, 0x4b, 0x9b),
    RGBColor(0x2a, 0x78, 0x8e),
    RGBColor(0x1b, 0x9e, 0x77),
    RGBColor(0x66, 0xa6, 0x1e),
    RGBColor(0xc4, 0x9a, 0x00),
    RGBColor(0xe6, 0x6b, 0x01),
    RGBColor(0xb2, 0x18, 0x2b),
];

/// A plot.
pub struct Chart {
    pub title: &'static str,
    /// Explanation for the reader.
    pub note: String,
    pub x: (&'static str, Unit),
    pub y: (&'static str, Unit),
    pub lines: Vec<Line>,
}

/// A line through points, in ascending order of `x`.
pub struct Line {
    pub name: String,
    pub colour: RGBColor,
    /// Whether the line is dashed, as for the baseline of a comparison.
    pub dashed: bool,
    /// Whether each point has a mark, as for measured values.
    pub marks: bool,
    pub points: Vec<Point>,
}

/// A point, and the lowest and highest value of `y` over the rounds.
#[derive(Clone, Copy)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub range: Option<(f64, f64)>,
}

impl Chart {
    /// Returns the plot as an HTML figure, or an empty string if there are no points.
    pub fn html(&self) -> Result<String> {
        if self.lines.iter().all(|line| line.points.is_empty()) {
            return Ok(String::new());
        }
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| anyhow!("{}: {error}", self.title))?;
        let keys = self.lines.iter().filter(|line| !line.points.is_empty()).map(|line| {
            let style = if line.dashed { "dashed" } else { "solid" };
            let RGBColor(r, g, b) = line.colour;
            let key = format!(
                "<svg width=\"24\" height=\"8\"><line x1=\"0\" y1=\"4\" x2=\"24\" y2=\"4\" stroke=\"#{r:02X}{g:02X}{b:02X}\" \
                 class=\"{style}\"/></svg>"
            );
            format!("<span class=\"key\">{key}{}</span>", escaped(&line.name))
        });
        Ok(format!(
            "<figure>\n<figcaption><h3>{}</h3><p>{}</p></figcaption>\n<div class=\"keys\">{}</div>\n{svg}\n</figure>\n",
            escaped(self.title),
            escaped(&self.note),
            keys.collect::<String>()
        ))
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::new(self.x.1, points().map(|point| point.x));
        let heights = points().flat_map(|point| {
            let (low, high) = point.range.unwrap_or((point.y, point.y));
            [low, point.y, high]
        });
        let y = Axis::new(self.y.1, heights);
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(48)
            .y_label_area_size(100)
            .build_cartesian_2d(x.clone(), y.clone())?;
        let label = ("sans-serif", 16).into_font().color(&INK);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(label.clone())
            .x_desc(self.x.0)
            .y_desc(self.y.0)
            .axis_desc_style(label.pos(Pos::new(HPos::Center, VPos::Center)))
            .draw()?;
        let middle = (self.lines.len() as f64 - 1.0) / 2.0;
        for (at, line) in self.lines.iter().enumerate() {
            let offset = x.line_offset() * (at as f64 - middle);
            let x = |point: &Point| x.position(point.x) + offset;
            let positions: Vec<_> = line.points.iter().map(|at| (x(at), y.position(at.y))).collect();
            let style = line.colour.stroke_width(2);
            if line.dashed {
                chart.draw_series(DashedLineSeries::new(positions.clone(), 7, 5, style))?;
            } else {
                chart.draw_series(LineSeries::new(positions.clone(), style))?;
            }
            let ranges = line.points.iter().filter_map(|at| Some((x(at), at.range?)));
            chart.draw_series(ranges.map(|(at, (low, high))| {
                PathElement::new([(at, y.position(low)), (at, y.position(high))], line.colour.stroke_width(1))
            }))?;
            if line.marks {
                let fill = line.colour.filled();
                chart.draw_series(positions.into_iter().map(|position| Circle::new(position, 3, fill)))?;
            }
        }
        area.present()?;
        Ok(())
    }
}
