//! The card, opened in this process (`xdma run --exclusive`).

use crate::own::{Own, with_signals_blocked};
use crate::real;
use libc::c_int;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma_chardev::{Device, EXCLUSIVE_VARIABLE, Exclusive, FileHeader, Files, Node, Operation, Request};

/// How long the end of the process waits for other threads that are in a call.
const EXIT_LIMIT: Duration = Duration::from_secs(2);

static SETTINGS: OnceLock<Exclusive> = OnceLock::new();
/// The open card. Null before it is opened and after it is closed.
static FILES: AtomicPtr<Files> = AtomicPtr::new(null_mut());
/// Number of threads that use [`FILES`].
static USERS: AtomicU32 = AtomicU32::new(0);
static OPENING: Mutex<()> = Mutex::new(());
/// Whether this process is a fork of one that used this library.
static CHILD: AtomicBool = AtomicBool::new(false);
/// Whether this process is a child of the one that opened the card.
static FORKED: AtomicBool = AtomicBool::new(false);
/// The file descriptor of the lock.
static LOCK: AtomicI32 = AtomicI32::new(-1);

/// Reads the settings when the library is loaded.
pub fn start() {
    if let Some(settings) = std::env::var(EXCLUSIVE_VARIABLE).ok().and_then(|text| text.parse().ok()) {
        // The library is loaded once.
        let _ = SETTINGS.set(settings);
    }
}

/// Returns the settings, or `None` if the card belongs to a broker.
#[inline]
pub fn settings() -> Option<&'static Exclusive> {
    SETTINGS.get()
}

/// Returns whether large allocations come from this library.
#[inline]
pub fn uses_own_heap() -> bool {
    settings().is_some() && !is_child()
}

/// Returns whether this process is a fork of one that used this library.
#[inline]
pub fn is_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}

/// Opens a device file that this process has inherited through `exec`: the card was closed with the previous program. Returns its
/// new number, or 0 if the card cannot be opened.
pub fn reopen(fd: c_int, header: &FileHeader) -> u64 {
    let Some(settings) = settings() else { return header.file };
    let request =
        Request { flags: header.flags, value: header.minor.into(), ..Request::new(Operation::Open, 0) };
    let Ok((_, Some(new))) = call_for_descriptor(settings, &request) else { return 0 };
    let number = crate::open::header(new).map_or(0, |header| header.file);
    // SAFETY: `new` was just opened, and `fd` is the dead end of a socket pair. `exec` has kept it, so it has no close-on-exec flag.
    unsafe {
        real::dup2(new, fd);
        real::close(new);
    }
    number
}

/// Prepares a child process: the card stays with its parent.
pub fn start_child() {
    CHILD.store(true, Ordering::Relaxed);
    let lock = LOCK.swap(-1, Ordering::Relaxed);
    if lock >= 0 {
        FORKED.store(true, Ordering::Relaxed);
        // Otherwise a child that outlives its parent would keep the card locked.
        // SAFETY: the child's copy of this library's file descriptor.
        unsafe { real::close(lock) };
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
            files.0.open(request).map(|file| (0, file))
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
                Err(libc::EBADF)
            }
        }
    }
}

impl Drop for FilesGuard {
    fn drop(&mut self) {
        USERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns the device files. The first call opens the card.
fn open_card(settings: &Exclusive) -> Result<FilesGuard, c_int> {
    if FORKED.load(Ordering::Relaxed) {
        report("the card is in use by the parent process, which `xdma run --exclusive` gave it to");
        return Err(libc::EBUSY);
    }
    // The threads that the driver starts must not receive the program's signals.
    with_signals_blocked(|| {
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(files) = FilesGuard::new() {
            return Ok(files);
        }
        let lock = lock(settings)?;
        let files = open_files(settings)?;
        FILES.store(Box::into_raw(Box::new(files)), Ordering::SeqCst);
        LOCK.store(lock.into_raw_fd(), Ordering::Relaxed);
        // SAFETY: the function has the required type. If it cannot be registered, the next user of the card resets it.
        unsafe { libc::atexit(close_card) };
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

/// Locks the card for this process. The file names the process, for others that try to open the card.
fn lock(settings: &Exclusive) -> Result<File, c_int> {
    let open = || File::options().read(true).write(true).create(true).truncate(false).open(&settings.lock);
    let mut file = open().map_err(|_| libc::ENODEV)?;
    if file.try_lock().is_err() {
        let mut holder = String::new();
        // If the name cannot be read, the message lacks it.
        let _ = file.read_to_string(&mut holder);
        report(&format!("the card is in use by {holder}; run the programs without --exclusive to share it"));
        return Err(libc::EBUSY);
    }
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let text = format!("{} (process {})", name.trim(), std::process::id());
    // As above.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
    Ok(file)
}

fn report(text: &str) {
    eprintln!("xdma: {text}");
}

/// Restores the card's state when the program exits.
extern "C" fn close_card() {
    if FORKED.load(Ordering::Relaxed) {
        return;
    }
    let files = FILES.swap(null_mut(), Ordering::SeqCst);
    // SAFETY: the pointer is that of `open_card`, and it is freed only below.
    let Some(shared) = (unsafe { files.as_ref() }) else { return };
    shared.cancel_all();
    crate::heap::unpin_all();
    // Other threads may still be in a call. They end soon, since the calls are cancelled.
    let start = Instant::now();
    while USERS.load(Ordering::SeqCst) > 0 {
        if start.elapsed() > EXIT_LIMIT {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: there are no users, and later ones find a null pointer.
    drop(unsafe { Box::from_raw(files) });
}
