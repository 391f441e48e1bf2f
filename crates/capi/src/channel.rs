//! Channels: transfers, and streams that send.

use crate::buffer::{BUFFERS, Memory, range, xdma_buffer};
use crate::card::{CARDS, xdma_card};
use crate::children::Child;
use crate::error::{Failure, call, panicked, run};
use crate::kind::Kind;
use crate::owned::OwnedTable;
use crate::pointers::{self, Options, Out, handle, invalid, xdma_direction};
use crate::status::{XDMA_OK, XDMA_PENDING, xdma_status};
use std::ffi::{c_char, c_void};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use xdma::channel::{Channel, ChannelOptions, Poll, Ring, SubmitError, Ticket, Wait};
use xdma::unstable::channel as unstable;
use xdma::unstable::memory::RawMemory;

/// An open DMA channel, memory-mapped or a stream that sends.
///
/// It belongs to the thread that opened it: calls from other threads return XDMA_ERROR_THREAD. xdma_channel_detach and
/// xdma_channel_attach pass it on. When a thread other than the main thread ends, its channels are detached.
pub struct xdma_channel(());

/// The channel is first, so that its address is that of the object, which saves instructions.
#[repr(C)]
pub(crate) struct ChannelObject {
    channel: Channel,
    sends: bool,
    child: Child,
}

impl ChannelObject {
    pub fn new(channel: Channel, child: Child) -> Self {
        Self { channel, sends: false, child }
    }

    /// Counts a handle that is opened from this channel.
    pub fn child(&self, kind: Kind) -> Child {
        self.child.sibling(kind)
    }

    #[inline(always)]
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.channel
    }
}

pub(crate) static CHANNELS: OwnedTable<ChannelObject, 1024> = OwnedTable::new(Kind::Channel);

/// Identifies a submitted transfer, run or packet. It is a plain value: copy it freely, and drop it without a call. Do not change it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_ticket {
    /// The channel.
    pub channel: u64,
    /// The number of the submission.
    pub sequence: u64,
}

impl From<Ticket> for xdma_ticket {
    #[inline(always)]
    fn from(ticket: Ticket) -> Self {
        // SAFETY: both consist of two 64-bit numbers without restrictions. The size is checked at compile time.
        unsafe { std::mem::transmute(ticket) }
    }
}

impl From<xdma_ticket> for Ticket {
    #[inline(always)]
    fn from(ticket: xdma_ticket) -> Self {
        // SAFETY: as above. A ticket with wrong numbers is refused like any ticket of another channel.
        unsafe { std::mem::transmute(ticket) }
    }
}

/// Descriptor rings.
pub type xdma_ring = u32;
/// Credits where the channel has them, and chains otherwise.
pub const XDMA_RING_AUTO: xdma_ring = 0;
/// Lists that end with Stop; each start is a sequence of register writes.
pub const XDMA_RING_CHAIN: xdma_ring = 1;
/// A closed list that continues whenever credits are written.
pub const XDMA_RING_CREDITS: xdma_ring = 2;

/// How waits wait.
pub type xdma_wait_mode = u32;
/// Poll, and yield to other threads after the first 1,024 polls.
pub const XDMA_WAIT_SPIN_THEN_YIELD: xdma_wait_mode = 0;
/// Poll without yielding the processor.
pub const XDMA_WAIT_SPIN: xdma_wait_mode = 1;
/// Poll for about as long as recent waits took, then sleep until the channel interrupts.
pub const XDMA_WAIT_HYBRID: xdma_wait_mode = 2;
/// Sleep at once until the channel interrupts.
pub const XDMA_WAIT_INTERRUPT: xdma_wait_mode = 3;

/// Options for opening a channel. Initialise them with xdma_channel_options_init, then change what differs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_channel_options {
    /// Size of this structure in bytes, set by xdma_channel_options_init.
    pub size: u32,
    /// Descriptor ring: XDMA_RING_*.
    pub ring: xdma_ring,
    /// How waits wait: XDMA_WAIT_*; initially XDMA_WAIT_HYBRID. On a card without interrupts, waits poll.
    pub wait: xdma_wait_mode,
    /// Number of descriptors for single transfers, rounded up to a power of two, at most 512.
    pub slots: u32,
    /// If not 0: every transfer accesses one fixed card address.
    pub fixed_address: u32,
    /// If not 0: the busy bit is read before a chain is started again.
    pub check_idle: u32,
    /// If not 0: the channel interrupts when it completes work and when it fails, for xdma_interrupt_open_channel. A wait that
    /// sleeps takes the interrupt; to leave it to the caller, poll, or wait with XDMA_WAIT_SPIN.
    pub interrupt: u32,
    /// Reserved; 0.
    pub reserved: u32,
}

