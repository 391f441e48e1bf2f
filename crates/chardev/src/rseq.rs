//! The restartable sequences of the broker's threads, on x86-64.

#![allow(unsafe_code, reason = "a system call that has no safe interface")]
#![cfg(target_arch = "x86_64")]

use nix::libc::{self, RTLD_DEFAULT, c_char, c_uint, c_void, dlsym};

/// Size of the structure that glibc registers, unless the kernel's is larger.
const SIZE: c_uint = 32;
/// The signature that glibc passes on x86-64.
const SIGNATURE: c_uint = 0x5305_3053;
const UNREGISTER: c_uint = 1;

/// Unregisters the structure in which the kernel stores the processor of this thread.
///
/// glibc registers one for each thread. The kernel updates it whenever the thread is scheduled again, which would be twice in each
/// call of a client. Only `sched_getcpu` uses the structure: unregistering stores -1 in it, so glibc asks the kernel instead
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
