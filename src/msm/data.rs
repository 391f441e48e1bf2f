//! Points and scalars in memory that the card reads.

#![deny(clippy::arithmetic_side_effects)]

use super::{DataError, ScalarForm, curve};
use crate::card::Card;
use crate::channel::{InvalidTransfer, Transfers};
use crate::memory::raw::RawMemory;
use crate::memory::{Buffer, MemoryError, RegisterError, Registered, ToCard, bytes_of};
use crate::regs::Direction;
use crate::regs::msm::{BEAT, POINT_BYTES, POINT_WINDOW, SCALAR_BYTES, SCALAR_WINDOW};
use std::fmt;
use std::ops::Range;

/// Memory of elements of `N` bytes each.
enum Memory<const N: usize> {
    Allocated(Buffer),
    Registered(Box<dyn Elements>),
}

impl<const N: usize> fmt::Debug for Memory<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocated(buffer) => buffer.fmt(f),
            Self::Registered(elements) => write!(f, "{} registered bytes", elements.bytes().len()),
        }
    }
}

/// Registered elements of any type.
trait Elements: Send + Sync {
    fn bytes(&self) -> &[u8];

    fn add(&self, transfers: &mut Transfers, bytes: Range<u64>, card: u64) -> Result<(), InvalidTransfer>;

    /// Revokes the card's access to memory that is not Rust's.
    fn release(&self) -> Result<(), MemoryError> {
        Ok(())
    }
}

impl Elements for RawMemory {
    fn bytes(&self) -> &[u8] {
        // Memory that the card only reads is available as a slice.
        RawMemory::bytes(self).unwrap_or_default()
    }

    fn add(&self, transfers: &mut Transfers, bytes: Range<u64>, card: u64) -> Result<(), InvalidTransfer> {
        transfers.add(self, bytes, card).map(drop)
    }

    fn release(&self) -> Result<(), MemoryError> {
        RawMemory::release(self)
    }
}

impl<T: ToCard> Elements for Registered<T> {
    fn bytes(&self) -> &[u8] {
        // Memory that the card only reads is available as a slice.
        bytes_of(self.as_slice().unwrap_or_default())
    }

    fn add(&self, transfers: &mut Transfers, bytes: Range<u64>, card: u64) -> Result<(), InvalidTransfer> {
        transfers.add(self, bytes, card).map(drop)
    }
}

/// The points of jobs. They are written once and used by any number of jobs.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::CardFile;
/// use ark_bn254::G1Affine;
/// use ark_ec::AffineRepr;
/// use xdma::msm::{Points, curve::arkworks::points_to_bytes};
///
/// # let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default())?;
/// let mut points = Points::allocate(&card, 1000)?;
/// points.fill(|bytes| points_to_bytes(&[G1Affine::generator(); 1000], bytes))??;
/// points.check()?; // all are on the curve
///
/// let registered = Points::register(&card, vec![G1Affine::generator(); 1000])?; // without a copy, if the bus can pin them
/// assert_eq!(registered.len(), points.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Points {
    memory: Memory<POINT_BYTES>,
    count: usize,
}

impl Points {
    /// Allocates memory for `count` points, all at infinity until they are [written](Self::fill).
    ///
    /// # Errors
    ///
    /// [`DataError::Memory`].
    pub fn allocate(card: &Card, count: usize) -> Result<Self, DataError> {
        // If the size in bytes overflows 64 bits, the allocation fails.
        let bytes = (count.max(1) as u64).saturating_mul(POINT_BYTES as u64);
        Ok(Self { memory: Memory::Allocated(card.allocate(bytes, Direction::H2C)?), count })
    }

    /// Uses the caller's points in place, as far as the bus can pin them; see [`Registered`]. A point has 64 bytes: x then y,
    /// little-endian, Montgomery form. Examples are `[u8; 64]`, and the `G1Affine` of `ark_bn254` and `halo2curves` (with the
    /// feature `arkworks` or `halo2curves`). Registered points cannot be changed; use [`allocate`](Self::allocate) for points
    /// that are written again.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], which returns the vector.
    pub fn register<T: ToCard>(card: &Card, points: Vec<T>) -> Result<Self, RegisterError<T>> {
        const { assert!(size_of::<T>() == POINT_BYTES, "a point has 64 bytes") };
        let count = points.len();
        Ok(Self { memory: Memory::Registered(Box::new(card.register(points, Direction::H2C)?)), count })
    }

    /// Uses points in memory that other code owns.
    ///
    /// # Safety
    ///
    /// As for [`RawMemory::new`]. Nothing writes the points until [`release`](Self::release) has succeeded and these are dropped.
    pub(crate) unsafe fn register_raw(card: &Card, points: *mut u8, count: usize) -> Result<Self, DataError> {
        let bytes = byte_offset(count, POINT_BYTES);
        // SAFETY: passed on to our caller.
        let memory = unsafe { card.register_raw(points, bytes, Direction::H2C)? };
        Ok(Self { memory: Memory::Registered(Box::new(memory)), count })
    }

