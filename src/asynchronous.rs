//! Asynchronous waits: tokio tasks that sleep on a channel's eventfd without blocking a thread.
//!
//! Dropping a future loses nothing. The channel's job queue owns the transfer and its memory, so the transfer continues, and
//! its ticket can be polled or waited for again. The eventfd is level-triggered: it stays readable after it fires, so the next
//! wait wakes up immediately, checks for completion, and sleeps again if there is none.

use crate::card::Interrupt;
use crate::channel::stream::{ReceiveError, Received, Receiver};
use crate::channel::waiting::{Waitable, Waiting};
use crate::channel::{Channel, Pool, PoolTicket, Ticket, TransferError, WaitError};
use crate::memory::DmaMemory;
use crate::msm::running::Stage;
use crate::msm::{JobError, JobTicket, Msm, Output, PAUSE_BOUNDS};
use crate::regs::msm as regs;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::task;
use std::time::{Duration, Instant};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::timeout;

/// Waits until one of the files is readable, for at most `limit`. Returns whether one is.
async fn readable<const N: usize>(files: [Option<BorrowedFd<'_>>; N], limit: Duration) -> io::Result<bool> {
    Handle::try_current().map_err(io::Error::other)?;
    let mut watched = Vec::with_capacity(N);
    for file in files.into_iter().flatten() {
        // A duplicate: if this future is forgotten, the runtime continues to watch the duplicate, and never watches a file
        // twice.
        let file = file.try_clone_to_owned()?;
        // SAFETY: the `AsyncFd` owns the file, and keeps it open.
        watched.push(unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }?);
    }
    let one_is_ready = poll_fn(|context| {
        // Polls all files, so that each wakes the task.
        let ready = watched.iter().map(|file| file.poll_read_ready(context).map_ok(drop));
        ready.fold(task::Poll::Pending, |seen, now| if seen.is_ready() { seen } else { now })
    });
    timeout(limit, one_is_ready).await.map_or(Ok(false), |ready| ready.map(|()| true))
}

impl<A: Waitable> Waiting<'_, A> {
    async fn run_async(mut self) -> Result<(), WaitError> {
        if self.is_ready()? {
            return Ok(());
        }
        while let Some(most) = self.before_sleep()? {
            if most.is_zero() {
                return Err(self.deadline_error());
            }
            let files = self.target.events().map(|event| event.map(|event| event.as_fd()));
            let slept = readable(files, most).await;
            self.after_sleep(slept)?;
        }
        Ok(())
    }
}

impl Channel {
    /// Waits until a transfer or run is finished, as [`wait`](Self::wait) does, without blocking the thread. The channel needs
    /// a [`Wait`](crate::channel::Wait) mode that sleeps. Feature `tokio`.
    ///
    /// The future may be dropped at any time: the transfer continues, the card uses its memory until it is finished, and the
    /// ticket can be waited for again.
    ///
    /// If the engine fails, it is stopped before the error is returned. This blocks the thread, usually for microseconds, or
    /// for the card's idle limit if the engine stays busy.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); [`WaitError::NoInterrupt`]; [`WaitError::Sleep`] outside of a runtime.
    ///
    /// # Panics
    ///
    /// If the runtime has no I/O driver or no time driver (`enable_all`).
    pub async fn wait_async(&mut self, ticket: Ticket, limit: Duration) -> Result<(), WaitError> {
        Waiting::new(self, ticket, limit).run_async().await
    }

    /// Moves `range` of `memory`, in bytes, to or from card addresses from `card` on, and waits as
    /// [`wait_async`](Self::wait_async) does. If the future is dropped, the transfer's ticket is still
    /// [`last_ticket`](Self::last_ticket).
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
    ) -> Result<(), TransferError> {
        let ticket = self.submit(memory, range, card)?;
        Ok(self.wait_async(ticket, limit).await?)
    }
}

