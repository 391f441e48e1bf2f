//! Waiting for results without keeping a thread.

use super::running::Stage;
use super::{JobTicket, Msm, MsmError, Output, PAUSE};
use crate::engine::EngineError;
use crate::regs::msm as regs;
use std::time::{Duration, Instant};
use tokio::task::yield_now;

impl Msm {
    /// Waits for a job's result, as [`wait`](Self::wait) does, and lets other tasks run meanwhile. The client needs a
    /// [`Wait`](crate::engine::Wait) that sleeps. Feature `tokio`.
    ///
    /// The future may be dropped at any time: the job goes on, and its ticket can be waited for again.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and as [`Channel::wait_async`](crate::engine::Channel::wait_async).
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
        // Its line stays up until this; what comes between here and the sleep ends the sleep.
        self.user.write(regs::IRQ_STATUS, !0)?;
        if self.user.read(regs::RESULT_VALID)? == 0 {
            let slept = done.wait_async(left.min(PAUSE[1] * 10)).await;
            slept.map_err(|error| EngineError::Sleep(error.into()))?;
        }
        Ok(())
    }
}
