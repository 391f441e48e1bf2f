//! Converts the driver's errors to the errno values that the kernel module returns.

use rustix::io::Errno;
use xdma::card::{BusError, CardError};
use xdma::channel::{EngineError, OpenError, SubmitError, TransferError, WaitError};
use xdma::memory::MemoryError;

/// Returns the errno for a failed transfer.
pub(crate) fn of_transfer(error: &TransferError) -> Errno {
    match error {
        TransferError::Wait(WaitError::Deadline { .. }) => Errno::TIMEDOUT,
        error => error.engine().map_or(Errno::IO, of_engine),
    }
}

pub(crate) fn of_engine(error: &EngineError) -> Errno {
    match error {
        EngineError::Gone { .. } | EngineError::Recalled { .. } => Errno::NODEV,
        EngineError::Bus { cause, .. } => of_bus(cause),
        _ => Errno::IO,
    }
}

pub(crate) fn of_open(error: &OpenError) -> Errno {
    match error {
        OpenError::Memory(error) => of_memory(error),
        error => error.engine().map_or(Errno::BUSY, of_engine),
    }
}

pub(crate) fn of_submit(error: &SubmitError) -> Errno {
    error.engine().map_or(Errno::IO, of_engine)
}

pub(crate) fn of_memory(_: &MemoryError) -> Errno {
    Errno::NOMEM
}

pub(crate) fn of_bus(error: &BusError) -> Errno {
    match error {
        BusError::Gone { .. } => Errno::NODEV,
        _ => Errno::IO,
    }
}

pub(crate) fn of_card(_: &CardError) -> Errno {
    Errno::NODEV
}
