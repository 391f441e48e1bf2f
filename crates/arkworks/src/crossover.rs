//! Measures from how many pairs the card is faster than the CPU.

use crate::context::Context;
use crate::error::MsmError;
use crate::msm::{finish, msm_on_cpu, start};
use crate::registry::RegisteredSlice;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{BigInt, Field, PrimeField};
use std::fmt;
use std::time::{Duration, Instant};

/// The measured numbers of pairs.
const SIZES: [usize; 5] = [1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14];
/// Each size is measured this many times. The shortest time counts.
const RUNS_PER_SIZE: usize = 3;
/// After this time, no further size is measured, provided that two have been.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The times of an MSM of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Timing {
    /// The number of pairs.
    pub pairs: usize,
    /// The time on the card, including copying the scalars.
    pub card: Duration,
    /// The time on the CPU, with as many threads as arkworks uses.
    pub cpu: Duration,
}

/// The number of pairs from which MSMs run on the card.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossover {
    min_pairs: Option<usize>,
    timings: Vec<Timing>,
}

impl Crossover {
    /// The crossover during the measurement.
    pub(crate) const UNMEASURED: &Self = &Self { min_pairs: None, timings: vec![] };

    pub(crate) fn configured(min_pairs: usize) -> Self {
        Self { min_pairs: Some(min_pairs), timings: vec![] }
    }

    /// Returns the smallest number of pairs of an MSM that runs on the card, or `None` if the CPU is faster at every size.
    pub fn min_pairs(&self) -> Option<usize> {
        self.min_pairs
    }

    /// Returns the measured times. There are none if the crossover was configured.
    pub fn timings(&self) -> &[Timing] {
        &self.timings
    }

    fn from_timings(timings: Vec<Timing>) -> Self {
        let min_pairs = smallest_faster_size(&timings).or_else(|| extrapolate_crossover(&timings));
        Self { min_pairs, timings }
    }
}

/// Returns the smallest measured size at which, and at all larger ones, the card was faster.
fn smallest_faster_size(timings: &[Timing]) -> Option<usize> {
    let slower = timings.iter().rposition(|timing| timing.card >= timing.cpu);
    timings.get(slower.map_or(0, |at| at + 1)).map(|timing| timing.pairs)
}

/// Returns the size at which the card becomes faster, if both times continue to grow as between the last two measurements.
fn extrapolate_crossover(timings: &[Timing]) -> Option<usize> {
    let [.., previous, last] = timings else { return None };
    let slope = |time: fn(&Timing) -> Duration| {
        let pairs = (last.pairs - previous.pairs) as f64;
        (time(last).as_secs_f64() - time(previous).as_secs_f64()) / pairs
    };
    let slope_difference = slope(|timing| timing.cpu) - slope(|timing| timing.card);
    let deficit = last.card.saturating_sub(last.cpu).as_secs_f64();
    // A tiny difference of the slopes is noise. It would yield a crossover larger than any MSM.
    let extra_pairs = deficit / slope_difference;
    (slope_difference > 0.0 && extra_pairs < (1u64 << 32) as f64)
        .then(|| last.pairs + extra_pairs.ceil() as usize)
}

impl fmt::Display for Crossover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min_pairs, self.timings.is_empty()) {
            (Some(pairs), true) => {
                return write!(f, "MSMs of {pairs} or more pairs run on the card, as configured");
            }
            (Some(pairs), false) => write!(f, "the card is faster at {pairs} or more pairs")?,
            (None, _) => write!(f, "the CPU is faster than the card at every size")?,
        }
        for Timing { pairs, card, cpu } in &self.timings {
            write!(f, "; {pairs} pairs, card {card:.1?}, CPU {cpu:.1?}")?;
        }
        Ok(())
    }
}

