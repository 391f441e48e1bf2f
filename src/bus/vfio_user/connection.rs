//! The connection to a vfio-user server: requests and replies with a deadline. There is one request at a time. After a failed
//! request the connection stays unusable.
//!
//! A request takes at most its deadline plus one read or write, for which the socket has the same timeout. Signals do not restart
//! the deadline.

use super::wire::{Command, ERROR, HEADER, Header, MAX_MESSAGE, NO_REPLY, REPLY};
use crate::bus::{BusError, counts};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

pub struct Connection {
    stream: UnixStream,
    /// Time limit for a request and its reply.
    timeout: Duration,
    next_id: u16,
    received: ReceiveBuffer,
    /// Why the connection is unusable, if it is.
    failure: Option<String>,
}

/// Bytes that were received and not yet consumed, in a buffer for the longest message.
struct ReceiveBuffer {
    bytes: Box<[u8]>,
    filled: usize,
}

impl ReceiveBuffer {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Waits for data and receives what has arrived. Returns the number of bytes.
    fn receive(&mut self, stream: &mut UnixStream) -> io::Result<usize> {
        let count = stream.read(&mut self.bytes[self.filled..])?;
        self.filled += count;
        Ok(count)
    }

    /// Removes the first `len` bytes.
    fn consume(&mut self, len: usize) {
        self.bytes.copy_within(len..self.filled, 0);
        self.filled -= len;
    }
}

impl Connection {
    pub fn new(stream: UnixStream, timeout: Duration) -> io::Result<Self> {
        let received = ReceiveBuffer { bytes: vec![0; MAX_MESSAGE].into(), filled: 0 };
        let mut connection = Self { stream, timeout, next_id: 0, received, failure: None };
        connection.set_timeout(timeout)?;
        Ok(connection)
    }

