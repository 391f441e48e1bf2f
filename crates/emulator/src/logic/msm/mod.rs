//! The MSM design's functional model: [`xdma_regs::msm`] says what it does, this does it.
//!
//! Two windows behind one write channel lead into two FIFOs of set depth. A write that finds no room holds up the channel
//! and everything behind it, from any DMA channel: scalars that fill their FIFO while their points are still to
//! come wait for ever, as in the real design. The core takes pairs at a set rate, and sees nothing but what was in
//! the FIFOs. Sums are computed by arkworks, and tested against halo2curves.
//!
//! Clocks are wall-clock time at [`MsmOptions::clock_khz`], so counters tell the truth about this model and not about
//! hardware; the time of a reduction is that of the host's processors.
//!
//! # Hostile data
//! Coordinates count modulo p, scalars modulo r. A point that is not on the curve counts as the curve's generator, a
//! defined wrong answer. Nothing sent to the card makes the model panic.

mod arithmetic;
mod axi;
mod fifo;
mod registers;
mod shared;
mod state;
#[cfg(test)]
mod tests;

pub use fifo::Checksum;
pub use state::Window;

use super::{Answer, Burst, Logic, Shell};
use serde::{Deserialize, Serialize};
use shared::Shared;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use vm_memory::VolatileSlice;

/// What the core does with what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Core {
    /// Multiplies and adds.
    Real,
    /// Takes scalars and points of a task as they come, also one without the other, whatever the rate, and returns X = checksum
    /// of the scalars, Y = checksum of the points ([`Checksum`], padding left out), Z = their number. For bandwidth; bit
    /// 28 of [`xdma_regs::msm::IMAGE_PARAMETERS`] tells.
    TakeAll,
}

/// Bits that turn over on their way from the engine into a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Which FIFO.
    pub window: Window,
    /// Which byte, counted from the first that this window ever took.
    pub byte: u64,
    /// The bits.
    pub mask: u8,
}

/// How the design is built.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct MsmOptions {
    /// Depth of the scalar FIFO in scalars, rounded up to whole beats.
    pub scalar_depth: usize,
    /// Depth of the point FIFO in points, at least one.
    pub point_depth: usize,
    /// Pairs that the core takes a second, in wall-clock time; as fast as they come if `None` or not a positive number.
    pub pairs_per_second: Option<f64>,
    /// The clock in which counters and the watchdog count, in kHz.
    pub clock_khz: u32,
    /// Window bits C that [`xdma_regs::msm::BUILD`] reports.
    pub window_bits: u8,
    /// Tasks that can be queued, the running one included; at least 2.
    pub task_queue: usize,
    /// Results that can wait; at least 2.
    pub result_queue: usize,
    /// Most pairs of a task.
    pub max_elements: u32,
    /// What [`xdma_regs::msm::WATCHDOG`] is after reset.
    pub watchdog: u32,
    /// Of the random Z and representatives of results.
    pub seed: u64,
    /// The core.
    pub core: Core,
    /// A planted fault.
    pub flip: Option<Flip>,
}

impl Default for MsmOptions {
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

/// The MSM design as custom logic. Its registers answer in every user BAR.
///
/// A call may carry more than one burst: the longer, the less each byte costs.
///
/// It keeps the shell that is attached, so a shell that owns its logic keeps both alive. The shell is called from a thread
/// of the design's own, never inside a call of [`Logic`].
pub struct Msm {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Msm {
    /// The design in its reset state, with its two threads: one for time and the shell, one for reductions.
    ///
    /// # Panics
    /// If the operating system gives no thread, as [`std::thread::spawn`].
    pub fn new(mut options: MsmOptions) -> Self {
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

impl Drop for Msm {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl Logic for Msm {
    fn attach(&self, shell: Arc<dyn Shell>) {
        self.shared.attach(shell);
    }

    fn write(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer {
        self.shared.now_unless(
            |inner| axi::write_at_once(inner, address, data),
            |inner, now| axi::write(inner, channel, address, burst, data, now),
        )
    }

    fn read(&self, _channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer {
        self.shared.now(|inner, _| axi::read(inner, address, burst, data))
    }

    fn user_read(&self, _bar: usize, offset: u64) -> u32 {
        let Ok(offset) = u32::try_from(offset) else { return 0 };
        self.shared.now(|inner, now| registers::read(&mut inner.state, offset, now))
    }

    fn user_write(&self, _bar: usize, offset: u64, value: u32) {
        let Ok(offset) = u32::try_from(offset) else { return };
        self.shared.now(|inner, now| {
            registers::write(&mut inner.state, offset, value, now);
            // A pushed task takes what was sent before it.
            inner.state.advance(now);
        });
    }

    fn reset(&self) {
        self.shared.now(|inner, now| inner.state.reset(now));
    }
}
