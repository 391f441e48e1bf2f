//! The size from which the card is faster than the CPU.

use crate::context::Context;
use crate::error::SumError;
use crate::registry::{CardPoints, Registration};
use crate::sum::{Started, cpu};
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{BigInt, Field, PrimeField};
use std::fmt;
use std::time::{Duration, Instant};
use xdma::msm::Points;
use xdma::msm::curve::arkworks::points_to_bytes;

/// The sizes that are measured.
const SIZES: [usize; 5] = [1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14];
/// Each size is measured this number of times, and the fastest counts.
const REPEATS: usize = 3;
/// No further size is measured after this time.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The times of a sum of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Timing {
    /// The number of pairs.
    pub pairs: usize,
    /// The time on the card, with the copy of the scalars.
    pub card: Duration,
    /// The time on the CPU, with the threads that arkworks uses.
    pub cpu: Duration,
}

/// The size from which the card is faster than the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossover {
    pairs: Option<usize>,
    timings: Vec<Timing>,
}

impl Crossover {
    /// Before the first measurement.
    pub(crate) const UNKNOWN: &Self = &Self { pairs: None, timings: vec![] };

    pub(crate) fn given(pairs: usize) -> Self {
        Self { pairs: Some(pairs), timings: vec![] }
    }

    /// Returns the smallest number of pairs that the card computes, or `None` if the CPU is faster at every size.
    pub fn pairs(&self) -> Option<usize> {
        self.pairs
    }

    /// Returns what was measured: nothing, if the size was given.
    pub fn timings(&self) -> &[Timing] {
        &self.timings
    }

    fn of(timings: Vec<Timing>) -> Self {
        let pairs = first_faster(&timings).or_else(|| extrapolate(&timings));
        Self { pairs, timings }
    }
}

/// Returns the first measured size from which on the card was always faster.
fn first_faster(timings: &[Timing]) -> Option<usize> {
    let slower = timings.iter().rposition(|timing| timing.card >= timing.cpu);
    timings.get(slower.map_or(0, |at| at + 1)).map(|timing| timing.pairs)
}

/// Returns the size at which the card will be faster, if both continue at the pace of the last two measurements.
fn extrapolate(timings: &[Timing]) -> Option<usize> {
    let [.., before, last] = timings else { return None };
    let slope = |time: fn(&Timing) -> Duration| {
        let pairs = (last.pairs - before.pairs) as f64;
        (time(last).as_secs_f64() - time(before).as_secs_f64()) / pairs
    };
    let gain = slope(|timing| timing.cpu) - slope(|timing| timing.card);
    let behind = last.card.saturating_sub(last.cpu).as_secs_f64();
    // Sizes beyond all sums are no answer; neither is a gain that is only noise.
    let more = behind / gain;
    (gain > 0.0 && more < (1u64 << 32) as f64).then(|| last.pairs + more.ceil() as usize)
}

impl fmt::Display for Crossover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pairs, self.timings.is_empty()) {
            (Some(pairs), true) => {
                return write!(f, "sums of {pairs} or more pairs run on the card, as configured");
            }
            (Some(pairs), false) => write!(f, "the card is faster from {pairs} pairs on")?,
            (None, _) => write!(f, "the CPU is faster than the card at every size")?,
        }
        for (number, Timing { pairs, card, cpu }) in self.timings.iter().enumerate() {
            let separator = if number == 0 { ": " } else { ", " };
            write!(f, "{separator}{pairs} pairs card {card:.1?} CPU {cpu:.1?}")?;
        }
        Ok(())
    }
}

