//! The socket: requests, answers and their deadline. One request at a time; once it fails, the link stays dead.
//!
//! A request takes its deadline and one more read or write at most, each of which the kernel ends after the same time. Signals do not
//! start it anew.

use super::wire::{Command, ERROR, HEADER, Header, MAX_MESSAGE, NO_REPLY, REPLY};
use crate::bus::{BusError, counts};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

pub struct Link {
    stream: UnixStream,
    deadline: Duration,
    next_id: u16,
    received: Received,
    dead: Option<String>,
}

/// What was received and not yet consumed: room for the longest message, which is never cleared.
struct Received {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Received {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Receives what has come, or waits for something; how much.
    fn receive(&mut self, stream: &mut UnixStream) -> io::Result<usize> {
        let count = stream.read(&mut self.bytes[self.filled..])?;
        self.filled += count;
        Ok(count)
    }

    /// Forgets the first `len` bytes.
    fn consume(&mut self, len: usize) {
        self.bytes.copy_within(len..self.filled, 0);
        self.filled -= len;
    }
}

impl Link {
    pub fn new(stream: UnixStream, deadline: Duration) -> io::Result<Self> {
        let received = Received { bytes: vec![0; MAX_MESSAGE].into(), filled: 0 };
        let mut link = Self { stream, deadline, next_id: 0, received, dead: None };
        link.set_deadline(deadline)?;
        Ok(link)
    }

    pub fn set_deadline(&mut self, deadline: Duration) -> io::Result<()> {
        self.deadline = deadline;
        self.stream.set_read_timeout(Some(deadline))?;
        self.stream.set_write_timeout(Some(deadline))
    }

    /// Sends a command and gives the body of its answer to `read`.
    pub fn request<R>(
        &mut self,
        command: Command,
        body: &[u8],
        fds: &[RawFd],
        read: impl FnOnce(&[u8]) -> Option<R>,
    ) -> Result<R, BusError> {
        let end = Instant::now() + self.deadline;
        let id = self.send(command, 0, body, fds, end)?;
        let (header, len) = self.answer(command, id, end)?;
        let result = if header.flags & ERROR == 0 { read(&self.received.bytes()[HEADER..len]) } else { None };
        self.received.consume(len);
        if header.flags & ERROR != 0 {
            // The reference server answers most refusals with errno 0.
            let source = match header.error {
                0 => io::Error::other("the card's process gave no reason"),
                errno => io::Error::from_raw_os_error(errno as i32),
            };
            return Err(BusError::Refused { what: command.name(), cause: source });
        }
        result.ok_or_else(|| {
            self.die(BusError::Protocol { what: command.name(), reason: "it is too short".into() })
        })
    }

    /// Sends a command that wants no answer.
    pub fn post(&mut self, command: Command, body: &[u8]) -> Result<(), BusError> {
        let end = Instant::now() + self.deadline;
        self.send(command, NO_REPLY, body, &[], end).map(drop)
    }

