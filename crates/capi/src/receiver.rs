//! Streams that receive.

use crate::card::{CARDS, xdma_card};
use crate::channel::{xdma_channel_options, xdma_help};
use crate::children::Child;
use crate::error::{Failure, call, run};
use crate::kind::Kind;
use crate::owned::OwnedTable;
use crate::pointers::{self, Options, Out, handle};
use crate::status::{XDMA_ERROR_FOREIGN, XDMA_OK, XDMA_PENDING, XDMA_REMEDY_CORRECT, xdma_status};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use xdma::channel::stream::{Discard, Received, Receiver, ReceiverOptions};

/// An open C2H stream channel with its receive buffers. It belongs to a thread, as an xdma_channel does.
pub struct xdma_receiver(());

pub(crate) struct ReceiverObject {
    receiver: Receiver,
    /// The blocks that the program holds. A number is that of a place, plus a multiple of the number of places that differs each time.
    blocks: Vec<Option<(u64, Received)>>,
    /// Identifies the receiver among all of the process.
    id: u64,
    taken: u64,
    _child: Child,
}

pub(crate) static RECEIVERS: OwnedTable<ReceiverObject, 256> = OwnedTable::new(Kind::Receiver);

/// Options for opening a stream to receive. Initialise them with xdma_receiver_options_init, then change what differs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_receiver_options {
    /// Size of this structure in bytes, set by xdma_receiver_options_init.
    pub size: u32,
    /// Number of receive buffers, 1 to 256.
    pub buffers: u32,
    /// Size of each in bytes, a multiple of 64.
    pub buffer_size: u32,
    /// Maximum number of buffers that the engine has at a time. With 0 nothing is received until it is raised.
    pub max_posted: u32,
    /// If not 0: when the stream is opened, discard data until none has arrived for this many nanoseconds.
    pub discard_quiet: u64,
    /// Time limit in nanoseconds for discarding.
    pub discard_limit: u64,
    /// Options of the channel; `slots` is not used.
    pub channel: xdma_channel_options,
}

impl Options for xdma_receiver_options {
    fn new() -> Self {
        let ReceiverOptions { buffers, bytes, max_posted, .. } = ReceiverOptions::default();
        Self {
            size: size_of::<Self>() as u32,
            buffers: buffers as u32,
            buffer_size: bytes,
            max_posted: max_posted as u32,
            discard_quiet: 0,
            discard_limit: Discard::default().limit.as_nanos() as u64,
            channel: xdma_channel_options::new(),
        }
    }
}

impl TryFrom<xdma_receiver_options> for ReceiverOptions {
    type Error = Failure;

    fn try_from(options: xdma_receiver_options) -> Result<Self, Failure> {
        let nanos = Duration::from_nanos;
        let discard = Discard { quiet: nanos(options.discard_quiet), limit: nanos(options.discard_limit) };
        Ok(Self {
            channel: options.channel.try_into()?,
            buffers: options.buffers as usize,
            bytes: options.buffer_size,
            max_posted: options.max_posted as usize,
            discard: (options.discard_quiet > 0).then_some(discard),
        })
    }
}

/// A block of received data: the contents of one receive buffer. It is a plain value. Do not change it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_received {
    /// The receiver.
    pub receiver: u64,
    /// The number of the block.
    pub block: u64,
    /// Number of bytes received.
    pub size: u32,
    /// 1 if a packet ends with this block; 0 if it continues with the next one.
    pub ends_packet: u32,
}

impl ReceiverObject {
    /// Keeps a block until the program recycles it.
    fn hold(&mut self, received: Received) -> xdma_received {
        let places = self.blocks.len() as u64;
        let free = self.blocks.iter().position(Option::is_none).unwrap_or_default();
        let block = self.taken * places + free as u64;
        self.taken += 1;
        let (size, ends_packet) = (received.len() as u32, received.ends_packet().into());
        // There are as many entries as buffers, so one is free.
        self.blocks[free] = Some((block, received));
        xdma_received { receiver: self.id, block, size, ends_packet }
    }

