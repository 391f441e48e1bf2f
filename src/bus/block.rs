//! Blocks of registers, checked once.

use super::{Bar, BusError, check_register, counts};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// Where a BAR's registers are mapped in this process.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    base: NonNull<u8>,
    size: u64,
}

impl Mapped {
    /// `size` bytes of registers from `base` on.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 4 bytes. As long as the BAR lives that tells of it, the bytes are mapped, any thread may read and
    /// write them 32 bits at a time, and no Rust reference to them is used but for atomics.
    pub unsafe fn new(base: NonNull<u8>, size: u64) -> Self {
        Self { base, size }
    }
}

/// 256 bytes of a BAR's registers, as each channel has them. Where they are mapped, an access is a load or a store.
pub struct Block {
    bar: Arc<dyn Bar>,
    start: u64,
    /// The block's first register.
    mapped: Option<NonNull<u8>>,
}

// SAFETY: the pointer is to registers that any thread may access, see `Mapped::new`.
unsafe impl Send for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:#x} of {:?})", self.start, self.bar)
    }
}

impl Block {
    /// Bytes of a block.
    pub const SIZE: u64 = 0x100;

    /// The block that begins at offset `start` of `bar`.
    ///
    /// # Errors
    ///
    /// [`BusError::BadOffset`]: the start is no multiple of 4, or the BAR ends before the block does.
    pub fn new(bar: Arc<dyn Bar>, start: u64) -> Result<Self, BusError> {
        let last = start.saturating_add(Self::SIZE - 4);
        check_register(bar.size(), last)?;
        let mapped = match bar.mapped() {
            Some(mapped) => {
                check_register(mapped.size, last)?;
                // SAFETY: as just checked, the whole block is inside what is mapped.
                Some(unsafe { mapped.base.byte_add(start as usize) })
            }
            None => None,
        };
        Ok(Self { bar, start, mapped })
    }

    /// Reads `register`, an offset in the block.
    ///
    /// # Errors
    ///
    /// As [`Bar::read32`].
    #[inline]
    pub fn read(&self, register: u32) -> Result<u32, BusError> {
        match self.direct() {
            Some(direct) => direct.read(register),
            None => self.read_unmapped(register),
        }
    }

    /// Writes `register`, an offset in the block.
    ///
    /// # Errors
    ///
    /// As [`Bar::write32`].
    #[inline]
    pub fn write(&self, register: u32, value: u32) -> Result<(), BusError> {
        match self.direct() {
            Some(direct) => direct.write(register, value),
            None => self.write_unmapped(register, value),
        }
    }

    /// The block where it is mapped, for several accesses in a row.
    #[inline]
    pub fn direct(&self) -> Option<Direct<'_>> {
        self.mapped.map(|first| Direct { first, _block: PhantomData })
    }

    #[cold]
    fn read_unmapped(&self, register: u32) -> Result<u32, BusError> {
        check_register(Self::SIZE, register.into())?;
        self.bar.read32(self.start + u64::from(register))
    }

    #[cold]
    fn write_unmapped(&self, register: u32, value: u32) -> Result<(), BusError> {
        check_register(Self::SIZE, register.into())?;
        self.bar.write32(self.start + u64::from(register), value)
    }
}

/// A [`Block`] where it is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a> {
    first: NonNull<u8>,
    /// It is mapped as long as the block's BAR lives.
    _block: PhantomData<&'a Block>,
}

impl Direct<'_> {
    /// As [`Block::read`].
    ///
    /// # Errors
    ///
    /// [`BusError::BadOffset`].
    #[inline]
    pub fn read(self, register: u32) -> Result<u32, BusError> {
        check_register(Block::SIZE, register.into())?;
        counts::register_read();
        // SAFETY: inside the block and aligned, as just checked; the block was checked when it was made.
        Ok(u32::from_le(unsafe { self.first.byte_add(register as usize).cast::<u32>().read_volatile() }))
    }

    /// As [`Block::write`].
    ///
    /// # Errors
    ///
    /// [`BusError::BadOffset`].
    #[inline]
    pub fn write(self, register: u32, value: u32) -> Result<(), BusError> {
        check_register(Block::SIZE, register.into())?;
        counts::register_write();
        // SAFETY: as in `read`.
        unsafe { self.first.byte_add(register as usize).cast::<u32>().write_volatile(value.to_le()) };
        Ok(())
    }
}
