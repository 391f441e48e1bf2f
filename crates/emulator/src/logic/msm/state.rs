//! What the design holds, and how it moves on with time.
//!
//! Nothing runs in the background here: [`State::advance`] brings the design up to the present, and is called before
//! anything else looks at it or changes it.

use super::arithmetic;
use super::fifo::{Checksum, Fifo};
use super::registers::PAIR_COUNT;
use super::{Core, MsmOptions};
use ark_bn254::G1Projective;
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use vm_memory::VolatileSlice;
use xdma_regs::msm::*;

/// Time since the design was made, in nanoseconds.
pub(super) type Nanos = u64;

/// Elements that a task's store reserves at once; beyond, it grows as pairs arrive, so that a wrong count costs nothing.
const RESERVE: usize = 1 << 20;

/// One of the two windows that lead to a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// [`SCALAR_WINDOW`].
    Scalars,
    /// [`POINT_WINDOW`].
    Points,
}

/// Bytes of a task's pairs as they were taken.
#[derive(Default)]
pub(super) struct Store {
    pub(super) scalars: Vec<u8>,
    pub(super) points: Vec<u8>,
}

/// Where a task stands.
#[derive(PartialEq)]
pub(super) enum Phase {
    /// It takes pairs.
    Taking,
    /// It has all its pairs, and the core's thread has not seen it yet.
    Full,
    /// The core's thread computes.
    Reducing,
    /// The result waits for room in the result queue.
    Done([u8; RESULT_BYTES]),
}

pub(super) struct Task {
    label: u32,
    pub(super) mode: Mode,
    count: u64,
    scalars_left: u64,
    points_left: u64,
    first_pair: Option<Nanos>,
    checksums: [Checksum; 2],
    pub(super) store: Store,
    pub(super) phase: Phase,
}

/// Clocks, kept as time, in nanoseconds.
#[derive(Default)]
pub(super) struct Clocks {
    pub(super) busy: Nanos,
    pub(super) starve_scalar: Nanos,
    pub(super) starve_point: Nanos,
    pub(super) starve_both: Nanos,
    pub(super) stall_scalar: Nanos,
    pub(super) stall_point: Nanos,
    pub(super) phase1: Nanos,
}

/// The write channel, held by a write that found no room: AXI4 delivers in order, so everything behind it waits.
#[derive(Clone, Copy)]
pub(super) struct Hold {
    pub(super) channel: usize,
    pub(super) window: Window,
}

pub(super) struct State {
    pub(super) options: MsmOptions,
    pub(super) scalars: Fifo,
    pub(super) points: Fifo,
    pub(super) tasks: VecDeque<Task>,
    pub(super) results: VecDeque<(u32, [u8; RESULT_BYTES])>,
    spare: Vec<Store>,
    pub(super) hold: Option<Hold>,
    /// The one who holds the write channel was told to wait.
    pub(super) holder_waits: bool,
    /// Somebody behind it was told to wait.
    pub(super) others_wait: bool,
    pub(super) dropping: bool,
    deadlock_since: Option<Nanos>,
    pub(super) n_elements: u32,
    pub(super) label: u32,
    pub(super) mode: Mode,
    pub(super) watchdog: u32,
    pub(super) errors: Errors,
    pub(super) refused_writes: u32,
    pub(super) irq_enable: Irq,
    pub(super) irq_status: Irq,
    pub(super) clocks: Clocks,
    /// High halves of the 64-bit registers as their low halves were last read.
    pub(super) latched: [u32; PAIR_COUNT],
    pub(super) reset_at: Nanos,
    /// Up to when the write channel was accounted.
    accounted: Nanos,
    /// Up to when the core was simulated: behind the present while a pair is in the making.
    core_time: Nanos,
    /// Counts aborts: a reduction that began under another number is not wanted any more.
    pub(super) generation: u64,
    random: StdRng,
}

impl State {
    pub(super) fn new(options: MsmOptions, generation: u64, now: Nanos) -> Self {
        Self {
            scalars: Fifo::new(options.scalar_depth, SCALAR_BYTES),
            points: Fifo::new(options.point_depth, POINT_BYTES),
            tasks: VecDeque::new(),
            results: VecDeque::new(),
            spare: Vec::new(),
            hold: None,
            holder_waits: false,
            others_wait: false,
            dropping: false,
            deadlock_since: None,
            n_elements: 0,
            label: 0,
            mode: Mode::empty(),
            watchdog: options.watchdog,
            errors: Errors::empty(),
            refused_writes: 0,
            irq_enable: Irq::empty(),
            irq_status: Irq::empty(),
            clocks: Clocks::default(),
            latched: [0; PAIR_COUNT],
            reset_at: now,
            accounted: now,
            core_time: now,
            generation,
            random: StdRng::seed_from_u64(options.seed ^ generation),
            options,
        }
    }

