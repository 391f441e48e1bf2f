//! The DMA engine of `hdl/rtl/dma` in place of the model of the XDMA core, simulated cycle by cycle.
//!
//! The clock runs while the engine has something to do. Host memory answers at once. The custom logic answers when it does; each
//! channel waits for it on its own.

mod card;
mod host;

use super::channel::Shared;
use super::log::lock;
use super::logic::Shell;
use super::notifier::Notifier;
use card::CardBus;
use host::HostBus;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use xdma_rtl_dma::Engine;

/// The number of clocks between two checks for waiting callers.
const SLICE: u64 = 50;
/// The number of clocks without activity after which the clock stops.
const IDLE: u64 = 60;
/// The maximum number of clocks for the work that a register write starts, in synchronous mode.
const INLINE: u64 = 400_000;

type Simulation = Engine<HostBus, CardBus>;

/// The simulated engine.
pub(super) struct RtlDma {
    simulation: Mutex<Simulation>,
    notifier: Notifier,
    quit: AtomicBool,
    /// The number of callers that wait for the simulation.
    callers: AtomicUsize,
    /// The levels of the user interrupt requests.
    user_irq: AtomicU32,
    shared: Arc<Shared>,
}

impl RtlDma {
    pub fn new(shared: &Arc<Shared>) -> Self {
        let simulation = Engine::new(HostBus::new(shared), CardBus::new(shared), 2);
        Self {
            simulation: Mutex::new(simulation),
            notifier: Notifier::default(),
            quit: AtomicBool::new(false),
            callers: AtomicUsize::new(0),
            user_irq: AtomicU32::new(0),
            shared: Arc::clone(shared),
        }
    }

    /// Runs the clock's thread.
    pub fn run(&self) {
        let over = || self.quit.load(Ordering::Acquire);
        self.notifier.run_until(over, || {
            while !over() && !self.slice() {
                while self.callers.load(Ordering::Acquire) > 0 {
                    thread::yield_now();
                }
            }
            None
        });
    }

    pub fn quit(&self) {
        self.quit.store(true, Ordering::Release);
        self.notifier.notify();
    }

    /// Runs some clocks. Returns whether there is nothing to do until the next notification.
    fn slice(&self) -> bool {
        let mut simulation = lock(&self.simulation);
        self.clocks(&mut simulation)
    }

    /// Runs [`SLICE`] clocks. Returns whether there is nothing to do.
    fn clocks(&self, simulation: &mut Simulation) -> bool {
        simulation.card.retry();
        for _ in 0..SLICE {
            self.step(simulation);
        }
        let last = simulation.host.last_activity().max(simulation.card.last_activity());
        simulation.cycle() > last + IDLE
    }

    fn step(&self, simulation: &mut Simulation) {
        simulation.set_user_irq(self.user_irq.load(Ordering::Acquire) as u16);
        simulation.step();
        let lines = simulation.interrupts();
        for line in (0..16).filter(|line| lines >> line & 1 != 0) {
            self.shared.irq.send(line);
        }
    }

    /// Calls `f` with the simulation, before the clock's thread continues.
    fn with<R>(&self, f: impl FnOnce(&mut Simulation) -> R) -> R {
        self.callers.fetch_add(1, Ordering::AcqRel);
        let mut simulation = lock(&self.simulation);
        self.callers.fetch_sub(1, Ordering::AcqRel);
        let result = f(&mut simulation);
        simulation.host.touch();
        drop(simulation);
        self.notifier.notify();
        result
    }

    /// Reads a register.
    pub fn read(&self, address: u32) -> u32 {
        self.with(|simulation| {
            simulation.begin_read(address);
            loop {
                self.step(simulation);
                if let Some(value) = simulation.end_read() {
                    return value;
                }
            }
        })
    }

    /// Writes a register.
    pub fn write(&self, address: u32, value: u32) {
        self.with(|simulation| {
            simulation.begin_write(address, value);
            loop {
                self.step(simulation);
                if simulation.end_write() {
                    break;
                }
            }
            simulation.host.touch();
            if self.shared.options.synchronous {
                let end = simulation.cycle() + INLINE;
                while !self.clocks(simulation) && simulation.cycle() < end {}
            }
        });
    }

    pub fn set_sizes(&self, max_payload: u32, max_read_request: u32) {
        self.with(|simulation| simulation.set_sizes(max_payload as u8, max_read_request as u8));
    }

    /// Performs a function-level reset.
    pub fn reset(&self) {
        self.with(|simulation| {
            simulation.function_reset();
            simulation.card.reset();
        });
    }
}

impl Shell for RtlDma {
    fn progress(&self) {
        self.notifier.notify();
    }

    fn user_irq(&self, line: usize, level: bool) {
        let bit = 1u32.checked_shl(line as u32).unwrap_or(0);
        match level {
            true => self.user_irq.fetch_or(bit, Ordering::AcqRel),
            false => self.user_irq.fetch_and(!bit, Ordering::AcqRel),
        };
        self.notifier.notify();
    }
}
