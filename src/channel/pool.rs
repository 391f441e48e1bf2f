//! Large transfers over several channels at once.

use super::completion::Poll;
use super::error::EngineError;
use super::handle::{Channel, LONGEST_SPIN, Ticket};
use super::transfers::Transfers;
use super::waiting::{Awaited, Events, Waiting};
use crate::memory::DmaMemory;
use crate::regs::{Direction, MAX_CHANNELS};
use std::ops::Range;
use std::time::Duration;

/// Bytes that are worth a channel of their own: below, starting it takes longer than what it saves.
const PART: u64 = 64 << 10;
/// Transfers are cut at multiples of this, where the engine cuts its bursts anyway.
const CUT: u64 = 4096;

/// Channels of one direction that share the work: each transfer is cut into as many parts as there are channels, and
/// one of less than 128 KiB goes to the channel whose turn it is.
///
/// A pool fails as a whole. When a channel fails, the others are stopped, as the rest of a transfer is of no use: whoever
/// sees the error finds every channel idle and the memory free. A channel that cannot be stopped keeps its part of the memory, and
/// [`stop`](Self::stop) says so. [`recover`](Self::recover) makes the pool usable again.
/// Parts of one transfer, and transfers of one pool, finish in any order.
#[derive(Debug)]
pub struct Pool {
    lanes: Vec<Lane>,
    /// Whose turn it is.
    next: usize,
    failure: Option<EngineError>,
    /// How long [`Wait::Hybrid`](super::Wait::Hybrid) polls.
    spin_limit: Duration,
}

/// A channel, and the list that is filled with its part before any part is started.
#[derive(Debug)]
struct Lane {
    channel: Channel,
    part: Transfers,
}

/// Names a transfer of a pool, part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolTicket {
    parts: [Option<Ticket>; MAX_CHANNELS],
}

impl Pool {
    /// Takes channels of one direction that wait in the same way.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadPool`]: none, more than four, of both directions, or with different ways of waiting.
    pub fn new(channels: Vec<Channel>) -> Result<Self, EngineError> {
        let kind = |channel: &Channel| (channel.direction(), channel.options().wait);
        let first = channels.first().map(kind).ok_or(EngineError::BadPool)?;
        if channels.len() > MAX_CHANNELS || channels.iter().any(|channel| kind(channel) != first) {
            return Err(EngineError::BadPool);
        }
        let lane = |channel: Channel| {
            let part = Transfers::with_room(first.0, channel.engine.slots.len());
            Lane { channel, part }
        };
        let lanes = channels.into_iter().map(lane).collect();
        Ok(Self { lanes, next: 0, failure: None, spin_limit: LONGEST_SPIN })
    }

    /// Direction of the channels.
    pub fn direction(&self) -> Direction {
        self.lanes[0].channel.direction()
    }

