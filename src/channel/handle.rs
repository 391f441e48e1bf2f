//! The channel: its state, and how it is set up.

use super::context::{ChannelContext, Event, SharedState};
use super::engine::Engine;
use super::error::{EngineError, Fail, OpenError, ProgramError};
use super::options::{ChannelOptions, Ring};
use super::program::{Kind, Program};
use super::queue::Queue;
use super::registers::Registers;
use super::slots::Slots;
use super::snapshot::{RingState, Snapshot};
use super::transfers::Transfers;
use super::write_back::CompletionWord;
use crate::bus::counts::Counts;
use crate::memory::{DmaSpace, Process, SpaceId};
use crate::regs::channel::{CONTROL, Control, IRQ_ENABLE, WRITE_BACK_HI};
use crate::regs::sgdma::FETCH_HALT_W1C;
use crate::regs::{Direction, Target};
use crate::stats::{Counters, Latencies, Stats};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Initial and maximum time for which [`Wait::Hybrid`](super::Wait::Hybrid) polls.
pub(super) const LONGEST_SPIN: Duration = Duration::from_micros(50);

/// Identifies a submitted transfer or run. It is a plain number: dropping it does not affect the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) channel: u64,
    pub(super) sequence: u64,
}

/// One DMA channel, memory-mapped. See the [module](super).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::{sync::Arc, time::Duration};
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::{EmulatorOptions, logic::Memory};
/// use xdma::channel::Poll;
/// use xdma::regs::Direction;
///
/// # let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let mut channel = card.h2c(0)?;
/// let mut buffer = card.allocate(4096, Direction::H2C)?;
/// buffer.write(0, &[1u8; 4096])?;
///
/// let ticket = channel.submit(&buffer, 0..4096, 0)?; // returns immediately
/// while channel.poll(ticket)? == Poll::Pending {
///     // The thread can do other work.
/// }
/// channel.transfer(&buffer, 0..64, 0x2000, Duration::from_secs(1))?; // submits and waits
/// channel.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Channel {
    pub(super) id: u64,
    pub(super) space_id: SpaceId,
    /// The programs that it can run.
    pub(super) kind: Kind,
    pub(super) engine: Engine,
    /// Jobs in order: first those that the engine has, then those that wait for it.
    pub(super) queue: Queue,
    pub(super) counters: Counters,
    pub(super) space: Arc<DmaSpace>,
    pub(super) options: ChannelOptions,
    pub(super) sleeper: Sleeper,
    pub(super) card: CardState,
    pub(super) scratch: Scratch,
    pub(super) closed: bool,
    pub(super) process: Process,
    _lease: Lease,
}

/// The event that the channel sleeps on, and for how long it polls before it sleeps.
#[derive(Debug)]
pub(super) struct Sleeper {
    pub event: Option<Arc<dyn Event>>,
    pub spin_limit: Duration,
}

/// State that the channel shares with its card.
#[derive(Debug)]
pub(super) struct CardState {
    pub recalled: Arc<AtomicBool>,
    pub shared: Arc<SharedState>,
    /// Number of card resets that the channel has observed.
    pub seen_resets: u64,
    /// Whether the engine stayed busy when it was last stopped.
    pub hung: bool,
}

/// Preallocated lists, so that submitting a list of transfers does not allocate.
#[derive(Debug)]
pub(super) struct Scratch {
    pub transfers: Transfers,
    /// For the comparison of host addresses within a list.
    pub ranges: Vec<(u64, u64)>,
}

/// Returned to the card when the channel is closed.
struct Lease(#[expect(dead_code, reason = "held to be dropped")] Box<dyn Any + Send>);

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}

impl Channel {
    /// Opens a memory-mapped channel: stops it and sets it up.
    ///
    /// # Safety
    ///
    /// As [`crate::unstable::channel::open`].
    pub(crate) unsafe fn open(context: ChannelContext, options: ChannelOptions) -> Result<Self, OpenError> {
        Self::open_kind(context, options, false)
    }

