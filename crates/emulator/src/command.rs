//! Parsing of vfio-user commands (QEMU's `docs/interop/vfio-user.rst`). A command must have exactly the size that the protocol
//! specifies. Any other size ends the connection, because the rest of the stream cannot be trusted.

use super::wire::{MAX_DATA, Message, malformed};
use std::fs::File;
use std::io;
use vfio_bindings::bindings::vfio::VFIO_IRQ_SET_DATA_BOOL;

/// The major version of the protocol.
const MAJOR: u16 = 0;

const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const DEVICE_GET_INFO: u16 = 4;
const DEVICE_GET_REGION_INFO: u16 = 5;
const DEVICE_GET_IRQ_INFO: u16 = 7;
const DEVICE_SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DEVICE_RESET: u16 = 13;

/// Flags of [`Command::DmaMap`]: the accesses that the card may make.
pub(super) const MAP_READ: u32 = 1 << 0;
pub(super) const MAP_WRITE: u32 = 1 << 1;
/// Flag of [`Command::DmaUnmap`]: removes all maps.
pub(super) const UNMAP_ALL: u32 = 1 << 2;

/// A command and its arguments.
#[derive(Debug)]
pub(super) enum Command<'a> {
    Version,
    DmaMap {
        flags: u32,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    },
    DmaUnmap {
        flags: u32,
        address: u64,
        size: u64,
    },
    DeviceInfo,
    RegionInfo {
        index: u32,
    },
    IrqInfo {
        index: u32,
    },
    SetIrqs {
        flags: u32,
        index: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
    },
    RegionRead(RegionAccess),
    RegionWrite(RegionAccess, &'a [u8]),
    Reset,
    /// A command that does not exist or that the card does not support.
    Unsupported,
}

/// An access to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RegionAccess {
    pub offset: u64,
    pub region: u32,
    pub count: u32,
}

impl Message {
    /// Returns whether this is VERSION, which only the first message of a connection may be.
    pub fn is_version(&self) -> bool {
        self.command() == VERSION
    }
}

impl<'a> Command<'a> {
    /// Parses a message. Files that the command does not use stay in the message.
    pub fn parse(message: &'a mut Message) -> io::Result<Self> {
        if !message.is_command() {
            return Err(malformed("unexpected reply"));
        }
        let (command, posted) = (message.command(), message.is_posted());
        if posted && requires_reply(command) {
            return Err(malformed("NO_REPLY on a command that returns data"));
        }
        let (body, files) = message.body_and_files();
        match command {
            VERSION => version(body),
            DMA_MAP => dma_map(body, files),
            DMA_UNMAP => {
                let [_, flags, rest @ ..] = words::<6>(body)?;
                Ok(Self::DmaUnmap {
                    flags,
                    address: join_u64(rest[0], rest[1]),
                    size: join_u64(rest[2], rest[3]),
                })
            }
            DEVICE_GET_INFO => words::<4>(body).map(|_| Self::DeviceInfo),
            DEVICE_GET_REGION_INFO => words::<8>(body).map(|[_, _, index, ..]| Self::RegionInfo { index }),
            DEVICE_GET_IRQ_INFO => words::<4>(body).map(|[_, _, index, _]| Self::IrqInfo { index }),
            DEVICE_SET_IRQS => set_irqs(body, files),
            REGION_READ => region_read(body),
            REGION_WRITE => region_write(body),
            DEVICE_RESET => words::<0>(body).map(|[]| Self::Reset),
            _ => Ok(Self::Unsupported),
        }
    }

    /// Checks that the first message of a client is a valid VERSION.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if the major version differs, so that the caller can refuse it; another error if the message is
    /// malformed.
    pub fn check_version(message: &'a mut Message) -> io::Result<()> {
        match Self::parse(message)? {
            Self::Version => Ok(()),
            _ => Err(malformed("the first message is not VERSION")),
        }
    }
}

/// Returns whether a command has no effect other than its reply.
fn requires_reply(command: u16) -> bool {
    matches!(command, VERSION | DEVICE_GET_INFO | DEVICE_GET_REGION_INFO | DEVICE_GET_IRQ_INFO | REGION_READ)
}

/// Checks VERSION. The card makes no use of the client's capabilities, but they must be well-formed.
fn version<'a>(body: &[u8]) -> io::Result<Command<'a>> {
    let (numbers, data) = body.split_at_checked(4).ok_or_else(|| malformed("invalid command size"))?;
    if u16::from_le_bytes([numbers[0], numbers[1]]) != MAJOR {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "another major version of the protocol"));
    }
    // The data is optional (vfio-user.rst, "VFIO_USER_VERSION").
    if data.is_empty() {
        return Ok(Command::Version);
    }
    let json = data.strip_suffix(&[0]);
    let capabilities = json.and_then(|json| serde_json::from_slice::<serde_json::Value>(json).ok());
    match capabilities {
        Some(serde_json::Value::Object(_)) => Ok(Command::Version),
        _ => Err(malformed("invalid version capabilities")),
    }
}

fn dma_map<'a>(body: &[u8], files: &mut Vec<File>) -> io::Result<Command<'a>> {
    let [_, flags, rest @ ..] = words::<8>(body)?;
    if files.len() > 1 {
        return Err(malformed("DMA_MAP with more than one file descriptor"));
    }
    Ok(Command::DmaMap {
        flags,
        offset: join_u64(rest[0], rest[1]),
        address: join_u64(rest[2], rest[3]),
        size: join_u64(rest[4], rest[5]),
        file: files.pop(),
    })
}

