//! The state of the design, and its progress over time.
//!
//! Nothing here runs in the background: [`State::advance`] brings the design up to the present, and is called before anything
//! else reads or changes it.

use super::arithmetic;
use super::cycles::CoreCycles;
use super::fifo::{Checksum, Fifo};
use super::registers::PAIR_COUNT;
use super::{Core, MsmModelOptions};
use ark_bn254::G1Projective;
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use vm_memory::VolatileSlice;
use xdma_regs::msm::*;

/// Time since the design was created, in nanoseconds.
pub(super) type Nanos = u64;

/// The number of elements that a task's buffer reserves initially. It grows further only as pairs arrive, so a wrong count costs
/// nothing.
const RESERVE_ELEMENTS: usize = 1 << 20;

/// A window that leads to a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// [`SCALAR_WINDOW`].
    Scalars,
    /// [`POINT_WINDOW`].
    Points,
}

/// The bytes of a task's pairs.
#[derive(Default)]
pub(super) struct PairBuffer {
    pub(super) scalars: Vec<u8>,
    pub(super) points: Vec<u8>,
}

/// The phase of a task.
#[derive(PartialEq)]
pub(super) enum Phase {
    /// The task consumes pairs.
    Loading,
    /// The task has all its pairs, but the core's thread has not started yet.
    Full,
    /// The core's thread computes the result.
    Reducing,
    /// The result waits for space in the result queue.
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
    pub(super) buffer: PairBuffer,
    pub(super) phase: Phase,
}

/// Clock counters, kept as time in nanoseconds.
#[derive(Default)]
pub(super) struct Clocks {
    /// Time in which the core consumed pairs or reduced.
    pub(super) busy: Nanos,
    pub(super) starve_scalar: Nanos,
    pub(super) starve_point: Nanos,
    pub(super) starve_both: Nanos,
    pub(super) stall_scalar: Nanos,
    pub(super) stall_point: Nanos,
    pub(super) phase1: Nanos,
}

/// A write that did not fit into its FIFO, and holds the write channel until it does. AXI4 write data follows the order of the
/// addresses, so all later writes wait.
#[derive(Clone, Copy)]
pub(super) struct HeldWrite {
    pub(super) channel: usize,
    pub(super) window: Window,
}

pub(super) struct State {
    pub(super) options: MsmModelOptions,
    pub(super) scalars: Fifo,
    pub(super) points: Fifo,
    pub(super) tasks: VecDeque<Task>,
    pub(super) results: VecDeque<(u32, [u8; RESULT_BYTES])>,
    spare: Vec<PairBuffer>,
    pub(super) hold: Option<HeldWrite>,
    /// Whether the holder of the write channel waits for progress.
    pub(super) holder_waits: bool,
    /// Whether another channel waits for progress.
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
    /// Cycles that the design's core would have been busy.
    pub(super) busy_cycles: u64,
    /// The high halves of the 64-bit registers, latched when the low halves were read.
    pub(super) latched: [u32; PAIR_COUNT],
    pub(super) reset_at: Nanos,
    /// The time until which stalls of the write channel are counted.
    accounted: Nanos,
    /// The time until which the core is simulated. It lags behind the present while a pair is in progress.
    core_time: Nanos,
    /// The number of aborts. The result of a reduction is discarded if this number has changed since it started.
    pub(super) generation: u64,
    random: StdRng,
}

