//! A thread of this process as the caller of a device file.

use crate::copy::copy;
use crate::ranges::Known;
use crate::{cancel, explain, heap};
use libc::c_int;
use std::cell::Cell;
use std::mem::MaybeUninit;
use xdma::card::Card;
use xdma::memory::{Buffer, DmaMemory};
use xdma::regs::Direction;
use xdma::unstable::memory::pointer;
use xdma_chardev::{Caller, Errno, InPlace};

/// Page size for probing memory.
const PAGE: u64 = 4096;
/// Signals that are never blocked: they report errors of the thread itself.
const ERRORS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGSYS];
/// Signals that are ignored by default, and those that stop the process by default.
const IGNORED: [i32; 4] = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
/// The highest signal number.
const SIGNALS: i32 = 64;

thread_local! {
    /// What this thread knows in a process that uses the card itself. A connection to the broker has its own.
    static KNOWN: Known = const { Known::new() };
}

/// The calling thread.
#[derive(Default)]
pub struct Own {
    signals: Signals,
}

/// The signals of a waiting thread. They are blocked, so that none is missed and each can be examined before its handler runs.
#[derive(Default)]
pub struct Signals {
    /// The thread's signal mask before it had to wait.
    mask: Cell<Option<libc::sigset_t>>,
}

/// The effect of a pending signal on a waiting call.
enum Effect {
    None,
    /// A handler with `SA_RESTART`, or a stop: the call continues.
    Continues,
    Interrupts,
}

impl Caller for Own {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the slice has that many bytes.
        let copied = KNOWN.with(|known| unsafe { copy_in(known, address, to.as_mut_ptr(), to.len() as u64) });
        copied.map_err(Errno::from_raw_os_error)
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        // SAFETY: as above.
        let copied =
            KNOWN.with(|known| unsafe { copy_out(known, address, from.as_ptr(), from.len() as u64) });
        copied.map_err(Errno::from_raw_os_error)
    }

    fn copy_out(&self, address: u64, from: &Buffer, length: u64) -> Result<(), Errno> {
        if length > from.byte_len() {
            return Err(Errno::IO);
        }
        // SAFETY: the buffer has that many bytes, and is not used afterwards. No reference to them is made.
        let copied = KNOWN.with(|known| unsafe { copy_out(known, address, pointer(from), length) });
        copied.map_err(Errno::from_raw_os_error)
    }

    fn probe(&self, address: u64, length: u64) -> Result<(), Errno> {
        if KNOWN.with(|known| known.is_readable(address, length)) {
            return Ok(());
        }
        let end = address.checked_add(length).ok_or(Errno::FAULT)?;
        let pages =
            std::iter::once(address).chain((address / PAGE * PAGE + PAGE..end).step_by(PAGE as usize));
        for page in pages {
            kernel_copy(page, [0].as_mut_ptr(), 1, libc::process_vm_readv)
                .map_err(Errno::from_raw_os_error)?;
        }
        KNOWN.with(|known| known.add(address, length, false));
        Ok(())
    }

    fn in_place(&self, card: &Card, address: u64, length: u64, direction: Direction) -> Option<InPlace<'_>> {
        let memory = heap::in_place(card, address as usize, length as usize, direction)?;
        explain::note_in_place();
        Some(memory)
    }

    fn begin_wait(&self) {
        self.signals.block();
    }

    fn is_cancelled(&self) -> bool {
        self.signals.interrupt()
    }
}

impl Signals {
    /// Blocks the thread's signals until this is dropped. Returns the previous mask.
    pub fn block(&self) -> libc::sigset_t {
        self.mask.get().unwrap_or_else(|| {
            let mask = block_signals();
            self.mask.set(Some(mask));
            mask
        })
    }

    /// Returns whether the call is interrupted: by a signal whose handler does not restart calls or that terminates the
    /// process, or by the cancellation of the thread. Runs the handlers of other signals.
    pub fn interrupt(&self) -> bool {
        if cancel::is_requested() {
            return true;
        }
        let mask = self.block();
        let mut continues = false;
        for signal in pending(&mask) {
            match effect(signal) {
                Effect::None => {}
                Effect::Continues => continues = true,
                Effect::Interrupts => return true,
            }
        }
        if continues {
            // The handlers run now.
            set_mask(&mask);
            block_signals();
        }
        false
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(mask) = self.mask.get() {
            set_mask(&mask);
        }
    }
}

