//! How a channel stops, fails, ends and begins again, and what may still happen then.

use super::host::{Check, Host, Job};
use super::lane::{Context, Lane, open, patiently};
use super::plan::{End, Side};
use super::shadow::Region;
use std::cell::RefCell;
use std::future::Future;
use std::task;
use xdma::card::{Card, CardError};
use xdma::channel::{EngineError, Poll};
use xdma::memory::MemoryError;

/// What is known of an engine after its channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was seen idle.
    Idle,
    /// It may go on, and its memory is condemned.
    Quarantined,
    /// The channel was forgotten, and has all it had.
    Forgotten,
}

thread_local! {
    /// One for all: a future that is forgotten keeps its registration here.
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts anywhere")
    );
}

impl Lane {
    /// The engine is idle: what is done is done, all else may have happened in part.
    pub fn lose(&mut self, cx: &mut Context<'_>) -> Check {
        while let Some(ticket) = self.jobs.front().and_then(|job| job.ticket) {
            match self.channel().poll(ticket) {
                Ok(Poll::Ready) => self.finished(cx)?,
                Ok(Poll::Pending) => return Err("pending, with the engine stopped".into()),
                Err(_) => break,
            }
        }
        let lost: Vec<_> = self.jobs.drain(..).collect();
        lost.iter().for_each(|job| job.may_have_happened(self.side, cx.region));
        for ticket in lost.iter().filter_map(|job| job.ticket) {
            if matches!(self.channel().poll(ticket), Ok(Poll::Ready)) {
                return Err(format!("{ticket:?} is done, and one before it is not"));
            }
        }
        self.look()
    }

    /// Compares all host memory with what it may hold; nothing is in flight.
    pub fn look(&self) -> Check {
        self.hosts.iter().try_for_each(Host::look)
    }

    pub fn stop(&mut self, cx: &mut Context<'_>) -> Check {
        match self.channel().stop() {
            Ok(()) => self.lose(cx),
            Err(error) => self.went_wrong(error, cx),
        }
    }

    pub fn recover(&mut self, cx: &mut Context<'_>) -> Check {
        let channel = self.channel();
        patiently("not recovered", || channel.recover())?;
        (self.failed, self.unknown) = (false, false);
        self.lose(cx)
    }

    /// Opens the channel again, which sees the engine idle.
    pub fn reopen(&mut self, cx: &mut Context<'_>) -> Check {
        let (side, index, ring) = (self.side, self.index, self.ring);
        self.channel = Some(patiently("not opened again", || open(cx.card, cx.setup, side, index, ring))?);
        if side == Side::H2C {
            cx.region.settle();
        }
        (self.failed, self.unknown) = (false, false);
        self.look()
    }

