//! Completion: polling.

use super::channel::{Channel, Ticket};
use super::program::Inner;
use super::words::WORDS;
use super::{EngineError, Ring};
use crate::bus::counts;
use crate::memory::{DmaMemory, order};
use crate::regs::channel::{Status, WriteBack};
use crate::stats::Count;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// All its descriptors are completed.
    Ready,
    /// Not yet.
    Pending,
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
        if ticket.channel != self.id || ticket.sequence >= self.jobs.next() {
            return Err(EngineError::ForeignTicket);
        }
        if ticket.sequence >= self.jobs.done() {
            self.reap()?;
            if ticket.sequence >= self.jobs.done() {
                if !self.is_recalled() {
                    return Ok(Poll::Pending);
                }
                self.give_back()?;
            }
        }
        if self.outcomes.is_plain(ticket.sequence) { Ok(Poll::Ready) } else { self.outcome(ticket) }
    }

    /// How a transfer ended that was timed, or where some were lost.
    #[cold]
    fn outcome(&mut self, ticket: Ticket) -> Result<Poll, EngineError> {
        self.gate.seen(ticket.sequence, &self.counters);
        self.outcomes.watch(self.gate.timed());
        self.outcomes.of(ticket.sequence)
    }

    /// Takes note of what the engine wrote back, and starts what waits.
    #[inline(always)]
    pub(super) fn reap(&mut self) -> Result<(), EngineError> {
        let word = WriteBack(self.words[self.word % WORDS].load());
        if word.0 != self.last {
            self.take(word)?;
        }
        if self.jobs.wait() {
            self.advance()?;
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn take(&mut self, word: WriteBack) -> Result<(), EngineError> {
        order::after_completion();
        if word.is_error() {
            return Err(self.failed());
        }
        match self.ring {
            Ring::Chain => {
                if self.jobs.front().is_some_and(|job| job.end() == u64::from(word.count())) {
                    self.last = word.0;
                    self.retire();
                }
            }
            Ring::Credits => {
                let new = word.count().wrapping_sub(self.completed as u32) & WriteBack::COUNT_MASK;
                if u64::from(new) <= self.issued - self.completed {
                    self.last = word.0;
                    self.completed += u64::from(new);
                    self.retire_completed();
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn failed(&mut self) -> EngineError {
        self.fail(Status::empty())
    }

    /// Retires the jobs whose descriptors are all completed.
    #[inline(always)]
    pub(super) fn retire_completed(&mut self) {
        while self.jobs.front().is_some_and(|job| job.end() <= self.completed) {
            self.retire();
        }
    }

    /// Takes the oldest job out: the engine is done with its memory.
    #[inline(always)]
    pub(super) fn retire(&mut self) {
        let Some((program, descriptors, bytes)) = self.jobs.pop() else { return };
        self.counters.set(Count::Done, self.jobs.done());
        self.counters.add(Count::Bytes, bytes);
        self.release(program, descriptors);
    }

    #[inline(always)]
    pub(super) fn release(&mut self, program: Option<Arc<Inner>>, descriptors: u32) {
        match program {
            None => self.slots.release(descriptors as usize),
            Some(inner) => inner.runs.leave(),
        }
    }

    /// The ticket of what was submitted last.
    pub fn last_ticket(&self) -> Option<Ticket> {
        let submitted = self.jobs.next() > self.first;
        submitted.then(|| Ticket { channel: self.id, sequence: self.jobs.next() - 1 })
    }

    /// Reads the status register, and fails the channel if it shows an error. If the engine is idle, reads its count as well: a
    /// completion whose write-back was lost is found so.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`], [`EngineError::Reset`], [`EngineError::Gone`].
    pub fn check(&mut self) -> Result<(), EngineError> {
        let status = self.registers.status().map_err(|error| self.note(error))?;
        if self.was_reset() {
            return Err(self.gate.failure().cloned().unwrap_or_else(|| self.note_reset()));
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
        match self.ring {
            Ring::Chain => Ok(!self.registers.status()?.contains(Status::BUSY)),
            Ring::Credits => Ok(self.registers.completed()? == self.issued as u32),
        }
    }

    /// Lets a channel with [`ChannelOptions::interrupt`](super::ChannelOptions::interrupt) interrupt again. Poll after this,
    /// not before: a completion in between would wake nobody. A chain that is started does the same by itself.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`], [`EngineError::Gone`].
    pub fn rearm_interrupt(&mut self) -> Result<(), EngineError> {
        let seen = self.registers.clear_status().map_err(|error| self.note(error))?;
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
