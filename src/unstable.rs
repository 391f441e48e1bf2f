//! **Not part of the public interface: anything in this module may change in any release.**
//!
//! The building blocks of the driver, for this project's test harnesses, benches and tools: buses, descriptor lists, address
//! spaces, and channels without a card. Applications do not need them.

/// Buses: the ways to reach a PCI function.
pub mod bus {
    pub use crate::bus::*;
}

/// Descriptors and descriptor lists.
pub mod descriptor {
    pub use crate::descriptor::*;
}

/// Address spaces, and how buses map memory for a card.
pub mod memory {
    pub use crate::memory::mapper::{Addressing, Extent, Isolation, Mapper, MemoryRef};
    pub use crate::memory::pinned::PinnedMemory;
    pub use crate::memory::raw::RawMemory;
    pub use crate::memory::release_observer::ReleaseObserver;
    pub use crate::memory::shared_memory::SharedMemory;
    pub use crate::memory::space::DmaSpace;

    use crate::memory::{Buffer, MemoryError};

    /// Returns the address of a buffer's first byte in this process.
    ///
    /// # Safety
    ///
    /// The pointer is not used after the buffer is dropped, and no reference is created to bytes that the card may write.
    pub unsafe fn pointer(buffer: &Buffer) -> *mut u8 {
        buffer.as_mut_ptr()
    }

    /// Checks that neither a transfer nor a run of a program uses a buffer.
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`], [`MemoryError::Quarantined`].
    pub fn check_idle(buffer: &Buffer) -> Result<(), MemoryError> {
        buffer.check_idle()
    }
}

/// Channels without a card.
pub mod channel {
    pub use crate::channel::context::{ChannelContext, Event, SharedState};
    pub use crate::channel::write_back::{WORDS, WriteBackArea};
    pub use crate::stats::channel::Counters;

    use crate::bus::counts::Counts;
    use crate::channel::stream::{ReceiveError, Received, Receiver, Sender};
    use crate::channel::{
        Channel, ChannelOptions, OpenError, Poll, PollError, SubmitError, Ticket, WaitError,
    };
    use crate::memory::DmaMemory;
    use std::ops::Range;
    use std::time::Duration;

    /// As [`Channel::submit`], with a result that fits in registers. It is inlined, for callers that add little to it.
    ///
    /// # Errors
    ///
    /// As [`Channel::submit`].
    #[inline(always)]
    pub fn submit(
        channel: &mut Channel,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<Ticket, Box<SubmitError>> {
        channel.submit_boxed(memory, range, card)
    }

    /// Returns the channel's accesses to its mapped registers, and the counts of this thread, which have all else.
    pub fn counts(channel: &Channel) -> Counts {
        Counts::now() + channel.register_accesses()
    }

    /// Returns the channel of a sender, for callers that keep all channels in one type.
    pub fn of_sender(sender: Sender) -> Channel {
        sender.into_channel()
    }

    /// Sends `range` of `memory`, in bytes, on the channel of a sender; `ends` is whether a packet ends with it.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn send(
        channel: &mut Channel,
        memory: &impl DmaMemory,
        range: Range<u64>,
        ends: bool,
    ) -> Result<Ticket, SubmitError> {
        channel.send(memory, range, ends)
    }

    /// As [`Channel::poll`], with a result that fits in registers. It is inlined, for callers that add little to it.
    ///
    /// # Errors
    ///
    /// As [`Channel::poll`].
    #[inline(always)]
    pub fn poll(channel: &mut Channel, ticket: Ticket) -> Result<Poll, Box<PollError>> {
        channel.poll_boxed(ticket)
    }

    /// Returns true if a transfer or run is finished and was seen to be so with few instructions. Otherwise, call [`Channel::poll`] or
    /// [`Channel::wait`], which handle every case. It is inlined, for callers that add little to it.
    #[inline(always)]
    pub fn is_finished(channel: &mut Channel, ticket: Ticket) -> bool {
        channel.is_finished(ticket)
    }

    /// As [`Channel::wait`], but returns [`Poll::Pending`] if the transfer is not finished within `limit`. For callers that wait in
    /// slices, which would count a timeout and read the registers at the end of each.
    ///
    /// # Errors
    ///
    /// As [`Channel::wait`], except [`WaitError::Deadline`].
    pub fn wait_slice(channel: &mut Channel, ticket: Ticket, limit: Duration) -> Result<Poll, WaitError> {
        channel.wait_slice(ticket, limit)
    }

    /// As [`Receiver::wait`], but returns `None` if no buffer was completed within `limit`.
    ///
    /// # Errors
    ///
    /// As [`Receiver::wait`], except [`WaitError::Deadline`].
    pub fn receive_slice(receiver: &mut Receiver, limit: Duration) -> Result<Option<Received>, ReceiveError> {
        receiver.wait_slice(limit)
    }

    /// Reads the status register, and fails the receiver if it shows an error. For callers that only poll.
    ///
    /// # Errors
    ///
    /// As [`Receiver::wait`], except [`WaitError::Deadline`].
    pub fn check_receiver(receiver: &mut Receiver) -> Result<(), ReceiveError> {
        receiver.check()
    }

    /// Counts a timeout, and returns the error of a wait that ended after `waited`. If the registers cannot be read, it is the error of
    /// reading them.
    pub fn deadline_error(channel: &Channel, waited: Duration) -> WaitError {
        channel.deadline_error(waited)
    }

    /// Opens a channel: stops it and sets it up.
    ///
    /// # Errors
    ///
    /// As [`Card::channel`](crate::card::Card::channel).
    ///
    /// # Safety
    ///
    /// Until the channel is closed, nothing else may use this channel of the card, or the write-back words and counters of
    /// `context`. BAR, address space and write-back words must belong to the same card.
    ///
    /// ```compile_fail,E0133
    /// # use xdma::channel::{Channel, ChannelOptions};
    /// # use xdma::unstable::channel::{ChannelContext, open};
    /// fn open_twice(context: ChannelContext) -> Channel {
    ///     open(context, ChannelOptions::default()).unwrap()
    /// }
    /// ```
    pub unsafe fn open(context: ChannelContext, options: ChannelOptions) -> Result<Channel, OpenError> {
        // SAFETY: the caller's contract.
        unsafe { Channel::open(context, options) }
    }
}