    /// Returns the place of a block that the program holds.
    fn place(&self, block: xdma_received) -> Result<usize, Failure> {
        let place = (block.block % self.blocks.len() as u64) as usize;
        match &self.blocks[place] {
            Some((number, _)) if *number == block.block && block.receiver == self.id => Ok(place),
            _ => {
                let text = "the block belongs to another receiver, or was recycled; use it with its receiver, and recycle it once";
                Err(Failure::new(XDMA_ERROR_FOREIGN, XDMA_REMEDY_CORRECT, text))
            }
        }
    }
}

/// Sets all options to their defaults.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_options_init(options: *mut xdma_receiver_options) -> xdma_status {
    // SAFETY: the caller passes NULL or a valid pointer.
    run(|| unsafe { Out::new(options)?.put(xdma_receiver_options::new()) })
}

/// Opens C2H stream channel `number`, 0 to 3, to receive packets, and stores the handle in `receiver`.
///
/// `options` may be NULL for the defaults. The receiver belongs to the calling thread. Close it with xdma_receiver_close.
///
/// Errors: as xdma_channel_open; XDMA_ERROR_UNSUPPORTED if the channel is not a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_open(
    card: *mut xdma_card,
    number: u32,
    options: *const xdma_receiver_options,
    receiver: *mut *mut xdma_receiver,
) -> xdma_status {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    run(|| {
        let (out, card) = (Out::new(receiver)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or valid pointers.
        let options = ReceiverOptions::try_from(unsafe { pointers::options(options)? })?;
        let receiver = card.card.stream_c2h(number as usize, options)?;
        let blocks = (0..options.buffers).map(|_| None).collect();
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let object = ReceiverObject { receiver, blocks, id, taken: 0, _child: card.child(Kind::Receiver) };
        // SAFETY: as above.
        unsafe { out.put(handle(RECEIVERS.insert(object)?)) }
    })
}

/// Returns XDMA_OK and stores the next block in `received`, if one has arrived; returns XDMA_PENDING if not.
///
/// Read the block with xdma_received_read, then give its buffer back to the engine with xdma_received_recycle. While the program holds all
/// buffers, the stream is held back, and nothing is lost. The call does not block. Only the receiver's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_ENGINE, XDMA_ERROR_GONE, XDMA_ERROR_RECALLED, after all data
/// that arrived before the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_poll(
    receiver: *mut xdma_receiver,
    received: *mut xdma_received,
) -> xdma_status {
    call(|| {
        let (out, receiver) = (Out::new(received)?, RECEIVERS.get(receiver)?);
        let Some(received) = receiver.receiver.poll()? else { return Ok(XDMA_PENDING) };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.set(receiver.hold(received)) };
        Ok(XDMA_OK)
    })
}

/// Waits for the next block, for at most `timeout` nanoseconds, and stores it in `received`.
///
/// Everything else is as with xdma_receiver_poll. Errors also: XDMA_ERROR_TIMEOUT if nothing arrived in time, in which case nothing is
/// lost; XDMA_ERROR_ARGUMENT if the engine has no buffer, so that nothing can arrive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_wait(
    receiver: *mut xdma_receiver,
    received: *mut xdma_received,
    timeout: u64,
) -> xdma_status {
    run(|| {
        let (out, receiver) = (Out::new(received)?, RECEIVERS.get(receiver)?);
        let received = receiver.receiver.wait(Duration::from_nanos(timeout))?;
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(receiver.hold(received)) }
    })
}

