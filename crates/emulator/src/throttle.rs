//! The bandwidth of the link, so that an emulated card takes the time of a real one.

use super::log::lock;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use xdma_regs::Direction;

/// Until when each direction of the link is taken by what was moved already. All channels of a direction share it.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: Option<NonZeroU64>,
    taken: [Mutex<Option<Instant>>; 2],
}

impl Pace {
    /// Without a rate nothing takes time.
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { bytes_per_second, taken: Default::default() }
    }

    /// How long it takes from `now` on until `bytes` more have passed the link, if that takes time.
    pub fn pass(&self, direction: Direction, bytes: u64, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let rate = self.bytes_per_second?;
        let now = now();
        let mut taken = lock(&self.taken[usize::from(direction == Direction::C2H)]);
        let begin = taken.map_or(now, |taken| taken.max(now));
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        *taken = Some(end);
        Some(end - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_share_a_direction_and_directions_share_nothing() {
        let (pace, start) = (Pace::new(NonZeroU64::new(1000)), Instant::now());
        let at = |ms| move || start + Duration::from_millis(ms);
        let pass = |direction, bytes, ms| pace.pass(direction, bytes, at(ms)).unwrap().as_millis();
        assert_eq!(pass(Direction::H2C, 500, 0), 500);
        assert_eq!(pass(Direction::H2C, 500, 100), 900, "the first one still takes the link");
        assert_eq!(pass(Direction::C2H, 500, 100), 500);
        assert_eq!(pass(Direction::H2C, 100, 5000), 100, "what was not used is lost");
        assert_eq!(Pace::new(None).pass(Direction::H2C, 1 << 40, at(0)), None);
    }
}