impl Options for xdma_channel_options {
    fn new() -> Self {
        let ChannelOptions { slots, fixed_address, check_idle, interrupt, .. } = ChannelOptions::default();
        Self {
            size: size_of::<Self>() as u32,
            ring: XDMA_RING_AUTO,
            wait: XDMA_WAIT_HYBRID,
            slots: slots as u32,
            fixed_address: fixed_address.into(),
            check_idle: check_idle.into(),
            interrupt: interrupt.into(),
            reserved: 0,
        }
    }
}

impl TryFrom<xdma_channel_options> for ChannelOptions {
    type Error = Failure;

    fn try_from(options: xdma_channel_options) -> Result<Self, Failure> {
        // The size is checked here too, because these options can be nested in other options.
        pointers::check_size::<xdma_channel_options>(options.size)?;
        Ok(Self {
            ring: ring(options.ring)?,
            slots: options.slots as usize,
            fixed_address: options.fixed_address != 0,
            check_idle: options.check_idle != 0,
            interrupt: options.interrupt != 0,
            wait: match options.wait {
                XDMA_WAIT_SPIN_THEN_YIELD => Wait::SpinThenYield,
                XDMA_WAIT_SPIN => Wait::Spin,
                XDMA_WAIT_HYBRID => Wait::Hybrid,
                XDMA_WAIT_INTERRUPT => Wait::Interrupt,
                other => return Err(invalid(format_args!("`wait` is {other}; use one of XDMA_WAIT_*"))),
            },
        })
    }
}

pub(crate) fn ring(value: xdma_ring) -> Result<Option<Ring>, Failure> {
    match value {
        XDMA_RING_AUTO => Ok(None),
        XDMA_RING_CHAIN => Ok(Some(Ring::Chain)),
        XDMA_RING_CREDITS => Ok(Some(Ring::Credits)),
        other => Err(invalid(format_args!("`ring` is {other}; use one of XDMA_RING_*"))),
    }
}

/// Statistics of a channel since its card was opened.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_channel_stats {
    /// Transfers, runs and packets submitted.
    pub submitted: u64,
    /// Those that completed with success.
    pub completed: u64,
    /// Those that ended with an error, or because the channel was stopped.
    pub abandoned: u64,
    /// Those that are in flight.
    pub in_flight: u64,
    /// Bytes of completed transfers.
    pub bytes: u64,
    /// Descriptors posted to the engine.
    pub descriptors: u64,
    /// Writes that started the engine.
    pub doorbells: u64,
    /// Submissions refused because the ring was full.
    pub full: u64,
    /// Waits that reached their time limit.
    pub timeouts: u64,
    /// Errors of the engine and of the link to it.
    pub errors: u64,
    /// Successful recoveries.
    pub recoveries: u64,
}

/// Sets all options to their defaults.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_options_init(options: *mut xdma_channel_options) -> xdma_status {
    // SAFETY: the caller passes NULL or a valid pointer.
    run(|| unsafe { Out::new(options)?.put(xdma_channel_options::new()) })
}

