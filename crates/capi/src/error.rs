//! Errors: what a call returns on failure, and where the details are stored.

use crate::status::{
    self, XDMA_ERROR_INTERNAL, XDMA_OK, XDMA_REMEDY_CLOSE, XDMA_REMEDY_NONE, xdma_remedy, xdma_status,
};
use std::any::Any;
use std::cell::UnsafeCell;
use std::error::Error;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use xdma::Remedy;

/// The details of an error.
#[repr(C)]
pub struct xdma_error {
    /// The status that the call returned.
    pub status: xdma_status,
    /// What to do about it, for programs that react automatically: one of XDMA_REMEDY_*.
    pub remedy: xdma_remedy,
    /// The cause and the remedy in detail, for people: UTF-8, without a newline at the end.
    pub message: *const c_char,
    /// The remedy in one sentence.
    pub advice: *const c_char,
}

/// Returns the details of the last error of this thread; with status XDMA_OK if there was none.
///
/// Successful calls leave them unchanged, so read them only after an error. They are valid until the next error of the same thread, or
/// until it ends; do not free them. Any thread may call this. It does not fail.
#[unsafe(no_mangle)]
pub extern "C" fn xdma_last_error() -> *const xdma_error {
    // This fails in an ending thread whose thread-local storage has already been destroyed.
    LAST.try_with(|last| last.0.get().cast_const().cast()).unwrap_or(&raw const NONE.0)
}

/// Why a call fails. It is one pointer, so that a result without a value fits in a register.
#[derive(Debug)]
pub struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    status: xdma_status,
    remedy: xdma_remedy,
    message: String,
}

impl Failure {
    #[cold]
    pub fn new(status: xdma_status, remedy: xdma_remedy, message: impl Into<String>) -> Self {
        Self(Box::new(Details { status, remedy, message: message.into() }))
    }

    /// Describes an error of the driver, with all of its causes.
    #[cold]
    pub fn of(status: xdma_status, remedy: Remedy, error: &dyn Error) -> Self {
        let (mut message, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self::new(status, status::remedy(remedy), message)
    }
}

/// The result of the body of a call.
pub(crate) type Outcome = Result<xdma_status, Failure>;

/// Runs the body of a call. Stores the details of an error, and turns a panic into an error.
#[inline(always)]
pub(crate) fn call(body: impl FnOnce() -> Outcome) -> xdma_status {
    // After a panic, the objects that the body used can only be closed. Closing checks their state.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => store(failure),
        Err(panic) => panicked(panic),
    }
}

/// Runs the body of a call that has no result but success.
#[inline(always)]
pub(crate) fn run(body: impl FnOnce() -> Result<(), Failure>) -> xdma_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => XDMA_OK,
        Ok(Err(failure)) => store(failure),
        Err(panic) => panicked(panic),
    }
}

#[cold]
#[inline(never)]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> xdma_status {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let message = format!("a bug in libxdma: {text}; close the handle, and report this");
    store(Failure::new(XDMA_ERROR_INTERNAL, XDMA_REMEDY_CLOSE, message))
}

/// The last error of a thread, with the string that its message points to. `repr(C)`, because callers see its first field.
#[repr(C)]
struct Last {
    shown: xdma_error,
    message: Option<CString>,
}

struct LastError(UnsafeCell<Last>);

/// What [`xdma_last_error`] returns while there is no error.
struct NoError(xdma_error);

// SAFETY: its pointers are to static strings.
unsafe impl Sync for NoError {}

const EMPTY: xdma_error = xdma_error {
    status: XDMA_OK,
    remedy: XDMA_REMEDY_NONE,
    message: c"".as_ptr(),
    advice: c"There is no error.".as_ptr(),
};
static NONE: NoError = NoError(EMPTY);

thread_local! {
    static LAST: LastError = const { LastError(UnsafeCell::new(Last { shown: EMPTY, message: None })) };
}

/// Stores the details of an error for [`xdma_last_error`], and returns its status.
#[cold]
#[inline(never)]
fn store(failure: Failure) -> xdma_status {
    let Details { status, remedy, message } = *failure.0;
    let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
    let shown =
        xdma_error { status, remedy, message: message.as_ptr(), advice: status::advice(remedy).as_ptr() };
    // In an ending thread whose thread-local storage has already been destroyed, only the status is returned.
    let _ = LAST.try_with(|last| {
        // SAFETY: only this thread accesses its error, this function does so without calling anything that does, and the caller of
        // `xdma_last_error` no longer uses the old one.
        unsafe { *last.0.get() = Last { shown, message: Some(message) } };
    });
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{XDMA_ERROR_NULL, XDMA_REMEDY_CORRECT};
    use std::ffi::CStr;

    fn last() -> (xdma_status, xdma_remedy, String) {
        // SAFETY: valid until the next error of this thread.
        unsafe {
            let error = &*xdma_last_error();
            (error.status, error.remedy, CStr::from_ptr(error.message).to_str().unwrap().to_owned())
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(last(), (XDMA_OK, XDMA_REMEDY_NONE, String::new()));
        assert_eq!(run(|| panic!("a test")), XDMA_ERROR_INTERNAL);
        let (status, remedy, message) = last();
        assert_eq!((status, remedy), (XDMA_ERROR_INTERNAL, XDMA_REMEDY_CLOSE));
        assert!(message.contains("a test"), "{message}");
    }

    #[test]
    fn success_keeps_the_last_error() {
        run(|| Err(Failure::new(XDMA_ERROR_NULL, XDMA_REMEDY_CORRECT, "first\0cause")));
        assert_eq!(run(|| Ok(())), XDMA_OK);
        assert_eq!(last(), (XDMA_ERROR_NULL, XDMA_REMEDY_CORRECT, "first cause".into()));
        std::thread::spawn(|| assert_eq!(last().0, XDMA_OK, "each thread has its own")).join().unwrap();
    }
}
