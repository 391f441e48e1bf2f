//! Forked processes, and the end of the interpreter.

use crate::slot::Close;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Counts the forks that led to this process. Objects remember the count with which they were created.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// The process in which this module was imported, or the last one forked from it.
static PROCESS: AtomicU32 = AtomicU32::new(0);
static ENDS: AtomicBool = AtomicBool::new(false);
/// Number of threads in calls that have released the GIL.
static DETACHED: AtomicUsize = AtomicUsize::new(0);
/// Address and size of memory with views, which a forked process does not inherit.
static VIEWED: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());
/// All open cards.
static CARDS: Mutex<Vec<Weak<dyn Close>>> = Mutex::new(Vec::new());
/// The time that threads have to leave their waits when the interpreter ends.
const GRACE: Duration = Duration::from_secs(1);

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data behind these locks is consistent even if a thread panicked while it held one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Returns whether the interpreter is about to end, so that no wait may continue.
pub fn ends() -> bool {
    ENDS.load(Ordering::Relaxed)
}

/// Runs a function with the GIL released.
pub fn detached<R: Send>(py: Python<'_>, body: impl FnOnce() -> R + Send) -> R {
    struct Count;
    impl Drop for Count {
        fn drop(&mut self) {
            DETACHED.fetch_sub(1, Ordering::Release);
        }
    }
    // Dropped after the GIL is held again: a thread that waits for the GIL still counts.
    DETACHED.fetch_add(1, Ordering::Relaxed);
    let _count = Count;
    py.detach(body)
}

/// Records memory that Python code can see. A process forked from this one gets other memory at its addresses.
pub fn add_view(address: usize, size: usize) {
    lock(&VIEWED).insert(address, size);
}

/// Returns whether a range has memory of a buffer that Python code can see.
pub fn has_views(address: usize, size: usize) -> bool {
    let viewed = lock(&VIEWED);
    let last = viewed.range(..address.saturating_add(size)).next_back();
    last.is_some_and(|(start, len)| start.saturating_add(*len) > address)
}

pub fn remove_view(address: usize) {
    lock(&VIEWED).remove(&address);
}

/// Registers the card to be closed when the interpreter ends.
pub fn close_at_exit(card: &Arc<dyn Close>) {
    let mut cards = lock(&CARDS);
    cards.retain(|card| card.strong_count() > 0);
    cards.push(Arc::downgrade(card));
}

/// Called when the module is imported.
pub fn remember_process() {
    PROCESS.store(std::process::id(), Ordering::Relaxed);
}

/// Called in a forked process, before any other Python code. Does nothing in a process that was not forked.
#[pyfunction]
#[pyo3(name = "_after_fork")]
pub fn after_fork() {
    if PROCESS.swap(std::process::id(), Ordering::Relaxed) == std::process::id() {
        return;
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
    DETACHED.store(0, Ordering::Relaxed);
    // The forking thread held the GIL, and so does everything that locks these.
    lock(&CARDS).clear();
    // SAFETY: sysconf has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    for (address, size) in std::mem::take(&mut *lock(&VIEWED)) {
        let (start, end) = (address / page * page, (address + size).next_multiple_of(page));
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
        // SAFETY: the driver's memory is not inherited, so nothing is mapped at these pages. They consist of allocations of the
        // driver, all of which this process refuses to use.
        let mapped = unsafe {
            libc::mmap(std::ptr::without_provenance_mut(start), end - start, protection, flags, -1, 0)
        };
        if mapped == libc::MAP_FAILED {
            // Views would be invalid pointers.
            std::process::abort();
        }
    }
}

/// Called when the interpreter ends: ends all waits, then closes all cards.
#[pyfunction]
#[pyo3(name = "_at_exit")]
pub fn at_exit(py: Python<'_>) {
    ENDS.store(true, Ordering::Relaxed);
    let cards: Vec<_> = lock(&CARDS).iter().filter_map(Weak::upgrade).collect();
    py.detach(|| {
        let begin = Instant::now();
        while DETACHED.load(Ordering::Acquire) > 0 && begin.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(1));
        }
        cards.iter().for_each(|card| card.close_with_card());
    });
}
