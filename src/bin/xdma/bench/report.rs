//! A page with plots, in one file.

use super::measure::Measured;
use super::{Machine, text};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use xdma::regs::Direction;

/// A line of a plot: its name, and points: the logarithm of the bytes to base 2, and a value.
type Line = (String, Vec<(f64, f64)>);

/// The page.
pub fn page(machine: &Machine, all: &[Measured]) -> Result<String> {
    let throughput = plot("Throughput by size", "MB/s", &throughput(all))?;
    let latency = plot("Latency by size, from before the submission to the completion", "µs", &latency(all))?;
    let warning = machine.warning().map(|text| format!("<p><strong>{}</strong></p>", escaped(&text)));
    Ok(format!(
        "<!doctype html><meta charset=\"utf-8\"><title>xdma bench</title>\n\
         <style>body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto }} svg {{ max-width: 100% }}</style>\n\
         <h1>Card {}</h1>\n<p>{} processors, Linux {}, load {}; {} transfers in flight for throughput, one for latency.</p>\n\
         {}\n{throughput}\n{latency}\n<pre>{}</pre>\n",
        escaped(&machine.card),
        machine.processors,
        escaped(&machine.kernel),
        machine.load,
        machine.depth,
        warning.unwrap_or_default(),
        escaped(&text(machine, all))
    ))
}

fn throughput(all: &[Measured]) -> Vec<Line> {
    lines(all, |direction, of| {
        let points = of.iter().map(|m| ((m.size as f64).log2(), m.bytes_per_second / 1e6)).collect();
        vec![(direction.to_string(), points)]
    })
}

fn latency(all: &[Measured]) -> Vec<Line> {
    lines(all, |direction, of| {
        let line = |percentile: f64| {
            let micros = |m: &Measured| m.total.value_at_percentile(percentile) as f64 / 1e3;
            let at = |m: &&Measured| ((m.size as f64).log2(), micros(m));
            (format!("{direction} p{percentile}"), of.iter().map(at).collect())
        };
        [50.0, 99.0, 99.9].map(line).into()
    })
}

/// The lines of both directions.
fn lines(all: &[Measured], each: impl Fn(Direction, &[&Measured]) -> Vec<Line>) -> Vec<Line> {
    let of = |direction| {
        let mut of: Vec<_> = all.iter().filter(|measured| measured.direction == direction).collect();
        of.sort_by_key(|measured| measured.size);
        each(direction, &of)
    };
    [Direction::H2C, Direction::C2H].into_iter().flat_map(of).collect()
}

/// Both axes are logarithmic: sizes and times span many powers.
fn plot(title: &str, unit: &str, lines: &[Line]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, unit, lines).map_err(|error| anyhow!("{title}: {error}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, title: &str, unit: &str, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, 1e-3_f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let x = range(&mut points().map(|point| point.0));
    let y = range(&mut points().map(|point| point.1.max(1e-3)));
    let area = SVGBackend::with_string(svg, (900, 420)).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(x.0 - 0.5..x.1 + 0.5, (y.0 / 1.5..y.1 * 1.5).log_scale())?;
    let bytes = |exponent: &f64| crate::number::bytes(exponent.exp2() as u64);
    let value = |value: &f64| if *value < 1.0 { value.to_string() } else { format!("{value:.0}") };
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("size").x_label_formatter(&bytes).y_desc(unit).y_label_formatter(&value).draw()?;
    for (at, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(at).to_rgba();
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
        let key = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2));
        chart.draw_series(line)?.label(name).legend(key);
    }
    let mut labels = chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
