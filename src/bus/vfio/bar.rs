//! BARs of a VFIO device: mapped where the kernel allows it, and accessed by system calls elsewhere.

use super::Device;
use super::ioctl::Region;
use crate::bus::{Bar, BarFile, BusError, Mapped, check_access, check_register, counts};
use memmap2::{MmapOptions, MmapRaw};
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;

/// A BAR of a device.
///
/// The mapping starts at the first register. Before Linux 4.16 the kernel may refuse to map the page with the MSI-X table. In
/// XDMA that page is behind all registers that a driver needs; from there on, accesses are system calls.
pub(super) struct VfioBar {
    /// Declared before `device`: a mapping keeps the device busy, so it must be unmapped before the device is closed.
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

    /// Returns the offset of a register in the device's file.
    fn file_offset(&self, offset: u64) -> Result<u64, BusError> {
        check_register(self.region.size, offset)?;
        Ok(self.region.offset + offset)
    }

    /// Returns the address of a register, if it is mapped.
    fn mapped_register(&self, offset: u64) -> Option<NonNull<u32>> {
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
        let at = self.file_offset(offset)?;
        counts::register_read();
        if let Some(register) = self.mapped_register(offset) {
            // SAFETY: `self` keeps it mapped, and it is aligned, as just checked. All accesses to device memory are volatile.
            return Ok(u32::from_le(unsafe { register.read_volatile() }));
        }
        counts::system_call();
        let mut value = [0; 4];
        let read = self.device.file().read_exact_at(&mut value, at);
        read.map_err(|error| gone("reading a register", &error))?;
        Ok(u32::from_le_bytes(value))
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        let at = self.file_offset(offset)?;
        counts::register_write();
        if let Some(register) = self.mapped_register(offset) {
            // SAFETY: as in `read32`.
            unsafe { register.write_volatile(value.to_le()) };
            return Ok(());
        }
        counts::system_call();
        let written = self.device.file().write_all_at(&value.to_le_bytes(), at);
        written.map_err(|error| gone("writing a register", &error))
    }

    /// Such an access is rare, so it goes through the kernel, which makes an access of that width. Kernels without 64-bit accesses
    /// in vfio-pci make two of 32 bits instead.
    fn read(&self, offset: u64, width: u8) -> Result<u64, BusError> {
        check_access(self.region.size, offset, width)?;
        counts::register_read();
        counts::system_call();
        let mut value = [0; 8];
        let read = self.device.file().read_exact_at(&mut value[..width.into()], self.region.offset + offset);
        read.map_err(|error| gone("reading a register", &error))?;
        Ok(u64::from_le_bytes(value))
    }

    fn write(&self, offset: u64, width: u8, value: u64) -> Result<(), BusError> {
        check_access(self.region.size, offset, width)?;
        counts::register_write();
        counts::system_call();
        let bytes = &value.to_le_bytes()[..width.into()];
        let written = self.device.file().write_all_at(bytes, self.region.offset + offset);
        written.map_err(|error| gone("writing a register", &error))
    }

    fn file(&self) -> Option<BarFile> {
        let &(0, bytes) = self.region.areas.first()? else { return None };
        let file = self.device.file().try_clone().ok()?;
        Some(BarFile { file, offset: self.region.offset, bytes })
    }

    fn mapped(&self) -> Option<Mapped<'_>> {
        let map = self.map.as_ref()?;
        let base = NonNull::new(map.as_mut_ptr())?;
        // SAFETY: the mapping is page-aligned and lives as long as `self`, which is the BAR that returns it; no reference to it
        // is ever created.
        Some(unsafe { Mapped::new(base, map.len() as u64) })
    }
}

/// Converts the error of a failed access: the kernel fails an access only if the device is no longer there.
pub(super) fn gone(what: &str, error: &io::Error) -> BusError {
    BusError::Gone { reason: format!("{what} failed: {error}; close it, and open it again when it is back") }
}
