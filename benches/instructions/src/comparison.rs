//! The same transfer in Rust and in C, for a comparison of their instructions.
//!
//! It is in the library, so that the compiler optimises it independently of the other cases.

use crate::Plain;
use crate::callgrind::measured;
use std::hint::black_box;
use std::time::Duration;
use xdma::channel::{Channel, Ring};
use xdma_capi::{XDMA_OK, xdma_submit, xdma_ticket, xdma_wait};

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

/// Measures the same transfers through the functions of the C library.
pub fn in_c(ring: Ring) {
    let Plain { channel, scalars, mut engine, .. } = Plain::new(ring);
    let (channel, buffer) = (xdma_capi::unstable::channel(channel), xdma_capi::unstable::buffer(scalars));
    let (size, address, limit) = black_box((4096, 0x1000, 10_000_000_000));
    let mut ticket = xdma_ticket { channel: 0, sequence: 0 };
    for round in 0..3 + ROUNDS {
        let ticket_pointer = &raw mut ticket;
        // SAFETY: the ticket is valid for writes.
        let begin = move || unsafe { xdma_submit(channel, buffer, 0, size, address, ticket_pointer) };
        assert_eq!(if round < 3 { begin() } else { measured(begin) }, XDMA_OK);
        engine.complete(1);
        // SAFETY: no argument is a pointer to memory.
        let end = move || unsafe { xdma_wait(channel, ticket, limit) };
        assert_eq!(if round < 3 { end() } else { measured(end) }, XDMA_OK);
    }
}
