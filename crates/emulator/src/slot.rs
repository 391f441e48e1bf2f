//! The slot that holds the card: clients keep using the same PCI function while its FPGA image is replaced.

use super::Error;
use super::card::CardModel;
use super::logic::Logic;
use super::options::EmulatorOptions;
use std::sync::{Arc, PoisonError, RwLock};

/// The card with its current image.
pub(super) struct Slot(RwLock<Arc<CardModel>>);

impl Slot {
    pub fn new(card: CardModel) -> Self {
        Self(RwLock::new(Arc::new(card)))
    }

    pub fn card(&self) -> Arc<CardModel> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks that an image with these options keeps the PCI function, which never changes.
    pub fn check_function(&self, options: &EmulatorOptions) -> Result<(), Error> {
        let now = &self.card().shared.options.card;
        match (&options.card.function, &options.card.bars) == (&now.function, &now.bars) {
            true => Ok(()),
            false => Err(Error::FunctionMismatch),
        }
    }

    /// Replaces channels and logic. Keeps the PCI function and its client.
    pub fn load(&self, options: EmulatorOptions, logic: Arc<dyn Logic>) -> Result<(), Error> {
        self.check_function(&options)?;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Stop the old image completely before the new one starts.
        current.join();
        *current = Arc::new(current.with_image(options, logic).map_err(Error::Threads)?);
        Ok(())
    }
}
