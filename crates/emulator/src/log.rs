//! The card's event log: broken rules, refused accesses, and work counters.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use xdma_regs::Direction;

/// The maximum number of entries in a log. Later entries are dropped.
const LOG_LENGTH: usize = 1024;

/// The serialized form of [`Direction`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction")]
enum DirectionName {
    H2C,
    C2H,
}

/// A channel of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChannelId {
    /// The channel's direction.
    #[serde(with = "DirectionName")]
    pub direction: Direction,
    /// The channel's number, 0 to 3.
    pub index: usize,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, self.index)
    }
}

/// A rule that drivers must follow. The behaviour of silicon when a rule is broken is undocumented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Descriptors are aligned to 32 bytes.
    DescriptorAlignment,
    /// A block of adjacent descriptors does not cross 4 KiB.
    BlockCrossesPage,
    /// Only the last descriptor of a block has Stop set.
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
    /// Run is set only when it is clear: the engine starts on a rising edge, and writing 1 to a Run bit that is 1 does nothing.
    RunUnchanged,
    /// The first descriptor's address is not written while the channel runs.
    StartWhileRunning,
    /// Bus mastering is enabled when a channel may fetch.
    BusMasterOff,
    /// The channels of a block that only delivers interrupts are not started.
    InterruptBlockStarted,
    /// Memory is released only when the card no longer uses it. Detected only if the client reports its releases, through a
    /// [`ReleaseObserver`](super::ReleaseObserver) or [`control`](super::control).
    ReleasedMemory,
    /// Memory is unmapped only when the card no longer uses it, or with bus mastering off.
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
            Self::RunUnchanged => {
                "Run set on an idle channel whose Run bit is already set, which does nothing"
            }
            Self::StartWhileRunning => "first descriptor address written while the channel runs",
            Self::ReleasedMemory => "access to memory that the driver has released",
            Self::UnmappedInFlight => "memory unmapped while the card used it",
            Self::BusMasterOff => "descriptor fetch with bus mastering off",
            Self::InterruptBlockStarted => "Run set in the block that only delivers interrupts",
        }
    }
}

/// A broken [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The broken rule.
    pub rule: Rule,
    /// The address of the descriptor in host memory, or of the register in its BAR.
    pub address: u64,
    /// The channel, if the rule concerns one.
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

/// The purpose of a refused access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Reading descriptors.
    Fetch,
    /// Reading (H2C) or writing (C2H) payload.
    Payload,
    /// Writing the completed count.
    WriteBack,
    /// Writing the metadata of a C2H stream descriptor.
    Metadata,
}

/// The reason why an access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DmaFaultReason {
    /// No map covers the address.
    Unmapped,
    /// The map does not permit this kind of access.
    Permission,
    /// The map was created without a file descriptor, so the card's process cannot access its memory.
    Unreachable,
}

/// An access to host memory that was refused, as an IOMMU would refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmaFault {
    /// The first address that was refused.
    pub iova: u64,
    /// Whether the access was a write.
    pub write: bool,
    /// The purpose of the access.
    pub purpose: Purpose,
    /// The reason for the refusal.
    pub reason: DmaFaultReason,
    /// The channel that made the access.
    pub channel: ChannelId,
}

impl fmt::Display for DmaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.write { "write to" } else { "read of" };
        let Self { iova, purpose, reason, channel, .. } = self;
        write!(f, "{verb} {iova:#x} by {channel} refused: {reason:?} ({purpose:?})")
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Work done since the card was started or its image loaded.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct CardCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The live counters.
        #[derive(Debug, Default)]
        pub(super) struct AtomicCounters {
            $(pub $name: AtomicU64,)*
        }

        impl AtomicCounters {
            fn snapshot(&self) -> CardCounters {
                CardCounters { $($name: self.$name.load(Ordering::Relaxed),)* }
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
    /// Writes that set a channel's Run bit or add credits.
    doorbells,
    /// Requests for descriptors.
    fetch_requests,
    /// Descriptors received.
    descriptors_fetched,
    /// Descriptors completed.
    descriptors_completed,
    /// Bytes moved from the host to the card.
    h2c_bytes,
    /// Bytes moved from the card to the host.
    c2h_bytes,
    /// Completed counts written to host memory.
    write_backs,
    /// Interrupt messages sent.
    interrupts,
    /// AXI transfers of up to 4 KiB that the shell ended because the logic did not answer (see
    /// [`EmulatorOptions::axi_timeout`](super::EmulatorOptions::axi_timeout)).
    axi_timeouts,
    /// Accesses to host memory that were refused.
    dma_faults,
    /// Rule violations.
    violations,
}

/// All events recorded by the card.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    violations: Mutex<Vec<Violation>>,
    dma_faults: Mutex<Vec<DmaFault>>,
    pub count: AtomicCounters,
}

impl EventLog {
    pub fn violation(&self, rule: Rule, address: u64, channel: Option<ChannelId>) {
        add(&self.count.violations, 1);
        let violation = Violation { rule, address, channel };
        let entries = lock(&self.violations);
        let repeated = entries.last() == Some(&violation);
        if push(entries, violation) && !repeated {
            tracing::warn!("{violation}");
        }
    }

    pub fn dma_fault(&self, fault: DmaFault) {
        add(&self.count.dma_faults, 1);
        if push(lock(&self.dma_faults), fault) {
            tracing::debug!("{fault}");
        }
    }

    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).clone()
    }

    pub fn dma_faults(&self) -> Vec<DmaFault> {
        lock(&self.dma_faults).clone()
    }

    pub fn counters(&self) -> CardCounters {
        self.count.snapshot()
    }

    /// Clears all entries and counters.
    pub fn clear(&self) {
        lock(&self.violations).clear();
        lock(&self.dma_faults).clear();
        self.count.clear();
    }
}

/// Appends an entry unless the log is full; returns whether it did.
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

/// Locks a mutex even if it is poisoned: the state behind our mutexes is valid at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelId = ChannelId { direction: Direction::H2C, index: 2 };

    #[test]
    fn entries_name_the_rule_and_address() {
        let violation = Violation { rule: Rule::ZeroLength, address: 0x1040, channel: Some(CHANNEL) };
        assert_eq!(violation.to_string(), "descriptor of length 0 at 0x1040 (H2C 2)");
        let fault = DmaFault {
            iova: 0x2000,
            write: false,
            purpose: Purpose::Fetch,
            reason: DmaFaultReason::Unmapped,
            channel: CHANNEL,
        };
        assert_eq!(fault.to_string(), "read of 0x2000 by H2C 2 refused: Unmapped (Fetch)");
    }

    #[test]
    fn logs_are_bounded_and_counters_are_not() {
        let log = EventLog::default();
        for address in 0..2000 {
            log.violation(Rule::ReservedBits, address, None);
        }
        assert_eq!(log.violations().len(), LOG_LENGTH);
        assert_eq!(log.counters().violations, 2000);
    }
}
