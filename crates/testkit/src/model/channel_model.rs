//! One channel with its host memory, and what must become of what it was given.

use super::host::{Check, Host, Job, Part, direction, transfers};
use super::plan::{BUFFERS, Move, Setup, Side};
use super::shadow::Region;
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError};
use xdma::channel::{Channel, ChannelOptions, EngineError, Poll, Program, Ring, Ticket};
use xdma::memory::MemoryError;

/// Long enough for a crowded machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The card of a lane, and what it may hold.
pub struct Context<'a> {
    pub card: &'a Card,
    pub setup: &'a Setup,
    pub region: &'a mut Region,
    /// The registers may read all ones.
    pub all_ones: &'a Cell<bool>,
}

/// A program, what it moves, and the ring that it was built for.
pub struct Built {
    program: Program,
    pub moves: Vec<(Host, Move)>,
    ring: Ring,
}

pub struct Lane {
    pub side: Side,
    pub index: usize,
    pub base: u64,
    /// `None` between its end and the step that opens it again.
    pub channel: Option<Channel>,
    pub ring: Ring,
    pub hosts: Vec<Host>,
    pub jobs: VecDeque<Job>,
    pub program: Option<Built>,
    /// Faults that were caused and have not shown yet.
    pub armed: u32,
    /// It reported a failure, and was not recovered.
    pub failed: bool,
    /// Its registers read all ones, or its engine hung: nobody knows what it does.
    pub unknown: bool,
    /// Its channel was forgotten, and stays taken.
    pub forgotten: bool,
    /// A ticket of a channel that has ended.
    pub old_ticket: Option<Ticket>,
}

pub fn open(card: &Card, setup: &Setup, side: Side, index: usize, ring: Ring) -> Result<Channel, CardError> {
    let options =
        ChannelOptions { ring: Some(ring), slots: 16, wait: setup.wait(), ..ChannelOptions::default() };
    card.channel(direction(side), index, options)
}

/// Whether an error ends by itself: the registers read all ones for a while, or an engine is held up.
pub trait Passing {
    fn passes(&self) -> bool;
}

impl Passing for EngineError {
    fn passes(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Hung { .. })
    }
}

impl Passing for CardError {
    fn passes(&self) -> bool {
        match self {
            Self::Gone { .. } | Self::Hung { .. } | Self::NotXdma { .. } => true,
            Self::Engine(error) => error.passes(),
            _ => false,
        }
    }
}

/// Repeats what fails for a passing reason.
pub fn patiently<T, E: Passing + std::fmt::Display>(
    what: &str,
    mut act: impl FnMut() -> Result<T, E>,
) -> Check<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match act() {
            Ok(done) => return Ok(done),
            Err(error) if error.passes() && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(format!("{what}: {error}")),
        }
    }
}

impl Lane {
    pub fn new(card: &Card, setup: &Setup, side: Side, index: usize, base: u64) -> Check<Self> {
        let ring = setup.ring(setup.credits);
        let channel = patiently("not opened", || open(card, setup, side, index, ring))?;
        let hosts = (0..BUFFERS).map(|_| Host::new(card, side)).collect::<Check<_>>()?;
        Ok(Self {
            side,
            index,
            base,
            channel: Some(channel),
            ring,
            hosts,
            jobs: VecDeque::new(),
            program: None,
            armed: 0,
            failed: false,
            unknown: false,
            forgotten: false,
            old_ticket: None,
        })
    }

    pub fn channel(&mut self) -> &mut Channel {
        self.channel.as_mut().expect("the channel was made ready")
    }

    /// Opens the channel again, and recovers it, if need be; false if it can never be opened.
    pub fn ready(&mut self, cx: &mut Context<'_>) -> Check<bool> {
        if self.forgotten {
            return Ok(false);
        }
        if self.channel.is_none() {
            self.reopen(cx)?;
        }
        if self.unknown {
            self.recover(cx)?;
        }
        Ok(true)
    }

    /// Memory in flight cannot be written; that it can be written means that nothing of it is in flight.
    pub fn fill(&mut self, buffer: usize, at: u64, bytes: &[u8], cx: &mut Context<'_>) -> Check {
        let host = self.hosts[buffer].clone();
        match host.write(at, bytes) {
            Ok(()) => {
                while self.jobs.iter().any(|job| job.uses(&host)) {
                    if !self.poll(cx)? {
                        return Err("memory in flight was written".into());
                    }
                }
                host.shadow.borrow_mut().set(at as usize, bytes);
                Ok(())
            }
            Err(MemoryError::InFlight(_)) if self.jobs.iter().any(|job| job.uses(&host)) => Ok(()),
            Err(error) => Err(format!("not written: {error}")),
        }
    }

    fn with_hosts(&self, moves: &[Move]) -> Vec<(Host, Move)> {
        moves.iter().map(|each| (self.hosts[each.buffer].clone(), *each)).collect()
    }

    pub fn submit(&mut self, moves: &[Move], cx: &mut Context<'_>) -> Check {
        let moves = self.with_hosts(moves);
        let (side, base) = (self.side, self.base);
        let channel = self.channel();
        let started = match &moves[..] {
            [(host, each)] => {
                host.with(|buffer| channel.submit(buffer, each.host..each.host + each.len, base + each.card))
            }
            _ => channel.start(&transfers(side, base, &moves)?),
        };
        self.started(started, &moves, cx)
    }

