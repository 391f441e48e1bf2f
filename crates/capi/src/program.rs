//! Lists of transfers, and programs built from them.

use crate::buffer::{BUFFERS, Memory, range, xdma_buffer};
use crate::channel::{CHANNELS, xdma_channel, xdma_ticket};
use crate::children::{Child, Uses};
use crate::error::{Failure, run};
use crate::kind::Kind;
use crate::pointers::{Out, handle, invalid, length, null};
use crate::shared::SharedTable;
use crate::status::xdma_status;
use std::collections::HashMap;
use xdma::channel::{Channel, Program, Transfers};

/// A prebuilt chain of descriptors, which runs any number of times. It belongs to the process; any thread may use it.
pub struct xdma_program(());

pub(crate) struct ProgramObject {
    program: Program,
    _uses: Vec<Uses>,
    _child: Child,
}

pub(crate) static PROGRAMS: SharedTable<ProgramObject, { 1 << 15 }> = SharedTable::new(Kind::Program);

/// One transfer of a list: `size` bytes between byte `offset` of `buffer` and the card addresses from `card_address` on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_segment {
    /// The buffer.
    pub buffer: *const xdma_buffer,
    /// First byte in the buffer.
    pub offset: u64,
    /// Number of bytes, not 0.
    pub size: u64,
    /// First card address. Ignored on a stream.
    pub card_address: u64,
}

/// Returns the segments as a list of transfers, and a reference to each buffer.
///
/// # Safety
///
/// The pointer is NULL or valid for reads of `count` segments.
unsafe fn transfers(
    channel: &Channel,
    segments: *const xdma_segment,
    count: usize,
) -> Result<(Transfers, Vec<Uses>), Failure> {
    if count > 0 && segments.is_null() {
        return Err(null("the list of segments"));
    }
    length((count as u64).saturating_mul(size_of::<xdma_segment>() as u64))?;
    let (mut list, mut uses) = (Transfers::new(channel.direction()), HashMap::new());
    for index in 0..count {
        // SAFETY: as required of the caller.
        let xdma_segment { buffer, offset, size, card_address } = unsafe { segments.add(index).read() };
        let buffer = BUFFERS.get(buffer)?;
        let added = match &buffer.memory {
            Memory::Allocated(memory) => list.add(memory, range(offset, size)?, card_address),
            Memory::Registered(memory) => list.add(&**memory, range(offset, size)?, card_address),
        };
        added?;
        uses.entry(buffer.uses().id()).or_insert_with(|| buffer.uses().clone());
    }
    Ok((list, uses.into_values().collect()))
}

/// Starts `count` transfers as one, and stores the ticket for all of them in `ticket`.
///
/// All descriptors must be free in the ring at once; build a program for more. Only the channel's thread may call this.
///
/// Errors: as xdma_submit; XDMA_ERROR_ARGUMENT if `count` is 0, if the ring is smaller than the list, or if two C2H transfers write the
/// same memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_submit_list(
    channel: *mut xdma_channel,
    segments: *const xdma_segment,
    count: usize,
    ticket: *mut xdma_ticket,
) -> xdma_status {
    run(|| {
        let (ticket, channel) = (Out::new(ticket)?, CHANNELS.get(channel)?.channel());
        // SAFETY: the caller passes NULL or a valid pointer.
        let (list, uses) = unsafe { transfers(channel, segments, count)? };
        let submitted = channel.start(&list)?;
        drop(uses);
        // SAFETY: as above.
        unsafe { ticket.put(submitted.into()) }
    })
}

/// Builds a program of `count` transfers for a channel, and stores the handle in `program`.
///
/// The program runs on channels of the same card, direction and ring. On a stream that sends, it is one packet. The list is not used after
/// the call. The buffers cannot be closed while the program is open. Close it with xdma_program_close.
///
/// Only the channel's thread may call this. Errors: as xdma_submit_list; XDMA_ERROR_MEMORY, XDMA_ERROR_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_program_build(
    channel: *mut xdma_channel,
    segments: *const xdma_segment,
    count: usize,
    program: *mut *mut xdma_program,
) -> xdma_status {
    run(|| {
        let (out, object) = (Out::new(program)?, CHANNELS.get(channel)?);
        if count == 0 {
            return Err(invalid("the list of segments is empty; add a segment"));
        }
        let child = object.child(Kind::Program);
        let channel = object.channel();
        // SAFETY: the caller passes NULL or a valid pointer.
        let (list, uses) = unsafe { transfers(channel, segments, count)? };
        let object = ProgramObject { program: channel.program(&list)?, _uses: uses, _child: child };
        // SAFETY: as above.
        unsafe { out.put(handle(PROGRAMS.insert(object)?)) }
    })
}

/// Starts a program, and stores the ticket of the run in `ticket`.
///
/// The call does not block, and touches no descriptor. Only the channel's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_BUSY; XDMA_ERROR_FULL; XDMA_ERROR_FOREIGN if the program was
/// built for another card, direction or ring; XDMA_ERROR_ENGINE, XDMA_ERROR_GONE, XDMA_ERROR_RECALLED. Nothing was started then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_program_run(
    channel: *mut xdma_channel,
    program: *const xdma_program,
    ticket: *mut xdma_ticket,
) -> xdma_status {
    run(|| {
        let ticket = Out::new(ticket)?;
        let channel = CHANNELS.get(channel)?.channel();
        let submitted = channel.run(&PROGRAMS.get(program)?.program)?;
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { ticket.put(submitted.into()) }
    })
}

/// Closes a program. Runs in flight continue.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_BUSY while another thread is starting the program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_program_close(program: *mut xdma_program) -> xdma_status {
    run(|| {
        drop(PROGRAMS.exclusive(program)?.close());
        Ok(())
    })
}