/// Measures MSMs like those of a circuit on the cards and on the CPU.
pub(crate) fn measure(context: &Context) -> Result<Crossover, MsmError> {
    let begin = Instant::now();
    let largest = SIZES[SIZES.len() - 1];
    let (points, scalars) = (points(largest), scalars(largest));
    let bases = context.cards().register(points.clone())?;
    let slice = RegisteredSlice::new("crossover", &points, context.clone(), bases);
    let mut timings: Vec<Timing> = vec![];
    for pairs in SIZES {
        if begin.elapsed() > TIME_LIMIT && timings.len() >= 2 {
            break;
        }
        let (points, scalars) = (&points[..pairs], &scalars[..pairs]);
        let (card, result) = fastest(|| finish(&mut start(&slice, 0, scalars)?))?;
        let (cpu, expected) = fastest(|| Ok(msm_on_cpu(points, scalars)))?;
        if result != expected {
            return Err(MsmError::WrongResult { pairs });
        }
        timings.push(Timing { pairs, card, cpu });
    }
    Ok(Crossover::from_timings(timings))
}

/// Returns the shortest time of several runs, and their result. The first one also prepares the jobs.
fn fastest(run: impl Fn() -> Result<G1Projective, MsmError>) -> Result<(Duration, G1Projective), MsmError> {
    let timed = || {
        let begin = Instant::now();
        run().map(|result| (begin.elapsed(), result))
    };
    let mut fastest = timed()?;
    for _ in 1..RUNS_PER_SIZE {
        fastest.0 = fastest.0.min(timed()?.0);
    }
    Ok(fastest)
}

/// Returns the first multiples of the generator, which are distinct points.
fn points(count: usize) -> Vec<G1Affine> {
    let generator = G1Projective::generator();
    let multiples = std::iter::successors(Some(generator), |point| Some(generator + point));
    G1Projective::normalize_batch(&multiples.take(count).collect::<Vec<_>>())
}

/// Returns scalars like those of a circuit: a quarter are bits, a quarter are below 2^32, and the others have full size. The CPU
/// is faster on small scalars; the card is not.
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

    fn from_timings(timings: &[(usize, u64, u64)]) -> Crossover {
        let timing = |&(pairs, card, cpu): &(usize, u64, u64)| Timing {
            pairs,
            card: Duration::from_micros(card),
            cpu: Duration::from_micros(cpu),
        };
        Crossover::from_timings(timings.iter().map(timing).collect())
    }

    #[test]
    fn the_card_must_be_faster_at_all_larger_sizes() {
        assert_eq!(from_timings(&[(64, 90, 40), (256, 100, 150), (1024, 130, 500)]).min_pairs(), Some(256));
        assert_eq!(from_timings(&[(64, 30, 40), (256, 200, 150), (1024, 130, 500)]).min_pairs(), Some(1024));
        assert_eq!(from_timings(&[(64, 30, 40), (256, 100, 150)]).min_pairs(), Some(64));
    }

    #[test]
    fn a_crossover_beyond_the_measured_sizes_is_extrapolated() {
        // The CPU takes 100 us per 1000 pairs. The card takes 50 us per 1000 pairs, plus 200 us.
        assert_eq!(from_timings(&[(1000, 250, 100), (2000, 300, 200)]).min_pairs(), Some(4000));
        let slower = from_timings(&[(1000, 250, 100), (2000, 450, 200)]);
        assert_eq!(slower.min_pairs(), None);
        assert!(slower.to_string().starts_with("the CPU is faster than the card at every size; 1000 pairs"));
        assert_eq!(from_timings(&[(1000, 250, 100)]).min_pairs(), None);
        assert_eq!(from_timings(&[]).min_pairs(), None);
    }

    #[test]
    fn the_generated_points_and_scalars_are_valid() {
        let (points, scalars) = (points(100), scalars(100));
        assert!(points.iter().all(G1Affine::is_on_curve) && points[0] != points[99]);
        let bits = scalars.iter().filter(|scalar| **scalar <= BigInt::from(1u64)).count();
        assert_eq!(bits, 25);
        assert!(scalars.iter().all(|scalar| *scalar < Fr::MODULUS));
    }
}
