use super::Source;
use crate::Remedy;
use crate::bus::BusError;
use crate::regs::Direction;

/// Why a card could not be opened, inspected, reset or recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// There is no memory for the card's statistics.
    #[error("no memory for the card's statistics")]
    Statistics(#[source] std::io::Error),
    /// No BAR has the XDMA identifiers.
    #[error("no XDMA registers on {vendor:04x}:{device:04x}: {reason}")]
    NotXdma {
        /// PCI vendor ID.
        vendor: u16,
        /// PCI device ID.
        device: u16,
        /// The BARs that were read, and what they contain.
        reason: String,
    },
    /// Registers read all ones: the card was removed, or its link is down.
    #[error("the card is gone: {what} reads all ones; check that `lspci` lists it, then open it again")]
    Gone {
        /// The registers that were read.
        what: &'static str,
    },
    /// AWS's F2 shell answers for the custom logic, with all ones. It starts to do so when the custom logic does not answer an
    /// access within 8 microseconds, and may continue until an image is loaded.
    #[error(
        "BAR0 of this AWS F2 card reads all ones: the image did not answer an access within 8 microseconds, so the shell now answers for \
         it (`sudo fpga-describe-local-image -S 0 --metrics` shows `ocl-slave-timeout=1`); load the image again with \
         `fpga-load-local-image`, and wait ten seconds before the first access"
    )]
    ShellTimeout,
    /// The Bus Master bit cannot be cleared.
    #[error(
        "cannot clear the card's Bus Master bit, so the card may still access host memory; reset the card or reboot the machine"
    )]
    NotCutOff,
    /// The card was opened for inspection only.
    #[error("the card was opened with `as_found`, for inspection only; open it without `as_found` to use it")]
    AsFound,
    /// The options name the register BAR as the user BAR. Safe code that writes the core's registers could make the card access any
    /// memory that it can reach.
    #[error(
        "BAR{0} holds the XDMA registers, so it cannot be the user BAR; set another `user_bar` in the options, or none"
    )]
    UserBarHasRegisters(usize),
    /// The card has no BAR for user logic.
    #[error("no BAR for user logic was found; if the card has one, set `user_bar` in the options")]
    NoUserBar,
    /// An engine does not become idle.
    #[error(
        "{direction} channel {channel} does not become idle (status {status:#010x}), {tried}; load the card's image again, or restart the machine"
    )]
    Hung {
        /// Direction of the channel.
        direction: Direction,
        /// Its number.
        channel: usize,
        /// Its status register.
        status: u32,
        /// The recovery that was attempted.
        tried: &'static str,
    },
}

impl CardError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Bus(error) => error.remedy(),
            Self::Statistics(_) => Remedy::PrepareHost,
            Self::NotXdma { .. } | Self::NoUserBar => Remedy::Unsupported,
            Self::Gone { .. } | Self::ShellTimeout => Remedy::Reopen,
            Self::NotCutOff | Self::Hung { .. } => Remedy::Reset,
            Self::AsFound | Self::UserBarHasRegisters(_) => Remedy::Correct,
        }
    }
}

/// The text does not name a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a card: use a PCI address (0000:00:1d.0), or unix:PATH for a vfio-user socket")]
pub struct BadCardName(pub(super) String);

/// Why an interrupt could not be enabled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterruptError {
    /// The function has neither MSI-X nor MSI nor INTx.
    #[error("the card has no interrupts: neither MSI-X nor MSI nor INTx; poll instead")]
    NoVectors,
    /// The card has no such interrupt source.
    #[error(
        "the card has no interrupt for {0}; user lines are 0 to 15; AWS F2 has fewer, as lines and channels share 16 interrupts"
    )]
    NoSource(Source),
    /// The card was opened with [`as_found`](super::CardOptions::as_found), or is gone.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A register access failed, or the kernel refused to set up the interrupt.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl InterruptError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NoSource(_) => Remedy::Correct,
            Self::NoVectors => Remedy::Unsupported,
            Self::Card(error) => error.remedy(),
            Self::Bus(error) => error.remedy(),
        }
    }
}
