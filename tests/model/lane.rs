//! One channel with its host memory, and what must become of what it was given.

use crate::plan::{BUFFER, BUFFERS, Move, Side};
use crate::shadow::Shadow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use xdma::card::Card;
use xdma::engine::{Channel, ChannelOptions, EngineError, Poll, Program, Ring, Ticket, Transfers};
use xdma::memory::{Buffer, MemoryError};
use xdma::regs::Direction;

/// Long enough for a crowded machine.
pub const LIMIT: Duration = Duration::from_secs(20);

pub type Check<T = ()> = Result<T, String>;

/// Host memory; a transfer keeps what it uses.
#[derive(Clone)]
pub struct Host {
    /// `None` once it was dropped: what is in flight goes on with it, unseen.
    buffer: Rc<RefCell<Option<Buffer>>>,
    pub shadow: Rc<RefCell<Shadow>>,
}

/// One move of a job, as it must come out.
struct Part {
    host: Host,
    at: usize,
    card: usize,
    len: usize,
    /// What goes to the card.
    data: Vec<u8>,
}

/// What a ticket stands for.
struct Job {
    ticket: Ticket,
    parts: Vec<Part>,
}

impl Job {
    /// All of it, or any part.
    fn may_have_happened(&self, side: Side, region: &mut Shadow) {
        for part in &self.parts {
            match side {
                Side::H2C => region.may_be(part.card, &part.data),
                Side::C2H => {
                    let mut shadow = part.host.shadow.borrow_mut();
                    shadow.may_be_part_of(part.at, region, part.card..part.card + part.len);
                }
            }
        }
    }
}

pub struct Lane {
    side: Side,
    index: usize,
    base: u64,
    pub channel: Channel,
    hosts: Vec<Host>,
    jobs: VecDeque<Job>,
    program: Option<(Program, Vec<(Host, Move)>)>,
    /// Faults that were caused and have not shown yet.
    pub armed: u32,
    /// It reported a failure, and was not recovered.
    failed: bool,
}

fn direction(side: Side) -> Direction {
    match side {
        Side::H2C => Direction::H2C,
        Side::C2H => Direction::C2H,
    }
}

pub fn open(card: &Card, side: Side, index: usize, ring: Ring) -> Check<Channel> {
    let options = ChannelOptions { ring: Some(ring), slots: 16, ..ChannelOptions::default() };
    card.channel(direction(side), index, options).map_err(|error| format!("not opened: {error}"))
}

fn host(card: &Card, side: Side) -> Check<Host> {
    let buffer = card.allocate(BUFFER, direction(side)).map_err(|error| error.to_string())?;
    Ok(Host {
        buffer: Rc::new(RefCell::new(Some(buffer))),
        shadow: Rc::new(RefCell::new(Shadow::new(BUFFER as usize))),
    })
}

impl Lane {
    pub fn new(card: &Card, side: Side, index: usize, base: u64, ring: Ring) -> Check<Self> {
        let channel = open(card, side, index, ring)?;
        let hosts = (0..BUFFERS).map(|_| host(card, side)).collect::<Check<_>>()?;
        let (jobs, program) = (VecDeque::new(), None);
        Ok(Self { side, index, base, channel, hosts, jobs, program, armed: 0, failed: false })
    }

    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    fn uses(&self, shadow: &Rc<RefCell<Shadow>>) -> bool {
        self.jobs.iter().any(|job| job.parts.iter().any(|part| Rc::ptr_eq(&part.host.shadow, shadow)))
    }

    /// Memory in flight cannot be written; that it can be written means that nothing of it is in flight.
    pub fn fill(&mut self, buffer: usize, at: u64, bytes: &[u8], region: &mut Shadow) -> Check {
        let host = self.hosts[buffer].clone();
        let written = host.buffer.borrow_mut().as_mut().expect("not dropped").write(at, bytes);
        match written {
            Ok(()) => {
                while self.uses(&host.shadow) {
                    if !self.poll(region)? {
                        return Err("memory in flight was written".into());
                    }
                }
                host.shadow.borrow_mut().set(at as usize, bytes);
                Ok(())
            }
            Err(MemoryError::InFlight(_)) if self.uses(&host.shadow) => Ok(()),
            Err(error) => Err(format!("not written: {error}")),
        }
    }

    fn transfers(&self, moves: &[(Host, Move)]) -> Check<Transfers> {
        let mut transfers = Transfers::new(direction(self.side));
        for (host, each) in moves {
            let buffer = host.buffer.borrow();
            let buffer = buffer.as_ref().expect("not dropped");
            transfers
                .add(buffer, each.host..each.host + each.len, self.base + each.card)
                .map_err(|error| format!("not added: {error}"))?;
        }
        Ok(transfers)
    }