fn set_irqs<'a>(body: &[u8], files: &mut Vec<File>) -> io::Result<Command<'a>> {
    let (fixed, data) = body.split_at_checked(20).ok_or_else(|| malformed("invalid command size"))?;
    let [_, flags, index, start, count] = words(fixed)?;
    match (flags & VFIO_IRQ_SET_DATA_BOOL != 0, data.is_empty()) {
        (true, _) => Ok(Command::Unsupported),
        (false, true) => Ok(Command::SetIrqs { flags, index, start, count, files: std::mem::take(files) }),
        (false, false) => Err(malformed("invalid command size")),
    }
}

fn region_read<'a>(body: &[u8]) -> io::Result<Command<'a>> {
    match access(body)? {
        (access, []) if access.count as usize <= MAX_DATA => Ok(Command::RegionRead(access)),
        _ => Err(malformed("invalid command size")),
    }
}

fn region_write(body: &[u8]) -> io::Result<Command<'_>> {
    match access(body)? {
        (access, data) if access.count as usize == data.len() => Ok(Command::RegionWrite(access, data)),
        _ => Err(malformed("invalid command size")),
    }
}

/// Parses the fixed part of a region access, and returns it with the remaining bytes.
fn access(body: &[u8]) -> io::Result<(RegionAccess, &[u8])> {
    let (fixed, data) = body.split_at_checked(16).ok_or_else(|| malformed("invalid command size"))?;
    let [low, high, region, count] = words(fixed)?;
    Ok((RegionAccess { offset: join_u64(low, high), region, count }, data))
}

/// Splits a body into exactly `N` words.
fn words<const N: usize>(body: &[u8]) -> io::Result<[u32; N]> {
    let (words, rest) = body.as_chunks::<4>();
    match <[[u8; 4]; N]>::try_from(words) {
        Ok(words) if rest.is_empty() => Ok(words.map(u32::from_le_bytes)),
        _ => Err(malformed("invalid command size")),
    }
}

fn join_u64(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_REPLY: u32 = 1 << 4;

    fn parse<T>(command: u16, flags: u32, body: &[u8], f: impl FnOnce(Command<'_>) -> T) -> io::Result<T> {
        Command::parse(&mut Message::new(command, flags, body)).map(f)
    }

    fn passes(command: u16, flags: u32, body: &[u8]) -> bool {
        parse(command, flags, body, |command| !matches!(command, Command::Unsupported)).unwrap_or(false)
    }

    #[test]
    fn sizes_are_checked() {
        assert!(passes(13, 0, &[]));
        assert!(!passes(13, 0, &[0]));
        assert!(passes(9, 0, &[0; 16]));
        assert!(!passes(9, 0, &[0; 20]));
        assert!(!passes(9, 0, &[0xff; 16]), "a read of 4 GiB");
        assert!(!passes(9, NO_REPLY, &[0; 16]));
        let mut write = [0; 20];
        write[12] = 4;
        assert!(passes(10, NO_REPLY, &write));
        assert!(!passes(10, 0, &write[..19]));
        for (command, size) in [(2, 32), (3, 24), (4, 16), (5, 32), (7, 16), (8, 20)] {
            assert!(passes(command, 0, &vec![0; size]));
            for other in [0, size - 4, size - 1, size + 1, size + 4] {
                assert!(!passes(command, 0, &vec![0; other]), "{command} with {other} bytes");
            }
        }
        assert!(!passes(13, 1, &[]), "a reply");
    }

    #[test]
    fn versions_are_checked() {
        assert!(passes(1, 0, b"\0\0\x01\0{}\0") && passes(1, 0, b"\0\0\x01\0"));
        for bad in [
            &b""[..],
            b"\0\0\x01",
            b"\x01\0\x01\0{}\0",
            b"\0\0\x01\0{}",
            b"\0\0\x01\0{\0}\0",
            b"\0\0\x01\0{\0",
            b"\0\0\x01\0[]\0",
        ] {
            assert!(!passes(1, 0, bad), "{bad:?}");
        }
        assert!(Command::check_version(&mut Message::new(1, 0, b"\0\0\x01\0{}\0")).is_ok());
        assert!(Command::check_version(&mut Message::new(13, 0, &[])).is_err());
    }

    #[test]
    fn unsupported_commands_are_recognised() {
        let mut irqs = [0; 21];
        irqs[4] = VFIO_IRQ_SET_DATA_BOOL as u8;
        for (command, body) in
            [0, 6, 11, 12, 14, 99].map(|n| (n, &[1, 2, 3][..])).into_iter().chain([(8, &irqs[..])])
        {
            assert!(parse(command, 0, body, |command| matches!(command, Command::Unsupported)).unwrap());
        }
    }

    #[test]
    fn arguments_are_parsed_at_their_offsets() {
        let words = |range: std::ops::Range<u32>| range.flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
        let text = |command, body: &[u8]| parse(command, 0, body, |command| format!("{command:x?}")).unwrap();
        let expected =
            "DmaMap { flags: 2, offset: 400000003, address: 600000005, size: 800000007, file: None }";
        assert_eq!(text(2, &words(1..9)), expected);
        assert_eq!(text(3, &words(1..7)), "DmaUnmap { flags: 2, address: 400000003, size: 600000005 }");
        assert_eq!(text(5, &words(1..9)), "RegionInfo { index: 3 }");
        assert_eq!(text(7, &words(1..5)), "IrqInfo { index: 3 }");
        let expected = "SetIrqs { flags: 0, index: 1, start: 2, count: 3, files: [] }";
        assert_eq!(text(8, &[[9; 4].to_vec(), words(0..4)].concat()), expected);
        let access = "RegionAccess { offset: 200000001, region: 3, count: 4 }";
        assert_eq!(text(9, &words(1..5)), format!("RegionRead({access})"));
        assert_eq!(text(10, &words(1..6)), format!("RegionWrite({access}, [5, 0, 0, 0])"));
    }
}
