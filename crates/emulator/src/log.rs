//! What the card noticed: rules broken, accesses refused, work counted.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use xdma_regs::Direction;

/// Entries that a log keeps; what comes after is dropped.
const LOG_LENGTH: usize = 1024;

/// How a direction is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction")]
enum DirectionName {
    H2C,
    C2H,
}

/// A channel of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChannelId {
    /// Its direction.
    #[serde(with = "DirectionName")]
    pub direction: Direction,
    /// Its number, 0 to 3.
    pub index: usize,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, self.index)
    }
}

/// A rule that silicon may punish in ways nobody has documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Descriptors lie at multiples of 32 bytes.
    DescriptorAlignment,
    /// A block of adjacent descriptors does not cross 4 KiB.
    BlockCrossesPage,
    /// Stop stands only on the last descriptor of a block.
    StopInsideBlock,
    /// A descriptor moves at least one byte.
    ZeroLength,
    /// Reserved bits of a descriptor are 0.
    ReservedBits,
    /// Registers are accessed by aligned 32-bit words.
    AccessWidth,
    /// No more than 1023 credits are outstanding.
    CreditOverflow,
    /// Run is set only when the channel is idle.
    RunWhileBusy,
    /// The first descriptor's address is not written while the channel runs.
    StartWhileRunning,
    /// A channel that may fetch has bus mastering enabled.
    BusMasterOff,
    /// Memory is released only once the card is done with it. Seen where the client tells of it, to a
    /// [`Witness`](super::Witness) or by [`control`](super::control).
    ReleasedMemory,
    /// Memory is unmapped only once the card is done with it, or with bus mastering off.
    UnmappedInFlight,
}

impl Rule {
    const fn text(self) -> &'static str {
        match self {
            Self::DescriptorAlignment => "descriptor not aligned to 32 bytes",
            Self::BlockCrossesPage => "block of adjacent descriptors crosses 4 KiB",
            Self::StopInsideBlock => "Stop before the end of a block of adjacent descriptors",
            Self::ZeroLength => "descriptor of length 0",
            Self::ReservedBits => "reserved bits set in a descriptor",
            Self::AccessWidth => "register access that is not an aligned 32-bit word",
            Self::CreditOverflow => "more than 1023 credits",
            Self::RunWhileBusy => "Run set while the channel is busy",
            Self::StartWhileRunning => "first descriptor address written while the channel runs",
            Self::ReleasedMemory => "access to memory that the driver has released",
            Self::UnmappedInFlight => "memory unmapped while the card used it",
            Self::BusMasterOff => "descriptor fetch with bus mastering off",
        }
    }
}

/// A broken [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// Of the descriptor in host memory, or of the register in its BAR.
    pub address: u64,
    /// The channel, where one is concerned.
    pub channel: Option<ChannelId>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.rule.text(), self.address)?;
        match self.channel {
            Some(channel) => write!(f, " ({channel})"),
            None => Ok(()),
        }
    }
}

/// What a refused access was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Read descriptors.
    Fetch,
    /// Read (H2C) or write (C2H) payload.
    Payload,
    /// Write the completed count.
    WriteBack,
    /// Write a C2H stream descriptor's metadata.
    Metadata,
}

/// Why an access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No map covers the address.
    Unmapped,
    /// The map does not allow this direction.
    Permission,
    /// The map came without memory that the card's process can reach.
    Unreachable,
}

/// An access to host memory that was refused, as an IOMMU would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// First address that was refused.
    pub iova: u64,
    /// Whether the card wanted to write.
    pub write: bool,
    /// What for.
    pub purpose: Purpose,
    /// Why not.
    pub refusal: Refusal,
    /// By which channel.
    pub channel: ChannelId,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.write { "write to" } else { "read of" };
        let Self { iova, purpose, refusal, channel, .. } = self;
        write!(f, "{verb} {iova:#x} by {channel} refused: {refusal:?} ({purpose:?})")
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Work done since the card was made, or its image loaded.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters while they count.
        #[derive(Debug, Default)]
        pub(super) struct Counting {
            $(pub $name: AtomicU64,)*
        }

        impl Counting {
            fn snapshot(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            fn clear(&self) {
                $(self.$name.store(0, Ordering::Relaxed);)*
            }
        }
    };
}

counters! {
    /// Reads of the XDMA BAR.
    register_reads,
    /// Writes to the XDMA BAR, doorbells included.
    register_writes,
    /// Writes that set a channel's Run or gave it credits.
    doorbells,
    /// Requests for descriptors.
    fetch_requests,
    /// Descriptors that came with them.
    descriptors_fetched,
    /// Descriptors finished.
    descriptors_completed,
    /// Bytes moved from the host to the card.
    h2c_bytes,
    /// Bytes moved from the card to the host.
    c2h_bytes,
    /// Completed counts written to host memory.
    write_backs,
    /// Interrupt messages sent.
    interrupts,
    /// AXI transfers, of up to 4 KiB, that the shell ended since the logic did not (see
    /// [`Options::axi_timeout`](super::Options::axi_timeout)).
    axi_timeouts,
    /// Accesses to host memory that were refused.
    faults,
    /// Rules broken.
    violations,
}

/// Everything the card noticed.
#[derive(Debug, Default)]
pub(super) struct Log {
    violations: Mutex<Vec<Violation>>,
    faults: Mutex<Vec<Fault>>,
    pub count: Counting,
}

impl Log {
    pub fn violation(&self, rule: Rule, address: u64, channel: Option<ChannelId>) {
        add(&self.count.violations, 1);
        let violation = Violation { rule, address, channel };
        if push(lock(&self.violations), violation) {
            tracing::warn!("{violation}");
        }
    }

    pub fn fault(&self, fault: Fault) {
        add(&self.count.faults, 1);
        if push(lock(&self.faults), fault) {
            tracing::debug!("{fault}");
        }
    }

    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).clone()
    }

    pub fn faults(&self) -> Vec<Fault> {
        lock(&self.faults).clone()
    }

    pub fn counters(&self) -> Counters {
        self.count.snapshot()
    }

    /// Nothing was noticed yet.
    pub fn clear(&self) {
        lock(&self.violations).clear();
        lock(&self.faults).clear();
        self.count.clear();
    }
}

/// False if the log is full.
fn push<T>(mut log: MutexGuard<'_, Vec<T>>, entry: T) -> bool {
    let room = log.len() < LOG_LENGTH;
    if room {
        log.push(entry);
    }
    room
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Locks, also after a thread panicked with the lock held: every state behind our locks is valid at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelId = ChannelId { direction: Direction::H2C, index: 2 };

    #[test]
    fn entries_name_rule_and_address() {
        let violation = Violation { rule: Rule::ZeroLength, address: 0x1040, channel: Some(CHANNEL) };
        assert_eq!(violation.to_string(), "descriptor of length 0 at 0x1040 (H2C 2)");
        let fault = Fault {
            iova: 0x2000,
            write: false,
            purpose: Purpose::Fetch,
            refusal: Refusal::Unmapped,
            channel: CHANNEL,
        };
        assert_eq!(fault.to_string(), "read of 0x2000 by H2C 2 refused: Unmapped (Fetch)");
    }

    #[test]
    fn logs_are_bounded_and_counters_are_not() {
        let log = Log::default();
        for address in 0..2000 {
            log.violation(Rule::ReservedBits, address, None);
        }
        assert_eq!(log.violations().len(), LOG_LENGTH);
        assert_eq!(log.counters().violations, 2000);
    }
}
