//! Admission: decides which client gets the card. Clients that have sent VERSION are admitted one at a time, in the order in
//! which they connected.
//!
//! One thread watches the listening socket and all waiting clients, and never blocks on a single client. A client cannot hold the
//! card before its VERSION message has arrived completely.
//!
//! | client behaviour | limit |
//! |---|---|
//! | connects, but sends nothing or only a part of VERSION | dropped after [`HANDSHAKE_TIMEOUT`] |
//! | sends VERSION with another major version | refused with ENOTSUP |
//! | sends VERSION while another client has the card | refused with EBUSY after [`GRACE`] |
//! | sends more than [`MAX_VERSION_BYTES`], or another message | dropped |
//! | connects over and over | [`MAX_WAITING`] clients wait at a time; beyond that the oldest is dropped |

use super::command::Command;
use super::wakeup::Wakeup;
use super::wire::{Message, Partial, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How long a new client waits for the previous client to disconnect.
const GRACE: Duration = Duration::from_millis(250);
/// Time limit for receiving VERSION. Clients send it right after connecting.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of VERSION in bytes. Existing clients send about a hundred.
const MAX_VERSION_BYTES: usize = 4096;
/// The maximum number of waiting clients.
const MAX_WAITING: usize = 64;
/// The delay after a failed accept. Errors such as too many open files do not go away immediately.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(1);

/// A connected client that does not have the card.
struct Candidate {
    stream: UnixStream,
    partial: Partial,
    /// The VERSION message, once it is complete.
    version: Option<Message>,
    deadline: Instant,
}

/// The waiting clients.
pub(super) struct Admission<'a> {
    listener: &'a UnixListener,
    wakeup: &'a Wakeup,
    waiting: Vec<Candidate>,
}

impl<'a> Admission<'a> {
    /// Creates the admission for `listener`, which must be non-blocking. `wakeup` interrupts a wait.
    pub fn new(listener: &'a UnixListener, wakeup: &'a Wakeup) -> Self {
        Self { listener, wakeup, waiting: Vec::new() }
    }

    /// Waits until a client connects or sends data, a deadline passes, or the wakeup is signalled.
    pub fn wait(&mut self) {
        self.sleep();
        self.wakeup.clear();
        self.accept();
        self.receive();
    }

    /// Receives pending data, and drops clients that have disconnected or sent anything but VERSION.
    fn receive(&mut self) {
        self.waiting.retain_mut(|candidate| match candidate.receive() {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!("client not admitted: {error}");
                false
            }
        });
    }

    fn sleep(&self) {
        let next = self.waiting.iter().map(|candidate| candidate.deadline).min();
        let limit = next.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        let mut entries = vec![
            PollFd::new(self.listener, PollFlags::IN),
            PollFd::from_borrowed_fd(self.wakeup.as_fd(), PollFlags::IN),
        ];
        let silent = self.waiting.iter().filter(|candidate| candidate.version.is_none());
        entries.extend(silent.map(|candidate| PollFd::new(&candidate.stream, PollFlags::IN)));
        // After an error such as EINTR, the caller simply checks everything again.
        let _ = poll(&mut entries, limit.as_ref());
    }

    /// Accepts pending connections, but at most [`MAX_WAITING`] at a time, so that the waiting clients are served too.
    fn accept(&mut self) {
        for _ in 0..MAX_WAITING {
            match self.listener.accept() {
                Ok((stream, _)) => self.add_candidate(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!("cannot accept a client: {error}");
                    self.drop_oldest();
                    return std::thread::sleep(ACCEPT_RETRY_DELAY);
                }
            }
        }
    }

    fn add_candidate(&mut self, stream: UnixStream) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.drop_oldest();
        }
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        self.waiting.push(Candidate { stream, partial: Partial::default(), version: None, deadline });
    }

    /// Drops the oldest client that has not completed VERSION, or else the oldest client. Receives pending data first.
    fn drop_oldest(&mut self) {
        self.receive();
        let silent = self.waiting.iter().position(|candidate| candidate.version.is_none());
        if !self.waiting.is_empty() {
            self.waiting.remove(silent.unwrap_or(0));
        }
    }

    /// Removes and returns the next client with a complete VERSION message.
    pub fn next(&mut self) -> Option<(UnixStream, Message)> {
        let at = self.waiting.iter().position(|candidate| candidate.version.is_some())?;
        let Candidate { stream, version, .. } = self.waiting.remove(at);
        Some((stream, version?))
    }

    /// Refuses clients that have waited too long for the card, and drops those without a complete VERSION message.
    pub fn expire(&mut self) {
        let now = Instant::now();
        for late in self.waiting.extract_if(.., |candidate| candidate.deadline <= now) {
            late.reject();
        }
    }
}

impl Candidate {
    /// Receives pending data of the VERSION message.
    fn receive(&mut self) -> io::Result<()> {
        if self.version.is_some() || !self.partial.advance(&mut self.stream, MAX_VERSION_BYTES)? {
            return Ok(());
        }
        let mut message = std::mem::take(&mut self.partial).into_message();
        if let Err(error) = Command::check_version(&mut message) {
            if error.kind() == io::ErrorKind::Unsupported {
                refuse(&message, libc::ENOTSUP, &self.stream);
            }
            return Err(error);
        }
        self.version = Some(message);
        self.deadline = Instant::now() + GRACE;
        Ok(())
    }

    fn reject(self) {
        if let Some(version) = &self.version {
            refuse(version, libc::EBUSY, &self.stream);
        }
    }
}

/// Replies with an error, after which the connection is closed. Nothing has been sent to this client yet, so the reply fits into the
/// socket buffer. A failure is ignored.
fn refuse(version: &Message, errno: i32, stream: &UnixStream) {
    let _ = Reply::error(version, errno).send(stream);
}

/// Converts a duration for `poll`, which sleeps for at least that long.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::Path;

    const VERSION: &[u8] = b"\x01\0\x01\0\x28\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0{\"capabilities\":{}}\0";

    /// Connects a client, and sends VERSION if `greets` is set.
    fn client(path: &Path, greets: bool) -> UnixStream {
        let mut stream = UnixStream::connect(path).unwrap();
        if greets {
            stream.write_all(VERSION).unwrap();
        }
        stream
    }

    /// Returns whether the two sockets are ends of the same connection.
    fn are_connected(client: &mut UnixStream, server: &mut UnixStream) -> bool {
        use std::io::Read;
        client.write_all(b"?").unwrap();
        server.set_nonblocking(true).unwrap();
        matches!(server.read(&mut [0; 8]), Ok(1))
    }

    #[test]
    fn clients_with_a_complete_version_message_are_admitted_in_connection_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, wakeup) = (UnixListener::bind(&path).unwrap(), Wakeup::new().unwrap());
        listener.set_nonblocking(true).unwrap();
        let mut admission = Admission::new(&listener, &wakeup);
        let silent = client(&path, false);
        let mut greeted = [client(&path, true), client(&path, true)];
        // More silent clients than may wait.
        let mut crowd = vec![];
        for _ in 0..3 {
            crowd.extend((0..MAX_WAITING - 1).map(|_| client(&path, false)));
            admission.wait();
            assert!(admission.waiting.len() <= MAX_WAITING);
        }
        for client in &mut greeted {
            let (mut stream, mut version) = admission.next().expect("VERSION was sent");
            assert!(Command::check_version(&mut version).is_ok());
            assert!(are_connected(client, &mut stream));
        }
        assert!(admission.next().is_none());
        drop(silent);
    }
}
