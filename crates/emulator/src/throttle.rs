//! Limits the bandwidth of the link, so that transfers take as long as on a real card.

use super::log::lock;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use xdma_regs::Direction;

/// The time until which each direction of the link is busy. All channels of a direction share it.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: Option<NonZeroU64>,
    busy_until: [Mutex<Option<Instant>>; 2],
}

impl Throttle {
    /// Creates a throttle. Without a rate, transfers take no time.
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { bytes_per_second, busy_until: Default::default() }
    }

    /// Reserves link time for `bytes` and returns how long after `now` they will have passed the link; `None` without a rate.
    pub fn reserve(
        &self,
        direction: Direction,
        bytes: u64,
        now: impl FnOnce() -> Instant,
    ) -> Option<Duration> {
        let rate = self.bytes_per_second?;
        let now = now();
        let mut busy_until = lock(&self.busy_until[usize::from(direction == Direction::C2H)]);
        let begin = busy_until.map_or(now, |busy_until| busy_until.max(now));
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        *busy_until = Some(end);
        Some(end - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_share_the_link_within_a_direction() {
        let (throttle, start) = (Throttle::new(NonZeroU64::new(1000)), Instant::now());
        let at = |ms| move || start + Duration::from_millis(ms);
        let reserve = |direction, bytes, ms| throttle.reserve(direction, bytes, at(ms)).unwrap().as_millis();
        assert_eq!(reserve(Direction::H2C, 500, 0), 500);
        assert_eq!(reserve(Direction::H2C, 500, 100), 900, "the first transfer still occupies the link");
        assert_eq!(reserve(Direction::C2H, 500, 100), 500);
        assert_eq!(reserve(Direction::H2C, 100, 5000), 100, "unused link time is lost");
        assert_eq!(Throttle::new(None).reserve(Direction::H2C, 1 << 40, at(0)), None);
    }
}
