//! vfio-user messages on a client's stream: received whole, and answered. What they say is for [`super::command`].
//!
//! A client may be silent between messages for as long as it likes. A message that has begun, and each reply to a client,
//! must be through within [`MESSAGE`].

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
const ACCESS: usize = HEADER + 16;
/// Data of a message at most, as the card announces.
pub(super) const MAX_DATA: usize = 1 << 20;
/// File descriptors of a message at most.
const MAX_FDS: usize = 16;

/// How long a client may take for the rest of a message, and to make space for a reply.
const MESSAGE: Duration = Duration::from_secs(5);

const TYPE: u32 = 0xf;
const REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// A message with what came beside it.
pub(super) struct Message {
    bytes: Vec<u8>,
    files: Vec<File>,
}

impl Message {
    /// Receives a message from a [client](limit_waits); `None` at the end of the connection. Errors are the stream's, or a
    /// size that no message has.
    ///
    /// It waits for the beginning for as long as it takes, and for the rest of a message for five seconds and one more read.
    pub fn receive(client: &UnixStream) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; HEADER];
        let (received, files) = loop {
            match receive_with_files(client, &mut bytes) {
                // Silence between messages.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => break other?,
            }
        };
        if received == 0 {
            return Ok(None);
        }
        let end = Instant::now() + MESSAGE;
        read_all(client, &mut bytes[received..], end)?;
        let size = size(&bytes, ACCESS + MAX_DATA)?;
        bytes.resize(size, 0);
        read_all(client, &mut bytes[HEADER..], end)?;
        Ok(Some(Self { bytes, files }))
    }

    /// The number of its command.
    pub fn command(&self) -> u16 {
        u16::from_le_bytes([self.bytes[2], self.bytes[3]])
    }

    /// Whether it is a command, and not a reply.
    pub fn is_command(&self) -> bool {
        self.flags() & TYPE == 0
    }

    /// Whether the client waits for no reply to it.
    pub fn is_posted(&self) -> bool {
        self.flags() & NO_REPLY != 0
    }

    fn flags(&self) -> u32 {
        word(&self.bytes, 8)
    }

    /// What follows the header, and the files.
    pub fn parts(&mut self) -> (&[u8], &mut Vec<File>) {
        (&self.bytes[HEADER..], &mut self.files)
    }
}

/// A reply that is put together, and then sent with one write.
pub(super) struct Reply(Vec<u8>);

impl Reply {
    /// Says that what `message` asked for was done; what it asked to know is [put](Self::put) behind.
    pub fn to(message: &Message) -> Self {
        let mut bytes = message.bytes[..4].to_vec();
        bytes.extend((HEADER as u32).to_le_bytes());
        bytes.extend(REPLY.to_le_bytes());
        bytes.extend([0; 4]);
        Self(bytes)
    }