/// Runs `body` with this thread's signals blocked. Threads that `body` starts inherit the signal mask.
pub fn with_signals_blocked<R>(body: impl FnOnce() -> R) -> R {
    let mask = block_signals();
    let result = body();
    set_mask(&mask);
    result
}

/// Blocks all signals except those that report errors. Returns the previous mask.
fn block_signals() -> libc::sigset_t {
    let mut before = MaybeUninit::zeroed();
    // SAFETY: the sets are valid for the calls, and initialised by them.
    unsafe {
        let mut all = MaybeUninit::zeroed();
        libc::sigfillset(all.as_mut_ptr());
        for signal in ERRORS {
            libc::sigdelset(all.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: the set is valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

/// Returns the pending signals that are not in `mask`.
fn pending(mask: &libc::sigset_t) -> impl Iterator<Item = i32> {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: the set is initialised by the call.
    let set: libc::sigset_t = unsafe {
        libc::sigpending(set.as_mut_ptr());
        set.assume_init()
    };
    // SAFETY: the sets are valid, and the numbers are those of signals.
    let contains = |set: &libc::sigset_t, signal| unsafe { libc::sigismember(set, signal) == 1 };
    let mask = *mask;
    (1..=SIGNALS).filter(move |signal| contains(&set, *signal) && !contains(&mask, *signal))
}

fn effect(signal: i32) -> Effect {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the structure is valid for the call, and its zeroed state is valid too.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    match action.sa_sigaction {
        libc::SIG_IGN => Effect::None,
        libc::SIG_DFL if IGNORED.contains(&signal) => Effect::None,
        libc::SIG_DFL if STOPS.contains(&signal) => Effect::Continues,
        libc::SIG_DFL => Effect::Interrupts,
        _ if action.sa_flags & libc::SA_RESTART != 0 => Effect::Continues,
        _ => Effect::Interrupts,
    }
}

/// Copies `length` bytes from the program's memory to `to`, or returns `EFAULT`.
///
/// # Safety
///
/// `to` points to `length` bytes of the driver's memory.
#[inline(always)]
pub unsafe fn copy_in(known: &Known, address: u64, to: *mut u8, length: u64) -> Result<(), c_int> {
    if !known.is_readable(address, length) {
        kernel_copy(address, to, length, libc::process_vm_readv)?;
        known.add(address, length, false);
        return Ok(());
    }
    // SAFETY: the program has passed this memory, and it was readable when the kernel last copied it.
    unsafe { copy(address as *const u8, to, length as usize) };
    Ok(())
}

/// Copies `length` bytes from `from` to the program's memory, or returns `EFAULT`.
///
/// # Safety
///
/// `from` points to `length` bytes of the driver's memory.
#[inline(always)]
pub unsafe fn copy_out(known: &Known, address: u64, from: *const u8, length: u64) -> Result<(), c_int> {
    if !known.is_writable(address, length) {
        kernel_copy(address, from.cast_mut(), length, libc::process_vm_writev)?;
        known.add(address, length, true);
        return Ok(());
    }
    // SAFETY: the program has passed this memory for the result of its call, and it was writable when the kernel last copied to
    // it.
    unsafe { copy(from, address as *mut u8, length as usize) };
    Ok(())
}

type Copy = unsafe extern "C" fn(
    libc::pid_t,
    *const libc::iovec,
    libc::c_ulong,
    *const libc::iovec,
    libc::c_ulong,
    libc::c_ulong,
) -> libc::ssize_t;

/// Lets the kernel copy between the program's memory and the driver's, because the kernel checks the program's address.
fn kernel_copy(address: u64, own: *mut u8, length: u64, copy: Copy) -> Result<(), c_int> {
    let len = length as usize;
    let local = libc::iovec { iov_base: own.cast(), iov_len: len };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len };
    // SAFETY: `own` is valid for `length` bytes; the kernel checks the other address.
    let copied = unsafe { copy(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    if copied == len as isize { Ok(()) } else { Err(libc::EFAULT) }
}
