//! The messages between a client and the broker. Each is one packet of a `SOCK_SEQPACKET` socket; all numbers are little-endian.

/// The operation that a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Operation {
    /// Opens the file with the minor number in `value` and the `flags` of `open`. The reply carries a file descriptor. Unless
    /// `position` is 0, it must be the card's [`pci_number`](crate::pci_number).
    Open = 1,
    /// Checks that the file with the minor number in `value` exists, with `position` as above. The result is its size in bytes.
    Check = 2,
    /// Reads up to `length` bytes at the file's position into the client's memory at `address`.
    Read = 3,
    /// Like [`Read`](Operation::Read), but reads at `position`.
    ReadAt = 4,
    /// Writes up to `length` bytes from the client's memory at `address` to the file's position.
    Write = 5,
    /// Like [`Write`](Operation::Write), but writes at `position`.
    WriteAt = 6,
    /// Moves the file's position to the signed offset `position`, relative to the origin in `value` (`SEEK_SET`, ...).
    Seek = 7,
    /// Executes the ioctl with the number in `value` and the argument in `address`.
    Ioctl = 8,
    /// Cancels the request in progress, which then returns the number of bytes transferred so far, or `EINTR` if there are
    /// none. Has no reply of its own.
    Cancel = 9,
    /// Maps `length` bytes at `position` with the protection in `value` and the `flags` of `mmap`. The reply carries a file
    /// descriptor to map, and its result is the offset in that file.
    Map = 10,
    /// Requests shared memory for this connection. The reply carries file descriptors of a [`Slot`](crate::Slot), through which
    /// all later requests pass, and of two windows of [`WINDOW`] bytes for data to the card and from it.
    Share = 11,
}

/// Size in bytes of a window for data.
pub const WINDOW: u64 = 1 << 20;
/// A flag of [`Operation::Write`] and [`Operation::WriteAt`]: the data is also in the window. A flag of [`Operation::Read`] and
/// [`Operation::ReadAt`]: the reply may leave the data in the window ([`Reply::in_window`]).
pub const USES_WINDOW: u32 = 1;

impl Operation {
    /// All operations, in the order of their numbers, which start at 1.
    const ALL: [Self; 11] = [
        Self::Open,
        Self::Check,
        Self::Read,
        Self::ReadAt,
        Self::Write,
        Self::WriteAt,
        Self::Seek,
        Self::Ioctl,
        Self::Cancel,
        Self::Map,
        Self::Share,
    ];

    /// Returns whether this is a read or a write.
    #[inline]
    pub fn is_transfer(self) -> bool {
        matches!(self, Self::Read | Self::ReadAt) || self.is_write()
    }

    /// Returns whether this is a write.
    #[inline]
    pub fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::WriteAt)
    }
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The operation.
    pub operation: Operation,
    /// The flags of `open` or `mmap`, or [`USES_WINDOW`].
    pub flags: u32,
    /// The number of the open file, from its [`FileHeader`].
    pub file: u64,
    /// A position in the file.
    pub position: u64,
    /// An address in the memory of the client.
    pub address: u64,
    /// A length in bytes.
    pub length: u64,
    /// A value whose meaning depends on the [`Operation`].
    pub value: u64,
}

impl Request {
    /// Size of the message in bytes.
    pub const BYTES: usize = 48;

    /// Returns a request without arguments.
    pub fn new(operation: Operation, file: u64) -> Self {
        Self { operation, flags: 0, file, position: 0, address: 0, length: 0, value: 0 }
    }

    /// Returns whether the data may pass through a window.
    #[inline]
    pub fn uses_window(&self) -> bool {
        self.operation.is_transfer() && self.flags & USES_WINDOW != 0 && self.length <= WINDOW
    }

    /// Size of the message in words.
    pub(crate) const WORDS: usize = Self::BYTES / 8;