    fn with_hosts(&self, moves: &[Move]) -> Vec<(Host, Move)> {
        moves.iter().map(|each| (self.hosts[each.buffer].clone(), *each)).collect()
    }

    pub fn submit(&mut self, moves: &[Move], region: &mut Shadow) -> Check {
        let moves = self.with_hosts(moves);
        let started = match &moves[..] {
            [(host, each)] => {
                let buffer = host.buffer.borrow();
                let buffer = buffer.as_ref().expect("not dropped");
                self.channel.submit(buffer, each.host..each.host + each.len, self.base + each.card)
            }
            _ => self.channel.start(&self.transfers(&moves)?),
        };
        self.started(started, &moves, region)
    }

    pub fn build(&mut self, moves: &[Move], region: &mut Shadow) -> Check {
        let moves = self.with_hosts(moves);
        let transfers = self.transfers(&moves)?;
        match self.channel.program(&transfers) {
            Ok(program) => self.program = Some((program, moves)),
            Err(EngineError::Overlap { .. }) if self.side == Side::C2H => {}
            Err(error) => return self.went_wrong(error, region),
        }
        Ok(())
    }

    pub fn run(&mut self, region: &mut Shadow) -> Check {
        let Some((program, moves)) = self.program.take() else { return Ok(()) };
        let started = self.channel.run(&program);
        self.started(started, &moves, region)?;
        self.program = Some((program, moves));
        Ok(())
    }

    fn started(
        &mut self,
        started: Result<Ticket, EngineError>,
        moves: &[(Host, Move)],
        region: &mut Shadow,
    ) -> Check {
        match started {
            Ok(_) if self.failed => Err("a channel that failed took a transfer".into()),
            Ok(ticket) => {
                let parts = moves.iter().map(|(host, each)| self.part(host, each)).collect();
                self.jobs.push_back(Job { ticket, parts });
                Ok(())
            }
            Err(EngineError::Full { .. }) if self.is_busy() => self.wait(region),
            Err(EngineError::Overlap { .. }) if self.side == Side::C2H => Ok(()),
            Err(error) => self.went_wrong(error, region),
        }
    }

    fn part(&self, host: &Host, each: &Move) -> Part {
        let (at, len) = (each.host as usize, each.len as usize);
        let data = match self.side {
            Side::H2C => host.shadow.borrow().known(at..at + len),
            Side::C2H => vec![],
        };
        Part { host: host.clone(), at, card: each.card as usize, len, data }
    }

    /// Looks at the oldest job; whether it is over.
    pub fn poll(&mut self, region: &mut Shadow) -> Check<bool> {
        let Some(job) = self.jobs.front() else { return Ok(true) };
        match self.channel.poll(job.ticket) {
            Ok(Poll::Pending) => Ok(false),
            Ok(Poll::Ready) => self.finished(region).map(|()| true),
            Err(error) => self.went_wrong(error, region).map(|()| true),
        }
    }

    pub fn wait(&mut self, region: &mut Shadow) -> Check {
        while let Some(job) = self.jobs.front() {
            match self.channel.wait(job.ticket, LIMIT) {
                Ok(()) => self.finished(region)?,
                Err(error) => self.went_wrong(error, region)?,
            }
        }
        Ok(())
    }

    /// The oldest job is done: what it moved is there.
    fn finished(&mut self, region: &mut Shadow) -> Check {
        let Some(job) = self.jobs.pop_front() else { return Ok(()) };
        for part in job.parts {
            match self.side {
                Side::H2C => region.set(part.card, &part.data),
                Side::C2H => self.arrived(&part, region)?,
            }
        }
        Ok(())
    }

    /// What a C2H transfer brought is there, but where another job of the ring may be writing by now.
    fn arrived(&self, part: &Part, region: &mut Shadow) -> Check {
        let Some(seen) = see(part)? else { return Ok(()) };
        let mut shadow = part.host.shadow.borrow_mut();
        let mut shared = vec![false; part.len];
        let rest = self.jobs.iter().flat_map(|job| &job.parts);
        for other in rest.filter(|other| Rc::ptr_eq(&other.host.shadow, &part.host.shadow)) {
            let (from, to) = (other.at.max(part.at), (other.at + other.len).min(part.at + part.len));
            (from..to).for_each(|at| shared[at - part.at] = true);
        }
        for (at, (&byte, shared)) in seen.iter().zip(shared).enumerate() {
            let (host, card) = (part.at + at, part.card + at);
            if shared {
                shadow.may_be_part_of(host, region, card..card + 1);
            } else {
                region.see(card, &[byte]).map_err(|why| format!("after C2H: {why}"))?;
                shadow.set(host, &[byte]);
            }
        }
        Ok(())
    }