/// Cards on any bus, and their XDMA registers.
pub mod card {
    pub use crate::card::name::Companions;

    use crate::bus::{Bar, Bus};
    use crate::card::{Card, CardError, CardName, CardOptions};
    use crate::memory::MemoryError;
    use crate::memory::pinned::PinnedMemory;
    use crate::memory::raw::RawMemory;
    use crate::memory::shared_memory::SharedMemory;
    use crate::regs::Direction;
    use std::any::Any;
    use std::sync::Arc;

    /// Opens a card together with the resources that keep an emulated card running.
    ///
    /// # Errors
    ///
    /// As [`CardName::open`].
    pub fn open(name: &CardName, options: CardOptions, companions: Companions) -> Result<Card, CardError> {
        name.open_with(options, companions)
    }

    /// Opens the card on a bus.
    ///
    /// # Errors
    ///
    /// As [`Card::connect`].
    ///
    /// # Safety
    ///
    /// Until the card and all of its memory are dropped, nothing else may open a card on this bus, write the registers of its
    /// channels, or set its Bus Master bit.
    ///
    /// ```compile_fail,E0133
    /// # use std::sync::Arc;
    /// # use xdma::card::{Card, CardOptions};
    /// # use xdma::unstable::{bus::Bus, card::on_bus};
    /// fn open_twice(bus: Arc<dyn Bus>) -> Card {
    ///     on_bus(bus, CardOptions::default()).unwrap()
    /// }
    /// ```
    pub unsafe fn on_bus(bus: Arc<dyn Bus>, options: CardOptions) -> Result<Card, CardError> {
        Card::over(bus, options, Companions::default())
    }

    /// Returns the offset of a capability in a card's config space, if it has one with this ID.
    ///
    /// # Errors
    ///
    /// As [`config_read`].
    pub fn capability(card: &Card, id: u8) -> Result<Option<u16>, crate::bus::BusError> {
        card.capability(id)
    }

    /// Reads `width` bytes (1, 2 or 4) of a card's config space at `offset`.
    ///
    /// # Errors
    ///
    /// [`BusError`](crate::bus::BusError).
    pub fn config_read(card: &Card, offset: u16, width: u8) -> Result<u32, crate::bus::BusError> {
        card.config_read(offset, width)
    }

    /// Returns whether a card is gone, or the kernel has requested it back. Reads the config space.
    pub fn is_gone(card: &Card) -> bool {
        card.is_gone()
    }

    /// Returns BAR `index` of a card, with the same warning as for [`registers`] if it holds them.
    ///
    /// # Errors
    ///
    /// [`BusError::NoBar`](crate::bus::BusError::NoBar).
    pub fn bar(card: &Card, index: usize) -> Result<Arc<dyn Bar>, crate::bus::BusError> {
        card.bar(index)
    }

