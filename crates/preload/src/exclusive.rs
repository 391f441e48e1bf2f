//! The card, opened in this process (`xdma run --exclusive`).

use crate::own::{Own, with_signals_blocked};
use crate::{driver_files, open, real, table};
use libc::{c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma_chardev::{Device, EXCLUSIVE_VARIABLE, Exclusive, FileHeader, Files, Node, Operation, Request};

/// How long the process waits at exit for other threads that are in a call.
const EXIT_LIMIT: Duration = Duration::from_secs(2);

/// Number of attempts to read the name of the process that uses the card, at intervals of 1 ms.
const NAME_ATTEMPTS: u32 = 100;

static SETTINGS: OnceLock<Exclusive> = OnceLock::new();
/// The open card. Null before it is opened and after it is closed.
static FILES: AtomicPtr<Files> = AtomicPtr::new(null_mut());
/// Number of threads that use [`FILES`].
static USERS: AtomicU32 = AtomicU32::new(0);
static OPENING: Mutex<()> = Mutex::new(());
/// Whether this process is a child of the one that opened the card.
static FORKED: AtomicBool = AtomicBool::new(false);
/// Whether this process has inherited a device file while another process used the card.
static INHERITED: AtomicBool = AtomicBool::new(false);
/// Whether the message that another process uses the card was printed.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Reads the settings when the library is loaded.
pub fn start() {
    if let Some(settings) = std::env::var(EXCLUSIVE_VARIABLE).ok().and_then(|text| text.parse().ok()) {
        // The library is loaded once.
        let _ = SETTINGS.set(settings);
        // Functions that are registered later run earlier, so the program's own functions can still use the card. With the null
        // handle, this function does not run together with the destructors of this library, which is before those of other
        // libraries.
        // SAFETY: the function has the required type. If it cannot be registered, the next user of the card resets the card.
        unsafe { __cxa_atexit(close_card, null_mut(), null_mut()) };
    }
}

unsafe extern "C" {
    fn __cxa_atexit(
        function: extern "C" fn(*mut c_void),
        argument: *mut c_void,
        library: *mut c_void,
    ) -> c_int;
}

/// Returns the settings, or `None` if the card belongs to a broker.
#[inline]
pub fn settings() -> Option<&'static Exclusive> {
    SETTINGS.get()
}

/// Returns whether large allocations come from this library.
#[inline]
pub fn uses_own_heap() -> bool {
    settings().is_some() && !FORKED.load(Ordering::Relaxed)
}

/// Opens a device file again that this process has inherited through `exec`. The card was closed with the previous program.
/// Returns the file's new number, or 0 if the card cannot be opened.
pub fn reopen(fd: c_int, header: &FileHeader) -> u64 {
    let Some(settings) = settings() else { return header.file };
    let request =
        Request { flags: header.flags, value: header.minor.into(), ..Request::new(Operation::Open, 0) };
    // Many programs do not use the files that they inherit, so a message here would confuse the user.
    if is_locked(settings) {
        INHERITED.store(true, Ordering::Relaxed);
        return 0;
    }
    let Ok((_, Some(new))) = call_for_descriptor(settings, &request) else { return 0 };
    let number = open::header(new).map_or(0, |header| header.file);
    // SAFETY: `new` was just opened, and `fd` is a socket whose peer is closed. `exec` has kept `fd`, so it has no
    // close-on-exec flag.
    unsafe {
        real::dup2(new, fd);
        real::close(new);
    }
    number
}

/// Prepares a child process. The card stays with the parent.
pub fn start_child() {
    // If another thread of the parent is opening the card at this moment, the child must not wait for that thread.
    if !FILES.load(Ordering::Relaxed).is_null() || OPENING.try_lock().is_err() {
        FORKED.store(true, Ordering::Relaxed);
    }
}

/// Executes a request on an open file. Returns the result or a negative errno.
#[inline]
pub fn call(request: &Request) -> i64 {
    let result = match request.operation {
        Operation::Check => check(request).map(size),
        _ => FilesGuard::new()
            .and_then(|files| files.0.call(&Own::default(), request).map_err(|errno| errno.raw_os_error())),
    };
    result.map_or_else(|errno| -i64::from(errno), |value| value as i64)
}

/// Executes a request whose reply may have a file descriptor.
pub fn call_for_descriptor(settings: &Exclusive, request: &Request) -> Result<(i64, Option<c_int>), c_int> {
    let reply = match request.operation {
        Operation::Open => {
            check(request)?;
            let files = open_card(settings)?;
            let file = files.0.open(request);
            if let Some(end) =
                file.as_ref().ok().and_then(|file| files.0.end(open::header(file.as_raw_fd())?.file))
            {
                table::set_internal(end, 0);
            }
            file.map(|file| (0, file))
        }
        Operation::Map => FilesGuard::new()?.0.map(request).map(|(file, offset)| (offset as i64, file)),
        _ => return Ok((call(request), None)),
    };
    let (value, file) = reply.map_err(|errno| errno.raw_os_error())?;
    Ok((value, Some(file.into_raw_fd())))
}

fn check(request: &Request) -> Result<Node, c_int> {
    let node = u32::try_from(request.value).ok().and_then(Node::from_minor).ok_or(libc::ENOENT)?;
    let exists = settings().is_some_and(|settings| settings.has(node, request.position));
    if exists { Ok(node) } else { Err(libc::ENOENT) }
}

