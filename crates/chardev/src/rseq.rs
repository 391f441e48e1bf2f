//! The restartable sequences of the broker's threads, on x86-64.

#![allow(unsafe_code, reason = "a system call that has no safe interface")]
#![cfg(target_arch = "x86_64")]

use nix::libc::{self, RTLD_DEFAULT, c_char, c_uint, c_void, dlsym};

/// The size of the structure that glibc registers, unless the kernel's is larger, and the signature that it passes on x86-64.
const SIZE: c_uint = 32;
const SIGNATURE: c_uint = 0x5305_3053;
const UNREGISTER: c_uint = 1;

/// Unregisters the structure in which the kernel stores the processor of this thread.
///
/// glibc registers one for each thread, and the kernel then updates it whenever the thread runs again, which would be twice in each
/// call of a client. Only `sched_getcpu` uses the structure: the kernel stores -1 in it now, and glibc then asks the kernel instead
/// (`sysdeps/unix/sysv/linux/sched_getcpu.c`). If the thread cannot unregister it, nothing changes.
pub(crate) fn unregister() {
    // SAFETY: the symbols are those of glibc, whose variable is an offset from the thread pointer. The structure at this offset is
    // the one that glibc has registered, or the kernel rejects the call.
    unsafe {
        let offset: *const isize = dlsym(RTLD_DEFAULT, c"__rseq_offset".as_ptr().cast::<c_char>()).cast();
        let Some(offset) = offset.as_ref() else { return };
        let thread: *mut c_void;
        std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly, preserves_flags));
        libc::syscall(libc::SYS_rseq, thread.byte_offset(*offset), SIZE, UNREGISTER, SIGNATURE);
    }
}
