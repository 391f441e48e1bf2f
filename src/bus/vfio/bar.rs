//! BARs: mapped where the kernel allows it, by system calls elsewhere.

use super::Device;
use super::ioctl::Region;
use crate::bus::{Bar, BusError, Mapped, check_register, counts};
use memmap2::{MmapOptions, MmapRaw};
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;

/// A BAR of a device.
///
/// What is mapped starts at its first register. The kernel may refuse the page with the MSI-X table (before Linux 4.16), which
/// XDMA has behind everything that a driver needs; from there on, accesses are system calls.
pub(super) struct VfioBar {
    /// Unmapped before the device is closed, which would otherwise stay busy.
    map: Option<MmapRaw>,
    region: Region,
    index: usize,
    device: Arc<Device>,
}

impl VfioBar {
    pub fn new(device: Arc<Device>, index: usize, region: Region) -> Result<Self, BusError> {
        let map = match region.areas.first() {
            Some(&(0, bytes)) => Some(
                map(&device, region.offset, bytes)
                    .map_err(|cause| BusError::Refused { what: "mapping a BAR", cause })?,
            ),
            _ => None,
        };
        Ok(Self { map, region, index, device })
    }

    /// Where in the device's file a register is.
    fn place(&self, offset: u64) -> Result<u64, BusError> {
        check_register(self.region.size, offset)?;
        Ok(self.region.offset + offset)
    }

    /// A register that is mapped.
    fn register(&self, offset: u64) -> Option<NonNull<u32>> {
        let map = self.map.as_ref()?;
        let inside = offset.checked_add(4)? <= map.len() as u64;
        // SAFETY: inside the mapping, as just checked.
        inside
            .then(|| unsafe { map.as_mut_ptr().add(offset as usize) })
            .and_then(|at| NonNull::new(at.cast()))
    }
}

fn map(device: &Device, offset: u64, bytes: u64) -> io::Result<MmapRaw> {
    let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    MmapOptions::new().offset(offset).len(len).map_raw(device.file().as_raw_fd())
}

impl fmt::Debug for VfioBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mapped = self.map.as_ref().map_or(0, MmapRaw::len);
        write!(f, "VfioBar({}, {:#x} bytes, {mapped:#x} mapped)", self.index, self.region.size)
    }
}

// SAFETY: the mapping is a field, and is neither moved nor replaced.
unsafe impl Bar for VfioBar {
    fn size(&self) -> u64 {
        self.region.size
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        let place = self.place(offset)?;
        counts::register_read();
        if let Some(register) = self.register(offset) {
            // SAFETY: mapped as long as `self` lives, aligned as just checked; device memory is accessed volatile only.
            return Ok(u32::from_le(unsafe { register.read_volatile() }));
        }
        counts::system_call();
        let mut value = [0; 4];
        let read = self.device.file().read_exact_at(&mut value, place);
        read.map_err(|error| gone("reading a register", &error))?;
        Ok(u32::from_le_bytes(value))
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        let place = self.place(offset)?;
        counts::register_write();
        if let Some(register) = self.register(offset) {
            // SAFETY: as in `read32`.
            unsafe { register.write_volatile(value.to_le()) };
            return Ok(());
        }
        counts::system_call();
        let written = self.device.file().write_all_at(&value.to_le_bytes(), place);
        written.map_err(|error| gone("writing a register", &error))
    }

    fn mapped(&self) -> Option<Mapped<'_>> {
        let map = self.map.as_ref()?;
        let base = NonNull::new(map.as_mut_ptr())?;
        // SAFETY: page-aligned, mapped as long as `self` lives, which is the BAR that tells of it; no reference is ever made.
        Some(unsafe { Mapped::new(base, map.len() as u64) })
    }
}

/// An access that the kernel fails is an access to a device that is not there.
pub(super) fn gone(what: &str, error: &io::Error) -> BusError {
    BusError::Gone { reason: format!("{what} failed: {error}") }
}
