//! Memory for transfers.

use crate::arguments::{self, Direction};
use crate::errors::{Failure, closed, forked, invalid, views};
use crate::process::{add_view, generation, lock, remove_view};
use crate::slot::{Child, Close};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::sync::{Mutex, MutexGuard};
use xdma::memory::{DmaMemory, MemoryError};
use xdma::regs;
use xdma::unstable::memory::{RawMemory, check_idle, pointer};

/// Memory that a card reads or writes.
///
/// A buffer from Card.allocate supports the buffer protocol without a copy: memoryview(buffer) and
/// numpy.frombuffer(buffer, dtype) show the memory itself, as one dimension of len(buffer) bytes. Views of an H2C buffer are
/// writable; views of a C2H buffer are read-only, since the card writes it.
///
/// While a transfer uses the buffer, the card accesses the memory at the same time as Python code that uses a view. Such a view
/// shows old or new bytes, and the card reads bytes from before or after a change; nothing crashes. For consistent data, wait until
/// the transfer is finished: in_flight tells whether one uses the buffer. read and write check this.
///
/// A buffer cannot be closed while it has views. If its card is closed, the views stay valid, and the memory is freed with
/// the last of them. In a forked process, views show zeros.
#[pyclass(frozen, module = "xdma")]
pub struct Buffer {
    child: Child<Inner>,
}

pub struct Inner {
    state: Mutex<State>,
    data: *mut u8,
    len: u64,
    direction: regs::Direction,
    /// Number of bytes of a registered object that are staged.
    staged: Option<u64>,
    generation: u64,
}

// SAFETY: the pointer belongs to the memory in the state, or to the caller's object. It is used only while the GIL is held or
// the state is locked.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

struct State {
    /// `None` once the buffer is closed.
    memory: Option<Memory>,
    /// Number of views.
    views: usize,
    /// Whether the card was closed, so that the memory is freed with the last view.
    is_closed: bool,
}

pub enum Memory {
    Allocated(xdma::memory::Buffer),
    Registered(Registered),
}

/// Memory of a Python object.
pub struct Registered(ManuallyDrop<Lent>);

struct Lent {
    raw: RawMemory,
    object: PyUntypedBuffer,
    generation: u64,
}

/// Memory that was dropped while a transfer used it.
static IN_FLIGHT: Mutex<Vec<Lent>> = Mutex::new(Vec::new());

/// Releases objects that were dropped while a transfer used them, if the transfer has ended. Returns at once if another
/// thread is doing so.
pub fn release_finished() {
    let Ok(mut all) = IN_FLIGHT.try_lock() else { return };
    let is_finished = |lent: &mut Lent| lent.generation == generation() && lent.raw.release().is_ok();
    let finished: Vec<_> = all.extract_if(.., is_finished).collect();
    drop(all);
    // This may run Python code, so the lock is not held.
    drop(finished);
}

impl Registered {
    pub fn new(raw: RawMemory, object: PyUntypedBuffer) -> Self {
        Self(ManuallyDrop::new(Lent { raw, object, generation: generation() }))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: taken only here.
        let lent = unsafe { ManuallyDrop::take(&mut self.0) };
        if lent.raw.release().is_err() {
            // The card may still access the memory.
            lock(&IN_FLIGHT).push(lent);
        }
    }
}

/// An open buffer, locked.
pub struct Open<'a>(MutexGuard<'a, State>);

impl Open<'_> {
    #[inline]
    pub fn memory(&self) -> &Memory {
        self.0.memory.as_ref().expect("checked when it was locked")
    }

    fn memory_mut(&mut self) -> &mut Memory {
        self.0.memory.as_mut().expect("checked when it was locked")
    }
}

/// Calls a method of either kind of memory.
#[macro_export]
macro_rules! on_memory {
    ($memory:expr, $name:ident => $body:expr) => {
        match $memory {
            $crate::buffer::Memory::Allocated($name) => $body,
            $crate::buffer::Memory::Registered(registered) => {
                let $name = registered.raw();
                $body
            }
        }
    };
}