impl State {
    pub(super) fn new(options: MsmModelOptions, generation: u64, now: Nanos) -> Self {
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
            busy_cycles: 0,
            latched: [0; PAIR_COUNT],
            reset_at: now,
            accounted: now,
            core_time: now,
            generation,
            random: StdRng::seed_from_u64(options.seed ^ generation),
            options,
        }
    }

    /// Returns to the power-up state. Waiting transfers may continue.
    pub(super) fn reset(&mut self, now: Nanos) {
        let waits = (self.holder_waits, self.others_wait);
        *self = Self::new(self.options.clone(), self.generation + 1, now);
        (self.holder_waits, self.others_wait) = waits;
    }

    /// Advances the design to `now`.
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
            self.consume(allowed);
        }
        self.check_watchdog(now);
    }

    /// Returns the number of elements that the running task could consume now; `None` if no task is loading.
    fn ready(&self) -> Option<u64> {
        let task = self.tasks.front().filter(|task| task.phase == Phase::Loading)?;
        let scalars = task.scalars_left.min(self.scalars.elements() as u64);
        let points = task.points_left.min(self.points.elements() as u64);
        Some(match self.options.core {
            Core::Real => scalars.min(points),
            Core::Checksum => scalars.max(points),
        })
    }

    /// Returns whether the running task has all its pairs but no result yet.
    pub(super) fn reducing(&self) -> bool {
        self.tasks.front().is_some_and(|task| matches!(task.phase, Phase::Full | Phase::Reducing))
    }

    /// Returns the nanoseconds per pair, if the rate is limited.
    fn pair_time(&self) -> Option<f64> {
        let rate = self.options.pairs_per_second.filter(|rate| rate.is_finite() && *rate > 0.0)?;
        (self.options.core == Core::Real).then_some(1e9 / rate)
    }

    /// Returns the time that `pairs` take in this model. Without a rate, they take no time.
    fn time_of(&self, pairs: u64) -> Nanos {
        self.pair_time().map_or(0, |time| (pairs as f64 * time).round() as Nanos)
    }

    /// Consumes up to `allowed` of the elements counted by [`Self::ready`].
    fn consume(&mut self, allowed: u64) {
        let at = self.core_time;
        let Some(task) = self.tasks.front_mut() else { return };
        let scalars = allowed.min(task.scalars_left).min(self.scalars.elements() as u64);
        let points = allowed.min(task.points_left).min(self.points.elements() as u64);
        let first_pair = *task.first_pair.get_or_insert(at);
        self.busy_cycles += match self.options.core {
            Core::Real => CoreCycles::new(self.options.window_bits).pairs(points),
            Core::Checksum => points,
        };
        match self.options.core {
            Core::Real => {
                self.scalars.pop(scalars as usize, |bytes| task.buffer.scalars.extend_from_slice(bytes));
                self.points.pop(points as usize, |bytes| task.buffer.points.extend_from_slice(bytes));
            }
            Core::Checksum => {
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
                Core::Checksum => Phase::Done(checksum_result(task)),
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
                self.recycle(task.buffer);
            }
            self.raise(Irq::RESULT);
        }
    }

    fn recycle(&mut self, mut buffer: PairBuffer) {
        if buffer.points.capacity() > 0 && self.spare.len() < self.options.task_queue {
            buffer.scalars.clear();
            buffer.points.clear();
            self.spare.push(buffer);
        }
    }

    /// Accepts a sum from the core's thread, unless its task was aborted.
    pub(super) fn finish(&mut self, generation: u64, sum: Option<&G1Projective>, buffer: PairBuffer) {
        if generation == self.generation
            && let Some(sum) = sum
            && let Some(task) = self.tasks.front_mut()
        {
            let montgomery = task.mode.contains(Mode::MONTGOMERY);
            self.busy_cycles += CoreCycles::new(self.options.window_bits).reduction(montgomery);
            task.phase = Phase::Done(arithmetic::result(sum, &mut self.random));
            self.deliver();
        }
        self.recycle(buffer);
    }

    /// Queues a task with the current register values.
    pub(super) fn push_task(&mut self) -> Result<(), Errors> {
        if self.tasks.len() >= self.options.task_queue
            || !(1..=self.options.max_elements).contains(&self.n_elements)
        {
            return Err(Errors::OVERRUN);
        }
        let count = u64::from(self.n_elements);
        let mut buffer = self.spare.pop().unwrap_or_default();
        if self.options.core == Core::Real {
            let elements = RESERVE_ELEMENTS.min(count as usize);
            buffer.scalars.reserve(elements * SCALAR_BYTES);
            buffer.points.reserve(elements * POINT_BYTES);
        }
        self.tasks.push_back(Task {
            label: self.label,
            mode: self.mode,
            count,
            scalars_left: count,
            points_left: count,
            first_pair: None,
            checksums: Default::default(),
            buffer,
            phase: Phase::Loading,
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

    /// Drops all tasks. The scalars of the next task start on a new beat, so a partially consumed beat is dropped too.
    pub(super) fn abort(&mut self) {
        self.generation += 1;
        while let Some(task) = self.tasks.pop_front() {
            self.recycle(task.buffer);
        }
        self.scalars.drop_padding();
    }

    /// Empties the FIFOs and ends the drop state.
    pub(super) fn flush(&mut self) {
        self.scalars.flush();
        self.points.flush();
        self.dropping = false;
        // The holder of the write channel may never return, so release the channel for the others.
        self.hold = None;
    }

    /// Returns the number of pairs for which the running task still waits.
    pub(super) fn elements_left(&self) -> u64 {
        self.tasks.front().map_or(0, |task| task.scalars_left.max(task.points_left))
    }

    pub(super) fn fifo(&mut self, window: Window) -> &mut Fifo {
        match window {
            Window::Scalars => &mut self.scalars,
            Window::Points => &mut self.points,
        }
    }

    /// Pushes all of `data` if the core would consume it immediately and then wait for more. In that case no counter, waiting
    /// thread or deadline depends on the time of the push, so the clock does not have to be read. Returns false if nothing was
    /// pushed.
    pub(super) fn push_fast(&mut self, window: Window, data: &VolatileSlice) -> bool {
        let nothing_waits = self.hold.is_none() && !self.holder_waits && !self.others_wait;
        if self.options.core != Core::Checksum || self.dropping || !nothing_waits {
            return false;
        }
        let Some(task) = self.tasks.front().filter(|task| task.phase == Phase::Loading) else { return false };
        let (fifo, left) = match window {
            Window::Scalars => (&self.scalars, task.scalars_left),
            Window::Points => (&self.points, task.points_left),
        };
        let passes_through = fifo.passes_through(data.len());
        let Some(elements) = passes_through.filter(|n| (1..left).contains(n) && task.first_pair.is_some())
        else {
            return false;
        };
        let flip = self.flip(window);
        self.fifo(window).push(data, 0, data.len(), flip);
        self.consume(elements);
        true
    }

    /// Returns the position and mask of the bit flip in a window's input.
    fn flip(&self, window: Window) -> Option<(u64, u8)> {
        self.options.flip.filter(|flip| flip.window == window).map(|flip| (flip.byte, flip.mask))
    }

    /// Pushes as many beats of `data` as fit, and returns their bytes. If not all of them fit, the write channel is held.
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
        self.hold = (done < data.len()).then_some(HeldWrite { channel, window });
        self.check_watchdog(now);
        done
    }

    /// Returns the window for which the write channel is stalled.
    pub(super) fn stalled(&self) -> Option<Window> {
        let window = self.hold?.window;
        let room = match window {
            Window::Scalars => self.scalars.room(),
            Window::Points => self.points.room(),
        };
        (room == 0).then_some(window)
    }

    /// Returns whether a waiting transfer may continue now, and clears that condition.
    pub(super) fn take_wakeup(&mut self) -> bool {
        // While the core frees space continuously, waking a writer for every beat would always be too late.
        let more_to_come = self.ready().is_some_and(|ready| ready > 0) && self.pairs_to_progress() > 0;
        let holder = self.holder_waits && self.stalled().is_none() && !more_to_come;
        let others = self.others_wait && self.hold.is_none();
        self.holder_waits &= !holder;
        self.others_wait &= !others;
        holder || others
    }

    /// Returns the number of pairs to consume until a quarter of the FIFO is free for the holder of the write channel.
    fn pairs_to_progress(&self) -> u64 {
        let fifo = match self.hold {
            Some(HeldWrite { window: Window::Scalars, .. }) => &self.scalars,
            Some(HeldWrite { window: Window::Points, .. }) => &self.points,
            None => return 0,
        };
        fifo.depth().div_ceil(4).saturating_sub(fifo.free()) as u64
    }

    /// Sets error bits. A new one raises the interrupt.
    pub(super) fn fail(&mut self, errors: Errors) {
        if !self.errors.contains(errors) {
            self.errors |= errors;
            self.raise(Irq::ERROR);
        }
    }

    fn raise(&mut self, irq: Irq) {
        self.irq_status |= irq;
    }

    /// Returns when the design next changes on its own in a way that is observable.
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

    /// Returns the number of clocks in `time`.
    pub(super) fn clocks_in(&self, time: Nanos) -> u64 {
        (u128::from(time) * u128::from(self.options.clock_khz) / 1_000_000) as u64
    }

    /// Returns the clocks since the reset: those of the wall clock while the core waited, and those of the design while it was busy.
    pub(super) fn cycles(&self, now: Nanos) -> u64 {
        let waited = (now - self.reset_at).saturating_sub(self.clocks.busy);
        self.clocks_in(waited) + self.busy_cycles
    }

    /// Checks the watchdog: if a window is stalled while the other FIFO is empty, the host must have stopped sending.
    fn check_watchdog(&mut self, now: Nanos) {
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

/// Returns the result of [`Core::Checksum`]: the checksums of scalars and points, and their number.
fn checksum_result(task: &Task) -> [u8; RESULT_BYTES] {
    let mut result = [0; RESULT_BYTES];
    result[..32].copy_from_slice(&task.checksums[0].finish());
    result[32..64].copy_from_slice(&task.checksums[1].finish());
    result[64..72].copy_from_slice(&task.count.to_le_bytes());
    result
}
