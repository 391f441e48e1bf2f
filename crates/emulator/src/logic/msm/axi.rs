//! The AXI side: the windows.

use super::shared::Inner;
use super::state::{Nanos, Window};
use super::{Answer, Burst};
use vm_memory::VolatileSlice;
use xdma_regs::msm::*;

enum Region {
    Fifo(Window),
    Result,
    Scratch,
}

fn region(address: u64) -> Option<Region> {
    match address & !(WINDOW_SIZE - 1) {
        SCALAR_WINDOW => Some(Region::Fifo(Window::Scalars)),
        POINT_WINDOW => Some(Region::Fifo(Window::Points)),
        RESULT_WINDOW => Some(Region::Result),
        SCRATCH_WINDOW => Some(Region::Scratch),
        _ => None,
    }
}

/// Answers a write that the core takes at once; `None` if anything else may become of it.
pub(super) fn write_at_once(inner: &mut Inner, address: u64, data: &VolatileSlice) -> Option<Answer> {
    match region(address)? {
        Region::Fifo(window) if is_whole_beats(address, data) => {
            inner.state.push_at_once(window, data).then_some(Answer::Okay(data.len()))
        }
        _ => None,
    }
}

fn is_whole_beats(address: u64, data: &VolatileSlice) -> bool {
    address.is_multiple_of(BEAT as u64) && data.len().is_multiple_of(BEAT)
}

/// Answers a write, and counts it if that is an error.
pub(super) fn write(
    inner: &mut Inner,
    channel: usize,
    address: u64,
    burst: Burst,
    data: &VolatileSlice,
    now: Nanos,
) -> Answer {
    let answer = take(inner, channel, address, burst, data, now);
    if matches!(answer, Answer::SlaveError | Answer::DecodeError) {
        inner.state.refused_writes = inner.state.refused_writes.wrapping_add(1);
    }
    answer
}

fn take(
    inner: &mut Inner,
    channel: usize,
    address: u64,
    burst: Burst,
    data: &VolatileSlice,
    now: Nanos,
) -> Answer {
    let state = &mut inner.state;
    if state.hold.is_some_and(|hold| hold.channel != channel) {
        state.others_wait = true;
        return Answer::Wait;
    }
    let whole_beats = is_whole_beats(address, data);
    let region = region(address);
    if let Some(Region::Fifo(window)) = region
        && whole_beats
        && !state.dropping
    {
        return match state.push(channel, window, data, now) {
            0 => {
                state.holder_waits = true;
                Answer::Wait
            }
            done => Answer::Okay(done),
        };
    }
    // Nothing of this waits, so if its channel held up the others before, it does no more.
    state.hold = None;
    match region {
        Some(Region::Scratch) => {
            write_scratch(&mut inner.scratch, address, burst, data);
            Answer::Okay(data.len())
        }
        Some(Region::Fifo(_)) if whole_beats => Answer::SlaveError,
        Some(Region::Fifo(_) | Region::Result) => {
            state.fail(Errors::STROBE);
            Answer::SlaveError
        }
        None => {
            state.fail(Errors::DECODE);
            Answer::DecodeError
        }
    }
}

fn write_scratch(scratch: &mut [u8], address: u64, burst: Burst, data: &VolatileSlice) {
    for (at, offset, count) in beats(address, burst, data.len()) {
        let at = (at % SCRATCH_SIZE) as usize;
        if let Ok(beat) = data.subslice(offset, count) {
            beat.copy_to(&mut scratch[at..at + count]);
        }
    }
}

pub(super) fn read(inner: &mut Inner, address: u64, burst: Burst, data: &VolatileSlice) -> Answer {
    let mut result = [0; RESULT_BYTES.next_multiple_of(BEAT)];
    let (memory, wrap): (&[u8], _) = match region(address) {
        Some(Region::Scratch) => (&inner.scratch, SCRATCH_SIZE),
        Some(Region::Result) => {
            if let Some((_, bytes)) = inner.state.results.front() {
                result[..RESULT_BYTES].copy_from_slice(bytes);
            }
            (&result, WINDOW_SIZE)
        }
        _ => {
            inner.state.fail(Errors::DECODE);
            return Answer::DecodeError;
        }
    };
    for (at, offset, count) in beats(address, burst, data.len()) {
        let at = (at % wrap) as usize;
        // Beyond the result the window reads as zero.
        let bytes = memory.get(at..at + count).unwrap_or(&[0; BEAT][..count]);
        if let Ok(beat) = data.subslice(offset, count) {
            beat.copy_from(bytes);
        }
    }
    Answer::Okay(data.len())
}

/// The beats of a transfer: address, offset in the transfer and bytes of each; none crosses a beat's boundary.
fn beats(mut address: u64, burst: Burst, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let count = (BEAT - (address % BEAT as u64) as usize).min(len - offset);
        let beat = (address, offset, count);
        offset += count;
        if burst == Burst::Increment {
            address += count as u64;
        }
        (count > 0).then_some(beat)
    })
}
