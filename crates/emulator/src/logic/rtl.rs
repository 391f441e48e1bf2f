//! The MSM design in SystemVerilog, simulated cycle by cycle.
//!
//! A clock runs only while the design has something to do: a task, or a write that waits. What it counts are cycles, whatever this
//! machine is doing; but how many pass between two calls of a driver depends on the threads of both.
//!
//! A call is one AXI burst. A write is accepted at once and goes over the port beat by beat, with the channel as its ID; its B is
//! told when it came. Up to [`OUTSTANDING`] writes are under way, of one channel or of several, in order. A read is answered when its
//! last R came.

pub use xdma_rtl::Variant;

use super::{Answer, Burst, Logic, Shell};
use crate::log::lock;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use vm_memory::VolatileSlice;
use xdma_regs::msm::PENDING_TASKS;
use xdma_rtl::{Master, OUTSTANDING, Response, WriteTag};

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
    /// The writes of each channel whose response was not taken.
    accepted: HashMap<usize, VecDeque<WriteTag>>,
    /// Writes without B when the clock last looked, and those that came since.
    open: usize,
    /// Somebody was told to wait for a B.
    awaited: bool,
    /// The interrupt as the shell knows it.
    line: bool,
    stop: bool,
}

impl Rtl {
    /// The design after its reset.
    ///
    /// # Panics
    /// If the operating system gives no thread, as [`std::thread::spawn`].
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

    /// Writes an FST trace from now on, of the modules down to `levels` below the top (a block of `generate` counts as one), or of
    /// all of them for 0; `false` without the feature `rtl-trace`, or if the file cannot be written.
    pub fn trace(&self, path: &Path, levels: u8) -> bool {
        self.shared.call(|inner| inner.master.model().trace(path, levels))
    }

    /// Most writes that were ever under way at once: address taken, B to come. At most [`OUTSTANDING`].
    pub fn most_outstanding(&self) -> usize {
        self.shared.call(|inner| inner.master.most_outstanding())
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

    /// Up to `cycles`, until there is something to tell or somebody calls: whether a B came that somebody was told to wait for, and the
    /// interrupt's level if it changed.
    fn events(&mut self, cycles: u64, callers: &AtomicUsize) -> (bool, Option<bool>) {
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

    fn write(&mut self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> Answer {
        if self.master.writes_open() >= OUTSTANDING {
            self.awaited = true;
            return Answer::Wait;
        }
        let mut bytes = vec![0; data.len()];
        data.copy_to(&mut bytes[..]);
        let tag = self.master.write(channel as u8, address, axi(burst), &bytes);
        self.accepted.entry(channel).or_default().push_back(tag);
        self.open += 1;
        Answer::Accepted
    }

    fn response(&mut self, channel: usize) -> Answer {
        let writes = self.accepted.entry(channel).or_default();
        let Some(tag) = writes.front() else { return Answer::Okay(0) };
        match self.master.written(*tag) {
            Some(response) => {
                writes.pop_front();
                answered(response, 0)
            }
            None => {
                self.awaited = true;
                Answer::Wait
            }
        }
    }

    /// On the bus they stay.
    fn forget(&mut self, channel: usize) {
        for tag in self.accepted.remove(&channel).into_iter().flatten() {
            self.master.forget(tag);
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

    fn response(&self, channel: usize) -> Answer {
        self.shared.call(|inner| inner.response(channel))
    }

    fn forget(&self, channel: usize) {
        self.shared.call(|inner| inner.forget(channel));
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
            inner.accepted.clear();
            (inner.open, inner.awaited) = (0, false);
        });
    }
}
