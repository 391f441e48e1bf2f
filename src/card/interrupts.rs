//! Interrupts: one eventfd for each channel and for each of the 16 lines of the user logic.
//!
//! User interrupt lines are level-triggered. According to PG195 ("User Interrupts"), the logic holds `usr_irq_req` until the host
//! acknowledges the interrupt through one of the logic's own registers. The core sends one message for each rising edge. A
//! handler must therefore acknowledge first and check for work afterwards: an event in between raises the line again.
//!
//! If the card has fewer vectors than sources, or only MSI or INTx, sources [share](super::vectors) a vector.

use super::vectors::{Vectors, Wakeup, irq};
use super::{Inner, InterruptError};
use crate::bus::{BusError, counts, readable};
use crate::channel::Event;
use crate::regs::Direction;
use crate::regs::irq::{CHANNEL_ENABLE_W1C, CHANNEL_ENABLE_W1S, USER_ENABLE_W1C, USER_ENABLE_W1S};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::EventFd;

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

/// An enabled interrupt. Dropping it disables the interrupt.
///
/// It can be polled with [`take`](Self::take), and waited for by a thread with [`wait`](Self::wait) or by a task with
/// `wait_async` (feature `tokio`). It is also an eventfd, for use with `poll` or `epoll`.
///
/// If sources [share](crate::card::Report::interrupts) a vector, an interrupt that is taken before the user logic is acknowledged
/// fires once more.
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
    /// All sources of the card, and the place of this one among them. Its handles share an eventfd.
    sources: Arc<Vec<Wakeup>>,
    at: usize,
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
        let (sources, at, bit) = vectors.find(source)?;
        let this = Self { card: card.clone(), source, bit, sources, at };
        // Discard interrupts from before this call.
        this.read_count();
        this.sources[at].set_owned(true);
        let unmasked = this.unmask();
        // Unlock before a possible return: dropping `this` takes the lock.
        drop(guard);
        unmasked?;
        Ok(this)
    }

    fn event(&self) -> &EventFd {
        self.sources[self.at].event()
    }

    fn unmask(&self) -> Result<(), BusError> {
        let register =
            if matches!(self.source, Source::User(_)) { USER_ENABLE_W1S } else { CHANNEL_ENABLE_W1S };
        self.card.registers.write32(irq(register), self.bit)
    }

    /// Enables the source again, if it shares its vector and has fired.
    fn rearm(&self) -> Result<(), BusError> {
        if self.sources[self.at].rearms() { self.unmask() } else { Ok(()) }
    }

    fn read_count(&self) -> u64 {
        counts::system_call();
        self.event().read().unwrap_or(0)
    }

    /// Returns how many times the interrupt has fired since the last call, and resets the count.
    pub fn take(&self) -> u64 {
        let fired = self.read_count();
        // A failure means that the card is gone, so the interrupt will not fire.
        let _ = self.rearm();
        fired
    }

    /// Sleeps until the interrupt fires, for at most `limit`. Returns how many times it has fired since the last call; 0 if the
    /// time limit expired. Signals do not end the wait.
    ///
    /// # Errors
    ///
    /// The kernel's error, or that of a register access.
    pub fn wait(&self, limit: Duration) -> io::Result<u64> {
        let begin = Instant::now();
        self.rearm().map_err(io::Error::other)?;
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            counts::system_call();
            readable([Some(self.as_fd())], left)?;
            let fired = self.read_count();
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

    fn rearm(&self) -> Result<(), BusError> {
        Interrupt::rearm(self)
    }

    fn clear(&self) {
        self.read_count();
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the eventfd stays open while `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.event().as_raw_fd()) }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if self.card.process.is_forked() {
            return;
        }
        let register =
            if matches!(self.source, Source::User(_)) { USER_ENABLE_W1C } else { CHANNEL_ENABLE_W1C };
        // Exclude a recovery of the card, which enables the sources that have an owner.
        let _recovery = self.card.vectors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.sources[self.at].set_owned(false);
        // A failure is ignored: a card that is gone does not interrupt.
        let _ = self.card.registers.write32(irq(register), self.bit);
    }
}
