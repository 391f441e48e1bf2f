//! Waiting for a completion: with the processor, with the scheduler, or asleep.

use super::completion::Poll;
use super::error::EngineError;
use super::handle::{Channel, LONGEST_SPIN, Ticket};
use super::options::Wait;
use super::place::Event;
use crate::bus::{counts, readable};
use crate::regs::MAX_CHANNELS;
use crate::stats::Count;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Polls before a wait looks at the clock for the first time.
const SPINS: u32 = 1024;
/// How often a wait reads the status register: an error that wrote no completion is found this soon.
const STATUS_INTERVAL: Duration = Duration::from_millis(1);
/// Longest sleep between two looks: an interrupt that was lost costs no more.
const SLEEP: Duration = Duration::from_millis(10);
/// Bounds of the time that [`Wait::Hybrid`] polls. A sleep and the wake-up after it cost some microseconds, so to poll for much
/// longer than that gains nothing.
const HYBRID: [Duration; 2] = [Duration::from_micros(1), LONGEST_SPIN];

/// The eventfds to sleep on.
pub(crate) type Events<'a> = [Option<&'a Arc<dyn Event>>; MAX_CHANNELS];

/// A channel or several, which finish what their tickets name.
pub(crate) trait Awaited {
    /// Names what is waited for.
    type Ticket: Copy;

    fn poll(&mut self, ticket: Self::Ticket) -> Result<Poll, EngineError>;

    /// Reads the status registers: an error may write no completion.
    fn check(&mut self) -> Result<(), EngineError>;

    /// Lets what is not finished interrupt.
    fn rearm(&mut self) -> Result<(), EngineError>;

    /// What the interrupts make readable.
    fn events(&self) -> Events<'_>;

    /// How long [`Wait::Hybrid`] polls.
    fn spin_limit(&mut self) -> &mut Duration;

    /// One that is not finished, or any: it counts what the wait does.
    fn busy(&self) -> &Channel;
}

/// A wait that is going on.
pub(crate) struct Waiting<'a, A: Awaited> {
    pub on: &'a mut A,
    ticket: A::Ticket,
    begin: Instant,
    limit: Duration,
    look: Instant,
    /// The last sleep ended without an interrupt.
    overslept: bool,
}

impl<'a, A: Awaited> Waiting<'a, A> {
    pub fn new(on: &'a mut A, ticket: A::Ticket, limit: Duration) -> Self {
        let begin = Instant::now();
        Self { on, ticket, begin, limit, look: begin + STATUS_INTERVAL, overslept: false }
    }

    pub fn is_ready(&mut self) -> Result<bool, EngineError> {
        Ok(self.on.poll(self.ticket)? == Poll::Ready)
    }

    pub fn run(mut self, wait: Wait) -> Result<(), EngineError> {
        if !wait.sleeps() && self.polls(SPINS - 1)? {
            return Ok(());
        }
        match wait {
            Wait::Spin => self.spin(),
            Wait::SpinThenYield => self.take_turns(),
            Wait::Hybrid => self.spin_then_sleep(),
            Wait::Interrupt => self.sleep(),
        }
    }

    /// Whether one of so many polls found it finished.
    fn polls(&mut self, count: u32) -> Result<bool, EngineError> {
        for _ in 0..count {
            if self.is_ready()? {
                return Ok(true);
            }
            // While a job waits for the engine each poll reads a register, which over a socket may take long.
            if self.on.busy().queue.waits() && self.begin.elapsed() >= self.limit {
                return Err(self.on.busy().late(self.limit)?);
            }
            std::hint::spin_loop();
        }
        Ok(false)
    }

    fn spin(&mut self) -> Result<(), EngineError> {
        while !self.polls(SPINS)? {
            self.look()?;
        }
        Ok(())
    }

    fn take_turns(&mut self) -> Result<(), EngineError> {
        while !self.is_ready()? {
            self.look()?;
            counts::system_call();
            std::thread::yield_now();
        }
        Ok(())
    }

    fn spin_then_sleep(&mut self) -> Result<(), EngineError> {
        while self.begin.elapsed() < *self.on.spin_limit() {
            if self.polls(64)? {
                self.adapt();
                return Ok(());
            }
        }
        let slept = self.sleep();
        self.adapt();
        slept
    }

    fn adapt(&mut self) {
        let limit = self.on.spin_limit();
        *limit = adapted(*limit, self.begin.elapsed());
    }

    fn sleep(&mut self) -> Result<(), EngineError> {
        while let Some(most) = self.before_sleep()? {
            let events = self.on.events();
            counts::system_call();
            let slept = readable(events.map(|event| event.map(|event| event.as_fd())), most);
            self.after_sleep(slept.map(|ready| ready.contains(&true)))?;
        }
        Ok(())
    }

