//! The device files `h2c_N` and `c2h_N`: each call is a transfer.
//!
//! A call locks its channel, so calls on one channel never interleave. The data passes through two halves of the channel's DMA
//! memory: while the engine transfers one half, the broker copies the other.

use crate::caller::Caller;
use crate::errno;
use crate::fair::{FairGuard, FairMutex};
use crate::ioctl::Perf;
use crate::perf::Run;
use crate::stream::{Incoming, send};
use rustix::io::Errno;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdma::card::{Card, ChannelReport};
use xdma::channel::stream::Sender;
use xdma::channel::{Channel, ChannelOptions, Ticket, TransferError, Wait, WaitError};
use xdma::memory::Buffer;
use xdma::regs::Direction;

/// Size in bytes of each half of a channel's DMA memory.
const HALF: u64 = 1 << 20;
/// Maximum number of bytes that one call transfers (`MAX_RW_COUNT` of the kernel).
pub(crate) const MAX_COUNT: u64 = 0x7fff_f000;
/// Minimum and maximum duration of a wait before the next check for a cancellation.
const SLICES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

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

/// A `read` or `write` call on a channel.
pub(crate) struct Transfer<'a> {
    pub caller: &'a Caller,
    /// The caller's buffer.
    pub address: u64,
    pub count: u64,
    /// The card address.
    pub position: u64,
    /// Whether a read from a stream returns at the end of a packet (`O_TRUNC`).
    pub ends_with_packet: bool,
}

/// Limits the waits of a call: they end when the call times out or its caller cancels it.
pub(crate) struct WaitLimit<'a> {
    caller: &'a Caller,
    limit: Duration,
    /// When the current piece of the call began. Like the kernel module's, the time limit applies to a piece, not to the call.
    begin: Cell<Instant>,
    closing: &'a AtomicBool,
}

impl WaitLimit<'_> {
    /// Returns the duration of the next wait, or an error if the call was cancelled or has timed out.
    pub fn slice(&self) -> Result<Duration, Errno> {
        let waited = self.begin.get().elapsed();
        if self.closing.load(Ordering::Relaxed) || self.caller.is_cancelled() {
            return Err(Errno::INTR);
        }
        let slice = (waited / 8).clamp(SLICES[0], SLICES[1]);
        match self.limit {
            Duration::ZERO => Ok(slice),
            limit if waited >= limit => Err(Errno::TIMEDOUT),
            limit => Ok(slice.min(limit - waited)),
        }
    }

    /// Restarts the time limit, for the next piece.
    pub fn restart(&self) {
        self.begin.set(Instant::now());
    }

    /// Returns an error if the caller no longer waits. Its memory must then not be written.
    pub fn check(&self) -> Result<(), Errno> {
        self.slice().map(drop)
    }

    /// Waits for a ticket.
    pub fn wait(&self, channel: &mut Channel, ticket: Ticket) -> Result<(), Errno> {
        loop {
            match channel.wait(ticket, self.slice()?) {
                Ok(()) => {
                    self.restart();
                    return Ok(());
                }
                Err(WaitError::Deadline { .. }) => {}
                Err(error) => return Err(errno::of_transfer(&TransferError::from(error))),
            }
        }
    }
}

impl DmaChannel {
    pub fn new(card: Card, report: &ChannelReport, timeout: Duration, closing: Arc<AtomicBool>) -> Self {
        Self { card, report: *report, timeout, closing, state: FairMutex::new(State::default()) }
    }

