//! Multi-scalar multiplications.

use crate::arguments::{self, channel_options, seconds};
use crate::card::Card;
use crate::errors::{Failure, invalid};
use crate::process::lock;
use crate::slot::{Child, Children, Slot};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xdma::channel::Poll;
use xdma::msm::{DataError, JobError, MsmOptions, Output, ScalarForm};
use xdma::regs::msm::{POINT_BYTES, RESULT_BYTES, SCALAR_BYTES};

/// The client of a design that computes multi-scalar multiplications on BN254. Card.msm opens one.
#[pyclass(frozen, module = "xdma")]
pub struct Msm {
    slot: Child<Slot<xdma::msm::Msm>>,
    last: Mutex<Option<JobTicket>>,
}

/// Points of jobs, in memory that the card reads. Card.points allocates them.
///
/// A point has 64 bytes: x then y, 32 bytes each, little-endian, in Montgomery form (times 2^256 modulo p); 64 zeros for infinity.
#[pyclass(frozen, module = "xdma")]
pub struct Points {
    slot: Child<Slot<xdma::msm::Points>>,
    count: usize,
}

/// Scalars of jobs, in memory that the card reads. Card.scalars allocates them.
///
/// A scalar has 32 bytes, little-endian: the number itself, below r ("canonical"), or the number times 2^256 modulo r ("montgomery").
#[pyclass(frozen, module = "xdma")]
pub struct Scalars {
    slot: Child<Slot<xdma::msm::Scalars>>,
    count: usize,
}

/// A job: points and scalars as one program, prepared once and submitted any number of times. Msm.prepare prepares one. A job keeps the
/// memory of its points and scalars.
#[pyclass(frozen, module = "xdma")]
pub struct Job {
    slot: Child<Slot<xdma::msm::Job>>,
}

/// Identifies a submitted job. Dropping it does not affect the job.
#[pyclass(frozen, eq, hash, module = "xdma")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobTicket(xdma::msm::JobTicket);

/// The result of a job: one point.
#[pyclass(frozen, module = "xdma")]
pub struct MsmResult {
    bytes: [u8; RESULT_BYTES],
    label: u32,
}

/// The parameters of a design.
#[pyclass(frozen, get_all, module = "xdma")]
pub struct MsmDesign {
    /// Whether the core only consumes pairs and computes nothing.
    stub: bool,
    /// Window size in bits.
    window_bits: u32,
    /// Depth of the scalar FIFO in scalars.
    scalar_depth: u32,
    /// Depth of the point FIFO in points.
    point_depth: u32,
    /// Clock of the core in kHz.
    clock_khz: u32,
    /// Number of jobs that can be in flight.
    tasks: u32,
    /// Maximum number of pairs of a job.
    max_pairs: u32,
    /// Number of pairs per chunk that jobs are prepared with.
    chunk: u32,
}

#[pymethods]
impl MsmDesign {
    fn __repr__(&self) -> String {
        let Self { window_bits, max_pairs, chunk, .. } = self;
        format!(
            "<xdma.MsmDesign with windows of {window_bits} bits, up to {max_pairs} pairs in chunks of {chunk}>"
        )
    }
}

/// Bytes of a Python object that consist of whole elements.
struct Elements {
    object: PyUntypedBuffer,
    what: &'static str,
    size: usize,
}

impl Elements {
    fn new(what: &'static str, size: usize, data: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        let object = arguments::view(data)?;
        let (_, len) = arguments::bytes(&object)?;
        if !len.is_multiple_of(size) {
            return Err(DataError::Size { what, len, size }.into());
        }
        Ok(Self { object, what, size })
    }

    fn count(&self) -> usize {
        self.object.len_bytes() / self.size
    }

    /// Copies the elements to those of a list from number `first` on.
    fn copy_to(&self, first: usize, to: &mut [u8]) -> Result<(), Failure> {
        let (from, len) = arguments::bytes(&self.object)?;
        let (what, count, total) = (self.what, self.count(), to.len() / self.size);
        let end = first.checked_add(count).filter(|end| *end <= total);
        let Some(end) = end else {
            return Err(DataError::OutOfRange {
                what,
                start: first,
                end: first.saturating_add(count),
                len: total,
            }
            .into());
        };
        let target = &mut to[first * self.size..end * self.size];
        // SAFETY: the object keeps `len` bytes valid, and the target has as many. They do not overlap, because Python code has no view
        // of points and scalars.
        unsafe { target.as_mut_ptr().copy_from_nonoverlapping(from, len) };
        Ok(())
    }
}

fn form(name: &str) -> Result<ScalarForm, Failure> {
    match name {
        "canonical" => Ok(ScalarForm::Canonical),
        "montgomery" => Ok(ScalarForm::Montgomery),
        _ => Err(invalid(format!("`form` is {name:?}; use \"canonical\" or \"montgomery\""))),
    }
}

