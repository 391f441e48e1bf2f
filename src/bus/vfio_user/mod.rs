//! Cards that another process, or a thread of this one, serves over the vfio-user protocol.
//!
//! Each register access is a message on a socket, behind a lock. Memory is shared by passing its file descriptor, so transfers
//! copy nothing. Memory without a file descriptor cannot be shared and is staged.

mod connect;
mod connection;
#[cfg(test)]
mod tests;
mod wire;

use super::{
    BARS, Bar, Bus, BusError, Description, InterruptKind, check_access, check_config, check_register, counts,
};
use crate::memory::{Access, Addressing, CallerMemory, Extent, Isolation, MapError, Mapper, MemoryRef};
use connect::connect_timeout;
use connection::Connection;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;
use wire::{Body, Command, field32, field64};

/// Time limit for a reply from the card's process, except to a reset.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Time limit for a reset: the time for which the kernel waits for a function to become ready. A simulated engine may need seconds where a
/// real card needs milliseconds, since it waits until the end of the reset for a host that does not answer. Other threads that use the
/// card wait as long.
pub const RESET_DEADLINE: Duration = Duration::from_secs(60);
/// Time limit for the server to accept a connection, and again for the version exchange. A server that is serving another client
/// does neither.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of file descriptors in a message. The protocol allows 16; a server may allow fewer.
const MAX_FDS: usize = 16;

/// Why memory that such a card writes is in small pages.
const SMALL_PAGES: &str = "memory that the card writes is in 4 KiB pages unless hugepages are required: the card's process has the \
                           memory files and could punch holes into hugepages";

/// Granularity of mappings in bytes.
const PAGE_BYTES: u64 = 4096;

/// The client of a vfio-user card.
pub struct VfioUser {
    shared: Arc<Shared>,
    description: Description,
    max_fds: usize,
    /// Whether the server is another process.
    is_other_process: bool,
}

struct Shared {
    /// Threads wait for each other's requests. Each request has a deadline, and after a failed one all others fail immediately.
    connection: Mutex<Connection>,
}

impl Shared {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        // The connection marks itself as unusable before it returns an error, so its state is valid even if the lock is poisoned.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, region: u32, offset: u64, width: u8) -> Result<u64, BusError> {
        let body = Body::new().u64(offset).u32(region).u32(width.into());
        self.connection().request(Command::RegionRead, body.as_slice(), &[], |reply| {
            let mut value = [0; 8];
            value[..width.into()].copy_from_slice(reply.get(16..16 + usize::from(width))?);
            Some(u64::from_le_bytes(value))
        })
    }

    fn write(&self, region: u32, offset: u64, width: u8, value: u64, posted: bool) -> Result<(), BusError> {
        let bytes = value.to_le_bytes();
        let body = Body::new().u64(offset).u32(region).u32(width.into()).bytes(&bytes[..width.into()]);
        match posted {
            true => self.connection().post(Command::RegionWrite, body.as_slice()),
            false => self.connection().request(Command::RegionWrite, body.as_slice(), &[], |_| Some(())),
        }
    }
}

impl fmt::Debug for VfioUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

impl VfioUser {
    /// Connects to the card whose server listens at `path`. The time limits are 2 s for the connection, 2 s for the version
    /// exchange, and [`DEADLINE`] for each of the eleven queries about the card.
    ///
    /// # Errors
    ///
    /// [`BusError::NotFound`], [`BusError::Permission`], [`BusError::NotACard`], [`BusError::NotAccepting`], and
    /// [`BusError::Taken`] if another client is using the card.
    pub fn connect(path: &Path) -> Result<Self, BusError> {
        let stream = connect_timeout(path, CONNECT_TIMEOUT).map_err(|source| connect_error(path, source))?;
        Self::over(stream, path)
    }

    /// Opens the card at the other end of `stream`. `path` is used in the description and in errors.
    pub(crate) fn over(stream: UnixStream, path: &Path) -> Result<Self, BusError> {
        let socket_error = |source| not_found(path, source);
        let is_other_process = peer_process(&stream) != Some(std::process::id());
        let mut connection = Connection::new(stream, CONNECT_TIMEOUT).map_err(socket_error)?;
        let max_fds = negotiate(&mut connection).map_err(|error| negotiation_error(path, error))?;
        connection.set_timeout(DEADLINE).map_err(socket_error)?;
        let mut description = describe(&mut connection, path)?;
        if is_other_process {
            description.notes.push(SMALL_PAGES.into());
        }
        let shared = Arc::new(Shared { connection: Mutex::new(connection) });
        Ok(Self { shared, description, max_fds, is_other_process })
    }
}

/// Returns the ID of the process at the other end, if the kernel reports it.
fn peer_process(stream: &UnixStream) -> Option<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of_val(&peer) as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: the kernel writes at most `len` bytes to the structure.
    let rc =
        unsafe { libc::getsockopt(stream.as_raw_fd(), level, name, (&raw mut peer).cast(), &raw mut len) };
    if rc == 0 { u32::try_from(peer.pid).ok() } else { None }
}

