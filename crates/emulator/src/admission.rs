//! Who is admitted to the card: clients that have greeted, one after the other.
//!
//! One thread watches the listening socket and the clients that wait, and blocks on none of them. Nobody takes the card
//! before its greeting has arrived whole.
//!
//! | what a client does | bound |
//! |---|---|
//! | connects and says nothing, or a part of its greeting | dropped after [`GREETING`] |
//! | greets while another has the card | refused with EBUSY after [`GRACE`] |
//! | greets with more than [`LONGEST_GREETING`], or with something else | dropped |
//! | connects again and again | [`MOST_WAITING`] wait at a time; the oldest of more is dropped |

use super::command::Command;
use super::wakeup::Wakeup;
use super::wire::{Message, Partial, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How long a new client waits for one that is just going.
const GRACE: Duration = Duration::from_millis(250);
/// How long a greeting may take. A client sends it as soon as it is connected.
const GREETING: Duration = Duration::from_secs(5);
/// Bytes of a greeting at most; those in use have about a hundred.
const LONGEST_GREETING: usize = 4096;
/// Clients that wait at most.
const MOST_WAITING: usize = 64;
/// Such as too many open files: that does not pass by itself.
const PAUSE: Duration = Duration::from_millis(1);

/// A client that does not have the card.
struct Candidate {
    stream: UnixStream,
    partial: Partial,
    /// Its VERSION, once it is whole.
    greeting: Option<Message>,
    deadline: Instant,
}

/// The clients that wait.
pub(super) struct Admission<'a> {
    listener: &'a UnixListener,
    wakeup: &'a Wakeup,
    waiting: Vec<Candidate>,
}

impl<'a> Admission<'a> {
    /// Admits the clients of `listener`, which must not block. `wakeup` ends a wait.
    pub fn new(listener: &'a UnixListener, wakeup: &'a Wakeup) -> Self {
        Self { listener, wakeup, waiting: Vec::new() }
    }

    /// Waits until a client has come or said something, a deadline has passed, or somebody woke this thread.
    pub fn wait(&mut self) {
        self.sleep();
        self.wakeup.clear();
        self.accept();
        self.listen();
    }

    /// Takes what has arrived, and drops those who have gone or say something else than a greeting.
    fn listen(&mut self) {
        self.waiting.retain_mut(|candidate| match candidate.listen() {
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
        let silent = self.waiting.iter().filter(|candidate| candidate.greeting.is_none());
        entries.extend(silent.map(|candidate| PollFd::new(&candidate.stream, PollFlags::IN)));
        // A signal is no reason to wait longer than to look again.
        let _ = poll(&mut entries, limit.as_ref());
    }

    /// Accepts those who have come, not more at a time than can wait: others who are waiting get their turn.
    fn accept(&mut self) {
        for _ in 0..MOST_WAITING {
            match self.listener.accept() {
                Ok((stream, _)) => self.enter(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!("no client accepted: {error}");
                    self.drop_oldest();
                    return std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn enter(&mut self, stream: UnixStream) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.waiting.len() >= MOST_WAITING {
            self.drop_oldest();
        }
        let deadline = Instant::now() + GREETING;
        self.waiting.push(Candidate { stream, partial: Partial::default(), greeting: None, deadline });
    }

    /// Drops the oldest that has not greeted, as far as there is one: what has arrived is looked at first.
    fn drop_oldest(&mut self) {
        self.listen();
        let silent = self.waiting.iter().position(|candidate| candidate.greeting.is_none());
        if !self.waiting.is_empty() {
            self.waiting.remove(silent.unwrap_or(0));
        }
    }

    /// The next client that has greeted, with its greeting.
    pub fn next(&mut self) -> Option<(UnixStream, Message)> {
        let at = self.waiting.iter().position(|candidate| candidate.greeting.is_some())?;
        let Candidate { stream, greeting, .. } = self.waiting.remove(at);
        Some((stream, greeting?))
    }

    /// Refuses those who have waited for the card long enough, and drops those who have not greeted.
    pub fn refuse_late(&mut self) {
        let now = Instant::now();
        for late in self.waiting.extract_if(.., |candidate| candidate.deadline <= now) {
            late.refuse();
        }
    }
}

impl Candidate {
    /// Takes what has arrived of the greeting.
    fn listen(&mut self) -> io::Result<()> {
        if self.greeting.is_some() || !self.partial.advance(&mut self.stream, LONGEST_GREETING)? {
            return Ok(());
        }
        let mut message = std::mem::take(&mut self.partial).into_message();
        Command::check_greeting(&mut message)?;
        self.greeting = Some(message);
        self.deadline = Instant::now() + GRACE;
        Ok(())
    }

    fn refuse(self) {
        if let Some(greeting) = &self.greeting {
            // Nothing was sent to it yet, so there is space for this; it is not waited for in any case.
            let _ = Reply::refusal(greeting, libc::EBUSY).send(&self.stream);
        }
    }
}

/// For `poll`, which sleeps at least that long.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::Path;

    const GREETING: &[u8] = b"\x01\0\x01\0\x28\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0{\"capabilities\":{}}\0";

    /// One that says who it is: the order in which clients are admitted is seen by what they write next.
    fn client(path: &Path, greets: bool) -> UnixStream {
        let mut stream = UnixStream::connect(path).unwrap();
        if greets {
            stream.write_all(GREETING).unwrap();
        }
        stream
    }

    /// Whether two ends are of one connection.
    fn are_connected(client: &mut UnixStream, server: &mut UnixStream) -> bool {
        use std::io::Read;
        client.write_all(b"?").unwrap();
        server.set_nonblocking(true).unwrap();
        matches!(server.read(&mut [0; 8]), Ok(1))
    }

    #[test]
    fn those_who_greeted_come_first_in_the_order_of_their_arrival() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, wakeup) = (UnixListener::bind(&path).unwrap(), Wakeup::new().unwrap());
        listener.set_nonblocking(true).unwrap();
        let mut admission = Admission::new(&listener, &wakeup);
        let silent = client(&path, false);
        let mut greeted = [client(&path, true), client(&path, true)];
        // More than can wait, none of whom says a word.
        let mut crowd = vec![];
        for _ in 0..3 {
            crowd.extend((0..MOST_WAITING - 1).map(|_| client(&path, false)));
            admission.wait();
            assert!(admission.waiting.len() <= MOST_WAITING);
        }
        for client in &mut greeted {
            let (mut stream, mut greeting) = admission.next().expect("it greeted");
            assert!(Command::check_greeting(&mut greeting).is_ok());
            assert!(are_connected(client, &mut stream));
        }
        assert!(admission.next().is_none());
        drop(silent);
    }
}
