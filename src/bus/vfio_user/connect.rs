//! Connecting to a Unix socket, with a time-out.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Connects to the stream socket at `path`.
///
/// Where the listener accepts nothing and its backlog is full, the kernel waits; the standard library's `connect` without end.
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut) after `limit`, and what the kernel says.
pub(super) fn dial(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let (address, end) = (SockAddr::unix(path)?, Instant::now() + limit);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    loop {
        // How long a write may take is how long the kernel waits here. No time at all would mean no limit.
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        socket.set_write_timeout(Some(left))?;
        let Err(error) = socket.connect(&address) else { return Ok(OwnedFd::from(socket).into()) };
        match error.kind() {
            io::ErrorKind::Interrupted if Instant::now() < end => {}
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no connection was accepted in time"));
            }
            _ => return Err(error),
        }
    }
}
