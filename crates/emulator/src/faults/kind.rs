//! The faults, by name.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use xdma_regs::channel::Status;

/// What goes wrong. What the driver does then is in [`crate::faults`].
///
/// A channel's fault strikes the channel that it is planned [for](super::Injection::on), or whichever has the next occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A descriptor arrives without its magic number: the engine stops with magic_stopped.
    BadMagic,
    /// A descriptor fetch fails. The engine stops with the error's bit of 23:19 (PG195, "H2C Channel Status",
    /// descriptor_error) and magic_stopped: of a refused fetch hardware was seen to set both, the other kinds are taken to
    /// do the same (unverified).
    Fetch(BadCompletion),
    /// A read of payload from host memory by an H2C channel fails. The engine stops with the error's bit of 13:9 (PG195,
    /// "H2C Channel Status", read_error) if that is logged. C2H channels only write, and writes are posted: nobody
    /// tells the card what became of them.
    HostRead(BadCompletion),
    /// Up to 64 KiB that a C2H channel writes to host memory vanish, as when an IOMMU refuses them.
    HostWriteDropped,
    /// A completed count is not written to host memory.
    WriteBackDropped,
    /// A completed count is written so many milliseconds after the engine is idle.
    WriteBackDelayed(u64),
    /// A completed count is written again, after the next one.
    WriteBackRepeated,
    /// A completed count is written before its descriptor's data moves, and again in time.
    WriteBackEarly,
    /// A channel's interrupt message is not sent.
    InterruptLost,
    /// A channel's interrupt message is sent twice.
    InterruptRepeated,
    /// A channel's interrupt message is sent so many milliseconds late.
    InterruptLate(u64),
    /// The custom logic answers a burst (up to 4 KiB) with SLVERR.
    AxiSlaveError,
    /// Nobody answers a burst: DECERR.
    AxiDecodeError,
    /// The AXI side takes or gives nothing to this channel for a time, or until the channel is reset.
    AxiHang(Lasting),
    /// A burst of an H2C channel is acknowledged and lost. To the MSM design a chunk is then incomplete: its FIFOs deadlock,
    /// and its watchdog ends that.
    AxiWriteLost,
    /// Busy reads 1 for a time, or until the channel is reset, while the engine works as ever.
    BusyStuck(Lasting),
    /// These sticky bits of the status register, 23:1, stay set until the channel is reset.
    StatusStuck(u32),
    /// The completed count jumps forward by so many.
    CountJump(u32),
    /// The XDMA registers read all ones for a time, or for ever.
    AllOnes(Lasting),
    /// A reset of the function does nothing.
    ResetIneffective,
    /// A reset of the function also clears the memory behind the AXI port, which keeps its content otherwise.
    ResetClears,
    /// The link goes down: a surprise removal, a slot without power, an image being loaded. Reads of configuration space
    /// and BARs give all ones, writes are lost, and the function is reset, as by a hot reset (PCI Express Base
    /// Specification, "Transaction Layer Behavior in DL_Down Status"), which ends DMA.
    LinkDown,
    /// The link comes back: the function as after a reset, so with bus mastering off.
    LinkUp,
    /// The emulated card's process ends: its socket is closed, and nobody listens there again.
    ProcessGone,
}

/// What came back for a read of host memory, instead of its data (PG195, "H2C Channel Status").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BadCompletion {
    /// Nobody feels addressed, or an IOMMU refused (completion status UR).
    UnsupportedRequest,
    /// The completer gave up on the request (completion status CA).
    CompleterAbort,
    /// The data's parity is wrong on the way through the card's own PCIe block.
    Parity,
    /// The completion is marked as poisoned: its sender knows that the data is bad (EP bit of the header).
    Poisoned,
    /// The completion answers no request.
    Unexpected,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lasting {
    /// So many milliseconds.
    Millis(u64),
    /// For ever, or until a reset ends it.
    ForEver,
}

