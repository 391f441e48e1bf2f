//! Stopping, failing, recovering, closing: memory is released only after the engine was seen idle.

use super::{Channel, EngineError, Ring};
use crate::regs::channel::{Status, WriteBack};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many failures are remembered for tickets that nobody asked about yet.
const MAX_LOST: usize = 1024;

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
        self.registers.stop_with(self.idle_limit, help)?;
        self.take_finished()?;
        self.abandon(EngineError::Stopped);
        self.forget_list();
        Ok(())
    }

    /// Whether the kernel wants the card back.
    #[inline]
    pub(super) fn is_recalled(&self) -> bool {
        self.recall.load(Ordering::Relaxed)
    }

    /// Stops the engine, as the kernel wants the card back; what is in flight ends with [`EngineError::Recalled`].
    #[cold]
    pub(super) fn give_back(&mut self) -> Result<(), EngineError> {
        self.registers.stop(self.idle_limit)?;
        self.take_finished()?;
        self.abandon(EngineError::Recalled);
        self.forget_list();
        self.failure = Some(EngineError::Recalled);
        Ok(())
    }

    /// Makes a channel that failed or was stopped usable again.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
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
        self.stop_with(help)?;
        if self.is_recalled() {
            return Err(EngineError::Recalled);
        }
        self.set_up()?;
        self.failure = None;
        Ok(())
    }

    /// Closes the channel.
    ///
    /// # Errors
    ///
    /// [`EngineError::Hung`] when the engine does not become idle; the memory of its transfers then stays allocated
    /// for the life of the process, as the card may still use it.
    pub fn close(mut self) -> Result<(), EngineError> {
        self.shut()
    }

    /// The engine reported an error, `seen` in its status, which may be gone by now: stops it, and ends what was in flight
    /// with the error. Returns the error.
    pub(super) fn fail(&mut self, seen: Status) -> Result<EngineError, EngineError> {
        let mut snapshot = self.snapshot()?;
        snapshot.status |= seen & Status::errors(self.direction());
        let new = u64::from(snapshot.completed.wrapping_sub(self.completed as u32));
        let error = EngineError::Failed { snapshot: Arc::new(snapshot) };
        self.failure = Some(error.clone());
        self.registers.stop(self.idle_limit)?;
        if self.ring == Ring::Credits && new <= self.issued - self.completed {
            // What was completed before the error is done; reading the count flushed its data to memory.
            self.completed += new;
            self.retire_completed();
        }
        self.abandon(error.clone());
        self.forget_list();
        Ok(error)
    }

    /// Takes note of what finished before the engine was stopped.
    fn take_finished(&mut self) -> Result<(), EngineError> {
        let word = WriteBack(self.words[self.word].load());
        if word.0 == self.last || word.is_error() { Ok(()) } else { self.take(word) }
    }

    /// Ends all jobs with `error`; the engine is idle.
    fn abandon(&mut self, error: EngineError) {
        let range = self.jobs.done()..self.jobs.next();
        while let Some((program, descriptors, _)) = self.jobs.pop() {
            self.release(program, descriptors);
        }
        self.jobs.forget_waiting();
        if !range.is_empty() {
            self.lost.push_back((range, error));
        }
        if self.lost.len() > MAX_LOST
            && let Some((range, _)) = self.lost.pop_front()
        {
            self.forgotten = range.end;
        }
    }

    fn shut(&mut self) -> Result<(), EngineError> {
        if std::mem::replace(&mut self.closed, true) || self.process.is_forked() {
            return Ok(());
        }
        self.word_area.leave(self.word);
        match self.registers.stop(self.idle_limit) {
            Ok(()) => self.abandon(EngineError::Stopped),
            // A card that is gone cannot write any more: its bus takes the memory away.
            Err(EngineError::Gone { .. } | EngineError::Bus(_)) => self.abandon(EngineError::Stopped),
            Err(error) => {
                self.quarantine();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Leaks everything that the engine may still use.
    fn quarantine(&mut self) {
        self.slots.quarantine();
        std::mem::forget(self.word_area.clone());
        while let Some((program, ..)) = self.jobs.pop() {
            std::mem::forget(program);
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Err(error) = self.shut() {
            tracing::error!(%error, "a channel was closed while its engine is busy; its memory is quarantined");
        }
    }
}
