//! The pace of a design, and time limits that follow it.

use std::time::Duration;

/// Time per pair before any result was seen. Simulated designs are slower than this: give them a longer allowance.
const UNKNOWN: Duration = Duration::from_millis(1);
/// A job may take this many times as long as at the pace seen so far.
const FACTOR: f64 = 16.0;

/// The pace at which a design has computed so far. Gives time limits that follow the size of a job.
///
/// ```
/// use std::time::Duration;
/// use xdma::msm::Pace;
///
/// let mut pace = Pace::new(Duration::from_secs(1));
/// assert_eq!(pace.limit(1000), Duration::from_secs(2)); // nothing was seen: a millisecond per pair
/// pace.record(1_000_000, Duration::from_secs(1));
/// assert_eq!(pace.limit(1_000_000), Duration::from_secs(17)); // 16 times as long as seen
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    allowance: Duration,
    pairs: u64,
    busy: Duration,
}

impl Pace {
    /// Nothing was seen yet. `allowance` is part of every limit: it covers what does not depend on the size of a job.
    pub fn new(allowance: Duration) -> Self {
        Self { allowance, pairs: 0, busy: Duration::ZERO }
    }

    /// Records a job of `pairs` that took `time`, without the time that it waited for earlier jobs.
    pub fn record(&mut self, pairs: u64, time: Duration) {
        self.pairs = self.pairs.saturating_add(pairs);
        self.busy = self.busy.saturating_add(time);
    }

    /// Returns the time limit for `pairs`: the allowance, and 16 times as long as the pairs take at the pace seen so far. Before
    /// the first job, the limit is the allowance and a millisecond per pair.
    pub fn limit(&self, pairs: u64) -> Duration {
        let seconds = match self.pairs {
            0 => UNKNOWN.as_secs_f64() * pairs as f64,
            seen => self.busy.as_secs_f64() / seen as f64 * pairs as f64 * FACTOR,
        };
        self.allowance.saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_jobs_decide() {
        let mut pace = Pace::new(Duration::from_secs(10));
        pace.record(1, Duration::from_millis(1));
        pace.record(1 << 20, Duration::from_secs(2));
        let limit = pace.limit(1 << 20);
        assert!(limit > Duration::from_secs(42) && limit < Duration::from_millis(42_100), "{limit:?}");
    }

    #[test]
    fn extreme_numbers_saturate() {
        let mut pace = Pace::new(Duration::MAX);
        assert_eq!(pace.limit(u64::MAX), Duration::MAX);
        for _ in 0..2 {
            pace.record(u64::MAX, Duration::MAX);
        }
        assert_eq!(pace.limit(u64::MAX), Duration::MAX);
        let mut pace = Pace::new(Duration::ZERO);
        pace.record(0, Duration::from_secs(1));
        assert_eq!(pace.limit(0), Duration::ZERO);
    }
}
