//! Waiting for a completion: by spinning, by yielding, or asleep until an interrupt.

use super::completion::Poll;
use super::context::Event;
use super::error::{EngineError, PollError, WaitError};
use super::handle::{Channel, LONGEST_SPIN, Ticket};
use super::options::Wait;
use crate::bus::{counts, readable};
use crate::regs::MAX_CHANNELS;
use crate::stats::Count;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Number of polls before a wait reads the clock for the first time.
const SPINS: u32 = 1024;
/// Interval between reads of the status register during a wait. It bounds how late an error without a write-back is found.
const STATUS_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum duration of one sleep. It bounds the delay that a lost interrupt causes.
const SLEEP: Duration = Duration::from_millis(10);
/// Duration of the first sleep between two jobs; the next ones are longer. See [`Waitable::is_between_jobs`].
const BETWEEN_JOBS: Duration = Duration::from_micros(20);
/// Bounds of the time for which [`Wait::Hybrid`] polls. Sleeping and waking up takes a few microseconds, so polling for much
/// longer gains nothing.
const HYBRID: [Duration; 2] = [Duration::from_micros(1), LONGEST_SPIN];

/// The eventfds to sleep on.
pub(crate) type Events<'a> = [Option<&'a Arc<dyn Event>>; MAX_CHANNELS];

/// A channel or pool that can be waited for.
pub(crate) trait Waitable {
    /// Identifies the work to wait for.
    type Ticket: Copy;

    fn poll(&mut self, ticket: Self::Ticket) -> Result<Poll, PollError>;

    /// Reads the status registers, which finds errors without a write-back.
    fn check(&mut self) -> Result<(), EngineError>;

    /// Enables the interrupts of unfinished work.
    fn rearm(&mut self) -> Result<(), EngineError>;

    /// Returns the eventfds that the interrupts make readable.
    fn events(&self) -> Events<'_>;

    /// Returns the time for which [`Wait::Hybrid`] polls.
    fn spin_limit(&mut self) -> &mut Duration;

    /// Returns a channel with unfinished work, or any channel if all are finished. Its counters record the wait.
    fn busy_channel(&self) -> &Channel;

    /// Returns whether a job waits although the engine has reported the one before it, because the engine may still be busy. No interrupt
    /// reports when it becomes idle.
    fn is_between_jobs(&self, ticket: Self::Ticket) -> bool;
}

/// A wait in progress.
pub(crate) struct Waiting<'a, A: Waitable> {
    pub target: &'a mut A,
    ticket: A::Ticket,
    begin: Instant,
    limit: Duration,
    next_check: Instant,
    /// Duration of the current sleep if it is between two jobs, or else zero.
    between_jobs: Duration,
    /// Whether the last sleep ended without an interrupt and was not between two jobs.
    overslept: bool,
}

impl<'a, A: Waitable> Waiting<'a, A> {
    pub fn new(target: &'a mut A, ticket: A::Ticket, limit: Duration) -> Self {
        let begin = Instant::now();
        Self {
            target,
            ticket,
            begin,
            limit,
            next_check: begin + STATUS_INTERVAL,
            between_jobs: Duration::ZERO,
            overslept: false,
        }
    }

    pub fn is_ready(&mut self) -> Result<bool, WaitError> {
        Ok(self.target.poll(self.ticket)? == Poll::Ready)
    }

    pub fn run(mut self, wait: Wait) -> Result<(), WaitError> {
        match self.run_until_limit(wait)? {
            Poll::Ready => Ok(()),
            Poll::Pending => Err(self.deadline_error()),
        }
    }

    /// As [`run`](Self::run), but returns [`Poll::Pending`] at the limit.
    fn run_until_limit(&mut self, wait: Wait) -> Result<Poll, WaitError> {
        if !wait.sleeps() && self.poll_times(SPINS - 1)? {
            return Ok(Poll::Ready);
        }
        match wait {
            Wait::Spin => self.spin(),
            Wait::SpinThenYield => self.spin_then_yield(),
            Wait::Hybrid => self.spin_then_sleep(),
            Wait::Interrupt => self.sleep(),
        }
    }

    /// The error of a wait that reached its limit.
    pub fn deadline_error(&self) -> WaitError {
        self.target.busy_channel().deadline_error(self.limit)
    }

