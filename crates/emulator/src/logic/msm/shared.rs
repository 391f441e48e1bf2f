//! The lock around the state, and the two threads behind it.

use super::state::{Nanos, Phase, State, Store};
use super::{MsmOptions, Shell, arithmetic};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use xdma_regs::msm::{Irq, Mode, SCRATCH_SIZE};

/// Waits shorter than this are spun: a sleep would be late by about as much.
const SPIN: Duration = Duration::from_micros(100);

pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// There is something to do for one of the threads.
    work: Condvar,
    shell: OnceLock<Arc<dyn Shell>>,
    /// When time began.
    epoch: Instant,
}

pub(super) struct Inner {
    pub(super) state: State,
    /// Memory behind the scratch window; a reset leaves it alone.
    pub(super) scratch: Box<[u8]>,
    /// Level of the interrupt line as the shell knows it.
    line: bool,
    /// The line was low since, if only for a moment.
    line_was_low: bool,
    /// The shell is to be told of progress.
    progress: bool,
    /// When the event thread wakes by itself.
    alarm: Option<Nanos>,
    stop: bool,
}

impl Shared {
    pub(super) fn new(options: MsmOptions) -> Self {
        let inner = Inner {
            state: State::new(options, 0, 0),
            scratch: vec![0; SCRATCH_SIZE as usize].into_boxed_slice(),
            line: false,
            line_was_low: false,
            progress: false,
            alarm: None,
            stop: false,
        };
        Self { inner: Mutex::new(inner), work: Condvar::new(), shell: OnceLock::new(), epoch: Instant::now() }
    }

    pub(super) fn attach(&self, shell: Arc<dyn Shell>) {
        // A second shell is not in the contract; the first stays.
        let _ = self.shell.set(shell);
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_all();
    }

    /// Runs `access` on the design as it is at present, and lets the threads see to what follows.
    pub(super) fn now<T>(&self, access: impl FnOnce(&mut Inner, Nanos) -> T) -> T {
        self.now_unless(|_| None, access)
    }

    /// As [`Self::now`], unless `timeless` has done it: something from which nothing follows, whenever it happens. To look at the
    /// clock, and at all that may follow, costs as much as to take a burst.
    pub(super) fn now_unless<T>(
        &self,
        timeless: impl FnOnce(&mut Inner) -> Option<T>,
        access: impl FnOnce(&mut Inner, Nanos) -> T,
    ) -> T {
        let mut inner = self.lock();
        if let Some(value) = timeless(&mut inner) {
            return value;
        }
        let now = self.time();
        inner.state.advance(now);
        let value = access(&mut inner, now);
        if inner.settle() {
            drop(inner);
            self.work.notify_all();
        }
        value
    }

    /// The present; read under the lock, so that it never runs backwards there.
    fn time(&self) -> Nanos {
        self.epoch.elapsed().as_nanos() as Nanos
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event thread: what happens by itself, and all calls of the shell.
    pub(super) fn run_events(&self) {
        let mut inner = self.lock();
        while !inner.stop {
            inner.alarm = None;
            inner.state.advance(self.time());
            inner.settle();
            if inner.has_job() {
                // Time gave a task its last pair.
                self.work.notify_all();
            }
            if let Some(events) = inner.take_events() {
                drop(inner);
                events.tell(self.shell.get());
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

    /// The core's thread: reductions, one after the other.
    pub(super) fn run_core(&self) {
        let mut inner = self.lock();
        while !inner.stop {
            let Some(job) = inner.take_job() else {
                inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(inner);
            let unwanted = || {
                let inner = self.lock();
                inner.stop || inner.state.generation != job.generation
            };
            let montgomery = job.mode.contains(Mode::MONTGOMERY);
            let sum = arithmetic::msm(&job.store.scalars, &job.store.points, montgomery, unwanted);
            self.now(|inner, now| {
                inner.state.finish(job.generation, sum.as_ref(), job.store);
                inner.state.advance(now);
            });
            inner = self.lock();
        }
    }
}

struct Job {
    generation: u64,
    mode: Mode,
    store: Store,
}

/// What the shell is to be told.
struct Events {
    progress: bool,
    levels: Vec<bool>,
}

impl Events {
    fn tell(&self, shell: Option<&Arc<dyn Shell>>) {
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
    /// Notes what followed from an access; `true` if a thread has to look.
    fn settle(&mut self) -> bool {
        self.progress |= self.state.take_progress();
        let level = self.level();
        self.line_was_low |= !level;
        let earlier = match (self.state.deadline(), self.alarm) {
            (Some(deadline), Some(alarm)) => deadline < alarm,
            (deadline, _) => deadline.is_some(),
        };
        self.progress || level != self.line || (level && self.line_was_low) || self.has_job() || earlier
    }

    fn level(&self) -> bool {
        self.state.irq_status.intersects(self.state.irq_enable & Irq::all())
    }

    fn take_events(&mut self) -> Option<Events> {
        let level = self.level();
        let levels = match (self.line, level) {
            (true, true) if self.line_was_low => vec![false, true],
            (line, level) if line != level => vec![level],
            _ => vec![],
        };
        self.line = level;
        self.line_was_low = !level;
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
        Some(Job { generation, mode: task.mode, store: mem::take(&mut task.store) })
    }
}