/// Returns the size of an open file.
fn size(node: Node) -> u64 {
    FilesGuard::new().map_or(0, |files| files.0.size(node))
}

/// The open card, which stays open while this exists.
struct FilesGuard(&'static Files);

impl FilesGuard {
    #[inline]
    fn new() -> Result<Self, c_int> {
        if FORKED.load(Ordering::Relaxed) {
            return Err(libc::EBUSY);
        }
        // The order of these two operations, and of their counterparts in `close_card`, ensures that one side sees the other.
        USERS.fetch_add(1, Ordering::SeqCst);
        let files = FILES.load(Ordering::SeqCst);
        // SAFETY: `close_card` frees the files only when there are no users.
        match unsafe { files.as_ref() } {
            Some(files) => Ok(Self(files)),
            None => {
                USERS.fetch_sub(1, Ordering::SeqCst);
                Err(not_open())
            }
        }
    }
}

/// Returns the error for a call while the card is not open in this process.
#[cold]
fn not_open() -> c_int {
    let settings = settings().filter(|_| INHERITED.load(Ordering::Relaxed));
    settings.and_then(|settings| lock(settings).err()).unwrap_or(libc::EBADF)
}

impl Drop for FilesGuard {
    fn drop(&mut self) {
        USERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns the device files. The first call opens the card.
fn open_card(settings: &Exclusive) -> Result<FilesGuard, c_int> {
    if FORKED.load(Ordering::Relaxed) {
        report("the card is in use by the parent process, which owns it under `xdma run --exclusive`");
        return Err(libc::EBUSY);
    }
    // The threads that the driver starts must not receive the program's signals.
    with_signals_blocked(|| {
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(files) = FilesGuard::new() {
            return Ok(files);
        }
        let files = driver_files::keep(|| -> Result<Files, c_int> {
            let lock = lock(settings)?;
            let files = open_files(settings)?;
            // The card stays locked until the process ends.
            let _ = lock.into_raw_fd();
            Ok(files)
        })?;
        FILES.store(Box::into_raw(Box::new(files)), Ordering::SeqCst);
        FilesGuard::new()
    })
}

fn open_files(settings: &Exclusive) -> Result<Files, c_int> {
    let opened = settings.card.open(CardOptions::default()).map_err(|error| error.to_string());
    let device =
        opened.and_then(|card| Device::new(card, settings.options).map_err(|error| error.to_string()));
    device.map(Files::new).map_err(|error| {
        report(&format!("cannot open {}: {error}", settings.card));
        libc::EIO
    })
}

fn open_lock(settings: &Exclusive) -> Result<File, c_int> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&settings.lock);
    file.map_err(|_| libc::ENODEV)
}

/// Returns whether another process uses the card.
fn is_locked(settings: &Exclusive) -> bool {
    open_lock(settings).is_ok_and(|file| file.try_lock().is_err())
}

/// Locks the card for this process.
fn lock(settings: &Exclusive) -> Result<File, c_int> {
    let file = open_lock(settings)?;
    if file.try_lock().is_err() {
        if !REPORTED.swap(true, Ordering::Relaxed) {
            let holder = holder(&file);
            report(&format!(
                "the card is in use by {holder}; run the programs without --exclusive to share it"
            ));
        }
        return Err(libc::EBUSY);
    }
    // `holder` reads this lock. If this fails, the messages of other processes do not name this one.
    record_lock(&file, libc::F_SETLK);
    Ok(file)
}

/// Sets a record lock, or finds the process that has set it. The lock above belongs to the open file, so the kernel does not report
/// its owner. A record lock belongs to a process.
fn record_lock(file: &File, command: c_int) -> libc::flock {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the structure is valid for the call.
    unsafe { real::fcntl(file.as_raw_fd(), command, (&raw mut lock).cast()) };
    lock
}

/// Returns the name of the process that has locked the card. That process sets the record lock just after it has locked the file.
fn holder(file: &File) -> String {
    for _ in 0..NAME_ATTEMPTS {
        let process = record_lock(file, libc::F_GETLK).l_pid;
        if process > 0 {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            return format!("{} (process {process})", name.trim());
        }
        thread::sleep(Duration::from_millis(1));
    }
    "another process".into()
}

/// Prints a line with a single call, because other processes may print at the same time.
fn report(text: &str) {
    // There is no other place to report an error.
    let _ = std::io::stderr().write_all(format!("xdma: {text}\n").as_bytes());
}

/// Restores the card's state when the program exits.
extern "C" fn close_card(_: *mut c_void) {
    if FORKED.load(Ordering::Relaxed) {
        return;
    }
    // The C library flushes its streams only after this function, when the card is closed.
    crate::stdio::flush_all();
    let files = FILES.swap(null_mut(), Ordering::SeqCst);
    // SAFETY: the pointer is that of `open_card`, and it is freed only below.
    let Some(shared) = (unsafe { files.as_ref() }) else { return };
    shared.cancel_all();
    crate::heap::unpin_all();
    // Other threads may still be in a call. The calls were cancelled, so they end soon.
    let start = Instant::now();
    while USERS.load(Ordering::SeqCst) > 0 {
        if start.elapsed() > EXIT_LIMIT {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: there are no users, and later users find a null pointer.
    drop(unsafe { Box::from_raw(files) });
}
