//! Initialization when the library is loaded, and in child processes.

use crate::table::{self, Entry};
use crate::{broker, exclusive, explain, heap, listing, open, real, stdio};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use xdma_chardev::Node;

/// The broker's process ID, or 0 if there is none.
static BROKER_PROCESS: AtomicU64 = AtomicU64::new(0);

/// Returns the broker's process ID, or 0 if there is none.
pub fn broker_process() -> u64 {
    BROKER_PROCESS.load(Ordering::Relaxed)
}

/// This process.
static PROCESS: AtomicU32 = AtomicU32::new(0);

fn process() -> u32 {
    // SAFETY: a plain system call.
    unsafe { libc::getpid() as u32 }
}

/// Returns whether the table belongs to this process. After `vfork`, a child shares its parent's memory but not its file
/// descriptors, so it must not change the table.
pub fn owns_table() -> bool {
    PROCESS.load(Ordering::Relaxed) == process()
}

/// Inherited device files are recognized up to this file descriptor.
const INHERITED: i32 = 1024;

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    // SAFETY: the functions take locks that no function holds while it forks, and make plain system calls.
    unsafe {
        libc::pthread_atfork(Some(lock_all), Some(unlock_all), Some(start_child));
    }
    PROCESS.store(process(), Ordering::Relaxed);
    let broker = std::env::var("XDMA_BROKER_PID").ok().and_then(|process| process.parse().ok());
    BROKER_PROCESS.store(broker.unwrap_or(0), Ordering::Relaxed);
    permit_broker();
    exclusive::start();
    explain::start();
    for fd in 0..INHERITED {
        if let Some(header) = open::header(fd)
            && let Some(node) = Node::from_minor(header.minor)
        {
            let file = exclusive::reopen(fd, &header);
            table::set(fd, Entry { node, flags: header.flags, file });
            stdio::replace_standard(fd);
        }
    }
}

/// The locks that a thread takes before it forks. Without this, the child could inherit a lock held by a thread that does not
/// exist in the child, and wait for it forever.
struct Locks(Cell<Option<(heap::Guard, stdio::Guard, listing::Guard)>>);

// SAFETY: only the thread that holds the locks accesses the cell.
unsafe impl Sync for Locks {}

static LOCKS: Locks = Locks(Cell::new(None));

unsafe extern "C" fn lock_all() {
    let streams = stdio::lock();
    let listings = listing::lock();
    // This lock is taken last, because code that holds the other locks allocates.
    LOCKS.0.set(Some((heap::lock(), streams, listings)));
}

unsafe extern "C" fn unlock_all() {
    LOCKS.0.take();
}

/// Prepares a child process, which needs its own connections.
unsafe extern "C" fn start_child() {
    LOCKS.0.take();
    PROCESS.store(process(), Ordering::Relaxed);
    broker::invalidate();
    exclusive::start_child();
    explain::start_child();
    // Otherwise the broker would not see that the parent has ended.
    for socket in table::all_internal() {
        table::clear(socket as i32);
        // SAFETY: the child's copy of a connection of its parent.
        unsafe { real::close(socket as i32) };
    }
    permit_broker();
}

/// Permits the broker to access this process's memory on systems where only ancestors have access by default (`ptrace_scope` 1).
fn permit_broker() {
    let broker = broker_process();
    if broker == 0 {
        return;
    }
    // On systems without that restriction, the call fails and is not needed.
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, broker, 0, 0, 0) };
}