    pub fn is(&self, direction: Direction, index: usize) -> bool {
        (self.report.direction, self.report.index) == (direction, index)
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
    pub fn transfer(&self, transfer: &Transfer, is_write: bool) -> Result<u64, Errno> {
        if is_write != (self.report.direction == Direction::H2C) {
            return Err(Errno::INVAL);
        }
        let count = transfer.count.min(MAX_COUNT);
        let mut state = self.state.lock();
        if state.run.is_some() {
            return Err(Errno::BUSY);
        }
        self.check_alignment(transfer, count, state.fixed)?;
        if count == 0 {
            return if transfer.address.is_multiple_of(4096) { Err(Errno::INVAL) } else { Ok(0) };
        }
        if is_write && count > HALF {
            // If part of the buffer is unreadable, fail before any data reaches the card.
            transfer.caller.probe(transfer.address, count)?;
        }
        self.run(&mut state, &Transfer { count, ..*transfer })
    }

    /// Applies the alignment rules of the kernel module (`check_transfer_align`).
    fn check_alignment(&self, transfer: &Transfer, count: u64, fixed: bool) -> Result<(), Errno> {
        let alignments = &self.report.alignments;
        let (address, granularity) = (u64::from(alignments.address()), u64::from(alignments.length()));
        let aligned = if fixed {
            transfer.address.is_multiple_of(address)
                && transfer.position.is_multiple_of(address)
                && count.is_multiple_of(granularity)
        } else {
            transfer.address % address == transfer.position % address
        };
        if aligned { Ok(()) } else { Err(Errno::INVAL) }
    }

    fn run(&self, state: &mut FairGuard<'_, State>, transfer: &Transfer) -> Result<u64, Errno> {
        let wait_limit = WaitLimit {
            caller: transfer.caller,
            limit: self.timeout,
            begin: Cell::new(Instant::now()),
            closing: &self.closing,
        };
        // All pieces of a call go to one card address in the fixed-address mode.
        let stride = u64::from(!state.fixed);
        let mut engine = match state.engine.take() {
            Some(engine) => engine,
            None => self.open(state.fixed)?,
        };
        let mut done = 0;
        let result = match &mut engine {
            Engine::Memory(channel, halves) if self.report.direction == Direction::H2C => {
                write(channel, halves, transfer, stride, &wait_limit, &mut done)
            }
            Engine::Memory(channel, halves) => {
                read(channel, halves, transfer, stride, &wait_limit, &mut done)
            }
            Engine::Sender(sender, halves) => send(sender, halves, transfer, &wait_limit, &mut done),
            Engine::Receiver(incoming) => incoming.read(transfer, &wait_limit, &mut done),
        };
        let usable = match result {
            Ok(()) => true,
            // Even if only the caller's buffer was invalid, the engine may still be running. Recovery stops it.
            Err(_) => engine.recover(),
        };
        if usable {
            state.engine = Some(engine);
        }
        match result {
            Ok(()) => Ok(done),
            Err(_) if done > 0 => Ok(done),
            Err(errno) => Err(errno),
        }
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

/// Returns the offset and length of each piece of a call. A piece fits one half of the DMA memory.
pub(crate) fn pieces(count: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..count).step_by(HALF as usize).map(move |offset| (offset, HALF.min(count - offset)))
}

fn write(
    channel: &mut Channel,
    halves: &mut [Buffer; 2],
    transfer: &Transfer,
    stride: u64,
    wait_limit: &WaitLimit,
    done: &mut u64,
) -> Result<(), Errno> {
    let mut previous: Option<(Ticket, u64)> = None;
    for (number, (offset, length)) in pieces(transfer.count).enumerate() {
        let half = &mut halves[number % 2];
        copy_in(half, transfer, offset, length)?;
        let card = transfer.position + offset * stride;
        let ticket = channel.submit(half, 0..length, card).map_err(|error| errno::of_submit(&error))?;
        if let Some((ticket, length)) = previous.replace((ticket, length)) {
            wait_limit.wait(channel, ticket)?;
            *done += length;
        }
    }
    finish(channel, previous, wait_limit, done)
}

fn finish(
    channel: &mut Channel,
    last: Option<(Ticket, u64)>,
    wait_limit: &WaitLimit,
    done: &mut u64,
) -> Result<(), Errno> {
    let Some((ticket, length)) = last else { return Ok(()) };
    wait_limit.wait(channel, ticket)?;
    *done += length;
    Ok(())
}

fn read(
    channel: &mut Channel,
    halves: &mut [Buffer; 2],
    transfer: &Transfer,
    stride: u64,
    wait_limit: &WaitLimit,
    done: &mut u64,
) -> Result<(), Errno> {
    let mut bounce = vec![0; HALF.min(transfer.count) as usize];
    let mut copy_out = |half: &Buffer, offset: u64, length: u64| {
        let bounce = &mut bounce[..length as usize];
        half.read(0, bounce).map_err(|error| errno::of_memory(&error))?;
        wait_limit.check()?;
        transfer.caller.write(transfer.address + offset, bounce)
    };
    let mut previous: Option<(Ticket, usize, u64, u64)> = None;
    for (number, (offset, length)) in pieces(transfer.count).enumerate() {
        let half = &halves[number % 2];
        let card = transfer.position + offset * stride;
        let ticket = channel.submit(half, 0..length, card).map_err(|error| errno::of_submit(&error))?;
        if let Some((ticket, half, offset, length)) = previous.replace((ticket, number % 2, offset, length)) {
            wait_limit.wait(channel, ticket)?;
            copy_out(&halves[half], offset, length)?;
            *done += length;
        }
    }
    if let Some((ticket, half, offset, length)) = previous {
        wait_limit.wait(channel, ticket)?;
        copy_out(&halves[half], offset, length)?;
        *done += length;
    }
    Ok(())
}

/// Copies a piece of the caller's buffer to DMA memory.
pub(crate) fn copy_in(half: &mut Buffer, transfer: &Transfer, offset: u64, length: u64) -> Result<(), Errno> {
    let to = half.as_mut_slice::<u8>().map_err(|error| errno::of_memory(&error))?;
    transfer.caller.read(transfer.address + offset, &mut to[..length as usize])
}
