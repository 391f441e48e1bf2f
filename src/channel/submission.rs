//! Submission: from the caller's memory to the doorbell.

use super::engine::Engine;
use super::error::{EngineError, Fail, Refusal, SubmitError};
use super::handle::{Channel, Ticket};
use super::options::Ring;
use super::program::{Program, ProgramData};
use super::queue::Job;
use super::ring::{Chain, Credits, RingOps};
use super::slots::Slots;
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
    /// The card uses the memory until the transfer is finished.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Full`] if the ring has no free descriptors. Other errors if the range is empty or outside of the memory,
    /// if the memory is for the other direction or belongs to another card, or if the channel has failed. In each case nothing
    /// was started, except that after [`EngineError::Bus`] or [`EngineError::Gone`] the engine may have been.
    #[inline]
    pub fn submit(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<Ticket, SubmitError> {
        match memory.piece(range.clone()) {
            Some(piece) if self.fits_one_descriptor(memory.access(), &piece, card) => {
                let submitted = self.submit_piece(&piece, card, piece.len());
                self.ticket(submitted)
            }
            _ => self.submit_pieces(memory, range, card),
        }
    }

    /// As [`submit`](Self::submit), but inlined as a whole, and with a boxed error, so that the result fits in registers. For callers
    /// that are not inlined themselves.
    #[inline(always)]
    pub(crate) fn submit_boxed(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<Ticket, Refusal> {
        match memory.piece(range.clone()) {
            Some(piece) if self.fits_one_descriptor(memory.access(), &piece, card) => {
                let channel = self.id;
                match self.engine.ring {
                    Ring::Chain => self
                        .submit_piece_inline::<Chain>(&piece, card, piece.len())
                        .map(|sequence| Ticket { channel, sequence }),
                    Ring::Credits => self
                        .submit_piece_inline::<Credits>(&piece, card, piece.len())
                        .map(|sequence| Ticket { channel, sequence }),
                }
            }
            _ => self.submit_pieces_boxed(memory, range, card),
        }
    }

    #[cold]
    #[inline(never)]
    fn submit_pieces_boxed(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<Ticket, Refusal> {
        Ok(self.submit_pieces(memory, range, card)?)
    }

    /// Makes a ticket from a job's number.
    #[inline(always)]
    fn ticket(&self, submitted: Result<u64, Refusal>) -> Result<Ticket, SubmitError> {
        Ok(Ticket { channel: self.id, sequence: submitted? })
    }

    /// Returns whether a piece of memory can be transferred by a single descriptor, and a slot is free. If so, nothing else
    /// needs to be checked.
    #[inline]
    fn fits_one_descriptor(&self, access: Access, piece: &Piece<'_>, card: u64) -> bool {
        access == access_of(self.direction())
            && piece.space() == self.space_id
            && piece.len() <= MAX_LENGTH.into()
            && card <= u64::MAX - piece.len()
            && self.engine.slots.free() > 0
    }

    /// Starts a transfer of a single descriptor, for which a slot is free. `bytes` is what the statistics count at completion:
    /// 0 for a receive buffer, whose length is not known yet.
    #[inline(always)]
    fn submit_piece(&mut self, piece: &Piece<'_>, card: u64, bytes: u64) -> Result<u64, Refusal> {
        match self.engine.ring {
            Ring::Chain => self.submit_piece_on::<Chain>(piece, card, bytes),
            Ring::Credits => self.submit_piece_on::<Credits>(piece, card, bytes),
        }
    }

    /// On a ring with one job at a time, where jobs often wait, this only dispatches to one of two functions, so that neither saves
    /// registers that only the other uses.
    #[inline(never)]
    fn submit_piece_on<F: RingOps>(
        &mut self,
        piece: &Piece<'_>,
        card: u64,
        bytes: u64,
    ) -> Result<u64, Refusal> {
        if !F::ONE_JOB {
            return self.submit_piece_inline::<F>(piece, card, bytes);
        }
        match self.has_to_wait::<F>() {
            true => self.submit_piece_later(*piece, card, bytes),
            false => self.submit_piece_now::<F>(piece, card, bytes),
        }
    }

    /// For a job that does not [have to wait](Self::has_to_wait).
    #[inline(never)]
    fn submit_piece_now<F: RingOps>(
        &mut self,
        piece: &Piece<'_>,
        card: u64,
        bytes: u64,
    ) -> Result<u64, Refusal> {
        match self.enqueue_fast::<F>(self.engine.slots.base(), 1, Single { piece, card, bytes }) {
            Some(number) => Ok(number),
            None => self.submit_piece_slow(*piece, card, bytes),
        }
    }

    #[inline(always)]
    fn submit_piece_inline<F: RingOps>(
        &mut self,
        piece: &Piece<'_>,
        card: u64,
        bytes: u64,
    ) -> Result<u64, Refusal> {
        if !self.has_to_wait::<F>()
            && let Some(number) =
                self.enqueue_fast::<F>(self.engine.slots.base(), 1, Single { piece, card, bytes })
        {
            return Ok(number);
        }
        self.submit_piece_slow(*piece, card, bytes)
    }

    /// For a job that [has to wait](Self::has_to_wait).
    #[inline(never)]
    fn submit_piece_later(&mut self, piece: Piece<'_>, card: u64, bytes: u64) -> Result<u64, Refusal> {
        let number = self.queue.next();
        if !self.admits(number) {
            return self.submit_piece_slow(piece, card, bytes);
        }
        let job = fill_slot(&mut self.engine.slots, &piece, card, bytes);
        Ok(self.enqueue(number, job, 1))
    }

    /// Handles every case.
    #[inline(never)]
    fn submit_piece_slow(&mut self, piece: Piece<'_>, card: u64, bytes: u64) -> Result<u64, Refusal> {
        self.admit()?;
        let job = fill_slot(&mut self.engine.slots, &piece, card, bytes);
        self.enqueue_and_post(job, 1)
    }

    /// Posts a receive buffer for stream data. The engine writes the length that it received to `metadata`.
    pub(super) fn submit_receive_buffer(
        &mut self,
        buffer: &Piece<'_>,
        metadata: u64,
    ) -> Result<Ticket, SubmitError> {
        if self.engine.slots.free() == 0 {
            return Err(SubmitError::Full { needed: 1, free: 0 });
        }
        let submitted = self.submit_piece(buffer, metadata, 0);
        self.ticket(submitted)
    }

    /// Handles all other transfers: those that need several descriptors, and those that are invalid.
    #[cold]
    fn submit_pieces(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<Ticket, SubmitError> {
        let empty = Transfers::new(self.direction());
        let mut transfers = std::mem::replace(&mut self.scratch.transfers, empty);
        let ticket = transfers
            .add(memory, range, card)
            .map(drop)
            .map_err(SubmitError::from)
            .and_then(|()| self.start(&transfers));
        transfers.clear();
        self.scratch.transfers = transfers;
        ticket
    }

    /// Starts a list of transfers as one job on the ring.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn start(&mut self, transfers: &Transfers) -> Result<Ticket, SubmitError> {
        self.check_fits(transfers)?;
        let (held, start) = (transfers.memory(), self.engine.slots.next());
        let descriptors = transfers.descriptors();
        for (at, &part) in (1..).zip(transfers.segments()) {
            // A list has at least as many descriptors as allocations, and all slots of a job are freed together.
            let pin = held[held.len().min(at) - 1].pin();
            self.engine.slots.push_part(part, at == descriptors, pin);
        }
        let job = Job { pin: None, program: 0, slots: descriptors as u32, start, bytes: transfers.bytes() };
        let submitted = self.enqueue_and_post(job, descriptors as u64);
        self.ticket(submitted)
    }

    /// Checks that a list of transfers can be started now. After this only the bus can fail.
    pub(super) fn check_fits(&mut self, transfers: &Transfers) -> Result<(), SubmitError> {
        let slots = &self.engine.slots;
        let (needed, ring, free) = (transfers.descriptors(), slots.len(), slots.free());
        if transfers.direction() != self.direction() {
            return Err(SubmitError::WrongChannel);
        }
        transfers.check_space(self.space_id)?;
        match needed {
            0 => Err(SubmitError::Empty),
            _ if needed > ring => Err(SubmitError::TooLarge { needed, ring }),
            _ if needed > free => Err(self.full(needed, free)),
            _ => {
                let overlap = transfers.check_overlap(&mut self.scratch.ranges);
                overlap.map_err(|address| SubmitError::Overlap { address })?;
                Ok(self.admit()?)
            }
        }
    }

    /// Starts a program.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Full`] if too many jobs are in flight; [`SubmitError::WrongChannel`] if the program was built for another
    /// card or another kind of channel; [`SubmitError::Engine`] if the channel has failed. In each case nothing was
    /// started, except as for [`submit`](Self::submit).
    #[inline]
    pub fn run(&mut self, program: &Program) -> Result<Ticket, SubmitError> {
        let submitted = self.run_program(&program.data);
        self.ticket(submitted)
    }

    #[inline(always)]
    fn run_program(&mut self, program: &Arc<ProgramData>) -> Result<u64, Refusal> {
        match self.engine.ring {
            Ring::Chain => self.run_program_on::<Chain>(program),
            Ring::Credits => self.run_program_on::<Credits>(program),
        }
    }

    /// As [`submit_piece_on`](Self::submit_piece_on).
    #[inline(never)]
    fn run_program_on<F: RingOps>(&mut self, program: &Arc<ProgramData>) -> Result<u64, Refusal> {
        if !F::ONE_JOB && !self.has_to_wait::<F>() {
            return self.run_program_inline::<F>(program);
        }
        match self.has_to_wait::<F>() {
            true => self.run_program_later(program),
            false => self.run_program_now::<F>(program),
        }
    }

    #[inline(never)]
    fn run_program_now<F: RingOps>(&mut self, program: &Arc<ProgramData>) -> Result<u64, Refusal> {
        self.run_program_inline::<F>(program)
    }

    /// For a job that does not [have to wait](Self::has_to_wait).
    #[inline(always)]
    fn run_program_inline<F: RingOps>(&mut self, program: &Arc<ProgramData>) -> Result<u64, Refusal> {
        if program.kind == self.kind
            && let Some(number) =
                self.enqueue_fast::<F>(program.start.list, program.descriptors, Run(program))
        {
            return Ok(number);
        }
        self.run_program_slow(program)
    }

    /// For a job that [has to wait](Self::has_to_wait).
    #[inline(never)]
    fn run_program_later(&mut self, program: &Arc<ProgramData>) -> Result<u64, Refusal> {
        let number = self.queue.next();
        if program.kind != self.kind || !self.admits(number) {
            return self.run_program_slow(program);
        }
        Ok(self.enqueue(number, run_job(program), program.descriptors))
    }

    /// Handles every case.
    #[inline(never)]
    fn run_program_slow(&mut self, program: &Arc<ProgramData>) -> Result<u64, Refusal> {
        if program.kind != self.kind {
            return Err(SubmitError::WrongChannel.into());
        }
        self.admit()?;
        self.enqueue_and_post(run_job(program), program.descriptors)
    }

    /// Returns whether the next job waits behind others, or for the engine to finish another.
    #[inline(always)]
    fn has_to_wait<F: RingOps>(&self) -> bool {
        self.queue.has_waiting() || !F::has_room(&self.engine.progress)
    }

    /// Returns whether the next job, which is `number`, is admitted without inspection.
    #[inline(always)]
    fn admits(&self, number: u64) -> bool {
        self.queue.admits(number) && !self.is_recalled()
    }

    /// The last check before a submission.
    #[inline(always)]
    fn admit(&mut self) -> Result<(), Refusal> {
        if self.admits(self.queue.next()) { Ok(()) } else { self.admit_slow() }
    }

    #[cold]
    #[inline(never)]
    fn admit_slow(&mut self) -> Result<(), Refusal> {
        if self.is_recalled() {
            let ring = Box::new(self.ring_state());
            return Err(Box::new(EngineError::Recalled { ring }.into()));
        }
        match self.queue.admit() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.full(1, 0).into()),
            Err(failure) => Err(Box::new(failure.into())),
        }
    }

    /// Returns whether the kernel has requested the card back.
    #[inline(always)]
    pub(super) fn is_recalled(&self) -> bool {
        self.card.recalled.load(Ordering::Relaxed)
    }

    /// The error for a full ring or queue. A channel that has failed reports its failure instead, because waiting would not
    /// help.
    #[cold]
    fn full(&self, needed: usize, free: usize) -> SubmitError {
        if let Some(failure) = self.queue.failure() {
            return failure.clone().into();
        }
        self.counters.add(Count::Full, 1);
        SubmitError::Full { needed, free }
    }

    /// The fast path of a job with descriptors of `list` that does not [have to wait](Self::has_to_wait): it is admitted, and the
    /// engine is ready for all of it. Returns the job's number, or `None` without having changed anything. The job enters the queue
    /// before the doorbell, so that its memory counts as in flight.
    #[inline(always)]
    fn enqueue_fast<F: RingOps>(&mut self, list: u64, descriptors: u64, fill: impl Fill) -> Option<u64> {
        debug_assert!(!self.has_to_wait::<F>());
        let recalled = self.is_recalled();
        let Self { engine, queue, counters, .. } = self;
        let Engine { registers, slots, progress, .. } = engine;
        let (number, mapped) = (queue.next(), registers.mapped()?);
        if !queue.admits(number) || recalled || !F::is_ready(mapped, progress, list, descriptors) {
            return None;
        }
        let job = fill.fill(slots);
        let start = job.start;
        queue.push_posted(number, job, progress.posted() + descriptors);
        counters.count_submitted(number + 1);
        counters.count_doorbell(descriptors);
        F::post_now(mapped, progress, start, descriptors);
        Some(number)
    }

    /// Queues the next job, which is `number` and was admitted, behind the others. Returns the number.
    #[inline(always)]
    fn enqueue(&mut self, number: u64, job: Job, descriptors: u64) -> u64 {
        self.queue.push_waiting(number, job, descriptors, self.engine.progress.posted());
        self.counters.count_submitted(number + 1);
        number
    }

    /// Queues a job that was admitted, and posts as many of its descriptors as possible. Returns its number.
    fn enqueue_and_post(&mut self, job: Job, descriptors: u64) -> Result<u64, Refusal> {
        let (others_wait, number) = (self.queue.has_waiting(), self.queue.next());
        self.enqueue(number, job, descriptors);
        if others_wait { Ok(number) } else { self.post_first(number) }
    }

    /// Posts as many descriptors of job `number`, the first that waits, as possible.
    #[inline(never)]
    fn post_first(&mut self, number: u64) -> Result<u64, Refusal> {
        match self.advance() {
            Ok(()) => Ok(number),
            Err(error) => Err(self.post_failed(*error)),
        }
    }

    /// The engine may have been started, so the memory stays in flight until the channel is stopped or closed.
    #[cold]
    #[inline(never)]
    fn post_failed(&mut self, error: EngineError) -> Refusal {
        Box::new(self.close_after(error).into())
    }

    /// Closes the queue after a failed register access, since it is not known how many descriptors the engine has.
    #[cold]
    #[inline(never)]
    pub(super) fn close_after(&mut self, error: EngineError) -> EngineError {
        let error = self.record_error(error);
        self.queue.close(error.clone());
        error
    }

    /// Starts job `number`, the first that waits, if the engine is ready for all of it. Otherwise nothing is changed.
    #[inline(always)]
    pub(super) fn start_waiting<F: RingOps>(&mut self, number: u64) -> bool {
        let Self { engine, queue, counters, .. } = self;
        let Engine { registers, slots, progress, .. } = engine;
        let Some(mapped) = registers.mapped() else { return false };
        debug_assert_eq!(number, queue.first_waiting(progress.posted()));
        let job = queue.get(number);
        let count = job.remaining(progress.posted());
        if !F::is_ready(mapped, progress, job.list(slots), count) {
            return false;
        }
        F::post_now(mapped, progress, job.start(slots), count);
        queue.post(count);
        counters.count_doorbell(count);
        true
    }

    /// Posts as many descriptors of waiting jobs as possible.
    #[inline(never)]
    pub(super) fn advance(&mut self) -> Result<(), Fail> {
        for number in self.queue.first_waiting(self.engine.progress.posted())..self.queue.next() {
            let job = self.queue.get(number);
            let (start, wanted) =
                (job.start(&self.engine.slots), job.remaining(self.engine.progress.posted()));
            let count = self.engine.available(start, wanted)?;
            if count > 0 {
                self.engine.post(start, count).inspect_err(|_| self.queue.hold(number))?;
                self.queue.post(count);
                self.counters.count_doorbell(count);
            }
            if count < wanted {
                break;
            }
        }
        Ok(())
    }
}

