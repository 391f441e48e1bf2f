//! A channel: its registers, and the state shared between the registers and the engine behind them.

use super::axi_timeout::AxiTimeout;
use super::engine::{Engine, pause};
use super::faults::{FaultInjector, InjectionPoint, Kind, Until};
use super::guest::GuestMemory;
use super::irq::Irq;
use super::link::PcieLink;
use super::log::{ChannelId, EventLog, Rule, add, lock};
use super::logic::Logic;
use super::notifier::Notifier;
use super::options::{Behaviour, EmulatorOptions};
use super::perf::Perf;
use super::throttle::Throttle;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use xdma_regs::channel::{Control, Status, WriteBack};
use xdma_regs::descriptor::{Descriptor, Flags};
use xdma_regs::{Direction, Target, sgdma};

/// Time limit for driving the engine from a register write in synchronous mode. After that the channel's thread takes over, so
/// that an endless list does not block the write.
const INLINE_LIMIT: Duration = Duration::from_millis(if cfg!(any(fuzzing, test)) { 2 } else { 2000 });
/// Bits of the status register that stay set until they are cleared.
const STICKY: u32 = 0x00ff_fffe;

/// The state shared by all channels.
pub(super) struct Shared {
    pub options: EmulatorOptions,
    pub behaviour: Behaviour,
    pub log: Arc<EventLog>,
    pub guest: Arc<GuestMemory>,
    pub link: Arc<PcieLink>,
    pub irq: Arc<Irq>,
    pub logic: Arc<dyn Logic>,
    pub axi_timeout: AxiTimeout,
    pub throttle: Throttle,
    pub faults: FaultInjector,
}

/// A command from the registers to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineCommand {
    /// There is nothing to do.
    Idle,
    /// Start with the descriptor at `start`, which `adjacent` more descriptors follow in its block.
    Launch { start: u64, adjacent: u32 },
    /// Continue.
    Run,
    /// Finish the current descriptor and go idle.
    Stop,
}

/// The model of a channel. The registers' lock is never held while the logic is called or host memory is accessed.
pub(super) struct ChannelModel {
    pub id: ChannelId,
    pub stream: bool,
    /// The channel's bit in the channel interrupt registers.
    irq_bit: u32,
    pub shared: Arc<Shared>,
    pub(super) regs: Mutex<Registers>,
    engine: Mutex<Engine>,
    pub notifier: Arc<Notifier>,
    /// The AXI side does not transfer anything until this time.
    hang: Mutex<Option<Until>>,
    /// Tells the engine to stop immediately.
    abort: AtomicBool,
    quit: AtomicBool,
}

/// The registers and the related internal state. Words are kept as raw bits, because drivers read back what they wrote.
#[derive(Debug, Default)]
pub(super) struct Registers {
    pub control: u32,
    /// Only the sticky bits.
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
    /// Set from the rising edge of Run until the engine is idle.
    running: bool,
    /// Run has fallen since. Setting it again has no effect.
    stopping: bool,
    /// The first descriptor's address and adjacent count, latched by a rising Run and consumed by the engine.
    launch: Option<(u64, u32)>,
    /// Nothing is outstanding, and the fetch waits for credits or is halted.
    starved: bool,
    /// Lasting faults: BUSY stuck at 1, and stuck sticky bits.
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

impl ChannelModel {
    pub fn new(id: ChannelId, irq_bit: u32, shared: Arc<Shared>) -> Self {
        let stream = shared.behaviour.stream;
        let seed = shared.options.seed ^ (u64::from(irq_bit) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            id,
            stream,
            irq_bit,
            shared,
            regs: Mutex::default(),
            engine: Mutex::new(Engine::new(seed)),
            notifier: Arc::default(),
            hang: Mutex::default(),
            abort: AtomicBool::new(false),
            quit: AtomicBool::new(false),
        }
    }

    /// Runs the channel's thread.
    pub fn run(&self) {
        let over = || self.quit.load(Ordering::Acquire);
        self.notifier.run_until(over, || {
            let drive = AssertUnwindSafe(|| lock(&self.engine).drive(self));
            catch_unwind(drive).unwrap_or_else(|_| {
                self.fail_after_panic();
                Some(Instant::now())
            })
        });
    }

    /// Handles a panic of the custom logic. The client sees an AXI slave error, which stops the engine.
    fn fail_after_panic(&self) {
        tracing::error!("the custom logic panicked on channel {}", self.id);
        let refused = if self.is_h2c() { Status::WRITE_SLAVE_ERROR } else { Status::READ_ERROR_1 };
        self.report(refused, true);
        lock(&self.engine).abandon(self);
    }