    pub fn build(&mut self, moves: &[Move]) -> Check {
        let moves = self.with_hosts(moves);
        let transfers = transfers(self.side, self.base, &moves)?;
        match self.channel().program(&transfers) {
            Ok(program) => self.program = Some(Built { program, moves, ring: self.ring }),
            Err(EngineError::Overlap { .. }) if self.side == Side::C2H => {}
            Err(error) => return Err(format!("not built: {error}")),
        }
        Ok(())
    }

    pub fn run(&mut self, cx: &mut Context<'_>) -> Check {
        let Some(built) = self.program.take() else { return Ok(()) };
        match self.channel().run(&built.program) {
            Err(EngineError::ForeignProgram) if built.ring != self.ring => {}
            Ok(_) if built.ring != self.ring => return Err("a program of another ring was run".into()),
            started => self.started(started, &built.moves, cx)?,
        }
        self.program = Some(built);
        Ok(())
    }

    fn started(
        &mut self,
        started: Result<Ticket, EngineError>,
        moves: &[(Host, Move)],
        cx: &mut Context<'_>,
    ) -> Check {
        let ticket = match started {
            Ok(_) if self.failed => return Err("a channel that failed took a transfer".into()),
            Ok(ticket) => Some(ticket),
            Err(EngineError::Full { .. }) if !self.jobs.is_empty() => return self.wait(cx),
            Err(EngineError::Overlap { .. }) if self.side == Side::C2H => return Ok(()),
            Err(error) => {
                self.went_wrong(error, cx)?;
                if !self.unknown {
                    return Ok(());
                }
                None
            }
        };
        let parts = moves.iter().map(|(host, each)| Part::new(self.side, host, each)).collect();
        self.jobs.push_back(Job { ticket, parts });
        Ok(())
    }

    /// Looks at the oldest job; whether it is over.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Check<bool> {
        let Some(job) = self.jobs.front() else { return Ok(true) };
        let Some(ticket) = job.ticket.filter(|_| !self.unknown) else {
            return self.recover(cx).map(|()| true);
        };
        match self.channel().poll(ticket) {
            Ok(Poll::Ready) => self.finished(cx).map(|()| true),
            Ok(Poll::Pending) => Ok(false),
            Err(error) => self.went_wrong(error, cx).map(|()| true),
        }
    }

    pub fn wait(&mut self, cx: &mut Context<'_>) -> Check {
        while let Some(job) = self.jobs.front() {
            let waited = match job.ticket.filter(|_| !self.unknown) {
                Some(ticket) => self.channel().wait(ticket, LIMIT),
                None => return self.recover(cx),
            };
            match waited {
                Ok(()) => self.finished(cx)?,
                Err(error) => self.went_wrong(error, cx)?,
            }
        }
        Ok(())
    }

    /// The oldest job is done: what it moved is there.
    pub fn finished(&mut self, cx: &mut Context<'_>) -> Check {
        let Some(job) = self.jobs.pop_front() else { return Ok(()) };
        for part in job.parts {
            match self.side {
                Side::H2C => cx.region.set(part.card, &part.data),
                Side::C2H => self.arrived(&part, cx.region)?,
            }
        }
        Ok(())
    }

    /// What a C2H transfer brought is there, but where another job of the ring may be writing by now.
    fn arrived(&self, part: &Part, region: &mut Region) -> Check {
        let Some(seen) = part.host.read(part.at, part.len)? else { return Ok(()) };
        let mut shadow = part.host.shadow.borrow_mut();
        let mut shared = vec![false; part.len];
        let rest = self.jobs.iter().flat_map(|job| &job.parts);
        for other in rest.filter(|other| other.host.is(&part.host)) {
            let (from, to) = (other.at.max(part.at), (other.at + other.len).min(part.at + part.len));
            (from..to).for_each(|at| shared[at - part.at] = true);
        }
        for (at, (&byte, shared)) in seen.iter().zip(shared).enumerate() {
            let (host, card) = (part.at + at, part.card + at);
            if shared {
                shadow.may_be_part_of(host, region.shadow(), card..card + 1);
            } else {
                region.see(card, &[byte]).map_err(|why| format!("after C2H: {why}"))?;
                shadow.set(host, &[byte]);
            }
        }
        Ok(())
    }

    /// An error came: it must have a cause. A failure ends all that is in flight, but for what was done before; after other errors
    /// it may go on.
    pub fn went_wrong(&mut self, error: EngineError, cx: &mut Context<'_>) -> Check {
        match error {
            EngineError::Failed { .. } if self.armed > 0 || self.failed => {
                self.armed -= u32::from(!self.failed);
                self.failed = true;
                if cx.all_ones.get() && self.channel().in_flight() > 0 {
                    // The error is reported, but the engine was not seen idle after it.
                    self.unknown = true;
                    return Ok(());
                }
                self.lose(cx)
            }
            EngineError::Gone { .. } if cx.all_ones.get() => {
                self.unknown = true;
                Ok(())
            }
            EngineError::Hung { .. } => {
                self.unknown = true;
                Ok(())
            }
            error => Err(format!("an error without a cause: {error}")),
        }
    }
}
