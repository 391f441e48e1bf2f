//! Completion: polling.

use super::error::{EngineError, Fail};
use super::handle::{Channel, Ticket};
use super::options::Ring;
use super::ring::{Chain, Credits, Feed};
use crate::bus::counts;
use crate::memory::DmaMemory;
use crate::regs::channel::Status;
use std::ops::Range;
use std::time::{Duration, Instant};

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// All its descriptors are completed.
    Ready,
    /// Not yet.
    Pending,
}

/// The same, in two registers.
enum Look {
    Ready,
    Pending,
    Failed(Fail),
}

#[cold]
#[inline(never)]
fn foreign() -> Look {
    Look::Failed(EngineError::ForeignTicket.into())
}

impl Channel {
    /// Whether a transfer or run is finished.
    ///
    /// Reads a word of host memory, and a register only when a chain that waited for an earlier one is started. An
    /// error that the engine does not write back is not seen here; [`wait`](Self::wait) and
    /// [`check`](Self::check) find it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`] when the engine stopped, [`EngineError::Stopped`] when the channel was stopped,
    /// [`EngineError::Recalled`] when the kernel wants the card back, before the transfer was finished.
    #[inline]
    pub fn poll(&mut self, ticket: Ticket) -> Result<Poll, EngineError> {
        let look = match self.engine.ring {
            Ring::Chain => self.look::<Chain>(ticket),
            Ring::Credits => self.look::<Credits>(ticket),
        };
        match look {
            Look::Ready => Ok(Poll::Ready),
            Look::Pending => Ok(Poll::Pending),
            Look::Failed(error) => Err(*error),
        }
    }

    /// The usual cases with a single job in flight: the engine has completed it, or not.
    #[inline(never)]
    fn look<F: Feed>(&mut self, ticket: Ticket) -> Look {
        let (number, done, next) = (ticket.sequence, self.queue.done(), self.queue.next());
        if ticket.channel != self.id || number >= next {
            return foreign();
        }
        if number < done {
            return if self.queue.is_plain(number) { Look::Ready } else { self.outcome(number) };
        }
        if done + 1 != next || self.queue.waits() {
            return self.look_on::<F>(number);
        }
        let progress = &mut self.engine.progress;
        let word = progress.report.load();
        if progress.report.is_known(word) {
            return if self.is_recalled() { self.look_on::<F>(number) } else { Look::Pending };
        }
        let is_usual = !word.is_error() && self.queue.is_plain(number);
        if is_usual && F::note_written(progress, word) && self.retire_oldest() {
            return Look::Ready;
        }
        self.look_on::<F>(number)
    }

    /// As [`look`](Self::look), whatever there is to do.
    #[inline(never)]
    fn look_on<F: Feed>(&mut self, number: u64) -> Look {
        match self.reap::<F>() {
            Ok(()) if number < self.queue.done() => match self.queue.is_plain(number) {
                true => Look::Ready,
                false => self.outcome(number),
            },
            Ok(()) if !self.is_recalled() => Look::Pending,
            reaped => self.look_again(number, reaped),
        }
    }

    /// The engine failed, or the kernel wants the card back.
    #[cold]
    #[inline(never)]
    fn look_again(&mut self, number: u64, reaped: Result<(), Fail>) -> Look {
        match reaped.and_then(|()| Ok(self.give_back()?)) {
            Ok(()) => self.outcome(number),
            Err(error) => Look::Failed(error),
        }
    }

    /// How a transfer ended that was timed, or where some were lost.
    #[cold]
    #[inline(never)]
    fn outcome(&mut self, number: u64) -> Look {
        match self.queue.outcome(number, &self.counters) {
            Ok(()) => Look::Ready,
            Err(error) => Look::Failed(error.into()),
        }
    }

    /// Takes note of what the engine wrote back, and starts what waits.
    #[inline(always)]
    fn reap<F: Feed>(&mut self) -> Result<(), Fail> {
        let progress = &mut self.engine.progress;
        let word = progress.report.load();
        if !progress.report.is_known(word) {
            if word.is_error() {
                return Err(self.failed());
            }
            F::note_written(progress, word);
        }
        while self.retire_oldest() {}
        if self.queue.waits() { self.advance_now::<F>() } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn failed(&mut self) -> Fail {
        self.fail(Status::empty()).into()
    }

    /// Takes out the jobs whose descriptors are all completed: the engine is done with their memory.
    pub(super) fn retire(&mut self) {
        while self.retire_oldest() {}
    }

    /// Takes the oldest job out if its descriptors are all completed; whether it was so.
    #[inline(always)]
    fn retire_oldest(&mut self) -> bool {
        let Some(over) = self.queue.finish(self.engine.progress.completed()) else { return false };
        self.counters.count_done(over.number + 1, over.bytes);
        self.engine.slots.release(over.slots, over.kept);
        self.queue.clear(over);
        true
    }

    /// Reads the status register, and fails the channel if it shows an error. If the engine is idle, reads its count as well: a
    /// completion whose write-back was lost is found so.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`], [`EngineError::Reset`], [`EngineError::Gone`].
    pub fn check(&mut self) -> Result<(), EngineError> {
        let status = self.engine.registers.status().map_err(|error| self.note(*error))?;
        if self.was_reset() {
            return Err(self.queue.failure().cloned().unwrap_or_else(|| self.note_reset()));
        }
        if status.intersects(Status::errors(self.direction())) {
            return Err(self.fail(status));
        }
        // The write-back of an engine that is idle may be lost, or late.
        if status.contains(Status::BUSY) { Ok(()) } else { self.take_uncounted() }
    }

    /// Waits until all that was submitted is finished, and until the engine's own registers say so too: for whoever
    /// cannot trust a single word that the card wrote. Costs two register reads or more.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); [`EngineError::Deadline`] also when the registers do not agree within `limit`.
    pub fn settle(&mut self, limit: Duration) -> Result<(), EngineError> {
        let begin = Instant::now();
        if let Some(ticket) = self.last_ticket()
            && self.in_flight() > 0
        {
            self.wait(ticket, limit)?;
        }
        while !self.is_settled()? {
            if begin.elapsed() >= limit {
                return Err(self.late(limit)?);
            }
            counts::system_call();
            std::thread::yield_now();
        }
        Ok(())
    }

    fn is_settled(&mut self) -> Result<bool, EngineError> {
        self.check()?;
        Ok(self.engine.is_settled()?)
    }

    /// Lets a channel with [`ChannelOptions::interrupt`](super::ChannelOptions::interrupt) interrupt again. Poll after this,
    /// not before: a completion in between would wake nobody. A chain that is started does the same by itself.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`], [`EngineError::Gone`].
    pub fn rearm_interrupt(&mut self) -> Result<(), EngineError> {
        let seen = self.engine.registers.clear_status().map_err(|error| self.note(*error))?;
        if seen.intersects(Status::errors(self.direction())) { Err(self.fail(seen)) } else { Ok(()) }
    }

    /// Moves `range` of `memory`, in bytes, and waits.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit) and [`wait`](Self::wait).
    pub fn transfer(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
        limit: Duration,
    ) -> Result<(), EngineError> {
        let ticket = self.submit(memory, range, card)?;
        self.wait(ticket, limit)
    }
}
