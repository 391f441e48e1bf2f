//! A plot as SVG, with the name of each line at its end.

use super::axis::{Axis, Unit};
use super::escaped;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::io;
use std::iter::repeat_n;
use std::ops::Range;

/// Size in pixels, before the browser scales the plot.
const SIZE: (u32, u32) = (640, 380);
/// Minimum distance between the names of two lines, in pixels.
const NAME_HEIGHT: i32 = 16;
/// Width of the leaders between the plot and the names, in pixels.
const LEADER: u32 = 24;
/// The name of [`Chart::limit`].
const LIMIT_NAME: &str = "limit";
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
    /// A limit of `y`, which `note` explains.
    pub limit: Option<f64>,
    /// Further points that the axes must include, so that two plots have the same axes.
    pub also: Vec<(f64, f64)>,
}

type Plot<'p, 's> = ChartContext<'p, SVGBackend<'s>, Cartesian2d<Axis, Axis>>;
type DrawError = DrawingAreaErrorKind<io::Error>;

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
        let also = || self.also.iter().copied();
        let x = Axis::new(self.x.1, points().map(|point| point.x).chain(also().map(|(x, _)| x)));
        let heights = points().flat_map(|point| {
            let (low, high) = point.range.unwrap_or((point.y, point.y));
            [low, point.y, high]
        });
        let y = Axis::new(self.y.1, heights.chain(self.limit).chain(also().map(|(_, y)| y)));
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut plot = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(self.name_width() + LEADER)
            .x_label_area_size(48)
            .y_label_area_size(100)
            .build_cartesian_2d(x.clone(), y.clone())?;
        let label = ("sans-serif", 16).into_font().color(&INK);
        plot.configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(label.clone())
            .x_desc(self.x.0)
            .y_desc(self.y.0)
            .axis_desc_style(label.pos(Pos::new(HPos::Center, VPos::Center)))
            .draw()?;
        let mut ends = vec![];
        if let Some(value) = self.limit {
            let (left, right, at) = (x.range().start, x.range().end, y.position(value));
            plot.draw_series(DashedLineSeries::new([(left, at), (right, at)], 3, 4, INK.stroke_width(1)))?;
            ends.push((plot.backend_coord(&(right, at)), LIMIT_NAME, INK));
        }
        let middle = (self.lines.len() as f64 - 1.0) / 2.0;
        for (at, line) in self.lines.iter().enumerate() {
            let offset = x.line_offset() * (at as f64 - middle);
            let end = line.draw(&mut plot, |value| x.position(value) + offset, |value| y.position(value))?;
            ends.extend(end.map(|end| (end, line.name.as_str(), line.colour)));
        }
        let (right, heights) = plot.plotting_area().get_pixel_range();
        draw_names(&area, ends, right.end, heights)?;
        area.present()?;
        Ok(())
    }

    /// Returns the width of the longest name of a line.
    fn name_width(&self) -> u32 {
        let limit = self.limit.map(|_| LIMIT_NAME);
        let names = self.lines.iter().map(|line| line.name.as_str()).chain(limit);
        8 + 9 * names.map(|name| name.chars().count()).max().unwrap_or(0) as u32
    }
}

impl Line {
    /// Draws the line. `x` and `y` convert values to positions. Returns where the line ends, in pixels.
    fn draw<'a>(
        &self,
        plot: &mut Plot<'_, 'a>,
        x: impl Fn(f64) -> f64,
        y: impl Fn(f64) -> f64,
    ) -> Result<Option<(i32, i32)>, DrawError> {
        let positions: Vec<_> = self.points.iter().map(|at| (x(at.x), y(at.y))).collect();
        let style = self.colour.stroke_width(2);
        if self.dashed {
            plot.draw_series(DashedLineSeries::new(positions.clone(), 7, 5, style))?;
        } else {
            plot.draw_series(LineSeries::new(positions.clone(), style))?;
        }
        let ranges = self.points.iter().filter_map(|at| Some((x(at.x), at.range?)));
        plot.draw_series(ranges.map(|(at, (low, high))| {
            PathElement::new([(at, y(low)), (at, y(high))], self.colour.stroke_width(1))
        }))?;
        if self.marks {
            let fill = self.colour.filled();
            plot.draw_series(positions.iter().copied().map(|position| Circle::new(position, 3, fill)))?;
        }
        Ok(positions.last().map(|end| plot.backend_coord(end)))
    }
}

