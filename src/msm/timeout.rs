//! Timeouts of jobs, estimated from the speed of earlier jobs.

use std::time::Duration;

/// Time per pair before the first result. Simulated designs are slower than this and need a larger margin.
const INITIAL_TIME_PER_PAIR: Duration = Duration::from_millis(1);
/// A timeout is this many times the expected duration.
const FACTOR: f64 = 16.0;

/// Estimates the timeout of a job from its size and from the speed at which the design has computed earlier jobs.
///
/// ```
/// use std::time::Duration;
/// use xdma::msm::TimeoutEstimator;
///
/// let mut estimator = TimeoutEstimator::new(Duration::from_secs(1));
/// assert_eq!(estimator.timeout(1000), Duration::from_secs(2)); // before the first job: a millisecond per pair
/// estimator.record(1_000_000, Duration::from_secs(1));
/// assert_eq!(estimator.timeout(1_000_000), Duration::from_secs(17)); // 16 times the expected duration
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TimeoutEstimator {
    margin: Duration,
    pairs: u64,
    busy: Duration,
}

impl TimeoutEstimator {
    /// Creates an estimator that has no recorded jobs. `margin` is added to every timeout, for the part of a job's duration that
    /// does not depend on its size.
    pub fn new(margin: Duration) -> Self {
        Self { margin, pairs: 0, busy: Duration::ZERO }
    }

    /// Records that a job of `pairs` took `time`, not including the time that it waited for earlier jobs.
    pub fn record(&mut self, pairs: u64, time: Duration) {
        self.pairs = self.pairs.saturating_add(pairs);
        self.busy = self.busy.saturating_add(time);
    }

    /// Returns the timeout of a job of `pairs`: 16 times its expected duration, plus the margin. Before the first recorded job,
    /// it is a millisecond per pair, plus the margin.
    pub fn timeout(&self, pairs: u64) -> Duration {
        let seconds = match self.pairs {
            0 => INITIAL_TIME_PER_PAIR.as_secs_f64() * pairs as f64,
            recorded => self.busy.as_secs_f64() / recorded as f64 * pairs as f64 * FACTOR,
        };
        self.margin.saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_jobs_dominate_the_estimate() {
        let mut estimator = TimeoutEstimator::new(Duration::from_secs(10));
        estimator.record(1, Duration::from_millis(1));
        estimator.record(1 << 20, Duration::from_secs(2));
        let timeout = estimator.timeout(1 << 20);
        assert!(timeout > Duration::from_secs(42) && timeout < Duration::from_millis(42_100), "{timeout:?}");
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
