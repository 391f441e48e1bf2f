//! Interrupts: one eventfd for each channel and for each of 16 lines of the user logic.
//!
//! A line of the user logic is a level: PG195 ("User Interrupts") has the logic hold `usr_irq_req` until it was told, by a register of
//! its own, that the host has seen it. The core sends one message for each time that the line rises. So a handler tells the logic
//! first and looks for work after that: what comes in between raises the line again.

use super::{CardError, Inner, quiesce};
use crate::bus::{Bar, BusError, counts, readable};
use crate::channel::Event;
use crate::regs::irq::{
    CHANNEL_ENABLE_W1C, CHANNEL_ENABLE_W1S, CHANNEL_VECTORS, USER_ENABLE_W1C, USER_ENABLE_W1S, USER_VECTORS,
    pack_vectors,
};
use crate::regs::{Direction, Target};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Lines of the user logic.
pub const USER_LINES: usize = 16;

/// What interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A channel, when its engine stops or has completed a descriptor that says so.
    Channel(Direction, usize),
    /// A line of the user logic, 0 to 15.
    User(usize),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(direction, channel) => write!(f, "{direction} channel {channel}"),
            Self::User(line) => write!(f, "user line {line}"),
        }
    }
}

/// The eventfds of all sources: channels that exist, H2C first, then user lines; each has the vector of its place.
pub(super) struct Vectors {
    channels: Vec<(Direction, usize)>,
    events: Vec<EventFd>,
}

impl Vectors {
    /// Gives each source its vector.
    pub fn set_up(card: &Inner) -> Result<Self, CardError> {
        let channels: Vec<_> = quiesce::channels(&*card.registers)?
            .iter()
            .map(|&(direction, channel, _)| (direction, channel))
            .collect();
        let count = channels.len() + USER_LINES;
        if (card.bus.description().vectors as usize) < count {
            return Err(CardError::NoInterrupts { needed: count, found: card.bus.description().vectors });
        }
        let event = |_| EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK);
        let events = (0..count).map(event).collect::<io::Result<Vec<_>>>();
        let events = events.map_err(|cause| BusError::Refused { what: "an eventfd", cause })?;
        card.bus.set_interrupts(0, &events.iter().collect::<Vec<_>>())?;
        let this = Self { channels, events };
        this.write_numbers(&*card.registers)?;
        Ok(this)
    }

    /// Tells the card which vector each source has; to be done again after a reset.
    pub fn write_numbers(&self, registers: &dyn Bar) -> Result<(), CardError> {
        let numbers = |first: usize| pack_vectors(std::array::from_fn(|at| (first + at) as u8));
        for (register, first, places) in
            [(CHANNEL_VECTORS, 0, self.channels.len()), (USER_VECTORS, self.channels.len(), USER_LINES)]
        {
            for at in (0..places).step_by(4) {
                registers.write32(irq(register + at as u32), numbers(first + at))?;
            }
        }
        Ok(())
    }

    /// The place of a source among all, and its bit in the registers of its kind.
    fn place(&self, source: Source) -> Result<(usize, u32), CardError> {
        let missing = || CardError::NoSuchInterrupt(source);
        match source {
            Source::Channel(direction, channel) => {
                let at = self.channels.iter().position(|&known| known == (direction, channel));
                at.map(|at| (at, 1 << at)).ok_or_else(missing)
            }
            Source::User(line) if line < USER_LINES => Ok((self.channels.len() + line, 1 << line)),
            Source::User(_) => Err(missing()),
        }
    }
}

fn irq(register: u32) -> u64 {
    u64::from(Target::Irq.base(0) + register)
}

/// An interrupt that is enabled, until this is dropped.
///
/// It can be polled ([`take`](Self::take)), waited for by this thread ([`wait`](Self::wait)) or by a task (`wait_async`, feature `tokio`).
/// It is an eventfd, so `poll`, `epoll` and what is built on them can wait for it too.
pub struct Interrupt {
    card: Arc<Inner>,
    source: Source,
    bit: u32,
    event: EventFd,
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt({})", self.source)
    }
}

impl Interrupt {
    pub(super) fn enable(card: &Arc<Inner>, source: Source) -> Result<Self, CardError> {
        let mut guard = card.vectors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let vectors = match &mut *guard {
            Some(vectors) => vectors,
            none => none.insert(Vectors::set_up(card)?),
        };
        let (place, bit) = vectors.place(source)?;
        let event = vectors.events[place].try_clone();
        let event = event.map_err(|cause| BusError::Refused { what: "an eventfd", cause })?;
        let this = Self { card: card.clone(), source, bit, event };
        // What came before somebody listened is nobody's.
        this.take();
        this.let_through()?;
        Ok(this)
    }

    fn let_through(&self) -> Result<(), BusError> {
        let register =
            if matches!(self.source, Source::User(_)) { USER_ENABLE_W1S } else { CHANNEL_ENABLE_W1S };
        self.card.registers.write32(irq(register), self.bit)
    }

    /// How often it fired since it was last asked.
    pub fn take(&self) -> u64 {
        counts::system_call();
        self.event.read().unwrap_or(0)
    }

    /// Sleeps until it fires, at most for `limit`; how often it did, 0 if it did not. Signals do not end the wait.
    ///
    /// # Errors
    ///
    /// The kernel refuses to wait.
    pub fn wait(&self, limit: Duration) -> io::Result<u64> {
        let begin = Instant::now();
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            counts::system_call();
            readable([Some(self.as_fd())], left)?;
            let fired = self.take();
            if fired > 0 || begin.elapsed() >= limit {
                return Ok(fired);
            }
        }
    }
}

impl Event for Interrupt {
    fn enable(&self) -> Result<(), BusError> {
        self.let_through()
    }

    fn clear(&self) {
        self.take();
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the event is open as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.event.as_raw_fd()) }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if self.card.process.is_forked() {
            return;
        }
        let register =
            if matches!(self.source, Source::User(_)) { USER_ENABLE_W1C } else { CHANNEL_ENABLE_W1C };
        // A card that is gone interrupts nobody.
        let _ = self.card.registers.write32(irq(register), self.bit);
    }
}
