//! Connecting to a Unix socket with a timeout.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Connects to the stream socket at `path`.
///
/// If the listener's backlog is full, connecting blocks until it accepts. The standard library has no timeout for that.
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut) after `limit`, or the kernel's error.
pub(super) fn connect_timeout(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let (address, end) = (SockAddr::unix(path)?, Instant::now() + limit);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    loop {
        // The kernel applies the socket's write timeout to `connect`. A timeout of zero would mean no limit.
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
