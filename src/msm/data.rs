//! Points and scalars in memory that the card reads.

#![deny(clippy::arithmetic_side_effects)]

use super::{MsmError, ScalarForm, curve};
use crate::card::Card;
use crate::channel::Transfers;
use crate::memory::{Buffer, MemoryError, Registered};
use crate::regs::Direction;
use crate::regs::msm::{BEAT, POINT_BYTES, POINT_WINDOW, SCALAR_BYTES, SCALAR_WINDOW};
use std::ops::Range;

#[derive(Debug)]
enum Memory<const N: usize> {
    Ours(Buffer),
    Callers(Registered<[u8; N]>),
}

/// Points that stay with the card: written once, used by any number of jobs.
#[derive(Debug)]
pub struct Points {
    memory: Memory<POINT_BYTES>,
    count: usize,
}

impl Points {
    /// Room for `count` points, all at infinity until [`fill`](Self::fill)ed.
    ///
    /// # Errors
    ///
    /// [`MsmError::Memory`].
    pub fn allocate(card: &Card, count: usize) -> Result<Self, MsmError> {
        // A count beyond 64 bits of bytes is more than any machine has.
        let bytes = (count.max(1) as u64).saturating_mul(POINT_BYTES as u64);
        Ok(Self { memory: Memory::Ours(card.allocate(bytes, Direction::H2C)?), count })
    }

    /// The caller's own points, used where they lie as far as the bus can pin them; see [`Registered`].
    ///
    /// # Errors
    ///
    /// [`MsmError::Memory`].
    pub fn register(card: &Card, points: Vec<[u8; POINT_BYTES]>) -> Result<Self, MsmError> {
        let count = points.len();
        Ok(Self {
            memory: Memory::Callers(card.register(points, Direction::H2C).map_err(MemoryError::from)?),
            count,
        })
    }

    /// Points from `64 * count` bytes.
    ///
    /// # Errors
    ///
    /// [`MsmError::Size`], [`MsmError::Memory`].
    pub fn from_bytes(card: &Card, bytes: &[u8]) -> Result<Self, MsmError> {
        let count = elements("points", bytes, POINT_BYTES)?;
        let mut this = Self::allocate(card, count)?;
        this.fill(|to| to.copy_from_slice(bytes))?;
        Ok(this)
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes the points: `64 * len` bytes, x then y, little-endian, Montgomery form.
    ///
    /// # Errors
    ///
    /// [`MsmError::Memory`] while a job that uses them is in flight.
    pub fn fill<R>(&mut self, write: impl FnOnce(&mut [u8]) -> R) -> Result<R, MsmError> {
        fill(&mut self.memory, self.count, write)
    }

    /// Checks that every point is on the curve or infinity.
    ///
    /// # Errors
    ///
    /// [`MsmError::Curve`] with the first that is not.
    pub fn check(&mut self) -> Result<(), MsmError> {
        Ok(self.fill(|bytes| curve::check_points(bytes))??)
    }

    /// Adds the points `range` to a list of transfers, for their window.
    ///
    /// # Errors
    ///
    /// As [`Transfers::add`]; [`MsmError::OutOfRange`].
    pub fn add_to(&self, transfers: &mut Transfers, range: Range<usize>) -> Result<(), MsmError> {
        check_range("points", &range, self.count)?;
        self.memory.add(transfers, range, POINT_WINDOW)
    }
}

/// Scalars of jobs: written anew between jobs, used by any number of them.
#[derive(Debug)]
pub struct Scalars {
    memory: Memory<SCALAR_BYTES>,
    /// The last scalar and padding, where the caller's memory ends in the middle of a beat.
    tail: Option<Buffer>,
    count: usize,
    form: ScalarForm,
}

impl Scalars {
    /// Room for `count` scalars, all zero until [`fill`](Self::fill)ed.
    ///
    /// # Errors
    ///
    /// [`MsmError::Memory`].
    pub fn allocate(card: &Card, count: usize, form: ScalarForm) -> Result<Self, MsmError> {
        // An odd range that starts anywhere is sent with 32 more bytes.
        let bytes = (count as u64).saturating_add(1).saturating_mul(SCALAR_BYTES as u64);
        Ok(Self { memory: Memory::Ours(card.allocate(bytes, Direction::H2C)?), tail: None, count, form })
    }

    /// The caller's own scalars, used where they lie as far as the bus can pin them; see [`Registered`].
    ///
    /// # Errors
    ///
    /// [`MsmError::Memory`].
    pub fn register(
        card: &Card,
        scalars: Vec<[u8; SCALAR_BYTES]>,
        form: ScalarForm,
    ) -> Result<Self, MsmError> {
        let count = scalars.len();
        let tail = Some(card.allocate(BEAT as u64, Direction::H2C)?);
        let mut this = Self {
            memory: Memory::Callers(card.register(scalars, Direction::H2C).map_err(MemoryError::from)?),
            tail,
            count,
            form,
        };
        this.fill(|_| ())?;
        Ok(this)
    }