/// When something may go wrong: what [`Injection::after`](super::Injection::after) counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A request for descriptors.
    Fetch,
    /// A descriptor that arrived.
    Descriptor,
    /// A read of up to 64 KiB of payload from host memory.
    HostRead,
    /// A write of as much.
    HostWrite,
    /// A completed count that is written back.
    WriteBack,
    /// A descriptor that reports completion, before its data moves.
    Begin,
    /// A descriptor whose data was moved.
    Finish,
    /// An interrupt of a channel.
    Interrupt,
    /// A burst of up to 4 KiB that the logic is offered.
    Burst,
    /// A burst of an H2C channel.
    BurstWrite,
    /// A read of a channel's status.
    Status,
    /// A read of the XDMA registers.
    RegisterRead,
    /// An access to any BAR.
    Access,
    /// A reset of the function.
    Reset,
}

impl Kind {
    /// One of each, with middling parameters.
    pub const EACH: [Self; 24] = [
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
        Self::AxiHang(Lasting::Millis(10)),
        Self::AxiWriteLost,
        Self::BusyStuck(Lasting::Millis(10)),
        Self::StatusStuck(Status::MAGIC_STOPPED.bits()),
        Self::CountJump(1 << 20),
        Self::AllOnes(Lasting::Millis(10)),
        Self::ResetIneffective,
        Self::ResetClears,
        Self::LinkDown,
        Self::LinkUp,
        Self::ProcessGone,
    ];

    /// Its name, as in a plan.
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

    /// Whether data is lost or early, and no driver can notice by itself: only an end-to-end check of the data can.
    pub const fn is_silent(self) -> bool {
        use Kind::*;
        matches!(self, HostWriteDropped | WriteBackEarly | AxiWriteLost | ResetClears)
    }

    /// Whether it concerns the whole card rather than a channel.
    pub const fn is_of_card(self) -> bool {
        use Kind::*;
        matches!(self, AllOnes(_) | ResetIneffective | ResetClears | LinkDown | LinkUp | ProcessGone)
    }

    pub(crate) const fn occasion(self) -> Occasion {
        match self {
            Self::BadMagic => Occasion::Descriptor,
            Self::Fetch(_) => Occasion::Fetch,
            Self::HostRead(_) => Occasion::HostRead,
            Self::HostWriteDropped => Occasion::HostWrite,
            Self::WriteBackDropped | Self::WriteBackDelayed(_) | Self::WriteBackRepeated => {
                Occasion::WriteBack
            }
            Self::WriteBackEarly => Occasion::Begin,
            Self::InterruptLost | Self::InterruptRepeated | Self::InterruptLate(_) => Occasion::Interrupt,
            Self::AxiSlaveError | Self::AxiDecodeError | Self::AxiHang(_) => Occasion::Burst,
            Self::AxiWriteLost => Occasion::BurstWrite,
            Self::BusyStuck(_) | Self::StatusStuck(_) => Occasion::Status,
            Self::CountJump(_) => Occasion::Finish,
            Self::AllOnes(_) => Occasion::RegisterRead,
            Self::LinkDown | Self::LinkUp | Self::ProcessGone => Occasion::Access,
            Self::ResetIneffective | Self::ResetClears => Occasion::Reset,
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

impl Lasting {
    pub(crate) fn until(self) -> Until {
        let Self::Millis(millis) = self else { return Until::ForEver };
        Instant::now().checked_add(Duration::from_millis(millis)).map_or(Until::ForEver, Until::At)
    }
}

/// The end of what lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    At(Instant),
    ForEver,
}

impl Until {
    pub fn is_over(self) -> bool {
        matches!(self, Self::At(end) if Instant::now() >= end)
    }

    pub fn end(self) -> Option<Instant> {
        match self {
            Self::At(end) => Some(end),
            Self::ForEver => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that a plan may use are told by the error about one that it may not.
    #[test]
    fn each_is_there() {
        let error = serde_json::from_str::<Kind>("\"Nonsense\"").unwrap_err().to_string();
        let known: Vec<_> = error.split('`').skip(3).step_by(2).collect();
        assert!(Kind::EACH.iter().map(|kind| kind.name()).eq(known.iter().copied()), "{known:?}");
        assert_eq!(known.len(), 24);
    }
}