    /// As after power-up. A transfer that waited may go on.
    pub(super) fn reset(&mut self, now: Nanos) {
        let waits = (self.holder_waits, self.others_wait);
        *self = Self::new(self.options.clone(), self.generation + 1, now);
        (self.holder_waits, self.others_wait) = waits;
    }

    /// Brings the design up to `now`.
    pub(super) fn advance(&mut self, now: Nanos) {
        self.account_stalls(now);
        loop {
            let elapsed = now.saturating_sub(self.core_time);
            let Some(ready) = self.ready() else {
                if self.reducing() {
                    self.clocks.busy += elapsed;
                }
                self.core_time = self.core_time.max(now);
                break;
            };
            if ready == 0 {
                self.account_starvation(elapsed);
                self.core_time = self.core_time.max(now);
                break;
            }
            let allowed = match self.pair_time() {
                None => ready,
                Some(time) => ready.min((elapsed as f64 / time) as u64),
            };
            if allowed == 0 {
                break;
            }
            let spent = self.time_of(allowed);
            self.clocks.busy += spent;
            self.core_time += spent;
            self.take(allowed);
        }
        self.watch(now);
    }

    /// Elements that the running task could take at once; `None` when no task takes any.
    fn ready(&self) -> Option<u64> {
        let task = self.tasks.front().filter(|task| task.phase == Phase::Taking)?;
        let scalars = task.scalars_left.min(self.scalars.elements() as u64);
        let points = task.points_left.min(self.points.elements() as u64);
        Some(match self.options.core {
            Core::Real => scalars.min(points),
            Core::TakeAll => scalars.max(points),
        })
    }

    /// Whether the running task has all its pairs and no result yet.
    pub(super) fn reducing(&self) -> bool {
        self.tasks.front().is_some_and(|task| matches!(task.phase, Phase::Full | Phase::Reducing))
    }

    /// Nanoseconds a pair, where the rate is limited.
    fn pair_time(&self) -> Option<f64> {
        let rate = self.options.pairs_per_second.filter(|rate| rate.is_finite() && *rate > 0.0)?;
        (self.options.core == Core::Real).then_some(1e9 / rate)
    }

    /// Time that `pairs` take; without a rate, one clock each is counted and none passes.
    fn time_of(&self, pairs: u64) -> Nanos {
        self.pair_time().map_or(0, |time| (pairs as f64 * time).round() as Nanos)
    }

    /// Takes what [`Self::ready`] counted, or as many as `allowed`.
    fn take(&mut self, allowed: u64) {
        let at = self.core_time;
        let Some(task) = self.tasks.front_mut() else { return };
        let scalars = allowed.min(task.scalars_left).min(self.scalars.elements() as u64);
        let points = allowed.min(task.points_left).min(self.points.elements() as u64);
        let first_pair = *task.first_pair.get_or_insert(at);
        match self.options.core {
            Core::Real => {
                self.scalars.pop(scalars as usize, |bytes| task.store.scalars.extend_from_slice(bytes));
                self.points.pop(points as usize, |bytes| task.store.points.extend_from_slice(bytes));
            }
            Core::TakeAll => {
                let [of_scalars, of_points] = &mut task.checksums;
                self.scalars.pop(scalars as usize, |bytes| of_scalars.update(bytes));
                self.points.pop(points as usize, |bytes| of_points.update(bytes));
            }
        }
        task.scalars_left -= scalars;
        task.points_left -= points;
        if scalars > 0 && task.scalars_left == 0 {
            self.scalars.drop_padding();
        }
        if task.scalars_left == 0 && task.points_left == 0 {
            self.clocks.phase1 = at - first_pair;
            task.phase = match self.options.core {
                Core::Real => Phase::Full,
                Core::TakeAll => Phase::Done(checksum_result(task)),
            };
            self.deliver();
        }
    }

    /// Moves finished tasks to the result queue.
    fn deliver(&mut self) {
        while self.results.len() < self.options.result_queue
            && let Some(Phase::Done(result)) = self.tasks.front().map(|task| &task.phase)
        {
            let result = *result;
            if let Some(task) = self.tasks.pop_front() {
                self.results.push_back((task.label, result));
                self.recycle(task.store);
            }
            self.raise(Irq::RESULT);
        }
    }

    fn recycle(&mut self, mut store: Store) {
        if store.points.capacity() > 0 && self.spare.len() < self.options.task_queue {
            store.scalars.clear();
            store.points.clear();
            self.spare.push(store);
        }
    }

