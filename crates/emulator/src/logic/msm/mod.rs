//! A functional model of the MSM design that is specified in [`xdma_regs::msm`].
//!
//! Two windows share one write channel and lead into two FIFOs of configurable depth. A write that does not fit stalls the write
//! channel, and with it all later writes from any DMA channel. If scalars fill their FIFO while their points are still to be
//! sent, the writes wait forever, as in the real design. The core consumes pairs at a configurable rate, and only from the FIFOs.
//! Sums are computed with the curve arithmetic of arkworks, and tested against halo2curves.
//!
//! [`CORE_BUSY`](xdma_regs::msm::CORE_BUSY) counts the cycles that the design's core would need ([`CoreCycles`]), whatever the rate
//! of this model: it is the same on every machine. [`CYCLES`](xdma_regs::msm::CYCLES) counts the same cycles while the core is busy,
//! and otherwise wall-clock time, so the share of busy cycles is that of a core of the design's speed with the waits of this host. The
//! other clocks are derived from wall-clock time and [`MsmModelOptions::clock_khz`], so they describe this model and not the hardware.
//! The duration of a reduction depends on the host's processors.
//!
//! # Hostile data
//! Coordinates are reduced modulo p and scalars modulo r. A point that is not on the curve is replaced by the curve's generator,
//! so the wrong result is deterministic. The model never panics because of data sent to the card.

mod arithmetic;
mod axi;
mod cycles;
mod fifo;
mod registers;
mod shared;
mod state;
#[cfg(test)]
mod tests;

pub use cycles::CoreCycles;
pub use fifo::Checksum;
pub use state::Window;

use super::{AxiResponse, Burst, Logic, Shell};
use serde::{Deserialize, Serialize};
use shared::Shared;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use vm_memory::VolatileSlice;

/// The function of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Core {
    /// Computes the MSM.
    Real,
    /// Consumes scalars and points of a task as they arrive, independently of each other and of the rate, and returns X =
    /// checksum of the scalars, Y = checksum of the points ([`Checksum`], without padding), Z = their number. Intended for
    /// bandwidth tests. Reported in bit 28 of [`xdma_regs::msm::IMAGE_PARAMETERS`].
    Checksum,
}

/// Bits to flip on their way from the engine into a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BitFlip {
    /// The FIFO.
    pub window: Window,
    /// The index of the byte, counted from the first byte ever written to this window.
    pub byte: u64,
    /// The bits to flip.
    pub mask: u8,
}

/// Options of the model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct MsmModelOptions {
    /// The depth of the scalar FIFO in scalars, rounded up to whole beats.
    pub scalar_depth: usize,
    /// The depth of the point FIFO in points, at least one.
    pub point_depth: usize,
    /// The number of pairs that the core consumes per second of wall-clock time. Unlimited if `None` or not a positive number.
    pub pairs_per_second: Option<f64>,
    /// The clock of the counters and the watchdog, in kHz.
    pub clock_khz: u32,
    /// The window bits C reported in [`xdma_regs::msm::BUILD`].
    pub window_bits: u8,
    /// The capacity of the task queue, including the running task; at least 2.
    pub task_queue: usize,
    /// The capacity of the result queue; at least 2.
    pub result_queue: usize,
    /// The maximum number of pairs of a task.
    pub max_elements: u32,
    /// The reset value of [`xdma_regs::msm::WATCHDOG`].
    pub watchdog: u32,
    /// The seed for the random Z and representatives of results.
    pub seed: u64,
    /// The function of the core.
    pub core: Core,
    /// An injected data fault.
    pub flip: Option<BitFlip>,
}

impl Default for MsmModelOptions {
    fn default() -> Self {
        Self {
            scalar_depth: 1024,
            point_depth: 1024,
            pairs_per_second: None,
            clock_khz: 250_000,
            window_bits: 13,
            task_queue: 2,
            result_queue: 2,
            max_elements: 1 << 26,
            watchdog: 1 << 26,
            seed: 0,
            core: Core::Real,
            flip: None,
        }
    }
}

/// The MSM design as custom logic. Its registers are accessible in every user BAR.
///
/// A call may carry more than one burst. Longer calls cost less per byte.
///
/// The model holds a reference to the attached shell, so a shell that owns its logic creates a reference cycle. The shell is
/// called from a thread of the model, and never from inside a method of [`Logic`].
pub struct MsmModel {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl MsmModel {
    /// Creates the design in its reset state, and its threads: one for timed events and calls to the shell, one for reductions, and
    /// one per processor for their arithmetic.
    ///
    /// # Panics
    /// Panics if no thread can be created, like [`std::thread::spawn`].
    pub fn new(mut options: MsmModelOptions) -> Self {
        options.task_queue = options.task_queue.clamp(2, 0xff);
        options.result_queue = options.result_queue.clamp(2, 0xff);
        let shared = Arc::new(Shared::new(options));
        let spawn = |run: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || run(&shared))
        };
        let threads = vec![spawn(Shared::run_events), spawn(Shared::run_core)];
        Self { shared, threads }
    }
}

impl Drop for MsmModel {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A panic has already been reported by its thread.
            let _ = thread.join();
        }
    }
}

impl Logic for MsmModel {
    fn attach(&self, shell: Arc<dyn Shell>) {
        self.shared.attach(shell);
    }

    fn write(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        self.shared.access_or(
            |inner| axi::write_fast(inner, address, data),
            |inner, now| axi::write(inner, channel, address, burst, data, now),
        )
    }

    fn read(&self, _channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        self.shared.access(|inner, _| axi::read(inner, address, burst, data))
    }

    fn user_read(&self, _bar: usize, offset: u64) -> u32 {
        let Ok(offset) = u32::try_from(offset) else { return 0 };
        self.shared.access(|inner, now| registers::read(&mut inner.state, offset, now))
    }

    fn user_write(&self, _bar: usize, offset: u64, value: u32) {
        let Ok(offset) = u32::try_from(offset) else { return };
        self.shared.access(|inner, now| {
            registers::write(&mut inner.state, offset, value, now);
            // A newly pushed task consumes data that was sent before it.
            inner.state.advance(now);
        });
    }

    /// The design ignores writes without all byte enables (`hdl/rtl/axi/axil_slave.sv`).
    fn user_write_bytes(&self, _bar: usize, _offset: u64, _value: u32, _mask: u32) {}

    fn reset(&self) {
        self.shared.access(|inner, now| inner.state.reset(now));
    }
}
