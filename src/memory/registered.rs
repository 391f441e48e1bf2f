//! The caller's own memory, made accessible to the card: by value ([`Registered`]), or for the duration of a scope ([`Borrowed`]).

use super::parts::Parts;
use super::{
    Access, DmaMemory, DmaSpace, FromCard, MemoryError, Piece, Pieces, ToCard, bytes_of,
    element::bytes_of_mut,
};
use crate::Remedy;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;

/// Why a vector could not be registered. It returns the vector.
pub struct RegisterError<T> {
    /// The vector, unchanged.
    pub data: Vec<T>,
    /// The cause.
    pub source: MemoryError,
}

impl<T> RegisterError<T> {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        self.source.remedy()
    }
}

impl<T> fmt::Debug for RegisterError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisterError({:?})", self.source)
    }
}

impl<T> fmt::Display for RegisterError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl<T> std::error::Error for RegisterError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl<T> From<RegisterError<T>> for MemoryError {
    fn from(error: RegisterError<T>) -> Self {
        error.source
    }
}

/// A vector that the card reads or writes, in place as far as the bus can pin it.
///
/// Whole pages are used in place. The head and the tail, whose pages may also contain other objects, are staged in memory of the
/// driver. If the bus cannot pin memory, the whole vector is staged.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use xdma::card::CardOptions;
/// use xdma::regs::Direction;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let source = card.register(vec![7u32; 1024], Direction::H2C)?;
/// let sink = card.register(vec![0u32; 1024], Direction::C2H)?;
///
/// let limit = Duration::from_secs(5);
/// card.h2c(0)?.transfer(&source, 0..4096, 0, limit)?;
/// card.c2h(0)?.transfer(&sink, 0..4096, 0, limit)?;
/// let data = sink.into_inner().map_err(|(_, error)| error)?;
/// assert_eq!(data, [7; 1024]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Registered<T: ToCard> {
    /// Not accessed while the card may write the elements, except for its length.
    data: ManuallyDrop<Vec<T>>,
    parts: Parts,
}

impl<T: ToCard> Registered<T> {
    pub(super) fn new(space: &DmaSpace, mut data: Vec<T>, access: Access) -> Result<Self, RegisterError<T>> {
        let (ptr, bytes) = (data.as_mut_ptr().cast(), size_of_val(data.as_slice()) as u64);
        // SAFETY: the vector's memory stays allocated until the parts are unmapped, since `Drop` moves the vector into them, and
        // they free it after that. It is plain bytes, and if the card may write it, no reference to its elements is created from
        // here on.
        match unsafe { Parts::new(space, ptr, bytes, access) } {
            Ok(parts) => {
                let mut this = Self { data: ManuallyDrop::new(data), parts };
                match this.copy_in() {
                    Ok(()) => Ok(this),
                    Err(source) => Err(RegisterError { data: this.take_data(), source }),
                }
            }
            Err(source) => Err(RegisterError { data, source }),
        }
    }

    fn copy_in(&mut self) -> Result<(), MemoryError> {
        if self.access() == Access::CardReads { self.parts.copy_in(bytes_of(&self.data)) } else { Ok(()) }
    }

    /// Unmaps the parts and returns the vector.
    fn take_data(mut self) -> Vec<T> {
        self.parts = Parts::empty(self.access());
        // SAFETY: taken only once, as `self` is forgotten; `parts` is empty.
        let data = unsafe { ManuallyDrop::take(&mut self.data) };
        std::mem::forget(self);
        data
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Returns whether there are no elements. An empty vector cannot be registered, so this is always false.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Returns the number of bytes that are staged rather than used in place.
    pub fn staged_bytes(&self) -> u64 {
        self.parts.staged_bytes()
    }

    /// Returns the elements, if the card only reads them.
    ///
    /// # Errors
    ///
    /// [`MemoryError::WrongAccess`] if the card may write them; use [`read`](Self::read).
    pub fn as_slice(&self) -> Result<&[T], MemoryError> {
        match self.access() {
            Access::CardReads => Ok(&self.data),
            has => Err(MemoryError::WrongAccess { has, remedy: "use `read` or `into_inner`" }),
        }
    }

    /// Calls `change` to modify the elements between transfers, and updates their staged copies.
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`] while a transfer uses them, [`MemoryError::WrongAccess`] if the card may write them.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut [T]) -> R) -> Result<R, MemoryError> {
        if self.access() != Access::CardReads {
            return Err(MemoryError::WrongAccess {
                has: self.access(),
                remedy: "use `read` or `into_inner`",
            });
        }
        self.parts.check_idle()?;
        let result = change(&mut self.data);
        self.copy_in()?;
        Ok(result)
    }
}

impl<T: FromCard> Registered<T> {
    /// Copies elements to `to`, starting at element `first`.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfRange`].
    pub fn read(&self, first: usize, to: &mut [T]) -> Result<(), MemoryError> {
        let start = (first as u64).saturating_mul(size_of::<T>() as u64);
        self.parts.read(start, bytes_of_mut(to))
    }

