//! The simulated engine.

use crate::{Bus, Memory, Ports, Transfer};
use std::ffi::c_void;
use std::ptr::NonNull;

/// The C interface of a model.
#[derive(Clone, Copy)]
struct Model {
    new: unsafe extern "C" fn() -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    step: unsafe extern "C" fn(*mut c_void, *mut Ports),
}

macro_rules! model {
    ($new:ident, $free:ident, $step:ident) => {{
        unsafe extern "C" {
            fn $new() -> *mut c_void;
            fn $free(engine: *mut c_void);
            fn $step(engine: *mut c_void, ports: *mut Ports);
        }
        Model { new: $new, free: $free, step: $step }
    }};
}

/// Returns the model with these numbers of channels.
fn model(h2c: usize, c2h: usize) -> Option<Model> {
    match (h2c, c2h) {
        (4, 4) => Some(model!(dma_engine_4_4_new, dma_engine_4_4_free, dma_engine_4_4_step)),
        #[cfg(feature = "shapes")]
        (1, 1) => Some(model!(dma_engine_1_1_new, dma_engine_1_1_free, dma_engine_1_1_step)),
        #[cfg(feature = "shapes")]
        (1, 3) => Some(model!(dma_engine_1_3_new, dma_engine_1_3_free, dma_engine_1_3_step)),
        #[cfg(feature = "shapes")]
        (3, 1) => Some(model!(dma_engine_3_1_new, dma_engine_3_1_free, dma_engine_3_1_step)),
        _ => None,
    }
}

/// The number of channels in each direction that [`Engine::new`] creates.
const CHANNELS: u8 = 4;
/// The number of clocks after which a wait fails.
const PATIENCE: u64 = 10_000_000;

/// The engine between two buses.
pub struct Engine<H = Memory, C = Memory> {
    model: Model,
    raw: NonNull<c_void>,
    ports: Ports,
    cycle: u64,
    /// The host's side.
    pub host: H,
    /// The card's side.
    pub card: C,
}

// SAFETY: an engine is not tied to the thread that created it, and only one thread uses it at a time.
unsafe impl<H: Send, C: Send> Send for Engine<H, C> {}

impl<H: Bus, C: Bus> Engine<H, C> {
    /// Creates and resets the engine with four channels in each direction. `max_read_request` is encoded as in DevCtl.
    pub fn new(host: H, card: C, max_read_request: u8) -> Self {
        Self::with_channels([CHANNELS.into(); 2], host, card, max_read_request)
            .expect("this model is always built")
    }

    /// Creates and resets the engine with these numbers of H2C and C2H channels. Returns `None` if there is no such model. With
    /// the feature `shapes`, there are models for 4 + 4, 1 + 1, 1 + 3 and 3 + 1.
    pub fn with_channels([h2c, c2h]: [usize; 2], host: H, card: C, max_read_request: u8) -> Option<Self> {
        let model = model(h2c, c2h)?;
        // SAFETY: `new` has no preconditions; it returns the pointer that the other functions of the model expect.
        let raw = NonNull::new(unsafe { (model.new)() }).expect("C++'s `new` does not return null");
        let ports = Ports { max_read_request, max_payload: 1, ..Ports::default() };
        let mut engine = Self { model, raw, ports, cycle: 0, host, card };
        for _ in 0..8 {
            engine.clock();
        }
        engine.ports.rst_n = 1;
        engine.step();
        Some(engine)
    }

    /// Returns the number of clocks run.
    pub fn cycle(&self) -> u64 {
        self.cycle
    }

    fn clock(&mut self) {
        // SAFETY: the engine is alive, and `Ports` is laid out as in `ports.h`.
        unsafe { (self.model.step)(self.raw.as_ptr(), &mut self.ports) };
    }

    /// Runs one clock.
    pub fn step(&mut self) {
        self.host.drive(&mut self.ports.host);
        self.card.drive(&mut self.ports.card);
        self.clock();
        self.host.take(&self.ports.host);
        self.card.take(&self.ports.card);
        self.ports.irq_ack = self.ports.irq_req;
        self.cycle += 1;
    }

    /// Returns the interrupt lines that were pulsed at the last edge. All are acknowledged at the next one.
    pub fn interrupts(&self) -> u16 {
        self.ports.irq_req
    }

    /// Sets the levels of the user interrupt requests.
    pub fn set_user_irq(&mut self, levels: u16) {
        self.ports.user_irq = levels;
    }

