//! vfio-user messages: received whole, and checked before the `vfio_user` crate's server sees them.
//!
//! That server trusts lengths, unwraps strings, reports errors without saying which, and after one goes on reading in the
//! middle of a message. Here what it cannot digest ends the connection or is refused in its stead.
//!
//! A client may be silent between messages for as long as it likes. A message that has begun, and each message to a client,
//! must be through within [`MESSAGE`].

use libc::{EINVAL, ENOTSUP, c_void, iovec};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vfio_bindings::bindings::vfio::VFIO_IRQ_SET_DATA_BOOL;
use vfio_user::Command;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// Bytes of a header: identifier (16 bits), command (16), size, flags, error (32 each).
const HEADER: usize = 16;
/// Bytes of a region access before its data.
const ACCESS: usize = HEADER + 16;
/// Data of a message at most, as the server announces.
const MAX_DATA: usize = 1 << 20;
/// File descriptors of a message at most.
const MAX_FDS: usize = 16;

/// How long a client may take for the rest of a message, and to make space for one.
const MESSAGE: Duration = Duration::from_secs(5);

const TYPE: u32 = 0xf;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;
const REPLY: u32 = 1;

/// A message with what came beside it.
pub(super) struct Message {
    bytes: Vec<u8>,
    files: Vec<File>,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Forward,
    /// Answer with this error.
    Refuse(i32),
}

