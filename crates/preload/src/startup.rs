//! What happens when the library is loaded, and in child processes.

use crate::table::{self, Entry};
use crate::{connection, open};
use std::sync::atomic::{AtomicU64, Ordering};
use xdma_chardev::Node;

/// The broker's process, or 0.
static BROKER_PROCESS: AtomicU64 = AtomicU64::new(0);

/// Descriptors that a program inherits are searched up to this number.
const INHERITED: i32 = 1024;

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    // SAFETY: the handlers only change an atomic number, and a process permission that is this process's own.
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

/// A child process has its own connections.
unsafe extern "C" fn start_child() {
    connection::invalidate();
    permit_broker();
}

/// Lets the broker access the memory of this process where only ancestors may (`ptrace_scope` 1).
fn permit_broker() {
    let broker = BROKER_PROCESS.load(Ordering::Relaxed);
    if broker == 0 {
        return;
    }
    // Without that restriction, this fails, and is not needed.
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, broker, 0, 0, 0) };
}
