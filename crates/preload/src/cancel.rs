//! Cancellation of threads (`pthread_cancel`).
//!
//! The C library functions that this library and the driver use are cancellation points. A thread that ended there would leave
//! locks held and messages incomplete, so each call disables cancellation. If a call is waiting when its thread is cancelled,
//! the call ends as if a signal had interrupted it. The thread ends when the call returns.

use crate::real;
use libc::{c_int, pthread_t};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const DISABLE: c_int = 1;

/// The threads that were cancelled and have not returned from a call since then.
static CANCELLED: Mutex<Vec<pthread_t>> = Mutex::new(vec![]);
/// The number of threads above.
static COUNT: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C-unwind" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    fn pthread_testcancel();
}

fn cancelled() -> MutexGuard<'static, Vec<pthread_t>> {
    CANCELLED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn this() -> pthread_t {
    // SAFETY: the function has no preconditions.
    unsafe { libc::pthread_self() }
}

/// Executes `body` with cancellation disabled, so that the thread does not end in it.
#[inline]
pub fn disabled<R>(body: impl FnOnce() -> R) -> R {
    let mut before = 0;
    // SAFETY: the pointer is valid for the call. While cancellation is deferred, the functions do not end the thread.
    unsafe { pthread_setcancelstate(DISABLE, &raw mut before) };
    let result = body();
    // SAFETY: as above.
    unsafe { pthread_setcancelstate(before, std::ptr::null_mut()) };
    result
}

/// Returns whether this thread was cancelled.
pub fn is_requested() -> bool {
    COUNT.load(Ordering::Relaxed) > 0 && cancelled().contains(&this())
}

/// Ends the thread if it was cancelled. The functions that are on the stack must not have anything to drop.
#[inline]
pub extern "C-unwind" fn test() {
    if COUNT.load(Ordering::Relaxed) > 0 {
        end_if_cancelled();
    }
}

#[cold]
extern "C-unwind" fn end_if_cancelled() {
    if !forget() {
        return;
    }
    // SAFETY: the function has no preconditions.
    unsafe { pthread_testcancel() };
    // The program itself has disabled cancellation, so the thread ends later.
    add(this());
}

/// Returns whether this thread was cancelled. Removes the thread from the list, because a later thread can have the same ID.
fn forget() -> bool {
    let mut cancelled = cancelled();
    let before = cancelled.len();
    cancelled.retain(|thread| *thread != this());
    COUNT.store(cancelled.len(), Ordering::Relaxed);
    cancelled.len() < before
}

fn add(thread: pthread_t) {
    let mut cancelled = cancelled();
    if !cancelled.contains(&thread) {
        cancelled.push(thread);
    }
    COUNT.store(cancelled.len(), Ordering::Relaxed);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cancel(thread: pthread_t) -> c_int {
    add(thread);
    // SAFETY: the contract is that of the C library function.
    unsafe { real::pthread_cancel(thread) }
}
