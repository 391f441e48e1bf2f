//! The AXI side of the design: the windows.

use super::shared::Inner;
use super::state::{Nanos, Window};
use super::{AxiResponse, Burst};
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

/// Answers a write that the core consumes immediately. Returns `None` for all other writes.
pub(super) fn write_fast(inner: &mut Inner, address: u64, data: &VolatileSlice) -> Option<AxiResponse> {
    match region(address)? {
        Region::Fifo(window) if is_whole_beats(address, data) => {
            inner.state.push_fast(window, data).then_some(AxiResponse::Okay(data.len()))
        }
        _ => None,
    }
}

fn is_whole_beats(address: u64, data: &VolatileSlice) -> bool {
    address.is_multiple_of(BEAT as u64) && data.len().is_multiple_of(BEAT)
}

/// Answers a write, and counts it if it is refused.
pub(super) fn write(
    inner: &mut Inner,
    channel: usize,
    address: u64,
    burst: Burst,
    data: &VolatileSlice,
    now: Nanos,
) -> AxiResponse {
    let response = accept(inner, channel, address, burst, data, now);
    if matches!(response, AxiResponse::SlaveError | AxiResponse::DecodeError) {
        inner.state.refused_writes = inner.state.refused_writes.wrapping_add(1);
    }
    response
}

fn accept(
    inner: &mut Inner,
    channel: usize,
    address: u64,
    burst: Burst,
    data: &VolatileSlice,
    now: Nanos,
) -> AxiResponse {
    let state = &mut inner.state;
    if state.hold.is_some_and(|hold| hold.channel != channel) {
        state.others_wait = true;
        return AxiResponse::Wait;
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
                AxiResponse::Wait
            }
            done => AxiResponse::Okay(done),
        };
    }
    // The write does not wait, so its channel no longer holds the write channel.
    state.hold = None;
    match region {
        Some(Region::Scratch) => {
            write_scratch(&mut inner.scratch, address, burst, data);
            AxiResponse::Okay(data.len())
        }
        Some(Region::Fifo(_)) if whole_beats => AxiResponse::SlaveError,
        Some(Region::Fifo(_) | Region::Result) => {
            state.fail(Errors::STROBE);
            AxiResponse::SlaveError
        }
        None => {
            state.fail(Errors::DECODE);
            AxiResponse::DecodeError
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

pub(super) fn read(inner: &mut Inner, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
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
            return AxiResponse::DecodeError;
        }
    };
    for (at, offset, count) in beats(address, burst, data.len()) {
        let at = (at % wrap) as usize;
        // The window reads as zero beyond the result.
        let bytes = memory.get(at..at + count).unwrap_or(&[0; BEAT][..count]);
        if let Ok(beat) = data.subslice(offset, count) {
            beat.copy_from(bytes);
        }
    }
    AxiResponse::Okay(data.len())
}

/// Splits a transfer into beats: address, offset in the transfer and size of each. No beat crosses a beat boundary.
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