/// Copies `size` bytes of a block from byte `offset` on to `data`.
///
/// Only the receiver's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_FOREIGN if the block
/// belongs to another receiver, or was recycled; XDMA_ERROR_RANGE beyond the data of the block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_received_read(
    receiver: *mut xdma_receiver,
    received: xdma_received,
    offset: u64,
    data: *mut c_void,
    size: u64,
) -> xdma_status {
    run(|| {
        let receiver = RECEIVERS.get(receiver)?;
        // SAFETY: the caller passes NULL or a valid pointer, and the bytes are only written to.
        let data = unsafe { pointers::bytes_mut(data, size)? };
        let place = receiver.place(received)?;
        let Some((_, block)) = &receiver.blocks[place] else { return Ok(()) };
        Ok(receiver.receiver.read(block, usize::try_from(offset).unwrap_or(usize::MAX), data)?)
    })
}

/// Gives the buffer of a block back to the engine. The block is not valid any more.
///
/// Only the receiver's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_FOREIGN if the block
/// belongs to another receiver, or was recycled already; XDMA_ERROR_ENGINE, XDMA_ERROR_GONE if the channel failed: the buffer is free
/// nevertheless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_received_recycle(
    receiver: *mut xdma_receiver,
    received: xdma_received,
) -> xdma_status {
    run(|| {
        let receiver = RECEIVERS.get(receiver)?;
        let place = receiver.place(received)?;
        let Some((_, block)) = receiver.blocks[place].take() else { return Ok(()) };
        Ok(receiver.receiver.recycle(block)?)
    })
}

/// Sets the maximum number of buffers that the engine has at a time.
///
/// With fewer, the stream is held back sooner; with 0, the engine becomes idle once it has filled those that it has, which makes closing
/// quick. Only the receiver's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_ENGINE, XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_set_max_posted(
    receiver: *mut xdma_receiver,
    buffers: u32,
) -> xdma_status {
    run(|| Ok(RECEIVERS.get(receiver)?.receiver.set_max_posted(buffers as usize)?))
}

/// Stops the engine. Data in completed buffers can still be received; a packet that arrived in part is lost.
///
/// Only the receiver's thread may call this. Errors: as xdma_channel_stop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_stop(receiver: *mut xdma_receiver) -> xdma_status {
    run(|| Ok(RECEIVERS.get(receiver)?.receiver.stop()?))
}

/// Makes a receiver that failed or was stopped receive again.
///
/// Only the receiver's thread may call this. Errors: as xdma_channel_recover.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_recover(receiver: *mut xdma_receiver) -> xdma_status {
    run(|| Ok(RECEIVERS.get(receiver)?.receiver.recover()?))
}

/// Recovers a receiver as xdma_receiver_recover does, and calls `help` with `context` repeatedly while the engine is busy.
///
/// Everything else is as with xdma_channel_recover_with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_recover_with(
    receiver: *mut xdma_receiver,
    help: xdma_help,
    context: *mut c_void,
) -> xdma_status {
    run(|| {
        // SAFETY: the caller passes NULL or a function with this contract.
        let mut help = unsafe { pointers::callback(help, context)? };
        Ok(RECEIVERS.lend(receiver, |object| object.receiver.recover_with(&mut help))??)
    })
}

/// Makes a receiver belong to no thread, so that another one can attach it.
///
/// Only the receiver's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_detach(receiver: *mut xdma_receiver) -> xdma_status {
    run(|| RECEIVERS.detach(receiver))
}

/// Makes a receiver that belongs to no thread belong to the calling one.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_THREAD if it belongs to a thread, which may be this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_attach(receiver: *mut xdma_receiver) -> xdma_status {
    run(|| RECEIVERS.attach(receiver))
}

/// Closes a receiver. Data that was not read is lost. The handle and all blocks are not valid any more, whatever the result.
///
/// Only the receiver's thread may call this. Errors: as xdma_channel_close. If the engine waits for data, set the maximum number of
/// buffers to 0 before the last packet, or closing takes the idle limit of the card.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_receiver_close(receiver: *mut xdma_receiver) -> xdma_status {
    run(|| Ok(RECEIVERS.close(receiver)?.receiver.close()?))
}