    /// Revokes the card's access and returns the vector, including the data that the card wrote.
    ///
    /// Running a program that still uses the memory does not access it afterwards. Under an IOMMU, the card usually reports it for H2C;
    /// without one, or for parts of a page, it uses the driver's copy. Writes of the card may be dropped without an error.
    ///
    /// # Errors
    ///
    /// Returns the registration together with [`MemoryError::InFlight`] if a transfer uses the memory, or with
    /// [`MemoryError::Map`] if the memory cannot be unmapped.
    pub fn into_inner(mut self) -> Result<Vec<T>, (Self, MemoryError)> {
        if let Err(error) = self.parts.check_idle().and_then(|()| self.parts.revoke()) {
            return Err((self, error));
        }
        if self.access() == Access::CardWrites {
            // The card can no longer access the vector, so references to its elements are allowed again.
            let (parts, data) = (&self.parts, &mut self.data);
            if let Err(error) = parts.copy_out(bytes_of_mut(data)) {
                return Err((self, error));
            }
        }
        Ok(self.take_data())
    }
}

impl<T: ToCard> Drop for Registered<T> {
    fn drop(&mut self) {
        // SAFETY: taken only once, in drop.
        let data = unsafe { ManuallyDrop::take(&mut self.data) };
        // A transfer may still use the pages. The mapping drops the vector once it is unmapped.
        self.parts.attach_owner(Box::new(data));
    }
}

impl<T: ToCard> DmaMemory for Registered<T> {
    fn byte_len(&self) -> u64 {
        self.parts.len()
    }

    fn access(&self) -> Access {
        self.parts.access()
    }
}

impl<T: ToCard> Pieces for Registered<T> {
    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        self.parts.pieces(range, each)
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        self.parts.piece(range)
    }
}

/// Memory lent to the card for the duration of a [scope](crate::channel::Channel::scope). It is pinned or staged like
/// [`Registered`].
#[derive(Debug)]
pub struct Borrowed<'env> {
    parts: Parts,
    ptr: *mut u8,
    /// The slice is borrowed, exclusively if the card writes it.
    _slice: PhantomData<&'env mut [u8]>,
}

impl<'env> Borrowed<'env> {
    pub(crate) fn to_card<T: ToCard>(space: &DmaSpace, slice: &'env [T]) -> Result<Self, MemoryError> {
        let bytes = bytes_of(slice);
        let ptr = bytes.as_ptr().cast_mut();
        // SAFETY: the slice is borrowed for 'env and only read; `revoke` unmaps it before 'env ends.
        let mut parts = unsafe { Parts::new(space, ptr, bytes.len() as u64, Access::CardReads)? };
        parts.copy_in(bytes)?;
        Ok(Self { parts, ptr, _slice: PhantomData })
    }

    pub(crate) fn from_card<T: FromCard>(
        space: &DmaSpace,
        slice: &'env mut [T],
    ) -> Result<Self, MemoryError> {
        let bytes = bytes_of_mut(slice);
        let (ptr, len) = (bytes.as_mut_ptr(), bytes.len() as u64);
        // SAFETY: the slice is borrowed exclusively for 'env, and the borrow is not used while the card may write; `revoke`
        // unmaps it before 'env ends.
        let parts = unsafe { Parts::new(space, ptr, len, Access::CardWrites)? };
        Ok(Self { parts, ptr, _slice: PhantomData })
    }

    /// Revokes the card's access to the slice. After `Ok` the card can no longer access it.
    pub(crate) fn revoke(&self) -> Result<(), MemoryError> {
        self.parts.revoke()
    }

    /// Copies the staged parts that the card wrote to the slice. Must be called after [`revoke`](Self::revoke).
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`] if another channel uses the memory; [`MemoryError::Quarantined`] if it may still use it.
    pub(crate) fn copy_back(&self) -> Result<(), MemoryError> {
        self.parts.check_idle()?;
        if self.parts.access() == Access::CardWrites {
            // SAFETY: `self` still holds the exclusive borrow for 'env, and the card can no longer access the slice.
            let bytes = unsafe { std::slice::from_raw_parts_mut(self.ptr, self.parts.len() as usize) };
            self.parts.copy_out(bytes)?;
        }
        Ok(())
    }
}

impl DmaMemory for Borrowed<'_> {
    fn byte_len(&self) -> u64 {
        self.parts.len()
    }

    fn access(&self) -> Access {
        self.parts.access()
    }
}

impl Pieces for Borrowed<'_> {
    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        self.parts.pieces(range, each)
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        self.parts.piece(range)
    }
}
