//! Memory for transfers.

use crate::card::{CARDS, xdma_card};
use crate::children::{Child, Uses};
use crate::error::{Failure, run};
use crate::kind::Kind;
use crate::pointers::{self, Out, handle, invalid, xdma_direction};
use crate::shared::SharedTable;
use crate::status::{XDMA_ERROR_RANGE, XDMA_REMEDY_CORRECT, xdma_status};
use std::ffi::c_void;
use std::ops::Range;
use xdma::memory::{Access, Buffer, DmaMemory, MemoryError};
use xdma::unstable::card::register_raw;
use xdma::unstable::memory::{RawMemory, check_idle, pointer};

/// Memory that a card reads or writes. It belongs to the process; any thread may use it, several at a time.
pub struct xdma_buffer(());

pub(crate) struct BufferObject {
    pub memory: Memory,
    /// The address of the first byte.
    data: *mut u8,
    /// Programs hold references.
    uses: Uses,
    _child: Child,
}

// SAFETY: the pointer is only handed out to C, which is responsible for how threads use it.
unsafe impl Send for BufferObject {}
// SAFETY: as above.
unsafe impl Sync for BufferObject {}

pub(crate) enum Memory {
    Allocated(Buffer),
    /// In a box, so that a buffer that was allocated is found with few instructions.
    Registered(Box<RawMemory>),
}

pub(crate) static BUFFERS: SharedTable<BufferObject, { 1 << 17 }> = SharedTable::new(Kind::Buffer);

impl BufferObject {
    pub fn allocated(buffer: Buffer, child: Child) -> Self {
        // SAFETY: the object holds the buffer. C gets the pointer, which it must not use after it has closed the buffer.
        let data = unsafe { pointer(&buffer) };
        Self { memory: Memory::Allocated(buffer), data, uses: Uses::default(), _child: child }
    }

    /// Returns a reference that a program holds, until which the buffer stays open.
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    fn len(&self) -> u64 {
        match &self.memory {
            Memory::Allocated(buffer) => buffer.byte_len(),
            Memory::Registered(memory) => memory.byte_len(),
        }
    }

    fn access(&self) -> Access {
        match &self.memory {
            Memory::Allocated(buffer) => buffer.access(),
            Memory::Registered(memory) => memory.access(),
        }
    }

