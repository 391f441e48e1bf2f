//! Transfers of borrowed memory.

use super::error::{ScopeError, WaitError};
use super::handle::Channel;
use crate::memory::{Borrowed, FromCard, MemoryError, ToCard};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

/// A channel during a [`Channel::scope`], in which the card can borrow slices.
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    channel: &'scope mut Channel,
    lent: Vec<Rc<Borrowed<'env>>>,
    limit: Duration,
    /// Number of the first job that the scope submits.
    first: u64,
    ended: bool,
    _env: PhantomData<&'scope mut &'env ()>,
}

impl Channel {
    /// Runs `body`, which can let the card borrow slices. When it returns or panics, the scope
    /// waits for all transfers of the channel for at most `limit`, and stops those that are not finished. After that the card
    /// can no longer access the slices.
    ///
    /// The borrow ends with the scope even if a program was built with the slice: running that program later
    /// does not access the slice. Under an IOMMU, the card usually reports it for H2C; without one, or for parts of a page, it uses the
    /// driver's copy of the slice. Writes of the card may be dropped without an error.
    ///
    /// If the card's access to the memory cannot be revoked, the process aborts, because the memory could no longer be used
    /// safely.
    ///
    /// # Errors
    ///
    /// The error of `body`. If `body` succeeds, an error if a transfer of this scope failed or missed its deadline, and the
    /// channel has not been recovered since.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::{sync::Arc, time::Duration};
    /// # use xdma::card::{Card, CardOptions};
    /// # use xdma_emulator::{EmulatorOptions, logic::Memory};
    /// # let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
    /// let (data, limit) = (vec![1u8; 100], Duration::from_secs(5));
    /// card.h2c(0)?.scope(limit, |scope| -> Result<(), Box<dyn std::error::Error>> {
    ///     let lent = scope.borrow(&data)?;
    ///     let ticket = scope.submit(&*lent, 0..100, 0)?;
    ///     Ok(scope.wait(ticket, limit)?)
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<'env, R, E: From<ScopeError>>(
        &mut self,
        limit: Duration,
        body: impl for<'scope> FnOnce(&mut Scope<'scope, 'env>) -> Result<R, E>,
    ) -> Result<R, E> {
        let first = self.queue.next();
        let mut scope = Scope { channel: self, lent: vec![], limit, first, ended: false, _env: PhantomData };
        let result = body(&mut scope);
        let ended = scope.end();
        // The error of `body` takes precedence.
        let value = result?;
        ended?;
        Ok(value)
    }

    /// Waits for all jobs in flight, and stops the channel if they are late. Returns why jobs from number `first` on did not
    /// finish, if any did not.
    fn finish(&mut self, first: u64, limit: Duration) -> Result<(), WaitError> {
        let waited = match (self.last_ticket(), self.queue.failure()) {
            (Some(ticket), _) if self.in_flight() > 0 => self.wait(ticket, limit),
            (Some(ticket), Some(failure)) if ticket.sequence >= first => Err(failure.clone().into()),
            _ => Ok(()),
        };
        let stopped = if self.in_flight() > 0 { self.stop() } else { Ok(()) };
        waited?;
        Ok(stopped?)
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Borrows elements for the card to read.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn borrow<T: ToCard>(&mut self, slice: &'env [T]) -> Result<Rc<Borrowed<'scope>>, MemoryError> {
        let lent = Rc::new(Borrowed::to_card(&self.channel.space, slice)?);
        self.lent.push(lent.clone());
        Ok(lent)
    }

    /// Borrows elements for the card to write. They are valid after the scope.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn borrow_mut<T: FromCard>(
        &mut self,
        slice: &'env mut [T],
    ) -> Result<Rc<Borrowed<'scope>>, MemoryError> {
        let lent = Rc::new(Borrowed::from_card(&self.channel.space, slice)?);
        self.lent.push(lent.clone());
        Ok(lent)
    }
}

impl Scope<'_, '_> {
    /// Ends all transfers, and revokes the card's access to the slices.
    fn end(&mut self) -> Result<(), ScopeError> {
        self.ended = true;
        let finished = self.channel.finish(self.first, self.limit);
        let mut arrived = Ok(());
        for lent in &self.lent {
            // With an IOMMU, success proves that the card can no longer access the slice. Without one, the slice was never
            // mapped.
            if let Err(error) = lent.revoke() {
                tracing::error!(%error, "the card can still access borrowed memory; aborting");
                std::process::abort();
            }
            arrived = arrived.and(lent.copy_back());
        }
        finished?;
        Ok(arrived?)
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
        // After a panic in the body.
        if !self.ended
            && let Err(error) = self.end()
        {
            tracing::error!(%error, "a scope ended with unfinished transfers");
        }
    }
}