/// Fills the slots of a job. A trait rather than a closure, because a closure cannot be marked to be inlined.
trait Fill {
    fn fill(self, slots: &mut Slots) -> Job;
}

/// A transfer of one descriptor.
struct Single<'a> {
    piece: &'a Piece<'a>,
    card: u64,
    bytes: u64,
}

impl Fill for Single<'_> {
    #[inline(always)]
    fn fill(self, slots: &mut Slots) -> Job {
        fill_slot(slots, self.piece, self.card, self.bytes)
    }
}

/// A run of a program.
struct Run<'a>(&'a Arc<ProgramData>);

impl Fill for Run<'_> {
    #[inline(always)]
    fn fill(self, _: &mut Slots) -> Job {
        run_job(self.0)
    }
}

/// Fills a slot for a transfer of one descriptor, and returns its job.
#[inline(always)]
fn fill_slot(slots: &mut Slots, piece: &Piece<'_>, card: u64, bytes: u64) -> Job {
    let start = slots.next();
    slots.push(piece.address(), card, piece.len() as u32);
    Job { pin: Some(piece.handle().pin()), program: 0, slots: 1, start, bytes }
}

/// Returns the job for a run of a program.
#[inline(always)]
fn run_job(program: &Arc<ProgramData>) -> Job {
    let ProgramData { number, start, bytes, .. } = **program;
    Job { pin: Some(program.clone()), program: number, slots: 0, start, bytes }
}
