//! Time limits for the waits of a call.

use crate::caller::Caller;
use crate::errno;
use rustix::io::Errno;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdma::channel::{Channel, Poll, Ticket, TransferError, WaitError};
use xdma::unstable::channel::poll;

/// Minimum and maximum duration of a wait before the next check for a cancellation.
const SLICES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];
/// Number of polls before a wait that may be long. They take a few microseconds.
const POLLS: u32 = 256;

/// Limits the waits of a call: they end when the call times out or its caller cancels it.
pub(crate) struct WaitLimit<'a> {
    caller: &'a dyn Caller,
    /// Zero means no limit.
    limit: Duration,
    closing: &'a AtomicBool,
    /// When the wait for the current piece began. As in the kernel module, the time limit applies to a piece, not to the whole
    /// call. `None` before the first wait, because most transfers complete before the clock has to be read.
    begin: Cell<Option<Instant>>,
}

impl<'a> WaitLimit<'a> {
    pub fn new(caller: &'a dyn Caller, limit: Duration, closing: &'a AtomicBool) -> Self {
        Self { caller, limit, closing, begin: Cell::new(None) }
    }

    /// Returns the duration of the next wait, or an error if the call was cancelled or has timed out.
    pub fn slice(&self) -> Result<Duration, Errno> {
        let Some(begin) = self.begin.get() else {
            self.caller.begin_wait();
            self.begin.set(Some(Instant::now()));
            return Ok(SLICES[0]);
        };
        let waited = begin.elapsed();
        if self.closing.load(Ordering::Relaxed) || self.caller.is_cancelled() {
            return Err(Errno::INTR);
        }
        let slice = (waited / 8).clamp(SLICES[0], SLICES[1]);
        match self.limit {
            Duration::ZERO => Ok(slice),
            limit if waited >= limit => Err(Errno::TIMEDOUT),
            limit => Ok(slice.min(limit - waited)),
        }
    }

    /// Restarts the time limit, for the next piece.
    pub fn restart(&self) {
        self.begin.set(None);
    }

    /// Waits for a ticket.
    #[inline]
    pub fn wait(&self, channel: &mut Channel, ticket: Ticket) -> Result<(), Errno> {
        match poll(channel, ticket) {
            Ok(Poll::Ready) => Ok(()),
            _ => self.wait_longer(channel, ticket),
        }
    }

    #[inline(never)]
    fn wait_longer(&self, channel: &mut Channel, ticket: Ticket) -> Result<(), Errno> {
        for _ in 0..POLLS {
            match channel.poll(ticket) {
                Ok(Poll::Ready) => return Ok(()),
                Ok(Poll::Pending) => std::hint::spin_loop(),
                Err(_) => break, // which the wait below reports again
            }
        }
        let mut slice = self.slice()?;
        loop {
            match channel.wait(ticket, slice) {
                Ok(()) => {
                    self.restart();
                    return Ok(());
                }
                Err(WaitError::Deadline { .. }) => {}
                Err(error) => return Err(errno::of_transfer(&TransferError::from(error))),
            }
            slice = self.slice()?;
        }
    }
}
