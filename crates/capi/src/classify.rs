//! The status of each of the driver's errors.

use crate::error::Failure;
use crate::status::*;
use xdma::Remedy;
use xdma::card::{BadCardName, BusError, CardError, InterruptError};
use xdma::channel::stream::{BufferError, ReceiveError};
use xdma::channel::{
    CloseError, EngineError, InvalidTransfer, OpenError, PollError, ProgramError, SubmitError, TransferError,
    WaitError,
};
use xdma::memory::{MapError, MemoryError};
use xdma::msm::{DataError, DesignError, JobError, MsmOpenError, MsmSubmitError, PrepareError};

/// Implements the conversion of an error, given the status of its variants. Those that are not listed have the status of their remedy.
macro_rules! classify {
    ($($error:ty: $what:ident => $status:expr;)*) => {$(
        impl Classified for $error {
            fn status(&self) -> xdma_status {
                let $what = self;
                $status
            }
        }

        impl From<$error> for Failure {
            #[cold]
            fn from(error: $error) -> Self {
                Self::of(error.status(), error.remedy(), &error)
            }
        }
    )*};
}

trait Classified {
    fn status(&self) -> xdma_status;
}

classify! {
    BusError: error => match error {
        BusError::NotFound { .. } => XDMA_ERROR_NOT_FOUND,
        BusError::Permission { .. } => XDMA_ERROR_PERMISSION,
        BusError::Taken { .. } => XDMA_ERROR_TAKEN,
        BusError::BadOffset { .. } => XDMA_ERROR_RANGE,
        other => of_remedy(other.remedy()),
    };
    CardError: error => match error {
        CardError::Bus(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    InterruptError: error => match error {
        InterruptError::Card(error) => error.status(),
        InterruptError::Bus(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    MapError: error => match error {
        MapError::Gone(_) => XDMA_ERROR_GONE,
        _ => XDMA_ERROR_MEMORY,
    };
    MemoryError: error => match error {
        MemoryError::Empty => XDMA_ERROR_ARGUMENT,
        MemoryError::OutOfRange { .. } | MemoryError::Unaligned { .. } => XDMA_ERROR_RANGE,
        MemoryError::InFlight(_) => XDMA_ERROR_IN_FLIGHT,
        MemoryError::WrongAccess { .. } => XDMA_ERROR_FOREIGN,
        MemoryError::Quarantined => XDMA_ERROR_HUNG,
        MemoryError::Map(error) => error.status(),
        _ => XDMA_ERROR_MEMORY,
    };
    EngineError: error => match error {
        EngineError::Bus { cause, .. } => cause.status(),
        other => of_remedy(other.remedy()),
    };
    OpenError: error => match error {
        OpenError::Taken { .. } => XDMA_ERROR_TAKEN,
        OpenError::Discard(error) => error.status(),
        OpenError::Memory(error) => error.status(),
        OpenError::Engine(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    CloseError: error => error.engine().status();
    InvalidTransfer: error => match error {
        InvalidTransfer::CardAddress { .. } => XDMA_ERROR_RANGE,
        InvalidTransfer::Memory(error) => error.status(),
        _ => XDMA_ERROR_FOREIGN,
    };
    SubmitError: error => match error {
        SubmitError::WrongChannel => XDMA_ERROR_FOREIGN,
        SubmitError::Invalid(error) => error.status(),
        SubmitError::Engine(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    ProgramError: error => match error {
        ProgramError::WrongDirection(_) => XDMA_ERROR_FOREIGN,
        ProgramError::Invalid(error) => error.status(),
        ProgramError::Memory(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    PollError: error => match error {
        PollError::ForeignTicket => XDMA_ERROR_FOREIGN,
        PollError::Engine(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    WaitError: error => match error {
        WaitError::ForeignTicket => XDMA_ERROR_FOREIGN,
        WaitError::Engine(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    TransferError: error => match error {
        TransferError::Submit(error) => error.status(),
        TransferError::Wait(error) => error.status(),
    };
    ReceiveError: error => match error {
        ReceiveError::Wait(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    BufferError: error => match error {
        BufferError::ForeignBuffer => XDMA_ERROR_FOREIGN,
        BufferError::Memory(error) => error.status(),
        BufferError::Engine(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    MsmOpenError: error => match error {
        MsmOpenError::Card(error) => error.status(),
        MsmOpenError::Channel(error) => error.status(),
        MsmOpenError::Interrupt(error) => error.status(),
        MsmOpenError::Memory(error) => error.status(),
        MsmOpenError::Bus(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    DataError: error => match error {
        DataError::OutOfRange { .. } => XDMA_ERROR_RANGE,
        DataError::Curve(_) => XDMA_ERROR_DATA,
        DataError::Memory(error) => error.status(),
        DataError::Invalid(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    PrepareError: error => match error {
        PrepareError::Data(error) => error.status(),
        PrepareError::Program(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    MsmSubmitError: error => match error {
        MsmSubmitError::Channel(error) => error.status(),
        MsmSubmitError::Bus(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    JobError: error => match error {
        JobError::Lost | JobError::NoResult | JobError::Interrupted { .. } => XDMA_ERROR_LOST,
        JobError::ForeignTicket => XDMA_ERROR_FOREIGN,
        JobError::Channel(error) => error.status(),
        JobError::Bus(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
    DesignError: error => match error {
        DesignError::Bus(error) => error.status(),
        DesignError::Engine(error) => error.status(),
        other => of_remedy(other.remedy()),
    };
}

/// Errors that are boxed on the fast path.
impl<E> From<Box<E>> for Failure
where
    Failure: From<E>,
{
    #[cold]
    #[inline(never)]
    fn from(error: Box<E>) -> Self {
        (*error).into()
    }
}

impl From<BadCardName> for Failure {
    #[cold]
    fn from(error: BadCardName) -> Self {
        Self::of(XDMA_ERROR_ARGUMENT, Remedy::Correct, &error)
    }
}

/// The kernel's error in a wait that sleeps.
impl From<std::io::Error> for Failure {
    #[cold]
    fn from(error: std::io::Error) -> Self {
        Self::of(XDMA_ERROR_HOST, Remedy::PrepareHost, &error)
    }
}
