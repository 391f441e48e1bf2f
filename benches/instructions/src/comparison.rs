//! The same transfer in Rust, and what `transfer.c` needs for it in C, for a comparison of their instructions.
//!
//! It is in the library, so that the compiler optimises it independently of the other cases.

use crate::callgrind::measured;
use crate::{Plain, PlainEngine};
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Duration;
use xdma::channel::{Channel, Ring};
use xdma_capi::{xdma_buffer, xdma_channel};

/// Number of measurements per run. A figure is their mean.
pub const ROUNDS: u64 = 100;

/// Measures transfers whose range and card address are not known when the program is compiled, as in a C program.
pub fn in_rust(ring: Ring) {
    let Plain { mut channel, scalars, mut engine, .. } = Plain::new(ring);
    let (size, address, limit) = black_box((4096, 0x1000, Duration::from_secs(10)));
    for round in 0..3 + ROUNDS {
        let (channel, scalars) = (&mut channel, &scalars);
        let begin = |channel: &mut Channel| channel.submit(scalars, 0..size, address).unwrap();
        let ticket = if round < 3 { begin(channel) } else { measured(|| begin(channel)) };
        engine.complete(1);
        let end = |channel: &mut Channel| channel.wait(ticket, limit).unwrap();
        if round < 3 {
            end(channel)
        } else {
            measured(|| end(channel))
        };
    }
}

/// The engine of the channel that the C program uses.
static ENGINE: Mutex<Option<PlainEngine>> = Mutex::new(None);

/// For `transfer.c`: stores handles for a channel and a buffer.
///
/// # Safety
///
/// Both pointers are valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bench_open(
    credits: bool,
    channel: *mut *mut xdma_channel,
    buffer: *mut *mut xdma_buffer,
) {
    let plain = Plain::new(if credits { Ring::Credits } else { Ring::Chain });
    // SAFETY: the caller's contract.
    unsafe {
        channel.write(xdma_capi::unstable::channel(plain.channel));
        buffer.write(xdma_capi::unstable::buffer(plain.scalars));
    }
    *ENGINE.lock().unwrap() = Some(plain.engine);
}

/// For `transfer.c`: completes a transfer.
#[unsafe(no_mangle)]
pub extern "C" fn bench_complete() {
    ENGINE.lock().unwrap().as_mut().expect("the channel is open").complete(1);
}
