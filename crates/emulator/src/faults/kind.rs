//! The faults that can be injected.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use xdma_regs::channel::Status;

/// A fault to inject. The behaviour of the driver for each fault is described in the driver's `docs/faults.md`.
///
/// A fault of a channel is injected into the channel that its [plan names](super::Injection::on), or into the first channel that
/// reaches the injection point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A descriptor is fetched without its magic number. The engine stops with magic_stopped.
    BadMagic,
    /// A descriptor fetch fails. The engine stops with the error's bit in 23:19 (PG195, "H2C Channel Status", descriptor_error)
    /// and magic_stopped. Hardware was seen to set both for a refused fetch; the other kinds are assumed to do the same
    /// (unverified).
    Fetch(BadCompletion),
    /// A read of payload from host memory by an H2C channel fails. The engine stops with the error's bit in 13:9 (PG195, "H2C
    /// Channel Status", read_error) if that error is logged. C2H channels only write. Writes are posted, so the card is not
    /// notified of their outcome.
    HostRead(BadCompletion),
    /// A write of up to 64 KiB by a C2H channel to host memory is lost, as when an IOMMU refuses it.
    HostWriteDropped,
    /// A completed count is not written to host memory.
    WriteBackDropped,
    /// A completed count is written this number of milliseconds after the engine has gone idle.
    WriteBackDelayed(u64),
    /// A completed count is written a second time, after the next one.
    WriteBackRepeated,
    /// A completed count is written before its descriptor's data is moved, and again at the right time.
    WriteBackEarly,
    /// A channel's interrupt message is not sent.
    InterruptLost,
    /// A channel's interrupt message is sent twice.
    InterruptRepeated,
    /// A channel's interrupt message is delayed by this number of milliseconds.
    InterruptLate(u64),
    /// The custom logic answers a burst (up to 4 KiB) with SLVERR.
    AxiSlaveError,
    /// A burst is answered with DECERR, as for an unmapped address.
    AxiDecodeError,
    /// The AXI side stalls this channel for some time, or until the channel is reset.
    AxiHang(FaultDuration),
    /// A burst of an H2C channel is acknowledged and lost. The MSM design then never receives that part of a chunk, and its FIFOs
    /// deadlock until the watchdog fires.
    AxiWriteLost,
    /// BUSY reads 1 for some time, or until the channel is reset. The engine keeps working normally.
    BusyStuck(FaultDuration),
    /// These sticky bits of the status register (23:1) stay set until the channel is reset.
    StatusStuck(u32),
    /// The completed count jumps forward by this number.
    CountJump(u32),
    /// The XDMA registers read all ones for some time, or forever.
    AllOnes(FaultDuration),
    /// A function reset has no effect.
    ResetIneffective,
    /// A function reset also clears the memory behind the AXI port, which normally keeps its contents.
    ResetClears,
    /// The link goes down, as in a surprise removal, after a loss of slot power, or while an image is loaded. Reads of
    /// configuration space and BARs return all ones and writes are lost. The function is reset as by a hot reset (PCI Express
    /// Base Specification, "Transaction Layer Behavior in DL_Down Status"), which stops DMA.
    LinkDown,
    /// The link comes up again. The function is in its reset state, so bus mastering is off.
    LinkUp,
    /// The emulated card's process ends: its socket is closed, and further connections fail.
    ProcessGone,
}

/// The failed completion of a read of host memory (PG195, "H2C Channel Status").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BadCompletion {
    /// No completer claims the address, or an IOMMU refused the access (completion status UR).
    UnsupportedRequest,
    /// The completer aborted the request (completion status CA).
    CompleterAbort,
    /// The data has a parity error inside the card's own PCIe block.
    Parity,
    /// The completion is poisoned: its sender marks the data as bad (EP bit in the header).
    Poisoned,
    /// The completion does not match any request.
    Unexpected,
}

/// The duration of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultDuration {
    /// The duration in milliseconds.
    Millis(u64),
    /// Forever, or until a reset.
    Forever,
}

/// A point at which faults can be injected. [`Injection::after`](super::Injection::after) counts how often it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InjectionPoint {
    /// A request for descriptors.
    Fetch,
    /// The arrival of a descriptor.
    Descriptor,
    /// A read of up to 64 KiB of payload from host memory.
    HostRead,
    /// A write of up to 64 KiB of payload to host memory.
    HostWrite,
    /// A write-back of the completed count.
    WriteBack,
    /// The start of a descriptor that reports completion, before its data is moved.
    Begin,
    /// The completion of a descriptor, after its data was moved.
    Finish,
    /// An interrupt of a channel.
    Interrupt,
    /// A burst of up to 4 KiB that is offered to the logic.
    Burst,
    /// A burst of an H2C channel.
    BurstWrite,
    /// A read of a channel's status.
    Status,
    /// A read of the XDMA registers.
    RegisterRead,
    /// An access to any BAR.
    Access,
    /// A function reset.
    Reset,
}

impl Kind {
    /// One fault of each kind, with typical parameters.
    pub const ALL: [Self; 24] = [
        Self::BadMagic,
        Self::Fetch(BadCompletion::UnsupportedRequest),
        Self::HostRead(BadCompletion::CompleterAbort),
        Self::HostWriteDropped,
        Self::WriteBackDropped,
        Self::WriteBackDelayed(3),
        Self::WriteBackRepeated,
        Self::WriteBackEarly,
        Self::InterruptLost,
        Self::InterruptRepeated,
        Self::InterruptLate(3),
        Self::AxiSlaveError,
        Self::AxiDecodeError,
        Self::AxiHang(FaultDuration::Millis(10)),
        Self::AxiWriteLost,
        Self::BusyStuck(FaultDuration::Millis(10)),
        Self::StatusStuck(Status::MAGIC_STOPPED.bits()),
        Self::CountJump(1 << 20),
        Self::AllOnes(FaultDuration::Millis(10)),
        Self::ResetIneffective,
        Self::ResetClears,
        Self::LinkDown,
        Self::LinkUp,
        Self::ProcessGone,
    ];