    fn send(
        &mut self,
        command: Command,
        flags: u32,
        body: &[u8],
        fds: &[RawFd],
        end: Instant,
    ) -> Result<u16, BusError> {
        if let Some(reason) = &self.dead {
            return Err(BusError::Gone { reason: reason.clone() });
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let size = HEADER + body.len();
        let header = Header { id, command: command as u16, size: size as u32, flags, error: 0 }.to_bytes();
        let sent = loop {
            counts::system_call();
            match self.stream.send_with_fds(&[&header[..], body], fds) {
                // A signal came before anything was sent.
                Err(error) if error.errno() == libc::EINTR && Instant::now() <= end => {}
                Err(error) if error.errno() == libc::EINTR => {
                    return Err(self.io_error(command, io::ErrorKind::TimedOut.into()));
                }
                sent => break sent,
            }
        };
        match sent {
            Ok(sent) if sent == size => Ok(id),
            // The kernel sends less only after the deadline. The rest cannot follow: the link is dead.
            Ok(_) => Err(self.io_error(command, io::ErrorKind::TimedOut.into())),
            Err(error) => Err(self.io_error(command, io::Error::from(error))),
        }
    }

    /// Reads until the answer to `id` is at the front of `received`; returns its header and length.
    fn answer(&mut self, command: Command, id: u16, end: Instant) -> Result<(Header, usize), BusError> {
        // The socket's deadline is that of one read. A process that sends bytes one by one, or always something else, would
        // never miss it.
        loop {
            let (header, len) = self.message(command, end)?;
            if header.id == id && header.flags & REPLY != 0 {
                return Ok((header, len));
            }
            self.received.consume(len);
            if header.flags & (REPLY | ERROR) != REPLY | ERROR {
                let reason = format!("message {} came unasked", header.id);
                return Err(self.die(BusError::Protocol { what: command.name(), reason }));
            }
            // A posted write that the card's process refused: there was nobody to tell.
            tracing::warn!(command = header.command, "the card's process refused a posted request");
        }
    }

    fn message(&mut self, command: Command, end: Instant) -> Result<(Header, usize), BusError> {
        self.fill(command, HEADER, end)?;
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(&self.received.bytes()[..HEADER]);
        let header = Header::from_bytes(bytes);
        let len = header.size as usize;
        if !(HEADER..=MAX_MESSAGE).contains(&len) {
            let reason = format!("a message of {len} bytes");
            return Err(self.die(BusError::Protocol { what: command.name(), reason }));
        }
        self.fill(command, len, end)?;
        Ok((header, len))
    }

    fn fill(&mut self, command: Command, len: usize, end: Instant) -> Result<(), BusError> {
        while self.received.filled < len {
            counts::system_call();
            match self.received.receive(&mut self.stream) {
                Ok(0) => {
                    return Err(
                        self.die(BusError::Gone { reason: "its process closed the connection".into() })
                    );
                }
                Ok(_) => {}
                // Sockets with a deadline are not read again by the kernel after a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_error(command, error)),
            }
            if Instant::now() > end {
                return Err(self.io_error(command, io::ErrorKind::TimedOut.into()));
            }
        }
        Ok(())
    }

    fn io_error(&mut self, command: Command, error: io::Error) -> BusError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let after = self.deadline;
                self.die(BusError::Timeout { what: command.name(), after })
            }
            _ => self.die(BusError::Gone { reason: error.to_string() }),
        }
    }

    fn die(&mut self, error: BusError) -> BusError {
        self.dead = Some(error.to_string());
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// What a request that nobody answers right ends with, and after how long: `first` is what is sent instead, then
    /// `again` and again.
    fn request(first: &'static [u8], again: &'static [u8]) -> (BusError, Duration) {
        let (near, mut far) = UnixStream::pair().unwrap();
        let talker = std::thread::spawn(move || {
            far.write_all(first).unwrap();
            // Ends when the other end is closed.
            while far.write_all(again).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut link = Link::new(near, Duration::from_millis(200)).unwrap();
        let begin = Instant::now();
        let error = link.request(Command::RegionRead, &[], &[], |_| Some(())).unwrap_err();
        let took = begin.elapsed();
        drop(link);
        talker.join().unwrap();
        (error, took)
    }

    extern "C" fn ignore(_: i32) {}

    #[test]
    fn signals_do_not_start_the_deadline_anew() {
        // Without SA_RESTART, so that each ends the system call of the thread that it is sent to.
        // SAFETY: all zeros are a valid action; the handler does nothing. The thread is alive until the scope's end.
        let this = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ignore as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
            libc::pthread_self()
        };
        let (near, _far) = UnixStream::pair().unwrap();
        let mut link = Link::new(near, Duration::from_millis(300)).unwrap();
        let (begin, ended) = (Instant::now(), std::sync::atomic::AtomicBool::new(false));
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) && begin.elapsed().as_secs() < 10 {
                    // SAFETY: as above.
                    unsafe { libc::pthread_kill(this, libc::SIGUSR2) };
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let error = link.request(Command::RegionRead, &[], &[], |_| Some(())).unwrap_err();
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            error
        });
        assert!(matches!(error, BusError::Timeout { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_process_that_talks_without_answering_is_as_late_as_a_silent_one() {
        // One byte at a time of a long message, and refusals of what was posted.
        let long = &[0, 0, 9, 0, 0, 0xf0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let refusal = &[9, 0, 10, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 22, 0, 0, 0];
        for (first, again) in [(&long[..], &[0u8][..]), (refusal, refusal)] {
            let (error, took) = request(first, again);
            assert!(matches!(error, BusError::Timeout { .. }), "{error}");
            assert!(took < Duration::from_secs(10));
        }
    }
}
