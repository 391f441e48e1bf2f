//! Submission: from the caller's buffer to the doorbell.

use super::engine::Engine;
use super::error::{EngineError, Fail};
use super::handle::{Channel, Ticket};
use super::options::Ring;
use super::program::{Program, Run};
use super::queue::Job;
use super::ring::{Chain, Credits, Feed};
use super::slots::Slots;
use super::start::Start;
use super::transfers::{Transfers, access_of};
use crate::descriptor::MAX_LENGTH;
use crate::memory::{Access, DmaMemory, Piece};
use crate::stats::Count;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Channel {
    /// Starts a transfer between `range` of `memory`, in bytes, and card addresses from `card` on.
    ///
    /// The memory is the card's until the ticket is done.
    ///
    /// # Errors
    ///
    /// [`EngineError::Full`] when the ring has no room now; the range is empty or leaves the memory; the memory is for
    /// the other direction or of another card; the channel failed before. Nothing was started then.
    #[inline]
    pub fn submit(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<Ticket, EngineError> {
        match memory.piece(range.clone()) {
            Some(piece) if self.takes(memory.access(), &piece, card) => {
                let submitted = self.submit_piece(&piece, card, piece.len());
                self.ticket(submitted)
            }
            _ => self.submit_pieces(memory, range, card),
        }
    }

    /// The ticket of a job that has a number.
    #[inline(always)]
    fn ticket(&self, submitted: Result<u64, Fail>) -> Result<Ticket, EngineError> {
        Ok(Ticket { channel: self.id, sequence: submitted? })
    }

    /// Whether a piece is a single descriptor for which there is room: nothing is left to be checked then.
    #[inline]
    fn takes(&self, access: Access, piece: &Piece<'_>, card: u64) -> bool {
        access == access_of(self.direction())
            && piece.space() == self.space_id
            && piece.len() <= MAX_LENGTH.into()
            && card <= u64::MAX - piece.len()
            && self.engine.slots.free() > 0
    }

    /// Starts what a single descriptor moves, `bytes` of which are known by now; there is a slot for it.
    #[inline(always)]
    fn submit_piece(&mut self, piece: &Piece<'_>, card: u64, bytes: u64) -> Result<u64, Fail> {
        match self.engine.ring {
            Ring::Chain => self.submit_piece_to::<Chain>(piece, card, bytes),
            Ring::Credits => self.submit_piece_to::<Credits>(piece, card, bytes),
        }
    }

    #[inline(never)]
    fn submit_piece_to<F: Feed>(&mut self, piece: &Piece<'_>, card: u64, bytes: u64) -> Result<u64, Fail> {
        let fill = |slots: &mut Slots| (slots.next(), fill_slot(slots, piece, card, bytes));
        match self.enqueue_now::<F>(self.engine.slots.base(), 1, fill) {
            Some(number) => Ok(number),
            None => self.submit_piece_closely(piece, card, bytes),
        }
    }

    #[inline(never)]
    fn submit_piece_closely(&mut self, piece: &Piece<'_>, card: u64, bytes: u64) -> Result<u64, Fail> {
        self.admit()?;
        let job = fill_slot(&mut self.engine.slots, piece, card, bytes);
        self.enqueue(job, 1)
    }

    /// Gives the engine a buffer for what a stream brings next; how much that is, it writes to `metadata`.
    pub(super) fn submit_landing(
        &mut self,
        landing: &Piece<'_>,
        metadata: u64,
    ) -> Result<Ticket, EngineError> {
        if self.engine.slots.free() == 0 {
            return Err(EngineError::Full { needed: 1, free: 0 });
        }
        let submitted = self.submit_piece(landing, metadata, 0);
        self.ticket(submitted)
    }

    /// Any other transfer: in several pieces, or none that can be started.
    #[cold]
    fn submit_pieces(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<Ticket, EngineError> {
        let empty = Transfers::new(self.direction());
        let mut pieces = std::mem::replace(&mut self.lists.pieces, empty);
        let ticket = pieces.add(memory, range, card).map(drop).and_then(|()| self.start(&pieces));
        pieces.clear();
        self.lists.pieces = pieces;
        ticket
    }

    /// Starts a list of transfers as one, through the ring.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn start(&mut self, transfers: &Transfers) -> Result<Ticket, EngineError> {
        self.check_fits(transfers)?;
        let (held, slot) = (transfers.memory(), self.engine.slots.filled());
        let descriptors = transfers.descriptors();
        for (at, &part) in (1..).zip(transfers.segments()) {
            // There are no fewer descriptors than allocations, and all slots of a job are emptied together.
            let keep = held[held.len().min(at) - 1].keep();
            self.engine.slots.push_part(part, at == descriptors, keep);
        }
        let slots = descriptors as u32;
        let job = Job { kept: None, program: 0, slots, slot, bytes: transfers.bytes() };
        let submitted = self.enqueue(job, slots);
        self.ticket(submitted)
    }

    /// Whether a list of transfers can be started now: only the bus can still refuse it then.
    pub(super) fn check_fits(&mut self, transfers: &Transfers) -> Result<(), EngineError> {
        let slots = &self.engine.slots;
        let (needed, ring, free) = (transfers.descriptors(), slots.len(), slots.free());
        if transfers.direction() != self.direction() {
            return Err(EngineError::ForeignProgram);
        }
        transfers.check_space(self.space_id)?;
        match needed {
            0 => Err(EngineError::Empty),
            _ if needed > ring => Err(EngineError::TooLarge { needed, ring }),
            _ if needed > free => Err(self.full(needed, free)),
            _ => transfers.check_overlap(&mut self.lists.ranges).and_then(|()| Ok(self.admit()?)),
        }
    }

    /// Runs a program.
    ///
    /// # Errors
    ///
    /// [`EngineError::Full`] when too many jobs are in flight, [`EngineError::ForeignProgram`] when it was built for
    /// another card or another kind of channel, or the channel failed before. Nothing was started then.
    #[inline]
    pub fn run(&mut self, program: &Program) -> Result<Ticket, EngineError> {
        let submitted = self.run_program(&program.run);
        self.ticket(submitted)
    }

    #[inline(always)]
    fn run_program(&mut self, run: &Arc<Run>) -> Result<u64, Fail> {
        match self.engine.ring {
            Ring::Chain => self.run_program_on::<Chain>(run),
            Ring::Credits => self.run_program_on::<Credits>(run),
        }
    }

    #[inline(never)]
    fn run_program_on<F: Feed>(&mut self, run: &Arc<Run>) -> Result<u64, Fail> {
        let fill = |_: &mut Slots| (run.start, run_job(run));
        if run.kind == self.kind
            && let Some(number) = self.enqueue_now::<F>(run.start.list, run.descriptors, fill)
        {
            return Ok(number);
        }
        self.run_program_closely(run)
    }

    #[inline(never)]
    fn run_program_closely(&mut self, run: &Arc<Run>) -> Result<u64, Fail> {
        if run.kind != self.kind {
            return Err(EngineError::ForeignProgram.into());
        }
        self.admit()?;
        self.enqueue(run_job(run), run.descriptors)
    }

    /// The last question before a submission.
    #[inline(always)]
    fn admit(&mut self) -> Result<(), Fail> {
        if self.queue.admits(self.queue.next()) && !self.is_recalled() { Ok(()) } else { self.look_closer() }
    }

    #[cold]
    #[inline(never)]
    fn look_closer(&mut self) -> Result<(), Fail> {
        if self.is_recalled() {
            return Err(EngineError::Recalled { ring: Box::new(self.ring_state()) }.into());
        }
        if self.queue.admit()? { Ok(()) } else { Err(self.full(1, 0).into()) }
    }

    /// Whether the kernel wants the card back.
    #[inline(always)]
    pub(super) fn is_recalled(&self) -> bool {
        self.bond.recall.load(Ordering::Relaxed)
    }

    /// There is no room; on a channel that failed there is none to wait for.
    #[cold]
    fn full(&self, needed: usize, free: usize) -> EngineError {
        if let Some(failure) = self.queue.failure() {
            return failure.clone();
        }
        self.counters.add(Count::Full, 1);
        EngineError::Full { needed, free }
    }

    /// The usual way of a job to the engine, with descriptors of `list`: it is admitted, none waits, and the engine is ready for all of it. Its number; `None`, and
    /// nothing happened, if it is not so. It is among the jobs before the engine hears of it, so that its memory is in flight.
    #[inline(always)]
    fn enqueue_now<F: Feed>(
        &mut self,
        list: u64,
        descriptors: u32,
        fill: impl FnOnce(&mut Slots) -> (Start, Job),
    ) -> Option<u64> {
        let recalled = self.is_recalled();
        let Self { engine, queue, counters, .. } = self;
        let Engine { registers, slots, progress, .. } = engine;
        let (number, mapped) = (queue.next(), registers.mapped()?);
        if queue.waits()
            || !queue.admits(number)
            || recalled
            || !F::is_ready(mapped, progress, list, descriptors)
        {
            return None;
        }
        let (start, job) = fill(slots);
        queue.push_given(number, job, progress.given() + u64::from(descriptors));
        counters.count_given(number + 1, descriptors);
        F::give_now(mapped, progress, start, descriptors);
        Some(number)
    }

    /// The way that is always right: a job, which was admitted, waits behind the others, and the engine is given what it can take. Its
    /// number.
    #[inline(always)]
    fn enqueue(&mut self, job: Job, descriptors: u32) -> Result<u64, Fail> {
        let number = self.queue.next();
        let others_wait = self.queue.waits();
        self.queue.push_waiting(number, job, descriptors);
        self.counters.set(Count::Submitted, number + 1);
        // The engine has no room for those before it.
        if others_wait { Ok(number) } else { self.give_first(number) }
    }

    /// Gives the engine what it can take of job `number`, which is the first that waits.
    #[inline(never)]
    fn give_first(&mut self, number: u64) -> Result<u64, Fail> {
        match self.advance() {
            Ok(()) => Ok(number),
            Err(error) => Err(self.not_given(*error)),
        }
    }

    /// The engine may have been started: the memory stays in flight until the channel is stopped or closed.
    #[cold]
    #[inline(never)]
    fn not_given(&mut self, error: EngineError) -> Fail {
        let error = self.note(error);
        self.queue.close(error.clone());
        error.into()
    }

    /// Gives the engine what it can take now of the jobs that wait: the usual way.
    #[inline(always)]
    pub(super) fn advance_now<F: Feed>(&mut self) -> Result<(), Fail> {
        while let Some(job) = self.queue.waiting() {
            let Engine { registers, slots, progress, .. } = &mut self.engine;
            let (count, start) = (job.left, job.start(slots));
            let Some(mapped) = registers.mapped() else { return self.advance() };
            if !F::is_ready(mapped, progress, start.list, count) {
                return self.advance();
            }
            self.queue.give(count, progress.given() + u64::from(count));
            self.counters.count_given(self.queue.next(), count);
            F::give_now(mapped, progress, start, count);
            if F::ONE_JOB {
                break;
            }
        }
        Ok(())
    }

    /// Gives the engine what it can take now of the jobs that wait: the way that is always right.
    #[inline(never)]
    fn advance(&mut self) -> Result<(), Fail> {
        while let Some(job) = self.queue.waiting() {
            let (wanted, start) = (job.left, job.start(&self.engine.slots));
            let room = self.engine.room(start, wanted)?;
            if room > 0 {
                let end = self.engine.progress.given() + u64::from(room);
                self.engine.give(start, room)?;
                self.queue.give(room, end);
                self.counters.count_given(self.queue.next(), room);
            }
            if room < wanted {
                break;
            }
        }
        Ok(())
    }
}

/// The job of a transfer that is one descriptor, whose slot is filled.
#[inline(always)]
fn fill_slot(slots: &mut Slots, piece: &Piece<'_>, card: u64, bytes: u64) -> Job {
    let slot = slots.filled();
    slots.push(piece.address(), card, piece.len() as u32);
    Job { kept: Some(piece.handle().keep()), program: 0, slots: 1, slot, bytes }
}

/// The job of a program's run.
#[inline(always)]
fn run_job(run: &Arc<Run>) -> Job {
    Job { kept: Some(run.clone()), program: run.number, slots: 0, slot: 0, bytes: run.bytes }
}
