//! Sending and receiving of vfio-user messages. Their contents are parsed by [`super::command`].
//!
//! There is no time limit between messages. Once a message has begun, it must be complete within [`MESSAGE_TIMEOUT`]; the same
//! limit applies to sending a reply.

use rustix::io::retry_on_intr;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes of a header: identifier (16 bits), command (16), size, flags, error (32 each).
const HEADER: usize = 16;
/// Bytes of a region access before its data.
const ACCESS_HEADER: usize = HEADER + 16;
/// The maximum number of data bytes in a message, as announced to clients.
pub(super) const MAX_DATA: usize = 1 << 20;
/// The maximum number of file descriptors in a message.
const MAX_FDS: usize = 16;

/// Time limit for a client to send the rest of a message, and to make space for a reply.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

const TYPE: u32 = 0xf;
const REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// A message and its file descriptors.
pub(super) struct Message {
    bytes: Vec<u8>,
    files: Vec<File>,
}

impl Message {
    /// Receives a message from a client with [timeouts](set_timeouts). Returns `None` at the end of the connection. Fails if the
    /// stream fails or if the header contains an invalid size.
    ///
    /// Waits without limit for the start of a message, and then for at most five seconds plus one read for the rest.
    pub fn receive(client: &UnixStream) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; HEADER];
        let (received, files) = loop {
            match receive_with_files(client, &mut bytes) {
                // The client is silent between messages.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => break other?,
            }
        };
        if received == 0 {
            return Ok(None);
        }
        let end = Instant::now() + MESSAGE_TIMEOUT;
        read_all(client, &mut bytes[received..], end)?;
        let size = size(&bytes, ACCESS_HEADER + MAX_DATA)?;
        bytes.resize(size, 0);
        read_all(client, &mut bytes[HEADER..], end)?;
        Ok(Some(Self { bytes, files }))
    }

    /// Returns the command number.
    pub fn command(&self) -> u16 {
        u16::from_le_bytes([self.bytes[2], self.bytes[3]])
    }

    /// Returns whether the message is a command rather than a reply.
    pub fn is_command(&self) -> bool {
        self.flags() & TYPE == 0
    }

    /// Returns whether the client does not expect a reply.
    pub fn is_posted(&self) -> bool {
        self.flags() & NO_REPLY != 0
    }

    fn flags(&self) -> u32 {
        word(&self.bytes, 8)
    }

    /// Returns the bytes after the header, and the files.
    pub fn body_and_files(&mut self) -> (&[u8], &mut Vec<File>) {
        (&self.bytes[HEADER..], &mut self.files)
    }
}

/// A reply, which is assembled in memory and then sent.
pub(super) struct Reply(Vec<u8>);

impl Reply {
    /// Creates a reply that reports success. Results are [appended](Self::put).
    pub fn to(message: &Message) -> Self {
        let mut bytes = message.bytes[..4].to_vec();
        bytes.extend((HEADER as u32).to_le_bytes());
        bytes.extend(REPLY.to_le_bytes());
        bytes.extend([0; 4]);
        Self(bytes)
    }

    /// Creates a reply that reports an error.
    pub fn error(message: &Message, errno: i32) -> Self {
        let mut this = Self::to(message);
        this.0[8..12].copy_from_slice(&(ERROR | REPLY).to_le_bytes());
        this.0[12..].copy_from_slice(&errno.to_le_bytes());
        this
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends `len` zeros and returns them to be filled in.
    pub fn put_zeroed(&mut self, len: usize) -> &mut [u8] {
        let start = self.0.len();
        self.0.resize(start + len, 0);
        &mut self.0[start..]
    }

    /// Sends the reply to a client with [timeouts](set_timeouts). Takes at most five seconds plus one write.
    pub fn send(mut self, client: &UnixStream) -> io::Result<()> {
        let size = self.0.len() as u32;
        self.0[4..8].copy_from_slice(&size.to_le_bytes());
        write_all(client, &self.0, Instant::now() + MESSAGE_TIMEOUT)
    }
}

/// A partially received message on a non-blocking stream. File descriptors sent with it are closed.
#[derive(Default)]
pub(super) struct Partial(Vec<u8>);

impl Partial {
    /// Receives available data. Returns whether the message is complete. Fails if it exceeds `max_bytes`.
    pub fn advance(&mut self, stream: &mut UnixStream, max_bytes: usize) -> io::Result<bool> {
        loop {
            let (start, end) = (self.0.len(), self.end(max_bytes)?);
            if start == end {
                return Ok(true);
            }
            self.0.resize(end, 0);
            let read = stream.read(&mut self.0[start..]);
            self.0.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the end of the part to read next: first the header, then the message, whose size is in the header.
    fn end(&self, max_bytes: usize) -> io::Result<usize> {
        if self.0.len() < HEADER { Ok(HEADER) } else { size(&self.0, max_bytes) }
    }

    /// Returns the message, which must be complete.
    pub fn into_message(self) -> Message {
        Message { bytes: self.0, files: Vec::new() }
    }
}

/// Makes the stream blocking, with a time limit for each read and write.
pub(super) fn set_timeouts(client: &UnixStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(MESSAGE_TIMEOUT))?;
    client.set_write_timeout(Some(MESSAGE_TIMEOUT))
}

/// Reads the rest of a message. Checks `end` too, because a client that sends single bytes never hits the limit of one read.
fn read_all(mut client: &UnixStream, mut buffer: &mut [u8], end: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        match client.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => buffer = &mut buffer[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(timeout_error(error)),
        }
        if !buffer.is_empty() && Instant::now() > end {
            return Err(timeout_error(ErrorKind::WouldBlock.into()));
        }
    }
    Ok(())
}

/// Writes a reply. Also checks the overall deadline `end`: a client that reads one byte at a time never exceeds the timeout of a single
/// write.
fn write_all(mut client: &UnixStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match client.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(timeout_error(error)),
        }
        if !bytes.is_empty() && Instant::now() > end {
            return Err(timeout_error(ErrorKind::WouldBlock.into()));
        }
    }
    Ok(())
}

