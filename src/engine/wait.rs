//! Waiting for a completion: with the processor, with the scheduler, or asleep.

use super::poll::Poll;
use super::statistics::Count;
use super::{Channel, EngineError, Ticket};
use crate::bus::{BusError, counts};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Polls before a wait looks at the clock for the first time.
const SPINS: u32 = 1024;
/// How often a wait reads the status register: an error that wrote no completion is found this soon.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_millis(1);
/// Longest sleep between two looks: an interrupt that was lost costs no more.
pub(super) const SLEEP: Duration = Duration::from_millis(10);
/// Bounds of the time that [`Wait::Hybrid`] polls. A sleep and the wake-up after it cost some microseconds, so to poll for much
/// longer than that gains nothing.
const HYBRID: [Duration; 2] = [Duration::from_micros(1), Duration::from_micros(50)];

/// How [`Channel::wait`] waits. Completion is found in memory in each case; sleeping costs a register read, a system call and an
/// interrupt more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Polls, and never gives the processor away: the quickest on a processor of its own.
    Spin,
    /// Polls, and after 1,024 times lets other threads run in between.
    #[default]
    SpinThenYield,
    /// Polls for about as long as it took lately if that was short (1 to 50 us), then sleeps until the channel interrupts.
    Hybrid,
    /// Sleeps at once.
    Interrupt,
}

impl Wait {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Spin, Self::SpinThenYield, Self::Hybrid, Self::Interrupt];

    /// Whether it needs the channel's interrupt.
    pub const fn sleeps(self) -> bool {
        matches!(self, Self::Hybrid | Self::Interrupt)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::SpinThenYield => "spin-then-yield",
            Self::Hybrid => "hybrid",
            Self::Interrupt => "interrupt",
        })
    }
}

/// No [`Wait`] is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way of waiting; there are spin, spin-then-yield, hybrid and interrupt")]
pub struct UnknownWait(String);

impl FromStr for Wait {
    type Err = UnknownWait;

    fn from_str(name: &str) -> Result<Self, UnknownWait> {
        let named = Self::ALL.into_iter().find(|wait| wait.to_string() == name);
        named.ok_or_else(|| UnknownWait(name.into()))
    }
}

/// What a channel sleeps on: an eventfd.
pub trait Event: AsFd + Send + Sync + fmt::Debug {
    /// Lets the channel's interrupt through, as at first and after a reset.
    ///
    /// # Errors
    ///
    /// The bus failed.
    fn enable(&self) -> Result<(), BusError>;

    /// Sleeps until the channel has interrupted since the last call, at most for `limit`. To return early is no harm.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    fn sleep(&self, limit: Duration) -> io::Result<()>;
}

/// A wait that is going on.
struct Going {
    ticket: Ticket,
    begin: Instant,
    limit: Duration,
    look: Instant,
}

impl Going {
    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begin.elapsed())
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
        if !wait.sleeps() {
            for _ in 1..SPINS {
                if self.poll(ticket)? == Poll::Ready {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
        let begin = Instant::now();
        let going = Going { ticket, begin, limit, look: begin + STATUS_INTERVAL };
        match wait {
            Wait::Spin => self.spin(going),
            Wait::SpinThenYield => self.take_turns(going),
            Wait::Hybrid => self.spin_then_sleep(going),
            Wait::Interrupt => self.sleep(&going),
        }
    }

    fn spin(&mut self, mut going: Going) -> Result<(), EngineError> {
        loop {
            for _ in 0..SPINS {
                if self.poll(going.ticket)? == Poll::Ready {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            self.look(&mut going)?;
        }
    }

    fn take_turns(&mut self, mut going: Going) -> Result<(), EngineError> {
        while self.poll(going.ticket)? == Poll::Pending {
            self.look(&mut going)?;
            counts::system_call();
            std::thread::yield_now();
        }
        Ok(())
    }

    fn spin_then_sleep(&mut self, going: Going) -> Result<(), EngineError> {
        while going.begin.elapsed() < self.spin_limit {
            for _ in 0..64 {
                if self.poll(going.ticket)? == Poll::Ready {
                    self.spin_limit = adapted(self.spin_limit, going.begin.elapsed());
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
        let slept = self.sleep(&going);
        self.spin_limit = adapted(self.spin_limit, going.begin.elapsed());
        slept
    }

    /// Arms the interrupt, looks, then sleeps: what completes in between is seen by the look or wakes the sleeper.
    fn sleep(&mut self, going: &Going) -> Result<(), EngineError> {
        loop {
            self.rearm_interrupt()?;
            if self.poll(going.ticket)? == Poll::Ready {
                return Ok(());
            }
            let left = going.left();
            if left.is_zero() {
                return Err(self.late(going.limit)?);
            }
            let Some(event) = &self.event else { return Err(EngineError::NoEvent) };
            self.counters.add(Count::Sleeps, 1);
            event.sleep(left.min(SLEEP)).map_err(|error| EngineError::Sleep(error.into()))?;
            self.check()?;
        }
    }

    /// Now and then: whether it takes too long, or the engine reports an error.
    fn look(&mut self, going: &mut Going) -> Result<(), EngineError> {
        let now = Instant::now();
        if now - going.begin >= going.limit {
            return Err(self.late(going.limit)?);
        }
        if now >= going.look {
            self.check()?;
            going.look = Instant::now() + STATUS_INTERVAL;
        }
        Ok(())
    }

    /// It took longer than `waited`.
    pub(super) fn late(&self, waited: Duration) -> Result<EngineError, EngineError> {
        self.counters.add(Count::Late, 1);
        Ok(EngineError::Deadline { waited, snapshot: Box::new(self.snapshot()?) })
    }
}

/// How long to poll before a sleep at first.
pub(super) const FIRST_SPIN: Duration = HYBRID[1];

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
            |took: u64| (0..64).fold(FIRST_SPIN, |limit, _| adapted(limit, Duration::from_micros(took)));
        let between = |low, high, time: Duration| (low..=high).contains(&time.as_nanos());
        assert!(between(9_900, 11_000, after(5)), "{:?}", after(5));
        assert!(between(48_000, 50_000, after(24)), "{:?}", after(24));
        assert!(between(1_000, 1_100, after(1000)), "{:?}", after(1000));
        assert!(between(1_000, 1_100, after(0)), "{:?}", after(0));
        // It comes back once waits are short again.
        let slow = after(1000);
        assert!((0..32).fold(slow, |limit, _| adapted(limit, Duration::from_micros(10))) > slow * 10);
    }

    #[test]
    fn names_are_parsed_as_they_are_printed() {
        for wait in Wait::ALL {
            assert_eq!(wait.to_string().parse(), Ok(wait));
        }
        assert!("sleep".parse::<Wait>().unwrap_err().to_string().contains("hybrid"));
    }
}
