//! The BARs that are opened only when they are used: those of the `bypass` files, and of the `resourceN` files in sysfs.

use crate::caller::Caller;
use crate::errno::of_bus;
use crate::node::Node;
use crate::registers::Registers;
use rustix::io::Errno;
use std::sync::OnceLock;
use xdma::card::{Card, Report};
use xdma::regs::Direction;

/// Number of BARs of a PCI function.
const COUNT: usize = 6;
/// Size in bytes of a word of a descriptor.
const WORD: u64 = 4;
/// Distance in bytes of the channels' addresses in the bypass BAR (`BYPASS_MODE_SPACING`).
const SPACING: u64 = 0x400;

/// The BARs of a card, each opened on first use.
#[derive(Debug)]
pub(crate) struct Bars {
    card: Card,
    /// The BAR after which a bypass BAR is searched. F2 has none: the next one belongs to its shell.
    register_bar: Option<usize>,
    bars: [OnceLock<Option<Registers>>; COUNT],
    h2c_channels: u64,
}

impl Bars {
    pub fn new(card: Card, report: &Report) -> Self {
        let h2c = report.channels.iter().filter(|channel| channel.direction == Direction::H2C);
        let h2c_channels = h2c.count() as u64;
        let register_bar = report.interrupt_bar.is_none().then_some(report.register_bar);
        Self { card, register_bar, bars: Default::default(), h2c_channels }
    }

    pub fn get(&self, index: usize) -> Option<&Registers> {
        let open = || xdma::unstable::card::bar(&self.card, index).ok().map(Registers::new);
        self.bars.get(index)?.get_or_init(open).as_ref()
    }

    /// Returns the bypass BAR: the one that follows the registers (`identify_bars` in the kernel module).
    pub fn bypass(&self) -> Option<&Registers> {
        (self.register_bar? + 1..COUNT).find_map(|index| self.get(index))
    }

    /// Executes `read` or `write` on a file of a BAR other than `user` and `control`.
    pub fn transfer(
        &self,
        node: Node,
        caller: &dyn Caller,
        [address, count]: [u64; 2],
        is_write: bool,
    ) -> Result<u64, Errno> {
        let engine = match node {
            Node::Resource(_) => return Err(Errno::IO),
            Node::BypassH2c(channel) => u64::from(channel),
            Node::BypassC2h(channel) => self.h2c_channels + u64::from(channel),
            _ => return Err(Errno::INVAL),
        };
        if !count.is_multiple_of(WORD) || is_write && address == 0 {
            return Err(Errno::INVAL);
        }
        // In the kernel module, a read returns the descriptors of queued transfers. Here, there are none that another call
        // could see.
        if !is_write {
            return Ok(0);
        }
        let bar = self.bypass().ok_or(Errno::NODEV)?;
        let mut word = [0; WORD as usize];
        for at in (0..count).step_by(WORD as usize) {
            caller.read(address.checked_add(at).ok_or(Errno::FAULT)?, &mut word)?;
            let sent = bar.bar().write32(engine * SPACING, u32::from_le_bytes(word));
            sent.map_err(|error| of_bus(&error))?;
        }
        Ok(count)
    }
}
