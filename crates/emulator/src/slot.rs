//! Where a card sits: the function that clients know, whose image can be replaced under it.

use super::Error;
use super::card::Card;
use super::logic::Logic;
use super::options::Options;
use std::sync::{Arc, PoisonError, RwLock};

/// The card as it is now.
pub(super) struct Slot(RwLock<Arc<Card>>);

impl Slot {
    pub fn new(card: Card) -> Self {
        Self(RwLock::new(Arc::new(card)))
    }

    pub fn card(&self) -> Arc<Card> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces channels and logic. The function and its client stay.
    pub fn load(&self, options: Options, logic: Arc<dyn Logic>) -> Result<(), Error> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let now = &current.shared.options;
        if (options.profile, options.function_reset) != (now.profile, now.function_reset) {
            return Err(Error::OtherFunction);
        }
        // Nothing of the old image runs when the new one comes.
        current.end();
        *current = Arc::new(current.with_image(options, logic).map_err(Error::Threads)?);
        Ok(())
    }
}
