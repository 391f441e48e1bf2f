//! Interrupts.

use crate::card::{CARDS, CardObject, xdma_card};
use crate::children::Child;
use crate::error::{Failure, run};
use crate::kind::Kind;
use crate::pointers::{self, Out, handle, xdma_direction};
use crate::shared::{Shared, SharedTable};
use crate::status::xdma_status;
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;
use xdma::card::{Interrupt, Source};

/// An enabled interrupt. It belongs to the process; any thread may use it, several at a time.
pub struct xdma_interrupt(());

pub(crate) struct InterruptObject {
    interrupt: Interrupt,
    _child: Child,
}

pub(crate) static INTERRUPTS: SharedTable<InterruptObject, 4096> = SharedTable::new(Kind::Interrupt);

fn open(card: Shared<'_, CardObject>, source: Source, out: Out<*mut xdma_interrupt>) -> Result<(), Failure> {
    let object =
        InterruptObject { interrupt: card.card.interrupt(source)?, _child: card.child(Kind::Interrupt) };
    // SAFETY: the caller passes NULL or a valid pointer.
    unsafe { out.put(handle(INTERRUPTS.insert(object)?)) }
}

/// Enables the interrupt of line `line`, 0 to 15, of the user logic, and stores the handle in `interrupt`.
///
/// The logic holds its line until the interrupt is acknowledged in a way that the logic defines: acknowledge first, then look for work.
/// Close it with xdma_interrupt_close. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT for a line above 15; XDMA_ERROR_UNSUPPORTED if the card
/// has no interrupts; XDMA_ERROR_GONE, XDMA_ERROR_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_interrupt_open_user(
    card: *mut xdma_card,
    line: u32,
    interrupt: *mut *mut xdma_interrupt,
) -> xdma_status {
    run(|| {
        let out = Out::new(interrupt)?;
        open(CARDS.get(card)?, Source::User(line as usize), out)
    })
}

/// Enables the interrupt of a channel that was opened with xdma_channel_options.interrupt, and stores the handle in `interrupt`.
///
/// Everything else is as with xdma_interrupt_open_user.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_interrupt_open_channel(
    card: *mut xdma_card,
    direction: xdma_direction,
    number: u32,
    interrupt: *mut *mut xdma_interrupt,
) -> xdma_status {
    run(|| {
        let out = Out::new(interrupt)?;
        let source = Source::Channel(pointers::direction(direction)?, number as usize);
        open(CARDS.get(card)?, source, out)
    })
}

/// Stores the file descriptor of an interrupt in `descriptor`. It becomes readable when the interrupt fires, for poll, select and epoll.
///
/// Do not read from it: xdma_interrupt_take does, and enables the interrupt again. Do not close it: it is valid until xdma_interrupt_close.
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_interrupt_get_fd(
    interrupt: *const xdma_interrupt,
    descriptor: *mut c_int,
) -> xdma_status {
    run(|| {
        let (out, interrupt) = (Out::new(descriptor)?, INTERRUPTS.get(interrupt)?);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(interrupt.interrupt.as_fd().as_raw_fd()) }
    })
}

/// Stores in `count` how often the interrupt has fired since the last call, which may be 0, and enables it again. Does not block.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_interrupt_take(
    interrupt: *const xdma_interrupt,
    count: *mut u64,
) -> xdma_status {
    run(|| {
        let (out, interrupt) = (Out::new(count)?, INTERRUPTS.get(interrupt)?);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(interrupt.interrupt.take()) }
    })
}

/// Sleeps until the interrupt fires, for at most `timeout` nanoseconds. Stores in `count` how often it has fired since the last call; 0 if
/// the time limit expired, which is not an error.
///
/// Signals do not end the wait. Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY, XDMA_ERROR_HOST.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_interrupt_wait(
    interrupt: *const xdma_interrupt,
    timeout: u64,
    count: *mut u64,
) -> xdma_status {
    run(|| {
        let (out, interrupt) = (Out::new(count)?, INTERRUPTS.get(interrupt)?);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(interrupt.interrupt.wait(Duration::from_nanos(timeout))?) }
    })
}

/// Disables an interrupt and closes its file descriptor, after the last handle for it.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_BUSY while another thread waits for the interrupt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_interrupt_close(interrupt: *mut xdma_interrupt) -> xdma_status {
    run(|| {
        drop(INTERRUPTS.exclusive(interrupt)?.close());
        Ok(())
    })
}
