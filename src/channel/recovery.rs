//! Stopping, failing, recovering and closing a channel.
//!
//! All memory that is released here is released after [`Channel::halt`] succeeded, which proves that the engine is idle. If it
//! fails, nothing may be released: the jobs stay in flight, and closing the channel quarantines their memory.

use super::completion::release;
use super::error::{CloseError, EngineError};
use super::handle::Channel;
use super::queue::Pinned;
use crate::regs::GONE;
use crate::regs::channel::Status;
use crate::stats::{Count, Stats};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Channel {
    /// Stops the engine and abandons all jobs in flight. Jobs that finished before stay finished.
    ///
    /// # Errors
    ///
    /// [`EngineError::Hung`] if the engine does not become idle; the card then keeps the memory in flight.
    /// [`EngineError::Gone`], [`EngineError::Bus`]. After an error, the engine may finish the jobs that it has, and no job is started
    /// or accepted until the channel is recovered.
    pub fn stop(&mut self) -> Result<(), EngineError> {
        let stopped = self.halt_and_abandon(&mut || {});
        self.close_unless_stopped(stopped)
    }

    /// After an error, the engine may have been stopped or set up in part, so no job may be started before a recovery.
    fn close_unless_stopped(&mut self, stopped: Result<(), EngineError>) -> Result<(), EngineError> {
        if stopped.is_err() && self.queue.failure().is_none() {
            self.queue.close(EngineError::Stopped);
        }
        stopped
    }

    fn halt_and_abandon(&mut self, help: &mut dyn FnMut()) -> Result<(), EngineError> {
        self.halt(self.engine.idle_limit, help)?;
        let reset = self.was_reset().then(|| EngineError::Reset { ring: Box::new(self.ring_state()) });
        self.collect_finished()?;
        if let Some(reset) = &reset
            && !self.has_failed()
        {
            self.queue.close(self.record_error(reset.clone()));
        }
        let cause = reset.or_else(|| self.queue.failure().cloned());
        self.abandon(cause.unwrap_or(EngineError::Stopped));
        Ok(())
    }

    /// Clears Run and waits until the engine is idle. Remembers an engine that stays busy, so that closing does not wait for it
    /// again.
    fn halt(&mut self, limit: Duration, help: &mut dyn FnMut()) -> Result<(), EngineError> {
        let stopped = self.engine.registers.stop(limit, || Some(self.ring_state()), help);
        self.card.hung = stopped.as_ref().is_err_and(|error| matches!(**error, EngineError::Hung { .. }));
        if self.card.hung {
            self.card.shared.hung.store(true, Ordering::Release);
        }
        stopped.map_err(|error| self.record_error(*error))
    }

    /// Counts an error, adds the ring's state if the registers could not be read, and logs the error.
    #[cold]
    pub(super) fn record_error(&self, mut error: EngineError) -> EngineError {
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

    /// Time limit for stopping an engine that will not be used again: zero if it already timed out.
    fn close_limit(&self) -> Duration {
        if self.card.hung { Duration::ZERO } else { self.engine.idle_limit }
    }

    /// Returns whether the card was reset since the channel was set up.
    pub(super) fn was_reset(&self) -> bool {
        self.card.shared.resets.load(Ordering::Acquire) != self.card.seen_resets
    }

    /// Returns whether the engine, the bus or the card has failed. A stop or a set-up that did not succeed is not such a failure.
    pub(super) fn has_failed(&self) -> bool {
        self.queue.failure().is_some_and(|failure| !matches!(failure, EngineError::Stopped))
    }

    /// Fails the channel after a reset of the card, which stopped all engines. Jobs in flight are lost.
    #[cold]
    pub(super) fn record_reset(&mut self) -> EngineError {
        let reset = EngineError::Reset { ring: Box::new(self.ring_state()) };
        self.queue.close(reset.clone());
        // If the engine cannot be stopped, it keeps its memory and `recover` reports it. The first cause is the reset.
        let _ = self.stop();
        self.record_error(reset)
    }

    /// Stops the engine because the kernel requested the card back. Jobs in flight end with [`EngineError::Recalled`].
    #[cold]
    pub(super) fn stop_for_recall(&mut self) -> Result<(), EngineError> {
        let recalled = EngineError::Recalled { ring: Box::new(self.ring_state()) };
        self.queue.close(self.record_error(recalled.clone()));
        // An engine that cannot be stopped keeps its memory.
        if self.halt(self.close_limit(), &mut || {}).and_then(|()| self.collect_finished()).is_err() {
            return Err(recalled);
        }
        self.abandon(recalled);
        Ok(())
    }

    /// Makes a channel that failed or was stopped usable again.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop); [`EngineError::Failed`] if an error remains in the status register; [`EngineError::Recalled`]
    /// if the kernel requested the card back.
    pub fn recover(&mut self) -> Result<(), EngineError> {
        self.recover_with(&mut || {})
    }

    /// As [`recover`](Self::recover), but calls `help` repeatedly while the engine is busy. Use it for user logic that stalls
    /// the engine's writes and must be told to accept or drop them.
    ///
    /// # Errors
    ///
    /// As [`recover`](Self::recover).
    pub fn recover_with(&mut self, help: &mut dyn FnMut()) -> Result<(), EngineError> {
        let (direction, channel) = (self.direction(), self.index());
        let _span = tracing::debug_span!("recover", %direction, channel).entered();
        let set_up = self.halt_and_abandon(help).and_then(|()| self.set_up_again());
        self.close_unless_stopped(set_up)?;
        self.queue.reopen();
        self.counters.add(Count::Recoveries, 1);
        tracing::info!(%direction, channel, ring = %self.ring(), "recovered");
        Ok(())
    }

    /// Sets up the channel, which is stopped.
    fn set_up_again(&mut self) -> Result<(), EngineError> {
        if self.is_recalled() {
            return Err(EngineError::Recalled { ring: Box::new(self.ring_state()) });
        }
        let shared = self.card.shared.clone();
        let _setup = shared.lock_setup();
        // Before the registers are written, so that the next check finds a reset that happens in between.
        self.card.seen_resets = self.card.shared.resets.load(Ordering::Acquire);
        if self.engine.registers.status()?.intersects(Status::errors(self.direction())) {
            return Err(EngineError::Failed { snapshot: Arc::new(self.snapshot()?) });
        }
        Ok(self.set_up()?)
    }

    /// Closes the channel.
    ///
    /// # Errors
    ///
    /// [`CloseError::Quarantined`] if the engine was not seen idle: the memory of its transfers is neither reused nor freed
    /// until the card is closed and can no longer access it. [`CloseError::Engine`] if the engine is idle, but its registers could not be
    /// reset.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.close_once()
    }

    /// Fails the channel after the engine reported an error: stops the engine, and ends all jobs in flight with the error,
    /// which it returns. `seen` is the status that was read; reading may have cleared it.
    pub(super) fn fail(&mut self, seen: Status) -> EngineError {
        let errors = seen & Status::errors(self.direction());
        let snapshot = self.engine.registers.snapshot_after(errors, self.ring_state());
        let snapshot_count = snapshot.completed;
        let error = self.record_error(EngineError::Failed { snapshot: Arc::new(snapshot) });
        self.queue.close(error.clone());
        // If the engine cannot be stopped, it keeps its memory and `recover` reports it. The first cause is this error.
        if self.halt(self.close_limit(), &mut || {}).is_err() {
            return error;
        }
        // Jobs completed before the error are finished. All ones is not a count, even if the registers can be read again by
        // now.
        if snapshot_count != GONE {
            self.apply_count(snapshot_count);
        }
        self.abandon(error.clone());
        error
    }

    /// Processes the completions from before the engine was stopped.
    fn collect_finished(&mut self) -> Result<(), EngineError> {
        let word = self.engine.progress.word.load();
        if !self.engine.progress.word.is_known(word) && !word.is_error() {
            self.engine.record_write_back(word);
            self.retire();
        }
        self.collect_unreported()
    }

    /// Processes completions whose write-back has not arrived. The engine is idle.
    pub(super) fn collect_unreported(&mut self) -> Result<(), EngineError> {
        if self.in_flight() > 0 {
            let count = self.engine.registers.completed()?;
            self.apply_count(count);
        }
        Ok(())
    }

    fn apply_count(&mut self, count: u32) {
        self.engine.record_count(count);
        self.retire();
    }

    /// Ends all jobs with `error`. The engine is idle and runs no list.
    fn abandon(&mut self, error: EngineError) {
        self.end_jobs(error, |_| ());
        self.engine.progress.reset();
    }

    /// Ends all jobs with `error`, and calls `each` with the memory that they pinned.
    fn end_jobs(&mut self, error: EngineError, each: impl Fn(&dyn Pinned)) {
        self.counters.add(Count::Abandoned, self.in_flight() as u64);
        self.counters.set(Count::Done, self.queue.next());
        self.queue.abandon(error);
        while let Some(ended) = self.queue.end_any() {
            ended.pin().into_iter().for_each(&each);
            release(ended, &mut self.engine.slots);
        }
    }

    fn close_once(&mut self) -> Result<(), CloseError> {
        if std::mem::replace(&mut self.closed, true) || self.process.is_forked() {
            return Ok(());
        }
        self.engine.progress.word.save_position(self.queue.next());
        let Stats { submitted, completed, bytes, .. } = self.stats();
        let (direction, channel) = (self.direction(), self.index());
        tracing::debug!(%direction, channel, submitted, completed, bytes, "closing channel");
        match self.halt(self.close_limit(), &mut || {}) {
            // The engine was seen idle, which is proof for everything in flight.
            Ok(()) => {
                self.abandon(EngineError::Stopped);
                Ok(self.engine.registers.reset().map_err(EngineError::from)?)
            }
            // An error is not proof: a card whose registers read all ones may still be running, and a link that fails in this
            // direction may work in the other.
            Err(cause) => Err(CloseError::Quarantined { bytes: self.quarantine(), cause }),
        }
    }

    /// Quarantines everything that the engine may still use. Returns the number of bytes that were not quarantined before.
    fn quarantine(&mut self) -> u64 {
        let before = self.space.quarantined_bytes();
        self.engine.slots.quarantine();
        self.engine.progress.word.quarantine();
        self.end_jobs(EngineError::Stopped, |pin| pin.quarantine());
        self.space.quarantined_bytes() - before
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Err(error) = self.close_once() {
            tracing::error!(%error, "could not close a dropped channel cleanly");
        }
    }
}
