//! Emulated cards for the driver: connects [`xdma`] with [`xdma_emulator`].
//!
//! The card is a device model that runs in threads of this process. The driver accesses it like any other vfio-user card, with
//! its regular client over a real socket. In addition, the driver reports its allocations and releases of memory, so the model
//! can record an access to released memory as a rule violation.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use xdma::card::CardOptions;
//! use xdma::regs::Direction;
//! use xdma_emulated_card::emulator::{EmulatorOptions, logic::Memory};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
//! let source = card.allocate(4096, Direction::H2C)?;
//! card.h2c(0)?.transfer(&source, 0..4096, 0x1000, Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

mod choice;
mod release_observer;
mod unnamed;

pub use choice::{CardChoice, ParseCardError, find_description};
pub use release_observer::{observer, remote_observer};
pub use unnamed::UnnamedCard;
pub use xdma_emulator as emulator;

use std::sync::Arc;
use xdma::card::{Card, CardError, CardName, CardOptions};
use xdma::unstable::card::Companions;
use xdma_emulator::logic::{Logic, of};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

/// The environment variable for strict tests. If it is set and the driver broke a [`Rule`](xdma_emulator::Rule), closing an
/// emulated card opened by [`start`] or [`start_like`] aborts the process.
pub const STRICT_VARIABLE: &str = "XDMA_STRICT";

/// An error that prevents an emulated card from starting or opening.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The card could not be started.
    #[error(transparent)]
    Emulator(#[from] xdma_emulator::Error),
    /// The card could not be opened.
    #[error(transparent)]
    Card(#[from] CardError),
}

/// Starts an emulated card with `logic`, and opens it. The card stops when the last handle to it is dropped.
///
/// # Errors
///
/// [`StartError`].
pub fn start(
    emulated: EmulatorOptions,
    logic: Arc<dyn Logic>,
    options: CardOptions,
) -> Result<Card, StartError> {
    attach(EmulatedCard::start(emulated, logic)?, options)
}

/// Like [`start`], but with the DMA engine of `hdl/rtl/dma` instead of the model of the XDMA core
/// ([`EmulatedCard::start_rtl_dma`]).
///
/// # Errors
///
/// [`StartError`].
#[cfg(feature = "rtl-dma")]
pub fn start_rtl_dma(
    emulated: EmulatorOptions,
    logic: Arc<dyn Logic>,
    options: CardOptions,
) -> Result<Card, StartError> {
    attach(EmulatedCard::start_rtl_dma(emulated, logic)?, options)
}

/// Opens a card that stops when the last handle to it is dropped.
fn attach(emulated: EmulatedCard, options: CardOptions) -> Result<Card, StartError> {
    let emulated = Arc::new(emulated);
    let model = Box::new(Attached(emulated.clone()));
    let card = open(&emulated, options, Some(model))?;
    emulated.unlink_socket();
    Ok(card)
}

/// Starts an emulated card with the design that its description names, and opens it. The card stops when the last handle to it is
/// dropped.
///
/// # Errors
///
/// [`StartError`].
pub fn start_like(card: CardFile, options: CardOptions) -> Result<Card, StartError> {
    let (logic, options) = (of(&card), described(&card, options));
    start(EmulatorOptions::like(card), logic, options)
}

/// Completes options with what the description of a card states: which BARs hold the registers of the core and of the user logic.
pub fn described(card: &CardFile, options: CardOptions) -> CardOptions {
    CardOptions {
        register_bar: options.register_bar.or(card.register_bar()),
        user_bar: options.user_bar.or(card.user_bar()),
        ..options
    }
}

/// Opens an emulated card of this process. The driver then reports its allocations and releases of memory to the card.
///
/// # Errors
///
/// As [`Card::connect`].
pub fn connect(emulated: &EmulatedCard, options: CardOptions) -> Result<Card, CardError> {
    open(emulated, options, None)
}

fn open(
    emulated: &EmulatedCard,
    options: CardOptions,
    model: Option<Box<Attached>>,
) -> Result<Card, CardError> {
    let companions = Companions { observer: Some(observer(emulated)), model: model.map(|model| model as _) };
    xdma::unstable::card::open(&CardName::Socket(emulated.socket().into()), options, companions)
}

/// An emulated card whose only client is the driver in this process. Dropping it logs the driver's rule violations.
struct Attached(Arc<EmulatedCard>);

impl Drop for Attached {
    fn drop(&mut self) {
        let violations = self.0.violations();
        for repeated in violations.chunk_by(|one, next| one == next) {
            tracing::error!(violation = %repeated[0], times = repeated.len(), "the driver broke a rule");
        }
        if !violations.is_empty() && std::env::var_os(STRICT_VARIABLE).is_some() {
            eprintln!("the driver broke rules: {violations:?}");
            std::process::abort();
        }
    }
}
