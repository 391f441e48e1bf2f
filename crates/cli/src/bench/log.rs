//! The histograms as an HdrHistogram interval log.

use super::measure::{Figure, LatencyFigure};
use anyhow::{Context, Result, anyhow};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::time::{Duration, SystemTime};

/// Returns a line for each direction, size and part of the latency, with tags such as `H2C-4096-submit`.
pub fn of(figures: &[Figure], start: SystemTime) -> Result<Vec<u8>> {
    let (mut text, mut serializer) = (vec![], V2DeflateSerializer::new());
    let duration = start.elapsed().unwrap_or(Duration::ZERO);
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("xdma bench: latencies in nanoseconds; the maximum column is in milliseconds");
    builder.with_start_time(start).with_base_time(start).with_max_value_divisor(1e6);
    let mut log = builder.begin_log_with(&mut text, &mut serializer)?;
    for figure in figures {
        let Figure::Latency(figure) = figure else { continue };
        let LatencyFigure { direction, bytes, submit, completion, total } = &**figure;
        for (part, recorder) in [("submit", submit), ("completion", completion), ("total", total)] {
            let name = format!("{direction}-{bytes}-{part}");
            let tag = Tag::new(&name).context("a tag must not contain a comma")?;
            // Every round measures every figure, so each interval is the whole run.
            log.write_histogram(&recorder.times, Duration::ZERO, duration, Some(tag))
                .map_err(|error| anyhow!("{error:?}"))?;
        }
    }
    Ok(text)
}