    /// Waits in a task that is polled once, and then dropped or forgotten.
    pub fn wait_in_task(&mut self, forget: bool, cx: &mut Context<'_>) -> Check {
        let Some(ticket) = self.jobs.front().and_then(|job| job.ticket) else { return Ok(()) };
        let channel = self.channel();
        let seen = RUNTIME.with_borrow(|runtime| {
            let _inside = runtime.enter();
            let mut future = Box::pin(channel.wait_async(ticket, super::lane::LIMIT));
            let seen = future.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop()));
            if forget {
                std::mem::forget(future)
            } else {
                drop(future)
            }
            seen
        });
        match seen {
            task::Poll::Pending | task::Poll::Ready(Err(EngineError::NoEvent)) => Ok(()),
            task::Poll::Ready(Ok(())) => self.finished(cx),
            task::Poll::Ready(Err(error)) => self.went_wrong(error, cx),
        }
    }

    /// Ends the channel, `blind` if its registers are sure to read all ones. What was in flight is judged by what the driver knows.
    pub fn end(&mut self, how: End, blind: bool, cx: &mut Context<'_>) -> Check<Fate> {
        let Some(channel) = self.channel.take() else { return self.is_taken(cx) };
        self.old_ticket = channel.last_ticket().or(self.old_ticket);
        let (in_flight, before) = (channel.in_flight(), cx.card.quarantined_bytes());
        let mut reported = None;
        match how {
            End::Close => reported = Some(channel.close()),
            End::Drop => drop(channel),
            End::Forget => std::mem::forget(channel),
        }
        self.forgotten = how == End::Forget;
        let grown = cx.card.quarantined_bytes() - before;
        let fate = match (how, grown) {
            (End::Forget, _) => Fate::Forgotten,
            (_, 0) => Fate::Idle,
            _ => Fate::Quarantined,
        };
        if blind && fate == Fate::Idle {
            return Err("its engine was taken for idle while the registers read all ones".into());
        }
        reported.map_or(Ok(()), |reported| check_report(reported, grown, cx.all_ones.get()))?;
        self.judge(in_flight, fate, cx)?;
        Ok(fate)
    }

    /// The driver said that the last `in_flight` jobs were not over. They, and no others, share the engine's fate.
    fn judge(&mut self, in_flight: usize, fate: Fate, cx: &mut Context<'_>) -> Check {
        let jobs: Vec<Job> = self.jobs.drain(..).collect();
        let Some(over) = jobs.len().checked_sub(in_flight) else {
            return Err(format!("{in_flight} in flight of {} that were submitted", jobs.len()));
        };
        jobs.iter().for_each(|job| job.may_have_happened(self.side, cx.region));
        for host in jobs[over..].iter().flat_map(|job| job.parts.iter().map(|part| &part.host)) {
            check_state(host, fate)?;
        }
        if fate == Fate::Idle {
            return self.look();
        }
        jobs[over..].iter().for_each(|job| job.may_go_on(self.side, cx.region));
        self.look()?;
        for buffer in 0..self.hosts.len() {
            if self.hosts[buffer].is_lost() {
                self.replace(cx.card, buffer, false)?;
            }
        }
        Ok(())
    }

    /// A channel that was forgotten is taken for as long as its card lives.
    fn is_taken(&self, cx: &Context<'_>) -> Check<Fate> {
        if !self.forgotten {
            return Ok(Fate::Idle);
        }
        match open(cx.card, cx.setup, self.side, self.index, self.ring) {
            Err(CardError::ChannelTaken { .. }) => Ok(Fate::Forgotten),
            Err(error) => Err(format!("a channel that was forgotten: {error}")),
            Ok(_) => Err("a channel that was forgotten could be opened".into()),
        }
    }

    /// The channel ends with its card, and all memory with it; whether it was closed well.
    pub fn leave(&mut self, how: End, blind: bool, all_ones: bool, region: &mut Region) -> Check<bool> {
        if self.side == Side::H2C {
            self.jobs.iter().for_each(|job| job.may_have_happened(self.side, region));
        }
        self.jobs.clear();
        let Some(channel) = self.channel.take() else { return Ok(!self.forgotten) };
        match how {
            End::Close => match channel.close() {
                Ok(()) if blind => Err("closed well while the registers read all ones".into()),
                Ok(()) => Ok(true),
                error => {
                    let bytes =
                        if let Err(EngineError::Quarantined { bytes, .. }) = &error { *bytes } else { 0 };
                    check_report(error, bytes, all_ones).map(|()| false)
                }
            },
            End::Drop => {
                drop(channel);
                Ok(!blind)
            }
            End::Forget => {
                std::mem::forget(channel);
                Ok(false)
            }
        }
    }

    /// Ends a buffer, and takes another.
    pub fn replace(&mut self, card: &Card, buffer: usize, forget: bool) -> Check {
        let new = Host::new(card, self.side)?;
        let old = std::mem::replace(&mut self.hosts[buffer], new);
        if self.program.as_ref().is_some_and(|built| built.moves.iter().any(|(host, _)| host.is(&old))) {
            self.program = None;
        }
        old.end(forget);
        Ok(())
    }
}

/// What closing reported, of a channel after which the quarantine had grown by so many bytes.
fn check_report(reported: Result<(), EngineError>, grown: u64, all_ones: bool) -> Check {
    match reported {
        Ok(()) if grown == 0 => Ok(()),
        Err(EngineError::Quarantined { bytes, cause }) if bytes == grown => match *cause {
            EngineError::Hung { .. } => Ok(()),
            EngineError::Gone { .. } | EngineError::Bus { .. } if all_ones => Ok(()),
            cause => Err(format!("quarantined without a cause: {cause}")),
        },
        other => Err(format!("closing reported {other:?}, and {grown} bytes were quarantined")),
    }
}

/// What the driver says of memory that was in flight when its channel ended.
fn check_state(host: &Host, fate: Fate) -> Check {
    let right = match (host.state(), fate) {
        (None, _) => true,
        (Some(Err(MemoryError::Quarantined)), _) => fate == Fate::Quarantined || host.is_lost(),
        (Some(Ok(())), _) => fate == Fate::Idle,
        (Some(Err(MemoryError::InFlight(_))), _) => fate == Fate::Forgotten,
        (Some(Err(_)), _) => false,
    };
    if right { Ok(()) } else { Err(format!("memory in flight is {:?}, its engine {fate:?}", host.state())) }
}
