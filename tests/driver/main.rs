//! The driver against the emulated card, over its socket.

mod memory;
mod msm;
mod support;
