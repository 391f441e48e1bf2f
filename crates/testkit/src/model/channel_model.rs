//! One channel with its host buffers, and the expected outcome of its jobs.

use super::host::{Check, HostBuffer, Part, PendingJob, direction, transfers};
use super::plan::{BUFFERS, CardSetup, Move, Side};
use super::shadow::Region;
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError};
use xdma::channel::{
    Channel, ChannelOptions, EngineError, OpenError, Poll, Program, ProgramError, Ring, SubmitError, Ticket,
    TransferError,
};
use xdma::memory::MemoryError;

/// Time limit for operations that should succeed. It leaves room for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The card of a channel, and the shadow of its memory.
pub struct CardContext<'a> {
    pub card: &'a Card,
    pub setup: &'a CardSetup,
    pub region: &'a mut Region,
    /// Whether the registers may read all ones.
    pub all_ones: &'a Cell<bool>,
}

/// A program, its moves, and the ring for which it was built.
pub struct BuiltProgram {
    program: Program,
    pub moves: Vec<(HostBuffer, Move)>,
    ring: Ring,
}

pub struct ChannelModel {
    pub side: Side,
    pub index: usize,
    /// Card address of the pair's region.
    pub base: u64,
    /// `None` after the channel was ended, until a step opens it again.
    pub channel: Option<Channel>,
    pub ring: Ring,
    pub buffers: Vec<HostBuffer>,
    pub jobs: VecDeque<PendingJob>,
    pub program: Option<BuiltProgram>,
    /// Injected faults that the channel has not reported yet.
    pub armed: u32,
    /// Whether the channel has failed and was not recovered since.
    pub failed: bool,
    /// Whether the state of the engine is unknown, because its registers read all ones or it hung.
    pub unknown: bool,
    /// Whether the registers have read all ones: a job that could not be started at that time may report it later.
    pub was_gone: bool,
    /// Whether the channel was forgotten, and so cannot be opened again.
    pub forgotten: bool,
    /// A ticket of an earlier channel, which has ended.
    pub old_ticket: Option<Ticket>,
}

pub fn open(
    card: &Card,
    setup: &CardSetup,
    side: Side,
    index: usize,
    ring: Ring,
) -> Result<Channel, OpenError> {
    let options =
        ChannelOptions { ring: Some(ring), slots: 16, wait: setup.wait(), ..ChannelOptions::default() };
    card.channel(direction(side), index, options)
}

/// Errors that may be transient.
pub trait Transient {
    /// Returns whether the cause passes: the registers read all ones for a while, or an engine is delayed.
    fn is_transient(&self) -> bool;
}

impl Transient for EngineError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Hung { .. })
    }
}

impl Transient for OpenError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Engine(error) if error.is_transient())
    }
}

impl Transient for CardError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Hung { .. } | Self::NotXdma { .. })
    }
}

/// Repeats a call while it fails with a transient error.
pub fn retry<T, E: Transient + std::fmt::Display>(
    what: &str,
    mut call: impl FnMut() -> Result<T, E>,
) -> Check<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match call() {
            Ok(done) => return Ok(done),
            Err(error) if error.is_transient() && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(format!("{what}: {error}")),
        }
    }
}

impl ChannelModel {
    pub fn new(card: &Card, setup: &CardSetup, side: Side, index: usize, base: u64) -> Check<Self> {
        let ring = setup.ring(setup.credits);
        let channel = retry("not opened", || open(card, setup, side, index, ring))?;
        let buffers = (0..BUFFERS).map(|_| HostBuffer::new(card, side)).collect::<Check<_>>()?;
        Ok(Self {
            side,
            index,
            base,
            channel: Some(channel),
            ring,
            buffers,
            jobs: VecDeque::new(),
            program: None,
            armed: 0,
            failed: false,
            unknown: false,
            was_gone: false,
            forgotten: false,
            old_ticket: None,
        })
    }

    pub fn channel(&mut self) -> &mut Channel {
        self.channel.as_mut().expect("`ready` has opened the channel")
    }

    /// Opens and recovers the channel, if necessary. Returns `false` if it can never be opened again.
    pub fn ready(&mut self, cx: &mut CardContext<'_>) -> Check<bool> {
        if self.forgotten {
            return Ok(false);
        }
        if self.channel.is_none() {
            self.reopen(cx)?;
        }
        if self.unknown {
            self.recover(cx)?;
        }
        Ok(true)
    }

    /// Writes a buffer. This must fail while the buffer is in flight; if it succeeds, all jobs that use the buffer must have ended.
    pub fn fill(&mut self, buffer: usize, at: u64, bytes: &[u8], cx: &mut CardContext<'_>) -> Check {
        let buffer = self.buffers[buffer].clone();
        match buffer.write(at, bytes) {
            Ok(()) => {
                // Before the polls, since the end of a job that failed is a comparison of all memory. Jobs have their own copy of the data.
                buffer.shadow.borrow_mut().set(at as usize, bytes);
                while self.jobs.iter().any(|job| job.uses(&buffer)) {
                    if !self.poll(cx)? {
                        return Err("memory in flight was written".into());
                    }
                }
                Ok(())
            }
            Err(MemoryError::InFlight(_)) if self.jobs.iter().any(|job| job.uses(&buffer)) => Ok(()),
            Err(error) => Err(format!("not written: {error}")),
        }
    }

    fn with_buffers(&self, moves: &[Move]) -> Vec<(HostBuffer, Move)> {
        moves.iter().map(|each| (self.buffers[each.buffer].clone(), *each)).collect()
    }

