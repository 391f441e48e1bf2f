//! A plot as SVG, with the name of each line at its end.

use super::axis::{Axis, Unit};
use super::escaped;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Size in pixels, before the browser scales the plot.
const SIZE: (u32, u32) = (640, 380);
/// Distance of the names of two lines, in pixels.
const LABEL_HEIGHT: i32 = 16;
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
    /// A limit of `y` and its name.
    pub limit: Option<(String, f64)>,
    /// Further values that fit on the axis of `y`, so that two plots have the same axis.
    pub also: Vec<f64>,
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
        Ok(format!(
            "<figure>\n<figcaption><h3>{}</h3><p>{}</p></figcaption>\n{svg}\n</figure>\n",
            escaped(self.title),
            escaped(&self.note),
        ))
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::new(self.x.1, points().map(|point| point.x));
        let heights = points().flat_map(|point| {
            let (low, high) = point.range.unwrap_or((point.y, point.y));
            [low, point.y, high]
        });
        let limit = self.limit.iter().map(|(_, value)| *value);
        let y = Axis::new(self.y.1, heights.chain(limit).chain(self.also.iter().copied()));
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(self.label_width())
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
        if let Some((name, value)) = &self.limit {
            let (ends, at) = (x.range(), y.position(*value));
            let line = [(ends.start, at), (ends.end, at)];
            chart.draw_series(DashedLineSeries::new(line, 3, 4, INK.stroke_width(1)))?;
            let style = ("sans-serif", 14).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Bottom));
            chart.draw_series([Text::new(name.clone(), (ends.start, at), style)])?;
        }
        let mut labels = vec![];
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
                chart
                    .draw_series(positions.iter().copied().map(|position| Circle::new(position, 3, fill)))?;
            }
            labels.extend(positions.last().map(|end| (chart.backend_coord(end), line)));
        }
        labels.sort_by_key(|((_, y), _)| *y);
        let heights = spread(labels.iter().map(|((_, y), _)| *y).collect(), LABEL_HEIGHT, SIZE.1 as i32 - 60);
        for (((x, _), line), y) in labels.into_iter().zip(heights) {
            let style = ("sans-serif", 15).into_font().color(&line.colour);
            area.draw_text(&line.name, &style.pos(Pos::new(HPos::Left, VPos::Center)), (x + 8, y))?;
        }
        area.present()?;
        Ok(())
    }

    /// Returns the width of the names of the lines.
    fn label_width(&self) -> u32 {
        let longest = self.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        16 + 9 * longest as u32
    }
}

/// Moves labels at ascending heights apart, so that they do not overlap, and up from the bottom.
fn spread(mut heights: Vec<i32>, gap: i32, bottom: i32) -> Vec<i32> {
    for at in 1..heights.len() {
        heights[at] = heights[at].max(heights[at - 1] + gap);
    }
    let mut limit = bottom;
    for height in heights.iter_mut().rev() {
        *height = (*height).min(limit);
        limit = *height - gap;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_overlap() {
        assert_eq!(spread(vec![10, 12, 13, 100], 16, 300), [10, 26, 42, 100]);
        assert_eq!(spread(vec![290, 295, 299], 16, 300), [268, 284, 300]);
        assert_eq!(spread(vec![], 16, 300), [0; 0]);
    }
}
