//! The end of the control that takes orders: one thread, which waits for all clients and for none of them.
//!
//! | what a client does | bound |
//! |---|---|
//! | says nothing, or half a line | nobody waits for it; of more than [`MOST_CLIENTS`] the one silent for longest is dropped |
//! | sends a line without an end | dropped after [`LONGEST_REQUEST`] |
//! | reads no answers | its next request is not read before; dropped after [`ANSWERED`] |
//! | asks again and again | one request, then it is the others' turn |

use super::{Answer, Log, Numbered, Request, line, shown};
use crate::EmulatedCard;
use crate::admission::timespec;
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

/// Clients at most.
const MOST_CLIENTS: usize = 16;
/// Bytes of a request at most. A plan with many faults has some thousands.
const LONGEST_REQUEST: usize = 1 << 20;
/// How long a client may take to read an answer.
const ANSWERED: Duration = Duration::from_secs(5);
/// Bytes read from a client before it is the others' turn.
const CHUNK: usize = 1 << 14;
/// Such as too many open files: that does not pass by itself.
const PAUSE: Duration = Duration::from_millis(1);

/// Takes orders for a card at a socket. Dropping it ends that and removes the socket.
pub struct Control {
    path: PathBuf,
    door: Arc<Door>,
    thread: Option<JoinHandle<()>>,
}

struct Door {
    card: Arc<EmulatedCard>,
    listener: UnixListener,
    wakeup: Wakeup,
    stopping: AtomicBool,
}

/// A client's requests and answers.
struct Conversation {
    stream: UnixStream,
    /// Received and not yet looked at.
    input: Vec<u8>,
    /// No line ends before here.
    searched: usize,
    /// The answer, as far as it is not sent yet.
    output: Vec<u8>,
    /// When that must have been read.
    deadline: Option<Instant>,
    last_heard: Instant,
}

/// What a client does after its turn.
#[derive(PartialEq)]
enum Turn {
    /// There is more to do, without waiting.
    Ready,
    Waiting,
}

impl Control {
    /// Listens at `path`, for this user only. A socket that a dead process left there is replaced.
    ///
    /// # Errors
    ///
    /// The socket cannot be made, or another process listens there.
    pub fn start(card: Arc<EmulatedCard>, path: &Path) -> io::Result<Self> {
        let (listener, path) = listen_at(path)?;
        listener.set_nonblocking(true)?;
        let door = Door { card, listener, wakeup: Wakeup::new()?, stopping: AtomicBool::new(false) };
        let door = Arc::new(door);
        let thread = {
            let door = Arc::clone(&door);
            Builder::new().name("xdma control".into()).spawn(move || door.serve())?
        };
        Ok(Self { path, door, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.door.stopping.store(true, Ordering::SeqCst);
        shut(&self.door.listener);
        self.door.wakeup.wake();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Door {
    fn serve(&self) {
        let (mut clients, mut ready) = (Vec::new(), false);
        while !self.stopping.load(Ordering::SeqCst) {
            self.wait(&clients, ready);
            self.accept(&mut clients);
            ready = false;
            clients.retain_mut(|client| match client.take_turn(|request| self.obey(request)) {
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

    /// Waits until a client has something to do, or a deadline passes.
    fn wait(&self, clients: &[Conversation], ready: bool) {
        let limit = match ready {
            true => Some(Duration::ZERO),
            false => {
                let next = clients.iter().filter_map(|client| client.deadline).min();
                next.map(|deadline| deadline.saturating_duration_since(Instant::now()))
            }
        };
        let mut entries = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::from_borrowed_fd(self.wakeup.as_fd(), PollFlags::IN),
        ];
        entries.extend(clients.iter().map(|client| PollFd::new(&client.stream, client.waits_for())));
        // A signal is no reason to wait longer than to look again.
        let _ = poll(&mut entries, limit.map(timespec).as_ref());
        self.wakeup.clear();
    }

    fn accept(&self, clients: &mut Vec<Conversation>) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                    if clients.len() >= MOST_CLIENTS {
                        drop_longest_silent(clients);
                    }
                    clients.push(Conversation::new(stream));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!("no control client accepted: {error}");
                    return std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn obey(&self, request: Request) -> Result<Answer, String> {
        let card = &self.card;
        let done = |()| Answer::Done;
        match request {
            Request::Options => Ok(Answer::Options(Box::new(card.options()))),
            Request::Load { options, design } => {
                card.load(*options, design.build()).map(done).map_err(|error| error.to_string())
            }
            Request::Taken(address, len) => {
                card.witness().taken(address, len);
                Ok(Answer::Done)
            }
            Request::Released(address, len) => {
                card.witness().released(address, len);
                Ok(Answer::Done)
            }
            Request::Inject(injection) => card.inject(injection).map(done).map_err(|error| error.to_string()),
            Request::Log => Ok(Answer::Log(Log {
                violations: card.violations(),
                faults: card.faults(),
                counters: card.counters(),
                struck: card.struck(),
            })),
        }
    }
}

fn drop_longest_silent(clients: &mut Vec<Conversation>) {
    let silent = clients.iter().enumerate().min_by_key(|(_, client)| client.last_heard);
    if let Some((at, _)) = silent {
        clients.remove(at);
    }
}

impl Conversation {
    fn new(stream: UnixStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { stream, input, searched: 0, output, deadline: None, last_heard: Instant::now() }
    }

    fn waits_for(&self) -> PollFlags {
        if self.output.is_empty() { PollFlags::IN } else { PollFlags::OUT }
    }

    /// Sends what is left of an answer; then obeys a request, or reads more of one.
    fn take_turn(&mut self, obey: impl FnOnce(Request) -> Result<Answer, String>) -> io::Result<Turn> {
        self.flush()?;
        if !self.output.is_empty() {
            return Ok(Turn::Waiting);
        }
        let Some(request) = self.next_line() else { return self.read() };
        // A client that was killed leaves half a line behind.
        match serde_json::from_slice(&request) {
            Ok(Numbered { id, body }) => self.answer(&line(&Numbered { id, body: obey(body) })?)?,
            Err(_) => tracing::warn!("no request: {}", shown(&request)),
        }
        Ok(Turn::Ready)
    }

    fn answer(&mut self, answer: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(answer);
        self.deadline = Some(Instant::now() + ANSWERED);
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
        if self.input.len() > LONGEST_REQUEST {
            return Err(io::Error::other("a line without an end"));
        }
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.input.extend_from_slice(&chunk[..n]);
                self.last_heard = Instant::now();
                Ok(Turn::Ready)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Turn::Ready),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Turn::Waiting),
            Err(error) => Err(error),
        }
    }
}