    /// Says that it was not done.
    pub fn refusal(message: &Message, errno: i32) -> Self {
        let mut this = Self::to(message);
        this.0[8..12].copy_from_slice(&(ERROR | REPLY).to_le_bytes());
        this.0[12..].copy_from_slice(&errno.to_le_bytes());
        this
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Puts `len` bytes that are still to be filled in.
    pub fn put_room(&mut self, len: usize) -> &mut [u8] {
        let start = self.0.len();
        self.0.resize(start + len, 0);
        &mut self.0[start..]
    }

    /// Sends it to a [client](limit_waits): for five seconds and one more write.
    pub fn send(mut self, client: &UnixStream) -> io::Result<()> {
        let size = self.0.len() as u32;
        self.0[4..8].copy_from_slice(&size.to_le_bytes());
        write_all(client, &self.0, Instant::now() + MESSAGE)
    }
}

/// A message that arrives in pieces on a stream that does not block. Files beside it are closed.
#[derive(Default)]
pub(super) struct Partial(Vec<u8>);

impl Partial {
    /// Takes what has arrived; whether the message is whole now. It has at most `longest` bytes.
    pub fn advance(&mut self, stream: &mut UnixStream, longest: usize) -> io::Result<bool> {
        loop {
            let (start, end) = (self.0.len(), self.end(longest)?);
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

    /// Where the part ends that can be read next: the header, which says where the message does.
    fn end(&self, longest: usize) -> io::Result<usize> {
        if self.0.len() < HEADER { Ok(HEADER) } else { size(&self.0, longest) }
    }

    /// The message, which must be whole.
    pub fn into_message(self) -> Message {
        Message { bytes: self.0, files: Vec::new() }
    }
}

/// Makes no read from a client, and no write to it, last longer than a message may.
pub(super) fn limit_waits(client: &UnixStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(MESSAGE))?;
    client.set_write_timeout(Some(MESSAGE))
}

/// Reads what is left of a message. Limits of single reads do not stop a client that sends byte by byte.
fn read_all(mut client: &UnixStream, mut buffer: &mut [u8], end: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        match client.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => buffer = &mut buffer[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(late(error)),
        }
        if !buffer.is_empty() && Instant::now() > end {
            return Err(late(ErrorKind::WouldBlock.into()));
        }
    }
    Ok(())
}

/// Writes a reply. Limits of single writes do not stop a client that reads byte by byte.
fn write_all(mut client: &UnixStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match client.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(late(error)),
        }
        if !bytes.is_empty() && Instant::now() > end {
            return Err(late(ErrorKind::WouldBlock.into()));
        }
    }
    Ok(())
}

/// Says what it means that a client's stream would block.
fn late(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => {
            let text = format!("the client neither sent nor took a whole message within {MESSAGE:?}");
            io::Error::new(ErrorKind::TimedOut, text)
        }
        _ => error,
    }
}

/// The size of a message by its header.
fn size(header: &[u8], longest: usize) -> io::Result<usize> {
    match word(header, 4) as usize {
        size if (HEADER..=longest).contains(&size) => Ok(size),
        _ => Err(malformed("message size")),
    }
}

/// The error of a message after which nothing from its client can be trusted.
pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed vfio-user message: {what}"))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// One read, with the files that came beside its first byte. Those beside later ones are closed by the kernel.
fn receive_with_files(client: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<File>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = retry_on_intr(|| recvmsg(client, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files: Vec<File> = rights.flatten().map(File::from).collect();
    // What does not fit is closed by the kernel; space that is aligned may fit one more.
    match received.flags.contains(ReturnFlags::CTRUNC) || files.len() > MAX_FDS {
        true => Err(malformed("too many files")),
        false => Ok((received.bytes, files)),
    }
}

#[cfg(test)]
impl Message {
    /// As a client sends it.
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
    fn a_message_in_pieces_is_put_together_and_no_byte_more() {
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
        assert!(Partial::default().advance(&mut far, 64).is_err(), "longer than it may be");
        drop(near);
        let _ = far.read_to_end(&mut Vec::new());
        assert!(Partial::default().advance(&mut far, 64).is_err(), "an end before there was a message");
    }

    #[test]
    fn messages_are_received_whole_and_answered() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let sent = message(10, &[5; 40]);
        near.write_all(&sent).unwrap();
        let received = Message::receive(&far).unwrap().unwrap();
        assert_eq!(received.bytes, sent);
        let (mut done, mut reply) = (Reply::to(&received), [0; 19]);
        done.put(&[1]);
        done.put_room(2).copy_from_slice(&[2, 3]);
        done.send(&far).unwrap();
        near.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [7, 0, 10, 0, 19, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        Reply::refusal(&received, libc::EBUSY).send(&far).unwrap();
        near.read_exact(&mut reply[..16]).unwrap();
        assert_eq!(reply[..16], [7, 0, 10, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, libc::EBUSY as u8, 0, 0, 0]);
        near.write_all(&[0xff; 16]).unwrap();
        assert!(Message::receive(&far).is_err());
        drop(near);
        assert!(Message::receive(&far).unwrap().is_none());
    }

    #[test]
    fn files_come_with_their_message_and_no_more_than_may() {
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