    /// Returns the time until the limit.
    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begin.elapsed())
    }

    /// Polls up to `count` times, or until the limit. Returns whether the work is finished.
    fn poll_times(&mut self, count: u32) -> Result<bool, WaitError> {
        for _ in 0..count {
            if self.is_ready()? {
                return Ok(true);
            }
            // Between two jobs, each poll reads a register, which may take long over a socket.
            if self.target.is_between_jobs(self.ticket) && self.left().is_zero() {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
        Ok(false)
    }

    fn spin(&mut self) -> Result<Poll, WaitError> {
        while !self.poll_times(SPINS)? {
            if !self.check_periodically()? {
                return Ok(Poll::Pending);
            }
        }
        Ok(Poll::Ready)
    }

    fn spin_then_yield(&mut self) -> Result<Poll, WaitError> {
        while !self.is_ready()? {
            if !self.check_periodically()? {
                return Ok(Poll::Pending);
            }
            counts::system_call();
            std::thread::yield_now();
        }
        Ok(Poll::Ready)
    }

    fn spin_then_sleep(&mut self) -> Result<Poll, WaitError> {
        while self.begin.elapsed() < *self.target.spin_limit() {
            if self.poll_times(64)? {
                self.adapt();
                return Ok(Poll::Ready);
            }
        }
        let slept = self.sleep();
        self.adapt();
        slept
    }

    fn adapt(&mut self) {
        let limit = self.target.spin_limit();
        *limit = adapted(*limit, self.begin.elapsed());
    }

    fn sleep(&mut self) -> Result<Poll, WaitError> {
        while let Some(most) = self.before_sleep()? {
            if most.is_zero() {
                return Ok(Poll::Pending);
            }
            let events = self.target.events();
            counts::system_call();
            let slept = readable(events.map(|event| event.map(|event| event.as_fd())), most);
            self.after_sleep(slept.map(|ready| ready.contains(&true)))?;
        }
        Ok(Poll::Ready)
    }

    /// Enables the interrupts, polls, and returns the maximum time to sleep, which is zero at the limit; `None` if the work is
    /// finished. A completion is either seen by this poll, or raises an interrupt that wakes the sleeping thread.
    pub fn before_sleep(&mut self) -> Result<Option<Duration>, WaitError> {
        let rearmed = self.target.rearm();
        self.unless_ready(rearmed)?;
        if self.is_ready()? {
            self.target.busy_channel().counters.add(Count::Missed, self.overslept.into());
            return Ok(None);
        }
        let left = self.left();
        if left.is_zero() {
            return Ok(Some(left));
        }
        if self.target.events().iter().all(Option::is_none) {
            return Err(WaitError::NoInterrupt);
        }
        self.target.busy_channel().counters.add(Count::Sleeps, 1);
        self.between_jobs = match self.target.is_between_jobs(self.ticket) {
            true => (2 * self.between_jobs).clamp(BETWEEN_JOBS, SLEEP),
            false => Duration::ZERO,
        };
        Ok(Some(left.min(if self.between_jobs.is_zero() { SLEEP } else { self.between_jobs })))
    }

    /// Processes the end of a sleep. `slept` is whether an interrupt ended it.
    pub fn after_sleep(&mut self, slept: io::Result<bool>) -> Result<(), WaitError> {
        self.overslept = !slept.map_err(WaitError::Sleep)? && self.between_jobs.is_zero();
        self.target.events().into_iter().flatten().for_each(|event| event.clear());
        self.check()
    }

    fn check(&mut self) -> Result<(), WaitError> {
        let checked = self.target.check();
        self.unless_ready(checked)
    }

    /// Returns an error of the registers, unless the job had finished before that failure: then the next poll says so.
    fn unless_ready(&mut self, result: Result<(), EngineError>) -> Result<(), WaitError> {
        match result {
            Err(error) if !matches!(self.target.poll(self.ticket), Ok(Poll::Ready)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Checks the status registers every [`STATUS_INTERVAL`]. Returns whether there is time left.
    fn check_periodically(&mut self) -> Result<bool, WaitError> {
        let now = Instant::now();
        if now - self.begin >= self.limit {
            return Ok(false);
        }
        if now >= self.next_check {
            self.check()?;
            self.next_check = Instant::now() + STATUS_INTERVAL;
        }
        Ok(true)
    }
}

impl Waitable for Channel {
    type Ticket = Ticket;

    #[inline(always)]
    fn poll(&mut self, ticket: Ticket) -> Result<Poll, PollError> {
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

    fn busy_channel(&self) -> &Channel {
        self
    }

    fn is_between_jobs(&self, _: Ticket) -> bool {
        self.queue.has_waiting() && self.engine.progress.outstanding() == 0
    }
}

impl Channel {
    /// Waits until a transfer or run is finished, in the way that [`ChannelOptions::wait`](super::ChannelOptions::wait)
    /// selects.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll), and [`WaitError::Deadline`] if it is not finished within `limit`; it is then still in flight.
    /// The status register is read every millisecond, or after each sleep, so engine errors end the wait early.
    #[inline]
    pub fn wait(&mut self, ticket: Ticket, limit: Duration) -> Result<(), WaitError> {
        match self.poll(ticket)? {
            Poll::Ready => Ok(()),
            Poll::Pending => self.wait_on(ticket, limit),
        }
    }

    #[cold]
    fn wait_on(&mut self, ticket: Ticket, limit: Duration) -> Result<(), WaitError> {
        let wait = self.options.wait;
        Waiting::new(self, ticket, limit).run(wait)
    }

    /// As [`wait`](Self::wait), but returns [`Poll::Pending`] if the transfer is not finished within `limit`, for callers that
    /// wait in slices.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll), and [`WaitError::Sleep`].
    pub(crate) fn wait_slice(&mut self, ticket: Ticket, limit: Duration) -> Result<Poll, WaitError> {
        let wait = self.options.wait;
        Waiting::new(self, ticket, limit).run_until_limit(wait)
    }

    /// Returns the error of a wait that reached its limit of `waited`. If the registers cannot be read, it is the error of
    /// reading them.
    pub(crate) fn deadline_error(&self, waited: Duration) -> WaitError {
        self.counters.add(Count::Timeouts, 1);
        match self.snapshot() {
            Ok(snapshot) => WaitError::Deadline { waited, snapshot: Box::new(snapshot) },
            Err(error) => error.into(),
        }
    }
}

/// Moves the polling time towards twice the duration of the last wait, or towards the minimum if the wait was too long to poll
/// for.
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
        // It grows again once waits are short.
        let slow = after(1000);
        assert!((0..32).fold(slow, |limit, _| adapted(limit, Duration::from_micros(10))) > slow * 10);
    }
}
