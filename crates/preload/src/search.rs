//! `glob` and `scandir`, whose calls inside the C library this library cannot intercept.

use crate::listing::{closedir, is_listed, opendir, readdir64};
use crate::status::{lstat, stat};
use crate::{errno, real};
use libc::{DIR, c_char, c_int, c_void, dirent64};
use std::ffi::CStr;

/// The C library's `glob_t`.
#[repr(C)]
pub struct Glob {
    results: [usize; 3],
    flags: c_int,
    closedir: unsafe extern "C" fn(*mut DIR) -> c_int,
    readdir: unsafe extern "C" fn(*mut DIR) -> *mut dirent64,
    opendir: unsafe extern "C" fn(*const c_char) -> *mut DIR,
    lstat: unsafe extern "C" fn(*const c_char, *mut libc::stat) -> c_int,
    stat: unsafe extern "C" fn(*const c_char, *mut libc::stat) -> c_int,
}

/// `GLOB_ALTDIRFUNC`: the search uses the functions in the structure.
const OWN_FUNCTIONS: c_int = 1 << 9;

pub type Error = Option<unsafe extern "C" fn(*const c_char, c_int) -> c_int>;
pub type Filter = Option<unsafe extern "C" fn(*const dirent64) -> c_int>;
pub type Compare = Option<unsafe extern "C" fn(*mut *const dirent64, *mut *const dirent64) -> c_int>;

/// Defines the variants of `glob`.
macro_rules! glob {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(pattern: *const c_char, flags: c_int, error: Error, result: *mut Glob) -> c_int {
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe {
                let is_dev = CStr::from_ptr(pattern).to_bytes().starts_with(b"/dev/");
                if !is_dev || flags & OWN_FUNCTIONS != 0 {
                    return real::glob(pattern, flags, error, result);
                }
                (*result).closedir = closedir;
                (*result).readdir = readdir64;
                (*result).opendir = opendir;
                (*result).lstat = lstat;
                (*result).stat = stat;
                real::glob(pattern, flags | OWN_FUNCTIONS, error, result)
            }
        }
    )*};
}

glob! { glob glob64 }

/// Lists `/dev` with the functions of this library.
unsafe fn scan(
    path: *const c_char,
    result: *mut *mut *mut dirent64,
    filter: Filter,
    compare: Compare,
) -> c_int {
    // SAFETY: the caller's contract is that of the C library's function. The caller frees the entries and the array.
    unsafe {
        let directory = opendir(path);
        if directory.is_null() {
            return -1;
        }
        let mut entries: Vec<*mut dirent64> = vec![];
        loop {
            let entry = readdir64(directory);
            if entry.is_null() {
                break;
            }
            if filter.is_none_or(|filter| filter(entry) != 0) {
                let size = usize::from((*entry).d_reclen);
                let copy = libc::malloc(size);
                if !copy.is_null() {
                    std::ptr::copy_nonoverlapping(entry.cast::<u8>(), copy.cast(), size);
                }
                entries.push(copy.cast());
            }
        }
        closedir(directory);
        let bytes = size_of_val(&entries[..]);
        let array: *mut c_void = libc::malloc(bytes.max(1));
        if array.is_null() || entries.iter().any(|entry| entry.is_null()) {
            entries.iter().for_each(|entry| libc::free(entry.cast()));
            libc::free(array);
            return errno::fail(libc::ENOMEM);
        }
        std::ptr::copy_nonoverlapping(entries.as_ptr().cast::<u8>(), array.cast(), bytes);
        if let Some(compare) = compare {
            let compare = std::mem::transmute::<
                unsafe extern "C" fn(*mut *const dirent64, *mut *const dirent64) -> c_int,
                unsafe extern "C" fn(*const c_void, *const c_void) -> c_int,
            >(compare);
            libc::qsort(array, entries.len(), size_of::<*mut dirent64>(), Some(compare));
        }
        *result = array.cast();
        entries.len() as c_int
    }
}

/// Defines the variants of `scandir`.
macro_rules! scandir {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            path: *const c_char,
            result: *mut *mut *mut dirent64,
            filter: Filter,
            compare: Compare,
        ) -> c_int {
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe {
                match is_listed(CStr::from_ptr(path)) {
                    true => scan(path, result, filter, compare),
                    false => real::$name(path, result, filter, compare),
                }
            }
        }
    )*};
}

scandir! { scandir scandir64 }