/// Returns the type of the file at `path`, if it is not a socket.
fn non_socket_type(path: &Path) -> Option<&'static str> {
    let kind = fs::metadata(path).ok()?.file_type();
    Some(match kind {
        _ if kind.is_socket() => return None,
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a FIFO",
        _ if kind.is_file() => "a regular file",
        _ => "a device",
    })
}

fn connect_error(path: &Path, source: io::Error) -> BusError {
    if let Some(what) = non_socket_type(path) {
        return BusError::NotACard { path: path.into(), reason: format!("it is {what}, not a socket") };
    }
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            let remedy = "run as the user that started the card, or change the socket's owner".into();
            BusError::Permission { path: path.into(), cause: source, remedy }
        }
        io::ErrorKind::ConnectionRefused => {
            let reason = "nothing is listening there; its process has ended".into();
            BusError::NotACard { path: path.into(), reason }
        }
        io::ErrorKind::TimedOut => BusError::NotAccepting { path: path.into(), after: CONNECT_TIMEOUT },
        _ if source.raw_os_error() == Some(libc::EPROTOTYPE) => {
            BusError::NotACard { path: path.into(), reason: "the socket is of another type".into() }
        }
        _ => not_found(path, source),
    }
}

fn not_found(path: &Path, source: io::Error) -> BusError {
    let remedy = "check the path, and that a server is listening on it".into();
    BusError::NotFound { path: path.into(), cause: source, remedy }
}

fn negotiation_error(path: &Path, error: BusError) -> BusError {
    let path = path.to_path_buf();
    match error {
        BusError::Timeout { after, .. } => {
            let reason = format!(
                "its process accepted the connection but did not reply within {after:?}, if it is a card at all"
            );
            BusError::Taken { path, reason }
        }
        BusError::Refused { cause, .. } if cause.raw_os_error() == Some(libc::EBUSY) => {
            BusError::Taken { path, reason: cause.to_string() }
        }
        error => BusError::NotACard { path, reason: error.to_string() },
    }
}

/// Exchanges versions and capabilities. Returns how many file descriptors a message may carry.
fn negotiate(connection: &mut Connection) -> Result<usize, BusError> {
    let capabilities = serde_json::json!({
        "capabilities": { "max_msg_fds": MAX_FDS, "max_data_xfer_size": wire::MAX_MESSAGE / 2 }
    });
    let mut body = vec![0, 0, 1, 0]; // version 0.1
    body.extend_from_slice(capabilities.to_string().as_bytes());
    body.push(0);
    let reply = connection.request(Command::Version, &body, &[], |reply| Some(reply.to_vec()))?;
    let bad = |reason: &str| BusError::Protocol { what: "VERSION", reason: reason.into() };
    if reply.get(..2) != Some(&[0, 0]) {
        return Err(bad("its major version is not 0"));
    }
    let text = reply.get(4..).unwrap_or_default();
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    if text.is_empty() {
        return Ok(1);
    }
    let capabilities: serde_json::Value = serde_json::from_slice(text).map_err(|e| bad(&e.to_string()))?;
    let fds = capabilities["capabilities"]["max_msg_fds"].as_u64().unwrap_or(1);
    Ok((fds as usize).clamp(1, MAX_FDS))
}

fn describe(connection: &mut Connection, path: &Path) -> Result<Description, BusError> {
    let body = Body::new().u32(16).u32(0).u32(0).u32(0);
    let flags = connection.request(Command::DeviceInfo, body.as_slice(), &[], |reply| field32(reply, 4))?;
    if flags & wire::DEVICE_PCI == 0 {
        let reason = "its device is not a PCI function".into();
        return Err(BusError::NotACard { path: path.into(), reason });
    }
    let mut bars = [0; BARS];
    for (index, size) in bars.iter_mut().enumerate() {
        let body = Body::new().u32(32).u32(0).u32(index as u32).u32(0).u64(0).u64(0);
        *size = connection.request(Command::RegionInfo, body.as_slice(), &[], |reply| field64(reply, 16))?;
    }
    let mut vectors = |kind| {
        let body = Body::new().u32(16).u32(0).u32(wire::interrupt_index(kind)).u32(0);
        connection.request(Command::IrqInfo, body.as_slice(), &[], |reply| field32(reply, 12))
    };
    Ok(Description {
        kind: "vfio-user",
        location: path.display().to_string(),
        bars,
        vectors: vectors(InterruptKind::Msix)?,
        msi_vectors: vectors(InterruptKind::Msi)?,
        intx: vectors(InterruptKind::Intx)? > 0,
        resettable: flags & wire::DEVICE_RESET != 0,
        registers_by_system_call: true,
        page_sizes: PAGE_BYTES,
        iova_bits: 47,
        node: None,
        notes: vec![],
    })
}

