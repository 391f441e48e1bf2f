//! One channel: its registers, and the state that they share with the engine behind them.

use super::axi_timeout::AxiTimeout;
use super::bell::Bell;
use super::engine::{Engine, pause};
use super::faults::{Board, Kind, Occasion, Until};
use super::guest::GuestMemory;
use super::irq::Irq;
use super::link::Link;
use super::log::{ChannelId, Log, Rule, add, lock};
use super::logic::Logic;
use super::options::Options;
use super::pace::Pace;
use super::perf::Perf;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use xdma_regs::channel::{Control, Status, WriteBack};
use xdma_regs::descriptor::{Descriptor, Flags};
use xdma_regs::{Direction, Target, sgdma};

/// How long a register write drives the engine in the synchronous setting, before the channel's thread takes over: for lists
/// without end.
const INLINE_LIMIT: Duration = Duration::from_millis(if cfg!(any(fuzzing, test)) { 2 } else { 2000 });
/// Bits of the status register that stay until they are cleared.
const STICKY: u32 = 0x00ff_fffe;

/// What all channels share.
pub(super) struct Shared {
    pub options: Options,
    pub log: Arc<Log>,
    pub guest: Arc<GuestMemory>,
    pub link: Arc<Link>,
    pub irq: Arc<Irq>,
    pub logic: Arc<dyn Logic>,
    pub axi_timeout: AxiTimeout,
    pub pace: Pace,
    pub faults: Board,
}

/// What the registers want of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing.
    Rest,
    /// Begin with the descriptor at this address, after which so many lie adjacent.
    Launch { start: u64, adjacent: u32 },
    /// Go on.
    Run,
    /// Finish the current descriptor and go idle.
    Stop,
}

/// A channel. The registers' lock is never held while the logic is called or host memory touched.
pub(super) struct Channel {
    pub id: ChannelId,
    pub stream: bool,
    /// Its bit in the vectors of channel interrupts.
    irq_bit: u32,
    pub shared: Arc<Shared>,
    pub(super) regs: Mutex<Registers>,
    engine: Mutex<Engine>,
    pub bell: Arc<Bell>,
    /// The AXI side gives and takes nothing so long.
    hang: Mutex<Option<Until>>,
    /// The engine lets go of everything at once.
    abort: AtomicBool,
    quit: AtomicBool,
}

/// The registers and the flags beside them. Words are kept as bits, since drivers read back what they wrote.
#[derive(Debug, Default)]
pub(super) struct Registers {
    pub control: u32,
    /// Sticky bits only.
    pub status: u32,
    pub completed: u32,
    pub irq_enable: u32,
    pub write_back: u64,
    pub start: u64,
    pub adjacent: u32,
    pub credits: u32,
    pub credit_mode: bool,
    pub fetch_halted: bool,
    pub perf: Perf,
    /// Between a rising Run and idle.
    running: bool,
    /// Run fell since; setting it again changes nothing.
    stopping: bool,
    /// Latched by a rising Run, taken by the engine.
    launch: Option<(u64, u32)>,
    /// Nothing is outstanding: fetch waits for credits or for being allowed to.
    starved: bool,
    /// Faults that last: busy reads 1, and sticky bits that stay.
    busy_until: Option<Until>,
    stuck: u32,
}

impl Registers {
    pub fn is_running(&self) -> bool {
        self.running
    }

    pub fn bit(&self, bit: Control) -> bool {
        self.control & bit.bits() != 0
    }

    fn may_fetch(&self, counts_credits: bool) -> bool {
        !(self.fetch_halted || counts_credits && self.credit_mode && self.credits == 0)
    }

    fn go_idle(&mut self, clear_run: bool) {
        (self.running, self.stopping, self.starved) = (false, false, false);
        self.launch = None;
        if clear_run {
            self.control &= !Control::RUN.bits();
        }
    }
}

impl Channel {
    pub fn new(id: ChannelId, irq_bit: u32, shared: Arc<Shared>) -> Self {
        let stream = shared.options.stream;
        let seed = shared.options.seed ^ (u64::from(irq_bit) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            id,
            stream,
            irq_bit,
            shared,
            regs: Mutex::default(),
            engine: Mutex::new(Engine::new(seed)),
            bell: Arc::default(),
            hang: Mutex::default(),
            abort: AtomicBool::new(false),
            quit: AtomicBool::new(false),
        }
    }

