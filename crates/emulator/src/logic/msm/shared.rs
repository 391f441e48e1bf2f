//! The lock around the state, and the two threads that use it.

use super::state::{Nanos, PairBuffer, Phase, State};
use super::{MsmModelOptions, Shell, arithmetic};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use xdma_regs::msm::{Irq, Mode, SCRATCH_SIZE};

/// Shorter waits spin, because a sleep would overshoot by about this much.
const SPIN: Duration = Duration::from_micros(100);

pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Signals the threads that there is work.
    work: Condvar,
    shell: OnceLock<Arc<dyn Shell>>,
    /// The origin of time.
    epoch: Instant,
    /// The threads of the arithmetic. Those of the global pool can all be waiting for this card's results.
    arithmetic: ThreadPool,
}

pub(super) struct Inner {
    pub(super) state: State,
    /// The memory behind the scratch window, which survives a reset.
    pub(super) scratch: Box<[u8]>,
    /// The level of the interrupt line last reported to the shell.
    line: bool,
    /// Whether the line was low since then, however briefly.
    was_low: bool,
    /// Whether to notify the shell of progress.
    progress: bool,
    /// The time at which the event thread wakes even if no event arrives.
    alarm: Option<Nanos>,
    stop: bool,
}

impl Shared {
    pub(super) fn new(options: MsmModelOptions) -> Self {
        let inner = Inner {
            state: State::new(options, 0, 0),
            scratch: vec![0; SCRATCH_SIZE as usize].into_boxed_slice(),
            line: false,
            was_low: false,
            progress: false,
            alarm: None,
            stop: false,
        };
        let arithmetic = ThreadPoolBuilder::new().thread_name(|number| format!("msm-core-{number}"));
        Self {
            inner: Mutex::new(inner),
            work: Condvar::new(),
            shell: OnceLock::new(),
            epoch: Instant::now(),
            arithmetic: arithmetic.build().expect("threads for the core"),
        }
    }

    pub(super) fn attach(&self, shell: Arc<dyn Shell>) {
        // The contract of [`Logic`](super::Logic) allows only one shell: the first stays attached.
        let _ = self.shell.set(shell);
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_all();
    }

    /// Runs `access` on the design, advanced to the present, and wakes the threads if there is work for them.
    pub(super) fn access<T>(&self, access: impl FnOnce(&mut Inner, Nanos) -> T) -> T {
        self.access_or(|_| None, access)
    }

    /// Like [`Self::access`], but tries `fast` first, which must handle only accesses that trigger nothing else and do not depend
    /// on time. Reading the clock and checking for events costs as much as accepting a burst.
    pub(super) fn access_or<T>(
        &self,
        fast: impl FnOnce(&mut Inner) -> Option<T>,
        access: impl FnOnce(&mut Inner, Nanos) -> T,
    ) -> T {
        let mut inner = self.lock();
        if let Some(value) = fast(&mut inner) {
            return value;
        }
        let now = self.time();
        inner.state.advance(now);
        let value = access(&mut inner, now);
        if inner.update_events() {
            drop(inner);
            self.work.notify_all();
        }
        value
    }

    /// Returns the present. Called with the lock held, so that time is monotonic for the state.
    fn time(&self) -> Nanos {
        self.epoch.elapsed().as_nanos() as Nanos
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the event thread: advances the design at its deadlines, and makes all calls to the shell.
    pub(super) fn run_events(&self) {
        let mut inner = self.lock();
        while !inner.stop {
            inner.alarm = None;
            inner.state.advance(self.time());
            inner.update_events();
            if inner.has_job() {
                // With time, a task received its last pair.
                self.work.notify_all();
            }
            if let Some(events) = inner.take_events() {
                drop(inner);
                events.deliver(self.shell.get());
                inner = self.lock();
                continue;
            }
            inner = self.sleep(inner);
        }
    }

    fn sleep<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        inner.alarm = inner.state.deadline();
        let Some(alarm) = inner.alarm else {
            return self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
        };
        let left = Duration::from_nanos(alarm.saturating_sub(self.time()));
        if left < SPIN {
            drop(inner);
            while self.time() < alarm {
                thread::yield_now();
            }
            return self.lock();
        }
        self.work.wait_timeout(inner, left - SPIN / 2).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Runs the core's thread, which computes the reductions one after the other.
    pub(super) fn run_core(&self) {
        let mut inner = self.lock();
        while !inner.stop {
            let Some(job) = inner.take_job() else {
                inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(inner);
            let cancelled = || {
                let inner = self.lock();
                inner.stop || inner.state.generation != job.generation
            };
            let montgomery = job.mode.contains(Mode::MONTGOMERY);
            let PairBuffer { scalars, points } = &job.buffer;
            let sum = self.arithmetic.install(|| arithmetic::msm(scalars, points, montgomery, cancelled));
            self.access(|inner, now| {
                inner.state.finish(job.generation, sum.as_ref(), job.buffer);
                inner.state.advance(now);
            });
            inner = self.lock();
        }
    }
}

struct Job {
    generation: u64,
    mode: Mode,
    buffer: PairBuffer,
}

/// Events to report to the shell.
struct Events {
    progress: bool,
    levels: Vec<bool>,
}

impl Events {
    fn deliver(&self, shell: Option<&Arc<dyn Shell>>) {
        let Some(shell) = shell else { return };
        if self.progress {
            shell.progress();
        }
        for level in &self.levels {
            shell.user_irq(0, *level);
        }
    }
}

impl Inner {
    /// Collects the events that follow from an access. Returns whether a thread must be woken.
    fn update_events(&mut self) -> bool {
        self.progress |= self.state.take_wakeup();
        let level = self.level();
        self.was_low |= !level;
        let earlier = match (self.state.deadline(), self.alarm) {
            (Some(deadline), Some(alarm)) => deadline < alarm,
            (deadline, _) => deadline.is_some(),
        };
        self.progress || level != self.line || (level && self.was_low) || self.has_job() || earlier
    }

    fn level(&self) -> bool {
        self.state.irq_status.intersects(self.state.irq_enable & Irq::all())
    }

    fn take_events(&mut self) -> Option<Events> {
        let level = self.level();
        let levels = match (self.line, level) {
            (true, true) if self.was_low => vec![false, true],
            (line, level) if line != level => vec![level],
            _ => vec![],
        };
        self.line = level;
        self.was_low = !level;
        let progress = mem::take(&mut self.progress);
        (progress || !levels.is_empty()).then_some(Events { progress, levels })
    }

    fn has_job(&self) -> bool {
        self.state.tasks.front().is_some_and(|task| task.phase == Phase::Full)
    }

    fn take_job(&mut self) -> Option<Job> {
        let generation = self.state.generation;
        let task = self.state.tasks.front_mut().filter(|task| task.phase == Phase::Full)?;
        task.phase = Phase::Reducing;
        Some(Job { generation, mode: task.mode, buffer: mem::take(&mut task.buffer) })
    }
}