    /// Checks that the caller's data are not in the buffer itself.
    fn check_apart(&self, data: &[u8]) -> Result<(), Failure> {
        pointers::check_apart(data.as_ptr(), data.len(), self.data, self.len() as usize)
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), Failure> {
        self.check_apart(to)?;
        match &self.memory {
            Memory::Allocated(buffer) => buffer.read(offset, to)?,
            Memory::Registered(memory) => memory.read(offset, to)?,
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Failure> {
        let end = offset.saturating_add(from.len() as u64);
        if self.access() == Access::CardWrites {
            return Err(invalid(
                "the card writes this buffer, so the program only reads it; allocate one for H2C",
            ));
        }
        self.check_apart(from)?;
        match &mut self.memory {
            Memory::Allocated(buffer) => Ok(buffer.write(offset, from)?),
            Memory::Registered(memory) if end <= memory.byte_len() => {
                // This also checks that no transfer uses the memory.
                memory.synchronize()?;
                // SAFETY: inside the registered memory, as just checked, and apart from the data.
                unsafe { self.data.add(offset as usize).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
                Ok(memory.synchronize()?)
            }
            Memory::Registered(memory) => {
                Err(MemoryError::OutOfRange { start: offset, end, len: memory.byte_len() }.into())
            }
        }
    }
}

/// Returns the range of `size` bytes from `offset` on. The driver checks it against the memory.
#[inline(always)]
pub(crate) fn range(offset: u64, size: u64) -> Result<Range<u64>, Failure> {
    match offset.checked_add(size) {
        Some(end) => Ok(offset..end),
        None => Err(beyond(offset, size)),
    }
}

#[cold]
#[inline(never)]
fn beyond(offset: u64, size: u64) -> Failure {
    let text =
        format!("{size} bytes from offset {offset} on end beyond 2^64; pass a range inside of the buffer");
    Failure::new(XDMA_ERROR_RANGE, XDMA_REMEDY_CORRECT, text)
}

/// What a buffer is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_buffer_info {
    /// Size in bytes.
    pub size: u64,
    /// Number of bytes that are staged, which xdma_buffer_sync copies; 0 for allocated buffers.
    pub staged: u64,
    /// Whether the buffer was registered, not allocated.
    pub registered: bool,
    /// Its direction: XDMA_H2C or XDMA_C2H.
    pub direction: xdma_direction,
}

/// Allocates `size` zeroed bytes for transfers in a direction, aligned to 64 bytes, and stores the handle in `buffer`.
///
/// A buffer is for transfers of its card and direction only. Close it with xdma_buffer_close. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT if `size` is 0 or the direction is invalid;
/// XDMA_ERROR_MEMORY; XDMA_ERROR_GONE; XDMA_ERROR_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_buffer_allocate(
    card: *mut xdma_card,
    size: u64,
    direction: xdma_direction,
    buffer: *mut *mut xdma_buffer,
) -> xdma_status {
    run(|| {
        let (buffer, card) = (Out::new(buffer)?, CARDS.get(card)?);
        let memory = card.card.allocate(size, pointers::direction(direction)?)?;
        let object = BufferObject::allocated(memory, card.child(Kind::Buffer));
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { buffer.put(handle(BUFFERS.insert(object)?)) }
    })
}

/// Makes `size` bytes of the caller's memory at `data` accessible to the card for transfers in a direction, and stores the handle in
/// `buffer`.
///
/// Whole pages are pinned and used in place if the bus can pin memory; the rest, and on other buses everything, is staged in memory of the
/// driver (xdma_buffer_info.staged). Call xdma_buffer_sync after changing the bytes and before an H2C transfer, and after a C2H transfer
/// before reading them. Any alignment is allowed; aligned to a page is best.
///
/// The memory stays the caller's. It must stay allocated until xdma_buffer_close has succeeded. Any thread may call this.
///
/// Errors: as xdma_buffer_allocate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_buffer_register(
    card: *mut xdma_card,
    data: *mut c_void,
    size: u64,
    direction: xdma_direction,
    buffer: *mut *mut xdma_buffer,
) -> xdma_status {
    run(|| {
        let (buffer, card) = (Out::new(buffer)?, CARDS.get(card)?);
        let direction = pointers::direction(direction)?;
        if data.is_null() {
            return Err(pointers::null("the pointer to the memory"));
        }
        pointers::length(size)?;
        if data.addr().checked_add(size as usize).is_none() {
            return Err(invalid(format_args!("{size} bytes at {data:p} end beyond the address space")));
        }
        let data = data.cast();
        // SAFETY: the caller keeps the memory allocated until the buffer is closed, which releases it, and does not access it during
        // calls with the buffer that copy it. The object is dropped only when the buffer is closed.
        let memory = unsafe { register_raw(&card.card, data, size, direction)? };
        let object = BufferObject {
            memory: Memory::Registered(Box::new(memory)),
            data,
            uses: Uses::default(),
            _child: card.child(Kind::Buffer),
        };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { buffer.put(handle(insert_registered(object)?)) }
    })
}

/// Stores registered memory. If there is no free handle, takes it from the card again before the object is dropped.
fn insert_registered(object: BufferObject) -> Result<u64, Failure> {
    BUFFERS.insert_or(object, |object| {
        if let Memory::Registered(memory) = &object.memory
            && memory.release().is_err()
        {
            // The card keeps the memory, so the object must not be dropped.
            std::mem::forget(object);
        }
    })
}

/// Stores the size and kind of a buffer in `info`.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_buffer_get_info(
    buffer: *const xdma_buffer,
    info: *mut xdma_buffer_info,
) -> xdma_status {
    run(|| {
        let (info, buffer) = (Out::new(info)?, BUFFERS.get(buffer)?);
        let (staged, registered) = match &buffer.memory {
            Memory::Allocated(_) => (0, false),
            Memory::Registered(memory) => (memory.staged_bytes(), true),
        };
        let direction = match buffer.access() {
            Access::CardReads => pointers::XDMA_H2C,
            Access::CardWrites => pointers::XDMA_C2H,
        };
        let value = xdma_buffer_info { size: buffer.len(), staged, registered, direction };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { info.put(value) }
    })
}

