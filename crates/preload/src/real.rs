//! The original functions that this library replaces, as defined by the next library in the search order.

use crate::search::{Compare, Error, Filter, Glob};
use libc::{c_char, c_int, c_void};
use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A function of the C library, looked up on first use.
pub struct Real {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Real {
    pub const fn new(name: &'static CStr) -> Self {
        Self { name, address: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Returns the address of the function. Terminates the program if the function does not exist.
    pub fn address(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            missing(self.name);
        }
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

fn missing(name: &CStr) -> ! {
    for text in [c"xdma: the C library has no function ", name, c"\n"] {
        // SAFETY: the text is valid for the call.
        unsafe { libc::syscall(libc::SYS_write, 2, text.as_ptr(), text.to_bytes().len()) };
    }
    // SAFETY: the process needs no cleanup.
    unsafe { libc::_exit(127) }
}

/// Defines functions that call the original ones.
macro_rules! real {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        /// Calls the function of the C library.
        ///
        /// # Safety
        ///
        /// The contract is that of the C library function.
        pub unsafe fn $name($($argument: $type),*) $(-> $result)? {
            static REAL: Real = Real::new(match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("a function name contains no NUL byte"),
            });
            // SAFETY: the C library defines the function with these arguments.
            unsafe {
                let function: unsafe extern "C" fn($($type),*) $(-> $result)? = std::mem::transmute(REAL.address());
                function($($argument),*)
            }
        }
    )*};
}

real! {
    open(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int;
    openat(dir: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int;
    read(fd: c_int, buffer: *mut c_void, count: usize) -> isize;
    write(fd: c_int, buffer: *const c_void, count: usize) -> isize;
    pread64(fd: c_int, buffer: *mut c_void, count: usize, offset: i64) -> isize;
    pwrite64(fd: c_int, buffer: *const c_void, count: usize, offset: i64) -> isize;
    readv(fd: c_int, parts: *const libc::iovec, count: c_int) -> isize;
    writev(fd: c_int, parts: *const libc::iovec, count: c_int) -> isize;
    preadv64(fd: c_int, parts: *const libc::iovec, count: c_int, offset: i64) -> isize;
    pwritev64(fd: c_int, parts: *const libc::iovec, count: c_int, offset: i64) -> isize;
    preadv64v2(fd: c_int, parts: *const libc::iovec, count: c_int, offset: i64, flags: c_int) -> isize;
    pwritev64v2(fd: c_int, parts: *const libc::iovec, count: c_int, offset: i64, flags: c_int) -> isize;
    lseek64(fd: c_int, offset: i64, whence: c_int) -> i64;
    ioctl(fd: c_int, request: libc::c_ulong, argument: *mut c_void) -> c_int;
    mmap64(address: *mut c_void, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    close(fd: c_int) -> c_int;
    close_range(first: libc::c_uint, last: libc::c_uint, flags: c_int) -> c_int;
    dup(fd: c_int) -> c_int;
    dup2(from: c_int, to: c_int) -> c_int;
    dup3(from: c_int, to: c_int, flags: c_int) -> c_int;
    fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int;
    epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int;
    sendfile64(to: c_int, from: c_int, offset: *mut i64, count: usize) -> isize;
    splice(from: c_int, from_at: *mut i64, to: c_int, to_at: *mut i64, count: usize, flags: libc::c_uint) -> isize;
    copy_file_range(from: c_int, from_at: *mut i64, to: c_int, to_at: *mut i64, count: usize, flags: libc::c_uint) -> isize;
    stat(path: *const c_char, status: *mut libc::stat) -> c_int;
    lstat(path: *const c_char, status: *mut libc::stat) -> c_int;
    fstat(fd: c_int, status: *mut libc::stat) -> c_int;
    fstatat(dir: c_int, path: *const c_char, status: *mut libc::stat, flags: c_int) -> c_int;
    statx(dir: c_int, path: *const c_char, flags: c_int, mask: libc::c_uint, status: *mut libc::statx) -> c_int;
    access(path: *const c_char, mode: c_int) -> c_int;
    faccessat(dir: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int;
    malloc(size: usize) -> *mut c_void;
    calloc(count: usize, size: usize) -> *mut c_void;
    realloc(memory: *mut c_void, size: usize) -> *mut c_void;
    free(memory: *mut c_void);
    posix_memalign(result: *mut *mut c_void, align: usize, size: usize) -> c_int;
    aligned_alloc(align: usize, size: usize) -> *mut c_void;
    memalign(align: usize, size: usize) -> *mut c_void;
    malloc_usable_size(memory: *mut c_void) -> usize;
    memfd_create(name: *const c_char, flags: libc::c_uint) -> c_int;
    madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    munmap(address: *mut c_void, length: usize) -> c_int;
    mprotect(address: *mut c_void, length: usize, protection: c_int) -> c_int;
    pkey_mprotect(address: *mut c_void, length: usize, protection: c_int, key: c_int) -> c_int;
    mremap(address: *mut c_void, length: usize, new: usize, flags: c_int, to: *mut c_void) -> *mut c_void;
    pthread_cancel(thread: libc::pthread_t) -> c_int;
    shmat(segment: c_int, address: *const c_void, flags: c_int) -> *mut c_void;
    shmdt(address: *const c_void) -> c_int;
    fileno(stream: *mut libc::FILE) -> c_int;
    fileno_unlocked(stream: *mut libc::FILE) -> c_int;
    fopen(path: *const c_char, mode: *const c_char) -> *mut libc::FILE;
    fread(to: *mut c_void, size: usize, count: usize, stream: *mut libc::FILE) -> usize;
    fread_unlocked(to: *mut c_void, size: usize, count: usize, stream: *mut libc::FILE) -> usize;
    aio_read(request: *mut libc::aiocb) -> c_int;
    aio_read64(request: *mut libc::aiocb) -> c_int;
    aio_write(request: *mut libc::aiocb) -> c_int;
    aio_write64(request: *mut libc::aiocb) -> c_int;
    lio_listio(mode: c_int, requests: *const *mut libc::aiocb, count: c_int, event: *mut libc::sigevent) -> c_int;
    lio_listio64(mode: c_int, requests: *const *mut libc::aiocb, count: c_int, event: *mut libc::sigevent) -> c_int;
    execvpe(path: *const c_char, arguments: *const *const c_char, environment: *const *const c_char) -> c_int;
    execve(path: *const c_char, arguments: *const *const c_char, environment: *const *const c_char) -> c_int;
    fexecve(fd: c_int, arguments: *const *const c_char, environment: *const *const c_char) -> c_int;
    execv(path: *const c_char, arguments: *const *const c_char) -> c_int;
    execvp(path: *const c_char, arguments: *const *const c_char) -> c_int;
    posix_spawn(process: *mut libc::pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void, arguments: *const *const c_char, environment: *const *const c_char) -> c_int;
    posix_spawnp(process: *mut libc::pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void, arguments: *const *const c_char, environment: *const *const c_char) -> c_int;
    syscall(number: libc::c_long, a: libc::c_long, b: libc::c_long, c: libc::c_long, d: libc::c_long, e: libc::c_long, f: libc::c_long) -> libc::c_long;
    opendir(path: *const c_char) -> *mut libc::DIR;
    fdopendir(fd: c_int) -> *mut libc::DIR;
    readdir64(directory: *mut libc::DIR) -> *mut libc::dirent64;
    rewinddir(directory: *mut libc::DIR);
    closedir(directory: *mut libc::DIR) -> c_int;
    freopen(path: *const c_char, mode: *const c_char, stream: *mut libc::FILE) -> *mut libc::FILE;
    posix_spawn_file_actions_addopen(actions: *mut c_void, fd: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int;
    posix_spawn_file_actions_adddup2(actions: *mut c_void, from: c_int, to: c_int) -> c_int;
    posix_spawn_file_actions_destroy(actions: *mut c_void) -> c_int;
    glob(pattern: *const c_char, flags: c_int, error: Error, result: *mut Glob) -> c_int;
    scandir(path: *const c_char, result: *mut *mut *mut libc::dirent64, filter: Filter, compare: Compare) -> c_int;
    scandir64(path: *const c_char, result: *mut *mut *mut libc::dirent64, filter: Filter, compare: Compare) -> c_int;
    fdopen(fd: c_int, mode: *const c_char) -> *mut libc::FILE;
}
