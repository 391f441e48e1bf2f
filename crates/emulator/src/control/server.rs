//! The server of the control protocol: one thread for all clients, which never blocks on a single one.
//!
//! | client behaviour | limit |
//! |---|---|
//! | sends nothing, or only a part of a line | no other client waits for it; if there are more than [`MAX_CLIENTS`], the one idle for longest is dropped |
//! | sends a line without an end | dropped after [`MAX_REQUEST_BYTES`] |
//! | does not read responses | its next request is not read until then; dropped after [`RESPONSE_TIMEOUT`] |
//! | sends many requests | one request per turn |

use super::{Envelope, Log, Request, Response, decode, encode, excerpt};
use crate::EmulatedCard;
use crate::admission::timespec;
use crate::logic::Design;
use crate::server::{listen_at, shut};
use crate::wakeup::Wakeup;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// The maximum time for which a request takes the link down. Clients wait for ten seconds.
const MAX_LINK_DOWN_MS: u64 = 5000;
/// The maximum number of clients.
const MAX_CLIENTS: usize = 16;
/// The maximum size of a request in bytes. A plan with many faults has a few thousand.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Time limit for a client to read a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of bytes read from a client per turn.
const CHUNK: usize = 1 << 14;
/// The delay after a failed accept. Errors such as too many open files do not go away immediately.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(1);

/// Serves control requests for a card on a socket. Dropping it stops the server and removes the socket.
pub struct ControlServer {
    path: PathBuf,
    listener: Arc<Listener>,
    thread: Option<JoinHandle<()>>,
}

struct Listener {
    card: Arc<EmulatedCard>,
    socket: UnixListener,
    wakeup: Wakeup,
    stopping: AtomicBool,
}

/// The connection of one client.
struct Connection {
    stream: UnixStream,
    /// Received data that has not been processed.
    input: Vec<u8>,
    /// There is no line end before this offset.
    searched: usize,
    /// The unsent part of a response.
    output: Vec<u8>,
    /// The deadline for the client to read the response.
    deadline: Option<Instant>,
    last_received: Instant,
}

/// The state of a client after its turn.
#[derive(PartialEq)]
enum Turn {
    /// There is more to do immediately.
    Ready,
    Waiting,
}