    pub fn submit(&mut self, moves: &[Move], cx: &mut CardContext<'_>) -> Check {
        let moves = self.with_buffers(moves);
        let (side, base) = (self.side, self.base);
        let channel = self.channel();
        let submitted = match &moves[..] {
            [(buffer, each)] => buffer
                .with(|buffer| channel.submit(buffer, each.host..each.host + each.len, base + each.card)),
            _ => channel.start(&transfers(side, base, &moves)?),
        };
        self.on_submit(submitted, &moves, cx)
    }

    pub fn build(&mut self, moves: &[Move]) -> Check {
        let moves = self.with_buffers(moves);
        let transfers = transfers(self.side, self.base, &moves)?;
        match self.channel().program(&transfers) {
            Ok(program) => self.program = Some(BuiltProgram { program, moves, ring: self.ring }),
            Err(ProgramError::Overlap { .. }) if self.side == Side::C2H => {}
            Err(error) => return Err(format!("not built: {error}")),
        }
        Ok(())
    }

    pub fn run(&mut self, cx: &mut CardContext<'_>) -> Check {
        let Some(built) = self.program.take() else { return Ok(()) };
        match self.channel().run(&built.program) {
            Err(SubmitError::WrongChannel) if built.ring != self.ring => {}
            Ok(_) if built.ring != self.ring => return Err("a program of another ring was run".into()),
            submitted => self.on_submit(submitted, &built.moves, cx)?,
        }
        self.program = Some(built);
        Ok(())
    }

    fn on_submit(
        &mut self,
        submitted: Result<Ticket, SubmitError>,
        moves: &[(HostBuffer, Move)],
        cx: &mut CardContext<'_>,
    ) -> Check {
        let ticket = match submitted {
            Ok(_) if self.failed => return Err("a failed channel accepted a transfer".into()),
            Ok(ticket) => Some(ticket),
            Err(SubmitError::Full { .. }) if !self.jobs.is_empty() => return self.wait(cx),
            Err(SubmitError::Overlap { .. }) if self.side == Side::C2H => return Ok(()),
            Err(error) => {
                self.on_error(error, cx)?;
                if !self.unknown {
                    return Ok(());
                }
                None
            }
        };
        let parts = moves.iter().map(|(buffer, each)| Part::new(self.side, buffer, each)).collect();
        self.jobs.push_back(PendingJob { ticket, parts });
        Ok(())
    }

    /// Polls the oldest job. Returns whether it has ended.
    pub fn poll(&mut self, cx: &mut CardContext<'_>) -> Check<bool> {
        let Some(job) = self.jobs.front() else { return Ok(true) };
        let Some(ticket) = job.ticket.filter(|_| !self.unknown) else {
            return self.recover(cx).map(|()| true);
        };
        match self.channel().poll(ticket) {
            Ok(Poll::Ready) => self.on_complete(cx).map(|()| true),
            Ok(Poll::Pending) => Ok(false),
            Err(error) => self.on_error(error, cx).map(|()| true),
        }
    }

    pub fn wait(&mut self, cx: &mut CardContext<'_>) -> Check {
        while let Some(job) = self.jobs.front() {
            let waited = match job.ticket.filter(|_| !self.unknown) {
                Some(ticket) => self.channel().wait(ticket, LIMIT),
                None => return self.recover(cx),
            };
            match waited {
                Ok(()) => self.on_complete(cx)?,
                Err(error) => self.on_error(error, cx)?,
            }
        }
        Ok(())
    }

    /// Handles the completion of the oldest job: all of its data must have arrived.
    pub fn on_complete(&mut self, cx: &mut CardContext<'_>) -> Check {
        let Some(job) = self.jobs.pop_front() else { return Ok(()) };
        for part in job.parts {
            match self.side {
                Side::H2C => cx.region.set(part.card, &part.data),
                Side::C2H => self.check_received(&part, cx.region)?,
            }
        }
        Ok(())
    }

    /// Checks the data of a C2H transfer, except where another job of the ring may already be writing.
    fn check_received(&self, part: &Part, region: &mut Region) -> Check {
        let Some(seen) = part.buffer.read(part.at, part.len)? else { return Ok(()) };
        let mut shadow = part.buffer.shadow.borrow_mut();
        let mut shared = vec![false; part.len];
        let rest = self.jobs.iter().flat_map(|job| &job.parts);
        for other in rest.filter(|other| other.buffer.is_same(&part.buffer)) {
            let (from, to) = (other.at.max(part.at), (other.at + other.len).min(part.at + part.len));
            (from..to).for_each(|at| shared[at - part.at] = true);
        }
        for (at, (&byte, shared)) in seen.iter().zip(shared).enumerate() {
            let (host, card) = (part.at + at, part.card + at);
            if shared {
                shadow.allow_from(host, region.shadow(), card..card + 1);
            } else {
                region.compare(card, &[byte]).map_err(|why| format!("after C2H: {why}"))?;
                shadow.set(host, &[byte]);
            }
        }
        Ok(())
    }

    /// Handles an error, which must have a cause. After a failure, all unfinished jobs have ended. After other errors they may
    /// continue.
    pub fn on_error(&mut self, error: impl Into<TransferError>, cx: &mut CardContext<'_>) -> Check {
        let error = error.into();
        match error.engine() {
            Some(EngineError::Failed { .. }) if self.armed > 0 || self.failed => {
                self.armed -= u32::from(!self.failed);
                self.failed = true;
                if cx.all_ones.get() && self.channel().in_flight() > 0 {
                    // The error is reported, but the engine has not been seen idle since.
                    self.unknown = true;
                    return Ok(());
                }
                self.end_jobs(cx)
            }
            Some(EngineError::Gone { .. }) if cx.all_ones.get() || self.was_gone => {
                self.unknown = true;
                Ok(())
            }
            Some(EngineError::Hung { .. }) => {
                self.unknown = true;
                Ok(())
            }
            _ => Err(format!("an error without a cause: {error}")),
        }
    }
}
