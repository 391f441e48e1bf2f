//! Sleeping until a file is readable.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Sleeps until one of the files is readable or a signal arrives, for at most `limit`. Returns which files are readable.
pub(crate) fn readable<const N: usize>(
    files: [Option<BorrowedFd<'_>>; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    // The kernel ignores entries with a negative descriptor.
    let descriptor = |file: Option<BorrowedFd<'_>>| file.map_or(-1, |file| file.as_raw_fd());
    let mut entries =
        files.map(|file| libc::pollfd { fd: descriptor(file), events: libc::POLLIN, revents: 0 });
    let limit = libc::timespec {
        tv_sec: limit.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: `entries` has `N` elements and lives on this stack; the kernel only reads the time.
    let ready = unsafe { libc::ppoll(entries.as_mut_ptr(), N as libc::nfds_t, &limit, std::ptr::null()) };
    match ready {
        -1 => match io::Error::last_os_error() {
            signal if signal.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
            error => Err(error),
        },
        _ => Ok(entries.map(|entry| entry.revents != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Instant;

    #[test]
    fn only_a_readable_file_ends_the_sleep() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let (silent, _end) = std::os::unix::net::UnixStream::pair().unwrap();
        let begin = Instant::now();
        let limit = Duration::from_millis(20);
        assert_eq!(readable([Some(silent.as_fd()), None, Some(one.as_fd())], limit).unwrap(), [false; 3]);
        assert!(begin.elapsed() >= limit);
        std::io::Write::write_all(&mut &other, b"x").unwrap();
        let ready = readable([Some(silent.as_fd()), None, Some(one.as_fd())], Duration::MAX).unwrap();
        assert_eq!(ready, [false, false, true]);
        assert_eq!(readable([None], Duration::ZERO).unwrap(), [false]);
    }
}