    /// Returns the name, as used in a plan.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadMagic => "BadMagic",
            Self::Fetch(_) => "Fetch",
            Self::HostRead(_) => "HostRead",
            Self::HostWriteDropped => "HostWriteDropped",
            Self::WriteBackDropped => "WriteBackDropped",
            Self::WriteBackDelayed(_) => "WriteBackDelayed",
            Self::WriteBackRepeated => "WriteBackRepeated",
            Self::WriteBackEarly => "WriteBackEarly",
            Self::InterruptLost => "InterruptLost",
            Self::InterruptRepeated => "InterruptRepeated",
            Self::InterruptLate(_) => "InterruptLate",
            Self::AxiSlaveError => "AxiSlaveError",
            Self::AxiDecodeError => "AxiDecodeError",
            Self::AxiHang(_) => "AxiHang",
            Self::AxiWriteLost => "AxiWriteLost",
            Self::BusyStuck(_) => "BusyStuck",
            Self::StatusStuck(_) => "StatusStuck",
            Self::CountJump(_) => "CountJump",
            Self::AllOnes(_) => "AllOnes",
            Self::ResetIneffective => "ResetIneffective",
            Self::ResetClears => "ResetClears",
            Self::LinkDown => "LinkDown",
            Self::LinkUp => "LinkUp",
            Self::ProcessGone => "ProcessGone",
        }
    }

    /// Returns whether data is lost or reported too early without any sign that a driver could detect. Only an end-to-end check
    /// of the data finds such a fault.
    pub const fn is_silent(self) -> bool {
        use Kind::*;
        matches!(self, HostWriteDropped | WriteBackEarly | AxiWriteLost | ResetClears)
    }

    /// Returns whether the fault concerns the whole card rather than a channel.
    pub const fn is_card_wide(self) -> bool {
        use Kind::*;
        matches!(self, AllOnes(_) | ResetIneffective | ResetClears | LinkDown | LinkUp | ProcessGone)
    }

    pub(crate) const fn injection_point(self) -> InjectionPoint {
        match self {
            Self::BadMagic => InjectionPoint::Descriptor,
            Self::Fetch(_) => InjectionPoint::Fetch,
            Self::HostRead(_) => InjectionPoint::HostRead,
            Self::HostWriteDropped => InjectionPoint::HostWrite,
            Self::WriteBackDropped | Self::WriteBackDelayed(_) | Self::WriteBackRepeated => {
                InjectionPoint::WriteBack
            }
            Self::WriteBackEarly => InjectionPoint::Begin,
            Self::InterruptLost | Self::InterruptRepeated | Self::InterruptLate(_) => {
                InjectionPoint::Interrupt
            }
            Self::AxiSlaveError | Self::AxiDecodeError | Self::AxiHang(_) => InjectionPoint::Burst,
            Self::AxiWriteLost => InjectionPoint::BurstWrite,
            Self::BusyStuck(_) | Self::StatusStuck(_) => InjectionPoint::Status,
            Self::CountJump(_) => InjectionPoint::Finish,
            Self::AllOnes(_) => InjectionPoint::RegisterRead,
            Self::LinkDown | Self::LinkUp | Self::ProcessGone => InjectionPoint::Access,
            Self::ResetIneffective | Self::ResetClears => InjectionPoint::Reset,
        }
    }
}

impl BadCompletion {
    pub(crate) const fn of_fetch(self) -> Status {
        match self {
            Self::UnsupportedRequest => Status::DESC_UNSUPPORTED_REQUEST,
            Self::CompleterAbort => Status::DESC_COMPLETER_ABORT,
            Self::Parity => Status::DESC_PARITY,
            Self::Poisoned => Status::DESC_POISONED,
            Self::Unexpected => Status::DESC_UNEXPECTED_COMPLETION,
        }
    }

    pub(crate) const fn of_host_read(self) -> Status {
        match self {
            Self::UnsupportedRequest => Status::READ_ERROR_0,
            Self::CompleterAbort => Status::READ_ERROR_1,
            Self::Parity => Status::READ_ERROR_2,
            Self::Poisoned => Status::READ_ERROR_3,
            Self::Unexpected => Status::READ_ERROR_4,
        }
    }
}

impl FaultDuration {
    pub(crate) fn until(self) -> Until {
        let Self::Millis(millis) = self else { return Until::Forever };
        Instant::now().checked_add(Duration::from_millis(millis)).map_or(Until::Forever, Until::At)
    }
}

/// The end of a lasting fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    At(Instant),
    Forever,
}

impl Until {
    pub fn is_over(self) -> bool {
        matches!(self, Self::At(end) if Instant::now() >= end)
    }

    pub fn end(self) -> Option<Instant> {
        match self {
            Self::At(end) => Some(end),
            Self::Forever => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error for an unknown name lists the names that a plan may use.
    #[test]
    fn every_name_is_listed() {
        let error = serde_json::from_str::<Kind>("\"Nonsense\"").unwrap_err().to_string();
        let known: Vec<_> = error.split('`').skip(3).step_by(2).collect();
        assert!(Kind::ALL.iter().map(|kind| kind.name()).eq(known.iter().copied()), "{known:?}");
        assert_eq!(known.len(), 24);
    }
}