fn map_error(iova: u64, len: u64, error: BusError) -> MapError {
    match error {
        BusError::Refused { cause, .. } => MapError::Refused { iova, len, cause },
        error => MapError::Gone(error.to_string()),
    }
}

// SAFETY: only memory with a file is mapped, so the caller's memory is always staged.
unsafe impl Mapper for VfioUser {
    fn addressing(&self) -> Addressing {
        // The address width that every IOMMU supports, without the window of message-signalled interrupts.
        Addressing::Chosen {
            ranges: vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7fff_ffff_ffff],
            page_bytes: PAGE_BYTES,
        }
    }

    fn caller_memory(&self) -> CallerMemory {
        CallerMemory::Staged("memory without a file descriptor cannot be shared with the card's process")
    }

    fn shares_files(&self) -> bool {
        self.is_other_process
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError> {
        let Some((file, offset)) = memory.file else { return Err(MapError::NotShareable) };
        let flags = match access {
            Access::CardReads => wire::MAP_READ,
            Access::CardWrites => wire::MAP_WRITE,
        };
        let body = Body::new().u32(32).u32(flags).u64(offset).u64(iova).u64(memory.len);
        let mapped =
            self.shared
                .connection()
                .request(Command::DmaMap, body.as_slice(), &[file.as_raw_fd()], |_| Some(()));
        mapped.map_err(|error| map_error(iova, memory.len, error))?;
        Ok(vec![Extent { offset: 0, address: iova, len: memory.len }])
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError> {
        let body = Body::new().u32(24).u32(0).u64(iova).u64(len);
        let unmapped =
            self.shared.connection().request(Command::DmaUnmap, body.as_slice(), &[], |_| Some(()));
        unmapped.map_err(|error| map_error(iova, len, error))
    }

    fn isolation(&self) -> Isolation {
        Isolation::SharedFile
    }
}

impl Bus for VfioUser {
    fn description(&self) -> &Description {
        &self.description
    }

    fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError> {
        match self.description.bars.get(index) {
            Some(&size) if size > 0 => {
                Ok(Arc::new(RemoteBar { shared: self.shared.clone(), region: index as u32, size }))
            }
            _ => Err(BusError::NoBar(index)),
        }
    }

    fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError> {
        check_config(offset, width)?;
        Ok(self.shared.read(wire::CONFIG_REGION, offset.into(), width)? as u32)
    }

    fn config_write(&self, offset: u16, width: u8, value: u32) -> Result<(), BusError> {
        check_config(offset, width)?;
        self.shared.write(wire::CONFIG_REGION, offset.into(), width, value.into(), false)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.shared.connection().request_within(RESET_DEADLINE, Command::DeviceReset)
    }

    fn set_interrupts(&self, kind: InterruptKind, events: &[&EventFd]) -> Result<(), BusError> {
        let set = |flags: u32, start: usize, fds: &[i32]| {
            let fixed = Body::new().u32(20).u32(flags).u32(wire::interrupt_index(kind));
            let body = fixed.u32(start as u32).u32(fds.len() as u32);
            self.shared.connection().request(Command::SetIrqs, body.as_slice(), fds, |_| Some(()))
        };
        if events.is_empty() {
            return set(wire::IRQ_NONE_TRIGGER, 0, &[]);
        }
        let starts = (0..events.len()).step_by(self.max_fds);
        starts.zip(events.chunks(self.max_fds)).try_for_each(|(start, chunk)| {
            let fds: Vec<i32> = chunk.iter().map(|event| event.as_raw_fd()).collect();
            set(wire::IRQ_EVENTFD_TRIGGER, start, &fds)
        })
    }

    fn unmask_intx(&self) -> Result<(), BusError> {
        let index = wire::interrupt_index(InterruptKind::Intx);
        let body = Body::new().u32(20).u32(wire::IRQ_NONE_UNMASK).u32(index).u32(0).u32(1);
        self.shared.connection().request(Command::SetIrqs, body.as_slice(), &[], |_| Some(()))
    }
}

struct RemoteBar {
    shared: Arc<Shared>,
    region: u32,
    size: u64,
}

impl fmt::Debug for RemoteBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteBar({}, {:#x} bytes)", self.region, self.size)
    }
}

// SAFETY: nothing is mapped.
unsafe impl Bar for RemoteBar {
    fn size(&self) -> u64 {
        self.size
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        check_register(self.size, offset)?;
        counts::register_read();
        Ok(self.shared.read(self.region, offset, 4)? as u32)
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        check_register(self.size, offset)?;
        counts::register_write();
        self.shared.write(self.region, offset, 4, value.into(), true)
    }

    fn read(&self, offset: u64, width: u8) -> Result<u64, BusError> {
        check_access(self.size, offset, width)?;
        counts::register_read();
        self.shared.read(self.region, offset, width)
    }

    fn write(&self, offset: u64, width: u8, value: u64) -> Result<(), BusError> {
        check_access(self.size, offset, width)?;
        counts::register_write();
        self.shared.write(self.region, offset, width, value, true)
    }
}
