//! Streams.

use crate::arguments::{channel_options, range, seconds};
use crate::buffer::Buffer;
use crate::card::Card;
use crate::channel::{Channel, Ticket};
use crate::errors::{Failure, invalid};
use crate::on_memory;
use crate::slot::{Child, Slot};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::time::{Duration, Instant};
use xdma::channel::stream::{Discard, Received, ReceiverOptions};
use xdma::regs;
use xdma::unstable::channel as unstable;

/// An open H2C stream channel, which sends packets. Card.sender opens one.
#[pyclass(frozen, extends = Channel, module = "xdma")]
pub struct Sender;

impl Sender {
    pub fn open(
        py: Python<'_>,
        card: &Card,
        number: usize,
        options: xdma::channel::ChannelOptions,
    ) -> Result<Py<Self>, Failure> {
        let open = |card: &xdma::card::Card| Ok(unstable::of_sender(card.stream_h2c(number, options)?));
        let channel = Channel::open_with(py, card, regs::Direction::H2C, number, options, open)?;
        Ok(Py::new(py, (Self, channel))?)
    }
}

#[pymethods]
impl Sender {
    /// Sends size bytes of an H2C buffer from byte offset on, and returns the ticket without waiting. If size is None, the range ends with
    /// the buffer.
    ///
    /// If ends_packet is true, the packet ends with the last byte. Otherwise it continues with the next call; the size should then be a
    /// multiple of 64 bytes. Raises the exceptions of Channel.submit.
    #[pyo3(signature = (buffer, *, offset=0, size=None, ends_packet=true))]
    fn send(
        this: PyRef<'_, Self>,
        py: Python<'_>,
        buffer: &Bound<'_, Buffer>,
        offset: u64,
        size: Option<u64>,
        ends_packet: bool,
    ) -> Result<Ticket, Failure> {
        let buffer = buffer.get();
        let mut channel = this.as_super().slot().lock(py)?;
        let range = range(offset, size, buffer.len())?;
        let open = buffer.open()?;
        let sent =
            on_memory!(open.memory(), memory => unstable::send(&mut channel, memory, range, ends_packet));
        Ok(Ticket(sent?))
    }
}

/// An open C2H stream channel with its receive buffers. Card.receiver opens one.
///
/// Iterating returns packets as bytes, and raises TimeoutError if none arrives within the receiver's timeout. Nothing is lost then.
#[pyclass(frozen, module = "xdma")]
pub struct Receiver {
    slot: Child<Slot<Stream>>,
    timeout: Duration,
    number: usize,
}

struct Stream {
    receiver: xdma::channel::stream::Receiver,
    /// The beginning of the next packet.
    packet: Vec<u8>,
    max_packet: usize,
    /// Whether the rest of a packet that is too long is discarded.
    skips: bool,
}

impl Stream {
    /// Waits for the end of a packet, for at most `limit`.
    fn receive(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, Failure> {
        let begin = Instant::now();
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            let Some(received) = unstable::receive_slice(&mut self.receiver, left)? else { return Ok(None) };
            if let Some(packet) = self.append(received)? {
                return Ok(Some(packet));
            }
        }
    }

