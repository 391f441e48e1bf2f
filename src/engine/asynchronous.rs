//! Waiting without keeping a thread: tasks of tokio sleep on the channel's eventfd.
//!
//! A future that is dropped loses nothing. It holds neither the transfer nor its memory, which are the channel's table's, so the
//! transfer goes on, and its ticket can be polled or waited for again, in any way. What it had slept on is level-triggered: an
//! eventfd that fired stays readable, so the next wait is woken at once, finds nothing new or what it wants, and goes on.

use super::pool::{Pool, PoolTicket};
use super::wait::{Awaited, Waiting};
use super::{Channel, EngineError, Ticket};
use crate::memory::DmaMemory;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::task;
use std::time::Duration;
use tokio::io::{Interest, unix::AsyncFd};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Until one of the files is readable, at most for `limit`; whether one is.
pub(crate) async fn readable<const N: usize>(
    files: [Option<BorrowedFd<'_>>; N],
    limit: Duration,
) -> io::Result<bool> {
    Handle::try_current().map_err(io::Error::other)?;
    let mut watched = Vec::with_capacity(N);
    for file in files.into_iter().flatten() {
        // A descriptor of its own: if this future is forgotten, the runtime keeps watching that one, and watches none twice.
        let file = file.try_clone_to_owned()?;
        // SAFETY: the descriptor belongs to what is registered, which keeps it open.
        watched.push(unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }?);
    }
    let one_is_ready = poll_fn(|context| {
        // All are asked, so that each wakes the task.
        let ready = watched.iter().map(|file| file.poll_read_ready(context).map_ok(drop));
        ready.fold(task::Poll::Pending, |seen, now| if seen.is_ready() { seen } else { now })
    });
    timeout(limit, one_is_ready).await.map_or(Ok(false), |ready| ready.map(|()| true))
}

impl<A: Awaited> Waiting<'_, A> {
    async fn run_async(mut self) -> Result<(), EngineError> {
        if self.is_ready()? {
            return Ok(());
        }
        while let Some(most) = self.before_sleep()? {
            let files = self.on.events().map(|event| event.map(|event| event.as_fd()));
            let slept = readable(files, most).await;
            self.after_sleep(slept)?;
        }
        Ok(())
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
        Waiting::new(self, ticket, limit).run_async().await
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

impl Pool {
    /// Waits until a transfer is finished, as [`wait`](Self::wait) does, and lets other tasks run meanwhile. The channels need a
    /// [`Wait`](super::Wait) that sleeps. Feature `tokio`.
    ///
    /// The future may be dropped at any time: the transfer goes on, and the ticket can be waited for again.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) and [`Channel::wait_async`].
    ///
    /// # Panics
    ///
    /// As [`Channel::wait_async`].
    pub async fn wait_async(&mut self, ticket: PoolTicket, limit: Duration) -> Result<(), EngineError> {
        Waiting::new(self, ticket, limit).run_async().await
    }
}