    /// An error came: it must have a cause, and ends all that is in flight, but for what was done before.
    fn went_wrong(&mut self, error: EngineError, region: &mut Shadow) -> Check {
        if self.armed == 0 && !self.failed {
            return Err(format!("an error without a cause: {error}"));
        }
        if !matches!(error, EngineError::Failed { .. }) {
            return Err(format!("not the error that was caused: {error}"));
        }
        self.armed -= u32::from(!self.failed);
        self.failed = true;
        self.lose(region)
    }

    /// The engine is idle: what is done is done, all else may have happened in part.
    pub fn lose(&mut self, region: &mut Shadow) -> Check {
        while let Some(job) = self.jobs.front() {
            match self.channel.poll(job.ticket) {
                Ok(Poll::Ready) => self.finished(region)?,
                Ok(Poll::Pending) => return Err("pending, with the engine stopped".into()),
                Err(_) => break,
            }
        }
        let lost: Vec<_> = self.jobs.drain(..).collect();
        lost.iter().for_each(|job| job.may_have_happened(self.side, region));
        if let Some(job) = lost.iter().find(|job| matches!(self.channel.poll(job.ticket), Ok(Poll::Ready))) {
            return Err(format!("{:?} is done, and one before it is not", job.ticket));
        }
        self.look()
    }

    /// Compares all host memory with what it may hold; nothing is in flight.
    pub fn look(&mut self) -> Check {
        for host in &self.hosts {
            let mut seen = vec![0u8; host.shadow.borrow().len()];
            if let Some(buffer) = &*host.buffer.borrow() {
                buffer.read(0, &mut seen).map_err(|error| error.to_string())?;
                host.shadow.borrow_mut().see(0, &seen).map_err(|why| format!("host memory: {why}"))?;
            }
        }
        Ok(())
    }

    pub fn stop(&mut self, region: &mut Shadow) -> Check {
        self.channel.stop().map_err(|error| format!("not stopped: {error}"))?;
        self.lose(region)
    }

    pub fn recover(&mut self, region: &mut Shadow) -> Check {
        self.channel.recover().map_err(|error| format!("not recovered: {error}"))?;
        self.failed = false;
        self.lose(region)
    }

    /// Closes the channel, with transfers in flight or not.
    pub fn close(self) -> Check<Closed> {
        let Self { side, index, base, channel, hosts, jobs, armed, .. } = self;
        channel.close().map_err(|error| format!("not closed: {error}"))?;
        Ok(Closed { side, index, base, hosts, jobs, armed })
    }

    /// The card is gone: what of this can be seen on the card.
    pub fn gone(&self, region: &mut Shadow) {
        if self.side == Side::H2C {
            self.jobs.iter().for_each(|job| job.may_have_happened(self.side, region));
        }
    }

    /// Drops a buffer.
    pub fn replace(&mut self, card: &Card, buffer: usize) -> Check {
        if self.program.as_ref().is_some_and(|(_, moves)| {
            moves.iter().any(|(host, _)| Rc::ptr_eq(&host.shadow, &self.hosts[buffer].shadow))
        }) {
            self.program = None;
        }
        let old = std::mem::replace(&mut self.hosts[buffer], host(card, self.side)?);
        *old.buffer.borrow_mut() = None;
        Ok(())
    }
}

/// A lane without its channel.
pub struct Closed {
    side: Side,
    index: usize,
    base: u64,
    hosts: Vec<Host>,
    jobs: VecDeque<Job>,
    armed: u32,
}

impl Closed {
    /// Opens it again. Nobody can ask any more what became of what was in flight.
    pub fn open(self, card: &Card, ring: Ring, region: &mut Shadow) -> Check<Lane> {
        let Self { side, index, base, hosts, jobs, armed } = self;
        jobs.iter().for_each(|job| job.may_have_happened(side, region));
        let (channel, jobs) = (open(card, side, index, ring)?, VecDeque::new());
        let mut lane = Lane { side, index, base, channel, hosts, jobs, program: None, armed, failed: false };
        lane.look()?;
        Ok(lane)
    }
}

/// The host's bytes of a part, if they are still there.
fn see(part: &Part) -> Check<Option<Vec<u8>>> {
    let buffer = part.host.buffer.borrow();
    let Some(buffer) = &*buffer else { return Ok(None) };
    let mut seen = vec![0; part.len];
    buffer.read(part.at as u64, &mut seen).map_err(|error| error.to_string())?;
    Ok(Some(seen))
}
