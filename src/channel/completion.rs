//! Completion: polling, and the checks that find errors the engine does not write back.

use super::error::{EngineError, Fail, PollError, TransferError, WaitError};
use super::handle::{Channel, Ticket};
use super::options::Ring;
use super::queue::Ended;
use super::ring::{Chain, Credits, RingOps};
use super::slots::Slots;
use crate::bus::counts;
use crate::memory::DmaMemory;
use crate::regs::channel::Status;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The state of a transfer or run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// All its descriptors are completed.
    Ready,
    /// Some descriptors are not completed.
    Pending,
}

/// The result of a poll, in a form that fits in two registers.
enum PollResult {
    Ready,
    Pending,
    Failed(Box<PollError>),
}

/// The numbers of a job, of the oldest job, and of the next.
struct Found {
    number: u64,
    done: u64,
    next: u64,
}

#[cold]
#[inline(never)]
fn foreign() -> PollResult {
    PollResult::Failed(PollError::ForeignTicket.into())
}

/// Frees the slots and the memory of a job that has ended.
#[inline(always)]
pub(super) fn release(ended: Ended<'_>, slots: &mut Slots) {
    let count = ended.slots();
    slots.release(count);
    if !ended.unpin() {
        slots.drop_pins(count);
    }
}

impl Channel {
    /// Returns whether a transfer or run is finished.
    ///
    /// Reads a word of host memory, and a register only when it starts a chain that waited for an earlier one. Errors that the
    /// engine does not write back are not seen here; [`wait`](Self::wait) and [`check`](Self::check) find them.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`] if the engine stopped with an error, [`EngineError::Stopped`] if the channel was stopped, or
    /// [`EngineError::Recalled`] if the kernel requested the card back, before the transfer was finished; another [`EngineError`] that
    /// ended it earlier. [`PollError::ForeignTicket`] for a ticket of another channel, [`PollError::TooOld`] after many later failures.
    #[inline]
    pub fn poll(&mut self, ticket: Ticket) -> Result<Poll, PollError> {
        let result = match self.engine.ring {
            Ring::Chain => self.poll_fast::<Chain>(ticket),
            Ring::Credits => self.poll_fast::<Credits>(ticket),
        };
        match result {
            PollResult::Ready => Ok(Poll::Ready),
            PollResult::Pending => Ok(Poll::Pending),
            PollResult::Failed(error) => Err(*error),
        }
    }

    /// As [`poll`](Self::poll), but inlined as a whole, and with a boxed error, so that the result fits in registers. For callers that
    /// are not inlined themselves.
    #[inline(always)]
    pub(crate) fn poll_boxed(&mut self, ticket: Ticket) -> Result<Poll, Box<PollError>> {
        let result = match self.engine.ring {
            Ring::Chain => self.poll_inline::<Chain>(ticket),
            Ring::Credits => self.poll_inline::<Credits>(ticket),
        };
        match result {
            PollResult::Ready => Ok(Poll::Ready),
            PollResult::Pending => Ok(Poll::Pending),
            PollResult::Failed(error) => Err(error),
        }
    }

    /// On a ring with one job at a time, where jobs often wait, this only dispatches to one of two functions, so that neither saves
    /// registers that only the other uses.
    #[inline(never)]
    fn poll_fast<F: RingOps>(&mut self, ticket: Ticket) -> PollResult {
        if !F::ONE_JOB {
            return self.poll_inline::<F>(ticket);
        }
        match self.queue.has_waiting() {
            true => self.poll_queued::<F>(ticket),
            false => self.poll_single::<F>(ticket),
        }
    }

    #[inline(always)]
    fn poll_inline<F: RingOps>(&mut self, ticket: Ticket) -> PollResult {
        let seen = self.poll_unless_queued::<F>(ticket);
        self.poll_unless_seen::<F>(seen, ticket)
    }

    #[inline(never)]
    fn poll_single<F: RingOps>(&mut self, ticket: Ticket) -> PollResult {
        let seen = self.poll_common::<F>(ticket);
        self.poll_unless_seen::<F>(seen, ticket)
    }

    /// Returns what the fast path has seen, or else polls on the slow path.
    #[inline(always)]
    fn poll_unless_seen<F: RingOps>(&mut self, seen: Option<Poll>, ticket: Ticket) -> PollResult {
        match seen {
            Some(Poll::Ready) => PollResult::Ready,
            Some(Poll::Pending) => PollResult::Pending,
            None => self.poll_slow::<F>(ticket),
        }
    }