/// Opens a memory-mapped channel, 0 to 3, of a direction, and stores the handle in `channel`.
///
/// `options` may be NULL for the defaults. The channel belongs to the calling thread. Close it with xdma_channel_close.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT for an invalid direction, number or option;
/// XDMA_ERROR_TAKEN if the channel is already open; XDMA_ERROR_UNSUPPORTED if the card does not have it, it is a stream, or it does not
/// support the options; XDMA_ERROR_HUNG, XDMA_ERROR_MEMORY, XDMA_ERROR_GONE, XDMA_ERROR_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_open(
    card: *mut xdma_card,
    direction: xdma_direction,
    number: u32,
    options: *const xdma_channel_options,
    channel: *mut *mut xdma_channel,
) -> xdma_status {
    run(|| {
        let (out, card) = (Out::new(channel)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or valid pointers.
        let options = unsafe { pointers::options(options)? };
        let direction = pointers::direction(direction)?;
        let channel = card.card.channel(direction, number as usize, options.try_into()?)?;
        let object = ChannelObject::new(channel, card.child(Kind::Channel));
        // SAFETY: as above.
        unsafe { out.put(handle(CHANNELS.insert(object)?)) }
    })
}

/// Opens H2C stream channel `number`, 0 to 3, to send packets with xdma_send, and stores the handle in `channel`.
///
/// Everything else is as with xdma_channel_open; XDMA_ERROR_UNSUPPORTED if the channel is not a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_sender_open(
    card: *mut xdma_card,
    number: u32,
    options: *const xdma_channel_options,
    channel: *mut *mut xdma_channel,
) -> xdma_status {
    run(|| {
        let (out, card) = (Out::new(channel)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or valid pointers.
        let options = unsafe { pointers::options(options)? };
        let sender = card.card.stream_h2c(number as usize, options.try_into()?)?;
        let channel = unstable::of_sender(sender);
        let object = ChannelObject { channel, sends: true, child: card.child(Kind::Channel) };
        // SAFETY: as above.
        unsafe { out.put(handle(CHANNELS.insert(object)?)) }
    })
}

/// Starts a transfer of `size` bytes between byte `offset` of `buffer` and the card addresses from `card_address` on, and stores its
/// ticket in `ticket`.
///
/// The call does not block. The card uses the buffer until the transfer is finished; the buffer cannot be closed before. Only the
/// channel's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_BUSY; XDMA_ERROR_FULL: poll or wait for earlier transfers;
/// XDMA_ERROR_ARGUMENT if `size` is 0 or too large for one transfer; XDMA_ERROR_RANGE; XDMA_ERROR_FOREIGN if the buffer belongs to another
/// card, or is for the other direction; XDMA_ERROR_ENGINE if the channel has failed; XDMA_ERROR_GONE, XDMA_ERROR_RECALLED. Nothing was
/// started then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_submit(
    channel: *mut xdma_channel,
    buffer: *const xdma_buffer,
    offset: u64,
    size: u64,
    card_address: u64,
    ticket: *mut xdma_ticket,
) -> xdma_status {
    run(|| {
        let ticket = Out::new(ticket)?;
        let channel = CHANNELS.get(channel)?.channel();
        // SAFETY: there is a channel, so a card was opened, which marks NULL.
        let buffer = unsafe { BUFFERS.get_marked(buffer)? };
        let range = range(offset, size)?;
        let submitted = match &buffer.memory {
            Memory::Allocated(memory) => unstable::submit(channel, memory, range, card_address)?,
            Memory::Registered(memory) => submit_registered(channel, memory, range, card_address)?,
        };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { ticket.put(submitted.into()) }
    })
}

/// Not inlined, which makes transfers of allocated memory cheaper.
#[inline(never)]
fn submit_registered(
    channel: &mut Channel,
    memory: &RawMemory,
    range: Range<u64>,
    card_address: u64,
) -> Result<Ticket, Box<SubmitError>> {
    unstable::submit(channel, memory, range, card_address)
}

/// Returns XDMA_OK if a transfer, run or packet is finished, and XDMA_PENDING if not.
///
/// The call does not block. Errors that the engine does not report in memory are found by xdma_wait and xdma_channel_check. Only the
/// channel's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_FOREIGN for a ticket of another channel; XDMA_ERROR_ARGUMENT
/// for a ticket that is too old; XDMA_ERROR_ENGINE if the engine failed or was stopped before the transfer finished; XDMA_ERROR_GONE,
/// XDMA_ERROR_RECALLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_poll(channel: *mut xdma_channel, ticket: xdma_ticket) -> xdma_status {
    call(|| match unstable::poll(CHANNELS.get(channel)?.channel(), ticket.into())? {
        Poll::Ready => Ok(XDMA_OK),
        Poll::Pending => Ok(XDMA_PENDING),
    })
}

