//! Stopping, recovering, ending and reopening a channel, and the outcomes that are possible afterwards.

use super::channel_model::{CardContext, ChannelModel, LIMIT, open, retry};
use super::host::{Check, HostBuffer, PendingJob};
use super::plan::{Disposal, Side};
use super::shadow::Region;
use std::cell::RefCell;
use std::future::Future;
use std::task;
use xdma::card::Card;
use xdma::channel::{CloseError, EngineError, OpenError, Poll, WaitError};
use xdma::memory::MemoryError;

/// What is known about an engine after its channel has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was seen idle.
    Idle,
    /// It may continue, and its memory is quarantined.
    Quarantined,
    /// The channel was forgotten, and still owns everything.
    Forgotten,
}

thread_local! {
    /// A single runtime, since a forgotten future stays registered in it.
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be started")
    );
}

impl ChannelModel {
    /// Ends all jobs after the engine was seen idle. Jobs that are reported as finished are complete; others may have been executed
    /// partly.
    pub fn end_jobs(&mut self, cx: &mut CardContext<'_>) -> Check {
        while let Some(ticket) = self.jobs.front().and_then(|job| job.ticket) {
            match self.channel().poll(ticket) {
                Ok(Poll::Ready) => self.on_complete(cx)?,
                Ok(Poll::Pending) => return Err("a job is pending although the engine is stopped".into()),
                Err(_) => break,
            }
        }
        let unfinished: Vec<_> = self.jobs.drain(..).collect();
        unfinished.iter().for_each(|job| job.allow_partial(self.side, cx.region));
        for ticket in unfinished.iter().filter_map(|job| job.ticket) {
            if matches!(self.channel().poll(ticket), Ok(Poll::Ready)) {
                return Err(format!("{ticket:?} is finished, but an earlier job is not"));
            }
        }
        self.compare()
    }

    /// Compares all host buffers with the model. No job may be in flight.
    pub fn compare(&self) -> Check {
        self.buffers.iter().try_for_each(HostBuffer::compare)
    }

    pub fn stop(&mut self, cx: &mut CardContext<'_>) -> Check {
        match self.channel().stop() {
            Ok(()) => self.end_jobs(cx),
            Err(error) => self.on_error(error, cx),
        }
    }

    pub fn recover(&mut self, cx: &mut CardContext<'_>) -> Check {
        let channel = self.channel();
        retry("not recovered", || channel.recover())?;
        (self.failed, self.unknown, self.was_gone) = (false, false, false);
        self.end_jobs(cx)
    }

    /// Opens the channel again. Opening succeeds only once the engine was seen idle.
    pub fn reopen(&mut self, cx: &mut CardContext<'_>) -> Check {
        let (side, index, ring) = (self.side, self.index, self.ring);
        self.channel = Some(retry("not opened again", || open(cx.card, cx.setup, side, index, ring))?);
        if side == Side::H2C {
            cx.region.settle();
        }
        (self.failed, self.unknown, self.was_gone) = (false, false, false);
        self.compare()
    }

