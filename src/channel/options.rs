//! How a channel is to be set up.

use std::fmt;
use std::str::FromStr;

/// The two ways of starting transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Lists that end in Stop, started by a sequence of writes.
    Chain,
    /// Closed lists, continued by writing credits. Not every build of the core has them.
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

/// How a channel is to be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Which ring; `None` takes credits where the core has them, and chains elsewhere.
    pub ring: Option<Ring>,
    /// Descriptors of the ring for single transfers; rounded up to a power of two, at most 512.
    pub slots: usize,
    /// Whether every transfer goes to one fixed card address (AXI FIXED).
    pub fixed_address: bool,
    /// Read busy once before a chain is started again. Nobody has verified whether silicon needs it.
    pub check_idle: bool,
    /// Let the channel interrupt when it completes a transfer or run, and when it fails: for `Card::interrupt`.
    pub interrupt: bool,
    /// How to wait. Modes that sleep switch the interrupt on.
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

/// How [`Channel::wait`](super::Channel::wait) and [`Pool::wait`](super::Pool::wait) wait. Completion is found in memory in each case;
/// sleeping costs a register read, a system call and an interrupt more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Polls, and never gives the processor away: the quickest on a processor of its own.
    Spin,
    /// Polls, and after 1,024 times lets other threads run in between.
    #[default]
    SpinThenYield,
    /// Polls for about as long as it took lately if that was short (1 to 50 us), then sleeps until the channel interrupts.
    Hybrid,
    /// Sleeps at once.
    Interrupt,
}

impl Wait {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Spin, Self::SpinThenYield, Self::Hybrid, Self::Interrupt];

    /// Whether it needs the channel's interrupt.
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

/// No [`Wait`] is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way of waiting; there are spin, spin-then-yield, hybrid and interrupt")]
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
    fn names_are_parsed_as_they_are_printed() {
        for wait in Wait::ALL {
            assert_eq!(wait.to_string().parse(), Ok(wait));
        }
        assert!("sleep".parse::<Wait>().unwrap_err().to_string().contains("hybrid"));
    }
}