    pub fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.timeout = timeout;
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.set_write_timeout(Some(timeout))
    }

    /// Sends a command, waits for its reply, and parses the reply's body with `read`.
    pub fn request<R>(
        &mut self,
        command: Command,
        body: &[u8],
        fds: &[RawFd],
        read: impl FnOnce(&[u8]) -> Option<R>,
    ) -> Result<R, BusError> {
        let deadline = Instant::now() + self.timeout;
        let id = self.send(command, 0, body, fds, deadline)?;
        let (header, len) = self.receive_reply(command, id, deadline)?;
        let result = if header.flags & ERROR == 0 { read(&self.received.bytes()[HEADER..len]) } else { None };
        self.received.consume(len);
        if header.flags & ERROR != 0 {
            // The reference server reports most refusals with errno 0.
            let source = match header.error {
                0 => io::Error::other("the card's process reported no reason"),
                errno => io::Error::from_raw_os_error(errno as i32),
            };
            return Err(BusError::Refused { what: command.name(), cause: source });
        }
        result.ok_or_else(|| {
            self.fail(BusError::Protocol { what: command.name(), reason: "it is too short".into() })
        })
    }

    /// Sends a command without a body, and waits at most `limit` for a reply without a body. Other requests keep their limit.
    pub fn request_within(&mut self, limit: Duration, command: Command) -> Result<(), BusError> {
        let usual = self.timeout;
        self.set_timeout(limit).map_err(|error| self.io_error(command, error))?;
        let done = self.request(command, &[], &[], |_| Some(()));
        self.set_timeout(usual).map_err(|error| self.io_error(command, error))?;
        done
    }

    /// Sends a command without requesting a reply.
    pub fn post(&mut self, command: Command, body: &[u8]) -> Result<(), BusError> {
        let deadline = Instant::now() + self.timeout;
        self.send(command, NO_REPLY, body, &[], deadline).map(drop)
    }

    fn send(
        &mut self,
        command: Command,
        flags: u32,
        body: &[u8],
        fds: &[RawFd],
        deadline: Instant,
    ) -> Result<u16, BusError> {
        if let Some(reason) = &self.failure {
            return Err(BusError::Gone { reason: reason.clone() });
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let size = HEADER + body.len();
        let header = Header { id, command: command as u16, size: size as u32, flags, error: 0 }.to_bytes();
        let sent = loop {
            counts::system_call();
            match self.stream.send_with_fds(&[&header[..], body], fds) {
                // A signal arrived before anything was sent.
                Err(error) if error.errno() == libc::EINTR && Instant::now() <= deadline => {}
                Err(error) if error.errno() == libc::EINTR => {
                    return Err(self.io_error(command, io::ErrorKind::TimedOut.into()));
                }
                sent => break sent,
            }
        };
        match sent {
            Ok(sent) if sent == size => Ok(id),
            // The kernel sends part of a message only if the timeout expires. The rest is not sent; the connection is unusable.
            Ok(_) => Err(self.io_error(command, io::ErrorKind::TimedOut.into())),
            Err(error) => Err(self.io_error(command, io::Error::from(error))),
        }
    }

    /// Receives until the reply to `id` is at the front of `received`. Returns the reply's header and length.
    fn receive_reply(
        &mut self,
        command: Command,
        id: u16,
        deadline: Instant,
    ) -> Result<(Header, usize), BusError> {
        loop {
            let (header, len) = self.receive_message(command, deadline)?;
            if header.id == id && header.flags & REPLY != 0 {
                return Ok((header, len));
            }
            self.received.consume(len);
            if header.flags & (REPLY | ERROR) != REPLY | ERROR {
                let reason = format!("unexpected message {}", header.id);
                return Err(self.fail(BusError::Protocol { what: command.name(), reason }));
            }
            // A posted write has no caller that could return this error.
            tracing::warn!(command = header.command, "the card's process refused a posted request");
        }
    }

    fn receive_message(&mut self, command: Command, deadline: Instant) -> Result<(Header, usize), BusError> {
        self.fill(command, HEADER, deadline)?;
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(&self.received.bytes()[..HEADER]);
        let header = Header::from_bytes(bytes);
        let len = header.size as usize;
        if !(HEADER..=MAX_MESSAGE).contains(&len) {
            let reason = format!("the message has an invalid length of {len} bytes");
            return Err(self.fail(BusError::Protocol { what: command.name(), reason }));
        }
        self.fill(command, len, deadline)?;
        Ok((header, len))
    }

    /// Receives until `received` has at least `len` bytes.
    ///
    /// The socket's timeout applies to a single read. A server that sends single bytes, or anything but the reply, would never
    /// exceed it, so the deadline is checked after each read.
    fn fill(&mut self, command: Command, len: usize, deadline: Instant) -> Result<(), BusError> {
        while self.received.filled < len {
            counts::system_call();
            match self.received.receive(&mut self.stream) {
                Ok(0) => {
                    return Err(self.ended("its process closed the connection"));
                }
                Ok(_) => {}
                // The kernel does not restart a read from a socket with a timeout after a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_error(command, error)),
            }
            if Instant::now() > deadline {
                return Err(self.io_error(command, io::ErrorKind::TimedOut.into()));
            }
        }
        Ok(())
    }

    fn io_error(&mut self, command: Command, error: io::Error) -> BusError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let after = self.timeout;
                self.fail(BusError::Timeout { what: command.name(), after })
            }
            _ => self.ended(&format!("the connection to its process failed: {error}")),
        }
    }

    /// Marks the connection as unusable because the card's process has probably ended.
    fn ended(&mut self, evidence: &str) -> BusError {
        self.fail(BusError::Gone {
            reason: format!("{evidence}; start that process again, then open the card again"),
        })
    }

    /// Marks the connection as unusable.
    fn fail(&mut self, error: BusError) -> BusError {
        self.failure = Some(match &error {
            BusError::Gone { reason } => reason.clone(),
            other => other.to_string(),
        });
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Sends a request to a server that does not reply to it, but sends `first` and then `again` repeatedly. Returns the error
    /// and how long the request took.
    fn request(first: &'static [u8], again: &'static [u8]) -> (BusError, Duration) {
        let (near, mut far) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            far.write_all(first).unwrap();
            // Fails when the other end is closed.
            while far.write_all(again).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut connection = Connection::new(near, Duration::from_millis(200)).unwrap();
        let begin = Instant::now();
        let error = connection.request(Command::RegionRead, &[], &[], |_| Some(())).unwrap_err();
        let took = begin.elapsed();
        drop(connection);
        server.join().unwrap();
        (error, took)
    }

    #[test]
    fn a_request_with_a_limit_of_its_own_leaves_the_usual_one() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (usual, limit) = (Duration::from_millis(100), Duration::from_secs(20));
        let mut connection = Connection::new(near, usual).unwrap();
        let server = std::thread::spawn(move || {
            // The first request is answered late, with a refusal, and the others never.
            far.read_exact(&mut [0; HEADER]).unwrap();
            std::thread::sleep(3 * usual);
            let refusal = Header { id: 0, command: 13, size: HEADER as u32, flags: REPLY | ERROR, error: 25 };
            far.write_all(&refusal.to_bytes()).unwrap();
            far
        });
        let error = connection.request_within(limit, Command::DeviceReset).unwrap_err();
        assert!(matches!(error, BusError::Refused { .. }), "{error}");
        let _far = server.join().unwrap();
        let error = connection.request(Command::RegionRead, &[], &[], |_| Some(())).unwrap_err();
        assert!(matches!(error, BusError::Timeout { after, .. } if after == usual), "{error}");
    }

    extern "C" fn ignore(_: i32) {}

    #[test]
    fn signals_do_not_restart_the_deadline() {
        // Without SA_RESTART, each signal ends the system call of the thread to which it is sent.
        // SAFETY: all zeros are a valid action, the handler does nothing, and this thread outlives the scope below.
        let this = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ignore as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
            libc::pthread_self()
        };
        let (near, _far) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(near, Duration::from_millis(300)).unwrap();
        let (begin, ended) = (Instant::now(), std::sync::atomic::AtomicBool::new(false));
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) && begin.elapsed().as_secs() < 10 {
                    // SAFETY: as above.
                    unsafe { libc::pthread_kill(this, libc::SIGUSR2) };
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let error = connection.request(Command::RegionRead, &[], &[], |_| Some(())).unwrap_err();
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            error
        });
        assert!(matches!(error, BusError::Timeout { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_server_that_sends_anything_but_the_reply_misses_the_deadline() {
        // A long message one byte at a time, then refusals of posted requests.
        let long = &[0, 0, 9, 0, 0, 0xf0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let refusal = &[9, 0, 10, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 22, 0, 0, 0];
        for (first, again) in [(&long[..], &[0u8][..]), (refusal, refusal)] {
            let (error, took) = request(first, again);
            assert!(matches!(error, BusError::Timeout { .. }), "{error}");
            assert!(took < Duration::from_secs(10));
        }
    }
}
