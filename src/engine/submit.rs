//! Submission: from transfers to doorbells.

use super::channel::{Channel, MAX_JOBS, Ticket, WORDS};
use super::program::Inner;
use super::{EngineError, Program, Ring, Transfers};
use crate::descriptor::Flags;
use crate::memory::DmaMemory;
use crate::regs::channel::{CONTROL_W1C, CONTROL_W1S, Control, Status, WRITE_BACK_LO};
use crate::regs::sgdma::{CREDITS, DESCRIPTOR_ADJACENT, DESCRIPTOR_HI, DESCRIPTOR_LO, MAX_CREDITS};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

#[derive(Debug)]
pub(super) enum Work {
    /// Descriptors in the ring from this device address on.
    Ring {
        start: u64,
    },
    Program(Arc<Inner>),
}

#[derive(Debug)]
pub(super) struct Job {
    pub work: Work,
    pub descriptors: u32,
    pub bytes: u64,
    /// Descriptors given to the engine so far.
    pub given: u32,
    /// With credits: how many are issued when all of this job's are.
    pub end: u64,
}

impl Channel {
    /// Starts a transfer between `range` of `memory`, in bytes, and card addresses from `card` on.
    ///
    /// The memory is the card's until the ticket is done.
    ///
    /// # Errors
    ///
    /// [`EngineError::Full`] when the ring has no room now; the range is empty or leaves the memory; the memory is for
    /// the other direction; the channel failed before. Nothing was started then.
    pub fn submit(
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
        self.check_ready()?;
        let (needed, ring) = (transfers.descriptors(), self.slots.len());
        if transfers.direction() != self.direction() {
            return Err(EngineError::ForeignProgram);
        }
        match needed {
            0 => return Err(EngineError::Empty),
            _ if needed > ring => return Err(EngineError::TooLarge { needed, ring }),
            _ if needed > self.slots.free() => {
                return Err(EngineError::Full { needed, free: self.slots.free() });
            }
            _ => {}
        }
        transfers.check_overlap()?;
        let start = self.slots.tail();
        let end = match self.ring {
            Ring::Chain => Flags::COMPLETED | Flags::STOP,
            Ring::Credits => Flags::COMPLETED,
        };
        let held = transfers.memory();
        for (at, &segment) in transfers.segments().iter().enumerate() {
            let flags = if at + 1 == needed { end } else { Flags::empty() };
            // There are no fewer descriptors than allocations, and all slots of a job are emptied together.
            self.slots.push(segment, flags, &held[at.min(held.len() - 1)]);
        }
        let (work, descriptors) = (Work::Ring { start }, needed as u32);
        self.enqueue(Job { work, descriptors, bytes: transfers.bytes(), given: 0, end: 0 })
    }

    /// Runs a program.
    ///
    /// # Errors
    ///
    /// [`EngineError::Full`] when too many jobs are in flight, [`EngineError::ForeignProgram`] when it was built for
    /// another kind of channel, or the channel failed before. Nothing was started then.
    #[inline]
    pub fn run(&mut self, program: &Program) -> Result<Ticket, EngineError> {
        self.check_ready()?;
        let inner = &program.inner;
        if inner.ring != self.ring || inner.direction != self.registers.direction {
            return Err(EngineError::ForeignProgram);
        }
        inner.enter();
        let (work, descriptors) = (Work::Program(inner.clone()), inner.list.len() as u32);
        self.enqueue(Job { work, descriptors, bytes: program.bytes(), given: 0, end: 0 })
    }