    /// Stops the thread.
    pub fn quit(&self) {
        self.quit.store(true, Ordering::Release);
        self.abort.store(true, Ordering::Release);
        self.notifier.notify();
    }

    /// Notifies the engine that it may be able to continue. In synchronous mode, drives the engine in this thread, unless the
    /// channel's thread is driving it already.
    pub fn kick(&self) {
        if self.shared.options.synchronous
            && let Ok(mut engine) = self.engine.try_lock()
            && engine.drive_for(self, INLINE_LIMIT)
        {
            return;
        }
        self.notifier.notify();
    }

    pub fn aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    /// Resets the channel to its power-up state, aborting a running transfer.
    pub fn reset(&self) {
        self.abort.store(true, Ordering::Release);
        self.notifier.notify();
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

    /// Returns the address of one of the channel's registers, for the log.
    fn address(&self, target: Target, offset: u32) -> u64 {
        u64::from(target.base(self.id.index) + offset)
    }

    fn counts_credits(&self) -> bool {
        self.shared.behaviour.counts_credits
    }

    /// Returns the fault to inject into this channel at `point`, if one is due.
    pub fn fault_at(&self, point: InjectionPoint) -> Option<Kind> {
        self.shared.faults.fault_at(point, Some(self.id))
    }

    /// Returns whether an injected fault makes the AXI side hang.
    pub fn is_hung(&self) -> bool {
        let mut hang = lock(&self.hang);
        if hang.is_some_and(Until::is_over) {
            *hang = None;
        }
        hang.is_some()
    }

    pub fn hang_until(&self, until: Until) {
        *lock(&self.hang) = Some(until);
    }

    /// Returns when the AXI side stops hanging.
    pub fn hang_end(&self) -> Option<Instant> {
        lock(&self.hang).and_then(Until::end)
    }

    /// Injects the faults that are due when a client reads the status.
    pub fn inject_status_fault(&self, regs: &mut Registers) {
        match self.fault_at(InjectionPoint::Status) {
            Some(Kind::BusyStuck(duration)) => regs.busy_until = Some(duration.until()),
            Some(Kind::StatusStuck(bits)) => regs.stuck |= bits & STICKY,
            _ => {}
        }
    }

    /// Returns BUSY and the sticky bits.
    pub fn status(&self, regs: &Registers) -> u32 {
        // After Run falls the channel stays busy until it is idle. Otherwise a driver would see it idle and set Run too early.
        let starved = regs.starved && !regs.stopping && !self.shared.behaviour.busy_without_credits;
        let stuck = regs.busy_until.is_some_and(|until| !until.is_over());
        regs.status | regs.stuck | u32::from(regs.running && !starved || stuck)
    }

    /// Updates the interrupt source, which is high while an enabled status bit is set. Called with the registers locked, so that
    /// the sources change in the same order as the registers.
    pub fn update_irq(&self, regs: &Registers) {
        self.shared.irq.set_channel(self.irq_bit, regs.status & regs.irq_enable != 0);
    }

    /// Changes the control register, and acts on edges of Run. `set` are the bits that the client sets.
    pub fn set_control(&self, set: u32, change: impl FnOnce(u32) -> u32) {
        let mut regs = self.registers();
        let value = change(regs.control);
        let run = Control::RUN.bits();
        let rises = value & !regs.control & run != 0;
        let falls = !value & regs.control & run != 0;
        if set & regs.control & run != 0 && !regs.running {
            self.violation(Rule::RunUnchanged, self.address(Target::channel(self.id.direction), 4));
        }
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
            self.kick();
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

    /// Logs a violation if bus mastering is off when a fetch from `address` becomes possible.
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
        self.resume_fetch(regs);
    }

    pub fn set_fetch_halted(&self, halted: bool) {
        let mut regs = self.registers();
        if regs.fetch_halted != halted {
            regs.fetch_halted = halted;
            self.resume_fetch(regs);
        }
    }

    pub fn set_credit_mode(&self, on: bool) {
        let mut regs = self.registers();
        if regs.credit_mode != on {
            regs.credit_mode = on;
            regs.credits = 0;
            self.resume_fetch(regs);
        }
    }

    fn resume_fetch(&self, mut regs: MutexGuard<'_, Registers>) {
        if regs.starved && regs.may_fetch(self.counts_credits()) {
            regs.starved = false;
            self.check_bus_master(regs.start);
        }
        drop(regs);
        self.kick();
    }

    /// Returns the command for the engine, and consumes a pending launch.
    pub fn next_command(&self) -> EngineCommand {
        let mut regs = self.registers();
        match regs.launch.take() {
            _ if !regs.running => EngineCommand::Idle,
            _ if regs.stopping => EngineCommand::Stop,
            Some((start, adjacent)) => EngineCommand::Launch { start, adjacent },
            None => EngineCommand::Run,
        }
    }

    /// Returns the maximum number of descriptors that may be fetched; `None` if fetching is not allowed.
    pub fn fetch_allowance(&self) -> Option<usize> {
        let mut regs = self.registers();
        let counts = self.counts_credits();
        if !regs.may_fetch(counts) {
            return None;
        }
        regs.starved = false;
        Some(if counts && regs.credit_mode { regs.credits as usize } else { usize::MAX })
    }

    /// Consumes credits for descriptors that are being fetched.
    pub fn consume_credits(&self, descriptors: usize) {
        let mut regs = self.registers();
        if regs.credit_mode {
            regs.credits = regs.credits.saturating_sub(descriptors as u32);
        }
    }

    /// Marks the channel as starved if the engine may not fetch. Returns whether that is still the case.
    pub fn starve(&self) -> bool {
        let mut regs = self.registers();
        regs.starved = !regs.may_fetch(self.counts_credits());
        regs.starved
    }

    /// Records that the engine went idle because Run fell.
    pub fn stopped(&self) {
        let mut regs = self.registers();
        self.raise(&mut regs, Status::IDLE_STOPPED.bits());
        regs.go_idle(false);
        self.update_irq(&regs);
    }

    /// Sets the sticky bits whose `ie` bit is set, and returns them.
    fn raise(&self, regs: &mut Registers, bits: u32) -> u32 {
        // Each `ie` bit has the same position in the control register as the status bit that it gates (PG195, "Channel Control").
        let raised = bits & regs.control;
        regs.status |= raised;
        raised
    }

    /// Logs an error. Returns whether the engine must stop, which it does with [`ChannelModel::halt`]. `fatal` errors stop the
    /// engine even if they are not logged.
    pub fn report(&self, error: Status, fatal: bool) -> bool {
        let mut regs = self.registers();
        let logged = self.raise(&mut regs, error.bits()) != 0;
        logged || fatal || self.shared.behaviour.unlogged_errors_stop
    }

    /// Goes idle after an error. Returns the write-back to send, if any.
    pub fn halt(&self) -> Option<(u64, u32)> {
        let mut regs = self.registers();
        regs.go_idle(false);
        let wanted = self.shared.behaviour.error_write_back && regs.bit(Control::POLL_WRITE_BACK);
        wanted.then(|| (regs.write_back, regs.completed & WriteBack::COUNT_MASK | WriteBack::ERROR))
    }

    /// Returns the next descriptor's write-back, to be sent early.
    pub fn early_write_back(&self) -> Option<(u64, u32)> {
        let regs = self.registers();
        let word = regs.completed.wrapping_add(1) & WriteBack::COUNT_MASK;
        regs.bit(Control::POLL_WRITE_BACK).then_some((regs.write_back, word))
    }

    /// Counts a completed descriptor. Returns the write-back to send, if any.
    pub fn finish(&self, descriptor: &Descriptor, bytes: u64) -> Option<(u64, u32)> {
        let mut regs = self.registers();
        let (stop, completed) =
            (descriptor.flags.contains(Flags::STOP), descriptor.flags.contains(Flags::COMPLETED));
        let jump = match self.fault_at(InjectionPoint::Finish) {
            Some(Kind::CountJump(by)) => by,
            _ => 0,
        };
        regs.completed = regs.completed.wrapping_add(1).wrapping_add(jump);
        regs.perf.descriptor(bytes.div_ceil(self.shared.behaviour.beat), stop);
        if completed {
            self.raise(&mut regs, Status::DESCRIPTOR_COMPLETED.bits());
        }
        if stop {
            self.raise(&mut regs, Status::DESCRIPTOR_STOPPED.bits());
            if self.shared.behaviour.busy_lag.is_zero() {
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
        regs.go_idle(self.shared.behaviour.stop_clears_run);
    }

    /// Updates the interrupt request, after all other effects of an event, and injects the interrupt faults that are due.
    pub fn interrupt(&self) {
        let regs = self.registers();
        let level = regs.status & regs.irq_enable != 0;
        if !level || !self.shared.irq.would_rise(self.irq_bit) {
            return self.update_irq(&regs);
        }
        match self.fault_at(InjectionPoint::Interrupt) {
            Some(Kind::InterruptLost) => self.shared.irq.raise_without_message(self.irq_bit),
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
