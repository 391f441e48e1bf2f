//! Emulated cards as cards of the driver: where [`xdma`] and [`xdma_emulator`] meet.
//!
//! The card is a device model in threads of this process, and the driver reaches it as it reaches any vfio-user card: over a real
//! socket, with its real client. In addition, the driver reports which memory it allocates and releases, so the model can flag
//! an access to released memory as a broken rule.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use xdma::card::CardOptions;
//! use xdma::regs::Direction;
//! use xdma_emulated_card::emulator::{Options, logic::Memory};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let card = xdma_emulated_card::start(Options::default(), Arc::new(Memory::new()), CardOptions::default())?;
//! let source = card.allocate(4096, Direction::H2C)?;
//! card.h2c(0)?.transfer(&source, 0..4096, 0x1000, Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

mod choice;
mod witness;

pub use choice::{CardChoice, NoCard};
pub use witness::{remote_witness, witness};
pub use xdma_emulator as emulator;

use std::sync::Arc;
use xdma::card::{Card, CardError, CardName, CardOptions, Companions};
use xdma_emulator::logic::{Logic, Msm, MsmOptions};
use xdma_emulator::{EmulatedCard, Options, Profile};

/// Environment variable for tests. If it is set and the driver broke a [`Rule`](xdma_emulator::Rule), closing an emulated card opened by
/// [`start`] or [`start_msm`] aborts the process.
pub const STRICT_VARIABLE: &str = "XDMA_STRICT";

/// Why there is no emulated card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It could not be started.
    #[error(transparent)]
    Emulator(#[from] xdma_emulator::Error),
    /// It could not be opened.
    #[error(transparent)]
    Card(#[from] CardError),
}

/// Starts an emulated card that carries `logic`, and opens it. It ends with the last handle to the card.
///
/// # Errors
///
/// [`StartError`].
pub fn start(emulated: Options, logic: Arc<dyn Logic>, options: CardOptions) -> Result<Card, StartError> {
    let emulated = Arc::new(EmulatedCard::start(emulated, logic)?);
    let model = Box::new(Attached(emulated.clone()));
    let card = open(&emulated, options, Some(model))?;
    emulated.hide();
    Ok(card)
}

/// Starts an emulated card that carries the MSM design, and opens it. It ends with the last handle to the card.
///
/// # Errors
///
/// [`StartError`].
pub fn start_msm(profile: Profile, options: CardOptions) -> Result<Card, StartError> {
    start(Options { profile, ..Options::default() }, Arc::new(Msm::new(MsmOptions::default())), options)
}

/// Opens an emulated card of this process. The driver then reports to it which memory it allocates and releases.
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
    let companions = Companions { witness: Some(witness(emulated)), model: model.map(|model| model as _) };
    CardName::Socket(emulated.socket().into()).open_with(options, companions)
}

/// An emulated card whose only client is this process's driver. Dropping it reports the rules that the driver broke.
struct Attached(Arc<EmulatedCard>);

impl Drop for Attached {
    fn drop(&mut self) {
        let violations = self.0.violations();
        for violation in &violations {
            tracing::error!(%violation, "the driver broke a rule");
        }
        if !violations.is_empty() && std::env::var_os(STRICT_VARIABLE).is_some() {
            eprintln!("the driver broke rules: {violations:?}");
            std::process::abort();
        }
    }
}
