//! The image for AWS F2 (`hdl/rtl/top/cl_f2.sv`) behind a model of the shell, simulated cycle by cycle.
//!
//! The clock runs while the image has something to do. BAR0 is OCL, BAR4 is PCIS, and host memory is behind PCIM. BAR2 belongs to the
//! shell: its interrupt block turns the pulses of the image into messages.

mod metrics;
mod pcim;
mod user;

use super::card_bus::CardBus;
use super::channel::Shared;
use super::clock::{Clock, Simulation, set_level};
use super::logic::{Logic, Shell};
use super::simulated_engine::{Messages, describe};
use metrics::Event;
use pcim::{Limits, Pcim, TIMEOUT};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use user::UserRegisters;
use xdma_card_file::{CardFile, Channels};
use xdma_regs::irq;
use xdma_rtl_dma::{Bus, F2, Image};

/// The period of the clock, which has 250 MHz.
const NANOSECONDS: u64 = 4;
/// The number of clocks between two checks for waiting callers.
const SLICE: u64 = 50;
/// The number of clocks without activity after which the clock stops.
const IDLE: u64 = 60;
/// The maximum number of clocks for the work that a register write starts, in synchronous mode.
const INLINE: u64 = 400_000;
/// The clocks for which the shell waits for the end of a function-level reset: 4 ms.
const RESET: u64 = 1_000_000;
/// The clocks from a pulse to its acknowledgement.
const ACKNOWLEDGE: u64 = 20;
/// The clocks for which the engine waits for an acknowledgement: its parameter ACK_CYCLES.
const PATIENCE: u64 = 1 << 20;
/// The address of the interrupt block's enable mask.
const ENABLE: u32 = 0x2000 + irq::USER_ENABLE;
/// Bytes of a beat of PCIS.
const BEAT: usize = 64;
/// The ID of the host's accesses through PCIS.
const HOST_ID: u8 = 0x20;

/// Returns the image with the design that the logic names, or with the logic behind it.
fn image(card: &CardFile, logic: &dyn Logic) -> Image {
    match card.channels {
        _ if logic.is_in_image() => Image::Full,
        #[cfg(feature = "rtl-f2-shapes")]
        Channels { h2c: 4, c2h: 4, .. } => Image::WideBridge,
        Channels { .. } => Image::Bridge,
    }
}

/// Replaces the parts of a card's description that the image determines.
pub(super) fn describe_image(card: CardFile, logic: &dyn Logic) -> CardFile {
    let channels = image(&card, logic).channels();
    describe(card, [channels; 2])
}

/// The image between its buses.
struct Simulated {
    image: F2,
    pcim: Pcim,
    /// The logic behind an image without the design.
    card: Option<CardBus>,
    user: UserRegisters,
    user_irq: Arc<AtomicU32>,
    messages: Messages,
    /// The lines to acknowledge, each with the clock at which to do so.
    acknowledge: Vec<(u64, u16)>,
    /// The clock at which the engine no longer waits for an acknowledgement.
    patience_ends: u64,
    /// Whether an access to OCL timed out. The shell then ends all further ones itself until an image is loaded (aws-fpga, "How To Detect
    /// Shell Timeout", which says that ports may recover after 4 ms, but does not promise it).
    ocl_dead: bool,
    /// The same for PCIS.
    pcis_dead: bool,
    shared: Arc<Shared>,
}

impl Simulated {
    fn new(shared: &Arc<Shared>, image: Image, user_irq: Arc<AtomicU32>) -> Self {
        let shell = shared.options.card.shell;
        let limits = Limits {
            reads: shell.outstanding_reads.or(32) as usize,
            one_read_per_id: shell.one_read_per_id.or(false),
        };
        Self {
            image: F2::new(image),
            pcim: Pcim::new(shared, limits),
            card: (image != Image::Full).then(|| CardBus::new(shared)),
            user: UserRegisters::default(),
            user_irq,
            messages: Messages::new(shared),
            acknowledge: vec![],
            patience_ends: 0,
            ocl_dead: false,
            pcis_dead: false,
            shared: Arc::clone(shared),
        }
    }

    fn step(&mut self) {
        let now = self.image.cycle();
        let ports = &mut self.image.ports;
        self.pcim.drive(&mut ports.pcim);
        if let Some(card) = &mut self.card {
            card.drive(&mut ports.design);
            self.user.drive(&mut ports.user);
            ports.design_irq = self.user_irq.load(Ordering::Acquire) as u16;
        }
        ports.irq_ack = 0;
        self.acknowledge.retain(|&(at, line)| {
            ports.irq_ack |= if at <= now { line } else { 0 };
            at > now
        });
        self.image.step();
        let ports = &mut self.image.ports;
        self.pcim.take(&ports.pcim);
        if let Some(card) = &mut self.card {
            card.take(&ports.design);
            self.user.take(&mut ports.user, &self.shared);
        }
        let lines = ports.irq_req;
        for line in (0..16).filter(|line| lines >> line & 1 != 0) {
            if !self.messages.is_lost(line) {
                self.shared.irq.send(line);
            }
            let masked = self.shared.irq.block_read(ENABLE) >> line & 1 == 0;
            // Without an acknowledgement, the engine waits for it.
            match !masked || self.shared.options.card.shell.ack_masked.or(false) {
                true => self.acknowledge.push((now + ACKNOWLEDGE, 1 << line)),
                false => self.patience_ends = now + PATIENCE,
            }
        }
    }

