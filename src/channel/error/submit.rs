//! Submitting transfers and programs.

use super::engine::{EngineError, Fail};
use crate::Remedy;
use crate::memory::{Access, MemoryError, PageSize};
use crate::regs::Direction;

/// A rejected submission on the hot path: boxed, so that a result fits in two registers.
pub(in crate::channel) type Refusal = Box<SubmitError>;

/// Why a transfer's memory or card addresses are invalid.
///
/// Returned by [`Transfers::add`](crate::channel::Transfers::add), and part of [`SubmitError`], [`ProgramError`] and
/// [`DataError`](crate::msm::DataError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTransfer {
    /// The transfer would leave the card's address space.
    #[error("{len:#x} bytes from card address {address:#x} exceed the 64-bit address space")]
    CardAddress {
        /// First card address.
        address: u64,
        /// Number of bytes.
        len: u64,
    },
    /// The memory was allocated or registered for the other direction.
    #[error(
        "{direction} transfers need memory for that direction, and the card {has} this memory; allocate or register it for {direction}"
    )]
    WrongAccess {
        /// Direction of the channel.
        direction: Direction,
        /// The card's access to the memory.
        has: Access,
    },
    /// The memory belongs to another card. Its device addresses are not valid for this one.
    #[error("the memory belongs to another card; allocate or register it with the card that uses it")]
    ForeignMemory,
    /// The range is empty or outside of the memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl InvalidTransfer {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Memory(error) => error.remedy(),
            _ => Remedy::Correct,
        }
    }
}

/// Why a transfer, a list of transfers or a program was not started. Nothing was started, except that after an
/// [`Engine`](Self::Engine) error the engine may have been.
///
/// Returned by [`Channel::submit`](crate::channel::Channel::submit), [`start`](crate::channel::Channel::start) and [`run`](crate::channel::Channel::run),
/// [`Pool::submit`](crate::channel::Pool::submit), and [`Sender::send`](crate::channel::stream::Sender::send) and
/// [`send_part`](crate::channel::stream::Sender::send_part).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The ring or the queue is full.
    #[error(
        "{needed} descriptors are needed, and {free} are free; poll or wait for earlier transfers, then try again"
    )]
    Full {
        /// Number of descriptors (or queue entries) that the transfer needs.
        needed: usize,
        /// Number that is free.
        free: usize,
    },
    /// The transfer needs more descriptors than the ring has.
    #[error(
        "the transfer needs {needed} descriptors, and the ring has {ring}; split the transfer, or build a program"
    )]
    TooLarge {
        /// Number of descriptors that the transfer needs.
        needed: usize,
        /// Number of descriptors that the ring has.
        ring: usize,
    },
    /// The list of transfers is empty.
    #[error("the list of transfers is empty; add a transfer")]
    Empty,
    /// Two transfers of the list write the same host memory.
    #[error("two transfers write the same host memory at device address {address:#x}; separate them")]
    Overlap {
        /// Device address at which the second one starts.
        address: u64,
    },
    /// The list or program was made for another card, another direction or another ring.
    #[error("the list or program was made for another channel; build it on the channel that runs it")]
    WrongChannel,
    /// The memory, the range or the card addresses are invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidTransfer),
    /// The engine has failed, now or earlier.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl SubmitError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Full { .. } => Remedy::TryAgain,
            Self::TooLarge { .. } | Self::Empty | Self::Overlap { .. } | Self::WrongChannel => {
                Remedy::Correct
            }
            Self::Invalid(error) => error.remedy(),
            Self::Engine(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Engine(error) = self { Some(error) } else { None }
    }
}

/// Why a program could not be built.
///
/// Returned by [`Channel::program`](crate::channel::Channel::program), and part of [`PrepareError`](crate::msm::PrepareError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The list of transfers is empty.
    #[error("the program is empty; add a transfer")]
    Empty,
    /// The program has more descriptors than an engine can count.
    #[error(
        "the program needs {needed} descriptors, and a program has at most {most}; build several programs"
    )]
    TooLarge {
        /// Number of descriptors that the program needs.
        needed: usize,
        /// Maximum number of descriptors of a program.
        most: usize,
    },
    /// Two transfers write the same host memory.
    #[error("two transfers write the same host memory at device address {address:#x}; separate them")]
    Overlap {
        /// Device address at which the second one starts.
        address: u64,
    },
    /// The list of transfers was made for the other direction.
    #[error(
        "the list is for {0} transfers, and the channel is of the other direction; build a list for its direction"
    )]
    WrongDirection(Direction),
    /// The memory belongs to another card.
    #[error(transparent)]
    Invalid(#[from] InvalidTransfer),
    /// The program's descriptors do not fit in one page, and pages are not contiguous for the card.
    #[error(
        "{descriptors} descriptors do not fit in a page of {page}, and without an IOMMU pages are scattered; reserve 1 GiB \
         pages, or build several programs"
    )]
    ScatteredList {
        /// Number of descriptors of the program.
        descriptors: usize,
        /// Page size that was available.
        page: PageSize,
    },
    /// Memory for the descriptors could not be allocated or mapped.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl ProgramError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Invalid(error) => error.remedy(),
            Self::Memory(error) => error.remedy(),
            _ => Remedy::Correct,
        }
    }
}

impl From<Fail> for SubmitError {
    #[cold]
    fn from(error: Fail) -> Self {
        (*error).into()
    }
}

impl From<Fail> for Refusal {
    #[cold]
    #[inline(never)]
    fn from(error: Fail) -> Self {
        Self::new((*error).into())
    }
}

impl From<Refusal> for SubmitError {
    #[cold]
    fn from(error: Refusal) -> Self {
        *error
    }
}