    /// Scalars from `32 * count` bytes.
    ///
    /// # Errors
    ///
    /// [`MsmError::Size`], [`MsmError::Memory`].
    pub fn from_bytes(card: &Card, bytes: &[u8], form: ScalarForm) -> Result<Self, MsmError> {
        let count = elements("scalars", bytes, SCALAR_BYTES)?;
        let mut this = Self::allocate(card, count, form)?;
        this.fill(|to| to.copy_from_slice(bytes))?;
        Ok(this)
    }

    /// Number of scalars.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How they lie in memory.
    pub fn form(&self) -> ScalarForm {
        self.form
    }

    /// Writes the scalars: `32 * len` bytes, little-endian, in the [`form`](Self::form) that they were created with.
    ///
    /// # Errors
    ///
    /// [`MsmError::Memory`] while a job that uses them is in flight.
    pub fn fill<R>(&mut self, write: impl FnOnce(&mut [u8]) -> R) -> Result<R, MsmError> {
        let mut last = [0; SCALAR_BYTES];
        let result = fill(&mut self.memory, self.count, |bytes| {
            let result = write(bytes);
            if let Some(scalar) = bytes.last_chunk() {
                last = *scalar;
            }
            result
        })?;
        if let Some(tail) = &mut self.tail {
            tail.write(0, &last)?;
        }
        Ok(result)
    }

    /// Checks that every scalar is below r, in either form.
    ///
    /// # Errors
    ///
    /// [`MsmError::Curve`] with the first that is not.
    pub fn check(&mut self) -> Result<(), MsmError> {
        Ok(self.fill(|bytes| curve::check_scalars(bytes))??)
    }

    /// Adds the scalars `range` to a list of transfers, for their window, in whole beats: an odd number brings 32 bytes of
    /// padding.
    ///
    /// # Errors
    ///
    /// As [`Transfers::add`]; [`MsmError::OutOfRange`], [`MsmError::SplitBeat`].
    pub fn add_to(&self, transfers: &mut Transfers, range: Range<usize>) -> Result<(), MsmError> {
        check_range("scalars", &range, self.count)?;
        let first = transfers.descriptors();
        self.add_beats(transfers, range.clone())?;
        // The window takes whole beats only.
        if transfers.lengths(first).any(|length| !(length as usize).is_multiple_of(BEAT)) {
            return Err(MsmError::SplitBeat { start: range.start });
        }
        Ok(())
    }

    fn add_beats(&self, transfers: &mut Transfers, range: Range<usize>) -> Result<(), MsmError> {
        let odd = range.len() % 2 == 1;
        match &self.tail {
            Some(tail) if odd && range.end == self.count => {
                let before = range.start..range.end.saturating_sub(1);
                if !before.is_empty() {
                    self.memory.add(transfers, before, SCALAR_WINDOW)?;
                }
                Ok(transfers.add(tail, 0..BEAT as u64, SCALAR_WINDOW).map(drop)?)
            }
            _ => {
                let end = range.end.saturating_add(usize::from(odd));
                self.memory.add(transfers, range.start..end, SCALAR_WINDOW)
            }
        }
    }
}

impl<const N: usize> Memory<N> {
    fn add(&self, transfers: &mut Transfers, elements: Range<usize>, card: u64) -> Result<(), MsmError> {
        let bytes = byte(elements.start, N)..byte(elements.end, N);
        match self {
            Self::Ours(buffer) => transfers.add(buffer, bytes, card)?,
            Self::Callers(registered) => transfers.add(registered, bytes, card)?,
        };
        Ok(())
    }
}

fn fill<R, const N: usize>(
    memory: &mut Memory<N>,
    count: usize,
    write: impl FnOnce(&mut [u8]) -> R,
) -> Result<R, MsmError> {
    match memory {
        Memory::Ours(buffer) => {
            // The buffer was allocated for them.
            let elements = buffer.as_mut_slice::<[u8; N]>()?;
            Ok(write(elements[..count].as_flattened_mut()))
        }
        Memory::Callers(registered) => Ok(registered.update(|elements| write(elements.as_flattened_mut()))?),
    }
}

/// The first byte of element `at`. Of memory that exists no such number is beyond 64 bits, and memory refuses what it does not have.
fn byte(at: usize, size: usize) -> u64 {
    (at as u64).saturating_mul(size as u64)
}

pub(super) fn check_range(what: &'static str, range: &Range<usize>, len: usize) -> Result<(), MsmError> {
    if range.start <= range.end && range.end <= len {
        return Ok(());
    }
    Err(MsmError::OutOfRange { what, start: range.start, end: range.end, len })
}

fn elements(what: &'static str, bytes: &[u8], size: usize) -> Result<usize, MsmError> {
    if bytes.len().is_multiple_of(size) {
        Ok(bytes.chunks_exact(size).len())
    } else {
        Err(MsmError::Size { what, len: bytes.len(), size })
    }
}
