//! Axes with tick marks at round values.

use crate::bench::machine::range;
use crate::number::{bytes, nanoseconds, rate};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Maximum number of marks on an axis.
const MAX_MARKS: usize = 10;

/// The unit and scale of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Number of bytes; logarithmic.
    Bytes,
    /// Small number; logarithmic.
    Count,
    /// Percentile; logarithmic in the distance to 100, which gives the tail more space.
    Percentile,
    /// Nanoseconds; logarithmic.
    Time,
    /// Bytes per second; logarithmic.
    Rate,
    /// Bytes per second; linear from zero.
    RateFromZero,
    /// Share of a whole; linear from zero.
    Share,
    /// Ratio of two values; logarithmic, so that 0.5 and 2 are equally far from 1.
    Ratio,
}

/// An axis. [`position`](Self::position) converts values to positions on it.
#[derive(Clone, Debug)]
pub struct Axis {
    unit: Unit,
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Unit {
    /// Returns the position of a value on the scale.
    fn position(self, value: f64) -> f64 {
        match self {
            Self::Bytes | Self::Count => value.max(1.0).log2(),
            Self::Percentile => -(1.0 - value.min(99.9999) / 100.0).log10(),
            Self::Time | Self::Rate => value.max(1.0).log10(),
            Self::Ratio => value.max(1e-3).log10(),
            Self::RateFromZero | Self::Share => value,
        }
    }

    /// Returns the value at a position.
    fn value(self, position: f64) -> f64 {
        match self {
            Self::Bytes | Self::Count => position.exp2(),
            Self::Percentile => {
                let value = 100.0 * (1.0 - 10f64.powf(-position));
                (value * 1e4).round() / 1e4
            }
            Self::Time | Self::Rate | Self::Ratio => 10f64.powf(position),
            Self::RateFromZero | Self::Share => position,
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Bytes => bytes(value as u64).replace("bytes", "B").replace(" ", "\u{a0}"),
            Self::Count => format!("{value:.0}"),
            Self::Percentile => format!("p{value}"),
            Self::Time => short(nanoseconds(value.round() as u64)),
            Self::Rate | Self::RateFromZero if value <= 0.0 => "0".into(),
            Self::Rate | Self::RateFromZero => short(rate(value)),
            Self::Share => format!("{:.0} %", 100.0 * value),
            Self::Ratio => format!("× {}", (1e3 * value).round() / 1e3),
        }
    }

    /// Returns the values to mark on an axis from `low` to `high`. A few byte sizes or counts are marked themselves.
    fn marks(self, low: f64, high: f64, values: &[f64]) -> Vec<f64> {
        match self {
            Self::Bytes | Self::Count if values.len() <= MAX_MARKS => values.into(),
            Self::Bytes | Self::Count => {
                let powers: Vec<i32> =
                    (self.position(low).ceil() as i32..=self.position(high).floor() as i32).collect();
                let step = powers.len().div_ceil(MAX_MARKS).max(1);
                powers.into_iter().step_by(step).map(|power| 2f64.powi(power)).collect()
            }
            Self::Percentile => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999].into(),
            Self::Time | Self::Rate | Self::Ratio => {
                let decades = (high / low).log10();
                let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
                powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power))).collect()
            }
            Self::RateFromZero | Self::Share => {
                let power = 10f64.powf((high / 5.0).log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
                let step = step.into_iter().find(|step| high / step <= 6.0).unwrap_or(power);
                (0..=6).map(|at| f64::from(at) * step).collect()
            }
        }
    }
}

/// Removes trailing zeros from a number with a unit: `1.00 µs` becomes `1 µs`.
fn short(text: String) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

impl Axis {
    /// Creates an axis on which all values fit.
    pub fn new(unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (low, high) = range(&values);
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let range = match unit {
            Unit::RateFromZero => 0.0..high.max(1.0) * 1.1,
            Unit::Share => 0.0..high.max(1.0) * 1.1,
            Unit::Ratio => unit.position(low.min(0.5) / 1.1)..unit.position(high.max(2.0) * 1.1),
            Unit::Percentile => 0.0..unit.position(high).max(unit.position(99.0)) + 0.1,
            Unit::Bytes | Unit::Count => unit.position(low) - 0.4..unit.position(high) + 0.4,
            Unit::Time | Unit::Rate => unit.position(low) - 0.1..unit.position(high) + 0.1,
        };
        let inside = |value: &f64| range.contains(&unit.position(*value));
        let marks = unit.marks(unit.value(range.start), unit.value(range.end), &values);
        let marks = marks.into_iter().filter(inside).map(|value| unit.position(value)).collect();
        Self { unit, range, marks }
    }

    /// Returns the distance by which lines are shifted so that they do not hide each other. Distributions are not shifted.
    pub fn line_offset(&self) -> f64 {
        match self.unit {
            Unit::Bytes | Unit::Count => 0.008 * (self.range.end - self.range.start),
            _ => 0.0,
        }
    }

    /// Returns the position of a value on this axis.
    pub fn position(&self, value: f64) -> f64 {
        self.unit.position(value)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, position: &f64) -> String {
        self.unit.show(self.unit.value(*position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(unit: Unit, values: &[f64]) -> Vec<String> {
        let axis = Axis::new(unit, values.iter().copied());
        axis.marks.iter().map(|mark| axis.format_ext(mark)).collect()
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(marks(Unit::Count, &[1.0, 2.0, 32.0]), ["1", "2", "32"]);
        assert_eq!(marks(Unit::Time, &[900.0, 30e6]), ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms"]);
        assert_eq!(marks(Unit::Time, &[3000.0, 9000.0]), ["5 µs", "10 µs"]);
        assert_eq!(marks(Unit::Percentile, &[99.9]), ["p0", "p50", "p90", "p99", "p99.9"]);
        assert_eq!(
            marks(Unit::RateFromZero, &[2.3e9]),
            ["0", "500 MB/s", "1 GB/s", "1.5 GB/s", "2 GB/s", "2.5 GB/s"]
        );
        assert_eq!(marks(Unit::Ratio, &[0.9, 1.1]), ["× 0.5", "× 1", "× 2"]);
        assert_eq!(marks(Unit::Share, &[0.3]), ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]);
        assert_eq!(marks(Unit::Bytes, &[64.0, 4096.0, 4096.0, 64.0]), ["64\u{a0}B", "4\u{a0}KiB"]);
        let many: Vec<_> = (1..40).map(|at| f64::from(at * 1000)).collect();
        assert!((2..=MAX_MARKS).contains(&marks(Unit::Bytes, &many).len()));
    }

    #[test]
    fn an_axis_without_values_has_a_range() {
        for unit in [
            Unit::Bytes,
            Unit::Time,
            Unit::Rate,
            Unit::RateFromZero,
            Unit::Percentile,
            Unit::Ratio,
            Unit::Share,
        ] {
            for values in [&[][..], &[f64::NAN], &[0.0], &[5.0]] {
                let axis = Axis::new(unit, values.iter().copied());
                assert!(axis.range.start < axis.range.end, "{unit:?} {values:?} {axis:?}");
            }
        }
    }
}