    /// Revokes the card's access to points that other code owns. For other points, this does nothing.
    ///
    /// # Errors
    ///
    /// As [`RawMemory::release`].
    pub(crate) fn release(&self) -> Result<(), MemoryError> {
        match &self.memory {
            Memory::Allocated(_) => Ok(()),
            Memory::Registered(elements) => elements.release(),
        }
    }

    /// Copies points from `64 * count` bytes.
    ///
    /// # Errors
    ///
    /// [`DataError::Size`], [`DataError::Memory`].
    pub fn from_bytes(card: &Card, bytes: &[u8]) -> Result<Self, DataError> {
        let count = count_elements("points", bytes, POINT_BYTES)?;
        let mut this = Self::allocate(card, count)?;
        this.fill(|to| to.copy_from_slice(bytes))?;
        Ok(this)
    }

    /// Returns the number of points.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes the points: `64 * len` bytes, x then y, little-endian, Montgomery form.
    ///
    /// # Errors
    ///
    /// [`DataError::Memory`] while a job that uses them is in flight; [`DataError::Registered`].
    pub fn fill<R>(&mut self, write: impl FnOnce(&mut [u8]) -> R) -> Result<R, DataError> {
        self.memory.fill(self.count, write)
    }

    /// Checks that every point is on the curve or infinity.
    ///
    /// # Errors
    ///
    /// [`DataError::Curve`] with the first invalid point.
    pub fn check(&mut self) -> Result<(), DataError> {
        Ok(curve::check_points(self.memory.bytes(self.count)?)?)
    }

    /// Adds the points in `range` to a list of transfers to the point window.
    ///
    /// # Errors
    ///
    /// As [`Transfers::add`]; [`DataError::OutOfRange`].
    pub fn add_to(&self, transfers: &mut Transfers, range: Range<usize>) -> Result<(), DataError> {
        check_range("points", &range, self.count)?;
        self.memory.add(transfers, range, POINT_WINDOW)
    }
}

/// The scalars of jobs. They are written again between jobs, and used by any number of them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::CardFile;
/// use ark_bn254::Fr;
/// use xdma::msm::{ScalarForm, Scalars, curve::arkworks::scalars_to_bytes};
///
/// # let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default())?;
/// let mut scalars = Scalars::allocate(&card, 3, ScalarForm::Montgomery)?;
/// scalars.fill(|bytes| scalars_to_bytes(&[1, 2, 3].map(Fr::from), bytes))??;
/// scalars.check()?; // all are below r
///
/// // The caller's own vector, without a copy if the bus can pin it. `Fr` is in Montgomery form.
/// let registered = Scalars::register(&card, vec![Fr::from(1), Fr::from(2)], ScalarForm::Montgomery)?;
/// assert_eq!(registered.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scalars {
    memory: Memory<SCALAR_BYTES>,
    /// The last scalar and padding, for registered memory that ends in the middle of a beat.
    tail: Option<Buffer>,
    count: usize,
    form: ScalarForm,
}

impl Scalars {
    /// Allocates memory for `count` scalars, all zero until they are [written](Self::fill).
    ///
    /// # Errors
    ///
    /// [`DataError::Memory`].
    pub fn allocate(card: &Card, count: usize, form: ScalarForm) -> Result<Self, DataError> {
        // A range with an odd number of scalars is sent with 32 more bytes, wherever it starts.
        let bytes = (count as u64).saturating_add(1).saturating_mul(SCALAR_BYTES as u64);
        Ok(Self { memory: Memory::Allocated(card.allocate(bytes, Direction::H2C)?), tail: None, count, form })
    }

    /// Uses the caller's scalars in place, as far as the bus can pin them; see [`Registered`]. A scalar has 32 bytes,
    /// little-endian. Examples are `[u8; 32]`, and the `Fr` of `ark_bn254` and `halo2curves` (with the feature `arkworks` or
    /// `halo2curves`), whose form is [`ScalarForm::Montgomery`]. Registered scalars cannot be changed; use
    /// [`allocate`](Self::allocate) for scalars that are written again.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], which returns the vector.
    pub fn register<T: ToCard>(
        card: &Card,
        scalars: Vec<T>,
        form: ScalarForm,
    ) -> Result<Self, RegisterError<T>> {
        const { assert!(size_of::<T>() == SCALAR_BYTES, "a scalar has 32 bytes") };
        let (count, last) = (scalars.len(), bytes_of(&scalars).last_chunk().copied());
        let last: [u8; SCALAR_BYTES] = last.unwrap_or_default();
        let tail = card.allocate(BEAT as u64, Direction::H2C).and_then(|mut tail| {
            tail.write(0, &last)?;
            Ok(tail)
        });
        match tail {
            Ok(tail) => {
                let memory = Memory::Registered(Box::new(card.register(scalars, Direction::H2C)?));
                Ok(Self { memory, tail: Some(tail), count, form })
            }
            Err(source) => Err(RegisterError { data: scalars, source }),
        }
    }