    /// Polls while jobs wait, on a ring with one job at a time: ends the job that the engine has finished, and starts the next one.
    #[inline(never)]
    fn poll_queued<F: RingOps>(&mut self, ticket: Ticket) -> PollResult {
        let Some(Found { number, done, .. }) = self.find(ticket) else { return self.poll_slow::<F>(ticket) };
        if number < done {
            return PollResult::Ready;
        }
        // The next job is started first, so that the engine has work soon.
        match !self.is_recalled() && self.record_completion::<F>() && self.start_waiting::<F>(done + 1) {
            true => {
                self.retire_finished(done);
                if number == done { PollResult::Ready } else { PollResult::Pending }
            }
            false => self.poll_slow::<F>(ticket),
        }
    }

    /// Records the write-back of the engine's only job. Returns false if there is none, or if it reports an error.
    #[inline(always)]
    fn record_completion<F: RingOps>(&mut self) -> bool {
        let progress = &mut self.engine.progress;
        let word = progress.word.load();
        // A count of zero would be right for an engine without a job, after `check` found the job finished.
        !progress.word.is_known(word)
            && !word.is_error()
            && word.count() > 0
            && F::record_write_back(progress, word)
    }

    /// Looks up a job of this channel, unless a failure or its timer needs a closer look.
    #[inline(always)]
    fn find(&self, ticket: Ticket) -> Option<Found> {
        let (number, done, next) = (ticket.sequence, self.queue.done(), self.queue.next());
        if ticket.channel != self.id || number >= next || !self.queue.is_plain(number) {
            return None;
        }
        Some(Found { number, done, next })
    }

    /// As [`poll_common`](Self::poll_common), but returns `None` while jobs wait.
    #[inline(always)]
    fn poll_unless_queued<F: RingOps>(&mut self, ticket: Ticket) -> Option<Poll> {
        if self.queue.has_waiting() { None } else { self.poll_common::<F>(ticket) }
    }

    /// Returns whether a transfer or run is finished, in the common cases of a finished job and of a single job in flight, which the
    /// engine has. `None` in all others.
    #[inline(always)]
    fn poll_common<F: RingOps>(&mut self, ticket: Ticket) -> Option<Poll> {
        let Found { number, done, next } = self.find(ticket)?;
        if number < done {
            return Some(Poll::Ready);
        }
        if done + 1 != next {
            return None;
        }
        let progress = &mut self.engine.progress;
        let word = progress.word.load();
        if progress.word.is_known(word) {
            return (!self.is_recalled()).then_some(Poll::Pending);
        }
        let is_finished = !word.is_error() && F::record_write_back(progress, word) && self.retire_job(number);
        is_finished.then_some(Poll::Ready)
    }

    /// Returns true if a transfer or run is finished, in the common cases. It is inlined as a whole; if it returns false, the caller polls.
    #[inline(always)]
    pub(crate) fn is_finished(&mut self, ticket: Ticket) -> bool {
        let seen = match self.engine.ring {
            Ring::Chain => self.poll_unless_queued::<Chain>(ticket),
            Ring::Credits => self.poll_unless_queued::<Credits>(ticket),
        };
        seen == Some(Poll::Ready)
    }

    /// Handles every case.
    #[inline(never)]
    fn poll_slow<F: RingOps>(&mut self, ticket: Ticket) -> PollResult {
        let number = ticket.sequence;
        if ticket.channel != self.id || number >= self.queue.next() {
            return foreign();
        }
        match if number < self.queue.done() { Ok(()) } else { self.reap::<F>() } {
            Ok(()) if number < self.queue.done() => match self.queue.is_plain(number) {
                true => PollResult::Ready,
                false => self.outcome(number),
            },
            Ok(()) if self.may_start() => PollResult::Pending,
            reaped => self.poll_after_failure(number, reaped),
        }
    }

    /// Returns whether jobs that wait may be started: the channel has not failed, and the kernel does not want the card back.
    #[inline(always)]
    fn may_start(&self) -> bool {
        self.queue.failure().is_none() && !self.is_recalled()
    }

    /// Handles an engine that failed, and a card that the kernel requested back.
    #[cold]
    #[inline(never)]
    fn poll_after_failure(&mut self, number: u64, reaped: Result<(), Fail>) -> PollResult {
        let result = match (reaped, self.queue.failure().cloned()) {
            (Ok(()), _) if self.is_recalled() => self.stop_for_recall(),
            (Err(_), Some(failure)) => Err(failure),
            // A job could not be started, or the engine not be stopped, now or earlier. It may still finish those that it has.
            (reaped, known) => {
                let failure = reaped.err().map(|error| self.close_after(*error)).or(known);
                let may_finish = matches!(
                    failure,
                    Some(EngineError::Bus { .. } | EngineError::Gone { .. } | EngineError::Stopped)
                );
                if may_finish && number >= self.queue.done() && self.has_posted(number) {
                    return PollResult::Pending;
                }
                failure.map_or(Ok(()), Err)
            }
        };
        match result {
            Err(error) if number >= self.queue.done() => PollResult::Failed(Box::new(error.into())),
            // A job may have finished before the failure.
            _ => self.outcome(number),
        }
    }

