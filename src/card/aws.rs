//! AWS F2: its BARs, and the interrupt block of its shell.
//!
//! The shell has no DMA engine. Its BAR2 holds a block with XDMA's identifiers that only turns the custom logic's 16 interrupt lines
//! into messages (aws-fpga, sdk/apps/msix-interrupts). Its channels move no data, and are never started. An engine of the custom logic
//! is at the start of BAR0. As F1 and F2 images can have the same PCI identifiers, F2 is recognized by its BARs.

use super::identify::{identifiers, is_xdma};
use super::vectors::irq;
use crate::bus::{BARS, Bar, BusError};
use crate::regs::irq::{USER_ENABLE, USER_VECTORS, pack_vectors};
use std::sync::Arc;

/// The BARs of F2's application function (aws-fpga, "AWS FPGA PCIe Memory Map"). F1 has a BAR1,
/// and its BAR0 has 32 MiB.
const F2_BARS: [u64; BARS] = [64 << 20, 0, 64 << 10, 0, 128 << 30, 0];
/// The BAR with the registers of an engine in the custom logic.
pub(super) const ENGINE_BAR: usize = 0;
/// The BAR with the shell's interrupt block.
pub const SHELL_BAR: usize = 2;
/// Where the user logic's registers begin in [`ENGINE_BAR`], after those of the engine.
pub(super) const USER_OFFSET: u64 = 64 << 10;
/// Number of interrupt lines from the custom logic to the shell. To send a vector, an engine in the custom logic pulses the line of
/// that number; vectors from 16 on have no line.
pub(super) const LINES: usize = 16;
/// The enable mask of all lines.
const ALL: u32 = (1 << LINES) - 1;

/// Returns whether these are the BARs of an F2 card.
pub fn is_f2(bars: [u64; BARS]) -> bool {
    bars == F2_BARS
}

/// The shell's interrupt block. Only its user enable mask and its user vector numbers are written.
#[derive(Clone, Debug)]
pub struct ShellInterrupts(Arc<dyn Bar>);

impl ShellInterrupts {
    /// Returns the block if the BAR holds one.
    ///
    /// # Errors
    ///
    /// As [`Bar::read32`].
    pub fn find(bar: Arc<dyn Bar>) -> Result<Option<Self>, BusError> {
        let ids = identifiers(&*bar)?;
        Ok(is_xdma(ids).then_some(Self(bar)))
    }

    /// Returns whether each line sends the message with its own number.
    ///
    /// # Errors
    ///
    /// As [`Bar::read32`].
    pub fn is_enabled(&self) -> Result<bool, BusError> {
        let mut enabled = self.0.read32(irq(USER_ENABLE))? == ALL;
        for (register, numbers) in vectors(|line| line) {
            enabled &= self.0.read32(register)? == numbers;
        }
        Ok(enabled)
    }

    /// Makes each line send the message with its own number.
    ///
    /// # Errors
    ///
    /// As [`Bar::write32`].
    pub fn enable(&self) -> Result<(), BusError> {
        self.write_vectors(|line| line)?;
        self.0.write32(irq(USER_ENABLE), ALL)
    }

    /// Masks all lines, and resets the vector numbers.
    ///
    /// # Errors
    ///
    /// As [`Bar::write32`].
    pub fn reset(&self) -> Result<(), BusError> {
        self.0.write32(irq(USER_ENABLE), 0)?;
        self.write_vectors(|_| 0)
    }

    fn write_vectors(&self, vector: impl Fn(u8) -> u8) -> Result<(), BusError> {
        vectors(vector).try_for_each(|(register, numbers)| self.0.write32(register, numbers))
    }
}

/// Returns the addresses and values of the vector registers.
fn vectors(vector: impl Fn(u8) -> u8) -> impl Iterator<Item = (u64, u32)> {
    (0..LINES as u8).step_by(4).map(move |first| {
        let numbers = pack_vectors(std::array::from_fn(|at| vector(first + at as u8)));
        (irq(USER_VECTORS + u32::from(first)), numbers)
    })
}
