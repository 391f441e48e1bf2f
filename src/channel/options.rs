//! Options of a channel.

use std::fmt;
use std::str::FromStr;

/// The two kinds of descriptor ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Lists that end with Stop. Each start is a sequence of register writes.
    Chain,
    /// A closed list that the engine continues whenever credits are written. Not every build of the core supports it.
    Credits,
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chain => "chain",
            Self::Credits => "credits",
        })
    }
}

/// Options for opening a channel.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::sync::Arc;
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::{EmulatorOptions, logic::Memory};
/// use xdma::channel::{ChannelOptions, Ring, Wait};
/// use xdma::regs::Direction;
///
/// # let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let options = ChannelOptions { ring: Some(Ring::Chain), wait: Wait::Spin, ..ChannelOptions::default() };
/// let channel = card.channel(Direction::H2C, 0, options)?;
/// assert_eq!(channel.ring(), Ring::Chain);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// The ring; `None` selects credits where the core supports them, and chains otherwise.
    pub ring: Option<Ring>,
    /// Number of descriptors of the ring for single transfers; rounded up to a power of two, at most 512.
    pub slots: usize,
    /// Whether every transfer accesses one fixed card address (AXI FIXED).
    pub fixed_address: bool,
    /// Whether to read the busy bit before a chain is started again. Whether silicon needs this has not been verified. If it does, a
    /// chain that is started without it may never run, and its wait misses its deadline. Without it, a completion whose write-back is
    /// lost is not found either, because the count register may still show that of the chain before.
    pub check_idle: bool,
    /// Whether the channel interrupts when it completes a transfer or run, and when it fails: for `Card::interrupt`. A wait that
    /// sleeps takes the interrupt; to leave it to the caller, poll, or select a [`Wait`] mode that does not sleep.
    pub interrupt: bool,
    /// How to wait. Modes that sleep, such as the default, enable the interrupt.
    pub wait: Wait,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            ring: None,
            slots: 256,
            fixed_address: false,
            check_idle: true,
            interrupt: false,
            wait: Wait::default(),
        }
    }
}

/// How [`Channel::wait`](super::Channel::wait) and [`Pool::wait`](super::Pool::wait) wait. Completion is always detected in
/// memory; sleeping adds a register read, a system call and an interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Polls without yielding the processor: the fastest on a dedicated processor.
    Spin,
    /// Polls, and yields to other threads between polls after the first 1,024. On a crowded host, every other thread then runs
    /// for a time slice first.
    SpinThenYield,
    /// Polls for about as long as recent waits took if they were short (1 to 50 us), then sleeps until the channel interrupts.
    /// The default. On a card without interrupts, the channel uses [`SpinThenYield`](Self::SpinThenYield) instead.
    #[default]
    Hybrid,
    /// Sleeps immediately.
    Interrupt,
}

impl Wait {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::Spin, Self::SpinThenYield, Self::Hybrid, Self::Interrupt];

    /// Returns whether this mode needs the channel's interrupt.
    pub const fn sleeps(self) -> bool {
        matches!(self, Self::Hybrid | Self::Interrupt)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::SpinThenYield => "spin-then-yield",
            Self::Hybrid => "hybrid",
            Self::Interrupt => "interrupt",
        })
    }
}

/// The name is not that of a [`Wait`] mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a wait mode; use spin, spin-then-yield, hybrid or interrupt")]
pub struct UnknownWait(String);

impl FromStr for Wait {
    type Err = UnknownWait;

    fn from_str(name: &str) -> Result<Self, UnknownWait> {
        let named = Self::ALL.into_iter().find(|wait| wait.to_string() == name);
        named.ok_or_else(|| UnknownWait(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printed_name_parses() {
        for wait in Wait::ALL {
            assert_eq!(wait.to_string().parse(), Ok(wait));
        }
        assert!("sleep".parse::<Wait>().unwrap_err().to_string().contains("hybrid"));
    }
}
