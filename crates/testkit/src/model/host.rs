//! Host buffers with their shadow memory, and the jobs that use them.

use super::plan::{BUFFER, Move, Side};
use super::shadow::{Region, Shadow};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use xdma::card::Card;
use xdma::channel::{Ticket, Transfers};
use xdma::memory::{Buffer, MemoryError};
use xdma::regs::Direction;

/// The result of a step. The error describes how the outcome differs from the model.
pub type Check<T = ()> = Result<T, String>;

pub fn direction(side: Side) -> Direction {
    match side {
        Side::H2C => Direction::H2C,
        Side::C2H => Direction::C2H,
    }
}

/// A host buffer, shared with the jobs that use it.
#[derive(Clone)]
pub struct HostBuffer {
    /// `None` once it was dropped. Jobs in flight still use its memory, which can no longer be compared.
    buffer: Rc<RefCell<Option<Buffer>>>,
    pub shadow: Rc<RefCell<Shadow>>,
    /// An engine that was not seen idle may write the buffer at any time, so it is never compared again.
    undefined: Rc<Cell<bool>>,
}

impl HostBuffer {
    pub fn new(card: &Card, side: Side) -> Check<Self> {
        let buffer = card.allocate(BUFFER, direction(side)).map_err(|error| error.to_string())?;
        Ok(Self {
            buffer: Rc::new(RefCell::new(Some(buffer))),
            shadow: Rc::new(RefCell::new(Shadow::new(BUFFER as usize))),
            undefined: Rc::default(),
        })
    }

    pub fn is_same(&self, other: &Self) -> bool {
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

    pub fn is_undefined(&self) -> bool {
        self.undefined.get()
    }

    pub fn set_undefined(&self) {
        self.undefined.set(true);
    }

    /// Returns whether the driver allows writes to the buffer. `None` once it was dropped.
    pub fn state(&self) -> Option<Result<(), MemoryError>> {
        self.buffer.borrow_mut().as_mut().map(|buffer| buffer.write::<u8>(0, &[]))
    }

    /// Reads the buffer, unless it was dropped or an engine may still be writing it.
    pub fn read(&self, at: usize, len: usize) -> Check<Option<Vec<u8>>> {
        let buffer = self.buffer.borrow();
        let Some(buffer) = buffer.as_ref().filter(|_| !self.is_undefined()) else { return Ok(None) };
        let mut seen = vec![0; len];
        buffer.read(at as u64, &mut seen).map_err(|error| error.to_string())?;
        Ok(Some(seen))
    }

    /// Compares the whole buffer with the model. No job may be in flight.
    pub fn compare(&self) -> Check {
        let Some(seen) = self.read(0, BUFFER as usize)? else { return Ok(()) };
        self.shadow.borrow_mut().compare(0, &seen).map_err(|why| format!("host memory: {why}"))
    }
}

/// One move of a job.
pub struct Part {
    pub buffer: HostBuffer,
    pub at: usize,
    pub card: usize,
    pub len: usize,
    /// The data that an H2C move sends.
    pub data: Vec<u8>,
}

impl Part {
    pub fn new(side: Side, buffer: &HostBuffer, each: &Move) -> Self {
        let (at, len) = (each.host as usize, each.len as usize);
        let data = match side {
            Side::H2C => buffer.shadow.borrow().known(at..at + len),
            Side::C2H => vec![],
        };
        Self { buffer: buffer.clone(), at, card: each.card as usize, len, data }
    }
}

/// Moves that were submitted together.
pub struct PendingJob {
    /// `None` if the bus failed during the submission. The job may have been started nevertheless.
    pub ticket: Option<Ticket>,
    pub parts: Vec<Part>,
}

impl PendingJob {
    /// Records that the job has ended, and may have been executed partly.
    pub fn allow_partial(&self, side: Side, region: &mut Region) {
        for part in &self.parts {
            match side {
                Side::H2C => region.allow(part.card, &part.data),
                Side::C2H => {
                    let mut shadow = part.buffer.shadow.borrow_mut();
                    shadow.allow_from(part.at, region.shadow(), part.card..part.card + part.len);
                }
            }
        }
    }

    /// Records that the job may continue at any time.
    pub fn allow_late(&self, side: Side, region: &mut Region) {
        for part in &self.parts {
            part.buffer.set_undefined();
            if side == Side::H2C {
                region.allow_late(part.card, &part.data);
            }
        }
    }

    pub fn uses(&self, buffer: &HostBuffer) -> bool {
        self.parts.iter().any(|part| part.buffer.is_same(buffer))
    }
}

/// Builds a list of moves between buffers and the region at card address `base`.
pub fn transfers(side: Side, base: u64, moves: &[(HostBuffer, Move)]) -> Check<Transfers> {
    let mut transfers = Transfers::new(direction(side));
    for (buffer, each) in moves {
        buffer
            .with(|buffer| transfers.add(buffer, each.host..each.host + each.len, base + each.card).map(drop))
            .map_err(|error| format!("not added: {error}"))?;
    }
    Ok(transfers)
}
