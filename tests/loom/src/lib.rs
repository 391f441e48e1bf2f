//! The driver's fences and counts (`src/memory/order.rs`, the very file), run by loom in every order that the memory model
//! allows.
//!
//! On the machines at hand no test sees that a fence is missing: x86 keeps stores in order, and each doorbell is a system call or
//! the exit of a virtual machine. Here the card is a thread, its doorbell a relaxed store (a posted write, which may be
//! combined and late), and memory notices an access that nothing orders after the one before. Each model is also run
//! with one fence left out, and has to fail then.

#![cfg(test)]

mod sync;

#[path = "../../../src/memory/order.rs"]
#[expect(dead_code, reason = "what only the owner of a channel asks")]
mod order;

mod card;
mod models;
mod rules;