    /// The channel's thread.
    pub fn run(&self) {
        let over = || self.quit.load(Ordering::Acquire);
        self.bell.attend(over, || {
            let drive = AssertUnwindSafe(|| lock(&self.engine).drive(self));
            catch_unwind(drive).unwrap_or_else(|_| {
                self.blame_logic();
                Some(Instant::now())
            })
        });
    }

    /// The custom logic panicked. To the client that is a slave that refused, which stops the engine.
    fn blame_logic(&self) {
        tracing::error!("the custom logic panicked under {}", self.id);
        let refused = if self.is_h2c() { Status::WRITE_SLAVE_ERROR } else { Status::READ_ERROR_1 };
        self.report(refused, true);
        lock(&self.engine).abandon(self);
    }

    /// Ends the thread.
    pub fn quit(&self) {
        self.quit.store(true, Ordering::Release);
        self.abort.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Something changed that may let the engine go on. In the synchronous setting it does so here, unless its thread is
    /// at it already.
    pub fn poke(&self) {
        if self.shared.options.synchronous
            && let Ok(mut engine) = self.engine.try_lock()
            && engine.drive_for(self, INLINE_LIMIT)
        {
            return;
        }
        self.bell.ring();
    }

    pub fn aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    /// Everything as after power-up, at once.
    pub fn reset(&self) {
        self.abort.store(true, Ordering::Release);
        self.bell.ring();
        let mut engine = lock(&self.engine);
        engine.reset(self);
        *lock(&self.hang) = None;
        *self.registers() = Registers::default();
        self.shared.irq.set_channel(self.irq_bit, false);
        self.abort.store(self.quit.load(Ordering::Acquire), Ordering::Release);
    }

    pub fn registers(&self) -> MutexGuard<'_, Registers> {
        lock(&self.regs)
    }

    pub fn violation(&self, rule: Rule, address: u64) {
        self.shared.log.violation(rule, address, Some(self.id));
    }

    /// Address of one of the channel's registers, for the log.
    fn address(&self, target: Target, offset: u32) -> u64 {
        u64::from(target.base(self.id.index) + offset)
    }

    fn counts_credits(&self) -> bool {
        self.stream || self.shared.options.switches.mm_credits
    }

    /// The fault that strikes this channel now, if one does.
    pub fn strike(&self, occasion: Occasion) -> Option<Kind> {
        self.shared.faults.strike(occasion, Some(self.id))
    }

    /// Whether the AXI side hangs, by a fault.
    pub fn hangs(&self) -> bool {
        let mut hang = lock(&self.hang);
        if hang.is_some_and(Until::is_over) {
            *hang = None;
        }
        hang.is_some()
    }

    pub fn hang(&self, until: Until) {
        *lock(&self.hang) = Some(until);
    }

    /// When the AXI side stops hanging.
    pub fn hang_end(&self) -> Option<Instant> {
        lock(&self.hang).and_then(Until::end)
    }

    /// A client reads the status: what a fault makes of it.
    pub fn distort_status(&self, regs: &mut Registers) {
        match self.strike(Occasion::Status) {
            Some(Kind::BusyStuck(lasting)) => regs.busy_until = Some(lasting.until()),
            Some(Kind::StatusStuck(bits)) => regs.stuck |= bits & STICKY,
            _ => {}
        }
    }

    /// BUSY and the sticky bits.
    pub fn status(&self, regs: &Registers) -> u32 {
        // Once Run fell it is busy until it is idle, or a driver that sees it idle would set Run too early.
        let starved = regs.starved && !regs.stopping && !self.shared.options.switches.busy_without_credits;
        let stuck = regs.busy_until.is_some_and(|until| !until.is_over());
        regs.status | regs.stuck | u32::from(regs.running && !starved || stuck)
    }

    /// The source is high while a status bit is set that the mask lets through. Called with the registers locked, so that
    /// sources change in the order that registers do.
    pub fn update_irq(&self, regs: &Registers) {
        self.shared.irq.set_channel(self.irq_bit, regs.status & regs.irq_enable != 0);
    }