    /// Sets the sizes from DevCtl, encoded as there.
    pub fn set_sizes(&mut self, max_payload: u8, max_read_request: u8) {
        (self.ports.max_payload, self.ports.max_read_request) = (max_payload & 3, max_read_request & 7);
    }

    /// Performs a function-level reset.
    pub fn function_reset(&mut self) {
        self.ports.flr = 1;
        self.until(|engine| engine.ports.flr_done != 0);
        self.ports.flr = 0;
        self.step();
    }

    /// Begins to read a register. Run clocks until [`Engine::end_read`] returns its value.
    pub fn begin_read(&mut self, address: u32) {
        self.ports.lite.begin_read(address);
    }

    /// Returns the value of the register, if the last clock returned it. Call this after each clock.
    pub fn end_read(&mut self) -> Option<u32> {
        self.ports.lite.end_read()
    }

    /// Begins to write the bytes of a register that `strobes` selects. Run clocks until [`Engine::end_write`] returns true.
    pub fn begin_write(&mut self, address: u32, value: u32, strobes: u8) {
        self.ports.lite.begin_write(address, value, strobes);
    }

    /// Returns whether the last clock completed the write. Call this after each clock.
    pub fn end_write(&mut self) -> bool {
        self.ports.lite.end_write()
    }

    /// Reads a register.
    pub fn read(&mut self, address: u32) -> u32 {
        self.begin_read(address);
        loop {
            self.step();
            if let Some(value) = self.end_read() {
                return value;
            }
        }
    }

    /// Writes a register.
    pub fn write(&mut self, address: u32, value: u32) {
        self.begin_write(address, value, 0xf);
        loop {
            self.step();
            if self.end_write() {
                return;
            }
        }
    }

    /// Runs until `done` returns true.
    ///
    /// # Panics
    ///
    /// If that takes ten million clocks.
    pub fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.cycle + PATIENCE;
        while !done(self) {
            assert!(self.cycle < end, "the engine hangs");
            self.step();
        }
    }

    /// Returns the status and the completed count of a channel, after it is idle.
    pub fn outcome(&mut self, to_card: bool, index: u32) -> (u32, u32) {
        let base = base(to_card, index);
        self.until(|engine| engine.read(base + 0x40) & 1 == 0);
        (self.read(base + 0x44), self.read(base + 0x48))
    }
}

impl Engine {
    /// Creates memory of the host, in which the IDs of payload come first.
    pub fn host_memory(latency: u64, reads: usize) -> Memory {
        Memory::new(latency, reads, CHANNELS)
    }

    /// Creates memory of the card.
    pub fn card_memory(latency: u64) -> Memory {
        Memory::new(latency, usize::MAX, CHANNELS)
    }

    /// Writes a list of descriptors at host address `list`, which must be a multiple of 4 KiB, in adjacent blocks of 64. The last
    /// descriptor has Stop and Completed. Returns the adjacent count for the start register.
    pub fn lay(&mut self, to_card: bool, list: u64, transfers: &[Transfer]) -> u32 {
        let (bytes, adjacent) = crate::list(to_card, list, transfers);
        self.host.poke(list, &bytes);
        adjacent
    }

    /// Prepares channel `index` to run the list at `list`, with a write-back to `word`. [`Engine::ring`] starts it.
    pub fn prepare(&mut self, to_card: bool, index: u32, list: u64, adjacent: u32, word: u64) {
        let base = base(to_card, index);
        self.write(base + 0x04, 0);
        for (offset, value) in [(0x88, word), (0x4080, list)] {
            self.write(base + offset, value as u32);
            self.write(base + offset + 4, (value >> 32) as u32);
        }
        self.write(base + 0x4088, adjacent);
    }

    /// Sets Run, with all errors logged and write-back on.
    pub fn ring(&mut self, to_card: bool, index: u32) {
        let logged = if to_card { 0x00ff_fe7e } else { 0x00f8_3e7e };
        self.write(base(to_card, index) + 0x04, 0x0400_0001 | logged);
    }
}

fn base(to_card: bool, index: u32) -> u32 {
    (if to_card { 0 } else { 0x1000 }) + 0x100 * index
}

impl<H, C> Drop for Engine<H, C> {
    fn drop(&mut self) {
        // SAFETY: the engine is alive, and nothing uses it afterwards.
        unsafe { (self.model.free)(self.raw.as_ptr()) };
    }
}
