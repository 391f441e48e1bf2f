//! The performance monitor of a channel (PG195, "Performance Monitor Control").

use std::time::Instant;

/// Auto: stop after a descriptor with Stop.
const AUTO: u32 = 1 << 0;
/// Clear the counters.
const CLEAR: u32 = 1 << 1;
/// Run: count from the rising edge of the channel's Run.
const RUN: u32 = 1 << 2;

/// The counters are 42 bits wide and saturate.
const MAX: u64 = (1 << 42) - 1;
const MAXED: u32 = 1 << 16;

/// Clock period in nanoseconds, at 250 MHz.
const CLOCK_NS: u64 = 4;

#[derive(Debug, Default)]
pub(super) struct Perf {
    control: u32,
    since: Option<Instant>,
    cycles: u64,
    beats: u64,
}

impl Perf {
    /// Writes the control register. `running` states whether the channel is running.
    pub fn control(&mut self, value: u32, running: bool) {
        let starts = value & RUN != 0 && self.control & RUN == 0;
        if value & CLEAR != 0 || starts && value & AUTO != 0 {
            (self.cycles, self.beats) = (0, 0);
            self.since = self.since.map(|_| Instant::now());
        }
        self.control = value & (RUN | AUTO);
        match value & RUN != 0 {
            true if running => self.start(),
            true => {}
            false => self.stop(),
        }
    }

    pub fn read_control(&self) -> u32 {
        self.control
    }

    /// Starts counting, if enabled, because the channel starts.
    pub fn channel_starts(&mut self) {
        if self.control & RUN != 0 {
            self.start();
        }
    }

    /// Counts a completed descriptor, whose data took `beats` beats of the data path.
    pub fn descriptor(&mut self, beats: u64, stop: bool) {
        if self.since.is_some() {
            self.beats += beats;
        }
        if stop && self.control & AUTO != 0 {
            self.stop();
        }
    }

    fn start(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    fn stop(&mut self) {
        self.cycles = self.cycles();
        self.since = None;
    }

    /// Returns the clocks counted. The data path moves at most one beat per clock, even if the emulating machine is faster.
    fn cycles(&self) -> u64 {
        let running = self.since.map_or(0, |since| since.elapsed().as_nanos() as u64 / CLOCK_NS);
        (self.cycles + running).max(self.beats)
    }

    /// Returns the clocks counted, as the low and high register.
    pub fn read_cycles(&self) -> [u32; 2] {
        words(self.cycles())
    }

    /// Returns the data beats counted, as the low and high register.
    pub fn read_data(&self) -> [u32; 2] {
        words(self.beats)
    }
}

fn words(count: u64) -> [u32; 2] {
    let saturated = if count > MAX { MAXED } else { 0 };
    let count = count.min(MAX);
    [count as u32, (count >> 32) as u32 | saturated]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_follows_the_channel_and_stops_automatically() {
        let mut perf = Perf::default();
        perf.descriptor(1, false);
        perf.control(0x2, false);
        perf.control(0x5, false);
        perf.descriptor(1, false);
        assert_eq!(perf.read_data(), [0, 0]);
        perf.channel_starts();
        perf.descriptor(64, false);
        perf.descriptor(1, true);
        perf.descriptor(64, false);
        assert_eq!(perf.read_data(), [65, 0]);
        assert!(perf.read_cycles()[0] >= 65);
        assert_eq!(perf.read_cycles(), perf.read_cycles());
        perf.control(0x2, false);
        assert_eq!((perf.read_data(), perf.read_cycles()), ([0, 0], [0, 0]));
    }

    #[test]
    fn counters_saturate() {
        assert_eq!(words(MAX), [0xffff_ffff, 0x3ff]);
        assert_eq!(words(MAX + 1), [0xffff_ffff, 0x1_03ff]);
    }
}