    /// Takes a sum from the core's thread, unless its task was aborted.
    pub(super) fn finish(&mut self, generation: u64, sum: Option<&G1Projective>, store: Store) {
        if generation == self.generation
            && let Some(sum) = sum
            && let Some(task) = self.tasks.front_mut()
        {
            task.phase = Phase::Done(arithmetic::result(sum, &mut self.random));
            self.deliver();
        }
        self.recycle(store);
    }

    /// Queues a task of the current registers.
    pub(super) fn push_task(&mut self) -> Result<(), Errors> {
        if self.tasks.len() >= self.options.task_queue
            || !(1..=self.options.max_elements).contains(&self.n_elements)
        {
            return Err(Errors::OVERRUN);
        }
        let count = u64::from(self.n_elements);
        let mut store = self.spare.pop().unwrap_or_default();
        if self.options.core == Core::Real {
            let elements = RESERVE.min(count as usize);
            store.scalars.reserve(elements * SCALAR_BYTES);
            store.points.reserve(elements * POINT_BYTES);
        }
        self.tasks.push_back(Task {
            label: self.label,
            mode: self.mode,
            count,
            scalars_left: count,
            points_left: count,
            first_pair: None,
            checksums: Default::default(),
            store,
            phase: Phase::Taking,
        });
        self.label = self.label.wrapping_add(1);
        Ok(())
    }

    /// Removes the oldest result.
    pub(super) fn pop_result(&mut self) -> Result<(), Errors> {
        self.results.pop_front().ok_or(Errors::UNDERRUN)?;
        self.deliver();
        Ok(())
    }

    /// Drops all tasks. The next task's scalars start on a beat, so a half-taken beat goes with them.
    pub(super) fn abort(&mut self) {
        self.generation += 1;
        while let Some(task) = self.tasks.pop_front() {
            self.recycle(task.store);
        }
        self.scalars.drop_padding();
    }

    /// Empties the FIFOs and ends the drop state.
    pub(super) fn flush(&mut self) {
        self.scalars.flush();
        self.points.flush();
        self.dropping = false;
        // Whoever held the write channel may be gone for good: let the others on.
        self.hold = None;
    }

    /// Pairs that the running task waits for.
    pub(super) fn elements_left(&self) -> u64 {
        self.tasks.front().map_or(0, |task| task.scalars_left.max(task.points_left))
    }

    pub(super) fn fifo(&mut self, window: Window) -> &mut Fifo {
        match window {
            Window::Scalars => &mut self.scalars,
            Window::Points => &mut self.points,
        }
    }

    /// Takes all of `data` if the core would take it at once and then go on waiting for more of the same. In that case neither a counter,
    /// nor a waiting thread, nor a deadline depends on the time of the push, so no clock is read. False if nothing was taken.
    pub(super) fn push_at_once(&mut self, window: Window, data: &VolatileSlice) -> bool {
        let nobody_waits = self.hold.is_none() && !self.holder_waits && !self.others_wait;
        if self.options.core != Core::TakeAll || self.dropping || !nobody_waits {
            return false;
        }
        let Some(task) = self.tasks.front().filter(|task| task.phase == Phase::Taking) else { return false };
        let (fifo, left) = match window {
            Window::Scalars => (&self.scalars, task.scalars_left),
            Window::Points => (&self.points, task.points_left),
        };
        let goes_through = fifo.lets_through(data.len());
        let Some(elements) = goes_through.filter(|n| (1..left).contains(n) && task.first_pair.is_some())
        else {
            return false;
        };
        let flip = self.flip(window);
        self.fifo(window).push(data, 0, data.len(), flip);
        self.take(elements);
        true
    }

    /// The byte of a window's input that turns over, and how.
    fn flip(&self, window: Window) -> Option<(u64, u8)> {
        self.options.flip.filter(|flip| flip.window == window).map(|flip| (flip.byte, flip.mask))
    }

    /// Takes as many beats of `data` as find room; 0 holds up the write channel.
    pub(super) fn push(&mut self, channel: usize, window: Window, data: &VolatileSlice, now: Nanos) -> usize {
        let flip = self.flip(window);
        let mut done = 0;
        while done < data.len() {
            let fifo = self.fifo(window);
            let count = fifo.room().min(data.len() - done);
            if count == 0 {
                break;
            }
            fifo.push(data, done, count, flip);
            done += count;
            self.advance(now);
        }
        self.hold = (done < data.len()).then_some(Hold { channel, window });
        self.watch(now);
        done
    }

