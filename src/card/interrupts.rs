//! Interrupts: one eventfd for each channel and for each of the 16 lines of the user logic.
//!
//! User interrupt lines are level-triggered. According to PG195 ("User Interrupts"), the logic holds `usr_irq_req` until the host
//! acknowledges the interrupt through one of the logic's own registers. The core sends one message for each rising edge. A
//! handler must therefore acknowledge first and check for work afterwards: an event in between raises the line again.

use super::{Inner, InterruptError, quiesce};
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

/// Number of interrupt lines of the user logic.
pub const USER_LINES: usize = 16;

/// The source of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A channel, which interrupts when its engine stops or completes a descriptor with the Completed flag.
    Channel(Direction, usize),
    /// An interrupt line of the user logic, 0 to 15.
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

/// The eventfds of all sources: the channels that exist, H2C first, then the user lines. The index of a source is its vector.
pub(super) struct Vectors {
    channels: Vec<(Direction, usize)>,
    events: Vec<EventFd>,
}

impl Vectors {
    /// Assigns a vector and an eventfd to each source.
    pub fn set_up(card: &Inner) -> Result<Self, InterruptError> {
        let channels: Vec<_> = quiesce::channels(&*card.registers)?
            .iter()
            .map(|&(direction, channel, _)| (direction, channel))
            .collect();
        let count = channels.len() + USER_LINES;
        if (card.bus.description().vectors as usize) < count {
            return Err(InterruptError::NoVectors { needed: count, found: card.bus.description().vectors });
        }
        let event = |_| EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK);
        let events = (0..count).map(event).collect::<io::Result<Vec<_>>>();
        let events = events.map_err(|cause| BusError::Refused { what: "an eventfd", cause })?;
        card.bus.set_interrupts(0, &events.iter().collect::<Vec<_>>())?;
        let this = Self { channels, events };
        this.write_vectors(&*card.registers)?;
        Ok(this)
    }

    /// Writes the vector of each source to the card. This must be repeated after a reset.
    pub fn write_vectors(&self, registers: &dyn Bar) -> Result<(), BusError> {
        let numbers = |first: usize| pack_vectors(std::array::from_fn(|at| (first + at) as u8));
        for (register, first, count) in
            [(CHANNEL_VECTORS, 0, self.channels.len()), (USER_VECTORS, self.channels.len(), USER_LINES)]
        {
            for at in (0..count).step_by(4) {
                registers.write32(irq(register + at as u32), numbers(first + at))?;
            }
        }
        Ok(())
    }

    /// Returns the vector of a source, and its bit in the channel or user interrupt registers.
    fn vector_and_bit(&self, source: Source) -> Result<(usize, u32), InterruptError> {
        let missing = || InterruptError::NoSource(source);
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

/// An enabled interrupt. Dropping it disables the interrupt.
///
/// It can be polled with [`take`](Self::take), and waited for by a thread with [`wait`](Self::wait) or by a task with
/// `wait_async` (feature `tokio`). It is also an eventfd, for use with `poll` or `epoll`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use xdma::card::{CardOptions, Source};
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let interrupt = card.interrupt(Source::User(3))?;
/// // This register of the emulated user logic drives its interrupt lines.
/// card.user()?.write(Memory::USER_IRQ as u32, 1 << 3)?;
/// assert_eq!(interrupt.wait(Duration::from_secs(5))?, 1);
/// # Ok(())
/// # }
/// ```
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
    pub(super) fn enable(card: &Arc<Inner>, source: Source) -> Result<Self, InterruptError> {
        let mut guard = card.vectors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let vectors = match &mut *guard {
            Some(vectors) => vectors,
            none => none.insert(Vectors::set_up(card)?),
        };
        let (vector, bit) = vectors.vector_and_bit(source)?;
        let event = vectors.events[vector].try_clone();
        let event = event.map_err(|cause| BusError::Refused { what: "an eventfd", cause })?;
        let this = Self { card: card.clone(), source, bit, event };
        // Discard interrupts from before this call.
        this.take();
        this.unmask()?;
        Ok(this)
    }

    fn unmask(&self) -> Result<(), BusError> {
        let register =
            if matches!(self.source, Source::User(_)) { USER_ENABLE_W1S } else { CHANNEL_ENABLE_W1S };
        self.card.registers.write32(irq(register), self.bit)
    }

    /// Returns how many times the interrupt has fired since the last call, and resets the count.
    pub fn take(&self) -> u64 {
        counts::system_call();
        self.event.read().unwrap_or(0)
    }

    /// Sleeps until the interrupt fires, for at most `limit`. Returns how many times it has fired since the last call; 0 if the
    /// time limit expired. Signals do not end the wait.
    ///
    /// # Errors
    ///
    /// The kernel's error.
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
        self.unmask()
    }

    fn clear(&self) {
        self.take();
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the eventfd stays open while `self` is borrowed.
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
        // A failure is ignored: a card that is gone does not interrupt.
        let _ = self.card.registers.write32(irq(register), self.bit);
    }
}
