//! Large transfers over several channels in parallel.

use super::completion::Poll;
use super::error::{
    EngineError, InvalidTransfer, PollError, PoolError, SubmitError, TransferError, WaitError,
};
use super::handle::{Channel, LONGEST_SPIN, Ticket};
use super::transfers::Transfers;
use super::waiting::{Events, Waitable, Waiting};
use crate::memory::DmaMemory;
use crate::regs::{Direction, MAX_CHANNELS};
use std::ops::Range;
use std::time::Duration;

/// Minimum size of a part in bytes. Below this, starting a channel takes longer than it saves.
const MIN_PART: u64 = 64 << 10;
/// Transfers are cut at multiples of this card address, where the engine splits its bursts anyway.
const ALIGNMENT: u64 = 4096;

/// Channels of one direction that share the work. A transfer is split into as many parts as there are channels; a transfer of
/// less than 128 KiB goes to a single channel, in round-robin order.
///
/// A pool fails as a whole. When a channel fails, the others are stopped, because the rest of a transfer is of no use. After an
/// error, every channel is idle and the memory is free. A channel that cannot be stopped keeps its part of the memory, and
/// [`stop`](Self::stop) reports it. [`recover`](Self::recover) makes the pool usable again. Parts of a transfer, and transfers
/// of a pool, finish in any order.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::{sync::Arc, time::Duration};
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::{EmulatorOptions, logic::Memory};
/// use xdma::channel::Pool;
/// use xdma::regs::Direction;
///
/// # let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let mut pool = Pool::new(vec![card.h2c(0)?, card.h2c(1)?])?;
/// let buffer = card.allocate(1 << 20, Direction::H2C)?;
/// let ticket = pool.submit(&buffer, 0..1 << 20, 0)?; // half of it on each channel
/// pool.wait(ticket, Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    members: Vec<Member>,
    /// Index of the next channel in turn.
    next: usize,
    failure: Option<EngineError>,
    /// Time for which [`Wait::Hybrid`](super::Wait::Hybrid) polls.
    spin_limit: Duration,
}

/// A channel and its part of a transfer. The parts of all channels are prepared before any is started.
#[derive(Debug)]
struct Member {
    channel: Channel,
    part: Transfers,
}

/// Identifies a transfer of a pool by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolTicket {
    parts: [Option<Ticket>; MAX_CHANNELS],
}

impl Pool {
    /// Creates a pool of channels of one direction that wait in the same way.
    ///
    /// # Errors
    ///
    /// There are no channels or more than four, or they differ in direction or in how they wait.
    pub fn new(channels: Vec<Channel>) -> Result<Self, PoolError> {
        let kind = |channel: &Channel| (channel.direction(), channel.options().wait);
        let first = channels.first().map(kind).ok_or(PoolError)?;
        if channels.len() > MAX_CHANNELS || channels.iter().any(|channel| kind(channel) != first) {
            return Err(PoolError);
        }
        let member = |channel: Channel| {
            let part = Transfers::with_capacity(first.0, channel.engine.slots.len());
            Member { channel, part }
        };
        let members = channels.into_iter().map(member).collect();
        Ok(Self { members, next: 0, failure: None, spin_limit: LONGEST_SPIN })
    }

    /// Returns the direction of the channels.
    pub fn direction(&self) -> Direction {
        self.members[0].channel.direction()
    }

