//! Options of the client.

use crate::channel::{ChannelOptions, Ring};

/// Form of scalars in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ScalarForm {
    /// The number itself, below r.
    #[default]
    Canonical,
    /// The number times 2^256 modulo r, as arkworks and halo2curves store it.
    Montgomery,
}

/// Options for opening a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MsmOptions {
    /// H2C channel that streams (0 to 3).
    pub h2c: usize,
    /// C2H channel that fetches results (0 to 3).
    pub c2h: usize,
    /// Ring of the streaming channel; `None` selects the chain ring, which starts a whole program by one doorbell. Credits are
    /// not faster on the emulated card (`cargo bench --bench feed -- --sweep`).
    pub ring: Option<Ring>,
    /// Number of pairs per chunk; `None` selects [`Design::default_chunk`](super::Design::default_chunk).
    pub chunk: Option<u32>,
    /// Other options of the streaming channel. The client waits for results in the same way: if [`ChannelOptions::wait`] selects
    /// sleeping, it sleeps until the design raises its interrupt.
    pub channel: ChannelOptions,
}