    /// Runs the clock until `done` returns a value. Returns `None` if it does not within this number of clocks.
    fn until<R>(&mut self, clocks: u64, mut done: impl FnMut(&mut F2) -> Option<R>) -> Option<R> {
        (0..clocks).find_map(|_| {
            self.step();
            done(&mut self.image)
        })
    }

    fn ocl_read(&mut self, address: u32) -> u32 {
        if !self.ocl_dead {
            self.image.ports.ocl.begin_read(address);
            if let Some(value) = self.until(TIMEOUT, |image| image.ports.ocl.end_read()) {
                return value;
            }
        }
        self.ocl_timeout(address, false);
        u32::MAX
    }

    fn ocl_write(&mut self, address: u32, value: u32, strobes: u8) {
        self.messages.register_written(address, value);
        if !self.ocl_dead {
            self.image.ports.ocl.begin_write(address, value, strobes);
            if self.until(TIMEOUT, |image| image.ports.ocl.end_write().then_some(())).is_some() {
                return;
            }
        }
        self.ocl_timeout(address, true);
    }

    fn ocl_timeout(&mut self, address: u32, write: bool) {
        self.pcim.metrics.timed_out(Event::OclTimeout, address.into(), write);
        self.ocl_dead = true;
        let ocl = &mut self.image.ports.ocl;
        (ocl.awvalid, ocl.wvalid, ocl.arvalid) = (0, 0, 0);
    }

    /// Reads a piece of BAR4 that does not cross 4 KiB.
    fn pcis_read(&mut self, address: u64, data: &mut [u8]) {
        let first = address as usize % BEAT;
        let beats = (first + data.len()).div_ceil(BEAT);
        let mut bytes = Vec::with_capacity(beats * BEAT);
        let pcis = &mut self.image.ports.pcis;
        (pcis.arid, pcis.araddr, pcis.arlen, pcis.arsize, pcis.arburst) =
            (HOST_ID, address, (beats - 1) as u8, 6, 1);
        (pcis.arvalid, pcis.rready) = (u8::from(!self.pcis_dead), 1);
        let done = match self.pcis_dead {
            true => None,
            false => self.until(TIMEOUT, |image| {
                let pcis = &mut image.ports.pcis;
                pcis.arvalid &= !pcis.arready;
                if pcis.rvalid != 0 {
                    bytes.extend_from_slice(&pcis.rdata);
                }
                // An error response does not reach the host.
                (pcis.rvalid & pcis.rlast != 0).then_some(())
            }),
        };
        self.image.ports.pcis.rready = 0;
        match done {
            Some(()) => data.copy_from_slice(&bytes[first..first + data.len()]),
            None => {
                self.pcis_timeout(address, false);
                data.fill(0xff);
            }
        }
    }

    /// Writes a piece of BAR4 that does not cross 4 KiB.
    fn pcis_write(&mut self, address: u64, data: &[u8]) {
        if self.pcis_dead {
            return self.pcis_timeout(address, true);
        }
        let first = address as usize % BEAT;
        let beats = (first + data.len()).div_ceil(BEAT);
        let mut lanes = vec![0; beats * BEAT];
        lanes[first..first + data.len()].copy_from_slice(data);
        let strobes = |beat: usize| {
            let from = first.saturating_sub(beat * BEAT);
            let to = (first + data.len() - beat * BEAT).min(BEAT);
            (u64::MAX >> (BEAT - (to - from))) << from
        };
        let mut beat = 0;
        let offer = |image: &mut F2, beat: usize| {
            let pcis = &mut image.ports.pcis;
            pcis.wvalid = u8::from(beat < beats);
            if beat < beats {
                pcis.wdata.copy_from_slice(&lanes[beat * BEAT..(beat + 1) * BEAT]);
                (pcis.wstrb, pcis.wlast) = (strobes(beat), u8::from(beat + 1 == beats));
            }
        };
        let pcis = &mut self.image.ports.pcis;
        (pcis.awid, pcis.awaddr, pcis.awlen, pcis.awsize, pcis.awburst) =
            (HOST_ID, address, (beats - 1) as u8, 6, 1);
        (pcis.awvalid, pcis.bready) = (1, 1);
        offer(&mut self.image, beat);
        let done = self.until(TIMEOUT, |image| {
            let pcis = &mut image.ports.pcis;
            pcis.awvalid &= !pcis.awready;
            let answered = pcis.bvalid != 0;
            if pcis.wvalid & pcis.wready != 0 {
                beat += 1;
                offer(image, beat);
            }
            answered.then_some(())
        });
        self.image.ports.pcis.bready = 0;
        if done.is_none() {
            self.pcis_timeout(address, true);
        }
    }