impl ControlServer {
    /// Starts a server on a socket at `path` that only this user can access. Replaces a stale socket left behind by a dead
    /// process.
    ///
    /// # Errors
    ///
    /// Fails if the socket cannot be created, or if another process listens there.
    pub fn start(card: Arc<EmulatedCard>, path: &Path) -> io::Result<Self> {
        let (socket, path) = listen_at(path)?;
        socket.set_nonblocking(true)?;
        let listener = Listener { card, socket, wakeup: Wakeup::new()?, stopping: AtomicBool::new(false) };
        let listener = Arc::new(listener);
        let thread = {
            let listener = Arc::clone(&listener);
            Builder::new().name("xdma control".into()).spawn(move || listener.serve())?
        };
        Ok(Self { path, listener, thread: Some(thread) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.listener.stopping.store(true, Ordering::SeqCst);
        shut(&self.listener.socket);
        self.listener.wakeup.wake();
        if let Some(thread) = self.thread.take() {
            // A panic has already been reported by its thread.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listener {
    fn serve(&self) {
        let (mut clients, mut ready) = (Vec::new(), false);
        while !self.stopping.load(Ordering::SeqCst) {
            self.wait(&clients, ready);
            self.accept(&mut clients);
            ready = false;
            clients.retain_mut(|client| match client.take_turn(|request| self.execute(request)) {
                Ok(turn) => {
                    ready |= turn == Turn::Ready;
                    true
                }
                Err(error) => {
                    tracing::debug!("control connection ended: {error}");
                    false
                }
            });
        }
    }

    /// Waits until a client is ready or a deadline passes. Does not wait if `ready` is set.
    fn wait(&self, clients: &[Connection], ready: bool) {
        let limit = match ready {
            true => Some(Duration::ZERO),
            false => {
                let next = clients.iter().filter_map(|client| client.deadline).min();
                next.map(|deadline| deadline.saturating_duration_since(Instant::now()))
            }
        };
        let mut entries = vec![
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::from_borrowed_fd(self.wakeup.as_fd(), PollFlags::IN),
        ];
        entries.extend(clients.iter().map(|client| PollFd::new(&client.stream, client.interest())));
        // After an error such as EINTR, the caller simply checks everything again.
        let _ = poll(&mut entries, limit.map(timespec).as_ref());
        self.wakeup.clear();
    }

    fn accept(&self, clients: &mut Vec<Connection>) {
        loop {
            match self.socket.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                    if clients.len() >= MAX_CLIENTS {
                        drop_longest_idle(clients);
                    }
                    clients.push(Connection::new(stream));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!("cannot accept a control client: {error}");
                    return std::thread::sleep(ACCEPT_RETRY_DELAY);
                }
            }
        }
    }

    fn execute(&self, request: Request) -> Result<Response, String> {
        let card = &self.card;
        let done = |()| Response::Done;
        match request {
            Request::Options => Ok(Response::Options(Box::new(card.options()))),
            Request::Load { options, design, link_down_ms } => {
                let options = card.options().with_changes(options).map_err(|error| error.to_string())?;
                if options.card.is_stream() != matches!(design, Design::Loopback) {
                    return Err("Loopback is for stream channels, and the other designs are not".into());
                }
                let logic = design.build();
                let loaded = match link_down_ms {
                    Some(millis) => {
                        card.reprogram(options, logic, Duration::from_millis(millis.min(MAX_LINK_DOWN_MS)))
                    }
                    None => card.load(options, logic),
                };
                loaded.map(done).map_err(|error| error.to_string())
            }
            Request::Allocated(address, len) => {
                card.observer().allocated(address, len);
                Ok(Response::Done)
            }
            Request::Released(address, len) => {
                card.observer().released(address, len);
                Ok(Response::Done)
            }
            Request::Inject(injection) => card.inject(injection).map(done).map_err(|error| error.to_string()),
            Request::Log => Ok(Response::Log(Log {
                violations: card.violations(),
                dma_faults: card.dma_faults(),
                counters: card.counters(),
                injected: card.injected_faults(),
            })),
        }
    }
}

fn drop_longest_idle(clients: &mut Vec<Connection>) {
    let silent = clients.iter().enumerate().min_by_key(|(_, client)| client.last_received);
    if let Some((at, _)) = silent {
        clients.remove(at);
    }
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { stream, input, searched: 0, output, deadline: None, last_received: Instant::now() }
    }

    fn interest(&self) -> PollFlags {
        if self.output.is_empty() { PollFlags::IN } else { PollFlags::OUT }
    }

    /// Sends the rest of a response. If there is none left, executes a request, or reads more data.
    fn take_turn(&mut self, execute: impl FnOnce(Request) -> Result<Response, String>) -> io::Result<Turn> {
        self.flush()?;
        if !self.output.is_empty() {
            return Ok(Turn::Waiting);
        }
        let Some(request) = self.next_line() else { return self.read() };
        // A client that was killed leaves an incomplete line behind.
        match decode(&request) {
            Ok(Envelope { id, body }) => self.respond(&encode(&Envelope { id, body: execute(body) })?)?,
            Err(_) => tracing::warn!("invalid request: {}", excerpt(&request)),
        }
        Ok(Turn::Ready)
    }

    fn respond(&mut self, response: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(response);
        self.deadline = Some(Instant::now() + RESPONSE_TIMEOUT);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
                    return if late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) };
                }
                Err(error) => return Err(error),
            }
        }
        self.deadline = None;
        Ok(())
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        match self.input[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                let line = self.input.drain(..=self.searched + at).collect();
                self.searched = 0;
                Some(line)
            }
            None => {
                self.searched = self.input.len();
                None
            }
        }
    }

    fn read(&mut self) -> io::Result<Turn> {
        if self.input.len() > MAX_REQUEST_BYTES {
            return Err(io::Error::other("the request is too long"));
        }
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.input.extend_from_slice(&chunk[..n]);
                self.last_received = Instant::now();
                Ok(Turn::Ready)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Turn::Ready),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Turn::Waiting),
            Err(error) => Err(error),
        }
    }
}