    /// Returns whether all descriptors of job `number`, which has not ended, are posted.
    fn has_posted(&self, number: u64) -> bool {
        self.queue.get(number).end <= self.engine.progress.posted()
    }

    /// Returns the outcome of a job that was timed, or that may have failed.
    #[cold]
    #[inline(never)]
    fn outcome(&mut self, number: u64) -> PollResult {
        match self.queue.outcome(number, &self.counters) {
            Ok(()) => PollResult::Ready,
            Err(error) => PollResult::Failed(error.into()),
        }
    }

    /// Processes the engine's write-back, and posts descriptors of waiting jobs.
    #[inline(always)]
    fn reap<F: RingOps>(&mut self) -> Result<(), Fail> {
        let progress = &mut self.engine.progress;
        let word = progress.word.load();
        if !progress.word.is_known(word) {
            if word.is_error() {
                return Err(self.failed());
            }
            F::record_write_back(progress, word);
        }
        // On a ring with one job at a time, the engine has completed at most one since the last poll.
        while self.retire_oldest() && !F::ONE_JOB {}
        if self.queue.has_waiting() && self.may_start() { self.advance() } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn failed(&mut self) -> Fail {
        self.fail(Status::empty()).into()
    }

    /// Removes all finished jobs from the queue. The engine is done with their memory.
    pub(super) fn retire(&mut self) {
        while self.retire_oldest() {}
    }

    /// Removes the oldest job from the queue if it is finished. Returns whether it was.
    #[inline(always)]
    fn retire_oldest(&mut self) -> bool {
        self.retire_job(self.queue.done())
    }

    /// Removes job `number`, the oldest, from the queue if it is finished. Returns whether it was.
    #[inline(always)]
    fn retire_job(&mut self, number: u64) -> bool {
        let is_finished = self.queue.is_finished(number, self.engine.progress.completed());
        if is_finished {
            self.retire_finished(number);
        }
        is_finished
    }

    /// Removes job `number`, the oldest, which is finished, from the queue.
    #[inline(always)]
    fn retire_finished(&mut self, number: u64) {
        debug_assert!(self.queue.is_finished(number, self.engine.progress.completed()));
        let ended = self.queue.end(number);
        self.counters.count_completed(number + 1, ended.bytes());
        release(ended, &mut self.engine.slots);
    }

    /// Reads the status register, and fails the channel if it shows an error. If the engine is idle, reads its completion count
    /// too, which finds completions whose write-back was lost.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`], [`EngineError::Reset`], [`EngineError::Gone`].
    pub fn check(&mut self) -> Result<(), EngineError> {
        let status = self.engine.registers.status().map_err(|error| self.record_error(*error))?;
        if self.was_reset() {
            return Err(match self.queue.failure() {
                Some(failure) if self.has_failed() => failure.clone(),
                _ => self.record_reset(),
            });
        }
        if status.intersects(Status::errors(self.direction())) {
            return Err(self.fail(status));
        }
        // If the engine is idle, its write-back may be late or lost.
        if status.contains(Status::BUSY) { Ok(()) } else { self.collect_unreported() }
    }

    /// Waits until everything that was submitted is finished, and until the engine's registers agree. For programs that do not
    /// trust the write-back alone. Costs two register reads or more.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); [`WaitError::Deadline`] also if the registers do not agree within `limit`.
    pub fn settle(&mut self, limit: Duration) -> Result<(), WaitError> {
        let begin = Instant::now();
        if let Some(ticket) = self.last_ticket()
            && self.in_flight() > 0
        {
            self.wait(ticket, limit)?;
        }
        while !self.is_settled()? {
            if begin.elapsed() >= limit {
                return Err(self.deadline_error(limit));
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

    /// Enables the interrupt of a channel with [`ChannelOptions::interrupt`](super::ChannelOptions::interrupt) again. Poll
    /// after this call, not before: a completion between a poll and this call would not interrupt. Starting a chain enables the
    /// interrupt automatically.
    ///
    /// Sleep at most a few milliseconds at a time while several transfers are in flight on a chain ring: the engine may still be busy
    /// when it reports a transfer, and no interrupt reports when it is idle and a poll can start the next one.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`], [`EngineError::Gone`].
    pub fn rearm_interrupt(&mut self) -> Result<(), EngineError> {
        let seen = self.engine.registers.clear_status().map_err(|error| self.record_error(*error))?;
        if let Some(event) = &self.sleeper.event {
            event.rearm().map_err(|error| self.record_error(error.into()))?;
        }
        if seen.intersects(Status::errors(self.direction())) { Err(self.fail(seen)) } else { Ok(()) }
    }

    /// Moves `range` of `memory`, in bytes, to or from card addresses from `card` on, and waits.
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
    ) -> Result<(), TransferError> {
        let ticket = self.submit(memory, range, card)?;
        Ok(self.wait(ticket, limit)?)
    }
}
