//! A client of the broker as a caller: its memory is that of another process.

use crate::caller::Caller;
use crate::errno;
use crate::wire::Request;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use xdma::memory::Buffer;

/// Page size for probing memory.
const PAGE: u64 = 4096;
/// Maximum number of pages that one system call probes (`IOV_MAX`).
const PROBES: usize = 1024;

/// A client's connection and process.
#[derive(Debug)]
pub(crate) struct Client {
    pub connection: OwnedFd,
    pub process: rustix::process::Pid,
    cancelled: AtomicBool,
}

impl Client {
    pub fn new(connection: OwnedFd, process: rustix::process::Pid) -> Self {
        Self { connection, process, cancelled: AtomicBool::new(false) }
    }

    fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.process.as_raw_nonzero().get())
    }

    /// Clears a cancellation before the next request.
    pub fn begin(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
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

    /// The data passes through a bounce buffer, since no slice may refer to memory that the card can write.
    fn copy_out(&self, address: u64, from: &Buffer, length: u64) -> Result<(), Errno> {
        let mut bounce = vec![0u8; length as usize];
        from.read(0, &mut bounce).map_err(|error| errno::of_memory(&error))?;
        // A client that no longer waits may have reused the memory.
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

    fn is_cancelled(&self) -> bool {
        if self.cancelled.load(Ordering::Relaxed) {
            return true;
        }
        let mut bytes = [0; Request::BYTES];
        let cancelled = match recv(&self.connection, &mut bytes, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => false,
            // While a client waits for a reply, it may send only a cancellation. Any other message also cancels the request.
            Ok(_) => true,
            Err(_) => true,
        };
        self.cancelled.store(cancelled, Ordering::Relaxed);
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
