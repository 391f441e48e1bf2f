//! Initialization when the library is loaded, and in child processes.

use crate::table::{self, Entry};
use crate::{connection, open};
use std::sync::atomic::{AtomicU64, Ordering};
use xdma_chardev::Node;

/// The broker's process ID, or 0 if there is none.
static BROKER_PROCESS: AtomicU64 = AtomicU64::new(0);

/// Inherited device files are recognized up to this file descriptor.
const INHERITED: i32 = 1024;

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    // SAFETY: the handler only changes an atomic counter and this process's own permissions.
    unsafe {
        libc::pthread_atfork(None, None, Some(start_child));
    }
    let broker = std::env::var("XDMA_BROKER_PID").ok().and_then(|process| process.parse().ok());
    BROKER_PROCESS.store(broker.unwrap_or(0), Ordering::Relaxed);
    permit_broker();
    for fd in 0..INHERITED {
        if let Some(header) = open::header(fd)
            && let Some(node) = Node::from_minor(header.minor)
        {
            table::set(fd, Entry { node, flags: header.flags, file: header.file });
        }
    }
}

/// Prepares a child process, which needs its own connections.
unsafe extern "C" fn start_child() {
    connection::invalidate();
    permit_broker();
}

/// Permits the broker to access this process's memory where only ancestors have access by default (`ptrace_scope` 1).
fn permit_broker() {
    let broker = BROKER_PROCESS.load(Ordering::Relaxed);
    if broker == 0 {
        return;
    }
    // On systems without that restriction, the call fails and is not needed.
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, broker, 0, 0, 0) };
}
