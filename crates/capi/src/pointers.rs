//! Arguments that are pointers or numbers from C.
//!
//! A caller passes either NULL or a pointer to memory of the size that the function documents. NULL is an error where a pointer is
//! required; nothing else can be checked.

use crate::error::Failure;
use crate::status::{XDMA_ERROR_ARGUMENT, XDMA_ERROR_NULL, XDMA_REMEDY_CORRECT};
use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use xdma::regs::Direction;

/// A direction: from the host to the card, or back.
pub type xdma_direction = u32;
/// Host to card.
pub const XDMA_H2C: xdma_direction = 0;
/// Card to host.
pub const XDMA_C2H: xdma_direction = 1;

/// A pointer through which a call returns a value.
#[derive(Clone, Copy)]
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// Checks that the pointer is not NULL.
    #[inline(always)]
    pub fn new(pointer: *mut T) -> Result<Self, Failure> {
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self(pointer)),
            None => Err(null("the pointer for the result")),
        }
    }

    /// Stores the value.
    ///
    /// # Safety
    ///
    /// The caller of the C function passed a pointer that is NULL or valid for writes.
    #[inline(always)]
    pub unsafe fn set(self, value: T) {
        // SAFETY: as required of the caller.
        unsafe { self.0.write(value) }
    }

    /// Stores the value as the last step of a call.
    ///
    /// # Safety
    ///
    /// As for [`set`](Self::set).
    #[inline(always)]
    pub unsafe fn put(self, value: T) -> Result<(), Failure> {
        // SAFETY: as required of the caller.
        unsafe { self.set(value) };
        Ok(())
    }
}

#[cold]
#[inline(never)]
pub(crate) fn null(what: &str) -> Failure {
    Failure::new(XDMA_ERROR_NULL, XDMA_REMEDY_CORRECT, format!("{what} is NULL; pass a valid one"))
}

/// The error for an argument with an invalid value.
#[cold]
#[inline(never)]
pub(crate) fn invalid(text: impl fmt::Display) -> Failure {
    Failure::new(XDMA_ERROR_ARGUMENT, XDMA_REMEDY_CORRECT, text.to_string())
}

pub(crate) fn direction(value: xdma_direction) -> Result<Direction, Failure> {
    match value {
        XDMA_H2C => Ok(Direction::H2C),
        XDMA_C2H => Ok(Direction::C2H),
        _ => Err(invalid(format_args!("{value} is not a direction; use XDMA_H2C or XDMA_C2H"))),
    }
}

/// Returns a handle as the pointer that C programs see.
pub(crate) fn handle<H>(handle: u64) -> *mut H {
    ptr::without_provenance_mut(handle as usize)
}

/// Returns a number of bytes or elements as the driver's type.
pub(crate) fn length(count: u64) -> Result<usize, Failure> {
    // Rust limits a slice to this many bytes.
    if count <= isize::MAX as u64 {
        Ok(count as usize)
    } else {
        Err(invalid(format_args!("{count} bytes are too many")))
    }
}

/// Returns the caller's bytes.
///
/// # Safety
///
/// The pointer is NULL or valid for reads of `len` bytes, which nothing else writes during the call.
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: u64) -> Result<&'a [u8], Failure> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(null("the pointer to the data")),
        // SAFETY: as required of the caller.
        _ => Ok(unsafe { std::slice::from_raw_parts(data.cast(), length(len)?) }),
    }
}

/// Returns the caller's bytes for writing.
///
/// # Safety
///
/// The pointer is NULL or valid for writes of `len` bytes, which nothing else accesses during the call. The bytes are initialised, or
/// the result is only written to.
pub(crate) unsafe fn bytes_mut<'a>(data: *mut c_void, len: u64) -> Result<&'a mut [u8], Failure> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(null("the pointer for the data")),
        // SAFETY: as required of the caller.
        _ => Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), length(len)?) }),
    }
}

/// Returns the caller's function as a closure.
///
/// # Safety
///
/// The function may be called with `context` as long as the closure is used, and returns.
pub(crate) unsafe fn callback(
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    context: *mut c_void,
) -> Result<impl FnMut(), Failure> {
    let function = function.ok_or_else(|| null("the function"))?;
    // SAFETY: as required of the caller.
    Ok(move || unsafe { function(context) })
}

/// Checks that the caller's `len` bytes at `data` are not in the `size` bytes of an object at `memory`, from or to which they are copied.
pub(crate) fn check_apart(
    data: *const u8,
    len: usize,
    memory: *const u8,
    size: usize,
) -> Result<(), Failure> {
    let (data, memory) = (data.addr(), memory.addr());
    if data < memory.saturating_add(size) && memory < data.saturating_add(len) {
        return Err(invalid("the data overlaps the memory of the object itself; pass other memory"));
    }
    Ok(())
}

/// Returns the text of a C string.
///
/// # Safety
///
/// The pointer is NULL or points to a string that ends with a zero byte.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(null(what));
    }
    // SAFETY: as required of the caller.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| invalid(format_args!("{what} is not UTF-8: {}", text.to_string_lossy())))
}

/// Stores a text as `snprintf` does: truncated to `capacity` bytes with its zero byte. Stores its whole length in `length`, if that is
/// not NULL.
///
/// # Safety
///
/// `to` is NULL or valid for writes of `capacity` bytes; `length` is NULL or valid for writes.
pub(crate) unsafe fn store_text(
    text: &impl fmt::Display,
    to: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Result<(), Failure> {
    if to.is_null() && capacity > 0 {
        return Err(null("the pointer for the text"));
    }
    let text = text.to_string();
    if capacity > 0 {
        let mut count = text.len().min(capacity - 1);
        while !text.is_char_boundary(count) {
            count -= 1;
        }
        // SAFETY: as required of the caller; `count` is less than the capacity.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), count);
            to.add(count).write(0);
        }
    }
    if let Some(length) = NonNull::new(length) {
        // SAFETY: as required of the caller.
        unsafe { length.write(text.len()) };
    }
    Ok(())
}

/// Options, whose first field, `size`, is the size of the structure that the caller was compiled with.
pub(crate) trait Options: Copy {
    /// Returns the defaults.
    fn new() -> Self;
}

/// Returns the caller's options, or the defaults for NULL.
///
/// # Safety
///
/// The pointer is NULL or valid for reads of the number of bytes that its first field states.
pub(crate) unsafe fn options<O: Options>(pointer: *const O) -> Result<O, Failure> {
    if pointer.is_null() {
        return Ok(O::new());
    }
    // SAFETY: the first field exists in every version of the structure.
    check_size::<O>(unsafe { pointer.cast::<u32>().read() })?;
    // SAFETY: the structure has this size, and all of its fields are integers.
    Ok(unsafe { pointer.read() })
}

/// Checks the size of options that the caller stated.
pub(crate) fn check_size<O: Options>(size: u32) -> Result<(), Failure> {
    let expected = size_of::<O>();
    if size as usize == expected {
        return Ok(());
    }
    let text = format_args!(
        "the options have size {size}, not {expected}: initialise them with their init function, and compile with the header of this \
         version of the library"
    );
    Err(invalid(text))
}
