//! vfio-user messages as bytes, with a deadline (libvfio-user, "vfio-user Protocol Specification").

use crate::rig::Rig;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// Time limit for a reply.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection that can send arbitrary bytes.
pub struct Raw {
    stream: UnixStream,
    next: u16,
}

/// The reason why there is no successful reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An error reply with this number.
    Error(u32),
    /// The connection ended.
    Closed,
}

impl Raw {
    /// Connects without sending anything.
    pub fn silent(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { stream, next: 0 }
    }

    /// Connects and negotiates the version.
    pub fn new(path: &Path) -> Self {
        let mut raw = Self::silent(path);
        let json = b"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}\0";
        let mut version = vec![0, 0, 1, 0];
        version.extend(json);
        raw.call(1, &version).expect("VERSION");
        raw
    }

    /// Replaces the rig's client.
    pub fn instead_of(rig: &mut Rig) -> Self {
        let _ = rig.client.shutdown();
        Self::new(rig.card.socket())
    }

    fn header(&mut self, command: u16, size: usize) -> Vec<u8> {
        self.next += 1;
        let mut header = self.next.to_le_bytes().to_vec();
        header.extend(command.to_le_bytes());
        header.extend((size as u32).to_le_bytes());
        header.extend([0; 8]);
        header
    }

    /// Sends bytes, which need not be a valid message.
    pub fn send(&mut self, bytes: &[u8]) {
        // The card may have closed the connection, as intended by some tests.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a command and returns the payload of its reply.
    pub fn call(&mut self, command: u16, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut message = self.header(command, 16 + payload.len());
        message.extend(payload);
        self.send(&message);
        self.reply()
    }

    /// Like [`Raw::call`], with a file descriptor.
    pub fn call_with(&mut self, command: u16, payload: &[u8], fd: RawFd) -> Result<Vec<u8>, Refusal> {
        let mut message = self.header(command, 16 + payload.len());
        message.extend(payload);
        self.stream.send_with_fd(&message[..], fd).expect("send with a descriptor");
        self.reply()
    }

    pub fn reply(&mut self) -> Result<Vec<u8>, Refusal> {
        let header = self.exactly(16)?;
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let payload = self.exactly(number(4) as usize - 16)?;
        assert_eq!(u16::from_le_bytes([header[0], header[1]]), self.next, "the reply is to another message");
        assert_eq!(number(8) & 0xf, 1, "a reply");
        if number(8) & 0x20 == 0 { Ok(payload) } else { Err(Refusal::Error(number(12))) }
    }

    fn exactly(&mut self, len: usize) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![0; len];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no answer in {DEADLINE:?}"),
            Err(_) => Err(Refusal::Closed),
        }
    }

    /// Returns whether the card refuses the message in time, by an error reply or by ending the connection.
    pub fn is_refused(&mut self) -> bool {
        let mut header = [0; 16];
        match self.stream.read_exact(&mut header) {
            Ok(()) => header[8] & 0x21 == 0x21,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    pub fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends DMA_MAP. Bit 0 of `flags` permits reads by the card, bit 1 writes.
    pub fn map(&mut self, flags: u32, address: u64, size: u64, fd: RawFd) -> Result<Vec<u8>, Refusal> {
        let payload = [
            32u32.to_le_bytes().to_vec(),
            flags.to_le_bytes().to_vec(),
            0u64.to_le_bytes().to_vec(),
            address.to_le_bytes().to_vec(),
            size.to_le_bytes().to_vec(),
        ];
        self.call_with(2, &payload.concat(), fd)
    }

    /// Sends REGION_READ.
    pub fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, Refusal> {
        let reply = self.call(9, &access(region, offset, count))?;
        Ok(reply[16..].to_vec())
    }

    /// Sends REGION_WRITE.
    pub fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Refusal> {
        let mut payload = access(region, offset, data.len() as u32);
        payload.extend(data);
        self.call(10, &payload).map(|_| ())
    }
}

fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    [offset.to_le_bytes().to_vec(), region.to_le_bytes().to_vec(), count.to_le_bytes().to_vec()].concat()
}
