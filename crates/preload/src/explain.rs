//! Counts the calls on device files, for `xdma run --explain`. Without it, a call costs one branch.

use crate::{cancel, errno, real};
use libc::{c_char, c_int};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use xdma_chardev::{Call, CallKey, Counters, EXPLAIN_VARIABLE, Node, REMARKS};

static ENABLED: AtomicBool = AtomicBool::new(false);
/// The directory for the counters.
static FOLDER: OnceLock<String> = OnceLock::new();
/// This process's counters, mapped by its first call.
static COUNTERS: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// Whether the card accesses the data of the current call in place.
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

unsafe extern "C" {
    static program_invocation_short_name: *const c_char;
}

/// Enables counting, if the program runs under `xdma run --explain`.
pub fn start() {
    if let Ok(folder) = std::env::var(EXPLAIN_VARIABLE) {
        ENABLED.store(FOLDER.set(folder).is_ok(), Ordering::Relaxed);
    }
}

/// Returns the path of this library.
pub fn library() -> Option<&'static CStr> {
    // SAFETY: zeros are valid in the structure. A path that the dynamic linker returns lives as long as the library.
    unsafe {
        let mut this: libc::Dl_info = std::mem::zeroed();
        let found = libc::dladdr((&raw const ENABLED).cast(), &raw mut this);
        (found != 0 && !this.dli_fname.is_null()).then(|| CStr::from_ptr(this.dli_fname))
    }
}

/// Gives a child process its own counters.
pub fn start_child() {
    COUNTERS.store(std::ptr::null_mut(), Ordering::Relaxed);
}

#[inline]
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Records that the card accesses the data of the current call in place.
#[inline]
pub fn note_in_place() {
    if is_enabled() {
        // While a thread exits, the variable may already have been destroyed.
        let _ = IN_PLACE.try_with(|in_place| in_place.set(true));
    }
}

/// Counts a call with this result: a number of bytes, or -1 with errno set. Returns the result.
#[inline]
pub fn count(call: Call, node: Node, result: isize) -> isize {
    if is_enabled() {
        let in_place = IN_PLACE.try_with(|in_place| in_place.replace(false)).unwrap_or(false);
        add(call, node, if in_place { CallKey::IN_PLACE } else { 0 }, result);
    }
    result
}

/// Counts an ioctl.
#[inline]
pub fn count_ioctl(node: Node, command: libc::c_ulong, result: c_int) -> c_int {
    if is_enabled() {
        // An ioctl may also transfer data. Clear the flag, so that it does not remain set for the next call.
        let _ = IN_PLACE.try_with(Cell::take);
        add(Call::Ioctl, node, command as u32, if result < 0 { -1 } else { 0 });
    }
    result
}

#[cold]
fn add(call: Call, node: Node, detail: u32, result: isize) {
    let saved = errno::get();
    if let Some(counters) = counters() {
        let errno = if result < 0 { saved as u16 } else { 0 };
        let bytes = if call == Call::Lseek { 0 } else { result.max(0) as u64 };
        counters.add(CallKey { call, node, errno, detail }, bytes);
    }
    errno::set(saved);
}

fn counters() -> Option<Counters<'static>> {
    let mut words = COUNTERS.load(Ordering::Acquire);
    if words.is_null() {
        words = cancel::disabled(create)?;
        match COUNTERS.compare_exchange(std::ptr::null_mut(), words, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {}
            // Another thread has mapped a file at the same time. The file of this thread stays empty.
            Err(theirs) => words = theirs,
        }
    }
    // SAFETY: the words are mapped until the process ends.
    Counters::new(unsafe { std::slice::from_raw_parts(words, Counters::WORDS) })
}

/// Creates the file of the counters and maps it.
fn create() -> Option<*mut AtomicU64> {
    // SAFETY: plain system calls; all pointers are valid for the calls, and the descriptor is this function's own.
    unsafe {
        let process = libc::getpid();
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
        let name = format!("{}/{process}-{}-{}", FOLDER.get()?, now.tv_sec, now.tv_nsec);
        let name = CString::new(name).ok()?;
        let fd = real::open(name.as_ptr(), libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC, 0o600);
        if fd < 0 {
            return None;
        }
        let bytes = Counters::WORDS * size_of::<AtomicU64>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let mapped = match libc::ftruncate(fd, bytes as i64) {
            0 => real::mmap64(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0),
            _ => libc::MAP_FAILED,
        };
        real::close(fd);
        if mapped == libc::MAP_FAILED {
            return None;
        }
        let words = mapped.cast::<AtomicU64>();
        let counters = Counters::new(std::slice::from_raw_parts(words, Counters::WORDS))?;
        counters.identify(process as u32, CStr::from_ptr(program_invocation_short_name).to_bytes());
        Some(words)
    }
}

/// Adds a line to the report. Equal lines are printed once.
#[cold]
pub fn remark(text: &str) {
    let saved = errno::get();
    let folder = FOLDER.get().filter(|_| is_enabled());
    if let Some(name) = folder.and_then(|folder| CString::new(format!("{folder}/{REMARKS}")).ok()) {
        let text = format!("{}\n", text.replace('\n', " "));
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
        // SAFETY: plain system calls on a descriptor of this function. If the remark cannot be written, it is lost.
        cancel::disabled(|| unsafe {
            let fd = real::open(name.as_ptr(), flags, 0o600);
            if fd >= 0 {
                real::write(fd, text.as_ptr().cast(), text.len());
                real::close(fd);
            }
        });
    }
    errno::set(saved);
}

/// Returns the name of this program.
pub fn program() -> String {
    // SAFETY: the C library's variable is a C string.
    unsafe { CStr::from_ptr(program_invocation_short_name) }.to_string_lossy().into_owned()
}
