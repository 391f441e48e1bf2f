//! Channels: transfers.

use crate::arguments::{self, Direction, seconds};
use crate::buffer::Buffer;
use crate::card::Card;
use crate::errors::{Failure, invalid};
use crate::on_memory;
use crate::program::{self, Program};
use crate::slot::{Child, Slot};
use pyo3::prelude::*;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;
use xdma::card::{Interrupt, InterruptError, Source};
use xdma::channel::{ChannelOptions, Poll};
use xdma::regs;
use xdma::unstable::channel as unstable;

/// An open DMA channel. Card.h2c and Card.c2h open one.
#[pyclass(frozen, subclass, module = "xdma")]
pub struct Channel {
    slot: Child<Slot<xdma::channel::Channel>>,
    /// The interrupt for event loops.
    interrupt: Child<Slot<Option<Interrupt>>>,
    direction: regs::Direction,
    number: usize,
}

/// Identifies a submitted transfer, run of a program, or packet. Dropping it does not affect the transfer.
#[pyclass(frozen, eq, hash, module = "xdma")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub xdma::channel::Ticket);

/// Statistics of a channel since its card was opened.
#[pyclass(frozen, get_all, module = "xdma")]
pub struct ChannelStats {
    /// Transfers, runs and packets submitted.
    submitted: u64,
    /// Those that completed successfully.
    completed: u64,
    /// Those that ended with an error, or because the channel was stopped.
    abandoned: u64,
    /// Bytes of completed transfers.
    bytes: u64,
    /// Descriptors posted to the engine.
    descriptors: u64,
    /// Writes that started the engine.
    doorbells: u64,
    /// Submissions refused because the ring was full.
    full: u64,
    /// Waits that reached their time limit.
    timeouts: u64,
    /// Errors of the engine and of the link to it.
    errors: u64,
    /// Successful recoveries.
    recoveries: u64,
}

#[pymethods]
impl ChannelStats {
    fn __repr__(&self) -> String {
        let Self { submitted, completed, abandoned, bytes, .. } = self;
        format!(
            "<xdma.ChannelStats {submitted} submitted, {completed} completed, {abandoned} abandoned, {bytes} bytes>"
        )
    }
}

impl Channel {
    #[cfg(feature = "instructions")]
    pub fn new(
        slot: Child<Slot<xdma::channel::Channel>>,
        interrupt: Child<Slot<Option<Interrupt>>>,
        direction: regs::Direction,
        number: usize,
    ) -> Self {
        Self { slot, interrupt, direction, number }
    }

    pub fn open(
        py: Python<'_>,
        card: &Card,
        direction: regs::Direction,
        number: usize,
        options: ChannelOptions,
    ) -> Result<Self, Failure> {
        let open = |card: &xdma::card::Card| Ok(card.channel(direction, number, options)?);
        Self::open_with(py, card, direction, number, options, open)
    }

    /// Opens a channel, and its interrupt if the options include it.
    pub fn open_with(
        py: Python<'_>,
        card: &Card,
        direction: regs::Direction,
        number: usize,
        options: ChannelOptions,
        open: impl FnOnce(&xdma::card::Card) -> Result<xdma::channel::Channel, Failure> + Send,
    ) -> Result<Self, Failure> {
        let slot = card.child(py, "channel", open)?;
        let interrupts = options.interrupt || options.wait.sleeps();
        let enable = |card: &xdma::card::Card| match card.interrupt(Source::Channel(direction, number)) {
            Ok(interrupt) => Ok(Some(interrupt)),
            // Waits then poll.
            Err(InterruptError::NoVectors) if !options.interrupt => Ok(None),
            Err(error) => Err(error.into()),
        };
        let interrupt = card.child(py, "channel", |card| if interrupts { enable(card) } else { Ok(None) })?;
        Ok(Self { slot, interrupt, direction, number })
    }

    pub fn regs_direction(&self) -> regs::Direction {
        self.direction
    }

    pub fn slot(&self) -> &Child<Slot<xdma::channel::Channel>> {
        &self.slot
    }

