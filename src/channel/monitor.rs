//! The engine's own performance monitor (PG195, "Performance Monitor Control"): a second opinion on what a channel moved.

use super::error::EngineError;
use super::handle::Channel;
use crate::regs::channel::{
    PERF_CONTROL, PERF_CYCLES_HI, PERF_CYCLES_LO, PERF_DATA_HI, PERF_DATA_LO, PerfControl,
};

/// Bits 41:32 of a counter, in the register of its upper half.
const HIGH: u32 = 0x3ff;
/// The counter stays at its maximum.
const MAXED: u32 = 1 << 16;

/// What the monitor of a channel counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Performance {
    /// Clocks of the core.
    pub cycles: u64,
    /// Beats of the data path, of [`Report::data_width`](crate::card::Report::data_width) bytes; each piece of memory may begin and
    /// end inside of one.
    pub beats: u64,
    /// One of the counters reached its maximum, 2^42 - 1, and stayed there.
    pub maxed: bool,
}

impl Channel {
    /// Clears the monitor and starts it: it counts from the next start of the engine on, or from now if the engine runs. Over the
    /// chain ring it stops with the transfer or run that is started next, and PG195 does not say what those after it do; over the
    /// credits ring it goes on until it is started again.
    ///
    /// # Errors
    ///
    /// The bus failed.
    pub fn start_monitor(&mut self) -> Result<(), EngineError> {
        self.engine.registers.write(PERF_CONTROL, PerfControl::CLEAR.bits())?;
        Ok(self.engine.registers.write(PERF_CONTROL, PerfControl::START.bits())?)
    }

    /// Reads the monitor: five registers at least.
    ///
    /// # Errors
    ///
    /// [`EngineError::Gone`]; the bus failed.
    pub fn monitor(&self) -> Result<Performance, EngineError> {
        let (cycles, cycles_maxed) = self.counter(PERF_CYCLES_LO, PERF_CYCLES_HI)?;
        let (beats, beats_maxed) = self.counter(PERF_DATA_LO, PERF_DATA_HI)?;
        Ok(Performance { cycles, beats, maxed: cycles_maxed || beats_maxed })
    }

    /// A counter, and whether it is at its maximum. The lower half may overflow between two reads.
    fn counter(&self, low: u32, high: u32) -> Result<(u64, bool), EngineError> {
        let mut upper = self.engine.registers.register(high)?;
        loop {
            let lower = self.engine.registers.counter_low(low)?;
            let again = self.engine.registers.register(high)?;
            if again == upper {
                return Ok((u64::from(upper & HIGH) << 32 | u64::from(lower), upper & MAXED != 0));
            }
            upper = again;
        }
    }
}
