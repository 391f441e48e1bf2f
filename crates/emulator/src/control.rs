//! Control of an emulated card from another process, for example by a test in a virtual machine whose host serves the card.
//!
//! The protocol runs over a socket, or over a serial line connected to one. Requests and responses are lines of JSON, and each
//! response has the `id` of its request. A request is limited to 1 MiB. The card accepts up to 16 clients and executes one
//! request at a time.
//!
//! | request | response |
//! |---|---|
//! | `{"id":1,"body":"Options"}` | `{"id":1,"body":{"Ok":{"Options":{"card":{...},...}}}}` |
//! | `{"id":2,"body":{"Load":{"options":{"switches":{"stop_clears_run":true}},"design":"Memory"}}}` | `{"id":2,"body":{"Ok":"Done"}}` |
//! | `{"id":3,"body":{"Inject":{"fault":"LinkDown"}}}` | `{"id":3,"body":{"Ok":"Done"}}` |
//! | `{"id":4,"body":{"Inject":{"fault":"BadMagic","on":{"direction":"H2C","index":9}}}}` | `{"id":4,"body":{"Err":"the card has no channel H2C 9"}}` |
//! | `{"id":5,"body":"Log"}` | `{"id":5,"body":{"Ok":{"Log":{"violations":[],"dma_faults":[],"counters":{...},"injected":{}}}}}` |
//!
//! Omitted options stay as they are. Durations are written as `{"secs":0,"nanos":1000}`. The requests are described at
//! [`EmulatedCard::load`], [`EmulatedCard::inject`] and [`EmulatedCard::violations`].
//!
//! [`EmulatedCard::load`]: super::EmulatedCard::load
//! [`EmulatedCard::inject`]: super::EmulatedCard::inject
//! [`EmulatedCard::violations`]: super::EmulatedCard::violations

mod server;

pub use server::ControlServer;

use super::admission::timespec;
use super::faults::Injection;
use super::logic::Design;
use super::server::connect;
use super::{CardCounters, DmaFault, EmulatorOptions, Violation};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A request to the card.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Returns the current options.
    Options,
    /// Loads an image: [`EmulatedCard::load`](super::EmulatedCard::load).
    Load {
        /// The options that change, as in [`EmulatorOptions::with_changes`]. The PCI function and its BARs must not change.
        options: Map<String, Value>,
        /// The custom logic.
        design: Design,
        /// If set, the link is down for this number of milliseconds while the image is loaded:
        /// [`EmulatedCard::reprogram`](super::EmulatedCard::reprogram).
        #[serde(default)]
        link_down_ms: Option<u64>,
    },
    /// Injects a fault: [`EmulatedCard::inject`](super::EmulatedCard::inject).
    Inject(Injection),
    /// Returns the log.
    Log,
    /// Reports allocated memory: device address and size in bytes ([`ReleaseObserver::allocated`](super::ReleaseObserver::allocated)).
    Allocated(u64, u64),
    /// Reports released memory: device address and size in bytes ([`ReleaseObserver::released`](super::ReleaseObserver::released)).
    Released(u64, u64),
}

impl Request {
    /// Returns a request to load an image with these options, of which none stays as it is.
    ///
    /// # Panics
    ///
    /// Never: options can be written as JSON.
    pub fn load(options: &EmulatorOptions, design: Design) -> Self {
        let Ok(Value::Object(options)) = serde_json::to_value(options) else {
            unreachable!("options are an object");
        };
        Self::Load { options, design, link_down_ms: None }
    }
}

/// The response to a request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// The request was executed.
    Done,
    /// The response to [`Request::Options`].
    Options(Box<EmulatorOptions>),
    /// The response to [`Request::Log`].
    Log(Log),
}

/// The log of a card since its image was loaded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Log {
    /// Rule violations by the client.
    pub violations: Vec<Violation>,
    /// Accesses to host memory that were refused.
    pub dma_faults: Vec<DmaFault>,
    /// The work counters.
    pub counters: CardCounters,
    /// How often each fault was injected, by [name](super::faults::Kind::name).
    #[serde(default)]
    pub injected: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    id: u64,
    body: T,
}