impl Pool {
    /// Waits until a transfer is finished, as [`wait`](Self::wait) does, without blocking the thread. The channels need a
    /// [`Wait`](crate::channel::Wait) mode that sleeps. Feature `tokio`.
    ///
    /// The future may be dropped at any time: the transfer continues, and the ticket can be waited for again.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) and [`Channel::wait_async`].
    ///
    /// # Panics
    ///
    /// As [`Channel::wait_async`].
    pub async fn wait_async(&mut self, ticket: PoolTicket, limit: Duration) -> Result<(), WaitError> {
        Waiting::new(self, ticket, limit).run_async().await
    }
}

impl Receiver {
    /// As [`wait`](Self::wait), without blocking the thread; see [`Channel::wait_async`]. If the future is dropped, the next
    /// wait returns the data that arrived. Feature `tokio`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) and [`Channel::wait_async`].
    ///
    /// # Panics
    ///
    /// As [`Channel::wait_async`].
    pub async fn wait_async(&mut self, limit: Duration) -> Result<Received, ReceiveError> {
        let ticket = self.oldest()?.ok_or(ReceiveError::NoBuffers)?;
        match self.channel.wait_async(ticket, limit).await {
            Ok(()) => self.dequeue(),
            Err(error) => Err(self.after_failure(error)),
        }
    }
}

impl Interrupt {
    /// As [`wait`](Self::wait), without blocking the thread. If the future is dropped, the next call reports interrupts that
    /// fired meanwhile. Feature `tokio`.
    ///
    /// # Errors
    ///
    /// There is no runtime, or the kernel refuses to wait.
    ///
    /// # Panics
    ///
    /// If the runtime has no I/O driver or no time driver (`enable_all`).
    pub async fn wait_async(&mut self, limit: Duration) -> io::Result<u64> {
        let begin = Instant::now();
        loop {
            let fired = self.take();
            let left = limit.saturating_sub(begin.elapsed());
            if fired > 0 || left.is_zero() {
                return Ok(fired);
            }
            readable([Some(self.as_fd())], left).await?;
        }
    }
}

impl Msm {
    /// Waits for a job's result, as [`wait`](Self::wait) does, without blocking the thread. The client needs a
    /// [`Wait`](crate::channel::Wait) mode that sleeps. Feature `tokio`.
    ///
    /// The future may be dropped at any time: the job continues, and its ticket can be waited for again.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) and [`Channel::wait_async`](crate::channel::Channel::wait_async).
    ///
    /// # Panics
    ///
    /// If the runtime has no I/O driver or no time driver (`enable_all`).
    pub async fn wait_async(&mut self, ticket: JobTicket, limit: Duration) -> Result<Output, JobError> {
        let begin = Instant::now();
        loop {
            if let Some(output) = self.poll(ticket)? {
                return Ok(output);
            }
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(self.deadline(ticket, limit));
            }
            self.pause_async(left).await?;
        }
    }

    /// Waits for a short time, on the oldest job, because all others wait for it too.
    async fn pause_async(&mut self, left: Duration) -> Result<(), JobError> {
        let waited = match self.running.front().map(|job| &job.stage) {
            Some(&Stage::Streaming(stream)) => self.h2c.wait_async(stream, left).await,
            // A fetch of 96 bytes finishes sooner than any wake-up.
            Some(&Stage::Fetching(_)) => {
                yield_now().await;
                self.c2h.check().map_err(WaitError::from)
            }
            _ => {
                self.wait_for_design_async(left).await?;
                return self.design.check_alive(&self.user).map_err(|error| self.interrupted(error));
            }
        };
        match waited {
            Ok(()) | Err(WaitError::Deadline { .. }) => Ok(()),
            Err(error) => Err(self.interrupted(error.into())),
        }
    }

    /// Waits for a short time while the design computes.
    async fn wait_for_design_async(&mut self, left: Duration) -> Result<(), JobError> {
        let interrupt = self.result_interrupt.as_mut().ok_or(WaitError::NoInterrupt)?;
        // Deasserts the interrupt line. A result between this write and the sleep ends the sleep.
        self.user.write(regs::IRQ_STATUS, !0)?;
        if self.user.read(regs::RESULT_VALID)? == 0 {
            let slept = interrupt.wait_async(left.min(PAUSE_BOUNDS[1] * 10)).await;
            slept.map_err(WaitError::Sleep)?;
        }
        Ok(())
    }
}
