//! The engine's performance monitor (PG195, "Performance Monitor Control"), which counts data independently of the driver.

use super::error::EngineError;
use super::handle::Channel;
use crate::regs::channel::{
    PERF_CONTROL, PERF_CYCLES_HI, PERF_CYCLES_LO, PERF_DATA_HI, PERF_DATA_LO, PerfControl,
};

/// Bits 41:32 of a counter, in the register with its upper half.
const HIGH: u32 = 0x3ff;
/// The counter has reached its maximum.
const MAXED: u32 = 1 << 16;

/// Counters of a channel's performance monitor.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::{sync::Arc, time::Duration};
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::{EmulatorOptions, logic::Memory};
/// use xdma::regs::Direction;
///
/// # let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let mut channel = card.h2c(0)?;
/// let buffer = card.allocate(1 << 20, Direction::H2C)?;
/// channel.start_monitor()?;
/// channel.transfer(&buffer, 0..1 << 20, 0, Duration::from_secs(5))?;
/// let counted = channel.monitor()?;
/// println!("{} beats in {} cycles", counted.beats, counted.cycles);
/// # assert!(counted.beats > 0 && !counted.saturated);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Performance {
    /// Clock cycles of the core.
    pub cycles: u64,
    /// Beats of the data path, each of [`Report::data_width`](crate::card::Report::data_width) bytes. A piece of memory may
    /// start and end within a beat.
    pub beats: u64,
    /// Whether a counter has reached its maximum, 2^42 - 1, at which it stops.
    pub saturated: bool,
}

impl Channel {
    /// Clears and starts the performance monitor. It counts from the engine's next start, or immediately if the engine is
    /// running. On the chain ring it stops with the next transfer or run; PG195 does not specify the effect of later ones. On
    /// the credits ring it counts until it is started again.
    ///
    /// # Errors
    ///
    /// The bus failed.
    pub fn start_monitor(&mut self) -> Result<(), EngineError> {
        self.engine.registers.write(PERF_CONTROL, PerfControl::CLEAR.bits())?;
        Ok(self.engine.registers.write(PERF_CONTROL, PerfControl::START.bits())?)
    }

    /// Reads the performance monitor, with six to eight register reads.
    ///
    /// # Errors
    ///
    /// [`EngineError::Gone`]; the bus failed.
    pub fn monitor(&self) -> Result<Performance, EngineError> {
        let (cycles, cycles_maxed) = self.counter(PERF_CYCLES_LO, PERF_CYCLES_HI)?;
        let (beats, beats_maxed) = self.counter(PERF_DATA_LO, PERF_DATA_HI)?;
        Ok(Performance { cycles, beats, saturated: cycles_maxed || beats_maxed })
    }

    /// Reads a counter, and whether it is at its maximum. The lower half may overflow between two reads, so the upper half is
    /// read again.
    fn counter(&self, low: u32, high: u32) -> Result<(u64, bool), EngineError> {
        let registers = &self.engine.registers;
        let (before, mut lower) = (registers.register(high)?, registers.counter_low(low)?);
        let upper = registers.register(high)?;
        if upper != before {
            lower = registers.counter_low(low)?;
        }
        Ok((u64::from(upper & HIGH) << 32 | u64::from(lower), upper & MAXED != 0))
    }
}