    /// Polls an asynchronous wait once, then drops or forgets its future.
    pub fn wait_in_task(&mut self, forget: bool, cx: &mut CardContext<'_>) -> Check {
        let Some(ticket) = self.jobs.front().and_then(|job| job.ticket) else { return Ok(()) };
        let channel = self.channel();
        let polled = RUNTIME.with_borrow(|runtime| {
            let _inside = runtime.enter();
            let mut future = Box::pin(channel.wait_async(ticket, LIMIT));
            let polled = future.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop()));
            if forget {
                std::mem::forget(future)
            } else {
                drop(future)
            }
            polled
        });
        match polled {
            task::Poll::Pending | task::Poll::Ready(Err(WaitError::NoInterrupt)) => Ok(()),
            task::Poll::Ready(Ok(())) => self.on_complete(cx),
            task::Poll::Ready(Err(error)) => self.on_error(error, cx),
        }
    }

    /// Ends the channel. `gone` means that its registers are known to read all ones. The possible outcomes of jobs in flight depend
    /// on what the driver reports.
    pub fn end(&mut self, how: Disposal, gone: bool, cx: &mut CardContext<'_>) -> Check<Fate> {
        let Some(channel) = self.channel.take() else { return self.check_taken(cx) };
        self.old_ticket = channel.last_ticket().or(self.old_ticket);
        let (in_flight, before) = (channel.in_flight(), cx.card.quarantined_bytes());
        let mut reported = None;
        match how {
            Disposal::Close => reported = Some(channel.close()),
            Disposal::Drop => drop(channel),
            Disposal::Forget => std::mem::forget(channel),
        }
        self.forgotten = how == Disposal::Forget;
        let grown = cx.card.quarantined_bytes() - before;
        let fate = match (how, grown) {
            (Disposal::Forget, _) => Fate::Forgotten,
            (_, 0) => Fate::Idle,
            _ => Fate::Quarantined,
        };
        if gone && fate == Fate::Idle {
            return Err("the engine was considered idle although the registers read all ones".into());
        }
        reported.map_or(Ok(()), |reported| check_report(reported, grown, cx.all_ones.get()))?;
        self.dispose_jobs(in_flight, fate, cx)?;
        Ok(fate)
    }

    /// Updates the model for the jobs of an ended channel. According to the driver, the last `in_flight` jobs had not ended; only
    /// they may continue.
    fn dispose_jobs(&mut self, in_flight: usize, fate: Fate, cx: &mut CardContext<'_>) -> Check {
        let jobs: Vec<PendingJob> = self.jobs.drain(..).collect();
        let Some(ended) = jobs.len().checked_sub(in_flight) else {
            return Err(format!("{in_flight} jobs in flight, but only {} were submitted", jobs.len()));
        };
        jobs.iter().for_each(|job| job.allow_partial(self.side, cx.region));
        for buffer in jobs[ended..].iter().flat_map(|job| job.parts.iter().map(|part| &part.buffer)) {
            check_state(buffer, fate)?;
        }
        if fate == Fate::Idle {
            return self.compare();
        }
        jobs[ended..].iter().for_each(|job| job.allow_late(self.side, cx.region));
        self.compare()?;
        for buffer in 0..self.buffers.len() {
            if self.buffers[buffer].is_undefined() {
                self.replace(cx.card, buffer, false)?;
            }
        }
        Ok(())
    }

    /// Checks that a forgotten channel cannot be opened again as long as its card exists.
    fn check_taken(&self, cx: &CardContext<'_>) -> Check<Fate> {
        if !self.forgotten {
            return Ok(Fate::Idle);
        }
        match open(cx.card, cx.setup, self.side, self.index, self.ring) {
            Err(OpenError::Taken { .. }) => Ok(Fate::Forgotten),
            Err(error) => Err(format!("opening a forgotten channel: {error}")),
            Ok(_) => Err("a forgotten channel could be opened".into()),
        }
    }

    /// Ends the channel together with its card. Returns whether it was closed without an error.
    pub fn end_with_card(
        &mut self,
        how: Disposal,
        gone: bool,
        all_ones: bool,
        region: &mut Region,
    ) -> Check<bool> {
        if self.side == Side::H2C {
            self.jobs.iter().for_each(|job| job.allow_partial(self.side, region));
        }
        self.jobs.clear();
        let Some(channel) = self.channel.take() else { return Ok(!self.forgotten) };
        match how {
            Disposal::Close => match channel.close() {
                Ok(()) if gone => Err("closed without an error although the registers read all ones".into()),
                Ok(()) => Ok(true),
                error => {
                    let bytes =
                        if let Err(CloseError::Quarantined { bytes, .. }) = &error { *bytes } else { 0 };
                    check_report(error, bytes, all_ones).map(|()| false)
                }
            },
            Disposal::Drop => {
                drop(channel);
                Ok(!gone)
            }
            Disposal::Forget => {
                std::mem::forget(channel);
                Ok(false)
            }
        }
    }

    /// Drops or forgets a buffer, and allocates another.
    pub fn replace(&mut self, card: &Card, buffer: usize, forget: bool) -> Check {
        let new = HostBuffer::new(card, self.side)?;
        let old = std::mem::replace(&mut self.buffers[buffer], new);
        let uses_old = |(buffer, _): &(HostBuffer, _)| buffer.is_same(&old);
        if self.program.as_ref().is_some_and(|built| built.moves.iter().any(uses_old)) {
            self.program = None;
        }
        old.end(forget);
        Ok(())
    }
}

/// Checks the result of closing a channel. The quarantine has grown by `grown` bytes.
fn check_report(reported: Result<(), CloseError>, grown: u64, all_ones: bool) -> Check {
    match reported {
        Ok(()) if grown == 0 => Ok(()),
        Err(CloseError::Quarantined { bytes, cause }) if bytes == grown => match cause {
            EngineError::Hung { .. } => Ok(()),
            EngineError::Gone { .. } | EngineError::Bus { .. } if all_ones => Ok(()),
            cause => Err(format!("quarantined without a cause: {cause}")),
        },
        other => Err(format!("closing returned {other:?}, but {grown} bytes were quarantined")),
    }
}

/// Checks the state of memory that was in flight when its channel ended.
fn check_state(buffer: &HostBuffer, fate: Fate) -> Check {
    let is_expected = match (buffer.state(), fate) {
        (None, _) => true,
        (Some(Err(MemoryError::Quarantined)), _) => fate == Fate::Quarantined || buffer.is_undefined(),
        (Some(Ok(())), _) => fate == Fate::Idle,
        (Some(Err(MemoryError::InFlight(_))), _) => fate == Fate::Forgotten,
        (Some(Err(_)), _) => false,
    };
    if is_expected {
        Ok(())
    } else {
        Err(format!("memory in flight is {:?}, but the engine is {fate:?}", buffer.state()))
    }
}