    pub use crate::card::aws::{SHELL_BAR as F2_SHELL_BAR, ShellInterrupts, is_f2};

    /// Returns the user logic's registers.
    ///
    /// # Errors
    ///
    /// As [`Card::user`].
    pub fn user(card: &Card) -> Result<Arc<dyn Bar>, crate::card::CardError> {
        card.user_registers()
    }

    /// Pins `len` bytes at `ptr` for transfers in a direction. `owner` is dropped once the card can no longer access them.
    ///
    /// # Errors
    ///
    /// [`MapError::NotShareable`](crate::memory::MapError::NotShareable) if the bus cannot pin memory,
    /// [`MemoryError::Unaligned`] if the range does not consist of whole pages, or another [`MemoryError`] if it is empty or
    /// cannot be mapped.
    ///
    /// # Safety
    ///
    /// The bytes stay allocated until `owner` is dropped. They are plain bytes, and no Rust reference to them is used during a
    /// transfer.
    pub unsafe fn pin(
        card: &Card,
        ptr: *mut u8,
        len: u64,
        direction: Direction,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<PinnedMemory, MemoryError> {
        // SAFETY: the caller's contract.
        unsafe { card.pin(ptr, len, direction, owner) }
    }

    /// Makes `len` bytes at `ptr`, which other code owns, accessible to the card, in place as far as the bus can pin them.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if the range is empty, or cannot be mapped or staged.
    ///
    /// # Safety
    ///
    /// The bytes are plain bytes, and stay allocated until [`RawMemory::release`] has succeeded and the result is dropped. While a method of [`RawMemory`] that
    /// takes `&mut self` runs, nothing else accesses them. No Rust reference to bytes that the card may write is used before that.
    pub unsafe fn register_raw(
        card: &Card,
        ptr: *mut u8,
        len: u64,
        direction: Direction,
    ) -> Result<RawMemory, MemoryError> {
        // SAFETY: the caller's contract.
        unsafe { card.register_raw(ptr, len, direction) }
    }

    /// Allocates memory that other processes can map and write.
    ///
    /// # Errors
    ///
    /// [`MapError::NotShareable`](crate::memory::MapError::NotShareable) without an IOMMU, or another [`MemoryError`] if the
    /// memory cannot be allocated or mapped.
    pub fn allocate_shared(card: &Card, len: u64, direction: Direction) -> Result<SharedMemory, MemoryError> {
        card.allocate_shared(len, direction)
    }

    /// Returns the BAR with the XDMA registers. Writing them directly may break open channels. Without an IOMMU, a program that
    /// writes them can make the card write anywhere in the machine's memory.
    pub fn registers(card: &Card) -> Arc<dyn Bar> {
        card.registers()
    }
}

/// Points in memory that other code owns.
pub mod msm {
    use crate::bus::counts::Counts;
    use crate::card::Card;
    use crate::channel::WaitError;
    use crate::memory::MemoryError;
    use crate::msm::{DataError, JobError, Msm, Points};

    /// As [`super::channel::counts`], for both channels of the client.
    pub fn counts(msm: &Msm) -> Counts {
        super::channel::counts(&msm.h2c) + msm.c2h.register_accesses()
    }

    /// Finds errors of the client's engines that they do not report in memory, as [`Msm::wait`] does. For callers that only poll.
    ///
    /// # Errors
    ///
    /// As [`Msm::wait`], except [`JobError::Deadline`].
    pub fn check(msm: &mut Msm) -> Result<(), JobError> {
        let checked = msm.h2c.check().and_then(|()| msm.c2h.check());
        checked.map_err(|error| msm.interrupted(WaitError::Engine(error).into()))
    }

    /// Uses `count` points of 64 bytes at `points` in place, as far as the bus can pin them.
    ///
    /// # Errors
    ///
    /// As [`Points::register`].
    ///
    /// # Safety
    ///
    /// The bytes stay allocated, and nothing writes them, until [`release_points`] has succeeded and the points are dropped.
    pub unsafe fn register_points(card: &Card, points: *const u8, count: usize) -> Result<Points, DataError> {
        // SAFETY: the caller's contract. The memory is only read.
        unsafe { Points::register_raw(card, points.cast_mut(), count) }
    }

    /// Revokes the card's access to points of [`register_points`]. For other points, this does nothing.
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`] while a job uses them; [`MemoryError::Map`] if they cannot be unmapped. The card may then still read them.
    pub fn release_points(points: &Points) -> Result<(), MemoryError> {
        points.release()
    }
}
