//! A channel whose registers are plain memory and whose transfers finish when the bench says so, to count instructions.

use crate::buffer::{self, Buffer, Memory};
use crate::channel::Channel;
use crate::process::lock;
use crate::slot::{Child, Children, Slot};
use pyo3::prelude::*;
use std::sync::Mutex;
use xdma::channel::Ring;
use xdma::regs::Direction;
use xdma_instructions::{Plain, PlainEngine};

/// The engine of the channel.
#[pyclass(frozen)]
pub struct Engine(Mutex<PlainEngine>);

#[pymethods]
impl Engine {
    /// Completes one descriptor.
    fn complete(&self) {
        lock(&self.0).complete(1);
    }
}

/// Returns an H2C channel, a buffer, and the engine.
#[pyfunction]
#[pyo3(name = "_plain")]
pub fn plain(credits: bool) -> (Channel, Buffer, Engine) {
    let ring = if credits { Ring::Credits } else { Ring::Chain };
    let Plain { channel, scalars, engine, .. } = Plain::new(ring);
    let children = Children::new();
    let slots = (Slot::new("channel", channel), Slot::new("channel", None));
    let channel =
        Channel::new(Child::new(&children, slots.0), Child::new(&children, slots.1), Direction::H2C, 0);
    let memory = buffer::Inner::new(Memory::Allocated(scalars), Direction::H2C);
    (channel, Buffer::new(Child::new(&children, memory)), Engine(Mutex::new(engine)))
}
