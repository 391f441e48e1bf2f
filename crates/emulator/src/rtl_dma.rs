//! The DMA engine of `hdl/rtl/dma` in place of the model of the XDMA core, simulated cycle by cycle.
//!
//! The clock runs while the engine has something to do. Host memory answers at once. The custom logic answers when it does; each
//! channel waits for it on its own. Faults are injected into the buses and the messages.

mod host;

use super::card_bus::CardBus;
use super::channel::Shared;
use super::clock::{Clock, Simulation, set_level};
use super::logic::Shell;
use super::simulated_engine::Messages;
use host::HostBus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use xdma_card_file::Interface;
use xdma_rtl_dma::Engine;

/// The number of clocks between two checks for waiting callers.
const SLICE: u64 = 50;
/// The number of clocks without activity after which the clock stops.
const IDLE: u64 = 60;
/// The maximum number of clocks for the work that a register write starts, in synchronous mode.
const INLINE: u64 = 400_000;

/// The engine between its buses.
struct Simulated {
    engine: Engine<HostBus, CardBus>,
    user_irq: Arc<AtomicU32>,
    messages: Messages,
    shared: Arc<Shared>,
}

impl Simulated {
    fn step(&mut self) {
        self.engine.set_user_irq(self.user_irq.load(Ordering::Acquire) as u16);
        self.engine.step();
        let lines = self.engine.interrupts();
        for line in (0..16).filter(|line| lines >> line & 1 != 0) {
            if !self.messages.is_lost(line) {
                self.shared.irq.send(line);
            }
        }
    }
}

impl Simulation for Simulated {
    fn slice(&mut self) -> bool {
        self.engine.card.retry();
        for _ in 0..SLICE {
            self.step();
        }
        let last = self.engine.host.last_activity().max(self.engine.card.last_activity());
        self.engine.cycle() > last + IDLE
    }

    fn wake(&self) -> Option<Instant> {
        self.engine.card.wake()
    }
}

/// The simulated engine.
pub(super) struct RtlDma {
    clock: Clock<Simulated>,
    /// The levels of the user interrupt requests.
    user_irq: Arc<AtomicU32>,
    synchronous: bool,
}

impl RtlDma {
    /// Returns `None` if there is no model with the card's channels.
    pub fn new(shared: &Arc<Shared>) -> Option<Self> {
        let user_irq = Arc::<AtomicU32>::default();
        let channels = shared.options.card.channels;
        if channels.interface != Interface::MemoryMapped {
            return None;
        }
        let counts = [channels.h2c, channels.c2h];
        let simulated = Simulated {
            engine: Engine::with_channels(counts, HostBus::new(shared), CardBus::new(shared), 2)?,
            user_irq: Arc::clone(&user_irq),
            messages: Messages::new(shared),
            shared: Arc::clone(shared),
        };
        Some(Self { clock: Clock::new(simulated), user_irq, synchronous: shared.options.synchronous })
    }

    /// Runs the clock's thread.
    pub fn run(&self) {
        self.clock.run();
    }

    pub fn quit(&self) {
        self.clock.quit();
    }

    /// Calls `f` with the simulation, before the clock's thread continues.
    fn with<R>(&self, f: impl FnOnce(&mut Simulated) -> R) -> R {
        self.clock.with(|simulated| {
            let result = f(simulated);
            simulated.engine.host.touch();
            result
        })
    }

    /// Reads a register.
    pub fn read(&self, address: u32) -> u32 {
        self.with(|simulated| {
            simulated.engine.begin_read(address);
            loop {
                simulated.step();
                if let Some(value) = simulated.engine.end_read() {
                    return value;
                }
            }
        })
    }

    /// Writes the bytes of a register that `strobes` selects.
    pub fn write(&self, address: u32, value: u32, strobes: u8) {
        self.with(|simulated| {
            simulated.messages.register_written(address, value);
            simulated.engine.begin_write(address, value, strobes);
            loop {
                simulated.step();
                if simulated.engine.end_write() {
                    break;
                }
            }
            simulated.engine.host.touch();
            if self.synchronous {
                let end = simulated.engine.cycle() + INLINE;
                while !simulated.slice() && simulated.engine.cycle() < end {}
            }
        });
    }

    pub fn set_sizes(&self, max_payload: u32, max_read_request: u32) {
        self.with(|simulated| simulated.engine.set_sizes(max_payload as u8, max_read_request as u8));
    }

    /// Performs a function-level reset.
    pub fn reset(&self) {
        self.with(|simulated| {
            simulated.engine.function_reset();
            simulated.messages.reset();
            simulated.engine.card.reset();
        });
    }
}

impl Shell for RtlDma {
    fn progress(&self) {
        self.clock.notify();
    }

    fn user_irq(&self, line: usize, level: bool) {
        set_level(&self.user_irq, line, level);
        self.clock.notify();
    }
}
