//! Interrupts.

use crate::arguments::seconds;
use crate::card::Card;
use crate::errors::Failure;
use crate::slot::{Child, Slot};
use pyo3::prelude::*;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;
use xdma::card::Source;

/// An enabled interrupt. Card.user_interrupt and Card.channel_interrupt enable one.
#[pyclass(frozen, module = "xdma")]
pub struct Interrupt {
    slot: Child<Slot<xdma::card::Interrupt>>,
    source: String,
}

impl Interrupt {
    pub fn open(py: Python<'_>, card: &Card, source: Source) -> Result<Self, Failure> {
        let slot = card.child(py, "interrupt", |card| Ok(card.interrupt(source)?))?;
        Ok(Self { slot, source: source.to_string() })
    }
}

#[pymethods]
impl Interrupt {
    /// Sleeps until the interrupt fires, for at most timeout seconds. Returns how often it has fired since the last call; 0 if the time
    /// limit expired.
    #[pyo3(signature = (timeout=5.0))]
    fn wait(&self, py: Python<'_>, timeout: f64) -> Result<u64, Failure> {
        let limit = seconds("timeout", timeout)?;
        let fired = |interrupt: &mut xdma::card::Interrupt, slice: Duration| {
            let fired = interrupt.wait(slice)?;
            Ok((fired > 0).then_some(fired))
        };
        self.slot.wait(py, limit, fired, |_, _| Ok(0))
    }

    /// Like wait, as a coroutine.
    #[pyo3(signature = (timeout=5.0))]
    fn wait_async(this: Bound<'_, Self>, timeout: f64) -> Result<Bound<'_, PyAny>, Failure> {
        seconds("timeout", timeout)?;
        Ok(this.py().import("xdma._waiting")?.call_method1("interrupt", (&this, timeout))?)
    }

    /// Returns how often the interrupt has fired since the last call, which may be 0, and enables it again. Does not block.
    fn take(&self, py: Python<'_>) -> Result<u64, Failure> {
        Ok(self.slot.lock(py)?.take())
    }

    /// Returns the file descriptor, which becomes readable when the interrupt fires, for select, poll and event loops.
    ///
    /// Do not read from it: take does that, and enables the interrupt again. Do not close it: close does that.
    fn fileno(&self, py: Python<'_>) -> Result<i32, Failure> {
        Ok(self.slot.lock(py)?.as_fd().as_raw_fd())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Disables the interrupt and closes its file descriptor. Closing it twice does nothing.
    fn close(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.close(py, |interrupt| {
            drop(interrupt);
            Ok(())
        })
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> Result<(), Failure> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<xdma.Interrupt of {}{}>", self.source, if self.closed() { ", closed" } else { "" })
    }
}
