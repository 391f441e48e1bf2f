//! A client of the broker as a caller whose memory belongs to another process.

use crate::caller::{Caller, CardMemory, InPlace};
use crate::errno;
use crate::slot::Slot;
use crate::wire::{Reply, Request, WINDOW};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use std::cell::{Cell, OnceCell};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use xdma::card::Card;
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma::unstable::memory::SharedMemory;

/// Page size for probing memory.
const PAGE: u64 = 4096;
/// Maximum number of pages that one system call probes (`IOV_MAX`).
const PROBES: usize = 1024;

/// Interval at which a thread that waits for a request checks whether to stop.
const CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A client's connection and process.
#[derive(Debug)]
pub(crate) struct Client {
    pub connection: Arc<OwnedFd>,
    pub process: rustix::process::Pid,
    cancelled: Cell<bool>,
    shared: OnceCell<Shared>,
    /// Whether the client permits the use of the window for the current call, and whether the window was used.
    permits_window: Cell<bool>,
    used_window: Cell<bool>,
}

/// Memory that the broker shares with a client.
#[derive(Debug)]
pub(crate) struct Shared {
    pub slot: Arc<Slot>,
    /// For data to the card and from it.
    pub windows: [SharedMemory; 2],
}

impl Client {
    pub fn new(connection: OwnedFd, process: rustix::process::Pid) -> Self {
        Self {
            connection: Arc::new(connection),
            process,
            cancelled: Cell::new(false),
            shared: OnceCell::new(),
            permits_window: Cell::new(false),
            used_window: Cell::new(false),
        }
    }

    fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.process.as_raw_nonzero().get())
    }

    /// Switches to shared memory: all later requests and replies pass through the slot.
    pub fn share(&self, shared: Shared) -> &Shared {
        self.shared.get_or_init(|| shared)
    }

    /// Waits for the next request over the socket. Returns `None` if there is none yet, or an error if the client violates the
    /// protocol or has disconnected.
    pub fn next(&self) -> Result<Option<Request>, Errno> {
        match poll(&mut [PollFd::new(&self.connection, PollFlags::IN)], Some(&CHECK)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            ready => ready?,
        };
        let mut bytes = [0; Request::BYTES + 1];
        match recv(&self.connection, &mut bytes, RecvFlags::empty())? {
            (0, _) => Err(Errno::CONNRESET),
            (length, _) => Request::from_bytes(&bytes[..length]).map(Some).ok_or(Errno::PROTO),
        }
    }

    /// Prepares the execution of a request.
    #[inline]
    pub fn begin(&self, request: &Request) {
        self.cancelled.set(false);
        self.used_window.set(false);
        self.permits_window.set(request.uses_window());
    }

    /// Sends the reply to the current request.
    #[inline]
    pub fn reply(&self, result: i64) -> Result<(), Errno> {
        let reply = Reply { result, in_window: self.used_window.get() };
        match self.shared.get() {
            Some(shared) => {
                shared.slot.reply(reply);
                Ok(())
            }
            None => self.send(reply, &[]),
        }
    }

    /// Sends the reply to the current request, with file descriptors.
    pub fn reply_with(&self, result: i64, descriptors: &[BorrowedFd]) -> Result<(), Errno> {
        self.send(Reply { result, in_window: false }, descriptors)?;
        if self.shared.get().is_some() { self.reply(result) } else { Ok(()) }
    }

    #[inline(never)]
    fn send(&self, reply: Reply, descriptors: &[BorrowedFd]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            rights.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        // A client that does not receive its replies is disconnected.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.connection, &[IoSlice::new(&reply.to_bytes())], &mut rights, flags)?;
        Ok(())
    }
}

impl Caller for Client {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        let len = to.len();
        let remote = RemoteIoVec { base: pointer(address)?, len };
        let copied = process_vm_readv(self.pid(), &mut [IoSliceMut::new(to)], &[remote]);
        if copied.map_err(of_access)? == len { Ok(()) } else { Err(Errno::FAULT) }
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        let remote = RemoteIoVec { base: pointer(address)?, len: from.len() };
        let copied = process_vm_writev(self.pid(), &[IoSlice::new(from)], &[remote]);
        if copied.map_err(of_access)? == from.len() { Ok(()) } else { Err(Errno::FAULT) }
    }

    /// The data passes through a bounce buffer, because no slice may refer to memory to which the card can write.
    fn copy_out(&self, address: u64, from: &Buffer, length: u64) -> Result<(), Errno> {
        let mut bounce = vec![0u8; length as usize];
        from.read(0, &mut bounce).map_err(|error| errno::of_memory(&error))?;
        // If the client no longer waits, it may have reused the memory for other data.
        if self.is_cancelled() {
            return Err(Errno::INTR);
        }
        self.write(address, &bounce)
    }

    fn probe(&self, address: u64, length: u64) -> Result<(), Errno> {
        let end = address.checked_add(length).ok_or(Errno::FAULT)?;
        let pages: Vec<u64> = std::iter::once(address)
            .chain((address / PAGE * PAGE + PAGE..end).step_by(PAGE as usize))
            .collect();
        for pages in pages.chunks(PROBES) {
            let remote: Result<Vec<_>, _> =
                pages.iter().map(|page| Ok(RemoteIoVec { base: pointer(*page)?, len: 1 })).collect();
            let mut bytes = [0; PROBES];
            let local = &mut bytes[..pages.len()];
            let read = process_vm_readv(self.pid(), &mut [IoSliceMut::new(local)], &remote?);
            if read.map_err(of_access)? != pages.len() {
                return Err(Errno::FAULT);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn in_place(
        &self,
        _card: &Card,
        _address: u64,
        length: u64,
        direction: Direction,
    ) -> Option<InPlace<'_>> {
        let shared = self.shared.get().filter(|_| self.permits_window.get() && length <= WINDOW)?;
        self.used_window.set(direction == Direction::C2H);
        Some(InPlace { memory: CardMemory::Window(&shared.windows[direction as usize]), offset: 0 })
    }

    fn is_cancelled(&self) -> bool {
        if self.cancelled.get() || self.shared.get().is_some_and(|shared| shared.slot.is_cancelled()) {
            return true;
        }
        let mut bytes = [0; Request::BYTES];
        let cancelled = match recv(&self.connection, &mut bytes, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => false,
            // While a client waits for a reply, it may send only a cancellation. Any other message also cancels the request.
            Ok(_) => true,
            Err(_) => true,
        };
        self.cancelled.set(cancelled);
        cancelled
    }
}

fn pointer(address: u64) -> Result<usize, Errno> {
    usize::try_from(address).map_err(|_| Errno::FAULT)
}

/// Returns the errno that a client receives for a failed access to its memory. If the client has exited, the errno is not
/// delivered.
fn of_access(errno: nix::errno::Errno) -> Errno {
    match errno {
        nix::errno::Errno::EPERM => {
            tracing::error!(
                "access to a client's process memory is not permitted; see `ptrace_scope` in ptrace(2)"
            );
            Errno::FAULT
        }
        _ => Errno::FAULT,
    }
}