    #[inline]
    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        let head = u64::from(self.operation as u32) | u64::from(self.flags) << 32;
        [head, self.file, self.position, self.address, self.length, self.value]
    }

    #[inline]
    pub(crate) fn from_words(
        [head, file, position, address, length, value]: [u64; Self::WORDS],
    ) -> Option<Self> {
        let operation = *Operation::ALL.get((head as u32).wrapping_sub(1) as usize)?;
        Some(Self { operation, flags: (head >> 32) as u32, file, position, address, length, value })
    }

    /// Encodes the message.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        to_bytes(self.to_words())
    }

    /// Decodes a message. Returns `None` if its length is wrong or its operation is unknown.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_words(to_words(bytes)?)
    }
}

/// The reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The result of the call, or a negative errno.
    pub result: i64,
    /// Whether the data of a read is in the window, not in the client's buffer.
    pub in_window: bool,
}

impl Reply {
    /// Size of the message in bytes.
    pub const BYTES: usize = 16;

    /// Size of the message in words.
    pub(crate) const WORDS: usize = Self::BYTES / 8;

    #[inline]
    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        [self.result as u64, self.in_window.into()]
    }

    #[inline]
    pub(crate) fn from_words([result, in_window]: [u64; Self::WORDS]) -> Self {
        Self { result: result as i64, in_window: in_window != 0 }
    }

    /// Encodes the message.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        to_bytes(self.to_words())
    }

    /// Decodes a message. Returns `None` if its length is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        to_words(bytes).map(Self::from_words)
    }
}

fn to_bytes<const WORDS: usize, const BYTES: usize>(words: [u64; WORDS]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (word, bytes) in words.into_iter().zip(bytes.as_chunks_mut::<8>().0) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

fn to_words<const WORDS: usize>(bytes: &[u8]) -> Option<[u64; WORDS]> {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: &[[u8; 8]; WORDS] = words.try_into().ok().filter(|_| rest.is_empty())?;
    Some(words.map(u64::from_le_bytes))
}

/// The magic number at the start of a [`FileHeader`].
pub const FILE_MAGIC: u64 = u64::from_le_bytes(*b"xdmafile");

/// The unread message in the socket of an open file, which identifies the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The minor number of the device file.
    pub minor: u32,
    /// The access mode and flags of `open`.
    pub flags: u32,
    /// The broker's number for the open file.
    pub file: u64,
}

impl FileHeader {
    /// Size of the message in bytes.
    pub const BYTES: usize = 24;

    /// Encodes the message.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&FILE_MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.minor.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.flags.to_le_bytes());
        bytes[16..].copy_from_slice(&self.file.to_le_bytes());
        bytes
    }

    /// Decodes a message. Returns `None` if it is not a file header.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let [magic, flags, file] = [words[0], words[1], words[2]].map(u64::from_le_bytes);
        (magic == FILE_MAGIC).then_some(Self { minor: flags as u32, flags: (flags >> 32) as u32, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_a_round_trip() {
        for operation in Operation::ALL {
            let request = Request {
                flags: 7,
                position: u64::MAX,
                address: 1,
                length: 2,
                value: 3,
                ..Request::new(operation, 9)
            };
            assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        }
        let header = FileHeader { minor: 37, flags: 0x8002, file: u64::MAX - 1 };
        assert_eq!(FileHeader::from_bytes(&header.to_bytes()), Some(header));
        let reply = Reply { result: -22, in_window: true };
        assert_eq!(Reply::from_bytes(&reply.to_bytes()), Some(reply));
    }

    #[test]
    fn invalid_messages_are_rejected() {
        assert_eq!(Request::from_bytes(&[0; Request::BYTES]), None);
        assert_eq!(Request::from_bytes(&[1; Request::BYTES - 1]), None);
        assert_eq!(FileHeader::from_bytes(&[0; FileHeader::BYTES]), None);
        assert_eq!(Reply::from_bytes(&[0; 7]), None);
    }
}
