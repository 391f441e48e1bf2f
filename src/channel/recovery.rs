//! Stopping, failing, recovering, closing.
//!
//! [`Channel::halt`] is the proof for all memory that is released here: it succeeds only if the engine was seen idle. On error the
//! caller must release nothing: the jobs stay in flight, or their memory is condemned when the channel is closed.

use super::error::EngineError;
use super::handle::Channel;
use super::queue::Kept;
use crate::regs::GONE;
use crate::regs::channel::Status;
use crate::stats::{Count, Stats};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Channel {
    /// Stops the engine and abandons what is in flight. What had finished is still done.
    ///
    /// # Errors
    ///
    /// [`EngineError::Hung`] when it does not become idle: memory in flight stays the card's. [`EngineError::Gone`].
    pub fn stop(&mut self) -> Result<(), EngineError> {
        self.stop_with(&mut || Ok(()))
    }

    fn stop_with(&mut self, help: &mut dyn FnMut() -> Result<(), EngineError>) -> Result<(), EngineError> {
        self.halt(self.engine.idle_limit, help)?;
        let reset = self.was_reset().then(|| EngineError::Reset { ring: Box::new(self.ring_state()) });
        self.take_finished()?;
        self.abandon(reset.unwrap_or(EngineError::Stopped));
        Ok(())
    }

    /// Clears Run, and waits until the engine is idle. One that stayed busy was waited for once: nobody who only wants to get
    /// rid of it waits again.
    fn halt(
        &mut self,
        limit: Duration,
        help: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let stopped = self.engine.registers.stop_with(limit, || Some(self.ring_state()), help);
        self.bond.hung = stopped.as_ref().is_err_and(|error| matches!(**error, EngineError::Hung { .. }));
        if self.bond.hung {
            self.bond.notice.hung.store(true, Ordering::Release);
        }
        stopped.map_err(|error| self.note(*error))
    }

    /// Counts an error, adds the ring where registers could not be read, and says it to whoever traces.
    #[cold]
    pub(super) fn note(&self, mut error: EngineError) -> EngineError {
        if let Some(kind) = error.kind() {
            self.counters.add_error(kind);
        }
        if let EngineError::Gone { ring, .. } | EngineError::Bus { ring, .. } = &mut error {
            *ring = Some(Box::new(self.ring_state()));
        }
        let (direction, channel) = (self.direction(), self.index());
        match error.ring() {
            Some(_) => tracing::debug!(%direction, channel, %error, "channel error"),
            None => tracing::debug!(%direction, channel, %error, ring = %self.ring_state(), "channel error"),
        }
        error
    }

    /// How long to wait for an engine that nobody wants to use again.
    fn patience(&self) -> Duration {
        if self.bond.hung { Duration::ZERO } else { self.engine.idle_limit }
    }

    /// Whether the card was reset since the channel was set up.
    pub(super) fn was_reset(&self) -> bool {
        self.bond.notice.resets.load(Ordering::Acquire) != self.bond.resets
    }

    /// The card was reset, and stopped all engines: what was in flight is lost.
    #[cold]
    pub(super) fn note_reset(&mut self) -> EngineError {
        let reset = EngineError::Reset { ring: Box::new(self.ring_state()) };
        self.queue.close(reset.clone());
        // An engine that cannot be stopped keeps its memory, and `recover` reports it; the first cause is the reset.
        let _ = self.stop();
        self.note(reset)
    }

    /// Stops the engine, as the kernel wants the card back; what is in flight ends with [`EngineError::Recalled`].
    #[cold]
    pub(super) fn give_back(&mut self) -> Result<(), EngineError> {
        let recalled = EngineError::Recalled { ring: Box::new(self.ring_state()) };
        self.queue.close(self.note(recalled.clone()));
        // An engine that cannot be stopped keeps its memory.
        if self.halt(self.patience(), &mut || Ok(())).and_then(|()| self.take_finished()).is_err() {
            return Err(recalled);
        }
        self.abandon(recalled);
        Ok(())
    }

    /// Makes a channel that failed or was stopped usable again.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop); [`EngineError::Failed`] when an error stays in the status register.
    pub fn recover(&mut self) -> Result<(), EngineError> {
        self.recover_with(&mut || Ok(()))
    }

    /// As [`recover`](Self::recover), calling `help` as long as the engine is busy: user logic that holds up the engine's
    /// writes has to be told to take or drop them.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop), and what `help` returns.
    pub fn recover_with(
        &mut self,
        help: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let (direction, channel) = (self.direction(), self.index());
        let _span = tracing::debug_span!("recover", %direction, channel).entered();
        self.stop_with(help)?;
        if self.is_recalled() {
            return Err(EngineError::Recalled { ring: Box::new(self.ring_state()) });
        }
        // Before the registers are written: of a reset that comes in between, the next check hears.
        self.bond.resets = self.bond.notice.resets.load(Ordering::Acquire);
        if self.engine.registers.status()?.intersects(Status::errors(self.direction())) {
            return Err(EngineError::Failed { snapshot: Arc::new(self.snapshot()?) });
        }
        self.set_up()?;
        self.queue.reopen();
        self.counters.add(Count::Recoveries, 1);
        tracing::info!(%direction, channel, ring = %self.ring(), "recovered");
        Ok(())
    }

    /// Closes the channel.
    ///
    /// # Errors
    ///
    /// [`EngineError::Quarantined`] when the engine was not seen idle, for whatever reason: the memory of its transfers is then
    /// neither used again nor freed, as the card may still use it, until the card is closed and cut off. The bus failed after that.
    pub fn close(mut self) -> Result<(), EngineError> {
        self.shut()
    }

    /// The engine reported an error, `seen` in its status, which may be gone by now: stops it, and ends what was in flight
    /// with the error. Returns the error.
    pub(super) fn fail(&mut self, seen: Status) -> EngineError {
        let errors = seen & Status::errors(self.direction());
        let snapshot = self.engine.registers.snapshot_after(errors, self.ring_state());
        let snapshot_count = snapshot.completed;
        let error = self.note(EngineError::Failed { snapshot: Arc::new(snapshot) });
        self.queue.close(error.clone());
        // An engine that cannot be stopped keeps its memory, and `recover` reports it; the first cause is this error.
        if self.halt(self.patience(), &mut || Ok(())).is_err() {
            return error;
        }
        // What was completed before the error is done. All ones is not a count, even if the registers are back since.
        if snapshot_count != GONE {
            self.take_count(snapshot_count);
        }
        self.abandon(error.clone());
        error
    }

    /// Takes note of what finished before the engine was stopped.
    fn take_finished(&mut self) -> Result<(), EngineError> {
        let word = self.engine.progress.report.load();
        if !self.engine.progress.report.is_known(word) && !word.is_error() {
            self.engine.note_written(word);
            self.retire();
        }
        self.take_uncounted()
    }

    /// Takes note of what the engine finished without a write-back that arrived; it is idle.
    pub(super) fn take_uncounted(&mut self) -> Result<(), EngineError> {
        if self.in_flight() > 0 {
            let count = self.engine.registers.completed()?;
            self.take_count(count);
        }
        Ok(())
    }

    fn take_count(&mut self, count: u32) {
        self.engine.note_read(count);
        self.retire();
    }

    /// Ends all jobs with `error`; the engine is idle, and knows no list any more.
    fn abandon(&mut self, error: EngineError) {
        self.end_all(error, |_| ());
        self.engine.progress.forget();
    }

    /// Ends all jobs with `error`; `each` sees what they kept.
    fn end_all(&mut self, error: EngineError, each: impl Fn(&dyn Kept)) {
        self.counters.add(Count::Abandoned, self.in_flight() as u64);
        self.counters.set(Count::Done, self.queue.next());
        self.queue.abandon(error);
        while let Some((over, kept)) = self.queue.end() {
            kept.into_iter().for_each(&each);
            self.engine.slots.release(over.slots, over.kept);
            self.queue.clear(over);
        }
    }

    fn shut(&mut self) -> Result<(), EngineError> {
        if std::mem::replace(&mut self.closed, true) || self.process.is_forked() {
            return Ok(());
        }
        self.engine.progress.report.leave(self.queue.next());
        let Stats { submitted, completed, bytes, .. } = self.stats();
        let (direction, channel) = (self.direction(), self.index());
        tracing::debug!(%direction, channel, submitted, completed, bytes, "channel closes");
        match self.halt(self.patience(), &mut || Ok(())) {
            // Proof for all that was in flight: the engine was seen idle.
            Ok(()) => {
                self.abandon(EngineError::Stopped);
                Ok(self.engine.registers.reset()?)
            }
            // An error is not proof: a card whose registers read all ones may still be running, and a link that fails in this
            // direction may work in the other.
            Err(cause) => Err(EngineError::Quarantined { bytes: self.condemn(), cause: Box::new(cause) }),
        }
    }

    /// Condemns everything that the engine may still use. Bytes that were not condemned before.
    fn condemn(&mut self) -> u64 {
        let before = self.space.quarantined_bytes();
        self.engine.slots.condemn();
        self.engine.progress.report.condemn();
        self.end_all(EngineError::Stopped, |kept| kept.condemn());
        self.space.quarantined_bytes() - before
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Err(error) = self.shut() {
            tracing::error!(%error, "could not close a dropped channel cleanly");
        }
    }
}
