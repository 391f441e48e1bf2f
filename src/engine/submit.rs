//! Submission: from transfers to doorbells.

use super::channel::{Channel, Ticket};
use super::jobs::Job;
use super::words::WORDS;
use super::{EngineError, Program, Ring, Transfers};
use crate::descriptor::{Flags, MAX_LENGTH, Segment};
use crate::memory::{Access, DmaMemory, Keep, Piece, order};
use crate::regs::Direction;
use crate::regs::channel::{CONTROL_W1C, Control, Status};
use crate::regs::sgdma::{CREDITS, MAX_CREDITS};
use crate::stats::Count;
use std::ops::Range;

/// Where the engine is to begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Device address of the list.
    pub list: u64,
    /// Device address of the first descriptor to run.
    pub first: u64,
    /// Descriptors adjacent after it.
    pub adjacent: u8,
}

/// What the card does with memory that is moved in a direction.
#[inline]
pub(super) fn access_of(direction: Direction) -> Access {
    match direction {
        Direction::H2C => Access::CardReads,
        Direction::C2H => Access::CardWrites,
    }
}

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
            Some(piece) if self.takes(memory.access(), &piece, card) => self.submit_piece(&piece, card),
            _ => self.submit_pieces(memory, range, card),
        }
    }

    /// Whether a piece is a single descriptor for which there is room: nothing is left to be checked then.
    #[inline]
    fn takes(&self, access: Access, piece: &Piece<'_>, card: u64) -> bool {
        access == access_of(self.direction())
            && piece.space() == self.space_id
            && piece.len() <= MAX_LENGTH.into()
            && card <= u64::MAX - piece.len()
            && self.slots.free() > 0
    }

    #[inline(never)]
    fn submit_piece(&mut self, piece: &Piece<'_>, card: u64) -> Result<Ticket, EngineError> {
        self.check_ready()?;
        let len = piece.len();
        let (source, destination) = match self.direction() {
            Direction::H2C => (piece.address(), card),
            Direction::C2H => (card, piece.address()),
        };
        let segment = Segment { source, destination, length: len as u32 };
        self.submit_segment(segment, piece.keep(), len)
    }

    /// Starts what a single descriptor moves, `bytes` of which are known by now; there is a slot for it.
    #[inline(always)]
    fn submit_segment(&mut self, segment: Segment, keep: Keep, bytes: u64) -> Result<Ticket, EngineError> {
        let start = self.slots.tail();
        self.slots.push(segment, self.end, keep);
        self.enqueue(Job::new(None, start, 1, bytes), self.on_ring(start))
    }

    /// Gives the engine a buffer for what a stream brings next; how much that is, it writes to `metadata`.
    pub(super) fn submit_landing(
        &mut self,
        landing: &Piece<'_>,
        metadata: u64,
    ) -> Result<Ticket, EngineError> {
        if self.slots.free() == 0 {
            return Err(EngineError::Full { needed: 1, free: 0 });
        }
        self.check_ready()?;
        let (destination, length) = (landing.address(), landing.len() as u32);
        self.submit_segment(Segment { source: metadata, destination, length }, landing.keep(), 0)
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
        let mut transfers = std::mem::replace(&mut self.scratch, empty);
        transfers.clear();
        let ticket = transfers.add(memory, range, card).map(drop).and_then(|()| self.start(&transfers));
        transfers.clear();
        self.scratch = transfers;
        ticket
    }

    /// Starts a list of transfers as one, through the ring.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn start(&mut self, transfers: &Transfers) -> Result<Ticket, EngineError> {
        self.check_fits(transfers)?;
        let (needed, start) = (transfers.descriptors(), self.slots.tail());
        let held = transfers.memory();
        for (at, &segment) in transfers.segments().iter().enumerate() {
            let flags = if at + 1 == needed { self.end } else { Flags::empty() };
            // There are no fewer descriptors than allocations, and all slots of a job are emptied together.
            self.slots.push(segment, flags, Keep::new(held[at.min(held.len() - 1)].clone()));
        }
        self.enqueue(Job::new(None, start, needed as u32, transfers.bytes()), self.on_ring(start))
    }

    /// Whether a list of transfers can be started now: only the bus can still refuse it then.
    pub(super) fn check_fits(&mut self, transfers: &Transfers) -> Result<(), EngineError> {
        let (needed, ring, free) = (transfers.descriptors(), self.slots.len(), self.slots.free());
        if transfers.direction() != self.direction() {
            return Err(EngineError::ForeignProgram);
        }
        transfers.check_space(self.space_id)?;
        match needed {
            0 => Err(EngineError::Empty),
            _ if needed > ring => Err(EngineError::TooLarge { needed, ring }),
            _ if needed > free => Err(self.full(needed, free)),
            _ => transfers.check_overlap(&mut self.ranges).and_then(|()| self.check_ready()),
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
        let inner = &program.inner;
        if inner.space != self.space_id
            || inner.ring != self.ring
            || inner.direction != self.registers.direction
        {
            return Err(EngineError::ForeignProgram);
        }
        self.check_ready()?;
        inner.runs.enter();
        let job = Job::new(Some(inner.clone()), inner.start.first, inner.list.len() as u32, program.bytes());
        self.enqueue(job, inner.start)
    }

    /// The last question before a submission: a job that is timed is timed from here on.
    #[inline]
    fn check_ready(&mut self) -> Result<(), EngineError> {
        if self.gate.is_open(self.jobs.next()) && !self.is_recalled() { Ok(()) } else { self.look_closer() }
    }

    #[cold]
    fn look_closer(&mut self) -> Result<(), EngineError> {
        if self.is_recalled() {
            return Err(EngineError::Recalled { ring: Box::new(self.ring_state()) });
        }
        if self.gate.failure().is_some() || self.jobs.is_full() {
            return Err(self.full(1, 0));
        }
        self.gate.look(self.jobs.next(), self.jobs.done());
        self.outcomes.watch(self.gate.timed());
        Ok(())
    }

    /// There is no room; on a channel that failed there is none to wait for.
    #[cold]
    fn full(&self, needed: usize, free: usize) -> EngineError {
        if let Some(failure) = self.gate.failure() {
            return failure.clone();
        }
        self.counters.add(Count::Full, 1);
        EngineError::Full { needed, free }
    }

    #[inline(always)]
    fn enqueue(&mut self, job: Job, start: Start) -> Result<Ticket, EngineError> {
        let (number, others_wait, wanted) = (self.jobs.next(), self.jobs.wait(), job.left());
        // It is among the jobs before the engine hears of it: whatever happens then, its memory is in flight.
        self.jobs.push(job);
        self.counters.set(Count::Submitted, number + 1);
        if others_wait {
            self.no_doorbell();
        } else if let Err(error) = self.give(start, wanted) {
            return Err(self.not_given(error));
        }
        Ok(Ticket { channel: self.id, sequence: number })
    }

    /// The engine may have been started: the memory stays in flight until the channel is stopped or closed.
    #[cold]
    fn not_given(&mut self, error: EngineError) -> EngineError {
        let error = self.note(error);
        self.gate.close(error.clone());
        error
    }

    /// Gives the engine what it can take now of the jobs that wait.
    #[cold]
    pub(super) fn advance(&mut self) -> Result<(), EngineError> {
        while let Some(job) = self.jobs.waiting() {
            let wanted = job.left();
            let start = job.program.as_ref().map_or_else(|| self.on_ring(job.first), |inner| inner.start);
            self.counters.add(Count::MoreDoorbells, 1);
            if self.give(start, wanted)? < wanted {
                break;
            }
        }
        Ok(())
    }

    /// Where the engine begins with descriptors of the ring.
    #[inline]
    fn on_ring(&self, first: u64) -> Start {
        Start { list: self.slots.list().base(), first, adjacent: 0 }
    }

    /// Gives the engine what it can take now of the first job that waits, `wanted` descriptors at most. How many. The caller has
    /// counted a doorbell.
    #[inline(always)]
    fn give(&mut self, start: Start, wanted: u32) -> Result<u32, EngineError> {
        let is_first = self.jobs.first_waits();
        let (given, end) = match self.ring {
            Ring::Chain if is_first => (self.start_chain(start, wanted)?, wanted.into()),
            Ring::Chain => (self.no_doorbell(), 0),
            Ring::Credits => (self.give_credits(start, wanted, is_first)?, self.issued),
        };
        self.jobs.give(given, end);
        Ok(given)
    }

    /// Starts a chain if the engine is idle; how many descriptors it was given.
    #[inline(always)]
    fn start_chain(&mut self, start: Start, count: u32) -> Result<u32, EngineError> {
        // The write-back is sent before the engine is idle: it may be seen first. The next poll tries again.
        if self.options.check_idle && self.registers.status()?.contains(Status::BUSY) {
            return Ok(self.no_doorbell());
        }
        let word = self.next_word();
        self.counters.add(Count::Descriptors, count.into());
        self.registers.start(word, start.first, start.adjacent)?;
        Ok(count)
    }

    /// Takes the next write-back word, zeroed; the low half of its device address.
    #[inline]
    fn next_word(&mut self) -> u32 {
        self.word = (self.word + 1) % WORDS;
        self.words[self.word].store(0);
        self.last = 0;
        self.word_base as u32 + 4 * self.word as u32
    }

    /// The engine takes nothing now, so a doorbell was counted too many.
    #[cold]
    fn no_doorbell(&mut self) -> u32 {
        self.counters.add(Count::MoreDoorbells, u64::MAX);
        0
    }

    /// Gives credits, if the engine runs on this list or can be started on it; how many.
    #[inline(always)]
    fn give_credits(&mut self, start: Start, wanted: u32, is_first: bool) -> Result<u32, EngineError> {
        // Another list can only be started when the engine has finished the one before.
        if start.list != self.current && !(is_first && self.switch_list(start.list, start.first)?) {
            return Ok(self.no_doorbell());
        }
        let room = u64::from(MAX_CREDITS) - (self.issued - self.completed);
        let credits = room.min(wanted.into());
        if credits == 0 {
            return Ok(self.no_doorbell());
        }
        self.counters.add(Count::Descriptors, credits);
        order::before_doorbell();
        self.registers.write_sgdma(CREDITS, credits as u32)?;
        self.issued += credits;
        Ok(credits as u32)
    }

    /// Starts the engine on another closed list; nothing is in flight. False when it is not idle yet.
    #[cold]
    fn switch_list(&mut self, list: u64, first: u64) -> Result<bool, EngineError> {
        let r = &self.registers;
        r.write(CONTROL_W1C, Control::RUN.bits())?;
        if r.status()?.contains(Status::BUSY) {
            self.current = 0;
            return Ok(false);
        }
        self.start_list(list, first)?;
        Ok(true)
    }

    /// Sets Run on a closed list, from the descriptor at `first` on; the engine is idle.
    pub(super) fn start_list(&mut self, list: u64, first: u64) -> Result<(), EngineError> {
        let word = self.next_word();
        (self.issued, self.completed) = (0, 0);
        self.counters.add(Count::MoreDoorbells, 1);
        self.registers.start(word, first, 0)?;
        self.current = list;
        Ok(())
    }
}