/// Stores the address of a buffer's first byte in `data`, to fill or read it in place.
///
/// An allocated buffer is aligned to 64 bytes; the address is valid until the buffer is closed. For a registered buffer this is the
/// caller's own pointer. Write to the memory of an H2C buffer only while no transfer uses it, and read what a card writes only after the
/// transfer is finished; the library cannot check this.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_buffer_get_data(
    buffer: *const xdma_buffer,
    data: *mut *mut c_void,
) -> xdma_status {
    run(|| {
        let (data, buffer) = (Out::new(data)?, BUFFERS.get(buffer)?);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { data.put(buffer.data.cast()) }
    })
}

/// Copies `size` bytes at `data` to byte `offset` of an H2C buffer, with any alignment.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_ARGUMENT for a C2H buffer, or if `data` is in the
/// buffer itself; XDMA_ERROR_RANGE; XDMA_ERROR_IN_FLIGHT while a transfer uses the buffer; XDMA_ERROR_BUSY while another thread is in a
/// call with the buffer. Nothing is copied then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_buffer_write(
    buffer: *mut xdma_buffer,
    offset: u64,
    data: *const c_void,
    size: u64,
) -> xdma_status {
    run(|| {
        // SAFETY: the caller passes NULL or a valid pointer.
        let data = unsafe { pointers::bytes(data, size)? };
        BUFFERS.exclusive(buffer)?.write(offset, data)
    })
}

/// Copies `size` bytes from byte `offset` of a buffer to `data`, with any alignment.
///
/// What a card writes is complete once its transfer is finished. Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE,
/// XDMA_ERROR_BUSY, XDMA_ERROR_RANGE; XDMA_ERROR_ARGUMENT if `data` is in the buffer itself. Nothing is copied then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_buffer_read(
    buffer: *const xdma_buffer,
    offset: u64,
    data: *mut c_void,
    size: u64,
) -> xdma_status {
    run(|| {
        // SAFETY: the caller passes NULL or a valid pointer, and the bytes are only written to.
        let data = unsafe { pointers::bytes_mut(data, size)? };
        BUFFERS.get(buffer)?.read(offset, data)
    })
}

/// Copies between the caller's memory and the staged parts of a registered buffer: to the card's side for H2C, from it for C2H.
///
/// Without staged parts, and for allocated buffers, this copies nothing. Any thread may call this; meanwhile nothing else may access the
/// memory.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_FLIGHT while a transfer uses the buffer; XDMA_ERROR_BUSY while another thread
/// is in a call with the buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_buffer_sync(buffer: *mut xdma_buffer) -> xdma_status {
    run(|| {
        match &mut BUFFERS.exclusive(buffer)?.memory {
            Memory::Allocated(buffer) => check_idle(buffer)?,
            Memory::Registered(memory) => memory.synchronize()?,
        }
        Ok(())
    })
}

/// Closes a buffer. After success the card has no access to registered memory, which the caller may free, and the address of an allocated
/// buffer is not valid any more.
///
/// Close programs that use the buffer first. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_USE while a program that uses the buffer is open; XDMA_ERROR_IN_FLIGHT while
/// a transfer uses the buffer; XDMA_ERROR_BUSY while another thread
/// is in a call with the buffer; XDMA_ERROR_MEMORY if registered memory cannot be unmapped. The buffer then stays open, and registered
/// memory must stay allocated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_buffer_close(buffer: *mut xdma_buffer) -> xdma_status {
    run(|| {
        let buffer = BUFFERS.exclusive(buffer)?;
        buffer.uses.check_none("program", "buffer")?;
        match &buffer.memory {
            Memory::Allocated(buffer) => match check_idle(buffer) {
                // Memory in quarantine stays allocated.
                Ok(()) | Err(MemoryError::Quarantined) => {}
                Err(error) => return Err(error.into()),
            },
            Memory::Registered(memory) => memory.release()?,
        }
        drop(buffer.close());
        Ok(())
    })
}
