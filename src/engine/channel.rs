//! The channel: what it is, and how it is set up.

use super::gate::Gate;
use super::jobs::Jobs;
use super::outcomes::Outcomes;
use super::registers::Registers;
use super::ring::Slots;
use super::wait::{Event, FIRST_SPIN, Wait};
use super::words::{WORDS, WriteBackArea};
use super::{EngineError, Program, Ring, Transfers};
use crate::bus::Bar;
use crate::descriptor::Flags;
use crate::memory::{DmaSpace, Process, SpaceId, Word};
use crate::regs::channel::{CONTROL, Control, IRQ_ENABLE, WRITE_BACK_HI};
use crate::regs::sgdma::{CREDIT_ENABLE_W1C, CREDIT_ENABLE_W1S, CREDITS, FETCH_HALT_W1C, FETCH_HALT_W1S};
use crate::regs::{Direction, Target};
use crate::stats::{Counters, Latencies, Stats};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long an engine may take to become idle, unless said otherwise: longer than the 5 s after which the shell of F1 ends
/// an access that nobody answers.
pub const IDLE_LIMIT: Duration = Duration::from_secs(6);

/// How a channel is to be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Which ring; `None` takes credits where the core has them, and chains elsewhere.
    pub ring: Option<Ring>,
    /// Descriptors of the ring for single transfers; rounded up to a power of two, at most 512.
    pub slots: usize,
    /// Whether every transfer goes to one fixed card address (AXI FIXED).
    pub fixed_address: bool,
    /// Read busy once before a chain is started again. Nobody has verified whether silicon needs it.
    pub check_idle: bool,
    /// Let the channel interrupt when it completes a transfer or run, and when it fails: for `Card::interrupt`.
    pub interrupt: bool,
    /// How to wait. Modes that sleep switch the interrupt on.
    pub wait: Wait,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            ring: None,
            slots: 256,
            fixed_address: false,
            check_idle: true,
            interrupt: false,
            wait: Wait::default(),
        }
    }
}

/// Where a channel is: what its card gives it.
pub struct Place {
    /// The BAR with the XDMA registers.
    pub bar: Arc<dyn Bar>,
    /// The card's address space.
    pub space: Arc<DmaSpace>,
    /// Where the engine reports to; another channel must not have the same.
    pub words: Arc<WriteBackArea>,
    /// Direction of the channel.
    pub direction: Direction,
    /// Its number.
    pub channel: usize,
    /// How long the engine may take to become idle.
    pub idle_limit: Duration,
    /// Set once the kernel wants the card back.
    pub recall: Arc<AtomicBool>,
    /// What [`Wait::Hybrid`] and [`Wait::Interrupt`] sleep on.
    pub event: Option<Arc<dyn Event>>,
    /// What the card and its channels tell each other.
    pub notice: Arc<Notice>,
    /// Where the channel counts; another channel must not have the same.
    pub counters: Counters,
    /// Dropped when the channel is closed.
    pub lease: Box<dyn Any + Send>,
}

/// What a card and its channels tell each other.
#[derive(Debug, Default)]
pub struct Notice {
    /// How often the card was reset or brought back under its channels: each of them has to be recovered then.
    pub resets: AtomicU64,
    /// An engine did not become idle: whoever closes the card need not wait for it again.
    pub hung: AtomicBool,
}

/// Names a submitted transfer or run. It is a number: losing it loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) channel: u64,
    pub(super) sequence: u64,
}

