//! The driver's log.
//!
//! It is written to a file descriptor, not passed to a callback, because a callback could call the library while a call is using an object.

use crate::error::{Failure, run};
use crate::kind::check_not_forked;
use crate::pointers::invalid;
use crate::status::xdma_status;
use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::FromRawFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, registry, reload};

/// How much is logged: the messages of a level and of all those before it.
pub type xdma_log_level = u32;
/// Nothing is logged.
pub const XDMA_LOG_OFF: xdma_log_level = 0;
/// What failed while no call could return it, such as closing a card that is still busy.
pub const XDMA_LOG_ERROR: xdma_log_level = 1;
/// Fallbacks and risks, such as a card without an IOMMU.
pub const XDMA_LOG_WARN: xdma_log_level = 2;
/// Recoveries, and data that was discarded.
pub const XDMA_LOG_INFO: xdma_log_level = 3;
/// Errors of channels with the state of their rings; opening and closing; memory, programs and jobs.
pub const XDMA_LOG_DEBUG: xdma_log_level = 4;
/// Everything.
pub const XDMA_LOG_TRACE: xdma_log_level = 5;

/// The file that the log is written to.
static FILE: Mutex<Option<File>> = Mutex::new(None);

fn file() -> MutexGuard<'static, Option<File>> {
    FILE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to the file of the moment.
struct Writer;

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *file() {
            Some(file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn level(value: xdma_log_level) -> Result<LevelFilter, Failure> {
    match value {
        XDMA_LOG_OFF => Ok(LevelFilter::OFF),
        XDMA_LOG_ERROR => Ok(LevelFilter::ERROR),
        XDMA_LOG_WARN => Ok(LevelFilter::WARN),
        XDMA_LOG_INFO => Ok(LevelFilter::INFO),
        XDMA_LOG_DEBUG => Ok(LevelFilter::DEBUG),
        XDMA_LOG_TRACE => Ok(LevelFilter::TRACE),
        other => Err(invalid(format_args!("{other} is not a level of the log; use one of XDMA_LOG_*"))),
    }
}

/// Returns a descriptor of the library's own for the file of `descriptor`.
fn duplicate(descriptor: c_int) -> Result<File, Failure> {
    // SAFETY: plain system call.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        let error = io::Error::last_os_error();
        return Err(invalid(format_args!(
            "the log cannot be written to descriptor {descriptor}: {error}; pass an open one"
        )));
    }
    // SAFETY: `fcntl` has just created it, for nothing else.
    Ok(unsafe { File::from_raw_fd(copy) })
}

/// Changes the level. The first call installs the log.
fn set_level(level: LevelFilter) -> Result<(), Failure> {
    static HANDLE: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(LevelFilter::OFF);
        let lines = fmt::layer().with_writer(|| Writer).with_ansi(false).log_internal_errors(false);
        // This fails only in a Rust program that has a log of its own, which then has the messages.
        let _ = registry().with(filter).with(lines).try_init();
        handle
    });
    handle.reload(level).map_err(|error| invalid(format_args!("the log cannot be changed: {error}")))
}

/// Writes the driver's log to a file descriptor from now on: one line of UTF-8 for each message up to `level`, XDMA_LOG_*, with its time in
/// UTC. With XDMA_LOG_OFF, the log ends, and `descriptor` is not used. Initially the log is off.
///
/// The library duplicates the descriptor, so the caller may close it. Messages come from any thread that is in a call, and a line is written
/// with one call of write, which delays that call if it blocks. Lines that cannot be written are lost. As with every write, a pipe without
/// a reader raises SIGPIPE.
///
/// Any thread may call this. Errors: XDMA_ERROR_ARGUMENT for an invalid level or descriptor; XDMA_ERROR_FORKED in a child of a process that
/// had opened a card.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_log(level: xdma_log_level, descriptor: c_int) -> xdma_status {
    run(|| {
        let filter = self::level(level)?;
        check_not_forked()?;
        let new = if level == XDMA_LOG_OFF { None } else { Some(duplicate(descriptor)?) };
        *file() = new;
        set_level(filter)
    })
}