    #[inline]
    fn start(
        channel: &mut xdma::channel::Channel,
        buffer: &Buffer,
        address: u64,
        offset: u64,
        size: Option<u64>,
    ) -> Result<xdma::channel::Ticket, Failure> {
        let range = arguments::range(offset, size, buffer.len())?;
        let open = buffer.open()?;
        on_memory!(open.memory(), memory => unstable::submit(channel, memory, range, address))
            .map_err(|error| (*error).into())
    }

    /// Waits for a transfer that is pending.
    #[cold]
    fn wait_for(
        &self,
        py: Python<'_>,
        ticket: xdma::channel::Ticket,
        limit: Duration,
    ) -> Result<(), Failure> {
        self.slot.wait(
            py,
            limit,
            |channel, slice| match unstable::wait_slice(channel, ticket, slice)? {
                Poll::Ready => Ok(Some(())),
                Poll::Pending => Ok(None),
            },
            |channel, waited| Err(unstable::deadline_error(channel, waited).into()),
        )
    }
}

#[pymethods]
impl Channel {
    /// Direction: H2C or C2H.
    #[getter]
    fn direction(&self) -> Direction {
        self.direction.into()
    }

    /// Number of the channel, 0 to 3.
    #[getter]
    fn number(&self) -> usize {
        self.number
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// The ring in use: "chain" or "credits".
    #[getter]
    fn ring(&self, py: Python<'_>) -> Result<String, Failure> {
        Ok(self.slot.lock(py)?.ring().to_string())
    }

    /// Number of transfers, runs and packets in flight.
    #[getter]
    fn in_flight(&self, py: Python<'_>) -> Result<usize, Failure> {
        Ok(self.slot.lock(py)?.in_flight())
    }

    /// The ticket of the last submission, or None.
    #[getter]
    fn last_ticket(&self, py: Python<'_>) -> Result<Option<Ticket>, Failure> {
        Ok(self.slot.lock(py)?.last_ticket().map(Ticket))
    }

    /// Statistics since the card was opened.
    #[getter]
    fn stats(&self, py: Python<'_>) -> Result<ChannelStats, Failure> {
        let stats = self.slot.lock(py)?.stats();
        Ok(ChannelStats {
            submitted: stats.submitted,
            completed: stats.completed,
            abandoned: stats.abandoned,
            bytes: stats.bytes,
            descriptors: stats.descriptors,
            doorbells: stats.doorbells,
            full: stats.full,
            timeouts: stats.timeouts,
            errors: stats.errors.total(),
            recoveries: stats.recoveries,
        })
    }

    /// Describes the registers of the channel and the state of its ring as text.
    fn describe(&self, py: Python<'_>) -> Result<String, Failure> {
        self.slot.with(py, |channel| Ok(channel.snapshot()?.to_string()))
    }

    /// Moves size bytes between byte offset of the buffer and the card addresses from address on, and waits for at most timeout
    /// seconds. If size is None, the range ends with the buffer.
    ///
    /// Raises BusyError if the ring is full; ArgumentError for a wrong range, or a buffer of another card or of the other direction;
    /// TimeoutError, EngineError and GoneError. After TimeoutError, or if a signal handler raises an exception such as KeyboardInterrupt,
    /// the transfer is still in flight, and last_ticket identifies it.
    #[pyo3(signature = (buffer, address=0, *, offset=0, size=None, timeout=5.0))]
    fn transfer(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, Buffer>,
        address: u64,
        offset: u64,
        size: Option<u64>,
        timeout: f64,
    ) -> Result<(), Failure> {
        let limit = seconds("timeout", timeout)?;
        let mut channel = self.slot.lock(py)?;
        let ticket = Self::start(&mut channel, buffer.get(), address, offset, size)?;
        if unstable::poll(&mut channel, ticket).map_err(|error| Failure::from(*error))? == Poll::Ready {
            return Ok(());
        }
        drop(channel);
        self.wait_for(py, ticket, limit)
    }

    /// Starts a transfer of size bytes between byte offset of the buffer and the card addresses from address on, and returns its
    /// ticket without waiting. If size is None, the range ends with the buffer.
    ///
    /// The card uses the memory until the transfer is finished, and the channel keeps the memory until then. Raises the exceptions of
    /// transfer, except TimeoutError.
    #[pyo3(signature = (buffer, address=0, *, offset=0, size=None))]
    fn submit(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, Buffer>,
        address: u64,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Ticket, Failure> {
        let mut channel = self.slot.lock(py)?;
        Ok(Ticket(Self::start(&mut channel, buffer.get(), address, offset, size)?))
    }

    /// Starts several transfers as one, and returns the ticket for all of them.
    ///
    /// segments is an iterable of tuples (buffer, address), (buffer, address, offset) or (buffer, address, offset, size), with the
    /// meaning of the arguments of submit. The ring must have enough free descriptors for all of them; build a program for more.
    fn submit_list(&self, py: Python<'_>, segments: &Bound<'_, PyAny>) -> Result<Ticket, Failure> {
        let transfers = program::transfers(self.direction, segments)?;
        Ok(Ticket(self.slot.lock(py)?.start(&transfers)?))
    }

    /// Builds a program of transfers. segments is as for submit_list. On a Sender, a program is one packet.
    fn program(&self, py: Python<'_>, segments: &Bound<'_, PyAny>) -> Result<Program, Failure> {
        Program::build(py, self, segments)
    }

    /// Starts a program, and returns the ticket of the run. Writes no descriptor, and does not block.
    ///
    /// Raises BusyError if the ring is full; ArgumentError if the program was built for another card, direction or ring.
    fn run(&self, py: Python<'_>, program: &Bound<'_, Program>) -> Result<Ticket, Failure> {
        program.get().run(py, self)
    }

    /// Returns whether a transfer, run or packet is finished. Does not block.
    ///
    /// It does not find errors that the engine does not report in memory; wait and check do. Raises ArgumentError for a ticket of another
    /// channel; EngineError if the engine failed or was stopped before the transfer finished; GoneError.
    fn poll(&self, py: Python<'_>, ticket: &Bound<'_, Ticket>) -> Result<bool, Failure> {
        let mut channel = self.slot.lock(py)?;
        Ok(channel.poll(ticket.get().0)? == Poll::Ready)
    }

    /// Waits until a transfer, run or packet is finished, for at most timeout seconds.
    ///
    /// Raises the exceptions of poll, and TimeoutError, after which the transfer is still in flight.
    #[pyo3(signature = (ticket, timeout=5.0))]
    fn wait(&self, py: Python<'_>, ticket: &Bound<'_, Ticket>, timeout: f64) -> Result<(), Failure> {
        let (limit, ticket) = (seconds("timeout", timeout)?, ticket.get().0);
        let ready = self.slot.lock(py)?.poll(ticket)? == Poll::Ready;
        if ready { Ok(()) } else { self.wait_for(py, ticket, limit) }
    }

    /// Like transfer, as a coroutine.
    ///
    /// It sleeps on the channel's interrupt, or polls at least once a millisecond if the channel was opened with a wait that polls.
    /// If it is cancelled, the transfer continues: the channel keeps the memory until it is finished, and last_ticket identifies it.
    #[pyo3(signature = (buffer, address=0, *, offset=0, size=None, timeout=5.0))]
    fn transfer_async<'py>(
        this: Bound<'py, Self>,
        buffer: &Bound<'py, Buffer>,
        address: u64,
        offset: u64,
        size: Option<u64>,
        timeout: f64,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        seconds("timeout", timeout)?;
        let arguments = (&this, buffer, address, offset, size, timeout);
        Ok(this.py().import("xdma._waiting")?.call_method1("transfer", arguments)?)
    }

    /// Like wait, as a coroutine; see transfer_async. If it is cancelled, the ticket can be waited for again.
    #[pyo3(signature = (ticket, timeout=5.0))]
    fn wait_async<'py>(
        this: Bound<'py, Self>,
        ticket: &Bound<'py, Ticket>,
        timeout: f64,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        seconds("timeout", timeout)?;
        Ok(this.py().import("xdma._waiting")?.call_method1("wait", (&this, ticket, timeout))?)
    }