    fn pcis_timeout(&mut self, address: u64, write: bool) {
        self.pcim.metrics.timed_out(Event::PcisTimeout, address, write);
        self.pcis_dead = true;
        let pcis = &mut self.image.ports.pcis;
        (pcis.awvalid, pcis.wvalid, pcis.arvalid) = (0, 0, 0);
    }

    /// Performs a function-level reset.
    fn function_reset(&mut self) {
        self.image.ports.flr = 1;
        if self.until(RESET, |image| (image.ports.flr_done != 0).then_some(())).is_none() {
            tracing::error!("the image did not finish a function-level reset within 4 ms");
        }
        self.image.ports.flr = 0;
        if let Some(card) = &mut self.card {
            card.reset();
        }
        self.user.reset();
        self.messages.reset();
        self.acknowledge.clear();
        // The design is in reset for a clock.
        self.until::<()>(4, |_| None);
    }
}

impl Simulation for Simulated {
    fn slice(&mut self) -> bool {
        if let Some(card) = &mut self.card {
            card.retry();
        }
        for _ in 0..SLICE {
            self.step();
        }
        let card = self.card.as_ref().map_or(0, CardBus::last_activity);
        let last = self.pcim.last_activity().max(card).max(self.patience_ends);
        self.image.ports.busy == 0 && self.acknowledge.is_empty() && self.image.cycle() > last + IDLE
    }

    fn wake(&self) -> Option<Instant> {
        self.card.as_ref()?.wake()
    }
}

/// The simulated image.
pub(super) struct F2Image {
    clock: Clock<Simulated>,
    /// The levels of the logic's interrupt requests.
    user_irq: Arc<AtomicU32>,
    synchronous: bool,
}

impl F2Image {
    /// Creates the image of a card whose description [`describe_image`] has completed.
    pub fn new(shared: &Arc<Shared>) -> Self {
        let image = image(&shared.options.card, &*shared.logic);
        let user_irq = Arc::<AtomicU32>::default();
        let simulated = Simulated::new(shared, image, Arc::clone(&user_irq));
        Self { clock: Clock::new(simulated), user_irq, synchronous: shared.options.synchronous }
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
            simulated.pcim.touch();
            result
        })
    }

    /// Reads a word of BAR0.
    pub fn read(&self, address: u32) -> u32 {
        self.with(|simulated| simulated.ocl_read(address))
    }

    /// Writes the bytes of a word of BAR0 that `strobes` selects.
    pub fn write(&self, address: u32, value: u32, strobes: u8) {
        self.with(|simulated| {
            simulated.ocl_write(address, value, strobes);
            simulated.pcim.touch();
            if self.synchronous {
                let end = simulated.image.cycle() + INLINE;
                while !simulated.slice() && simulated.image.cycle() < end {}
            }
        });
    }

    /// Reads a piece of BAR4 that does not cross 4 KiB.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) {
        self.with(|simulated| simulated.pcis_read(address, data));
    }

    /// Writes a piece of BAR4 that does not cross 4 KiB.
    pub fn memory_write(&self, address: u64, data: &[u8]) {
        self.with(|simulated| simulated.pcis_write(address, data));
    }

    /// Sets the sizes from DevCtl, in its encoding.
    pub fn set_sizes(&self, max_payload: u32, max_read_request: u32) {
        self.with(|simulated| {
            let reported = simulated.shared.options.card.shell.reported_payload.known();
            let max_payload = reported.map_or(max_payload, |bytes| bytes.ilog2() - 7);
            let ports = &mut simulated.image.ports;
            // The shell's signals cannot express more than 1,024 bytes.
            (ports.max_payload, ports.max_read_request) =
                (max_payload.min(3) as u8, max_read_request.min(3) as u8);
        });
    }

    /// Performs a function-level reset.
    pub fn reset(&self) {
        self.with(Simulated::function_reset);
    }

    /// Kills the PCIM port.
    pub fn kill_pcim(&self) {
        self.clock.with(|simulated| simulated.pcim.kill());
    }

    /// Makes some requests of PCIM take up to `longest` longer, in the time of the simulated clock.
    pub fn set_pcim_spikes(&self, longest: Duration) {
        self.clock.with(|simulated| simulated.pcim.longest_spike = longest.as_nanos() as u64 / NANOSECONDS);
    }

    /// Makes the logic behind the image no longer answer accesses to its registers.
    pub fn hang_user_registers(&self) {
        self.clock.with(|simulated| simulated.user.hang());
    }

    /// Returns the shell's metrics, by the names that AWS's tool prints.
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.clock.with(|simulated| simulated.pcim.metrics.by_name())
    }
}

impl Shell for F2Image {
    fn progress(&self) {
        self.clock.notify();
    }

    fn user_irq(&self, line: usize, level: bool) {
        set_level(&self.user_irq, line, level);
        self.clock.notify();
    }
}