    /// Whether the one that holds the write channel still has no room.
    pub(super) fn stalled(&self) -> Option<Window> {
        let window = self.hold?.window;
        let room = match window {
            Window::Scalars => self.scalars.room(),
            Window::Points => self.points.room(),
        };
        (room == 0).then_some(window)
    }

    /// Whether somebody who was told to wait may go on now; says so once.
    pub(super) fn take_progress(&mut self) -> bool {
        // While the core makes room by itself, a writer that is woken for each beat is always late.
        let more_to_come = self.ready().is_some_and(|ready| ready > 0) && self.pairs_to_progress() > 0;
        let holder = self.holder_waits && self.stalled().is_none() && !more_to_come;
        let others = self.others_wait && self.hold.is_none();
        self.holder_waits &= !holder;
        self.others_wait &= !others;
        holder || others
    }

    /// Pairs to take until a quarter of the FIFO is free for the one who holds the write channel.
    fn pairs_to_progress(&self) -> u64 {
        let fifo = match self.hold {
            Some(Hold { window: Window::Scalars, .. }) => &self.scalars,
            Some(Hold { window: Window::Points, .. }) => &self.points,
            None => return 0,
        };
        fifo.depth().div_ceil(4).saturating_sub(fifo.free()) as u64
    }

    /// Sets error bits; a new one raises the interrupt.
    pub(super) fn fail(&mut self, errors: Errors) {
        if !self.errors.contains(errors) {
            self.errors |= errors;
            self.raise(Irq::ERROR);
        }
    }

    fn raise(&mut self, irq: Irq) {
        self.irq_status |= irq;
    }

    /// When the design changes by itself and somebody may be waiting for it.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let watchdog = self.deadlock_since.map(|since| since + self.time_of_clocks(self.watchdog));
        let core = match self.ready() {
            Some(ready) if ready > 0 && ready == self.elements_left() => Some(ready),
            Some(ready) if ready > 0 && self.holder_waits => Some(ready.min(self.pairs_to_progress())),
            _ => None,
        };
        let core = core.map(|pairs| self.core_time + self.time_of(pairs));
        watchdog.into_iter().chain(core).min()
    }

    fn time_of_clocks(&self, clocks: u32) -> Nanos {
        Nanos::from(clocks) * 1_000_000 / Nanos::from(self.options.clock_khz.max(1))
    }

    /// Clocks in `time`.
    pub(super) fn clocks_in(&self, time: Nanos) -> u64 {
        (u128::from(time) * u128::from(self.options.clock_khz) / 1_000_000) as u64
    }

    /// Clocks in which the core took a pair or reduced.
    pub(super) fn busy_clocks(&self) -> u64 {
        let taken = if self.pair_time().is_none() { self.points.consumed } else { 0 };
        self.clocks_in(self.clocks.busy) + taken
    }

    /// The watchdog: one window held up while the other FIFO is empty can only mean that the host sends no more.
    fn watch(&mut self, now: Nanos) {
        let deadlocked = match self.stalled() {
            Some(Window::Scalars) => self.points.elements() == 0,
            Some(Window::Points) => self.scalars.elements() == 0,
            None => false,
        };
        if !deadlocked || self.dropping || self.watchdog == 0 {
            self.deadlock_since = None;
            return;
        }
        let since = *self.deadlock_since.get_or_insert(now);
        if now - since >= self.time_of_clocks(self.watchdog) {
            self.deadlock_since = None;
            self.dropping = true;
            self.hold = None;
            self.fail(Errors::WATCHDOG);
        }
    }

    fn account_stalls(&mut self, now: Nanos) {
        let elapsed = now - self.accounted;
        match self.stalled() {
            Some(Window::Scalars) => self.clocks.stall_scalar += elapsed,
            Some(Window::Points) => self.clocks.stall_point += elapsed,
            None => {}
        }
        self.accounted = now;
    }

    fn account_starvation(&mut self, elapsed: Nanos) {
        let clocks = &mut self.clocks;
        match (self.scalars.elements(), self.points.elements()) {
            (0, 0) => clocks.starve_both += elapsed,
            (0, _) => clocks.starve_scalar += elapsed,
            (_, 0) => clocks.starve_point += elapsed,
            _ => {}
        }
    }
}

/// What the core that takes everything returns: the checksums of scalars and points, and how many there were.
fn checksum_result(task: &Task) -> [u8; RESULT_BYTES] {
    let mut result = [0; RESULT_BYTES];
    result[..32].copy_from_slice(&task.checksums[0].finish());
    result[32..64].copy_from_slice(&task.checksums[1].finish());
    result[64..72].copy_from_slice(&task.count.to_le_bytes());
    result
}