/// Waits until a transfer, run or packet is finished, for at most `timeout` nanoseconds.
///
/// Only the channel's thread may call this. Signals do not end the wait.
///
/// Errors: as xdma_poll; XDMA_ERROR_TIMEOUT if the transfer is not finished in time: it is then still in flight.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_wait(
    channel: *mut xdma_channel,
    ticket: xdma_ticket,
    timeout: u64,
) -> xdma_status {
    // The common cases.
    let is_finished = || match CHANNELS.find(channel) {
        Some(object) => unstable::is_finished(object.channel(), ticket.into()),
        None => false,
    };
    match catch_unwind(AssertUnwindSafe(is_finished)) {
        Ok(true) => XDMA_OK,
        Ok(false) => wait(channel, ticket, timeout),
        Err(panic) => panicked(panic),
    }
}

/// Waits in all cases that need more than a look at the completion. A function that is called last, so that its caller saves no registers.
#[cold]
#[inline(never)]
fn wait(channel: *mut xdma_channel, ticket: xdma_ticket, timeout: u64) -> xdma_status {
    run(|| Ok(CHANNELS.get(channel)?.channel().wait(ticket.into(), Duration::from_nanos(timeout))?))
}

/// Moves `size` bytes between byte `offset` of `buffer` and the card addresses from `card_address` on, and waits for at most `timeout`
/// nanoseconds.
///
/// Only the channel's thread may call this. Errors: as xdma_submit and xdma_wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_transfer(
    channel: *mut xdma_channel,
    buffer: *const xdma_buffer,
    offset: u64,
    size: u64,
    card_address: u64,
    timeout: u64,
) -> xdma_status {
    let mut ticket = xdma_ticket { channel: 0, sequence: 0 };
    // SAFETY: the ticket is valid; the rest is up to the caller.
    unsafe {
        match xdma_submit(channel, buffer, offset, size, card_address, &raw mut ticket) {
            XDMA_OK => xdma_wait(channel, ticket, timeout),
            error => error,
        }
    }
}

/// Sends `size` bytes from byte `offset` of `buffer` on, and stores a ticket for xdma_poll and xdma_wait in `ticket`.
///
/// If `ends_packet` is not 0, a packet ends with the last byte. Otherwise it continues with the next call; the size should then be a
/// multiple of 64 bytes. Only the channel's thread may call this.
///
/// Errors: as xdma_submit; XDMA_ERROR_UNSUPPORTED if the channel was not opened with xdma_sender_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_send(
    channel: *mut xdma_channel,
    buffer: *const xdma_buffer,
    offset: u64,
    size: u64,
    ends_packet: u32,
    ticket: *mut xdma_ticket,
) -> xdma_status {
    run(|| {
        let (ticket, object) = (Out::new(ticket)?, CHANNELS.get(channel)?);
        if !object.sends {
            return Err(not_a_sender());
        }
        let (channel, buffer, range) = (object.channel(), BUFFERS.get(buffer)?, range(offset, size)?);
        let submitted = match &buffer.memory {
            Memory::Allocated(memory) => unstable::send(channel, memory, range, ends_packet != 0)?,
            Memory::Registered(memory) => unstable::send(channel, &**memory, range, ends_packet != 0)?,
        };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { ticket.put(submitted.into()) }
    })
}

#[cold]
fn not_a_sender() -> Failure {
    Failure::new(
        crate::status::XDMA_ERROR_UNSUPPORTED,
        crate::status::XDMA_REMEDY_CORRECT,
        "the channel is memory-mapped; open a stream with xdma_sender_open to send packets",
    )
}

/// Stops the engine and abandons all work in flight. Work that finished before stays finished.
///
/// Recover the channel before the next submission. Only the channel's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_HUNG if the engine does not become idle: the card then keeps
/// the memory in flight; XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_stop(channel: *mut xdma_channel) -> xdma_status {
    run(|| Ok(CHANNELS.get(channel)?.channel().stop()?))
}

/// Makes a channel that failed, was stopped, or whose card was reset usable again. Work in flight is lost.
///
/// Only the channel's thread may call this. Errors: as xdma_channel_stop; XDMA_ERROR_ENGINE if an error remains; XDMA_ERROR_RECALLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_recover(channel: *mut xdma_channel) -> xdma_status {
    run(|| Ok(CHANNELS.get(channel)?.channel().recover()?))
}