    /// Changes the control register, with what Run's edges do.
    pub fn set_control(&self, change: impl FnOnce(u32) -> u32) {
        let mut regs = self.registers();
        let value = change(regs.control);
        let run = Control::RUN.bits();
        let rises = value & !regs.control & run != 0;
        let falls = !value & regs.control & run != 0;
        regs.control = value;
        if falls {
            regs.credits = 0;
            regs.stopping = regs.running;
        }
        if rises {
            add(&self.shared.log.count.doorbells, 1);
            if regs.running {
                self.violation(Rule::RunWhileBusy, self.address(Target::channel(self.id.direction), 4));
            } else {
                self.launch(&mut regs);
            }
        }
        drop(regs);
        if rises || falls {
            self.poke();
        }
    }

    fn launch(&self, regs: &mut Registers) {
        regs.status = 0;
        regs.completed = 0;
        regs.running = true;
        regs.launch = Some((regs.start, regs.adjacent));
        regs.starved = !regs.may_fetch(self.counts_credits());
        if !regs.starved {
            self.check_bus_master(regs.start);
        }
        regs.perf.channel_starts();
        self.update_irq(regs);
    }

    /// The client lets the engine fetch from `address`.
    fn check_bus_master(&self, address: u64) {
        if !self.shared.link.bus_master() {
            self.violation(Rule::BusMasterOff, address);
        }
    }

    /// Writes one of the registers that hold the first descriptor's address.
    pub fn set_start(&self, offset: u32, change: impl FnOnce(&mut Registers)) {
        let mut regs = self.registers();
        change(&mut regs);
        if regs.running {
            self.violation(Rule::StartWhileRunning, self.address(Target::sgdma(self.id.direction), offset));
        }
    }

    /// Adds credits.
    pub fn add_credits(&self, credits: u32) {
        let mut regs = self.registers();
        if !regs.credit_mode || !self.counts_credits() {
            return;
        }
        add(&self.shared.log.count.doorbells, 1);
        regs.credits += credits;
        if regs.credits > sgdma::MAX_CREDITS {
            regs.credits = sgdma::MAX_CREDITS;
            let target = Target::sgdma(self.id.direction);
            self.violation(Rule::CreditOverflow, self.address(target, sgdma::CREDITS));
        }
        self.feed(regs);
    }

    pub fn set_fetch_halted(&self, halted: bool) {
        let mut regs = self.registers();
        if regs.fetch_halted != halted {
            regs.fetch_halted = halted;
            self.feed(regs);
        }
    }

    pub fn set_credit_mode(&self, on: bool) {
        let mut regs = self.registers();
        if regs.credit_mode != on {
            regs.credit_mode = on;
            regs.credits = 0;
            self.feed(regs);
        }
    }

    fn feed(&self, mut regs: MutexGuard<'_, Registers>) {
        if regs.starved && regs.may_fetch(self.counts_credits()) {
            regs.starved = false;
            self.check_bus_master(regs.start);
        }
        drop(regs);
        self.poke();
    }

    /// What to do now.
    pub fn order(&self) -> Order {
        let mut regs = self.registers();
        match regs.launch.take() {
            _ if !regs.running => Order::Rest,
            _ if regs.stopping => Order::Stop,
            Some((start, adjacent)) => Order::Launch { start, adjacent },
            None => Order::Run,
        }
    }

    /// Whether descriptors may be fetched, and how many.
    pub fn fetch_allowance(&self) -> Option<usize> {
        let mut regs = self.registers();
        let counts = self.counts_credits();
        if !regs.may_fetch(counts) {
            return None;
        }
        regs.starved = false;
        Some(if counts && regs.credit_mode { regs.credits as usize } else { usize::MAX })
    }

    /// Takes the credits of descriptors that are being fetched.
    pub fn take_credits(&self, descriptors: usize) {
        let mut regs = self.registers();
        if regs.credit_mode {
            regs.credits = regs.credits.saturating_sub(descriptors as u32);
        }
    }

    /// The engine has nothing outstanding and may not fetch; false if that has just changed.
    pub fn starve(&self) -> bool {
        let mut regs = self.registers();
        regs.starved = !regs.may_fetch(self.counts_credits());
        regs.starved
    }

