//! Waiting without keeping a thread: tasks of tokio sleep on the channel's eventfd.
//!
//! A future that is dropped loses nothing. It holds neither the transfer nor its memory, which are the channel's table's, so the
//! transfer goes on, and its ticket can be polled or waited for again, in any way. What it had slept on is level-triggered: an
//! eventfd that fired stays readable, so the next wait is woken at once, finds nothing new or what it wants, and goes on.

use super::wait::SLEEP;
use super::{Channel, EngineError, Poll, Ticket};
use crate::memory::DmaMemory;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Until `fd` is readable, at most for `limit`.
pub(crate) async fn readable(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    Handle::try_current().map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed, so open and the same, for longer than this lives.
    let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
    match timeout(limit, fd.readable()).await {
        Ok(ready) => ready.map(drop),
        Err(_) => Ok(()),
    }
}

impl Channel {
    /// Waits until a transfer or run is finished, as [`wait`](Self::wait) does, and lets other tasks run meanwhile. The channel needs
    /// a [`Wait`](super::Wait) that sleeps. Feature `tokio`.
    ///
    /// The future may be dropped at any time: the transfer goes on, its memory stays the card's until it is done, and the ticket
    /// can be waited for again.
    ///
    /// An engine that fails is stopped before the error is returned. That keeps the thread, usually for microseconds, and for
    /// the card's idle limit if the engine stays busy.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); [`EngineError::NoEvent`]; [`EngineError::Sleep`] outside of a runtime.
    ///
    /// # Panics
    ///
    /// If the runtime has no I/O or no time driver (`enable_all`).
    pub async fn wait_async(&mut self, ticket: Ticket, limit: Duration) -> Result<(), EngineError> {
        if self.poll(ticket)? == Poll::Ready {
            return Ok(());
        }
        let event = self.event.clone().ok_or(EngineError::NoEvent)?;
        let begin = Instant::now();
        loop {
            // What completes before this is seen by the poll, and what completes after it makes the eventfd readable.
            self.rearm_interrupt()?;
            if self.poll(ticket)? == Poll::Ready {
                return Ok(());
            }
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(self.late(limit)?);
            }
            let slept = readable(event.as_fd(), left.min(SLEEP)).await;
            slept
                .and_then(|()| event.sleep(Duration::ZERO))
                .map_err(|error| EngineError::Sleep(error.into()))?;
            self.check()?;
        }
    }

    /// Moves `range` of `memory`, in bytes, and waits as [`wait_async`](Self::wait_async) does. If the future is dropped, the transfer
    /// is still the [last](Self::last_ticket) that was submitted.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit) and [`wait_async`](Self::wait_async).
    ///
    /// # Panics
    ///
    /// As [`wait_async`](Self::wait_async).
    pub async fn transfer_async(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
        limit: Duration,
    ) -> Result<(), EngineError> {
        let ticket = self.submit(memory, range, card)?;
        self.wait_async(ticket, limit).await
    }
}