/// Code of the program that a recovery calls repeatedly while an engine is busy. `context` is what was passed with it.
///
/// It may call functions of the library with other handles. It must return: no longjmp, exception, or end of the thread.
pub type xdma_help = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// Recovers a channel as xdma_channel_recover does, and calls `help` with `context` repeatedly while the engine is busy.
///
/// This is for user logic that stalls the engine, and that must be told by a register, for example with xdma_user_write, to accept or drop
/// data. Calls with this channel return XDMA_ERROR_BUSY while `help` runs.
///
/// Only the channel's thread may call this. Errors: as xdma_channel_recover; XDMA_ERROR_NULL also if `help` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_recover_with(
    channel: *mut xdma_channel,
    help: xdma_help,
    context: *mut c_void,
) -> xdma_status {
    run(|| {
        // SAFETY: the caller passes NULL or a function with this contract.
        let mut help = unsafe { pointers::callback(help, context)? };
        Ok(CHANNELS.lend(channel, |object| object.channel().recover_with(&mut help))??)
    })
}

/// Waits until all work is finished and the registers of the engine agree, for at most `timeout` nanoseconds.
///
/// This is for programs that do not trust the completion in memory alone. It reads registers. Only the channel's thread may call this.
///
/// Errors: as xdma_wait; XDMA_ERROR_TIMEOUT also if the registers do not agree in time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_settle(channel: *mut xdma_channel, timeout: u64) -> xdma_status {
    run(|| Ok(CHANNELS.get(channel)?.channel().settle(Duration::from_nanos(timeout))?))
}

/// Reads the status register, and fails the channel if it shows an error. xdma_wait does this too; programs that only poll call this
/// about every millisecond.
///
/// Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_ENGINE,
/// XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_check(channel: *mut xdma_channel) -> xdma_status {
    run(|| Ok(CHANNELS.get(channel)?.channel().check()?))
}

/// Enables the interrupt of a channel again. Poll after this call and before sleeping on the descriptor of the interrupt: work that
/// finished before the call does not interrupt.
///
/// Sleep at most a few milliseconds at a time while several transfers are in flight on a chain ring: the engine may still be busy when it
/// reports a transfer, and no interrupt reports when it is idle and a poll can start the next one.
///
/// Only the channel's thread may call this. Errors: as xdma_channel_check.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_rearm_interrupt(channel: *mut xdma_channel) -> xdma_status {
    run(|| Ok(CHANNELS.get(channel)?.channel().rearm_interrupt()?))
}

/// Stores the statistics of a channel in `stats`.
///
/// Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_get_stats(
    channel: *mut xdma_channel,
    stats: *mut xdma_channel_stats,
) -> xdma_status {
    run(|| {
        let (out, channel) = (Out::new(stats)?, CHANNELS.get(channel)?.channel());
        let stats = channel.stats();
        let value = xdma_channel_stats {
            submitted: stats.submitted,
            completed: stats.completed,
            abandoned: stats.abandoned,
            in_flight: channel.in_flight() as u64,
            bytes: stats.bytes,
            descriptors: stats.descriptors,
            doorbells: stats.doorbells,
            full: stats.full,
            timeouts: stats.timeouts,
            errors: stats.errors.total(),
            recoveries: stats.recoveries,
        };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(value) }
    })
}

/// Describes the registers of a channel and the state of its ring as text, stored as by xdma_card_describe.
///
/// Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_describe(
    channel: *mut xdma_channel,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> xdma_status {
    run(|| {
        let snapshot = CHANNELS.get(channel)?.channel().snapshot()?;
        // SAFETY: the caller passes NULL or valid pointers.
        unsafe { pointers::store_text(&snapshot, text, capacity, length) }
    })
}

/// Makes a channel belong to no thread, so that another one can attach it.
///
/// Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_detach(channel: *mut xdma_channel) -> xdma_status {
    run(|| CHANNELS.detach(channel))
}

/// Makes a channel that belongs to no thread belong to the calling one.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_THREAD if it belongs to a thread, which may be this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_attach(channel: *mut xdma_channel) -> xdma_status {
    run(|| CHANNELS.attach(channel))
}

/// Closes a channel: stops its engine, and abandons work in flight. The handle is not valid any more, whatever the result.
///
/// Only the channel's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, with which the channel stays open. XDMA_ERROR_HUNG or XDMA_ERROR_GONE if
/// the engine was not seen idle: the channel is closed, but the memory of its transfers stays allocated until the card is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_close(channel: *mut xdma_channel) -> xdma_status {
    run(|| Ok(CHANNELS.close(channel)?.channel.close()?))
}
