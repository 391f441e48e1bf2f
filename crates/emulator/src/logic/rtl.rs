//! Cycle-accurate simulation of the MSM design in SystemVerilog.
//!
//! The clock runs only while the design has work: a task, or an outstanding write. The design counts exact cycles, independent of
//! the speed of the host. How many cycles pass between two calls of a driver, however, depends on thread scheduling.
//!
//! Each call is one AXI burst. A write is accepted immediately and is then transferred beat by beat, with the channel as its ID;
//! its B response is reported when it arrives. Up to [`OUTSTANDING`] writes, from one or more channels, can be outstanding; they
//! complete in order. A read is answered after its last R beat.

pub use xdma_rtl::Variant;

use super::{AxiResponse, Burst, Logic, Shell};
use crate::log::lock;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use vm_memory::VolatileSlice;
use xdma_regs::msm::PENDING_TASKS;
use xdma_rtl::{Master, OUTSTANDING, Response, WriteTag};

/// The maximum number of cycles per call, and between two checks for waiting callers.
const SLICE: u64 = 5_000;

/// The simulated design as custom logic. Its registers are accessible in every user BAR.
pub struct Rtl {
    shared: Arc<Shared>,
    clock: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// Signals the clock thread that there is work.
    work: Condvar,
    /// The number of callers that wait for the design.
    callers: AtomicUsize,
    shell: OnceLock<Arc<dyn Shell>>,
}

struct Inner {
    master: Master,
    /// The writes of each channel whose responses have not been collected.
    accepted: HashMap<usize, VecDeque<WriteTag>>,
    /// The writes without a B response at the last check by the clock thread, plus those accepted since.
    open: usize,
    /// Whether a caller waits for a B response.
    awaited: bool,
    /// The interrupt level last reported to the shell.
    line: bool,
    stop: bool,
}

impl Rtl {
    /// Creates the design in its reset state.
    ///
    /// # Panics
    /// Panics if no thread can be created, like [`std::thread::spawn`].
    pub fn new(variant: Variant) -> Self {
        let inner = Inner {
            master: Master::new(variant),
            accepted: HashMap::new(),
            open: 0,
            awaited: false,
            line: false,
            stop: false,
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            work: Condvar::new(),
            callers: AtomicUsize::new(0),
            shell: OnceLock::new(),
        });
        let clock = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        });
        Self { shared, clock: Some(clock) }
    }

    /// Starts an FST trace of the modules down to `levels` below the top (a `generate` block counts as a level), or of all
    /// modules if `levels` is 0. Returns `false` without the feature `rtl-trace`, or if the file cannot be written.
    pub fn trace(&self, path: &Path, levels: u8) -> bool {
        self.shared.call(|inner| inner.master.model().trace(path, levels))
    }

    /// Returns the maximum number of writes that were ever outstanding at the same time, from the address to the B response. At
    /// most [`OUTSTANDING`].
    pub fn most_outstanding(&self) -> usize {
        self.shared.call(|inner| inner.master.most_outstanding())
    }

    /// Returns the cycles since the last reset.
    pub fn cycles(&self) -> u64 {
        self.shared.call(|inner| inner.master.cycles())
    }
}

impl Drop for Rtl {
    fn drop(&mut self) {
        self.shared.call(|inner| inner.stop = true);
        if let Some(clock) = self.clock.take() {
            // A panic has already been reported by its thread.
            let _ = clock.join();
        }
    }
}

impl Shared {
    /// Runs `what` on the design, and wakes the clock thread.
    fn call<T>(&self, what: impl FnOnce(&mut Inner) -> T) -> T {
        self.callers.fetch_add(1, Ordering::Relaxed);
        let mut inner = lock(&self.inner);
        self.callers.fetch_sub(1, Ordering::Relaxed);
        let value = what(&mut inner);
        drop(inner);
        self.work.notify_all();
        value
    }