    /// Arms the interrupts, looks, and then says how long to sleep: what completes in between is seen by the look or wakes the
    /// sleeper. `None` when it is finished.
    pub fn before_sleep(&mut self) -> Result<Option<Duration>, EngineError> {
        self.on.rearm()?;
        if self.is_ready()? {
            self.on.busy().counters.add(Count::Missed, self.overslept.into());
            return Ok(None);
        }
        let left = self.limit.saturating_sub(self.begin.elapsed());
        if left.is_zero() {
            return Err(self.on.busy().late(self.limit)?);
        }
        if self.on.events().iter().all(Option::is_none) {
            return Err(EngineError::NoEvent);
        }
        self.on.busy().counters.add(Count::Sleeps, 1);
        Ok(Some(left.min(SLEEP)))
    }

    /// `slept` says whether an interrupt ended it.
    pub fn after_sleep(&mut self, slept: io::Result<bool>) -> Result<(), EngineError> {
        self.overslept = !slept.map_err(|error| EngineError::Sleep(error.into()))?;
        self.on.events().into_iter().flatten().for_each(|event| event.clear());
        self.on.check()
    }

    /// Now and then: whether it takes too long, or an engine reports an error.
    fn look(&mut self) -> Result<(), EngineError> {
        let now = Instant::now();
        if now - self.begin >= self.limit {
            return Err(self.on.busy().late(self.limit)?);
        }
        if now >= self.look {
            self.on.check()?;
            self.look = Instant::now() + STATUS_INTERVAL;
        }
        Ok(())
    }
}

impl Awaited for Channel {
    type Ticket = Ticket;

    #[inline(always)]
    fn poll(&mut self, ticket: Ticket) -> Result<Poll, EngineError> {
        Channel::poll(self, ticket)
    }

    fn check(&mut self) -> Result<(), EngineError> {
        Channel::check(self)
    }

    fn rearm(&mut self) -> Result<(), EngineError> {
        self.rearm_interrupt()
    }

    fn events(&self) -> Events<'_> {
        [self.sleeper.event.as_ref(), None, None, None]
    }

    fn spin_limit(&mut self) -> &mut Duration {
        &mut self.sleeper.spin_limit
    }

    fn busy(&self) -> &Channel {
        self
    }
}

impl Channel {
    /// Waits until a transfer or run is finished, as [`ChannelOptions::wait`](super::ChannelOptions::wait) says.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll), and [`EngineError::Deadline`] when it is not finished within `limit`; it is then still in flight.
    /// The status register is read every millisecond, or after each sleep, so engine errors end the wait early.
    #[inline]
    pub fn wait(&mut self, ticket: Ticket, limit: Duration) -> Result<(), EngineError> {
        match self.poll(ticket)? {
            Poll::Ready => Ok(()),
            Poll::Pending => self.wait_on(ticket, limit),
        }
    }

    #[cold]
    fn wait_on(&mut self, ticket: Ticket, limit: Duration) -> Result<(), EngineError> {
        let wait = self.options.wait;
        Waiting::new(self, ticket, limit).run(wait)
    }

    /// It took longer than `waited`.
    pub(crate) fn late(&self, waited: Duration) -> Result<EngineError, EngineError> {
        self.counters.add(Count::Late, 1);
        Ok(EngineError::Deadline { waited, snapshot: Box::new(self.snapshot()?) })
    }
}

/// Moves the time to poll towards twice what a wait took, or to the shortest if that is not worth polling for.
fn adapted(limit: Duration, took: Duration) -> Duration {
    let wanted = if took * 2 <= HYBRID[1] { took * 2 } else { HYBRID[0] };
    ((limit * 7 + wanted) / 8).clamp(HYBRID[0], HYBRID[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_poll_follows_what_waits_take() {
        let after =
            |took: u64| (0..64).fold(LONGEST_SPIN, |limit, _| adapted(limit, Duration::from_micros(took)));
        let between = |low, high, time: Duration| (low..=high).contains(&time.as_nanos());
        assert!(between(9_900, 11_000, after(5)), "{:?}", after(5));
        assert!(between(48_000, 50_000, after(24)), "{:?}", after(24));
        assert!(between(1_000, 1_100, after(1000)), "{:?}", after(1000));
        assert!(between(1_000, 1_100, after(0)), "{:?}", after(0));
        // It comes back once waits are short again.
        let slow = after(1000);
        assert!((0..32).fold(slow, |limit, _| adapted(limit, Duration::from_micros(10))) > slow * 10);
    }
}