    /// Opens a stream channel or a memory-mapped channel.
    pub(super) fn open_kind(
        context: ChannelContext,
        options: ChannelOptions,
        stream: bool,
    ) -> Result<Self, OpenError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let ChannelContext {
            bar,
            space,
            write_back,
            direction,
            channel,
            idle_limit,
            recalled,
            event,
            shared,
            ..
        } = context;
        let (counters, lease) = (context.counters, context.lease);
        let card_state = shared.clone();
        let _setup = card_state.lock_setup();
        let resets = shared.resets.load(Ordering::Acquire);
        let registers = Registers::new(bar, direction, channel)?;
        check_kind(&registers, stream)?;
        registers.stop(idle_limit, || None, &mut || {})?;
        let room = options.slots.clamp(2, 512).next_power_of_two();
        let slots = Slots::new(&space, room, direction, stream && direction == Direction::H2C)?;
        // Job numbers continue from the channel's previous owner, because they double as counters.
        let running = space.add_channel(write_back.next_job());
        let word = CompletionWord::new(write_back)?;
        let mut engine =
            Engine::new(registers, slots, word, idle_limit, counters.clone(), options.check_idle);
        let sleeper = Sleeper { event, spin_limit: LONGEST_SPIN };
        if !set_up(&mut engine, &options, &sleeper)? {
            return Err(OpenError::NoCredits { direction, channel });
        }
        tracing::debug!(%direction, channel, ring = %engine.ring, wait = %options.wait, "channel opened");
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            space_id: space.id(),
            kind: Kind::new(space.id(), direction, engine.ring),
            engine,
            queue: Queue::new(running),
            counters,
            space,
            options,
            sleeper,
            card: CardState { recalled, shared, seen_resets: resets, hung: false },
            scratch: Scratch {
                transfers: Transfers::with_capacity(direction, room),
                ranges: Vec::with_capacity(room),
            },
            closed: false,
            process: Process::this(),
            _lease: Lease(lease),
        })
    }

    /// Writes the registers that keep their values between starts. The engine is stopped.
    pub(super) fn set_up(&mut self) -> Result<(), Fail> {
        if !set_up(&mut self.engine, &self.options, &self.sleeper)? {
            let (direction, channel) = (self.direction(), self.index());
            tracing::warn!(%direction, channel, "the channel no longer has descriptor credits, and now uses the chain ring");
        }
        self.kind = Kind::new(self.space_id, self.direction(), self.ring());
        Ok(())
    }

    /// Returns the channel's direction.
    #[inline]
    pub fn direction(&self) -> Direction {
        self.engine.registers.direction
    }

    /// Returns whether this is a child of the process that opened the channel. A child does not touch the card.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_forked()
    }

    /// Returns a number that is unique among the channels of this process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the channel's number.
    pub fn index(&self) -> usize {
        self.engine.registers.index
    }

    /// Returns the options that the channel was opened with.
    pub fn options(&self) -> ChannelOptions {
        self.options
    }

    /// Returns the ring that the channel uses.
    pub fn ring(&self) -> Ring {
        self.engine.ring
    }

    /// Returns the channel's statistics since its card was opened; all zero in a child of the process that opened it.
    pub fn stats(&self) -> Stats {
        // A child does not have this memory.
        if self.process.is_forked() { Stats::default() } else { self.counters.stats() }
    }

    /// Returns the number of accesses to the channel's registers, if they are mapped. Otherwise, the thread counts them.
    pub(crate) fn register_accesses(&self) -> Counts {
        self.engine.registers.counts()
    }

    /// Returns the latencies of jobs since the card was opened; `None` in a child of the process that opened it.
    pub fn latencies(&self) -> Option<Latencies> {
        (!self.process.is_forked()).then(|| self.counters.latencies())
    }

    /// Returns the number of unfinished transfers and runs.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    /// Returns the ticket of the latest submission.
    pub fn last_ticket(&self) -> Option<Ticket> {
        self.queue.last().map(|sequence| Ticket { channel: self.id, sequence })
    }

    /// Builds a program for this channel. On a [`Sender`](super::stream::Sender) the program is one packet.
    ///
    /// # Errors
    ///
    /// The list of transfers is empty or was made for the other direction; memory for the descriptors cannot be allocated.
    pub fn program(&self, transfers: &Transfers) -> Result<Program, ProgramError> {
        if transfers.direction() != self.direction() {
            return Err(ProgramError::WrongDirection(transfers.direction()));
        }
        let program = Program::build(&self.space, transfers, self.ring(), self.engine.slots.packets())?;
        let (descriptors, bytes) = (program.descriptors(), program.bytes());
        let list = format_args!("{:#x}", program.data.start.list);
        tracing::debug!(direction = %self.direction(), channel = self.index(), descriptors, bytes, %list, "program built");
        Ok(program)
    }

    /// Reads the channel's registers and returns them with the state of its ring.
    ///
    /// # Errors
    ///
    /// [`EngineError::Gone`].
    pub fn snapshot(&self) -> Result<Snapshot, EngineError> {
        Ok(self.engine.registers.snapshot(Some(self.ring_state()))?)
    }

    /// Returns the state of the channel's ring in host memory. Reads no register.
    pub fn ring_state(&self) -> RingState {
        let (slots, progress) = (&self.engine.slots, &self.engine.progress);
        let (oldest, completion) = (self.queue.front(), &progress.word);
        RingState {
            ring: self.ring(),
            in_flight: self.queue.len(),
            waiting: (self.queue.next() - self.queue.first_waiting(progress.posted())) as usize,
            oldest: oldest.map(|job| job.pin.as_ref().and_then(|pin| pin.list()).unwrap_or(slots.oldest())),
            ends_with: oldest
                .filter(|job| job.end <= progress.posted())
                .map(|job| self.engine.count_at(job.end)),
            posted: progress.posted() - progress.base(),
            completed: progress.completed() - progress.base(),
            slots: slots.len(),
            free: slots.free(),
            tail: slots.next().first,
            word: completion.address(),
            write_back: completion.load(),
        }
    }
}