    /// Returns the channels.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.members.iter().map(|member| &member.channel)
    }

    /// Starts a transfer between `range` of `memory`, in bytes, and card addresses from `card` on.
    ///
    /// # Errors
    ///
    /// As [`Channel::submit`], and nothing was started. If the bus failed half-way, the pool has failed.
    pub fn submit(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<PoolTicket, SubmitError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone().into());
        }
        let prepared = self.prepare(memory, range, card);
        let ticket = prepared.and_then(|()| self.start());
        self.members.iter_mut().for_each(|member| member.part.clear());
        ticket
    }

    /// Assigns each channel its part, and checks that all parts can be started.
    fn prepare(&mut self, memory: &impl DmaMemory, range: Range<u64>, card: u64) -> Result<(), SubmitError> {
        let len = range.end.saturating_sub(range.start);
        if card.checked_add(len).is_none() {
            return Err(InvalidTransfer::CardAddress { address: card, len }.into());
        }
        let count = self.members.len();
        for part in parts(len, card, count) {
            let member = &mut self.members[self.next];
            self.next = (self.next + 1) % count;
            let host = range.start + part.start..range.start + part.end;
            member.part.add(memory, host, card + part.start)?;
            member.channel.check_fits(&member.part)?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<PoolTicket, SubmitError> {
        let mut parts = [None; MAX_CHANNELS];
        for (member, ticket) in self.members.iter_mut().zip(&mut parts) {
            if member.part.descriptors() == 0 {
                continue;
            }
            match member.channel.start(&member.part) {
                Ok(started) => *ticket = Some(started),
                Err(SubmitError::Engine(error)) => return Err(self.fail(error).into()),
                Err(refused) => return Err(refused),
            }
        }
        Ok(PoolTicket { parts })
    }

    /// Returns whether all parts of a transfer are finished, as [`Channel::poll`] does.
    ///
    /// # Errors
    ///
    /// The error of the first channel that failed; all channels are stopped.
    pub fn poll(&mut self, ticket: PoolTicket) -> Result<Poll, PollError> {
        if ticket.parts.iter().skip(self.members.len()).any(Option::is_some) {
            return Err(PollError::ForeignTicket);
        }
        let mut all = Poll::Ready;
        for (member, part) in self.members.iter_mut().zip(ticket.parts) {
            match part.map_or(Ok(Poll::Ready), |part| member.channel.poll(part)) {
                Ok(Poll::Ready) => {}
                Ok(Poll::Pending) => all = Poll::Pending,
                Err(error) => return Err(self.poll_failed(error)),
            }
        }
        Ok(all)
    }

    /// Waits until a transfer is finished, in the way that the channels' [`wait`](super::ChannelOptions::wait) option selects.
    /// An interrupt of any channel ends a sleep.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll), and [`WaitError::Deadline`] if it is not finished within `limit`; it is then still in flight.
    pub fn wait(&mut self, ticket: PoolTicket, limit: Duration) -> Result<(), WaitError> {
        let wait = self.members[0].channel.options().wait;
        Waiting::new(self, ticket, limit).run(wait)
    }

    /// Calls `what` for each channel with jobs in flight.
    fn for_each_busy(
        &mut self,
        what: impl Fn(&mut Channel) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut busy =
            self.members.iter_mut().map(|member| &mut member.channel).filter(|c| c.in_flight() > 0);
        busy.try_for_each(what).map_err(|error| self.fail(error))
    }

    /// Moves `range` of `memory`, in bytes, to or from card addresses from `card` on, and waits.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit) and [`wait`](Self::wait).
    pub fn transfer(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
        limit: Duration,
    ) -> Result<(), TransferError> {
        let ticket = self.submit(memory, range, card)?;
        Ok(self.wait(ticket, limit)?)
    }

    fn poll_failed(&mut self, error: PollError) -> PollError {
        match (error, &self.failure) {
            // Another part of a transfer whose first error was already reported.
            (_, Some(first)) => first.clone().into(),
            (error, None) => {
                // An old ticket may report a failure from before a recovery, or that `stop` was called.
                let failure = self.channels().find_map(|channel| channel.queue.failure().cloned());
                failure.map(|failure| self.fail(failure));
                error
            }
        }
    }

    /// Stops all channels after one failed. Returns the first error, which caused the others.
    fn fail(&mut self, error: EngineError) -> EngineError {
        if let Some(first) = &self.failure {
            return first.clone();
        }
        self.failure = Some(error.clone());
        if let Err(after) = self.stop() {
            tracing::error!(error = %after, "a channel of a failed pool cannot be stopped");
        }
        error
    }

    /// Stops all channels and abandons all jobs in flight.
    ///
    /// # Errors
    ///
    /// The error of the first channel that cannot be stopped. The others are stopped nevertheless.
    pub fn stop(&mut self) -> Result<(), EngineError> {
        let stopped = self.members.iter_mut().map(|member| member.channel.stop());
        let stopped = stopped.fold(Ok(()), Result::and);
        self.fail_unless_stopped(stopped)
    }

    /// Makes a pool that failed or was stopped usable again.
    ///
    /// # Errors
    ///
    /// As [`Channel::recover`].
    pub fn recover(&mut self) -> Result<(), EngineError> {
        let recovered = self.members.iter_mut().map(|member| member.channel.recover());
        let recovered = recovered.fold(Ok(()), Result::and);
        self.fail_unless_stopped(recovered)?;
        self.failure = None;
        Ok(())
    }

    /// After an error, some channels may be stopped and others not, so no transfer may be started before a recovery.
    fn fail_unless_stopped(&mut self, stopped: Result<(), EngineError>) -> Result<(), EngineError> {
        if stopped.is_err() {
            self.failure.get_or_insert(EngineError::Stopped);
        }
        stopped
    }
}

impl Waitable for Pool {
    type Ticket = PoolTicket;

    /// Polls all channels with a part of the transfer, because a poll also starts a chain that waits in its channel.
    fn poll(&mut self, ticket: PoolTicket) -> Result<Poll, PollError> {
        Pool::poll(self, ticket)
    }

    fn check(&mut self) -> Result<(), EngineError> {
        self.for_each_busy(Channel::check)
    }

    fn rearm(&mut self) -> Result<(), EngineError> {
        self.for_each_busy(Channel::rearm_interrupt)
    }

    fn events(&self) -> Events<'_> {
        std::array::from_fn(|at| {
            self.members.get(at).and_then(|member| member.channel.sleeper.event.as_ref())
        })
    }

    fn spin_limit(&mut self) -> &mut Duration {
        &mut self.spin_limit
    }

    fn busy_channel(&self) -> &Channel {
        let busy = self.channels().find(|channel| channel.in_flight() > 0);
        busy.unwrap_or(&self.members[0].channel)
    }

    fn is_between_jobs(&self, ticket: PoolTicket) -> bool {
        let mut parts = self.channels().zip(ticket.parts);
        parts.any(|(channel, part)| part.is_some_and(|part| channel.is_between_jobs(part)))
    }
}

