//! The native part of the Python package `xdma`.
//!
//! Every object of the driver is in a [`slot::Slot`], so that any Python thread may use any object at any time: calls exclude each
//! other, the use of a closed object is an error, and a wait releases both the GIL and the slot.

mod arguments;
mod buffer;
mod card;
mod channel;
mod errors;
mod interrupt;
mod log;
mod msm;
#[cfg(feature = "instructions")]
mod plain;
mod process;
mod program;
mod receiver;
mod registers;
mod slot;

use pyo3::prelude::*;

/// The native part of the package xdma. Import xdma instead.
#[pymodule]
mod _xdma {
    use pyo3::prelude::*;

    #[cfg(feature = "instructions")]
    #[pymodule_export]
    use crate::plain::{Engine, plain};
    #[pymodule_export]
    use crate::{
        arguments::Direction,
        buffer::Buffer,
        card::{Card, CardInfo},
        channel::{Channel, ChannelStats, Ticket},
        interrupt::Interrupt,
        log::log,
        msm::{Job, JobTicket, Msm, MsmDesign, MsmResult, Points, Scalars},
        process::{after_fork, at_exit},
        program::Program,
        receiver::{Receiver, Sender},
        registers::{RegisterValue, Registers, UserRegisters},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::process::remember_process();
        crate::errors::import(module.py())
    }

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
