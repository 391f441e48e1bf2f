//! Programs: lists of transfers that are built once.

use crate::arguments;
use crate::buffer::Buffer;
use crate::channel::{Channel, Ticket};
use crate::errors::{Failure, invalid};
use crate::on_memory;
use crate::slot::{Child, Slot};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use xdma::channel::Transfers;
use xdma::regs;

/// A prebuilt chain of descriptors, which runs any number of times. Channel.program builds one.
///
/// It keeps the memory of its buffers. It runs on channels of the same card, direction and ring.
#[pyclass(frozen, module = "xdma")]
pub struct Program {
    slot: Child<Slot<xdma::channel::Program>>,
}

/// Reads a segment: a tuple (buffer, address), (buffer, address, offset) or (buffer, address, offset, size).
fn add(transfers: &mut Transfers, segment: &Bound<'_, PyAny>) -> Result<(), Failure> {
    let Ok(segment) = segment.cast::<PyTuple>() else {
        let text = "a segment is not a tuple; pass (buffer, address) or (buffer, address, offset, size)";
        return Err(PyTypeError::new_err(text).into());
    };
    if !(2..=4).contains(&segment.len()) {
        let text =
            "a segment has the items buffer, address, and optionally offset and size; pass 2 to 4 of them";
        return Err(invalid(text));
    }
    let buffer = segment.get_item(0)?;
    let buffer = buffer.cast::<Buffer>().map_err(PyErr::from)?.get();
    let address: u64 = segment.get_item(1)?.extract()?;
    let offset: u64 = segment.get_item(2).map_or(Ok(0), |offset| offset.extract())?;
    let size: Option<u64> = segment.get_item(3).map_or(Ok(None), |size| size.extract())?;
    let range = arguments::range(offset, size, buffer.len())?;
    let open = buffer.open()?;
    on_memory!(open.memory(), memory => transfers.add(memory, range, address).map(drop))?;
    Ok(())
}

/// Returns the segments of any iterable as a list of transfers.
pub fn transfers(direction: regs::Direction, segments: &Bound<'_, PyAny>) -> Result<Transfers, Failure> {
    let mut transfers = Transfers::new(direction);
    for segment in segments.try_iter()? {
        add(&mut transfers, &segment?)?;
    }
    Ok(transfers)
}

impl Program {
    pub fn build(py: Python<'_>, channel: &Channel, segments: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        let transfers = transfers(channel.regs_direction(), segments)?;
        let slot = channel.slot();
        let program = slot.with(py, |channel| {
            Ok(Child::new(slot.siblings(), Slot::new("program", channel.program(&transfers)?)))
        })?;
        Ok(Self { slot: program })
    }

    pub fn run(&self, py: Python<'_>, channel: &Channel) -> Result<Ticket, Failure> {
        let mut channel = channel.slot().lock(py)?;
        let program = self.slot.lock_too(py)?;
        Ok(Ticket(channel.run(&program)?))
    }
}

#[pymethods]
impl Program {
    /// Number of descriptors.
    #[getter]
    fn descriptors(&self, py: Python<'_>) -> Result<usize, Failure> {
        Ok(self.slot.lock(py)?.descriptors())
    }

    /// Number of bytes that a run moves.
    #[getter]
    fn bytes(&self, py: Python<'_>) -> Result<u64, Failure> {
        Ok(self.slot.lock(py)?.bytes())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Frees the program. Runs in flight continue. Closing it twice does nothing.
    fn close(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.close(py, |program| {
            drop(program);
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
        format!("<xdma.Program{}>", if self.closed() { ", closed" } else { "" })
    }
}