/// Splits `len` bytes from card address `card` on into parts for at most `count` channels.
fn parts(len: u64, card: u64, count: usize) -> impl Iterator<Item = Range<u64>> {
    let count = (len / MIN_PART).clamp(1, count as u64);
    let cut = move |at: u64| match at {
        _ if at == count => len,
        0 => 0,
        _ => {
            let even = (u128::from(len) * u128::from(at) / u128::from(count)) as u64;
            even - (card + even) % ALIGNMENT
        }
    };
    (0..count).map(move |at| cut(at)..cut(at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_transfers_stay_whole() {
        for len in [0, 1, MIN_PART, 2 * MIN_PART - 1] {
            assert!(parts(len, 3, 4).eq(std::iter::once(0..len)));
        }
        assert_eq!(parts(2 * MIN_PART, 0, 4).count(), 2);
        assert_eq!(parts(1 << 30, 0, 1).count(), 1);
    }

    #[test]
    fn parts_are_even_and_cut_at_burst_boundaries() {
        let seen: Vec<_> = parts(1 << 20, 0x1003, 4).collect();
        assert_eq!(seen, [0..0x3_fffd, 0x3_fffd..0x7_fffd, 0x7_fffd..0xb_fffd, 0xb_fffd..0x10_0000]);
    }

    proptest! {
        #[test]
        fn parts_cover_the_range_once(len: u64, card: u64, count in 1usize..=4) {
            let card = card.min(u64::MAX - len);
            let mut end = 0;
            for part in parts(len, card, count) {
                prop_assert_eq!(part.start, end);
                prop_assert!(part.end > part.start || len == 0);
                prop_assert!(part.end == len || (card + part.end).is_multiple_of(ALIGNMENT));
                prop_assert!(part.end - part.start <= len / len.div_euclid(MIN_PART).clamp(1, count as u64) + ALIGNMENT + 1);
                end = part.end;
            }
            prop_assert_eq!(end, len);
        }
    }
}
