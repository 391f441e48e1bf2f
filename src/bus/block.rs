//! Windows of registers whose bounds are checked once, when the window is created.

use super::counts::{Cells, Counts};
use super::{Bar, BusError, check_register};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// The mapping of a BAR's registers into this process.
#[derive(Debug)]
pub struct Mapped<'bar> {
    base: NonNull<u8>,
    size: u64,
    _bar: PhantomData<&'bar ()>,
}

impl Mapped<'_> {
    /// Describes a mapping of `size` bytes of registers that starts at `base`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 4 bytes. For the lifetime of the BAR that returns the mapping, the bytes are mapped, any thread may
    /// read and write them 32 bits at a time, and the only Rust references to them are to atomics.
    pub unsafe fn new(base: NonNull<u8>, size: u64) -> Self {
        Self { base, size, _bar: PhantomData }
    }
}

/// A window of a BAR's registers that begins with the registers of a channel and ends with those of its descriptor fetch. If the
/// BAR is mapped, an access is a load or a store.
pub struct Block {
    bar: Arc<dyn Bar>,
    start: u64,
    /// The window's first register, if the BAR is mapped.
    mapped: Option<NonNull<u8>>,
    /// The accesses through the mapping. Thread-local counts would cost a shared library a function call for each doorbell.
    counts: Cells,
}

// SAFETY: any thread may access the registers behind the pointer (`Mapped::new`), and `bar` keeps them mapped (`Bar`).
unsafe impl Send for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:#x} of {:?})", self.start, self.bar)
    }
}

impl Block {
    /// Size in bytes.
    pub const SIZE: u64 = 0x4100;

    /// Creates the window that begins at offset `start` of `bar`.
    ///
    /// # Errors
    ///
    /// [`BusError::BadOffset`] if `start` is not a multiple of 4, or if the window extends past the end of the BAR.
    pub fn new(bar: Arc<dyn Bar>, start: u64) -> Result<Self, BusError> {
        let last = start.saturating_add(Self::SIZE - 4);
        check_register(bar.size(), last)?;
        let mapped = match bar.mapped() {
            Some(mapped) => {
                check_register(mapped.size, last)?;
                // SAFETY: the whole window is inside the mapping, as just checked.
                Some(unsafe { mapped.base.byte_add(start as usize) })
            }
            None => None,
        };
        Ok(Self { bar, start, mapped, counts: Cells::new() })
    }

    /// Reads the register at offset `register` of the window.
    ///
    /// # Errors
    ///
    /// As [`Bar::read32`].
    pub fn read(&self, register: u32) -> Result<u32, BusError> {
        check_register(Self::SIZE, register.into())?;
        let Some(first) = self.mapped else { return self.bar.read32(self.start + u64::from(register)) };
        self.counts.add(1, 0);
        // SAFETY: inside the window and aligned, as just checked; `new` checked the window.
        Ok(u32::from_le(unsafe { first.byte_add(register as usize).cast::<u32>().read_volatile() }))
    }

    /// Writes the register at offset `register` of the window.
    ///
    /// # Errors
    ///
    /// As [`Bar::write32`].
    pub fn write(&self, register: u32, value: u32) -> Result<(), BusError> {
        check_register(Self::SIZE, register.into())?;
        let Some(first) = self.mapped else {
            return self.bar.write32(self.start + u64::from(register), value);
        };
        self.counts.add(0, 1);
        // SAFETY: as in `read`.
        unsafe { first.byte_add(register as usize).cast::<u32>().write_volatile(value.to_le()) };
        Ok(())
    }

    /// Returns direct access to the registers, if the BAR is mapped. Register offsets are checked at compile time.
    #[inline(always)]
    pub fn direct(&self) -> Option<Direct<'_>> {
        self.mapped.map(|first| Direct { first, counts: &self.counts })
    }

    /// Returns the number of accesses through the mapping so far. The BAR counts all others.
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }
}

/// Direct access to the mapped registers of a [`Block`]. The caller [counts](Self::count) several accesses
/// together.
#[derive(Clone, Copy)]
pub struct Direct<'a> {
    first: NonNull<u8>,
    /// Borrowed from the block, whose BAR keeps the registers mapped.
    counts: &'a Cells,
}