/// A channel, owned. See the [module](super).
#[derive(Debug)]
pub struct Channel {
    pub(super) registers: Registers,
    pub(super) space: Arc<DmaSpace>,
    pub(super) space_id: SpaceId,
    pub(super) ring: Ring,
    /// Flags of the last descriptor of a transfer.
    pub(super) end: Flags,
    pub(super) options: ChannelOptions,
    control: Control,
    pub(super) slots: Slots,
    pub(super) words: Box<[Word; WORDS]>,
    pub(super) word_base: u64,
    pub(super) word_area: Arc<WriteBackArea>,
    pub(super) word: usize,
    /// Jobs in order: first those the engine has, then those that wait.
    pub(super) jobs: Jobs,
    /// Device address of the closed list that the engine runs on; 0 when it runs on none.
    pub(super) current: u64,
    /// Credits given, and descriptors known to be completed, since Run was set.
    pub(super) issued: u64,
    pub(super) completed: u64,
    pub(super) last: u32,
    pub(super) outcomes: Outcomes,
    pub(super) closed: bool,
    pub(super) process: Process,
    pub(super) event: Option<Arc<dyn Event>>,
    /// How long [`Wait::Hybrid`] polls.
    pub(super) spin_limit: Duration,
    pub(super) idle_limit: Duration,
    pub(super) recall: Arc<AtomicBool>,
    pub(super) notice: Arc<Notice>,
    /// Resets of the card that the channel knows of.
    pub(super) resets: u64,
    /// The engine did not become idle when it was last stopped.
    pub(super) hung: bool,
    pub(super) scratch: Transfers,
    /// Room to compare host addresses of a list.
    pub(super) ranges: Vec<(u64, u64)>,
    pub(super) id: u64,
    pub(super) counters: Counters,
    pub(super) gate: Gate,
    /// Number of the first job.
    pub(super) first: u64,
    _lease: Lease,
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
        let Place { bar, space, words: area, direction, channel, idle_limit, recall, event, notice, .. } =
            place;
        let (counters, lease) = (place.counters, place.lease);
        let resets = notice.resets.load(Ordering::Acquire);
        let registers = Registers::new(bar, direction, channel)?;
        let identifier = registers.identifier()?;
        if !identifier.is(Target::channel(direction), channel) {
            return Err(EngineError::NoChannel { direction, channel, identifier: identifier.0 });
        }
        match (identifier.is_stream(), stream) {
            (true, false) => return Err(EngineError::Stream { direction, channel }),
            (false, true) => return Err(EngineError::NotStream { direction, channel }),
            _ => {}
        }
        registers.stop(idle_limit)?;
        let room = options.slots.clamp(2, 512).next_power_of_two();
        let slots = Slots::new(&space, room)?;
        let mut control = Control::all_ie(direction) | Control::POLL_WRITE_BACK;
        control.set(Control::NON_INCREMENTING, options.fixed_address);
        // Numbers go on where the channel's last owner ended: they are counters as they are.
        let first = area.next_job();
        let mut this = Self {
            registers,
            ring: Ring::Chain,
            end: Flags::empty(),
            options,
            control,
            slots,
            words: area.words()?,
            word_base: area.address(),
            // What is still on its way goes to the one before.
            word: (area.last() + 1) % WORDS,
            word_area: area,
            jobs: Jobs::new(first),
            current: 0,
            issued: 0,
            completed: 0,
            last: 0,
            outcomes: Outcomes::new(),
            closed: false,
            process: Process::this(),
            event,
            spin_limit: FIRST_SPIN,
            idle_limit,
            recall,
            notice,
            resets,
            hung: false,
            scratch: Transfers::with_room(direction, room),
            ranges: Vec::with_capacity(room),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            counters,
            gate: Gate::new(),
            first,
            space_id: space.id(),
            space,
            _lease: Lease(lease),
        };
        this.forget_list();
        this.set_up()?;
        tracing::debug!(%direction, channel, ring = %this.ring, wait = %this.options.wait, "channel open");
        Ok(this)
    }

    /// Writes everything that stays as it is between starts, and chooses the ring.
    pub(super) fn set_up(&mut self) -> Result<(), EngineError> {
        let r = &self.registers;
        r.write(CONTROL, self.control.bits())?;
        let interrupts = match self.options.interrupt || self.options.wait.sleeps() {
            true => Control::all_ie(self.direction()) - Control::IE_IDLE_STOPPED,
            false => Control::empty(),
        };
        r.write(IRQ_ENABLE, interrupts.bits())?;
        if let Some(event) = &self.event {
            event.enable()?;
        }
        r.write(WRITE_BACK_HI, (self.word_base >> 32) as u32)?;
        r.write_common(FETCH_HALT_W1C)?;
        self.ring = match self.options.ring {
            Some(Ring::Chain) => Ring::Chain,
            wish => match (self.has_credits()?, wish) {
                (true, _) => Ring::Credits,
                (false, None) => Ring::Chain,
                (false, Some(_)) => {
                    let (direction, channel) = (self.direction(), self.index());
                    return Err(EngineError::NoCredits { direction, channel });
                }
            },
        };
        match self.ring {
            Ring::Chain => {
                self.end = Flags::COMPLETED | Flags::STOP;
                self.registers.write_common(CREDIT_ENABLE_W1C)
            }
            Ring::Credits => {
                self.end = Flags::COMPLETED;
                self.registers.write_common(CREDIT_ENABLE_W1S)?;
                self.start_list(self.slots.list().base(), self.slots.tail())
            }
        }
    }

    /// Whether credits read back. Fetch is halted meanwhile, so nothing is transferred.
    fn has_credits(&self) -> Result<bool, EngineError> {
        let r = &self.registers;
        r.write_common(FETCH_HALT_W1S)?;
        r.write_common(CREDIT_ENABLE_W1S)?;
        r.start(self.word_base as u32, self.slots.list().base(), 0)?;
        r.write_sgdma(CREDITS, 1)?;
        let seen = r.credits()?;
        r.stop(self.idle_limit)?;
        r.write_common(CREDIT_ENABLE_W1C)?;
        r.write_common(FETCH_HALT_W1C)?;
        Ok(seen == 1)
    }

    /// Direction of the channel.
    #[inline]
    pub fn direction(&self) -> Direction {
        self.registers.direction
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
        self.registers.index
    }

    /// How it was opened.
    pub fn options(&self) -> ChannelOptions {
        self.options
    }

    /// Which ring it runs on.
    pub fn ring(&self) -> Ring {
        self.ring
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
        self.jobs.len()
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
        let program = Program::build(&self.space, transfers, self.ring)?;
        let (descriptors, bytes) = (program.descriptors(), program.bytes());
        let list = format_args!("{:#x}", program.inner.start.list);
        tracing::debug!(direction = %self.direction(), channel = self.index(), descriptors, bytes, %list, "program built");
        Ok(program)
    }

    /// Forgets what the engine knows; it is stopped.
    pub(super) fn forget_list(&mut self) {
        (self.current, self.issued, self.completed, self.last) = (0, 0, 0, 0);
        self.words.iter().for_each(|w| w.store(0));
    }
}