/// Writes the names of lines in a column to the right of the plot, whose area ends at `right` and has these `heights`. A thin leader
/// connects each name with the end of its line. No line reaches the column, so no name lies on a line.
fn draw_names<'a>(
    area: &DrawingArea<SVGBackend<'a>, Shift>,
    mut ends: Vec<((i32, i32), &str, RGBColor)>,
    right: i32,
    heights: Range<i32>,
) -> Result<(), DrawError> {
    ends.sort_by_key(|((_, y), ..)| *y);
    let column = right + LEADER as i32;
    let placed = spread(ends.iter().map(|((_, y), ..)| *y), heights);
    for (((x, y), name, colour), height) in ends.into_iter().zip(placed) {
        let leader = [(x, y), (right, y), (column - 4, height)];
        area.draw(&PathElement::new(leader, colour.mix(0.4).stroke_width(1)))?;
        let style = ("sans-serif", 15).into_font().color(&colour);
        area.draw_text(name, &style.pos(Pos::new(HPos::Left, VPos::Center)), (column, height))?;
    }
    Ok(())
}

/// Returns the heights for names of lines that end at the ascending heights `ends`: in the same order, at least [`NAME_HEIGHT`]
/// apart, inside `range`, and as near to the ends as this permits.
fn spread(ends: impl IntoIterator<Item = i32>, range: Range<i32>) -> Vec<i32> {
    // Groups of names without gaps. For each: the sum, over its members, of the height of the first of all names that would place the
    // member at its end; and the number of members.
    let mut groups: Vec<(i32, i32)> = vec![];
    for (at, end) in (0..).zip(ends) {
        let mut last = (end - at * NAME_HEIGHT, 1);
        while let Some((sum, count)) = groups.pop_if(|(sum, count)| *sum * last.1 >= last.0 * *count) {
            last = (sum + last.0, count + last.1);
        }
        groups.push(last);
    }
    let firsts = groups.iter().flat_map(|(sum, count)| repeat_n(sum / count, *count as usize));
    let count = firsts.clone().count() as i32;
    let lowest = (range.end - (count - 1) * NAME_HEIGHT).max(range.start);
    (0..).zip(firsts).map(|(at, first)| first.clamp(range.start, lowest) + at * NAME_HEIGHT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_near_to_the_ends_as_possible() {
        assert_eq!(spread([10, 50, 100], 0..300), [10, 50, 100]);
        assert_eq!(spread([100, 100], 0..300), [92, 108]);
        assert_eq!(spread([100, 101, 102, 110], 0..300), [79, 95, 111, 127]);
        assert_eq!(spread([290, 295, 299], 0..300), [268, 284, 300]);
        assert_eq!(spread([0, 1], 0..300), [0, 16]);
        assert_eq!(spread([], 0..300), [0; 0]);
    }

    /// Returns an attribute of an SVG element as numbers.
    fn numbers(element: &str, name: &str) -> Vec<i32> {
        let value = element.split_once(&format!(" {name}=\"")).map_or("", |(_, rest)| rest);
        let value = value.split('"').next().unwrap_or_default();
        value.split([' ', ',']).filter_map(|number| number.parse().ok()).collect()
    }

    /// In many plots with lines that end anywhere, also above each other, no name touches a line or another name.
    #[test]
    fn names_lie_neither_on_lines_nor_on_each_other() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..300 {
            let lines: Vec<_> = SEQUENCE[..1 + random(8) as usize]
                .iter()
                .map(|colour| {
                    let height = 10f64.powi(random(8) as i32);
                    let end = 1 + random(20);
                    let point = |x| Point { x: x as f64 * 5.0, y: height * (1.0 + x as f64), range: None };
                    let name = "256 MiB, before".into();
                    Line {
                        name,
                        colour: *colour,
                        dashed: round % 2 == 0,
                        marks: true,
                        points: (0..end).map(point).collect(),
                    }
                })
                .collect();
            let count = lines.len() + 1;
            let (x, y) = (("percentile", Unit::Percentile), ("latency", Unit::Time));
            let limit = Some(10f64.powi(random(8) as i32));
            let chart = Chart { title: "", note: String::new(), x, y, lines, limit, also: vec![] };
            let mut svg = String::new();
            chart.draw(&mut svg).unwrap();
            let elements: Vec<_> = svg.split('<').collect();
            let is_name =
                |text: &&&str| text.ends_with("before\n") || text.ends_with(&format!("{LIMIT_NAME}\n"));
            let names: Vec<_> = elements
                .iter()
                .filter(|element| element.starts_with("text"))
                .filter(is_name)
                .map(|text| (numbers(text, "x")[0], numbers(text, "y")[0]))
                .collect();
            assert_eq!(names.len(), count, "{svg}");
            for (at, (x, y)) in names.iter().enumerate() {
                assert!((8..SIZE.1 as i32 - 8).contains(y) && *x < SIZE.0 as i32, "{svg}");
                assert!(names[..at].iter().all(|(_, other)| (y - other).abs() >= NAME_HEIGHT), "{svg}");
                for line in elements.iter().filter(|element| element.starts_with("polyline")) {
                    let right = numbers(line, "points").into_iter().step_by(2).max();
                    assert!(right.is_some_and(|right| right < *x), "{svg}");
                }
            }
        }
    }
}
