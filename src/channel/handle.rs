//! The channel: what it consists of, and how it is set up.

use super::engine::Engine;
use super::error::{EngineError, Fail};
use super::options::{ChannelOptions, Ring};
use super::place::{Event, Notice, Place};
use super::program::{Kind, Program};
use super::queue::{NEVER, Queue};
use super::registers::Registers;
use super::report::Report;
use super::slots::Slots;
use super::snapshot::{RingState, Snapshot};
use super::transfers::Transfers;
use crate::memory::{DmaSpace, Process, SpaceId};
use crate::regs::channel::{CONTROL, Control, IRQ_ENABLE, WRITE_BACK_HI};
use crate::regs::sgdma::FETCH_HALT_W1C;
use crate::regs::{Direction, Target};
use crate::stats::{Counters, Latencies, Stats};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long [`Wait::Hybrid`](super::Wait::Hybrid) polls at first, and at most.
pub(super) const LONGEST_SPIN: Duration = Duration::from_micros(50);

/// Names a submitted transfer or run. It is a number: losing it loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) channel: u64,
    pub(super) sequence: u64,
}

/// A channel, owned. See the [module](super).
#[derive(Debug)]
pub struct Channel {
    pub(super) id: u64,
    pub(super) space_id: SpaceId,
    /// Which programs it can run.
    pub(super) kind: Kind,
    pub(super) engine: Engine,
    /// Jobs in order: first those the engine has, then those that wait.
    pub(super) queue: Queue,
    pub(super) counters: Counters,
    pub(super) space: Arc<DmaSpace>,
    pub(super) options: ChannelOptions,
    pub(super) sleeper: Sleeper,
    pub(super) bond: Bond,
    pub(super) lists: Lists,
    pub(super) closed: bool,
    pub(super) process: Process,
    _lease: Lease,
}

/// What a channel sleeps on, and how long it polls before.
#[derive(Debug)]
pub(super) struct Sleeper {
    pub event: Option<Arc<dyn Event>>,
    pub spin_limit: Duration,
}

/// What the channel and its card know of each other.
#[derive(Debug)]
pub(super) struct Bond {
    pub recall: Arc<AtomicBool>,
    pub notice: Arc<Notice>,
    /// Resets of the card that the channel knows of.
    pub resets: u64,
    /// The engine did not become idle when it was last stopped.
    pub hung: bool,
}

/// Room for lists of transfers, so that to submit one allocates nothing.
#[derive(Debug)]
pub(super) struct Lists {
    pub pieces: Transfers,
    /// To compare host addresses of a list.
    pub ranges: Vec<(u64, u64)>,
}

/// What the card gets back when the channel is closed.
struct Lease(#[expect(dead_code, reason = "held to be dropped")] Box<dyn Any + Send>);

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}

impl Channel {
    /// Takes a channel over: stops it, and sets it up.
    ///
    /// # Errors
    ///
    /// There is no such channel, it is a stream, it does not become idle, or it has no credits and they were demanded.
    ///
    /// # Safety
    ///
    /// Nothing else uses this channel of the card, nor the words and counters of `place`, until it is closed. The BAR, the
    /// space and the words are of one card.
    pub unsafe fn open(place: Place, options: ChannelOptions) -> Result<Self, EngineError> {
        Self::open_kind(place, options, false)
    }