    /// Raises the error of a wait that took `waited` seconds.
    fn _expire(&self, py: Python<'_>, waited: f64) -> Result<(), Failure> {
        let waited = seconds("waited", waited)?;
        self.slot.with(py, |channel| Err(unstable::deadline_error(channel, waited).into()))
    }

    /// Returns a file descriptor that becomes readable when the channel interrupts, for select, poll and event loops. Returns None if the
    /// channel was opened without interrupt=True and with a wait that does not sleep.
    ///
    /// Call rearm_interrupt, then poll, before sleeping on it. Sleep at most a few milliseconds at a time while several transfers are in
    /// flight on a chain ring: the engine may still be busy when it reports a transfer, and no interrupt reports when a poll can start the
    /// next. Do not read from it, and do not close it.
    fn fileno(&self, py: Python<'_>) -> Result<Option<i32>, Failure> {
        // A closed channel has no interrupt that fires.
        drop(self.slot.lock(py)?);
        Ok(self.interrupt.lock(py)?.as_ref().map(|interrupt| interrupt.as_fd().as_raw_fd()))
    }

    /// Clears the interrupt of the channel, and enables it again. Poll after this call and before sleeping: work that finished before the
    /// call does not interrupt.
    fn rearm_interrupt(&self, py: Python<'_>) -> Result<(), Failure> {
        self.interrupt.with(py, |interrupt| Ok(interrupt.as_ref().map(Interrupt::take))).map(drop)?;
        self.slot.with(py, |channel| Ok(channel.rearm_interrupt()?))
    }

