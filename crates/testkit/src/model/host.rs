//! Host memory, and the parts of jobs that use it.

use super::plan::{BUFFER, Move, Side};
use super::shadow::{Region, Shadow};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use xdma::card::Card;
use xdma::channel::{Ticket, Transfers};
use xdma::memory::{Buffer, MemoryError};
use xdma::regs::Direction;

pub type Check<T = ()> = Result<T, String>;

pub fn direction(side: Side) -> Direction {
    match side {
        Side::H2C => Direction::H2C,
        Side::C2H => Direction::C2H,
    }
}

/// A buffer; a job keeps what it uses.
#[derive(Clone)]
pub struct Host {
    /// `None` once it was dropped: what is in flight goes on with it, unseen.
    buffer: Rc<RefCell<Option<Buffer>>>,
    pub shadow: Rc<RefCell<Shadow>>,
    /// An engine that was not seen idle may write it at any time: it is never compared again.
    lost: Rc<Cell<bool>>,
}

impl Host {
    pub fn new(card: &Card, side: Side) -> Check<Self> {
        let buffer = card.allocate(BUFFER, direction(side)).map_err(|error| error.to_string())?;
        Ok(Self {
            buffer: Rc::new(RefCell::new(Some(buffer))),
            shadow: Rc::new(RefCell::new(Shadow::new(BUFFER as usize))),
            lost: Rc::default(),
        })
    }

    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.shadow, &other.shadow)
    }

    pub fn with<T>(&self, what: impl FnOnce(&Buffer) -> T) -> T {
        what(self.buffer.borrow().as_ref().expect("not dropped"))
    }

    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.buffer.borrow_mut().as_mut().expect("not dropped").write(at, bytes)
    }

    pub fn end(&self, forget: bool) {
        let buffer = self.buffer.borrow_mut().take();
        if forget { std::mem::forget(buffer) } else { drop(buffer) }
    }

    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    pub fn lose(&self) {
        self.lost.set(true);
    }

    /// What the driver says of its use; `None` once it was dropped.
    pub fn state(&self) -> Option<Result<(), MemoryError>> {
        self.buffer.borrow_mut().as_mut().map(|buffer| buffer.write::<u8>(0, &[]))
    }

    /// Its bytes, if they are still there and nobody can be writing them.
    pub fn read(&self, at: usize, len: usize) -> Check<Option<Vec<u8>>> {
        let buffer = self.buffer.borrow();
        let Some(buffer) = buffer.as_ref().filter(|_| !self.is_lost()) else { return Ok(None) };
        let mut seen = vec![0; len];
        buffer.read(at as u64, &mut seen).map_err(|error| error.to_string())?;
        Ok(Some(seen))
    }

    /// Compares all of it with what it may hold; nothing is in flight.
    pub fn look(&self) -> Check {
        let Some(seen) = self.read(0, BUFFER as usize)? else { return Ok(()) };
        self.shadow.borrow_mut().see(0, &seen).map_err(|why| format!("host memory: {why}"))
    }
}

/// One move of a job, as it must come out.
pub struct Part {
    pub host: Host,
    pub at: usize,
    pub card: usize,
    pub len: usize,
    /// What goes to the card.
    pub data: Vec<u8>,
}

impl Part {
    pub fn new(side: Side, host: &Host, each: &Move) -> Self {
        let (at, len) = (each.host as usize, each.len as usize);
        let data = match side {
            Side::H2C => host.shadow.borrow().known(at..at + len),
            Side::C2H => vec![],
        };
        Self { host: host.clone(), at, card: each.card as usize, len, data }
    }
}

/// What was submitted as one.
pub struct Job {
    /// `None` if the bus failed at its submission: it may have been started all the same.
    pub ticket: Option<Ticket>,
    pub parts: Vec<Part>,
}

impl Job {
    /// It ended, and all of it, or any part, may have happened.
    pub fn may_have_happened(&self, side: Side, region: &mut Region) {
        for part in &self.parts {
            match side {
                Side::H2C => region.may_be(part.card, &part.data),
                Side::C2H => {
                    let mut shadow = part.host.shadow.borrow_mut();
                    shadow.may_be_part_of(part.at, region.shadow(), part.card..part.card + part.len);
                }
            }
        }
    }

    /// Nobody knows whether it ended.
    pub fn may_go_on(&self, side: Side, region: &mut Region) {
        for part in &self.parts {
            part.host.lose();
            if side == Side::H2C {
                region.may_become(part.card, &part.data);
            }
        }
    }

    pub fn uses(&self, host: &Host) -> bool {
        self.parts.iter().any(|part| part.host.is(host))
    }
}

/// A list of moves between buffers and card addresses from `base` on.
pub fn transfers(side: Side, base: u64, moves: &[(Host, Move)]) -> Check<Transfers> {
    let mut transfers = Transfers::new(direction(side));
    for (host, each) in moves {
        host.with(|buffer| {
            transfers.add(buffer, each.host..each.host + each.len, base + each.card).map(drop)
        })
        .map_err(|error| format!("not added: {error}"))?;
    }
    Ok(transfers)
}
