//! Runs the driver's fences and counters (the file `src/memory/order.rs` itself) under loom, in every order that the memory model
//! allows, and the word through which a client and the broker of `xdma run` take turns (`crates/chardev/src/turn.rs`).
//!
//! Other tests cannot detect a missing fence: x86 keeps stores in order, and with an emulated card each doorbell is a system call
//! or an exit from the virtual machine. Here, the card is a thread, a doorbell is a relaxed store (a posted write can be delayed),
//! and memory detects accesses that are not ordered. Each model also runs with one ordering removed, and must fail then.

#![cfg(test)]

mod sync;

#[path = "../../../src/memory/order.rs"]
#[expect(dead_code, reason = "used only by the owner of a channel")]
mod order;

#[path = "../../../crates/chardev/src/turn.rs"]
mod turn;

mod card;
mod futex;
mod models;
mod orderings;
mod turns;