impl Direct<'_> {
    /// Counts accesses.
    #[inline(always)]
    pub fn count(self, reads: u64, writes: u64) {
        self.counts.add(reads, writes);
    }

    /// Reads a register.
    #[inline(always)]
    pub fn read<const REGISTER: u32>(self) -> u32 {
        const { assert!(REGISTER.is_multiple_of(4) && (REGISTER as u64) < Block::SIZE) };
        // SAFETY: inside the window and aligned, as just checked; `Block::new` checked the window.
        u32::from_le(unsafe { self.first.byte_add(REGISTER as usize).cast::<u32>().read_volatile() })
    }

    /// Writes a register.
    #[inline(always)]
    pub fn write<const REGISTER: u32>(self, value: u32) {
        const { assert!(REGISTER.is_multiple_of(4) && (REGISTER as u64) < Block::SIZE) };
        // SAFETY: as in `read`.
        unsafe { self.first.byte_add(REGISTER as usize).cast::<u32>().write_volatile(value.to_le()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A BAR backed by an array of atomics, mapped or not.
    #[derive(Debug)]
    struct ArrayBar {
        registers: [AtomicU32; 0x1140],
        /// Number of bytes that are mapped; `None` if the BAR is not mapped.
        mapped: Option<u64>,
    }

    impl ArrayBar {
        fn new(mapped: Option<u64>) -> Arc<Self> {
            Arc::new(Self { registers: [const { AtomicU32::new(0) }; 0x1140], mapped })
        }
    }

    // SAFETY: the registers are a field of `self`.
    unsafe impl Bar for ArrayBar {
        fn size(&self) -> u64 {
            0x4500
        }

        fn read32(&self, offset: u64) -> Result<u32, BusError> {
            assert!(self.mapped.is_none(), "a mapped register is read by a load");
            Ok(self.registers[offset as usize / 4].load(Ordering::Relaxed))
        }

        fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
            assert!(self.mapped.is_none(), "a mapped register is written by a store");
            self.registers[offset as usize / 4].store(value, Ordering::Relaxed);
            Ok(())
        }

        fn mapped(&self) -> Option<Mapped<'_>> {
            let base = NonNull::new(self.registers.as_ptr().cast_mut().cast())?;
            // SAFETY: the registers are atomics, which live as long as `self`.
            self.mapped.map(|size| unsafe { Mapped::new(base, size) })
        }
    }

    #[test]
    fn accesses_reach_the_same_register_whether_mapped_or_not() {
        for mapped in [None, Some(0x4500)] {
            let bar = ArrayBar::new(mapped);
            let block = Block::new(bar.clone(), 0x400).unwrap();
            block.write(0x40fc, 7).unwrap();
            assert_eq!(bar.registers[0x44fc / 4].load(Ordering::Relaxed), 7);
            assert_eq!(block.read(0x40fc).unwrap(), 7);
            // A BAR without a mapping counts its own accesses.
            let expected = u64::from(mapped.is_some());
            let Counts { register_writes, register_reads, .. } = block.counts();
            assert_eq!((register_writes, register_reads), (expected, expected));
        }
    }

    #[test]
    fn offsets_outside_the_block_or_the_bar_are_refused() {
        for mapped in [None, Some(0x4500)] {
            let block = Block::new(ArrayBar::new(mapped), 0x400).unwrap();
            for register in [0x4100, 0x40fe, 1, u32::MAX] {
                assert!(matches!(block.read(register), Err(BusError::BadOffset { .. })));
                assert!(matches!(block.write(register, 0), Err(BusError::BadOffset { .. })));
            }
        }
        for (mapped, start) in
            [(None, 0x404), (None, 2), (None, u64::MAX), (Some(0x44fc), 0x400), (Some(0x8000), 0x404)]
        {
            assert!(Block::new(ArrayBar::new(mapped), start).is_err(), "{mapped:?} {start:#x}");
        }
    }
}
