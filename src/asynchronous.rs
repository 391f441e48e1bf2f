//! Waiting without keeping a thread: tasks of tokio sleep on the channel's eventfd.
//!
//! Dropping a future loses nothing. The channel's job table owns the transfer and its memory, so the transfer continues, and its
//! ticket can be polled or waited for again. The eventfd is level-triggered: after it fires it stays readable, so the next wait wakes
//! at once, checks for completion, and sleeps again if there is none.

use crate::card::Interrupt;
use crate::channel::stream::{Received, Receiver, Sender};
use crate::channel::waiting::{Awaited, Waiting};
use crate::channel::{Channel, EngineError, Pool, PoolTicket, Ticket};
use crate::memory::DmaMemory;
use crate::msm::running::Stage;
use crate::msm::{JobTicket, Msm, MsmError, Output, PAUSE};
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
    /// a [`Wait`](crate::channel::Wait) that sleeps. Feature `tokio`.
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
    /// [`Wait`](crate::channel::Wait) that sleeps. Feature `tokio`.
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

impl Sender {
    /// As [`Channel::wait_async`].
    ///
    /// # Errors
    ///
    /// As [`Channel::wait_async`].
    ///
    /// # Panics
    ///
    /// As [`Channel::wait_async`].
    pub async fn wait_async(&mut self, ticket: Ticket, limit: Duration) -> Result<(), EngineError> {
        self.channel.wait_async(ticket, limit).await
    }
}

impl Receiver {
    /// As [`wait`](Self::wait), and lets other tasks run meanwhile; see [`Channel::wait_async`]. If the future is
    /// dropped, the next wait returns what arrived.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) and [`Channel::wait_async`].
    ///
    /// # Panics
    ///
    /// As [`Channel::wait_async`].
    pub async fn wait_async(&mut self, limit: Duration) -> Result<Received, EngineError> {
        let ticket = self.oldest()?.ok_or(EngineError::NoBuffers)?;
        match self.channel.wait_async(ticket, limit).await {
            Ok(()) => self.take(),
            Err(error) => Err(self.lose(error)),
        }
    }
}

impl Interrupt {
    /// As [`wait`](Self::wait), and lets other tasks run meanwhile. If the future is dropped, interrupts that fire are reported by the
    /// next call. Feature `tokio`.
    ///
    /// # Errors
    ///
    /// There is no runtime, or the kernel refuses to wait.
    ///
    /// # Panics
    ///
    /// If the runtime has no I/O or no time driver (`enable_all`).
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
    /// Waits for a job's result, as [`wait`](Self::wait) does, and lets other tasks run meanwhile. The client needs a
    /// [`Wait`](crate::channel::Wait) that sleeps. Feature `tokio`.
    ///
    /// The future may be dropped at any time: the job goes on, and its ticket can be waited for again.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and as [`Channel::wait_async`](crate::channel::Channel::wait_async).
    ///
    /// # Panics
    ///
    /// If the runtime has no I/O or no time driver (`enable_all`).
    pub async fn wait_async(&mut self, ticket: JobTicket, limit: Duration) -> Result<Output, MsmError> {
        let begin = Instant::now();
        loop {
            if let Some(output) = self.poll(ticket)? {
                return Ok(output);
            }
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(self.deadline(ticket, limit)?);
            }
            self.pause_async(left).await?;
        }
    }

    /// Lets some time pass. What is waited for is the oldest job: the others wait for it too.
    async fn pause_async(&mut self, left: Duration) -> Result<(), MsmError> {
        let waited = match self.running.front().map(|job| &job.stage) {
            Some(&Stage::Streaming(stream)) => self.h2c.wait_async(stream, left).await,
            // 96 bytes: they are there sooner than anything wakes.
            Some(&Stage::Fetching(_)) => {
                yield_now().await;
                self.c2h.check()
            }
            _ => {
                self.rest_async(left).await?;
                return self.design.check_alive(&self.user).map_err(|error| self.interrupted(error));
            }
        };
        match waited {
            Ok(()) | Err(EngineError::Deadline { .. }) => Ok(()),
            Err(error) => Err(self.interrupted(error.into())),
        }
    }

    /// Lets some time pass while the design computes.
    async fn rest_async(&mut self, left: Duration) -> Result<(), MsmError> {
        let done = self.done.as_mut().ok_or(EngineError::NoEvent)?;
        // Deasserts the interrupt line. An interrupt between here and the sleep ends the sleep.
        self.user.write(regs::IRQ_STATUS, !0)?;
        if self.user.read(regs::RESULT_VALID)? == 0 {
            let slept = done.wait_async(left.min(PAUSE[1] * 10)).await;
            slept.map_err(|error| EngineError::Sleep(error.into()))?;
        }
        Ok(())
    }
}