    /// Runs the clock thread: simulates cycles while there is work, and makes all calls to the shell.
    fn run(&self) {
        let mut inner = lock(&self.inner);
        while !inner.stop {
            let busy = inner.is_busy();
            let (progress, level) = inner.run_until_event(if busy { SLICE } else { 0 }, &self.callers);
            if progress || level.is_some() {
                drop(inner);
                if let Some(shell) = self.shell.get() {
                    if progress {
                        shell.progress();
                    }
                    level.into_iter().for_each(|level| shell.user_irq(0, level));
                }
                inner = lock(&self.inner);
            } else if busy {
                inner = self.yield_to_callers(inner);
            } else {
                inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Mutexes are not fair, so the clock thread, which holds the lock for long, has to yield explicitly.
    fn yield_to_callers<'a>(&'a self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        if self.callers.load(Ordering::Relaxed) == 0 {
            return inner;
        }
        drop(inner);
        while self.callers.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        lock(&self.inner)
    }
}

impl Inner {
    fn is_busy(&mut self) -> bool {
        self.master.writes_open() > 0 || self.master.register(PENDING_TASKS) > 0
    }

    /// Runs up to `cycles` cycles, but stops at the first event or waiting caller. Returns whether an awaited B response has
    /// arrived, and the new interrupt level if it changed.
    fn run_until_event(&mut self, cycles: u64, callers: &AtomicUsize) -> (bool, Option<bool>) {
        let end = self.master.cycles() + cycles;
        loop {
            let open = self.master.writes_open();
            let progress = self.awaited && open < self.open;
            self.open = open;
            self.awaited &= !progress;
            let level = self.master.irq();
            let changed = (level != self.line).then_some(level);
            self.line = level;
            let now = self.master.cycles();
            if progress || changed.is_some() || now >= end || callers.load(Ordering::Relaxed) > 0 {
                return (progress, changed);
            }
            self.master.run(end - now);
        }
    }

    fn write(&mut self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        if self.master.writes_open() >= OUTSTANDING {
            self.awaited = true;
            return AxiResponse::Wait;
        }
        let mut bytes = vec![0; data.len()];
        data.copy_to(&mut bytes[..]);
        let tag = self.master.write(channel as u8, address, axi(burst), &bytes);
        self.accepted.entry(channel).or_default().push_back(tag);
        self.open += 1;
        AxiResponse::Accepted
    }

    fn response(&mut self, channel: usize) -> AxiResponse {
        let writes = self.accepted.entry(channel).or_default();
        let Some(tag) = writes.front() else { return AxiResponse::Okay(0) };
        match self.master.written(*tag) {
            Some(response) => {
                writes.pop_front();
                to_axi_response(response, 0)
            }
            None => {
                self.awaited = true;
                AxiResponse::Wait
            }
        }
    }

    /// The writes themselves stay on the bus.
    fn discard_responses(&mut self, channel: usize) {
        for tag in self.accepted.remove(&channel).into_iter().flatten() {
            self.master.forget(tag);
        }
    }

    fn read(&mut self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        let tag = self.master.read(channel as u8, address, axi(burst), data.len());
        let (response, bytes) = loop {
            if let Some(done) = self.master.read_done(tag) {
                break done;
            }
            // Reads of this design never wait.
            self.master.run(SLICE);
        };
        data.copy_from(&bytes[..]);
        to_axi_response(response, data.len())
    }
}

fn axi(burst: Burst) -> xdma_rtl::Burst {
    match burst {
        Burst::Increment => xdma_rtl::Burst::Increment,
        Burst::Fixed => xdma_rtl::Burst::Fixed,
    }
}

fn to_axi_response(response: Response, len: usize) -> AxiResponse {
    match response {
        Response::Okay => AxiResponse::Okay(len),
        Response::SlaveError => AxiResponse::SlaveError,
        Response::DecodeError => AxiResponse::DecodeError,
    }
}

impl Logic for Rtl {
    fn attach(&self, shell: Arc<dyn Shell>) {
        // The contract of [`Logic`] allows only one shell: the first stays attached.
        let _ = self.shared.shell.set(shell);
    }

    fn write(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        self.shared.call(|inner| inner.write(channel, address, burst, data))
    }

    fn response(&self, channel: usize) -> AxiResponse {
        self.shared.call(|inner| inner.response(channel))
    }

    fn discard_responses(&self, channel: usize) {
        self.shared.call(|inner| inner.discard_responses(channel));
    }

    fn read(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        self.shared.call(|inner| inner.read(channel, address, burst, data))
    }

    fn user_read(&self, _bar: usize, offset: u64) -> u32 {
        let Ok(offset) = u32::try_from(offset) else { return 0 };
        self.shared.call(|inner| inner.master.register(offset))
    }

    fn user_write(&self, _bar: usize, offset: u64, value: u32) {
        let Ok(offset) = u32::try_from(offset) else { return };
        self.shared.call(|inner| inner.master.set_register(offset, value));
    }

    /// The design ignores writes without all byte enables (`hdl/rtl/axi/axil_slave.sv`).
    fn user_write_bytes(&self, _bar: usize, _offset: u64, _value: u32, _mask: u32) {}

    fn reset(&self) {
        self.shared.call(|inner| {
            inner.master.reset();
            inner.accepted.clear();
            (inner.open, inner.awaited) = (0, false);
        });
    }
}
