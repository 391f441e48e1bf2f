//! Opening an emulated card in this process, with the real client over a real socket.

use super::logic::{Logic, Msm, MsmOptions};
use super::{EmulatedCard, Options, Profile};
use crate::bus::vfio_user::VfioUser;
use crate::card::{Card, CardError, CardOptions};
use std::sync::Arc;

/// With this variable set, a process is aborted when an emulated card that it opened by [`Card::emulated`] or
/// [`Card::emulated_logic`] saw it break a [`Rule`](super::Rule): for tests.
pub const STRICT_VARIABLE: &str = "XDMA_STRICT";

/// A card whose only client is this library. The library breaks no rule; if it does, somebody should hear of it.
struct Attached(EmulatedCard);

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

impl Card {
    /// Starts an emulated card that carries the MSM design, and opens it. It ends with the last handle to the card.
    ///
    /// # Errors
    ///
    /// [`CardError::Emulator`]; and as [`Card::connect`].
    pub fn emulated(profile: Profile) -> Result<Self, CardError> {
        Self::emulated_with(profile, CardOptions::default())
    }

    pub(crate) fn emulated_with(profile: Profile, options: CardOptions) -> Result<Self, CardError> {
        let logic = Arc::new(Msm::new(MsmOptions::default()));
        Self::emulated_logic(Options { profile, ..Options::default() }, logic, options)
    }

    /// Starts an emulated card that carries `logic`, and opens it. It ends with the last handle to the card.
    ///
    /// # Errors
    ///
    /// [`CardError::Emulator`]; and as [`Card::connect`].
    pub fn emulated_logic(
        emulated: Options,
        logic: Arc<dyn Logic>,
        options: CardOptions,
    ) -> Result<Self, CardError> {
        let emulated = EmulatedCard::start(emulated, logic)?;
        let bus = Arc::new(VfioUser::connect(emulated.socket())?);
        emulated.hide();
        Self::attached(bus, options, Some(Box::new(Attached(emulated))))
    }
}
