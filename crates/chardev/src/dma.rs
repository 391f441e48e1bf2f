//! The device files `h2c_N` and `c2h_N`: each call is a transfer.
//!
//! A call locks its channel, so calls on one channel never interleave. The lock is fair: calls execute in the order in which they
//! arrive.

use crate::caller::Caller;
use crate::errno;
use crate::ioctl::Perf;
use crate::limit::WaitLimit;
use crate::perf::Run;
use crate::stream::{Incoming, send};
use crate::transfer::{HALF, PIECE, Progress, Transfer};
use parking_lot::FairMutex;
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use xdma::card::{Card, ChannelReport};
use xdma::channel::stream::Sender;
use xdma::channel::{Channel, ChannelOptions, SubmitError, Ticket, Wait};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma::unstable::channel::is_finished;

/// Maximum number of bytes that one call transfers (`MAX_RW_COUNT` of the kernel).
pub(crate) const MAX_COUNT: u64 = 0x7fff_f000;

#[derive(Debug)]
pub(crate) struct DmaChannel {
    card: Card,
    report: ChannelReport,
    timeout: Duration,
    closing: Arc<AtomicBool>,
    state: FairMutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Opened by the first call, and reopened after an error that recovery cannot clear.
    engine: Option<Engine>,
    /// Whether the card address is fixed instead of incrementing.
    fixed: bool,
    /// The performance run that occupies the channel.
    run: Option<Run>,
}

#[derive(Debug)]
enum Engine {
    Memory(Channel, [Buffer; 2]),
    Sender(Sender, [Buffer; 2]),
    Receiver(Box<Incoming>),
}

impl DmaChannel {
    pub fn new(card: Card, report: &ChannelReport, timeout: Duration, closing: Arc<AtomicBool>) -> Self {
        Self { card, report: *report, timeout, closing, state: FairMutex::new(State::default()) }
    }

    pub fn is_stream(&self) -> bool {
        self.report.identifier.is_stream()
    }

    /// Returns the required alignment of addresses in bytes.
    pub fn alignment(&self) -> u32 {
        self.report.alignments.address()
    }

    pub fn is_fixed(&self) -> bool {
        self.state.lock().fixed
    }