fn new_points(card: &xdma::card::Card, data: &Elements) -> Result<xdma::msm::Points, Failure> {
    let mut points = xdma::msm::Points::allocate(card, data.count())?;
    points.fill(|to| data.copy_to(0, to))??;
    Ok(points)
}

fn new_scalars(
    card: &xdma::card::Card,
    data: &Elements,
    form: ScalarForm,
) -> Result<xdma::msm::Scalars, Failure> {
    let mut scalars = xdma::msm::Scalars::allocate(card, data.count(), form)?;
    scalars.fill(|to| data.copy_to(0, to))??;
    Ok(scalars)
}

impl Points {
    pub fn open(py: Python<'_>, card: &Card, data: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        let data = Elements::new("points", POINT_BYTES, data)?;
        let points = new_points(&*card.inner().slot.lock(py)?, &data)?;
        let children = &card.inner().children;
        Ok(Self { slot: Child::new(children, Slot::new("list of points", points)), count: data.count() })
    }
}

impl Scalars {
    pub fn open(py: Python<'_>, card: &Card, data: &Bound<'_, PyAny>, name: &str) -> Result<Self, Failure> {
        let (form, data) = (form(name)?, Elements::new("scalars", SCALAR_BYTES, data)?);
        let scalars = new_scalars(&*card.inner().slot.lock(py)?, &data, form)?;
        let children = &card.inner().children;
        Ok(Self { slot: Child::new(children, Slot::new("list of scalars", scalars)), count: data.count() })
    }
}

#[pymethods]
impl Points {
    fn __len__(&self) -> usize {
        self.count
    }

