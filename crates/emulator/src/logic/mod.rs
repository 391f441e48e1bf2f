//! Custom logic: what lies behind the engine's AXI port and the card's user BARs.
//!
//! The engine's channels call it from threads of their own, so a logic locks inside. Data comes as a volatile view of
//! host memory, to be copied once.

mod loopback;
mod memory;
pub mod msm;
#[cfg(feature = "rtl")]
mod rtl;

pub use loopback::Loopback;
pub use memory::Memory;
pub use msm::{Msm, MsmOptions};
#[cfg(feature = "rtl")]
pub use rtl::{Rtl, Variant};

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use vm_memory::VolatileSlice;

/// The designs that come with the emulator, by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Design {
    /// [`Memory`].
    Memory,
    /// [`Loopback`], for cards with stream channels.
    Loopback,
    /// [`Msm`].
    Msm(MsmOptions),
}

impl Design {
    /// A new logic of this design.
    ///
    /// # Panics
    ///
    /// As [`Msm::new`].
    pub fn build(self) -> Arc<dyn Logic> {
        match self {
            Self::Memory => Arc::new(Memory::new()),
            Self::Loopback => Arc::new(Loopback::new()),
            Self::Msm(options) => Arc::new(Msm::new(options)),
        }
    }
}

/// The `channel` of reads and writes that come through the BAR of the AXI port instead of an engine: their AXI ID (AWS "Shell
/// Interface Specification").
pub const PCIS_ID: usize = 0x20;

/// What the AXI side answers to a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The first `n` bytes are done (`1..=len`); the engine goes on with the rest.
    Okay(usize),
    /// A write's data is taken, all of it; what becomes of it (B) is to be asked of [`Logic::response`].
    Accepted,
    /// READY is low: nothing was taken. The engine tries again after [`Shell::progress`].
    Wait,
    /// The slave refused (SLVERR).
    SlaveError,
    /// Nothing at this address (DECERR).
    DecodeError,
}

/// How the address of a transfer moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// AXI INCR.
    Increment,
    /// AXI FIXED: every beat has the same address.
    Fixed,
}

/// What a logic may ask of the shell around it.
pub trait Shell: Send + Sync {
    /// Something that answered [`Answer::Wait`], to a transfer or as a response, may go on now.
    fn progress(&self);
    /// Drives the level of user interrupt request `line` (0 to 15).
    fn user_irq(&self, line: usize, level: bool);
}

/// Custom logic of a card.
pub trait Logic: Send + Sync {
    /// Called once, before anything else.
    fn attach(&self, shell: Arc<dyn Shell>);

    /// A write of `data` at card address `address` by H2C channel `channel` (AXI ID; [`PCIS_ID`] for the BAR), never
    /// across 4 KiB.
    fn write(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer;

    /// The next response to the writes of `channel` that were [`Answer::Accepted`], in their order: [`Answer::Okay`] with any
    /// number, an error, or [`Answer::Wait`] while there is none. Never asked of a logic that accepts nothing.
    fn response(&self, channel: usize) -> Answer {
        let _ = channel;
        Answer::Okay(0)
    }

    /// Nobody will ask for the responses that `channel` still waits for. What the logic took stays taken.
    fn forget(&self, channel: usize) {
        let _ = channel;
    }

    /// A read of `data.len()` bytes at `address` by C2H channel `channel` (or [`PCIS_ID`]), never across 4 KiB.
    fn read(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer;

    /// AXI-Stream from H2C channel `channel`: `last` is TLAST on the last byte of `data`.
    fn stream_in(&self, channel: usize, data: &VolatileSlice, last: bool) -> Answer {
        let _ = (channel, data, last);
        Answer::DecodeError
    }

    /// AXI-Stream to C2H channel `channel`: fills the front of `data`; the flag is TLAST on the last byte given.
    fn stream_out(&self, channel: usize, data: &VolatileSlice) -> (Answer, bool) {
        let _ = (channel, data);
        (Answer::DecodeError, false)
    }

    /// A 32-bit read at `offset` of user BAR `bar`.
    fn user_read(&self, bar: usize, offset: u64) -> u32;

    /// A 32-bit write at `offset` of user BAR `bar`.
    fn user_write(&self, bar: usize, offset: u64, value: u32);

    /// The card's reset. Memory behind the AXI port keeps its content.
    fn reset(&self);

    /// Memory behind the AXI port loses its content, as on a card whose memory controller is reset with it. A logic without memory
    /// has nothing to lose.
    fn clear(&self) {}
}
