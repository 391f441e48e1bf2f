//! The design's registers. The caller must have advanced the state to the present.

use super::Core;
use super::state::{Nanos, State, Window};
use xdma_regs::msm::*;

/// The parameters of the core in [`IMAGE_PARAMETERS`]: BN254, one adder, one segment.
const CURVE: u32 = 1;
const ADDERS: u32 = 1;
const SEGMENTS: u32 = 1;
/// Version 1.0.
const VERSION: u32 = 1 << 16;
/// Bits of a scalar. Signed windows need one more bit.
const SCALAR_BITS: u32 = 254;
/// Clocks from one addition to the next.
const INITIATION_INTERVAL: u32 = 1;

/// The 64-bit registers, by the offset of their low half.
const PAIRS: [u32; PAIR_COUNT] = [
    PHASE1_CLOCKS,
    PUSHED_SCALARS,
    PUSHED_POINTS,
    CONSUMED_SCALARS,
    CONSUMED_POINTS,
    CYCLES,
    CORE_BUSY,
    STARVE_SCALAR,
    STARVE_POINT,
    STARVE_BOTH,
    STALL_SCALAR,
    STALL_POINT,
];
/// The number of 64-bit registers.
pub(super) const PAIR_COUNT: usize = 12;

/// Reads the register at `offset`. Unused offsets read as zero.
pub(super) fn read(state: &mut State, offset: u32, now: Nanos) -> u32 {
    let half = |half: u32| PAIRS.iter().position(|low| low + half == offset);
    if let Some(pair) = half(0) {
        let value = read_pair(state, offset, now);
        state.latched[pair] = (value >> 32) as u32;
        return value as u32;
    }
    if let Some(pair) = half(4) {
        return state.latched[pair];
    }
    if let Some(word) = result_word(offset) {
        let Some((_, result)) = state.results.front() else { return 0 };
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&result[word * 4..word * 4 + 4]);
        return u32::from_le_bytes(bytes);
    }
    if offset < EXTENSION_ID { read_original(state, offset) } else { read_extension(state, offset) }
}

/// Returns the index of the result word at `offset`.
fn result_word(offset: u32) -> Option<usize> {
    let byte = offset.checked_sub(RESULT)? as usize;
    (byte < RESULT_BYTES && byte.is_multiple_of(4)).then_some(byte / 4)
}

fn read_pair(state: &State, offset: u32, now: Nanos) -> u64 {
    let clocks = &state.clocks;
    match offset {
        PHASE1_CLOCKS => state.clocks_in(clocks.phase1),
        PUSHED_SCALARS => state.scalars.pushed,
        PUSHED_POINTS => state.points.pushed,
        CONSUMED_SCALARS => state.scalars.consumed,
        CONSUMED_POINTS => state.points.consumed,
        CYCLES => state.cycles(now),
        CORE_BUSY => state.busy_cycles,
        STARVE_SCALAR => state.clocks_in(clocks.starve_scalar),
        STARVE_POINT => state.clocks_in(clocks.starve_point),
        STARVE_BOTH => state.clocks_in(clocks.starve_both),
        STALL_SCALAR => state.clocks_in(clocks.stall_scalar),
        STALL_POINT => state.clocks_in(clocks.stall_point),
        _ => 0,
    }
}

fn read_original(state: &State, offset: u32) -> u32 {
    match offset {
        IMAGE_ID => IMAGE_ID_VALUE,
        IMAGE_PARAMETERS => {
            let stub = (state.options.core == Core::Checksum) as u32;
            let bucket_bits = u32::from(state.options.window_bits.saturating_sub(1));
            stub << 28 | CURVE << 20 | ADDERS << 16 | bucket_bits << 8 | SEGMENTS << 4
        }
        ENGINE_READY => (state.tasks.len() < state.options.task_queue) as u32,
        TASK_LABEL => state.label,
        N_ELEMENTS => state.n_elements,
        RESULT_VALID => !state.results.is_empty() as u32,
        RESULT_LABEL => state.results.front().map_or(0, |(label, _)| *label),
        PENDING_TASKS => state.tasks.len() as u32,
        PENDING_RESULTS => state.results.len() as u32,
        FINAL_ACCUMULATION => state.reducing() as u32,
        ELEMENTS_LEFT => state.elements_left() as u32,
        SCALARS_IN_FIFO => state.scalars.elements() as u32,
        POINTS_IN_FIFO => state.points.elements() as u32,
        _ => 0,
    }
}

fn read_extension(state: &State, offset: u32) -> u32 {
    match offset {
        EXTENSION_ID => EXTENSION_ID_VALUE,
        EXTENSION_VERSION => VERSION,
        BUILD => {
            let bits = u32::from(state.options.window_bits.max(1));
            bits | (SCALAR_BITS / bits + 1) << 8 | INITIATION_INTERVAL << 16
        }
        SCALAR_DEPTH => state.scalars.depth() as u32,
        POINT_DEPTH => state.points.depth() as u32,
        CLOCK_KHZ => state.options.clock_khz,
        QUEUE_DEPTH => state.options.task_queue as u32 | (state.options.result_queue as u32) << 8,
        MAX_ELEMENTS => state.options.max_elements,
        STATUS => status(state).bits(),
        ERRORS => state.errors.bits(),
        MODE => state.mode.bits(),
        LABEL => state.label,
        IRQ_ENABLE => state.irq_enable.bits(),
        IRQ_STATUS => state.irq_status.bits(),
        WATCHDOG => state.watchdog,
        FREE_SCALARS => state.scalars.free() as u32,
        FREE_POINTS => state.points.free() as u32,
        REFUSED_WRITES => state.refused_writes,
        HIGH_WATER_SCALARS => state.scalars.high_water as u32,
        HIGH_WATER_POINTS => state.points.high_water as u32,
        _ => 0,
    }
}

fn status(state: &State) -> Status {
    let stalled = state.stalled();
    let mut status = Status::empty();
    status.set(Status::BUSY, !state.tasks.is_empty());
    status.set(Status::TASKS_FULL, state.tasks.len() >= state.options.task_queue);
    status.set(Status::SCALAR_STALLED, stalled == Some(Window::Scalars));
    status.set(Status::POINT_STALLED, stalled == Some(Window::Points));
    status.set(Status::DROPPING, state.dropping);
    status
}

/// Writes the register at `offset`. Writes to unused offsets are ignored.
pub(super) fn write(state: &mut State, offset: u32, value: u32, now: Nanos) {
    match offset {
        N_ELEMENTS => state.n_elements = value,
        PUSH_TASK => state.push_task().unwrap_or_else(|error| state.fail(error)),
        POP_RESULT => state.pop_result().unwrap_or_else(|error| state.fail(error)),
        CTRL => control(state, Ctrl::from_bits_truncate(value), now),
        ERRORS => state.errors.remove(Errors::from_bits_truncate(value)),
        MODE => state.mode = Mode::from_bits_truncate(value),
        LABEL => state.label = value,
        IRQ_ENABLE => state.irq_enable = Irq::from_bits_truncate(value),
        IRQ_STATUS => state.irq_status.remove(Irq::from_bits_truncate(value)),
        WATCHDOG => state.watchdog = value,
        _ => {}
    }
}

fn control(state: &mut State, ctrl: Ctrl, now: Nanos) {
    if ctrl.contains(Ctrl::ABORT) {
        state.abort();
    }
    if ctrl.contains(Ctrl::FLUSH) {
        state.flush();
    }
    if ctrl.contains(Ctrl::SOFT_RESET) {
        state.reset(now);
    }
}