    /// The channels.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.lanes.iter().map(|lane| &lane.channel)
    }

    /// Starts a transfer between `range` of `memory`, in bytes, and card addresses from `card` on.
    ///
    /// # Errors
    ///
    /// As [`Channel::submit`], and nothing was started then; where the bus failed half-way, the pool has failed.
    pub fn submit(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<PoolTicket, EngineError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let prepared = self.prepare(memory, range, card);
        let ticket = prepared.and_then(|()| self.start().map_err(|error| self.fail(error)));
        self.lanes.iter_mut().for_each(|lane| lane.part.clear());
        ticket
    }

    /// Gives each lane its part, and checks that all of them can be started.
    fn prepare(&mut self, memory: &impl DmaMemory, range: Range<u64>, card: u64) -> Result<(), EngineError> {
        let len = range.end.saturating_sub(range.start);
        if card.checked_add(len).is_none() {
            return Err(EngineError::CardAddress { address: card, len });
        }
        let count = self.lanes.len();
        for part in parts(len, card, count) {
            let lane = &mut self.lanes[self.next];
            self.next = (self.next + 1) % count;
            let host = range.start + part.start..range.start + part.end;
            lane.part.add(memory, host, card + part.start)?;
            lane.channel.check_fits(&lane.part)?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<PoolTicket, EngineError> {
        let mut parts = [None; MAX_CHANNELS];
        for (lane, ticket) in self.lanes.iter_mut().zip(&mut parts) {
            if lane.part.descriptors() > 0 {
                *ticket = Some(lane.channel.start(&lane.part)?);
            }
        }
        Ok(PoolTicket { parts })
    }

    /// Whether all parts of a transfer are finished; as [`Channel::poll`].
    ///
    /// # Errors
    ///
    /// That of the first channel that failed: all are stopped then.
    pub fn poll(&mut self, ticket: PoolTicket) -> Result<Poll, EngineError> {
        if ticket.parts.iter().skip(self.lanes.len()).any(Option::is_some) {
            return Err(EngineError::ForeignTicket);
        }
        let mut all = Poll::Ready;
        for (lane, part) in self.lanes.iter_mut().zip(ticket.parts) {
            match part.map_or(Ok(Poll::Ready), |part| lane.channel.poll(part)) {
                Ok(Poll::Ready) => {}
                Ok(Poll::Pending) => all = Poll::Pending,
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(all)
    }

    /// Waits until a transfer is finished, as the channels' [`wait`](super::ChannelOptions::wait) says. Whoever sleeps is woken by
    /// each of them.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll), and [`EngineError::Deadline`] when it is not finished within `limit`; it is then still in
    /// flight.
    pub fn wait(&mut self, ticket: PoolTicket, limit: Duration) -> Result<(), EngineError> {
        let wait = self.lanes[0].channel.options().wait;
        Waiting::new(self, ticket, limit).run(wait)
    }

    /// For each channel that has something to do.
    fn each_busy(
        &mut self,
        what: impl Fn(&mut Channel) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut busy = self.lanes.iter_mut().map(|lane| &mut lane.channel).filter(|c| c.in_flight() > 0);
        busy.try_for_each(what).map_err(|error| self.fail(error))
    }

    /// Moves `range` of `memory`, in bytes, and waits.
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
    ) -> Result<(), EngineError> {
        let ticket = self.submit(memory, range, card)?;
        self.wait(ticket, limit)
    }

    /// Stops all channels if one has failed. Returns the first error, of which the others are consequences.
    fn fail(&mut self, error: EngineError) -> EngineError {
        match (&error, &self.failure) {
            // Nothing is wrong with the channels.
            (EngineError::ForeignTicket | EngineError::TooOld | EngineError::Stopped, None) => error,
            // The rest of a transfer whose first error was told already.
            (_, Some(first)) => first.clone(),
            (_, None) => {
                self.failure = Some(error.clone());
                if let Err(after) = self.stop() {
                    tracing::error!(error = %after, "a channel of a pool that failed cannot be stopped");
                }
                error
            }
        }
    }

    /// Stops all channels and abandons what is in flight.
    ///
    /// # Errors
    ///
    /// That of the first channel that cannot be stopped; the others are stopped all the same.
    pub fn stop(&mut self) -> Result<(), EngineError> {
        let stopped = self.lanes.iter_mut().map(|lane| lane.channel.stop());
        stopped.fold(Ok(()), Result::and)
    }

    /// Makes a pool that failed or was stopped usable again.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn recover(&mut self) -> Result<(), EngineError> {
        let recovered = self.lanes.iter_mut().map(|lane| lane.channel.recover());
        recovered.fold(Ok(()), Result::and)?;
        self.failure = None;
        Ok(())
    }
}

impl Awaited for Pool {
    type Ticket = PoolTicket;

    /// All channels: a chain that waits in one of them is started by a poll.
    fn poll(&mut self, ticket: PoolTicket) -> Result<Poll, EngineError> {
        Pool::poll(self, ticket)
    }

    fn check(&mut self) -> Result<(), EngineError> {
        self.each_busy(Channel::check)
    }

    fn rearm(&mut self) -> Result<(), EngineError> {
        self.each_busy(Channel::rearm_interrupt)
    }

    fn events(&self) -> Events<'_> {
        std::array::from_fn(|at| self.lanes.get(at).and_then(|lane| lane.channel.sleeper.event.as_ref()))
    }

    fn spin_limit(&mut self) -> &mut Duration {
        &mut self.spin_limit
    }

    fn busy(&self) -> &Channel {
        let busy = self.channels().find(|channel| channel.in_flight() > 0);
        busy.unwrap_or(&self.lanes[0].channel)
    }
}

/// Cuts `len` bytes from card address `card` on into parts for at most `count` channels.
fn parts(len: u64, card: u64, count: usize) -> impl Iterator<Item = Range<u64>> {
    let count = (len / PART).clamp(1, count as u64);
    let cut = move |at: u64| match at {
        _ if at == count => len,
        0 => 0,
        _ => {
            let even = (u128::from(len) * u128::from(at) / u128::from(count)) as u64;
            even - (card + even) % CUT
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
        for len in [0, 1, PART, 2 * PART - 1] {
            assert!(parts(len, 3, 4).eq(std::iter::once(0..len)));
        }
        assert_eq!(parts(2 * PART, 0, 4).count(), 2);
        assert_eq!(parts(1 << 30, 0, 1).count(), 1);
    }

    #[test]
    fn parts_are_even_and_cut_where_bursts_are() {
        let seen: Vec<_> = parts(1 << 20, 0x1003, 4).collect();
        assert_eq!(seen, [0..0x3_fffd, 0x3_fffd..0x7_fffd, 0x7_fffd..0xb_fffd, 0xb_fffd..0x10_0000]);
    }

    proptest! {
        #[test]
        fn parts_cover_everything_once(len: u64, card: u64, count in 1usize..=4) {
            let card = card.min(u64::MAX - len);
            let mut end = 0;
            for part in parts(len, card, count) {
                prop_assert_eq!(part.start, end);
                prop_assert!(part.end > part.start || len == 0);
                prop_assert!(part.end == len || (card + part.end).is_multiple_of(CUT));
                prop_assert!(part.end - part.start <= len / len.div_euclid(PART).clamp(1, count as u64) + CUT + 1);
                end = part.end;
            }
            prop_assert_eq!(end, len);
        }
    }
}
