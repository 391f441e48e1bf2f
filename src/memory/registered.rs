//! The caller's own memory, given to the card: by value ([`Registered`]), or for the length of a scope ([`Lent`]).

use super::buffer::sealed::Sealed;
use super::parts::Parts;
use super::{
    Access, DmaMemory, DmaSpace, FromCard, MemoryError, Piece, ToCard, bytes_of, element::bytes_of_mut,
};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;

/// A vector that could not be registered, and why.
pub struct RegisterError<T> {
    /// The vector, untouched.
    pub data: Vec<T>,
    /// What went wrong.
    pub source: MemoryError,
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

/// A vector that the card reads or writes, where it lies as far as the bus can pin it.
///
/// Whole pages are used in place. The head and the tail, whose pages may hold other objects too, and all of it where
/// nothing can pin it, are staged in memory of ours.
#[derive(Debug)]
pub struct Registered<T: ToCard> {
    /// Ours again once unmapped; while the card may write it, only its length is looked at.
    data: ManuallyDrop<Vec<T>>,
    parts: Parts,
}

impl<T: ToCard> Registered<T> {
    pub(super) fn new(space: &DmaSpace, mut data: Vec<T>, access: Access) -> Result<Self, RegisterError<T>> {
        let (ptr, bytes) = (data.as_mut_ptr().cast(), size_of_val(data.as_slice()) as u64);
        // SAFETY: the vector is neither freed nor moved before the parts are unmapped: `Drop` hands it to them. It is
        // plain bytes, and from here on no reference to its elements is made if the card may write them.
        match unsafe { Parts::new(space, ptr, bytes, access) } {
            Ok(parts) => {
                let mut this = Self { data: ManuallyDrop::new(data), parts };
                match this.copy_in() {
                    Ok(()) => Ok(this),
                    Err(source) => Err(RegisterError { data: this.take(), source }),
                }
            }
            Err(source) => Err(RegisterError { data, source }),
        }
    }

    fn copy_in(&mut self) -> Result<(), MemoryError> {
        if self.access() == Access::CardReads { self.parts.copy_in(bytes_of(&self.data)) } else { Ok(()) }
    }

    /// The vector, after its parts were unmapped.
    fn take(mut self) -> Vec<T> {
        self.parts = Parts::none(self.access());
        // SAFETY: taken once, as `self` is forgotten; `parts` holds nothing any more.
        let data = unsafe { ManuallyDrop::take(&mut self.data) };
        std::mem::forget(self);
        data
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements; never so.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// How many bytes are copied rather than used in place.
    pub fn staged_bytes(&self) -> u64 {
        self.parts.staged_bytes()
    }

    /// The elements, which the card only reads.
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

    /// Changes elements between transfers.
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
        self.parts.idle()?;
        let result = change(&mut self.data);
        self.copy_in()?;
        Ok(result)
    }
}

impl<T: FromCard> Registered<T> {
    /// Copies elements that the card wrote, from element `first` on.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfRange`].
    pub fn read(&self, first: usize, to: &mut [T]) -> Result<(), MemoryError> {
        let start = (first as u64).saturating_mul(size_of::<T>() as u64);
        self.parts.read(start, bytes_of_mut(to))
    }

    /// Takes the memory away from the card and gives the vector back, with what the card wrote.
    ///
    /// A program that still holds the memory can no longer be run without an error.
    ///
    /// # Errors
    ///
    /// The registration itself, with [`MemoryError::InFlight`] while a transfer uses it, or [`MemoryError::Map`] when it
    /// cannot be unmapped.
    pub fn into_inner(mut self) -> Result<Vec<T>, (Self, MemoryError)> {
        if let Err(error) = self.parts.idle().and_then(|()| self.parts.revoke()) {
            return Err((self, error));
        }
        if self.access() == Access::CardWrites {
            // The card cannot reach the vector any more: references to it are allowed again.
            let (parts, data) = (&self.parts, &mut self.data);
            if let Err(error) = parts.copy_out(bytes_of_mut(data)) {
                return Err((self, error));
            }
        }
        Ok(self.take())
    }
}

impl<T: ToCard> Drop for Registered<T> {
    fn drop(&mut self) {
        // SAFETY: taken once, in drop.
        let data = unsafe { ManuallyDrop::take(&mut self.data) };
        // A transfer may still use the pages: they free the vector after they were unmapped.
        self.parts.adopt(Box::new(data));
    }
}

impl<T: ToCard> Sealed for Registered<T> {}

impl<T: ToCard> DmaMemory for Registered<T> {
    fn byte_len(&self) -> u64 {
        self.parts.len()
    }

    fn access(&self) -> Access {
        self.parts.access()
    }

    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        self.parts.pieces(range, each)
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        self.parts.piece(range)
    }
}

/// Memory lent to the card for the length of a [scope](crate::channel::Channel::scope), pinned and staged as with [`Registered`].
#[derive(Debug)]
pub struct Lent<'env> {
    parts: Parts,
    ptr: *mut u8,
    /// Elements of the slice are borrowed, exclusively if the card writes them.
    _slice: PhantomData<&'env mut [u8]>,
}

impl<'env> Lent<'env> {
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
        // SAFETY: the slice is borrowed exclusively for 'env, and the borrow is not used while the card may write;
        // `revoke` unmaps it before 'env ends.
        let parts = unsafe { Parts::new(space, ptr, len, Access::CardWrites)? };
        Ok(Self { parts, ptr, _slice: PhantomData })
    }

    /// Takes the slice away from the card, which cannot reach it after `Ok`.
    pub(crate) fn revoke(&self) -> Result<(), MemoryError> {
        self.parts.revoke()
    }

    /// Copies what was staged to where it belongs; to be called after [`revoke`](Self::revoke).
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`], [`MemoryError::Quarantined`]: another channel uses the memory, or may.
    pub(crate) fn copy_back(&self) -> Result<(), MemoryError> {
        self.parts.idle()?;
        if self.parts.access() == Access::CardWrites {
            // SAFETY: the exclusive borrow of 'env is still held by us, and the card cannot reach the slice any more.
            let bytes = unsafe { std::slice::from_raw_parts_mut(self.ptr, self.parts.len() as usize) };
            self.parts.copy_out(bytes)?;
        }
        Ok(())
    }
}

impl Sealed for Lent<'_> {}

impl DmaMemory for Lent<'_> {
    fn byte_len(&self) -> u64 {
        self.parts.len()
    }

    fn access(&self) -> Access {
        self.parts.access()
    }

    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        self.parts.pieces(range, each)
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        self.parts.piece(range)
    }
}
