//! AWS F2: its BARs, and the interrupt block of its shell.
//!
//! The shell has no DMA engine. Its BAR2 holds a block with XDMA's identifiers that only turns the custom logic's 16 interrupt lines
//! into messages (aws-fpga, sdk/apps/msix-interrupts). Its channels move no data, and are never started. An engine of the custom logic
//! is at the start of BAR0. As F1 and F2 images can have the same PCI identifiers, F2 is recognized by its BARs.

use super::vectors::irq;
use crate::bus::{BARS, Bar, BusError};
use crate::regs::irq::{USER_ENABLE, USER_VECTORS, pack_vectors};
use std::sync::Arc;

/// The BARs of F2's application function (aws-fpga, "AWS FPGA PCIe Memory Map"). F1 has a BAR1 and a BAR0 of 32 MiB.
const F2_BARS: [u64; BARS] = [64 << 20, 0, 64 << 10, 0, 128 << 30, 0];
/// The BAR with the registers of an engine in the custom logic.
pub(super) const ENGINE_BAR: usize = 0;
/// The BAR with the shell's interrupt block.
pub(super) const SHELL_BAR: usize = 2;
/// Where the user logic's registers begin in [`ENGINE_BAR`], behind those of the engine.
pub(super) const USER_OFFSET: u64 = 64 << 10;
/// Number of interrupt lines from the custom logic to the shell. An engine in the custom logic pulses the line whose number is the
/// vector of the source; higher vectors have no line.
pub(super) const LINES: usize = 16;

/// Returns whether these are the BARs of an F2 card.
pub(super) fn is_f2(bars: [u64; BARS]) -> bool {
    bars == F2_BARS
}

/// The shell's interrupt block. Only its user enable mask and its user vector numbers are written.
#[derive(Clone, Debug)]
pub(super) struct ShellInterrupts(pub Arc<dyn Bar>);

impl ShellInterrupts {
    /// Makes each line send the message with its own number.
    pub fn enable(&self) -> Result<(), BusError> {
        self.write_vectors(|line| line)?;
        self.0.write32(irq(USER_ENABLE), (1 << LINES) - 1)
    }

    /// Masks all lines, and resets the vector numbers.
    pub fn reset(&self) -> Result<(), BusError> {
        self.0.write32(irq(USER_ENABLE), 0)?;
        self.write_vectors(|_| 0)
    }

    fn write_vectors(&self, vector: impl Fn(u8) -> u8) -> Result<(), BusError> {
        (0..LINES as u8).step_by(4).try_for_each(|first| {
            let numbers = pack_vectors(std::array::from_fn(|at| vector(first + at as u8)));
            self.0.write32(irq(USER_VECTORS + u32::from(first)), numbers)
        })
    }
}
