//! The MSM design in SystemVerilog, simulated cycle by cycle.
//!
//! A clock runs only while the design has something to do: a task, or a write that waits. What it counts are cycles, whatever this
//! machine is doing; but how many pass between two calls of a driver depends on the threads of both.
//!
//! A call is one AXI burst, and is answered when its B or its last R came. So each channel has one burst under way, and several only
//! together; [`xdma_rtl::Master`] itself can have 32.

pub use xdma_rtl::Variant;

use super::{Answer, Burst, Logic, Shell};
use crate::emulator::log::lock;
use crate::regs::msm::PENDING_TASKS;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use vm_memory::VolatileSlice;
use xdma_rtl::{Master, Response, WriteTag};

/// Most cycles that a call lasts, and those that the clock runs between two looks at who else wants the design.
const SLICE: u64 = 5_000;

/// The design as custom logic. Its registers answer in every user BAR.
pub struct Rtl {
    shared: Arc<Shared>,
    clock: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// There is something to do for the clock.
    work: Condvar,
    /// Calls that want the design.
    callers: AtomicUsize,
    shell: OnceLock<Arc<dyn Shell>>,
}

struct Inner {
    master: Master,
    /// The write that each channel waits for.
    waiting: HashMap<usize, Waiting>,
    /// The interrupt as the shell knows it.
    line: bool,
    stop: bool,
}

struct Waiting {
    address: u64,
    len: usize,
    tag: WriteTag,
    /// It was answered, and the shell was told.
    answer: Option<Response>,
}

impl Rtl {
    /// The design after its reset.
    ///
    /// # Panics
    /// If the operating system gives no thread, as [`std::thread::spawn`].
    pub fn new(variant: Variant) -> Self {
        let inner = Inner { master: Master::new(variant), waiting: HashMap::new(), line: false, stop: false };
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

    /// Writes an FST trace from now on; `false` without the feature `rtl-trace`, or if the file cannot be written.
    pub fn trace(&self, path: &Path) -> bool {
        self.shared.call(|inner| inner.master.model().trace(path))
    }

    /// Cycles since the last reset.
    pub fn cycles(&self) -> u64 {
        self.shared.call(|inner| inner.master.cycles())
    }
}

impl Drop for Rtl {
    fn drop(&mut self) {
        self.shared.call(|inner| inner.stop = true);
        if let Some(clock) = self.clock.take() {
            // A thread that panicked has said so itself.
            let _ = clock.join();
        }
    }
}

impl Shared {
    /// Lets a call at the design; what follows from it is left to the clock.
    fn call<T>(&self, what: impl FnOnce(&mut Inner) -> T) -> T {
        self.callers.fetch_add(1, Ordering::Relaxed);
        let mut inner = lock(&self.inner);
        self.callers.fetch_sub(1, Ordering::Relaxed);
        let value = what(&mut inner);
        drop(inner);
        self.work.notify_all();
        value
    }

    /// The clock: cycles while there is something to do, and all calls of the shell.
    fn run(&self) {
        let mut inner = lock(&self.inner);
        while !inner.stop {
            let busy = inner.is_busy();
            let (progress, level) = inner.events(if busy { SLICE } else { 0 }, &self.callers);
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

    /// A mutex is not fair: whoever holds it long must stand back.
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

    /// Up to `cycles`, until there is something to tell or somebody calls: whether a write was answered that its channel was told to
    /// wait for, and the interrupt's level if it changed.
    fn events(&mut self, cycles: u64, callers: &AtomicUsize) -> (bool, Option<bool>) {
        let end = self.master.cycles() + cycles;
        loop {
            let mut progress = false;
            for waiting in self.waiting.values_mut().filter(|waiting| waiting.answer.is_none()) {
                waiting.answer = self.master.written(waiting.tag);
                progress |= waiting.answer.is_some();
            }
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

    fn write(&mut self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer {
        let len = data.len();
        let waiting = match self.waiting.remove(&channel) {
            Some(waiting) if (waiting.address, waiting.len) == (address, len) => waiting,
            gone => {
                // The engine gave the last one up; on the bus it stays.
                if let Some(gone) = gone {
                    self.master.forget(gone.tag);
                }
                let mut bytes = vec![0; len];
                data.copy_to(&mut bytes[..]);
                let tag = self.master.write(channel as u8, address, axi(burst), &bytes);
                Waiting { address, len, tag, answer: None }
            }
        };
        let end = self.master.cycles() + SLICE;
        let mut answer = waiting.answer.or_else(|| self.master.written(waiting.tag));
        while answer.is_none() && self.master.cycles() < end {
            self.master.run(end - self.master.cycles());
            answer = self.master.written(waiting.tag);
        }
        match answer {
            Some(response) => answered(response, len),
            None => {
                self.waiting.insert(channel, waiting);
                Answer::Wait
            }
        }
    }

    fn read(&mut self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer {
        let tag = self.master.read(channel as u8, address, axi(burst), data.len());
        let (response, bytes) = loop {
            if let Some(done) = self.master.read_done(tag) {
                break done;
            }
            // The design's reads wait for nothing.
            self.master.run(SLICE);
        };
        data.copy_from(&bytes[..]);
        answered(response, data.len())
    }
}

fn axi(burst: Burst) -> xdma_rtl::Burst {
    match burst {
        Burst::Increment => xdma_rtl::Burst::Increment,
        Burst::Fixed => xdma_rtl::Burst::Fixed,
    }
}

fn answered(response: Response, len: usize) -> Answer {
    match response {
        Response::Okay => Answer::Okay(len),
        Response::SlaveError => Answer::SlaveError,
        Response::DecodeError => Answer::DecodeError,
    }
}

impl Logic for Rtl {
    fn attach(&self, shell: Arc<dyn Shell>) {
        // A second shell is not in the contract; the first stays.
        let _ = self.shared.shell.set(shell);
    }

    fn write(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer {
        self.shared.call(|inner| inner.write(channel, address, burst, data))
    }

    fn read(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer {
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

    fn reset(&self) {
        self.shared.call(|inner| {
            inner.master.reset();
            inner.waiting.clear();
        });
    }
}