impl Registered {
    pub fn raw(&self) -> &RawMemory {
        &self.0.raw
    }
}

impl Memory {
    fn check_idle(&self) -> Result<(), MemoryError> {
        match self {
            Self::Allocated(buffer) => check_idle(buffer),
            Self::Registered(registered) => registered.raw().check_idle(),
        }
    }

    fn synchronize(&mut self) -> Result<(), MemoryError> {
        match self {
            Self::Allocated(buffer) => check_idle(buffer),
            Self::Registered(registered) => registered.0.raw.synchronize(),
        }
    }

    /// Returns whether it is an object that cannot be changed, such as `bytes`.
    fn is_immutable(&self) -> bool {
        matches!(self, Self::Registered(registered) if registered.0.object.readonly())
    }
}

impl Inner {
    pub fn new(memory: Memory, direction: regs::Direction) -> Self {
        let (staged, len) = match &memory {
            Memory::Allocated(buffer) => (None, buffer.byte_len()),
            Memory::Registered(registered) => {
                (Some(registered.raw().staged_bytes()), registered.raw().byte_len())
            }
        };
        let data = match &memory {
            // SAFETY: the memory is dropped only when no view exists, and is used only through copies and views.
            Memory::Allocated(buffer) => unsafe { pointer(buffer) },
            Memory::Registered(registered) => registered.0.object.buf_ptr().cast(),
        };
        let state = Mutex::new(State { memory: Some(memory), views: 0, is_closed: false });
        Self { state, data, len, direction, staged, generation: generation() }
    }

    fn is_forked(&self) -> bool {
        self.generation != generation()
    }

    /// Locks the buffer, if it is open.
    #[inline]
    pub fn open(&self) -> Result<Open<'_>, Failure> {
        if self.is_forked() {
            return Err(forked("buffer"));
        }
        let state = lock(&self.state);
        if state.memory.is_none() || state.is_closed { Err(closed("buffer")) } else { Ok(Open(state)) }
    }
}

impl Close for Inner {
    fn close_with_card(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let memory = if state.views == 0 { state.memory.take() } else { None };
        drop(state);
        drop(memory);
    }

    fn is_memory(&self) -> bool {
        true
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.is_forked() {
            let state = self.state.get_mut().unwrap_or_else(|error| error.into_inner());
            std::mem::forget(state.memory.take());
        }
    }
}

impl Buffer {
    pub fn new(child: Child<Inner>) -> Self {
        Self { child }
    }

    pub fn inner(&self) -> &Inner {
        &self.child
    }

    #[inline]
    pub fn open(&self) -> Result<Open<'_>, Failure> {
        self.child.open()
    }

    #[inline]
    pub fn len(&self) -> u64 {
        self.child.len
    }

    fn release(&self) -> Result<(), Failure> {
        let mut state = lock(&self.child.state);
        if state.views > 0 {
            let text = format!(
                "{} views of the buffer exist, such as numpy arrays; delete them before closing it",
                state.views
            );
            return Err(views(text));
        }
        if let Some(Memory::Registered(registered)) = &state.memory {
            registered.raw().release()?;
        }
        state.is_closed = true;
        let memory = state.memory.take();
        drop(state);
        drop(memory);
        Ok(())
    }
}

#[pymethods]
impl Buffer {
    /// Direction of its transfers: H2C or C2H.
    #[getter]
    fn direction(&self) -> Direction {
        self.child.direction.into()
    }