    /// The engine went idle because Run fell.
    pub fn stopped(&self) {
        let mut regs = self.registers();
        self.raise(&mut regs, Status::IDLE_STOPPED.bits());
        regs.go_idle(false);
        self.update_irq(&regs);
    }

    /// Sets those sticky bits whose `ie` bit is on, and returns them.
    fn raise(&self, regs: &mut Registers, bits: u32) -> u32 {
        // The `ie` bits of the control register have the places of the bits that they gate (PG195, "Channel Control").
        let raised = bits & regs.control;
        regs.status |= raised;
        raised
    }

    /// An error; true if the engine must stop, which it then does with [`Channel::halt`]. `fatal` errors stop it even
    /// when they are not logged.
    pub fn report(&self, error: Status, fatal: bool) -> bool {
        let mut regs = self.registers();
        let logged = self.raise(&mut regs, error.bits()) != 0;
        logged || fatal || self.shared.options.switches.unlogged_errors_stop
    }

    /// Goes idle after an error; returns what to write back, if anything.
    pub fn halt(&self) -> Option<(u64, u32)> {
        let mut regs = self.registers();
        regs.go_idle(false);
        let wanted = self.shared.options.switches.error_write_back && regs.bit(Control::POLL_WRITE_BACK);
        wanted.then(|| (regs.write_back, regs.completed & WriteBack::COUNT_MASK | WriteBack::ERROR))
    }

    /// The write-back that the next descriptor will have, sent early.
    pub fn early_write_back(&self) -> Option<(u64, u32)> {
        let regs = self.registers();
        let word = regs.completed.wrapping_add(1) & WriteBack::COUNT_MASK;
        regs.bit(Control::POLL_WRITE_BACK).then_some((regs.write_back, word))
    }

    /// Counts a finished descriptor; returns what to write back, if anything.
    pub fn finish(&self, descriptor: &Descriptor, bytes: u64) -> Option<(u64, u32)> {
        let mut regs = self.registers();
        let (stop, completed) =
            (descriptor.flags.contains(Flags::STOP), descriptor.flags.contains(Flags::COMPLETED));
        let jump = match self.strike(Occasion::Finish) {
            Some(Kind::CountJump(by)) => by,
            _ => 0,
        };
        regs.completed = regs.completed.wrapping_add(1).wrapping_add(jump);
        regs.perf.descriptor(bytes, stop);
        if completed {
            self.raise(&mut regs, Status::DESCRIPTOR_COMPLETED.bits());
        }
        if stop {
            self.raise(&mut regs, Status::DESCRIPTOR_STOPPED.bits());
            if self.shared.options.switches.busy_lag.is_zero() {
                self.end_list(&mut regs);
            }
        }
        let error = regs.status & Status::errors(self.id.direction).bits() != 0;
        let word = regs.completed & WriteBack::COUNT_MASK | if error { WriteBack::ERROR } else { 0 };
        (completed && regs.bit(Control::POLL_WRITE_BACK)).then_some((regs.write_back, word))
    }

    /// Goes idle after a descriptor with Stop.
    pub fn end_list(&self, regs: &mut Registers) {
        if regs.stopping {
            self.raise(regs, Status::IDLE_STOPPED.bits());
        }
        regs.go_idle(self.shared.options.switches.stop_clears_run);
    }

    /// The last step of whatever happened: the interrupt.
    pub fn interrupt(&self) {
        let regs = self.registers();
        let level = regs.status & regs.irq_enable != 0;
        if !level || !self.shared.irq.would_rise(self.irq_bit) {
            return self.update_irq(&regs);
        }
        match self.strike(Occasion::Interrupt) {
            Some(Kind::InterruptLost) => self.shared.irq.raise_unheard(self.irq_bit),
            Some(Kind::InterruptRepeated) => {
                self.update_irq(&regs);
                self.shared.irq.repeat_channel(self.irq_bit);
            }
            Some(Kind::InterruptLate(millis)) => {
                drop(regs);
                pause(self, Duration::from_millis(millis));
                self.update_irq(&self.registers());
            }
            _ => self.update_irq(&regs),
        }
    }

    pub fn is_h2c(&self) -> bool {
        self.id.direction == Direction::H2C
    }
}
