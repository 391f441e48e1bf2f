//! Transfers of borrowed memory.

use super::{Channel, EngineError};
use crate::memory::{FromCard, Lent, MapError, MemoryError, ToCard};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

/// A channel for the length of a [`Channel::scope`], in which slices can be lent to the card.
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    channel: &'scope mut Channel,
    lent: Vec<Rc<Lent<'env>>>,
    limit: Duration,
    _env: PhantomData<&'scope mut &'env ()>,
}

impl Channel {
    /// Runs `body`, in which slices can be lent to the card without giving them away. At its end, also on a panic, all
    /// transfers of the channel are waited for, at most `limit`; what is not finished then is stopped. After that the
    /// card can no longer reach the slices.
    ///
    /// A lent slice ends at the end of the scope even for a program that was built with it: running that later is an error
    /// that the card reports.
    ///
    /// The process is aborted if the memory cannot be taken away from the card, as nobody could use it safely any more.
    ///
    /// ```
    /// # #[cfg(feature = "emulator")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::{sync::Arc, time::Duration};
    /// # use xdma::card::{Card, CardOptions};
    /// # use xdma::emulator::{Options, logic::Memory};
    /// # let card = Card::emulated_logic(Options::default(), Arc::new(Memory::new()), CardOptions::default())?;
    /// let (data, limit) = (vec![1u8; 100], Duration::from_secs(5));
    /// card.h2c(0)?.scope(limit, |scope| -> Result<(), Box<dyn std::error::Error>> {
    ///     let lent = scope.lend(&data)?;
    ///     let ticket = scope.submit(&*lent, 0..100, 0)?;
    ///     Ok(scope.wait(ticket, limit)?)
    /// })?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "emulator"))]
    /// # fn main() {}
    /// ```
    pub fn scope<'env, R>(
        &mut self,
        limit: Duration,
        body: impl for<'scope> FnOnce(&mut Scope<'scope, 'env>) -> R,
    ) -> R {
        body(&mut Scope { channel: self, lent: vec![], limit, _env: PhantomData })
    }

    fn finish(&mut self, limit: Duration) -> Result<(), EngineError> {
        match self.last_ticket() {
            Some(ticket) if self.in_flight() > 0 => self.wait(ticket, limit),
            _ => Ok(()),
        }
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Lends elements that the card reads.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn lend<T: ToCard>(&mut self, slice: &'env [T]) -> Result<Rc<Lent<'scope>>, MemoryError> {
        let lent = Rc::new(Lent::to_card(&self.channel.space, slice)?);
        self.lent.push(lent.clone());
        Ok(lent)
    }

    /// Lends elements that the card writes. They are there after the scope.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn lend_mut<T: FromCard>(&mut self, slice: &'env mut [T]) -> Result<Rc<Lent<'scope>>, MemoryError> {
        let lent = Rc::new(Lent::from_card(&self.channel.space, slice)?);
        self.lent.push(lent.clone());
        Ok(lent)
    }
}

impl Deref for Scope<'_, '_> {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        self.channel
    }
}

impl DerefMut for Scope<'_, '_> {
    fn deref_mut(&mut self) -> &mut Channel {
        self.channel
    }
}

impl Drop for Scope<'_, '_> {
    fn drop(&mut self) {
        if let Err(error) = self.channel.finish(self.limit).or_else(|_| self.channel.stop()) {
            tracing::error!(%error, "a scope ends while its channel is busy");
        }
        for lent in &self.lent {
            match lent.revoke() {
                Ok(()) | Err(MemoryError::Map(MapError::Gone(_))) => {}
                Err(error) => {
                    tracing::error!(%error, "borrowed memory stays within the card's reach: aborting");
                    std::process::abort();
                }
            }
        }
    }
}
