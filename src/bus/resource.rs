//! A BAR that is mapped through its file in sysfs, while the function is bound to a kernel driver.

use super::{Bar, BusError, check_register, counts};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::ptr::NonNull;

/// A BAR, mapped through a file such as `/sys/bus/pci/devices/0000:34:00.0/resource2`.
#[derive(Debug)]
pub struct Resource {
    map: MmapRaw,
}

impl Resource {
    /// Maps the file, which must be open for reading and writing. The mapping is uncached.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn map(file: &File) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().map_raw(file)? })
    }

    fn register(&self, offset: u64) -> Result<NonNull<u32>, BusError> {
        check_register(self.size(), offset)?;
        // SAFETY: inside the mapping, as just checked.
        let register = unsafe { self.map.as_mut_ptr().add(offset as usize) };
        NonNull::new(register.cast()).ok_or(BusError::BadOffset { offset, size: self.size() })
    }
}

// SAFETY: `mapped` returns no mapping. All accesses to device memory are volatile, and return the actual values.
unsafe impl Bar for Resource {
    fn size(&self) -> u64 {
        self.map.len() as u64
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        counts::register_read();
        // SAFETY: `self` keeps the register mapped, and it is aligned.
        Ok(u32::from_le(unsafe { self.register(offset)?.read_volatile() }))
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        counts::register_write();
        // SAFETY: as in `read32`.
        unsafe { self.register(offset)?.write_volatile(value.to_le()) };
        Ok(())
    }
}
