//! Blocks of registers, checked once.

use super::{Bar, BusError, check_register, counts};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// Where a BAR's registers are mapped in this process.
#[derive(Debug)]
pub struct Mapped<'bar> {
    base: NonNull<u8>,
    size: u64,
    _bar: PhantomData<&'bar ()>,
}

impl Mapped<'_> {
    /// `size` bytes of registers from `base` on.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 4 bytes. As long as the BAR lives that returns it, the bytes are mapped, any thread may read and
    /// write them 32 bits at a time, and no Rust reference to them is used but for atomics.
    pub unsafe fn new(base: NonNull<u8>, size: u64) -> Self {
        Self { base, size, _bar: PhantomData }
    }
}

/// A part of a BAR's registers that begins with those of a channel, and ends with those of the same channel's descriptor fetch. Where they
/// are mapped, an access is a load or a store.
pub struct Block {
    bar: Arc<dyn Bar>,
    start: u64,
    /// The block's first register.
    mapped: Option<NonNull<u8>>,
}

// SAFETY: the pointer is to registers that any thread may access (`Mapped::new`), and that stay mapped while `bar` lives (`Bar`).
unsafe impl Send for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:#x} of {:?})", self.start, self.bar)
    }
}

impl Block {
    /// Bytes of a block.
    pub const SIZE: u64 = 0x4100;

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
    pub fn read(&self, register: u32) -> Result<u32, BusError> {
        check_register(Self::SIZE, register.into())?;
        let Some(first) = self.mapped else { return self.bar.read32(self.start + u64::from(register)) };
        counts::register_read();
        // SAFETY: inside the block and aligned, as just checked; the block was checked when it was made.
        Ok(u32::from_le(unsafe { first.byte_add(register as usize).cast::<u32>().read_volatile() }))
    }

    /// Writes `register`, an offset in the block.
    ///
    /// # Errors
    ///
    /// As [`Bar::write32`].
    pub fn write(&self, register: u32, value: u32) -> Result<(), BusError> {
        check_register(Self::SIZE, register.into())?;
        let Some(first) = self.mapped else {
            return self.bar.write32(self.start + u64::from(register), value);
        };
        counts::register_writes(1);
        // SAFETY: as in `read`.
        unsafe { first.byte_add(register as usize).cast::<u32>().write_volatile(value.to_le()) };
        Ok(())
    }

    /// The block where it is mapped, for registers that are known when this is compiled.
    #[inline(always)]
    pub fn direct(&self) -> Option<Direct<'_>> {
        self.mapped.map(|first| Direct { first, _block: PhantomData })
    }
}

/// A [`Block`] where it is mapped. Accesses are not [counted](counts): the caller does that for several of them at once.
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a> {
    first: NonNull<u8>,
    /// It is mapped as long as the block's BAR lives.
    _block: PhantomData<&'a Block>,
}

impl Direct<'_> {
    /// Reads a register.
    #[inline(always)]
    pub fn read<const REGISTER: u32>(self) -> u32 {
        const { assert!(REGISTER.is_multiple_of(4) && (REGISTER as u64) < Block::SIZE) };
        // SAFETY: inside the block and aligned, as just checked; the block was checked when it was made.
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

    /// Registers that can be mapped, or not.
    #[derive(Debug)]
    struct Plain {
        registers: [AtomicU32; 0x1140],
        /// Bytes that are mapped.
        mapped: Option<u64>,
    }

    impl Plain {
        fn new(mapped: Option<u64>) -> Arc<Self> {
            Arc::new(Self { registers: [const { AtomicU32::new(0) }; 0x1140], mapped })
        }
    }

    // SAFETY: the registers are a field of this.
    unsafe impl Bar for Plain {
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
            // SAFETY: these are atomics, which live as long as this does.
            self.mapped.map(|size| unsafe { Mapped::new(base, size) })
        }
    }

    #[test]
    fn mapped_or_not_an_access_reaches_the_same_register_and_is_counted() {
        for mapped in [None, Some(0x4500)] {
            let bar = Plain::new(mapped);
            let block = Block::new(bar.clone(), 0x400).unwrap();
            let before = counts::Counts::now();
            block.write(0x40fc, 7).unwrap();
            assert_eq!(bar.registers[0x44fc / 4].load(Ordering::Relaxed), 7);
            assert_eq!(block.read(0x40fc).unwrap(), 7);
            let seen = counts::Counts::now() - before;
            // A BAR that is not mapped counts by itself; this one does not.
            let expected = u64::from(mapped.is_some());
            assert_eq!((seen.register_writes, seen.register_reads), (expected, expected));
        }
    }

    #[test]
    fn nothing_outside_a_block_or_a_bar_is_touched() {
        for mapped in [None, Some(0x4500)] {
            let block = Block::new(Plain::new(mapped), 0x400).unwrap();
            for register in [0x4100, 0x40fe, 1, u32::MAX] {
                assert!(matches!(block.read(register), Err(BusError::BadOffset { .. })));
                assert!(matches!(block.write(register, 0), Err(BusError::BadOffset { .. })));
            }
        }
        for (mapped, start) in
            [(None, 0x404), (None, 2), (None, u64::MAX), (Some(0x44fc), 0x400), (Some(0x8000), 0x404)]
        {
            assert!(Block::new(Plain::new(mapped), start).is_err(), "{mapped:?} {start:#x}");
        }
    }
}