    /// Copies scalars from `32 * count` bytes.
    ///
    /// # Errors
    ///
    /// [`DataError::Size`], [`DataError::Memory`].
    pub fn from_bytes(card: &Card, bytes: &[u8], form: ScalarForm) -> Result<Self, DataError> {
        let count = count_elements("scalars", bytes, SCALAR_BYTES)?;
        let mut this = Self::allocate(card, count, form)?;
        this.fill(|to| to.copy_from_slice(bytes))?;
        Ok(this)
    }

    /// Returns the number of scalars.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are no scalars.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the form of the scalars.
    pub fn form(&self) -> ScalarForm {
        self.form
    }

    /// Writes the scalars: `32 * len` bytes, little-endian, in the [`form`](Self::form) that they were created with.
    ///
    /// # Errors
    ///
    /// [`DataError::Memory`] while a job that uses them is in flight; [`DataError::Registered`].
    pub fn fill<R>(&mut self, write: impl FnOnce(&mut [u8]) -> R) -> Result<R, DataError> {
        self.memory.fill(self.count, write)
    }

    /// Checks that every scalar is below r, in either form.
    ///
    /// # Errors
    ///
    /// [`DataError::Curve`] with the first invalid scalar.
    pub fn check(&mut self) -> Result<(), DataError> {
        Ok(curve::check_scalars(self.memory.bytes(self.count)?)?)
    }

    /// Adds the scalars in `range` to a list of transfers to the scalar window, in whole beats: an odd number is padded by 32
    /// bytes.
    ///
    /// # Errors
    ///
    /// As [`Transfers::add`]; [`DataError::OutOfRange`], [`DataError::SplitBeat`].
    pub fn add_to(&self, transfers: &mut Transfers, range: Range<usize>) -> Result<(), DataError> {
        check_range("scalars", &range, self.count)?;
        let first = transfers.descriptors();
        self.add_beats(transfers, range.clone())?;
        // The window accepts whole beats only.
        if transfers.lengths(first).any(|length| !(length as usize).is_multiple_of(BEAT)) {
            return Err(DataError::SplitBeat { start: range.start });
        }
        Ok(())
    }

    fn add_beats(&self, transfers: &mut Transfers, range: Range<usize>) -> Result<(), DataError> {
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
    fn add(&self, transfers: &mut Transfers, elements: Range<usize>, card: u64) -> Result<(), DataError> {
        let bytes = byte_offset(elements.start, N)..byte_offset(elements.end, N);
        match self {
            Self::Allocated(buffer) => transfers.add(buffer, bytes, card).map(drop)?,
            Self::Registered(elements) => elements.add(transfers, bytes, card)?,
        }
        Ok(())
    }

    fn fill<R>(&mut self, count: usize, write: impl FnOnce(&mut [u8]) -> R) -> Result<R, DataError> {
        match self {
            // The buffer was allocated for this number of elements.
            Self::Allocated(buffer) => {
                Ok(write(buffer.as_mut_slice::<[u8; N]>()?[..count].as_flattened_mut()))
            }
            Self::Registered(_) => Err(DataError::Registered),
        }
    }

    fn bytes(&mut self, count: usize) -> Result<&[u8], DataError> {
        match self {
            Self::Allocated(buffer) => Ok(buffer.as_mut_slice::<[u8; N]>()?[..count].as_flattened()),
            Self::Registered(elements) => Ok(elements.bytes()),
        }
    }
}

/// Returns the offset of element `at`. Offsets in existing memory fit in 64 bits; others saturate, and are then out of range.
fn byte_offset(at: usize, size: usize) -> u64 {
    (at as u64).saturating_mul(size as u64)
}

pub(super) fn check_range(what: &'static str, range: &Range<usize>, len: usize) -> Result<(), DataError> {
    if range.start <= range.end && range.end <= len {
        return Ok(());
    }
    Err(DataError::OutOfRange { what, start: range.start, end: range.end, len })
}

fn count_elements(what: &'static str, bytes: &[u8], size: usize) -> Result<usize, DataError> {
    if bytes.len().is_multiple_of(size) {
        Ok(bytes.chunks_exact(size).len())
    } else {
        Err(DataError::Size { what, len: bytes.len(), size })
    }
}