    /// Returns a packet if it has arrived.
    fn poll(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        while let Some(received) = self.receiver.poll()? {
            if let Some(packet) = self.append(received)? {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    /// Appends a block to the packet, and returns the packet if it ends.
    fn append(&mut self, received: Received) -> Result<Option<Vec<u8>>, Failure> {
        let (at, ends) = (self.packet.len(), received.ends_packet());
        let too_long = at + received.len() > self.max_packet && !self.skips;
        if !too_long && !self.skips {
            self.packet.resize(at + received.len(), 0);
            self.receiver.read(&received, 0, &mut self.packet[at..])?;
        }
        // A failure of the channel is reported by the next call, after the data that arrived before it.
        let _ = self.receiver.recycle(received);
        let skipped = self.skips;
        self.skips = (skipped || too_long) && !ends;
        if too_long {
            self.packet = Vec::new();
            let text = format!(
                "a packet is longer than the {} bytes of `max_packet`, and was discarded; open the receiver with a larger limit",
                self.max_packet
            );
            return Err(invalid(text));
        }
        Ok((ends && !skipped).then(|| std::mem::take(&mut self.packet)))
    }
}

impl Receiver {
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    pub fn open(
        py: Python<'_>,
        card: &Card,
        number: usize,
        buffers: usize,
        buffer_size: u32,
        max_posted: Option<usize>,
        max_packet: usize,
        discard_quiet: Option<f64>,
        timeout: f64,
        ring: &str,
        wait: &str,
    ) -> Result<Self, Failure> {
        let timeout = seconds("timeout", timeout)?;
        let discard = match discard_quiet {
            Some(quiet) => Some(Discard { quiet: seconds("discard_quiet", quiet)?, ..Discard::default() }),
            None => None,
        };
        let options = ReceiverOptions {
            channel: channel_options(ring, wait, 256, false, true, false)?,
            buffers,
            bytes: buffer_size,
            max_posted: max_posted.unwrap_or(buffers),
            discard,
        };
        let slot = card.child(py, "receiver", |card| {
            let receiver = card.stream_c2h(number, options)?;
            Ok(Stream { receiver, packet: Vec::new(), max_packet, skips: false })
        })?;
        Ok(Self { slot, timeout, number })
    }

    fn next(&self, py: Python<'_>, limit: Duration) -> Result<Vec<u8>, Failure> {
        self.slot.wait(
            py,
            limit,
            |stream, slice| stream.receive(slice),
            |stream, waited| Err(unstable::deadline_error(stream.receiver.channel(), waited).into()),
        )
    }
}

#[pymethods]
impl Receiver {
    /// Number of the channel, 0 to 3.
    #[getter]
    fn number(&self) -> usize {
        self.number
    }

    /// Time limit of iteration in seconds.
    #[getter]
    fn timeout(&self) -> f64 {
        self.timeout.as_secs_f64()
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Number of bytes that were discarded when the receiver was opened.
    #[getter]
    fn discarded(&self, py: Python<'_>) -> Result<u64, Failure> {
        Ok(self.slot.lock(py)?.receiver.discarded().bytes)
    }

    /// Waits for the next packet, and returns its bytes. Waits for at most timeout seconds; None selects the receiver's timeout.
    ///
    /// Raises TimeoutError if no packet was completed in time, in which case nothing is lost; ArgumentError if the engine has no buffer, or
    /// if a packet is longer than max_packet; EngineError, GoneError.
    #[pyo3(signature = (timeout=None))]
    fn receive<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> Result<Bound<'py, PyBytes>, Failure> {
        let limit = timeout.map_or(Ok(self.timeout), |timeout| seconds("timeout", timeout))?;
        Ok(PyBytes::new(py, &self.next(py, limit)?))
    }

    /// Returns the next packet if it has arrived, and None if not. Does not block.
    fn poll<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyBytes>>, Failure> {
        Ok(self.slot.lock(py)?.poll()?.map(|packet| PyBytes::new(py, &packet)))
    }

    /// Returns an iterator over packets. It ends after count packets, if count is not None. When no packet arrives for idle seconds, it
    /// ends too; if idle is None, it instead raises TimeoutError when none arrives within the receiver's timeout.
    #[pyo3(signature = (count=None, *, idle=None))]
    fn packets<'py>(
        this: Bound<'py, Self>,
        count: Option<u64>,
        idle: Option<f64>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        if let Some(idle) = idle {
            seconds("idle", idle)?;
        }
        Ok(this.py().import("xdma._waiting")?.call_method1("packets", (&this, count, idle))?)
    }

    /// Like receive, as a coroutine. Cancelling it loses nothing.
    #[pyo3(signature = (timeout=None))]
    fn receive_async<'py>(
        this: Bound<'py, Self>,
        timeout: Option<f64>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let limit = timeout.map_or(Ok(this.get().timeout), |timeout| seconds("timeout", timeout))?;
        Ok(this.py().import("xdma._waiting")?.call_method1("receive", (&this, limit.as_secs_f64()))?)
    }

    /// Raises the error that the status register shows, which poll does not read.
    fn _check(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.with(py, |stream| Ok(unstable::check_receiver(&mut stream.receiver)?))
    }

    /// Raises the error of a wait that took `waited` seconds.
    fn _expire(&self, py: Python<'_>, waited: f64) -> Result<(), Failure> {
        let waited = seconds("waited", waited)?;
        self.slot.with(py, |stream| Err(unstable::deadline_error(stream.receiver.channel(), waited).into()))
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>, Failure> {
        self.receive(py, None)
    }

    fn __aiter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __anext__(this: Bound<'_, Self>) -> Result<Bound<'_, PyAny>, Failure> {
        Self::receive_async(this, None)
    }

    /// Sets the maximum number of buffers that the engine has at a time. With fewer buffers, the stream is held back sooner. With 0,
    /// the engine becomes idle once it has filled the buffers that it has, so closing is quick.
    fn set_max_posted(&self, py: Python<'_>, buffers: usize) -> Result<(), Failure> {
        self.slot.with(py, |stream| Ok(stream.receiver.set_max_posted(buffers)?))
    }

    /// Stops the engine. Data in completed buffers can still be received; a packet that arrived in part is lost.
    fn stop(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.with(py, |stream| Ok(stream.receiver.stop()?))
    }

    /// Makes a receiver that failed or was stopped receive again. help is as for Channel.recover.
    #[pyo3(signature = (help=None))]
    fn recover(&self, py: Python<'_>, help: Option<Py<PyAny>>) -> Result<(), Failure> {
        self.slot.with_help(py, help, |stream, help| {
            stream.packet.clear();
            Ok(stream.receiver.recover_with(help)?)
        })
    }

    /// Closes the receiver. Data that was not received is lost. Closing it twice does nothing.
    ///
    /// If the engine waits for data, set_max_posted(0) before the last packet makes this quick; otherwise it takes the idle limit of the
    /// card, and raises HungError.
    fn close(&self, py: Python<'_>) -> Result<(), Failure> {
        self.slot.close(py, |stream| Ok(stream.receiver.close()?))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> Result<(), Failure> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<xdma.Receiver {}{}>", self.number, if self.closed() { ", closed" } else { "" })
    }
}