    #[inline]
    fn check_ready(&self) -> Result<(), EngineError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.jobs.len() == MAX_JOBS {
            return Err(EngineError::Full { needed: 1, free: 0 });
        }
        Ok(())
    }

    #[inline]
    fn enqueue(&mut self, job: Job) -> Result<Ticket, EngineError> {
        let ticket = Ticket { channel: self.id, sequence: self.next };
        self.next += 1;
        self.jobs.push_back(job);
        if let Err(error) = self.advance() {
            // The engine may have been started: the memory stays in flight until the channel is stopped or closed.
            self.failure = Some(error.clone());
            return Err(error);
        }
        Ok(ticket)
    }

    /// Gives the engine what it can take now.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<(), EngineError> {
        match self.ring {
            Ring::Chain => self.start_chain(),
            Ring::Credits => self.give_credits(),
        }
    }

    /// Starts the oldest job if the engine has none.
    #[inline]
    fn start_chain(&mut self) -> Result<(), EngineError> {
        let Some(job) = self.jobs.front() else { return Ok(()) };
        if job.given > 0 {
            return Ok(());
        }
        // The write-back is sent before the engine is idle: it may be seen first. The next poll tries again.
        if self.options.check_idle && self.registers.status()?.contains(Status::BUSY) {
            return Ok(());
        }
        let (address, adjacent, count) = match &job.work {
            Work::Ring { start } => (*start, 0, job.descriptors),
            Work::Program(inner) => (inner.list.base(), inner.list.first_adjacent(), job.descriptors),
        };
        self.word = (self.word + 1) % WORDS;
        self.words[self.word].store(0);
        self.last = 0;
        self.registers.write(CONTROL_W1C, Control::RUN.bits())?;
        self.registers.write(WRITE_BACK_LO, self.word_base as u32 + 4 * self.word as u32)?;
        self.write_list(address, adjacent)?;
        self.ring_doorbell(CONTROL_W1S, count)?;
        self.jobs[0].given = count;
        Ok(())
    }

    pub(super) fn write_list(&self, address: u64, adjacent: u8) -> Result<(), EngineError> {
        self.registers.write_sgdma(DESCRIPTOR_LO, address as u32)?;
        self.registers.write_sgdma(DESCRIPTOR_HI, (address >> 32) as u32)?;
        self.registers.write_sgdma(DESCRIPTOR_ADJACENT, adjacent.into())
    }

    /// The write that lets the engine go.
    #[inline]
    fn ring_doorbell(&mut self, register: u32, descriptors: u32) -> Result<(), EngineError> {
        // Without this the engine could fetch descriptors, or read data, that were written after the doorbell.
        fence(Ordering::Release);
        self.stats.doorbells += 1;
        self.stats.descriptors += u64::from(descriptors);
        match register {
            CONTROL_W1S => self.registers.write(CONTROL_W1S, Control::RUN.bits()),
            _ => self.registers.write_sgdma(CREDITS, descriptors),
        }
    }

    /// Gives credits for waiting jobs, as far as they are on the list that the engine runs on.
    #[inline]
    fn give_credits(&mut self) -> Result<(), EngineError> {
        for at in 0..self.jobs.len() {
            let job = &self.jobs[at];
            let wanted = job.descriptors - job.given;
            if wanted == 0 {
                continue;
            }
            let (list, start) = match &job.work {
                Work::Ring { start } => (self.slots.list().base(), *start),
                Work::Program(inner) => (inner.list.base(), inner.list.base()),
            };
            if list != self.current {
                // Another list can only be started when the engine has finished the one before.
                if at > 0 || !self.switch_list(list, start)? {
                    return Ok(());
                }
            }
            let room = u64::from(MAX_CREDITS) - (self.issued - self.completed);
            let credits = wanted.min(room as u32);
            if credits == 0 {
                return Ok(());
            }
            self.ring_doorbell(CREDITS, credits)?;
            self.issued += u64::from(credits);
            self.jobs[at].given += credits;
            self.jobs[at].end = self.issued;
        }
        Ok(())
    }

    /// Starts the engine on another closed list; nothing is in flight. False when it is not idle yet.
    fn switch_list(&mut self, list: u64, start: u64) -> Result<bool, EngineError> {
        let r = &self.registers;
        r.write(CONTROL_W1C, Control::RUN.bits())?;
        if r.status()?.contains(Status::BUSY) {
            self.current = 0;
            return Ok(false);
        }
        self.start_list(list, start)?;
        Ok(true)
    }

    /// Sets Run on a closed list, from the descriptor at `start` on; the engine is idle.
    pub(super) fn start_list(&mut self, list: u64, start: u64) -> Result<(), EngineError> {
        self.word = (self.word + 1) % WORDS;
        self.words[self.word].store(0);
        (self.issued, self.completed, self.last) = (0, 0, 0);
        self.registers.write(WRITE_BACK_LO, self.word_base as u32 + 4 * self.word as u32)?;
        self.write_list(start, 0)?;
        self.ring_doorbell(CONTROL_W1S, 0)?;
        self.current = list;
        Ok(())
    }
}