    /// Whether transfers that use the buffer are in flight.
    #[getter]
    fn in_flight(&self) -> Result<bool, Failure> {
        match self.open()?.memory().check_idle() {
            Ok(()) => Ok(false),
            Err(MemoryError::InFlight(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        !self.child.is_forked() && self.open().is_err()
    }

    /// Number of bytes of a registered object that are staged in the driver's memory, and that sync copies. 0 for allocated
    /// buffers.
    #[getter]
    fn staged(&self) -> u64 {
        self.child.staged.unwrap_or(0)
    }

    fn __len__(&self) -> usize {
        self.child.len as usize
    }

    /// Returns a copy of size bytes from byte offset on, or of all bytes from there on if size is None.
    ///
    /// Raises BusyError while a transfer uses the buffer.
    #[pyo3(signature = (offset=0, size=None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Bound<'py, PyBytes>, Failure> {
        let open = self.open()?;
        let range = arguments::range(offset, size, self.child.len)?;
        open.memory().check_idle()?;
        let copied = PyBytes::new_with(py, (range.end - range.start) as usize, |to| {
            on_memory!(open.memory(), memory => memory.read(range.start, to))
                .map_err(|error| Failure::from(error).into())
        });
        Ok(copied?)
    }

    /// Copies data to an H2C buffer, from byte offset on. data is any contiguous object that supports the buffer protocol.
    ///
    /// Raises BusyError while a transfer uses the buffer.
    #[pyo3(signature = (data, offset=0))]
    fn write(&self, data: &Bound<'_, PyAny>, offset: u64) -> Result<(), Failure> {
        let data = arguments::view(data)?;
        let (from, len) = arguments::bytes(&data)?;
        let mut open = self.open()?;
        if self.child.direction == regs::Direction::C2H {
            return Err(invalid(
                "the card writes this buffer, so the program only reads it; allocate one for H2C",
            ));
        }
        if open.memory().is_immutable() {
            return Err(invalid(
                "the registered object is read-only; register a bytearray or a writable array",
            ));
        }
        let range = arguments::range(offset, Some(len as u64), self.child.len)?;
        open.memory().check_idle()?;
        // SAFETY: the source is valid while `data` exists, and the target lies in the buffer, which stays open while it is locked. They
        // may overlap, since `data` can be a view of this buffer.
        unsafe { self.child.data.add(range.start as usize).copy_from(from, len) };
        Ok(open.memory_mut().synchronize()?)
    }

    /// Copies the staged bytes of a registered object: for H2C from the object to the driver's memory, and for C2H from there to the
    /// object. Call it between a change of the object and an H2C transfer, and between a C2H transfer and reading the object.
    ///
    /// Does nothing for allocated buffers. Raises BusyError while a transfer uses the buffer.
    fn sync(&self) -> Result<(), Failure> {
        Ok(self.open()?.memory_mut().synchronize()?)
    }

    /// Frees the memory. Transfers in flight keep it until they are finished.
    ///
    /// Raises BufferError while the buffer has views, and BusyError while a transfer uses a registered object. Closing it twice does
    /// nothing.
    fn close(&self) -> Result<(), Failure> {
        if self.child.is_forked() { Ok(()) } else { self.release() }
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyAny>) -> Result<(), Failure> {
        self.close()
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { ", closed" } else { "" };
        format!("<xdma.Buffer of {} bytes, {}{state}>", self.child.len, self.child.direction)
    }

    /// # Safety
    ///
    /// As for the slot of Python's buffer protocol.
    unsafe fn __getbuffer__(this: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let inner = &*this.get().child;
        let mut open = inner.open()?;
        if inner.staged.is_some() {
            return Err(PyBufferError::new_err("the buffer is a registered object; use that object itself"));
        }
        let readonly = inner.direction == regs::Direction::C2H;
        // SAFETY: the memory stays allocated while the view exists, because it is counted. The view holds a reference to this object.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                this.as_ptr(),
                inner.data.cast(),
                inner.len as isize,
                readonly.into(),
                flags,
            )
        };
        if filled != 0 {
            return Err(PyErr::fetch(this.py()));
        }
        open.0.views += 1;
        if open.0.views == 1 {
            add_view(inner.data.addr(), inner.len as usize);
        }
        Ok(())
    }

    /// # Safety
    ///
    /// As for the slot of Python's buffer protocol.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        let inner = &*self.child;
        if inner.is_forked() {
            return;
        }
        let mut state = lock(&inner.state);
        state.views -= 1;
        if state.views == 0 {
            remove_view(inner.data.addr());
            let memory = if state.is_closed { state.memory.take() } else { None };
            drop(state);
            drop(memory);
        }
    }
}