    /// Reads the status register, and raises EngineError if it shows an error. wait does this too; programs that only poll should
    /// call this about once a millisecond.
    fn check(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.with(py, |channel| Ok(channel.check()?))
    }

    /// Stops the engine and abandons all work in flight. Recover the channel before the next submission.
    ///
    /// Raises HungError if the engine does not become idle: the card then keeps the memory in flight.
    fn stop(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.with(py, |channel| Ok(channel.stop()?))
    }

    /// Makes a channel that failed, was stopped, or whose card was reset usable again. Work in flight is lost.
    ///
    /// help, if not None, is called repeatedly, without arguments, while the engine is busy. It is for user logic that stalls the engine:
    /// help can write a register that makes the logic accept or drop data. If help uses this channel, that call raises BusyError. If help
    /// raises an exception, it is not called again, and recover raises the exception when it ends.
    #[pyo3(signature = (help=None))]
    fn recover(&self, py: Python<'_>, help: Option<Py<PyAny>>) -> Result<(), Failure> {
        self.slot.with_help(py, help, |channel, help| Ok(channel.recover_with(help)?))
    }

    /// Waits until all work is finished and the engine's registers agree, for at most timeout seconds. wait returns as soon as the
    /// engine has reported completion in memory, which can be slightly earlier. Raises the exceptions of wait.
    #[pyo3(signature = (timeout=5.0))]
    fn settle(&self, py: Python<'_>, timeout: f64) -> Result<(), Failure> {
        let limit = seconds("timeout", timeout)?;
        let last = self.slot.lock(py)?.last_ticket();
        if let Some(ticket) = last {
            self.wait_for(py, ticket, limit)?;
        }
        self.slot.with(py, |channel| Ok(channel.settle(limit)?))
    }

    /// Returns the time in seconds within which a share of the sampled transfers completed; None without samples. share is 0 to 1,
    /// such as 0.5 for the median. Only some of the transfers are sampled.
    fn latency(&self, py: Python<'_>, share: f64) -> Result<Option<f64>, Failure> {
        if !(0.0..=1.0).contains(&share) {
            return Err(invalid(format!("`share` is {share}; pass a number from 0 to 1")));
        }
        let latencies = self.slot.lock(py)?.latencies();
        Ok(latencies.and_then(|all| all.percentile(share)).map(|time| time.as_secs_f64()))
    }

    /// Closes the channel: stops its engine, and abandons work in flight.
    ///
    /// Raises HungError or GoneError if the engine was not seen idle: the channel is then closed, but the memory of its transfers stays
    /// allocated until the card is closed. Closing it twice does nothing.
    fn close(&self, py: Python<'_>) -> Result<(), Failure> {
        let closed = self.slot.close(py, |channel| Ok(channel.close()?));
        self.interrupt.close(py, |interrupt| {
            drop(interrupt);
            Ok(())
        })?;
        closed
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> Result<(), Failure> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<xdma.Channel {} {}{closed}>", self.direction, self.number)
    }
}
