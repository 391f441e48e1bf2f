//! Custom logic: the design behind the engine's AXI port and the card's user BARs.
//!
//! Each channel calls the logic from its own thread, so implementations must synchronize internally. Data is passed as a volatile
//! view of host memory, which should be read or written only once.

#[cfg(feature = "rtl-f2")]
mod in_image;
mod loopback;
mod memory;
pub mod msm;
#[cfg(feature = "rtl")]
mod rtl;

#[cfg(feature = "rtl-f2")]
pub use in_image::InImage;
pub use loopback::Loopback;
pub use memory::Memory;
pub use msm::{MsmModel, MsmModelOptions};
#[cfg(feature = "rtl")]
pub use rtl::{Rtl, Variant};

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use vm_memory::VolatileSlice;
use xdma_card_file::{self as card_file, CardFile, Setting};

/// The designs included in the emulator, by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Design {
    /// [`Memory`].
    Memory,
    /// [`Loopback`], for cards with stream channels.
    Loopback,
    /// [`MsmModel`].
    Msm(MsmModelOptions),
}

impl Design {
    /// Creates the logic of this design.
    ///
    /// # Panics
    ///
    /// As [`MsmModel::new`].
    pub fn build(self) -> Arc<dyn Logic> {
        match self {
            Self::Memory => Arc::new(Memory::new()),
            Self::Loopback => Arc::new(Loopback::new()),
            Self::Msm(options) => Arc::new(MsmModel::new(options)),
        }
    }
}

/// Creates the logic that a description names.
pub fn of(card: &CardFile) -> Arc<dyn Logic> {
    match card.logic.design {
        Setting::Known(card_file::Design::Msm) => Design::Msm(MsmModelOptions::default()).build(),
        Setting::Known(card_file::Design::Loopback) => Arc::new(Loopback::new()),
        Setting::Unknown if card.is_stream() => Arc::new(Loopback::new()),
        Setting::Known(card_file::Design::Memory) | Setting::Unknown => Arc::new(Memory::of(card)),
    }
}

/// The AXI ID, passed as `channel`, of reads and writes through the BAR of the AXI port instead of an engine (AWS "Shell
/// Interface Specification").
pub const PCIS_ID: usize = 0x20;

/// The response of the AXI side to a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxiResponse {
    /// The first `n` bytes are done (`1..=len`). The engine continues with the rest.
    Okay(usize),
    /// All of a write's data was accepted. Its response (B) is returned later by [`Logic::response`].
    Accepted,
    /// READY is low and nothing was accepted. The engine tries again after [`Shell::progress`].
    Wait,
    /// The slave refused the access (SLVERR).
    SlaveError,
    /// There is no slave at this address (DECERR).
    DecodeError,
}

/// The progression of the address within a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// AXI INCR.
    Increment,
    /// AXI FIXED: every beat has the same address.
    Fixed,
}

/// The interface of a logic to the shell around it.
pub trait Shell: Send + Sync {
    /// Signals that a call that returned [`AxiResponse::Wait`] may succeed now.
    fn progress(&self);
    /// Sets the level of user interrupt request `line` (0 to 15).
    fn user_irq(&self, line: usize, level: bool);
}

/// Custom logic of a card.
pub trait Logic: Send + Sync {
    /// Attaches the shell. Called once, before any other method.
    fn attach(&self, shell: Arc<dyn Shell>);

    /// Writes `data` at card address `address`, without crossing a 4 KiB boundary. `channel` is the number of the H2C channel
    /// (its AXI ID), or [`PCIS_ID`] for the BAR.
    fn write(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse;

    /// Returns the next response to the writes of `channel` that were [`AxiResponse::Accepted`], in order: [`AxiResponse::Okay`]
    /// with any number, an error, or [`AxiResponse::Wait`] if there is none yet. Called only for accepted writes.
    fn response(&self, channel: usize) -> AxiResponse {
        let _ = channel;
        AxiResponse::Okay(0)
    }

    /// Discards the outstanding responses of `channel`, for which [`Logic::response`] will not be called. Accepted data stays
    /// accepted.
    fn discard_responses(&self, channel: usize) {
        let _ = channel;
    }

    /// Reads `data.len()` bytes at `address` for C2H channel `channel` (or [`PCIS_ID`]), without crossing a 4 KiB boundary.
    fn read(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse;

    /// Receives AXI-Stream data from H2C channel `channel`. `last` is TLAST on the last byte of `data`.
    fn stream_in(&self, channel: usize, data: &VolatileSlice, last: bool) -> AxiResponse {
        let _ = (channel, data, last);
        AxiResponse::DecodeError
    }

    /// Sends AXI-Stream data to C2H channel `channel`: fills the front of `data`, and returns TLAST of the last byte filled.
    fn stream_out(&self, channel: usize, data: &VolatileSlice) -> (AxiResponse, bool) {
        let _ = (channel, data);
        (AxiResponse::DecodeError, false)
    }

    /// Reads the 32-bit register at `offset` of user BAR `bar`.
    fn user_read(&self, bar: usize, offset: u64) -> u32;

    /// Writes the 32-bit register at `offset` of user BAR `bar`.
    fn user_write(&self, bar: usize, offset: u64, value: u32);

    /// Writes the bytes of a register that are set in `mask` (AXI WSTRB), in an access of fewer than 32 bits. By default, the
    /// register is read and written as a whole; override this if reads of the logic have side effects.
    fn user_write_bytes(&self, bar: usize, offset: u64, value: u32, mask: u32) {
        let kept = self.user_read(bar, offset) & !mask;
        self.user_write(bar, offset, kept | value & mask);
    }

    /// Resets the logic. Memory behind the AXI port keeps its contents.
    fn reset(&self);

    /// Returns whether the design is part of the simulated image for AWS F2, so that nothing calls this logic.
    fn is_in_image(&self) -> bool {
        false
    }

    /// Clears the memory behind the AXI port, as on a card whose memory controller is reset together with the function. Does
    /// nothing by default, for logic without memory.
    fn clear_memory(&self) {}
}