/// Converts a `WouldBlock` error of a stream with timeouts into a `TimedOut` error.
fn timeout_error(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => {
            let text =
                format!("the client did not send or receive a complete message within {MESSAGE_TIMEOUT:?}");
            io::Error::new(ErrorKind::TimedOut, text)
        }
        _ => error,
    }
}

/// Returns the size of a message from its header.
fn size(header: &[u8], max_bytes: usize) -> io::Result<usize> {
    match word(header, 4) as usize {
        size if (HEADER..=max_bytes).contains(&size) => Ok(size),
        _ => Err(malformed("invalid message size")),
    }
}

/// Returns an error for a malformed message, after which nothing from its client can be trusted.
pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed vfio-user message: {what}"))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Receives once, with the file descriptors that accompany the first byte. The kernel closes descriptors that accompany later bytes.
fn receive_with_files(client: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<File>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut body_and_files = [IoSliceMut::new(buffer)];
    let received =
        retry_on_intr(|| recvmsg(client, &mut body_and_files, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files: Vec<File> = rights.flatten().map(File::from).collect();
    // The kernel closes files that do not fit. Because of alignment, the buffer may have space for one more than requested.
    match received.flags.contains(ReturnFlags::CTRUNC) || files.len() > MAX_FDS {
        true => Err(malformed("too many files")),
        false => Ok((received.bytes, files)),
    }
}

#[cfg(test)]
impl Message {
    /// Creates a message as a client sends it.
    pub fn new(command: u16, flags: u32, body: &[u8]) -> Self {
        let mut bytes = vec![7, 0];
        bytes.extend(command.to_le_bytes());
        bytes.extend(((HEADER + body.len()) as u32).to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        Self { bytes, files: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, RawFd};
    use vmm_sys_util::sock_ctrl_msg::ScmSocket;

    fn message(command: u16, body: &[u8]) -> Vec<u8> {
        Message::new(command, 0, body).bytes
    }

    #[test]
    fn a_message_is_assembled_from_pieces_and_reading_stops_at_its_end() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let (sent, mut partial) = (message(13, &[]), Partial::default());
        for byte in &sent {
            assert!(!partial.advance(&mut far, 64).unwrap());
            near.write_all(&[*byte]).unwrap();
        }
        near.write_all(&message(10, &[5; 48])).unwrap();
        assert!(partial.advance(&mut far, 64).unwrap());
        assert_eq!(partial.into_message().bytes, sent);
        assert_eq!(Message::receive(&far).unwrap().unwrap().bytes.len(), 64);
        near.write_all(&message(10, &[5; 49])).unwrap();
        assert!(Partial::default().advance(&mut far, 64).is_err(), "longer than allowed");
        drop(near);
        let _ = far.read_to_end(&mut Vec::new());
        assert!(Partial::default().advance(&mut far, 64).is_err(), "the stream ends before a message");
    }

    #[test]
    fn messages_are_received_and_answered() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let sent = message(10, &[5; 40]);
        near.write_all(&sent).unwrap();
        let received = Message::receive(&far).unwrap().unwrap();
        assert_eq!(received.bytes, sent);
        let (mut done, mut reply) = (Reply::to(&received), [0; 19]);
        done.put(&[1]);
        done.put_zeroed(2).copy_from_slice(&[2, 3]);
        done.send(&far).unwrap();
        near.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [7, 0, 10, 0, 19, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        Reply::error(&received, libc::EBUSY).send(&far).unwrap();
        near.read_exact(&mut reply[..16]).unwrap();
        assert_eq!(reply[..16], [7, 0, 10, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, libc::EBUSY as u8, 0, 0, 0]);
        near.write_all(&[0xff; 16]).unwrap();
        assert!(Message::receive(&far).is_err());
        drop(near);
        assert!(Message::receive(&far).unwrap().is_none());
    }

    #[test]
    fn files_arrive_with_their_message_up_to_the_limit() {
        let (near, far) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let send = |count: usize| {
            let fds: Vec<RawFd> = vec![file.as_raw_fd(); count];
            near.send_with_fds(&[message(8, &[]).as_slice()], &fds).unwrap();
        };
        for count in [0, 1, MAX_FDS] {
            send(count);
            assert_eq!(Message::receive(&far).unwrap().unwrap().files.len(), count);
        }
        send(MAX_FDS + 1);
        assert!(Message::receive(&far).is_err());
    }
}