    /// Takes over a channel that is a stream, or one that is none.
    pub(super) fn open_kind(
        place: Place,
        options: ChannelOptions,
        stream: bool,
    ) -> Result<Self, EngineError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let Place { bar, space, words, direction, channel, idle_limit, recall, event, notice, .. } = place;
        let (counters, lease) = (place.counters, place.lease);
        let resets = notice.resets.load(Ordering::Acquire);
        let registers = Registers::new(bar, direction, channel)?;
        check_kind(&registers, stream)?;
        registers.stop(idle_limit)?;
        let room = options.slots.clamp(2, 512).next_power_of_two();
        let slots = Slots::new(&space, room, direction)?;
        // Numbers go on where the channel's last owner ended: they are counters as they are.
        let running = space.add_channel(words.next_job());
        let report = Report::new(words)?;
        let mut engine =
            Engine::new(registers, slots, report, idle_limit, counters.clone(), options.check_idle);
        let sleeper = Sleeper { event, spin_limit: LONGEST_SPIN };
        set_up(&mut engine, &options, &sleeper)?;
        tracing::debug!(%direction, channel, ring = %engine.ring, wait = %options.wait, "channel open");
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
            bond: Bond { recall, notice, resets, hung: false },
            lists: Lists { pieces: Transfers::with_room(direction, room), ranges: Vec::with_capacity(room) },
            closed: false,
            process: Process::this(),
            _lease: Lease(lease),
        })
    }

    /// Writes everything that stays as it is between starts; the engine is stopped.
    pub(super) fn set_up(&mut self) -> Result<(), Fail> {
        set_up(&mut self.engine, &self.options, &self.sleeper)?;
        self.kind = Kind::new(self.space_id, self.direction(), self.ring());
        Ok(())
    }

    /// Direction of the channel.
    #[inline]
    pub fn direction(&self) -> Direction {
        self.engine.registers.direction
    }

    /// Whether this is a child of the process that opened it, which leaves the card alone.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_forked()
    }

    /// Names the channel among all of this process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Its number.
    pub fn index(&self) -> usize {
        self.engine.registers.index
    }

    /// How it was opened.
    pub fn options(&self) -> ChannelOptions {
        self.options
    }

    /// Which ring it runs on.
    pub fn ring(&self) -> Ring {
        self.engine.ring
    }

    /// What it did since its card was opened. In a child of the process that opened it: nothing.
    pub fn stats(&self) -> Stats {
        // A child has no such memory.
        if self.process.is_forked() { Stats::default() } else { self.counters.stats() }
    }

    /// How long its jobs took since its card was opened. `None` in a child of the process that opened it.
    pub fn latencies(&self) -> Option<Latencies> {
        (!self.process.is_forked()).then(|| self.counters.latencies())
    }

    /// Transfers and runs that are not finished.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    /// The ticket of what was submitted last.
    pub fn last_ticket(&self) -> Option<Ticket> {
        self.queue.last().map(|sequence| Ticket { channel: self.id, sequence })
    }

    /// Builds a program for this channel.
    ///
    /// # Errors
    ///
    /// The list of transfers is empty or for the other direction; no memory.
    pub fn program(&self, transfers: &Transfers) -> Result<Program, EngineError> {
        if transfers.direction() != self.direction() {
            return Err(EngineError::ForeignProgram);
        }
        let program = Program::build(&self.space, transfers, self.ring())?;
        let (descriptors, bytes) = (program.descriptors(), program.bytes());
        let list = format_args!("{:#x}", program.run.start.list);
        tracing::debug!(direction = %self.direction(), channel = self.index(), descriptors, bytes, %list, "program built");
        Ok(program)
    }

    /// The channel's registers, and its ring.
    ///
    /// # Errors
    ///
    /// [`EngineError::Gone`].
    pub fn snapshot(&self) -> Result<Snapshot, EngineError> {
        Ok(self.engine.registers.snapshot(Some(self.ring_state()))?)
    }

    /// The channel's ring, as the driver sees it; no register is read.
    pub fn ring_state(&self) -> RingState {
        let (slots, progress) = (&self.engine.slots, &self.engine.progress);
        let (oldest, report) = (self.queue.front(), &progress.report);
        RingState {
            ring: self.ring(),
            in_flight: self.queue.len(),
            waiting: self.queue.waiting_count(),
            oldest: oldest.map(|job| job.start(slots).first),
            ends_with: oldest.filter(|job| job.end != NEVER).map(|job| self.engine.count_at(job.end)),
            given: progress.given(),
            seen: progress.completed(),
            slots: slots.len(),
            free: slots.free(),
            tail: slots.next().first,
            word: report.address(),
            write_back: report.load(),
        }
    }
}

/// Whether the channel exists, and is a stream as expected, or none.
fn check_kind(registers: &Registers, stream: bool) -> Result<(), EngineError> {
    let (identifier, direction, channel) = (registers.identifier()?, registers.direction, registers.index);
    if !identifier.is(Target::channel(direction), channel) {
        return Err(EngineError::NoChannel { direction, channel, identifier: identifier.0 });
    }
    match (identifier.is_stream(), stream) {
        (true, false) => Err(EngineError::Stream { direction, channel }),
        (false, true) => Err(EngineError::NotStream { direction, channel }),
        _ => Ok(()),
    }
}

/// Writes everything that stays as it is between starts, and chooses the ring; the engine is stopped.
fn set_up(engine: &mut Engine, options: &ChannelOptions, sleeper: &Sleeper) -> Result<(), Fail> {
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
    r.write(WRITE_BACK_HI, (engine.progress.report.address() >> 32) as u32)?;
    r.write_common(FETCH_HALT_W1C)?;
    engine.set_up(options)
}