/// Measures card and CPU on sums like those of a circuit.
pub(crate) fn measure(context: &Context) -> Result<Crossover, SumError> {
    let begin = Instant::now();
    let largest = SIZES[SIZES.len() - 1].min(context.max_pairs());
    let (points, scalars) = (points(largest), scalars(largest));
    let mut on_card = Points::allocate(context.card(), largest)?;
    on_card.fill(|bytes| points_to_bytes(&points, bytes)).map_err(SumError::from)??;
    let registration =
        Registration::new("crossover", &points, context.clone(), CardPoints::new(on_card), None);
    let mut timings: Vec<Timing> = vec![];
    for pairs in SIZES.into_iter().filter(|size| *size <= largest) {
        if begin.elapsed() > TIME_LIMIT && timings.len() >= 2 {
            break;
        }
        let (points, scalars) = (&points[..pairs], &scalars[..pairs]);
        let card = fastest(|| Started::new(&registration, 0, scalars)?.finish(&registration, scalars))?;
        let cpu = fastest(|| Ok(cpu(points, scalars)))?;
        timings.push(Timing { pairs, card, cpu });
    }
    registration.points.release();
    context.slots().trim();
    Ok(Crossover::of(timings))
}

/// Returns the shortest time of some runs, the first of which also prepares.
fn fastest<R>(run: impl Fn() -> Result<R, SumError>) -> Result<Duration, SumError> {
    let mut shortest = Duration::MAX;
    for _ in 0..REPEATS {
        let begin = Instant::now();
        run()?;
        shortest = shortest.min(begin.elapsed());
    }
    Ok(shortest)
}

/// Returns distinct points: the multiples of the generator.
fn points(count: usize) -> Vec<G1Affine> {
    let generator = G1Projective::generator();
    let multiples = std::iter::successors(Some(generator), |point| Some(generator + point));
    G1Projective::normalize_batch(&multiples.take(count).collect::<Vec<_>>())
}

/// Returns scalars like those of a circuit: a quarter are bits, a quarter are below 2^32, and the others have full size. The CPU
/// is faster on small ones; the card is not.
fn scalars(count: usize) -> Vec<BigInt<4>> {
    let base = Fr::from(3u64).pow([0x9e37_79b9_7f4a_7c15]);
    let powers = std::iter::successors(Some(base), |power| Some(*power * base));
    let scalar = |(index, power): (usize, Fr)| {
        let full = power.into_bigint();
        match index % 4 {
            0 => BigInt::from(full.0[0] & 1),
            1 => BigInt::from(full.0[0] & 0xffff_ffff),
            _ => full,
        }
    };
    powers.take(count).enumerate().map(scalar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(timings: &[(usize, u64, u64)]) -> Crossover {
        let timing = |&(pairs, card, cpu): &(usize, u64, u64)| Timing {
            pairs,
            card: Duration::from_micros(card),
            cpu: Duration::from_micros(cpu),
        };
        Crossover::of(timings.iter().map(timing).collect())
    }

    #[test]
    fn the_card_must_stay_faster() {
        assert_eq!(of(&[(64, 90, 40), (256, 100, 150), (1024, 130, 500)]).pairs(), Some(256));
        assert_eq!(of(&[(64, 30, 40), (256, 200, 150), (1024, 130, 500)]).pairs(), Some(1024));
        assert_eq!(of(&[(64, 30, 40), (256, 100, 150)]).pairs(), Some(64));
    }

    #[test]
    fn a_later_crossover_is_extrapolated() {
        // The CPU needs 100 us for 1000 pairs, the card 50 us and 200 us more at the start.
        assert_eq!(of(&[(1000, 250, 100), (2000, 300, 200)]).pairs(), Some(4000));
        let slower = of(&[(1000, 250, 100), (2000, 450, 200)]);
        assert_eq!(slower.pairs(), None);
        assert!(slower.to_string().starts_with("the CPU is faster than the card at every size: 1000 pairs"));
        assert_eq!(of(&[(1000, 250, 100)]).pairs(), None);
        assert_eq!(of(&[]).pairs(), None);
    }

    #[test]
    fn measured_data_is_plausible() {
        let (points, scalars) = (points(100), scalars(100));
        assert!(points.iter().all(G1Affine::is_on_curve) && points[0] != points[99]);
        let bits = scalars.iter().filter(|scalar| **scalar <= BigInt::from(1u64)).count();
        assert_eq!(bits, 25);
        assert!(scalars.iter().all(|scalar| *scalar < Fr::MODULUS));
    }
}