/// Checks that the channel exists and is of the expected kind.
fn check_kind(registers: &Registers, stream: bool) -> Result<(), OpenError> {
    let (identifier, direction, channel) = (registers.identifier()?, registers.direction, registers.index);
    if !identifier.is(Target::channel(direction), channel) {
        return Err(OpenError::NoChannel { direction, channel, identifier: identifier.0 });
    }
    match (identifier.is_stream(), stream) {
        (true, false) => Err(OpenError::Stream { direction, channel }),
        (false, true) => Err(OpenError::NotStream { direction, channel }),
        _ => Ok(()),
    }
}

/// Writes the registers that keep their values between starts, and selects the ring. The engine is stopped. Returns whether it
/// is the requested ring.
fn set_up(engine: &mut Engine, options: &ChannelOptions, sleeper: &Sleeper) -> Result<bool, Fail> {
    let r = &engine.registers;
    let all = Control::all_ie(r.direction);
    let mut control = all | Control::POLL_WRITE_BACK;
    control.set(Control::NON_INCREMENTING, options.fixed_address);
    r.write(CONTROL, control.bits())?;
    let interrupts = match options.interrupt || options.wait.sleeps() {
        true => all - Control::IE_IDLE_STOPPED,
        false => Control::empty(),
    };
    r.write(IRQ_ENABLE, interrupts.bits())?;
    if let Some(event) = &sleeper.event {
        event.enable()?;
    }
    r.write(WRITE_BACK_HI, (engine.progress.word.address() >> 32) as u32)?;
    r.write_common(FETCH_HALT_W1C)?;
    engine.set_up(options.ring)
}