    /// Selects whether the card address is fixed. As with the kernel module, the setting persists after the file is closed and
    /// the process exits.
    pub fn set_fixed(&self, fixed: bool) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.fixed != fixed {
            state.fixed = fixed;
            // The next call reopens the channel with the new setting.
            state.engine = None;
        }
        Ok(())
    }

    /// Starts a performance run. As with the kernel module, the run continues after the file is closed and the process exits,
    /// and transfers fail until it is stopped.
    pub fn start_run(&self, request: Perf) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.run.is_some() || self.is_stream() {
            return Err(if self.is_stream() { Errno::INVAL } else { Errno::BUSY });
        }
        state.engine = None;
        let (direction, index) = (self.report.direction, self.report.index);
        let channel = self.card.channel(direction, index, ChannelOptions::default());
        let channel = channel.map_err(|error| errno::of_open(&error))?;
        state.run = Some(Run::start(&self.card, direction, channel, request)?);
        Ok(())
    }

    /// Returns the counters of the performance run, and ends it if requested.
    pub fn run_counters(&self, stop: bool) -> Option<Perf> {
        let mut state = self.state.lock();
        match stop {
            true => state.run.take().map(Run::stop),
            false => state.run.as_ref().map(Run::counters),
        }
    }

    /// Executes a call. Returns the number of bytes transferred, or an error if there are none.
    #[inline(always)]
    pub fn transfer<C: Caller>(&self, transfer: Transfer<'_, C>, is_write: bool) -> Result<u64, Errno> {
        if is_write != (self.report.direction == Direction::H2C) {
            return Err(Errno::INVAL);
        }
        let mut state = self.state.lock();
        if state.run.is_some() {
            return Err(Errno::BUSY);
        }
        self.check_alignment(&transfer, state.fixed)?;
        if transfer.count == 0 {
            return if transfer.address.is_multiple_of(4096) { Err(Errno::INVAL) } else { Ok(0) };
        }
        self.run(&mut state, transfer)
    }

    /// Applies the alignment rules of the kernel module (`check_transfer_align`).
    #[inline(always)]
    fn check_alignment<C>(&self, transfer: &Transfer<'_, C>, fixed: bool) -> Result<(), Errno> {
        let address = u64::from(self.report.alignments.address());
        let aligned = if fixed {
            transfer.address.is_multiple_of(address)
                && transfer.position.is_multiple_of(address)
                && transfer.count.is_multiple_of(self.report.alignments.length().into())
        } else {
            address == 1 || transfer.address % address == transfer.position % address
        };
        if aligned { Ok(()) } else { Err(Errno::INVAL) }
    }

    #[inline(always)]
    fn run<C: Caller>(&self, state: &mut State, transfer: Transfer<'_, C>) -> Result<u64, Errno> {
        let Transfer { caller, address, count, position, .. } = transfer;
        if state.engine.is_none() {
            state.engine = Some(self.open(state.fixed)?);
        }
        if let Some(Engine::Memory(channel, _)) = &mut state.engine
            && count <= PIECE
            && let Some(memory) = caller.in_place(&self.card, address, count, self.report.direction)
        {
            let submitted = match memory.submit(channel, 0..count, position) {
                // The shortest path of a call: nothing is prepared for a longer wait.
                Ok(ticket) if is_finished(channel, ticket) => return Ok(count),
                Ok(ticket) => Ok(ticket),
                Err(error) => Err(error),
            };
            let result = self.wait(channel, caller, submitted);
            let done = if result.is_ok() { count } else { 0 };
            return Self::ended(state, result, done);
        }
        self.run_in_pieces(state, transfer.of_any_caller())
    }

    /// Waits for a transfer in place.
    #[inline(never)]
    fn wait(
        &self,
        channel: &mut Channel,
        caller: &dyn Caller,
        submitted: Result<Ticket, Box<SubmitError>>,
    ) -> Result<(), Errno> {
        let ticket = submitted.map_err(|error| errno::of_submit(&error))?;
        WaitLimit::new(caller, self.timeout, &self.closing).wait(channel, ticket)
    }

    #[inline(never)]
    fn run_in_pieces(&self, state: &mut State, transfer: Transfer) -> Result<u64, Errno> {
        let transfer = &transfer;
        let limit = WaitLimit::new(transfer.caller, self.timeout, &self.closing);
        let (fixed, mut done) = (state.fixed, 0);
        let result = match &mut state.engine {
            Some(Engine::Memory(channel, halves)) => {
                let progress = Progress { channel, transfer, limit: &limit, fixed, done: &mut done };
                self.transfer_memory(progress, halves)
            }
            Some(Engine::Sender(sender, halves)) => {
                probe(transfer).and_then(|()| send(sender, halves, transfer, &limit, &mut done))
            }
            Some(Engine::Receiver(incoming)) => incoming.read(transfer, &limit, &mut done),
            None => Err(Errno::IO),
        };
        Self::ended(state, result, done)
    }

    /// Returns the result of a call that has transferred `done` bytes.
    fn ended(state: &mut State, result: Result<(), Errno>, done: u64) -> Result<u64, Errno> {
        // Even if only the caller's buffer was invalid, the engine may still be running. Recovery stops it.
        if result.is_err() && !state.engine.as_mut().is_some_and(Engine::recover) {
            state.engine = None;
        }
        match result {
            Err(errno) if done == 0 => Err(errno),
            _ => Ok(done),
        }
    }

    fn transfer_memory(&self, mut progress: Progress, halves: &mut [Buffer; 2]) -> Result<(), Errno> {
        let &Transfer { caller, address, count, .. } = progress.transfer;
        let direction = self.report.direction;
        if count > PIECE
            && let Some(memory) = caller.in_place(&self.card, address, count, direction)
        {
            return progress.in_place(&memory);
        }
        if direction == Direction::C2H {
            return progress.read(halves);
        }
        probe(progress.transfer)?;
        progress.write(halves)
    }

    fn open(&self, fixed: bool) -> Result<Engine, Errno> {
        let (direction, index) = (self.report.direction, self.report.index);
        let options =
            ChannelOptions { fixed_address: fixed, wait: Wait::Hybrid, ..ChannelOptions::default() };
        let halves = || -> Result<[Buffer; 2], Errno> {
            let half = || self.card.allocate(HALF, direction).map_err(|error| errno::of_memory(&error));
            Ok([half()?, half()?])
        };
        let opened = match (self.is_stream(), direction) {
            (false, _) => self
                .card
                .channel(direction, index, options)
                .map(|channel| (halves(), channel))
                .map(|(halves, channel)| Ok(Engine::Memory(channel, halves?))),
            (true, Direction::H2C) => {
                self.card.stream_h2c(index, options).map(|sender| Ok(Engine::Sender(sender, halves()?)))
            }
            (true, Direction::C2H) => Incoming::open(&self.card, index, options)
                .map(|incoming| Ok(Engine::Receiver(Box::new(incoming)))),
        };
        opened.map_err(|error| {
            tracing::warn!(%error, "a channel could not be opened");
            errno::of_open(&error)
        })?
    }
}

impl Engine {
    /// Stops the engine after an error. Returns whether it is usable again.
    fn recover(&mut self) -> bool {
        let recovered = match self {
            Self::Memory(channel, _) => channel.recover(),
            Self::Sender(sender, _) => sender.recover(),
            Self::Receiver(incoming) => incoming.recover(),
        };
        recovered.inspect_err(|error| tracing::warn!(%error, "a channel could not be recovered")).is_ok()
    }
}

/// Checks the buffer of a write that is copied in several pieces. If a part of the buffer is unreadable, no data may reach the
/// card.
fn probe(transfer: &Transfer) -> Result<(), Errno> {
    if transfer.count > HALF { transfer.caller.probe(transfer.address, transfer.count) } else { Ok(()) }
}