    /// Writes points from number first on: 64 bytes each. Raises BusyError while a job uses the points.
    #[pyo3(signature = (data, first=0))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>, first: usize) -> Result<(), Failure> {
        let data = Elements::new("points", POINT_BYTES, data)?;
        self.slot.lock(py)?.fill(|to| data.copy_to(first, to))?
    }

    /// Checks that every point is on the curve or at infinity; the card does not check this. Raises ArgumentError with the number of the
    /// first point that is not, and BusyError while a job uses the points.
    fn check(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.with(py, |points| Ok(points.check()?))
    }

    /// Whether they are closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Frees the memory. Jobs that use it keep it. Closing it twice does nothing.
    fn close(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.close(py, |points| {
            drop(points);
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
        format!("<xdma.Points: {}{}>", self.count, if self.closed() { ", closed" } else { "" })
    }
}

#[pymethods]
impl Scalars {
    fn __len__(&self) -> usize {
        self.count
    }

    /// Writes scalars from number first on: 32 bytes each. Raises BusyError while a job uses the scalars.
    #[pyo3(signature = (data, first=0))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>, first: usize) -> Result<(), Failure> {
        let data = Elements::new("scalars", SCALAR_BYTES, data)?;
        self.slot.lock(py)?.fill(|to| data.copy_to(first, to))?
    }

    /// Checks that every scalar is below r; the card does not check this. Raises ArgumentError with the number of the first scalar that is
    /// not, and BusyError while a job uses the scalars.
    fn check(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.with(py, |scalars| Ok(scalars.check()?))
    }

    /// Whether they are closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Frees the memory. Jobs that use it keep it. Closing it twice does nothing.
    fn close(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.close(py, |scalars| {
            drop(scalars);
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
        format!("<xdma.Scalars: {}{}>", self.count, if self.closed() { ", closed" } else { "" })
    }
}

#[pymethods]
impl Job {
    /// Number of pairs.
    #[getter]
    fn pairs(&self, py: Python<'_>) -> Result<u32, Failure> {
        Ok(self.slot.lock(py)?.pairs())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Frees the job. If it is in flight, it continues. Closing it twice does nothing.
    fn close(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.close(py, |job| {
            drop(job);
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
        format!("<xdma.Job{}>", if self.closed() { ", closed" } else { "" })
    }
}

impl From<Output> for MsmResult {
    fn from(output: Output) -> Self {
        Self { bytes: output.bytes, label: output.label }
    }
}

#[pymethods]
impl MsmResult {
    /// The point in 96 bytes: X, Y, Z, 32 bytes each, little-endian; homogeneous (x = X/Z, y = Y/Z), in Montgomery form, each below 2p; Z
    /// is 0 or p for infinity.
    #[getter]
    fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.bytes)
    }

    /// Number of the job: jobs of a client are numbered from 0 on, or from the label that set_label has set, modulo 2^32.
    #[getter]
    fn label(&self) -> u32 {
        self.label
    }

    /// Returns the point as numbers (x, y); None for infinity.
    fn affine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("xdma.bn254")?.call_method1("affine", (self.bytes(py),))
    }

    fn __repr__(&self) -> String {
        format!("<xdma.MsmResult of job {}>", self.label)
    }
}

fn deadline(error: JobError, waited: Duration) -> JobError {
    match error {
        JobError::Deadline { label, pairs, state, channel, .. } => {
            JobError::Deadline { label, pairs, waited, state, channel }
        }
        error => error,
    }
}

impl Msm {
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    pub fn open(
        py: Python<'_>,
        card: &Card,
        h2c: usize,
        c2h: usize,
        chunk: Option<u32>,
        ring: &str,
        wait: &str,
        slots: usize,
    ) -> Result<Self, Failure> {
        let channel = channel_options(ring, wait, slots, false, true, false)?;
        let options = MsmOptions { h2c, c2h, ring: channel.ring, chunk, channel };
        let slot = card.child(py, "MSM client", |card| Ok(xdma::msm::Msm::open(card, options)?))?;
        Ok(Self { slot, last: Mutex::default() })
    }

    fn remember(&self, ticket: xdma::msm::JobTicket) -> JobTicket {
        *lock(&self.last) = Some(JobTicket(ticket));
        JobTicket(ticket)
    }

    fn child<T: Send>(&self, what: &'static str, object: T) -> Child<Slot<T>> {
        let children: &Arc<Children> = self.slot.siblings();
        Child::new(children, Slot::new(what, object))
    }

    fn result(
        &self,
        py: Python<'_>,
        ticket: xdma::msm::JobTicket,
        limit: Duration,
    ) -> Result<MsmResult, Failure> {
        let output = self.slot.wait(
            py,
            limit,
            |msm, slice| match msm.wait(ticket, slice) {
                Ok(output) => Ok(Some(output)),
                Err(JobError::Deadline { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            },
            |msm, waited| msm.wait(ticket, Duration::ZERO).map_err(|error| deadline(error, waited).into()),
        );
        Ok(output?.into())
    }
}

#[pymethods]
impl Msm {
    /// The parameters of the design.
    #[getter]
    fn design(&self, py: Python<'_>) -> Result<MsmDesign, Failure> {
        let msm = self.slot.lock(py)?;
        let design = msm.design();
        Ok(MsmDesign {
            stub: design.stub,
            window_bits: design.window_bits,
            scalar_depth: design.scalar_depth,
            point_depth: design.point_depth,
            clock_khz: design.clock_khz,
            tasks: design.tasks,
            max_pairs: design.max_pairs,
            chunk: msm.chunk(),
        })
    }

    /// Number of jobs in flight.
    #[getter]
    fn in_flight(&self, py: Python<'_>) -> Result<usize, Failure> {
        Ok(self.slot.lock(py)?.in_flight())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// The ticket of the last job submitted, or None.
    #[getter]
    fn last_ticket(&self, py: Python<'_>) -> Result<Option<JobTicket>, Failure> {
        drop(self.slot.lock(py)?);
        Ok(*lock(&self.last))
    }

    /// Sets the label of the next job, which its result has too. Each later job has the next number, modulo 2^32.
    fn set_label(&self, py: Python<'_>, label: u32) -> Result<(), Failure> {
        self.slot.lock(py)?.set_label(label);
        Ok(())
    }

    /// Prepares a job of count pairs: points from number first_point on, scalars from number first_scalar on. If count is
    /// None, the job has all points and scalars from there on, which must then be equally many.
    ///
    /// Scalars may be written again when no job that uses them is in flight. Raises ArgumentError for a range outside of the points or
    /// scalars, different counts, more pairs than the design accepts, or points of another card.
    #[pyo3(signature = (points, scalars, *, first_point=0, first_scalar=0, count=None))]
    fn prepare(
        &self,
        py: Python<'_>,
        points: &Bound<'_, Points>,
        scalars: &Bound<'_, Scalars>,
        first_point: usize,
        first_scalar: usize,
        count: Option<usize>,
    ) -> Result<Job, Failure> {
        let end = |first: usize, all: usize| count.map_or(all, |count| first.saturating_add(count));
        let msm = self.slot.lock(py)?;
        let (points, scalars) = (points.get().slot.lock_too(py)?, scalars.get().slot.lock_too(py)?);
        let ranges =
            (first_point..end(first_point, points.len()), first_scalar..end(first_scalar, scalars.len()));
        let job = msm.prepare_range(&points, ranges.0, &scalars, ranges.1)?;
        Ok(Job { slot: self.child("job", job) })
    }

    /// Starts a job, and returns its ticket without waiting. Up to MsmDesign.tasks jobs can be in flight.
    ///
    /// Raises BusyError if that many are in flight already: poll the earlier ones first. Raises ArgumentError if the job was prepared for
    /// another card.
    fn submit(&self, py: Python<'_>, job: &Bound<'_, Job>) -> Result<JobTicket, Failure> {
        let mut msm = self.slot.lock(py)?;
        let job = job.get().slot.lock_too(py)?;
        Ok(self.remember(msm.submit(&job)?))
    }

    /// Returns whether the card has accepted all data of a job, so that its scalars may be written again. Raises as poll.
    fn poll_accepted(&self, py: Python<'_>, ticket: &Bound<'_, JobTicket>) -> Result<bool, Failure> {
        Ok(self.slot.lock(py)?.poll_accepted(ticket.get().0)? == Poll::Ready)
    }

    /// Returns the result of a job if it is available, and None if not. Each result is returned once.
    ///
    /// Raises ArgumentError for a ticket of another client, or if the result was returned before; EngineError if the job was lost: recover
    /// the client and submit the job again; GoneError.
    fn poll(&self, py: Python<'_>, ticket: &Bound<'_, JobTicket>) -> Result<Option<MsmResult>, Failure> {
        Ok(self.slot.lock(py)?.poll(ticket.get().0)?.map(MsmResult::from))
    }

    /// Waits for the result of a job, for at most timeout seconds. Raises the exceptions of poll, and TimeoutError, after
    /// which the job is still in flight.
    #[pyo3(signature = (ticket, timeout=5.0))]
    fn wait(
        &self,
        py: Python<'_>,
        ticket: &Bound<'_, JobTicket>,
        timeout: f64,
    ) -> Result<MsmResult, Failure> {
        self.result(py, ticket.get().0, seconds("timeout", timeout)?)
    }

    /// Like wait, as a coroutine. If it is cancelled, the job continues, and its ticket can be waited for again.
    #[pyo3(signature = (ticket, timeout=5.0))]
    fn wait_async<'py>(
        this: Bound<'py, Self>,
        ticket: &Bound<'py, JobTicket>,
        timeout: f64,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        seconds("timeout", timeout)?;
        Ok(this.py().import("xdma._waiting")?.call_method1("result", (&this, ticket, timeout))?)
    }

    /// Raises the error that the status registers show, which poll does not read.
    fn _check(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.with(py, |msm| Ok(xdma::unstable::msm::check(msm)?))
    }

    /// Returns the result of a job, or raises the error of a wait that took `waited` seconds.
    fn _expire(
        &self,
        py: Python<'_>,
        ticket: &Bound<'_, JobTicket>,
        waited: f64,
    ) -> Result<MsmResult, Failure> {
        let (ticket, waited) = (ticket.get().0, seconds("waited", waited)?);
        let output = self
            .slot
            .with(py, |msm| Ok(msm.wait(ticket, Duration::ZERO).map_err(|error| deadline(error, waited))?));
        Ok(output?.into())
    }

    /// Computes the sum of scalar times point over all pairs, from bytes: 64 per point as for Points, 32 per scalar as for Scalars. Waits
    /// for at most timeout seconds.
    ///
    /// With check, it first verifies that every point is on the curve and every scalar below r, which takes longer than the rest. Raises
    /// ArgumentError for lengths that are not whole elements, or different numbers of points and scalars, and the exceptions of wait. If
    /// the wait ends early, the job continues: last_ticket identifies it. To use points again, allocate them with Card.points, and prepare
    /// jobs.
    #[pyo3(signature = (points, scalars, *, form="canonical", check=false, timeout=5.0))]
    fn compute(
        &self,
        py: Python<'_>,
        points: &Bound<'_, PyAny>,
        scalars: &Bound<'_, PyAny>,
        form: &str,
        check: bool,
        timeout: f64,
    ) -> Result<MsmResult, Failure> {
        let (form, limit) = (self::form(form)?, seconds("timeout", timeout)?);
        let points = Elements::new("points", POINT_BYTES, points)?;
        let scalars = Elements::new("scalars", SCALAR_BYTES, scalars)?;
        let card = self.slot.lock(py)?.card().clone();
        let (mut points, mut scalars) = (new_points(&card, &points)?, new_scalars(&card, &scalars, form)?);
        let ticket = self.slot.with(py, move |msm| {
            if check {
                points.check()?;
                scalars.check()?;
            }
            Ok(msm.submit(&msm.prepare(&points, &scalars)?)?)
        })?;
        self.remember(ticket);
        self.result(py, ticket, limit)
    }

    /// Recovers the client after an error: drops all jobs in flight, empties the design, and makes its channels usable again.
    fn recover(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.with(py, |msm| Ok(msm.recover()?))
    }

    /// Closes the client and its channels. Jobs in flight are lost. Closing it twice does nothing.
    fn close(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.close(py, |msm| {
            drop(msm);
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
        format!("<xdma.Msm{}>", if self.closed() { ", closed" } else { "" })
    }
}
