//! Timeouts of jobs, estimated from the speed of earlier jobs.

use std::time::Duration;

/// Assumed time per pair before the first result. Simulated designs are slower than this and need a larger margin.
const INITIAL_TIME_PER_PAIR: Duration = Duration::from_micros(100);
/// A timeout is this many times the expected duration.
const FACTOR: f64 = 16.0;
/// Jobs are comparable if their sizes differ by at most this factor. The duration of a much smaller job hardly depends on its
/// size, so it does not predict the duration of a larger one.
const COMPARABLE: u64 = 8;
/// Weight of a slower job in the moving average. A faster job replaces the average.
const WEIGHT: f64 = 0.125;

/// Estimates the timeout of a job from its size and from the speed at which the design has computed earlier jobs.
///
/// ```
/// use std::time::Duration;
/// use xdma::msm::TimeoutEstimator;
///
/// let mut estimator = TimeoutEstimator::new(Duration::from_secs(1));
/// assert_eq!(estimator.timeout(10_000), Duration::from_secs(2)); // before the first job: 100 us per pair
/// estimator.record(1_000_000, Duration::from_secs(1));
/// assert_eq!(estimator.timeout(1_000_000), Duration::from_secs(17)); // 16 times the expected duration
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TimeoutEstimator {
    margin: Duration,
    /// Pairs of the largest recorded job.
    largest: u64,
    /// Estimated seconds per pair of jobs of about that size.
    per_pair: f64,
}

impl TimeoutEstimator {
    /// Creates an estimator that has no recorded jobs. `margin` is added to every timeout, for the part of a job's duration that
    /// does not depend on its size.
    pub fn new(margin: Duration) -> Self {
        Self { margin, largest: 0, per_pair: 0.0 }
    }

    /// Records that a job of `pairs` pairs took `time`, which does not include the time that it waited for earlier jobs.
    pub fn record(&mut self, pairs: u64, time: Duration) {
        let per_pair = time.as_secs_f64() / pairs.max(1) as f64;
        let is_smaller = pairs < self.largest / COMPARABLE;
        let is_larger = self.largest == 0 || pairs / COMPARABLE > self.largest;
        if is_larger || !is_smaller && per_pair < self.per_pair {
            self.per_pair = per_pair;
        } else if !is_smaller {
            self.per_pair += (per_pair - self.per_pair) * WEIGHT;
        }
        self.largest = self.largest.max(pairs);
    }

    /// Returns the timeout of a job of `pairs` pairs: 16 times its expected duration, plus the margin. Until a job of about
    /// this size has been recorded, the timeout is at most 100 microseconds per pair, plus the margin.
    pub fn timeout(&self, pairs: u64) -> Duration {
        let initial = INITIAL_TIME_PER_PAIR.as_secs_f64();
        let per_pair = match self.largest {
            0 => initial,
            largest if pairs / COMPARABLE > largest => initial.min(self.per_pair * FACTOR),
            _ => self.per_pair * FACTOR,
        };
        let seconds = per_pair * pairs as f64;
        self.margin.saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(jobs: &[(u64, u64)], pairs: u64) -> f64 {
        let mut estimator = TimeoutEstimator::new(Duration::from_secs(10));
        for (pairs, milliseconds) in jobs {
            estimator.record(*pairs, Duration::from_millis(*milliseconds));
        }
        estimator.timeout(pairs).as_secs_f64()
    }

    #[test]
    fn small_jobs_do_not_affect_the_timeouts_of_large_ones() {
        let small: Vec<_> = (0..200).map(|_| (2, 1)).collect();
        assert!((after(&small, 20_000) - 12.0).abs() < 0.1, "the initial time per pair");
        let large = [small.clone(), vec![(1 << 20, 2000)], small].concat();
        assert!((after(&large, 1 << 20) - 42.0).abs() < 0.1);
    }

    #[test]
    fn a_stall_is_forgotten() {
        let stalled = after(&[(1 << 20, 1000), (1 << 20, 100_000)], 1 << 20);
        assert!(stalled < 10.0 + 16.0 * 14.0, "{stalled}");
        assert!((after(&[(1 << 20, 100_000), (1 << 20, 1000)], 1 << 20) - 26.0).abs() < 0.1);
    }

    #[test]
    fn extreme_numbers_saturate() {
        let mut estimator = TimeoutEstimator::new(Duration::MAX);
        assert_eq!(estimator.timeout(u64::MAX), Duration::MAX);
        for _ in 0..2 {
            estimator.record(u64::MAX, Duration::MAX);
        }
        assert_eq!(estimator.timeout(u64::MAX), Duration::MAX);
        let mut estimator = TimeoutEstimator::new(Duration::ZERO);
        estimator.record(0, Duration::from_secs(1));
        assert_eq!(estimator.timeout(0), Duration::ZERO);
    }
}