/// Encodes a message as a line.
fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Decodes a line by way of a [`Value`], as options are decoded, so that the code that decodes each type is compiled for one format only.
fn decode<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(serde_json::from_slice(line)?)
}

/// A non-blocking socket or serial line.
trait Transport: Read + Write + AsFd + Send {}
impl<T: Read + Write + AsFd + Send> Transport for T {}

/// Formats the beginning of a line for the log.
fn excerpt(line: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&line[..line.len().min(200)]))
}

/// A client of the control protocol.
pub struct ControlClient {
    transport: Box<dyn Transport>,
    /// Data received after the last response.
    received: Vec<u8>,
    id: u64,
    /// A response is missing, so later ones could be matched with the wrong request.
    broken: bool,
}

/// Time limit for sending a request and receiving its response. On a serial line, a missing peer is not reported as an error.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum size of a response in bytes. A full log has a few hundred thousand.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

impl ControlClient {
    /// Connects to a socket, or opens a device such as a serial line, which must be in raw mode.
    ///
    /// # Errors
    ///
    /// Fails if the path does not exist, no process listens there, or permission is denied.
    pub fn open(path: &Path) -> io::Result<Self> {
        let transport: Box<dyn Transport> = if std::fs::metadata(path)?.file_type().is_socket() {
            Box::new(connect(path)?)
        } else {
            Box::new(File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?)
        };
        // A serial line may still deliver a response to a previous client, so the first identifier is unique.
        let id = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Ok(Self { transport, received: Vec::new(), id, broken: false })
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    ///
    /// Fails if the connection fails, if no response arrives within ten seconds to this request or did not to an earlier one, or
    /// with the card's error message if the card rejects the request.
    pub fn call(&mut self, request: Request) -> io::Result<Response> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.id = self.id.wrapping_add(1);
        // Until the response has arrived, a later response could belong to this request.
        self.broken = true;
        let response = self.exchange(&encode(&Envelope { id: self.id, body: request })?)?;
        self.broken = false;
        response.map_err(io::Error::other)
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Result<Response, String>> {
        let end = Instant::now() + TIMEOUT;
        self.send(request, end)?;
        loop {
            let line = self.receive(end)?;
            match decode::<Envelope<Result<Response, String>>>(&line) {
                Ok(response) if response.id == self.id => return Ok(response.body),
                _ => tracing::debug!("ignoring an unrelated line: {}", excerpt(&line)),
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8], end: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.transport.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) => self.retry(error, PollFlags::OUT, end)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, end: Instant) -> io::Result<Vec<u8>> {
        let (mut chunk, mut searched) = ([0; 4096], 0);
        loop {
            if let Some(at) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                return Ok(self.received.drain(..=searched + at).collect());
            }
            searched = self.received.len();
            if searched > MAX_RESPONSE_BYTES {
                return Err(io::Error::other("the response is too long"));
            }
            match self.transport.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) => self.retry(error, PollFlags::IN, end)?,
            }
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Waits until the transport is ready, if the error indicates that it was not.
    fn retry(&self, error: io::Error, flags: PollFlags, end: Instant) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => return Ok(()),
            io::ErrorKind::WouldBlock => {}
            _ => return Err(error),
        }
        let mut entry = [PollFd::from_borrowed_fd(self.transport.as_fd(), flags)];
        let left = || timespec(end.saturating_duration_since(Instant::now()));
        match retry_on_intr(|| poll(&mut entry, Some(&left())))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Returns the current options of the card.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn options(&mut self) -> io::Result<EmulatorOptions> {
        match self.call(Request::Options)? {
            Response::Options(options) => Ok(*options),
            other => Err(io::Error::other(format!("unexpected response: {other:?}"))),
        }
    }

    /// Returns the log of the card.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn log(&mut self) -> io::Result<Log> {
        match self.call(Request::Log)? {
            Response::Log(log) => Ok(log),
            other => Err(io::Error::other(format!("unexpected response: {other:?}"))),
        }
    }
}