impl Message {
    /// Receives a message; `None` at the end of the connection. Errors are the stream's, or a size that no message has.
    ///
    /// It waits for the beginning for as long as it takes, and for the rest of a message from a [client](limit_waits)
    /// for five seconds and one more read.
    pub fn receive(stream: &mut UnixStream) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; HEADER];
        let (received, files) = loop {
            match receive_with_files(stream, &mut bytes) {
                // Silence between messages.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => break other?,
            }
        };
        if received == 0 {
            return Ok(None);
        }
        let end = Instant::now() + MESSAGE;
        read_all(stream, &mut bytes[received..], end)?;
        let size = size(&bytes, ACCESS + MAX_DATA)?;
        bytes.resize(size, 0);
        read_all(stream, &mut bytes[HEADER..], end)?;
        Ok(Some(Self { bytes, files }))
    }

    /// Whether this is a reply that tells of an error and not of which.
    pub fn is_vague(&self) -> bool {
        word(&self.bytes, 8) & ERROR != 0 && word(&self.bytes, 12) == 0
    }

    /// Names the error of a reply.
    pub fn set_errno(&mut self, errno: i32) {
        self.bytes[12..HEADER].copy_from_slice(&errno.to_le_bytes());
    }

    pub fn command(&self) -> Option<Command> {
        Command::n(u16::from_le_bytes([self.bytes[2], self.bytes[3]]))
    }

    /// Sends it to the server, which takes it as soon as it has done what came before.
    pub fn forward(&self, server: &mut UnixStream) -> io::Result<()> {
        let sent = self.begin(server)?;
        server.write_all(&self.bytes[sent..])
    }

    /// Sends it to a [client](limit_waits): for five seconds and one more write.
    pub fn reply(&self, client: &mut UnixStream) -> io::Result<()> {
        let end = Instant::now() + MESSAGE;
        let sent = self.begin(client).map_err(late)?;
        write_all(client, &self.bytes[sent..], end)
    }

    /// Sends the first part, with the files; returns its length.
    fn begin(&self, stream: &UnixStream) -> io::Result<usize> {
        let fds: Vec<RawFd> = self.files.iter().map(|file| file.as_raw_fd()).collect();
        loop {
            match stream.send_with_fds(&[self.bytes.as_slice()], &fds) {
                Err(error) if error.errno() == libc::EINTR => {}
                sent => return sent.map_err(io::Error::from),
            }
        }
    }

    /// Checks the message that a client begins with.
    pub fn check_greeting(&self, regions: &[u64]) -> io::Result<()> {
        match (self.command(), self.check(regions)?) {
            (Some(Command::Version), Verdict::Forward) => Ok(()),
            _ => Err(malformed("a client that does not begin with its version")),
        }
    }

    /// Whether the server can be given this message, and whether it is a message at all. `regions` has their sizes.
    pub fn check(&self, regions: &[u64]) -> io::Result<Verdict> {
        use Command::*;
        let (len, flags) = (self.bytes.len(), word(&self.bytes, 8));
        if flags & TYPE != 0 {
            return Err(malformed("a reply to no command"));
        }
        let Some(command) = self.command() else { return Ok(Verdict::Refuse(ENOTSUP)) };
        let answered =
            matches!(command, Version | DeviceGetInfo | DeviceGetRegionInfo | GetIrqInfo | RegionRead);
        if answered && flags & NO_REPLY != 0 {
            return Err(malformed("a question that wants no answer"));
        }
        let fits = match command {
            Version => return self.check_version(),
            DmaMap => len == HEADER + 32 && self.files.len() <= 1,
            DmaUnmap => len == HEADER + 24,
            DeviceGetInfo | GetIrqInfo => len == HEADER + 16,
            DeviceGetRegionInfo => len == HEADER + 32,
            SetIrqs => return self.check_irqs(),
            RegionRead => len == ACCESS && self.count() <= MAX_DATA,
            RegionWrite => len >= ACCESS && len == ACCESS + self.count(),
            DeviceReset => len == HEADER,
            Unknown | GetRegionIoFds | DmaRead | DmaWrite | UserDirtyPages => {
                return Ok(Verdict::Refuse(ENOTSUP));
            }
        };
        match (fits, command) {
            (false, _) => Err(malformed("size of a command")),
            (true, RegionRead | RegionWrite) if !self.is_inside(regions) => Ok(Verdict::Refuse(EINVAL)),
            _ => Ok(Verdict::Forward),
        }
    }

    /// Whether a region access lies within its region.
    fn is_inside(&self, regions: &[u64]) -> bool {
        let offset = u64::from(word(&self.bytes, HEADER)) | u64::from(word(&self.bytes, HEADER + 4)) << 32;
        let end = offset.checked_add(self.count() as u64);
        let size = regions.get(word(&self.bytes, HEADER + 8) as usize);
        end.zip(size).is_some_and(|(end, &size)| end <= size)
    }

    /// Bytes of a region access.
    fn count(&self) -> usize {
        word(&self.bytes, HEADER + 12) as usize
    }

    fn check_version(&self) -> io::Result<Verdict> {
        let json = self.bytes.get(HEADER + 4..).and_then(|data| data.strip_suffix(&[0]));
        let json = json.ok_or_else(|| malformed("capabilities of a version"))?;
        if json.contains(&0) || serde_json::from_slice::<serde_json::Value>(json).is_err() {
            return Err(malformed("capabilities of a version"));
        }
        Ok(Verdict::Forward)
    }

    fn check_irqs(&self) -> io::Result<Verdict> {
        if self.bytes.len() < HEADER + 20 {
            return Err(malformed("size of a command"));
        }
        let with_data = word(&self.bytes, HEADER + 4) & VFIO_IRQ_SET_DATA_BOOL != 0;
        match (with_data, self.bytes.len() == HEADER + 20) {
            (true, _) => Ok(Verdict::Refuse(ENOTSUP)),
            (false, true) => Ok(Verdict::Forward),
            (false, false) => Err(malformed("size of a command")),
        }
    }

    /// Answers with an error, unless no answer is wanted.
    pub fn refuse(&self, stream: &mut UnixStream, errno: i32) -> io::Result<()> {
        if word(&self.bytes, 8) & NO_REPLY != 0 {
            return Ok(());
        }
        let mut reply = [0; HEADER];
        reply[..4].copy_from_slice(&self.bytes[..4]);
        reply[4..8].copy_from_slice(&(HEADER as u32).to_le_bytes());
        reply[8..12].copy_from_slice(&(ERROR | REPLY).to_le_bytes());
        reply[12..].copy_from_slice(&errno.to_le_bytes());
        write_all(stream, &reply, Instant::now() + MESSAGE)
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
fn read_all(stream: &mut UnixStream, mut buffer: &mut [u8], end: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        match stream.read(buffer) {
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

/// Writes what is left of a message. Limits of single writes do not stop a client that reads byte by byte.
fn write_all(stream: &mut UnixStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
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

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed vfio-user message: {what}"))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn receive_with_files(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<File>)> {
    let mut fds = [-1; MAX_FDS];
    let mut parts = [iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() }];
    let (bytes, count) = loop {
        // SAFETY: the only part points to `buffer`, which is borrowed mutably, so valid for writes of its length, and
        // outlives the call.
        match unsafe { stream.recv_with_fds(&mut parts, &mut fds) } {
            Err(error) if error.errno() == libc::EINTR => {}
            other => break other.map_err(io::Error::from)?,
        }
    };
    // SAFETY: the first `count` descriptors were just received, so they are open and nobody else's.
    let files = fds[..count].iter().map(|&fd| unsafe { File::from_raw_fd(fd) }).collect();
    Ok((bytes, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(command: u16, flags: u32, body: &[u8]) -> Message {
        let mut bytes = vec![7, 0];
        bytes.extend(command.to_le_bytes());
        bytes.extend(((HEADER + body.len()) as u32).to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        Message { bytes, files: Vec::new() }
    }

    fn passes(command: u16, flags: u32, body: &[u8]) -> bool {
        message(command, flags, body).check(&[4]).is_ok_and(|verdict| verdict == Verdict::Forward)
    }

    #[test]
    fn sizes_are_checked() {
        assert!(passes(13, 0, &[]));
        assert!(!passes(13, 0, &[0]));
        assert!(passes(9, 0, &[0; 16]));
        assert!(!passes(9, 0, &[0xff; 16]), "a read of 4 GiB");
        assert!(!passes(9, NO_REPLY, &[0; 16]));
        let mut write = [0; 20];
        write[12] = 4;
        assert!(passes(10, NO_REPLY, &write));
        assert!(!passes(10, 0, &write[..19]));
        assert!(!passes(2, 0, &[0; 31]));
        assert!(!passes(13, 1, &[]), "a reply");
    }

    #[test]
    fn versions_are_checked() {
        assert!(passes(1, 0, b"\0\0\x01\0{}\0"));
        for bad in [&b""[..], b"\0\0\x01\0", b"\0\0\x01\0{}", b"\0\0\x01\0{\0}\0", b"\0\0\x01\0{\0"] {
            assert!(!passes(1, 0, bad), "{bad:?}");
        }
    }

    #[test]
    fn what_the_server_lacks_is_refused() {
        for command in [0, 6, 11, 12, 14, 99] {
            assert_eq!(message(command, 0, &[1, 2, 3]).check(&[]).unwrap(), Verdict::Refuse(ENOTSUP));
        }
        let mut irqs = [0; 21];
        irqs[4] = VFIO_IRQ_SET_DATA_BOOL as u8;
        assert_eq!(message(8, 0, &irqs).check(&[]).unwrap(), Verdict::Refuse(ENOTSUP));
    }

    #[test]
    fn accesses_stay_in_their_region() {
        let read = |offset: u64, region: u32, count: u32| {
            let body = [&offset.to_le_bytes()[..], &region.to_le_bytes(), &count.to_le_bytes()].concat();
            message(9, 0, &body).check(&[0, 8]).unwrap()
        };
        assert_eq!((read(4, 1, 4), read(8, 1, 0)), (Verdict::Forward, Verdict::Forward));
        for (offset, region, count) in [(5, 1, 4), (0, 0, 1), (0, 2, 1), (u64::MAX, 1, 4), (0, 1, 9)] {
            assert_eq!(read(offset, region, count), Verdict::Refuse(EINVAL));
        }
    }

    #[test]
    fn errors_get_a_name() {
        let mut reply = message(2, ERROR | REPLY, &[]);
        assert!(reply.is_vague());
        reply.set_errno(EINVAL);
        assert!(!reply.is_vague());
        assert!(!message(2, REPLY, &[]).is_vague());
    }

    #[test]
    fn a_message_in_pieces_is_put_together_and_no_byte_more() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let (sent, mut partial) = (message(13, 0, &[]).bytes, Partial::default());
        for byte in &sent {
            assert!(!partial.advance(&mut far, 64).unwrap());
            near.write_all(&[*byte]).unwrap();
        }
        near.write_all(&message(10, 0, &[5; 48]).bytes).unwrap();
        assert!(partial.advance(&mut far, 64).unwrap());
        assert_eq!(partial.into_message().bytes, sent);
        assert_eq!(Message::receive(&mut far).unwrap().unwrap().bytes.len(), 64);
        near.write_all(&message(10, 0, &[5; 49]).bytes).unwrap();
        assert!(Partial::default().advance(&mut far, 64).is_err(), "longer than it may be");
        drop(near);
        let _ = far.read_to_end(&mut Vec::new());
        assert!(Partial::default().advance(&mut far, 64).is_err(), "an end before there was a message");
    }

    #[test]
    fn messages_are_received_whole() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let sent = message(10, 0, &[5; 40]);
        sent.forward(&mut near).unwrap();
        let received = Message::receive(&mut far).unwrap().unwrap();
        assert_eq!(received.bytes, sent.bytes);
        received.refuse(&mut far, libc::EBUSY).unwrap();
        let mut reply = [0; 16];
        near.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [7, 0, 10, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, libc::EBUSY as u8, 0, 0, 0]);
        near.write_all(&[0xff; 16]).unwrap();
        assert!(Message::receive(&mut far).is_err());
        drop(near);
        assert!(Message::receive(&mut far).unwrap().is_none());
    }
}
